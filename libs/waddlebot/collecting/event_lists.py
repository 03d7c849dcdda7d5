"""What a collector has taken in and what it earned, for whoever looks after it: newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.database import Database
from ..web.lists import Listed, Page

# Counting millions of rows for a list would take longer than reading it.
MAX_COUNTED = 10_000


def of_community(entity: str) -> str:
    """A condition: the entity, as SQL, is of the community in `%(community)s`, or that is NULL."""
    return (
        "(%(community)s::bigint IS NULL OR EXISTS (SELECT 1 FROM entities o"
        f" WHERE o.entity_id = {entity} AND o.community_id = %(community)s))"
    )


def list_newest(
    db: Database, columns: str, found: str, parameters: Mapping[str, Any], page: Page
) -> Listed[dict[str, Any]]:
    """Read the rows of `found`, a table with its conditions, by id downwards; counted are 10 000 at most."""
    rows = db.statement(
        f"SELECT {columns} FROM {found} ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {**parameters, "limit": page.limit, "offset": page.offset},
    )
    counted = f"SELECT count(*) AS total FROM (SELECT 1 FROM {found} LIMIT {MAX_COUNTED}) AS counted"
    return Listed(rows, db.statement(counted, parameters)[0]["total"])
