"""How long records are kept, and deleting what is older, a bounded batch at a time (contracts §12)."""

from __future__ import annotations

from datetime import timedelta

from .database import Database

RECORDS_KEPT = timedelta(days=90)
BATCH = 1000
EVERY_S = 60.0


def delete_old(db: Database, table: str, age: str) -> bool:
    """Delete the oldest rows of a table if their column `age` is longer ago than records are kept.

    True when there may be more. Looks at the first rows by id only, so that finding nothing costs the same in a table
    of any size.
    """
    gone = db.statement(
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM (SELECT id, {age} FROM {table} ORDER BY id LIMIT {BATCH})"
        f" AS oldest WHERE {age} < now() - %(keep)s) RETURNING id",
        {"keep": RECORDS_KEPT},
    )
    return len(gone) == BATCH
