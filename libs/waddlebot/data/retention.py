"""How long records are kept, and deleting what is older, a bounded batch at a time (contracts §12)."""

from __future__ import annotations

from datetime import timedelta

from .database import Database

RECORDS_KEPT = timedelta(days=90)
BATCH = 1000
EVERY_S = 60.0


def delete_old(db: Database, table: str, age: str, *, key: str = "id") -> bool:
    """Delete the oldest rows of a table if their column `age` is longer ago than records are kept.

    True when there may be more. Looks at the first rows by key only, which grows with time, so that finding nothing
    costs the same in a table of any size.
    """
    gone = db.statement(
        f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM ("
        f" SELECT {key}, {age} FROM {table} ORDER BY {key} LIMIT {BATCH}) AS oldest"
        f" WHERE {age} < now() - %(keep)s) RETURNING 1 AS gone",
        {"keep": RECORDS_KEPT},
    )
    return len(gone) == BATCH
