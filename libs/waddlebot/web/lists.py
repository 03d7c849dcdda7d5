"""Lists that are read page by page: what every such endpoint asks for, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import Field

from ..base.contracts import Strict
from ..data.database import Prepared

T = TypeVar("T")
U = TypeVar("U")


class Page(Strict):
    """Which part of a list is asked for. Queries with filters add their fields."""

    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, lt=2**31)

    def filters(self) -> dict[str, Any]:
        """What is asked for beside the page."""
        return self.model_dump(exclude=set(Page.model_fields))


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """One page of what fits, and how much fits in all."""

    rows: Sequence[T]
    total: int

    def map(self, translate: Callable[[T], U]) -> Listed[U]:
        return Listed([translate(row) for row in self.rows], self.total)


def fetch_page(
    run: Callable[[Any, Mapping[str, Any]], list[dict[str, Any]]],
    sql: Prepared | str,
    parameters: Mapping[str, Any],
    page: Page,
) -> Listed[dict[str, Any]]:
    """Read one page of a statement that selects `count(*) OVER () AS total`, and takes `%(limit)s` and `%(offset)s`.

    No row tells the total on a page beyond the end, so the first row is asked then.
    """
    rows = run(sql, {**parameters, "limit": page.limit, "offset": page.offset})
    counted = rows if rows or not page.offset else run(sql, {**parameters, "limit": 1, "offset": 0})
    total = counted[0]["total"] if counted else 0
    return Listed([{name: value for name, value in row.items() if name != "total"} for row in rows], total)


def list_answer(name: str, listed: Listed[Any], page: Page, **more: Any) -> dict[str, Any]:
    """The fleet's answer with one page of a list (contracts §2)."""
    shown = {name: list(listed.rows), "total": listed.total, "limit": page.limit, "offset": page.offset}
    return {"success": True, **shown, **more}


def whole_list_answer(name: str, rows: Sequence[Any], **more: Any) -> dict[str, Any]:
    """The same with a list that is short by its nature, so all of it is in the answer."""
    return {"success": True, name: list(rows), "total": len(rows), "limit": len(rows), "offset": 0, **more}
