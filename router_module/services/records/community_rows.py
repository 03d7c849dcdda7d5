"""Rows that a community keeps few of, each with an entry in the audit log for whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydal import DAL
from pydantic import BaseModel
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import fetch, fetch_one
from waddlebot.web.lists import Page, fetch_page, list_answer

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CommunityRows:
    """How one table's rows are made, changed and removed. They are at
    `/router/communities/<community>/<path>/<id>`, which is what takes a change back."""

    name: str
    table: str
    path: str
    # What people set; `shown` is what is answered, and `unique` what no two rows of a community have in common.
    columns: Sequence[str]
    shown: str
    unique: Sequence[str]
    maximum: int
    unknown: type[NotFound]
    exists: type[Conflict]
    too_many: type[Conflict]
    # Raises for what cannot be, and returns the values as they are kept.
    check: Callable[[DAL, int, Row], Row]
    # What else is set, in SQL.
    at_insert: Mapping[str, str] = field(default_factory=dict)
    at_update: Mapping[str, str] = field(default_factory=dict)

    def list_page(self, db: DAL, community_id: int, page: Page) -> Row:
        listed = fetch_page(
            partial(fetch, db),
            f"SELECT {self.shown}, count(*) OVER () AS total FROM {self.table} WHERE community_id = %(community)s"
            f" ORDER BY {self.unique[0]}, id LIMIT %(limit)s OFFSET %(offset)s",
            {"community": community_id},
            page,
        )
        return list_answer(self.table, listed, page)

    def list_all(self, db: DAL, community_id: int) -> list[Row]:
        sql = f"SELECT {self.shown} FROM {self.table} WHERE community_id = %s ORDER BY {self.unique[0]}, id"
        return fetch(db, sql, (community_id,))

    def find(self, db: DAL, community_id: int, column: str, value: Any) -> Row | None:
        """The first row with that value, held until the transaction ends."""
        return fetch_one(
            db,
            f"SELECT {self.shown} FROM {self.table} WHERE community_id = %s AND {column} = %s"
            " ORDER BY id LIMIT 1 FOR UPDATE",
            (community_id, value),
        )

    def get(self, db: DAL, community_id: int, row_id: int) -> Row:
        """A row, held until the transaction ends. Raises: `unknown`."""
        row = self.find(db, community_id, "id", row_id)
        if row is None:
            raise self.unknown(f"There is no {self.name} {row_id} here.")
        return row

    def create(self, db: DAL, community_id: int, values: Mapping[str, Any]) -> Row:
        """Raises: `exists`; `too_many`; as `check` does."""
        kept = self._check(db, community_id, values)
        count = fetch_one(db, f"SELECT count(*) AS there FROM {self.table} WHERE community_id = %s", (community_id,))
        if count is not None and count["there"] >= self.maximum:
            raise self.too_many()
        made = {**{each: f"%({each})s" for each in ("community_id", *self.columns)}, **self.at_insert}
        row = fetch_one(
            db,
            f"INSERT INTO {self.table} ({', '.join(made)}) VALUES ({', '.join(made.values())}) RETURNING {self.shown}",
            {**kept, "community_id": community_id},
        )
        assert row is not None
        self._record(db, "created", None, row)
        return row

    def update(self, db: DAL, before: Row, changes: Mapping[str, Any]) -> Row:
        """Change what is named of a row that is held. Raises: `exists`; as `check` does."""
        values = {column: before[column] for column in self.columns} | dict(changes)
        kept = self._check(db, before["community_id"], values, but=before["id"])
        made = {**{each: f"%({each})s" for each in self.columns}, **self.at_update, "updated_at": "now()"}
        row = fetch_one(
            db,
            f"UPDATE {self.table} SET {', '.join(f'{column} = {to}' for column, to in made.items())}"
            f" WHERE id = %(id)s RETURNING {self.shown}",
            {**kept, "id": before["id"]},
        )
        assert row is not None, "a row that is held is gone"
        self._record(db, "changed", before, row)
        return row

    def delete(self, db: DAL, before: Row) -> None:
        """Remove a row that is held."""
        fetch(db, f"DELETE FROM {self.table} WHERE id = %s", (before["id"],))
        self._record(db, "deleted", before, None)

    def _check(self, db: DAL, community_id: int, values: Mapping[str, Any], *, but: int = 0) -> Row:
        # One change of a community's at a time: neither are there too many, nor two of the same.
        fetch(db, "SELECT pg_advisory_xact_lock(hashtext(%s), %s)", (self.table, 1 + community_id % (2**31 - 1)))
        kept = self.check(db, community_id, dict(values))
        same = " AND ".join(f"{column} IS NOT DISTINCT FROM %({column})s" for column in self.unique)
        other = f"SELECT 1 FROM {self.table} WHERE community_id = %(community_id)s AND {same} AND id <> %(but)s"
        if fetch_one(db, other, {**kept, "community_id": community_id, "but": but}):
            raise self.exists()
        return kept

    def _record(self, db: DAL, what: str, before: Row | None, after: Row | None) -> None:
        row = before or after
        assert row is not None
        was, now = (each and {column: each[column] for column in self.columns} for each in (before, after))
        place = f"/router/communities/{row['community_id']}/{self.path}"
        undo = Undo("PUT", f"{place}/{row['id']}", was) if now else Undo("POST", place, was)
        if was is None:
            undo = Undo("DELETE", f"{place}/{row['id']}")
        audit.record(
            db,
            "router",
            f"{self.name.replace(' ', '_')}_{what}",
            f"{self.name.replace(' ', '-')}/{row['id']}",
            community_id=row["community_id"],
            before=was,
            after=now,
            undo=undo,
        )


def check_channel(db: DAL, community_id: int, entity_id: str | None, *, field: str = "entity_id") -> None:
    """Raises: NotFound for a channel of somebody else's; None is any of the community's."""
    here = "SELECT 1 FROM entities WHERE entity_id = %s AND community_id = %s"
    if entity_id is not None and not fetch_one(db, here, (entity_id, community_id)):
        raise NotFound(f"{entity_id} is not a channel of this community.", field=field)


def changes_of(request: BaseModel, *, may_be_null: Set[str]) -> Row:
    """What a request names. Null is as if it were left out, but for what may be null."""
    named = {name: getattr(request, name) for name in request.model_fields_set & may_be_null}
    return {**request.model_dump(exclude_none=True), **named}
