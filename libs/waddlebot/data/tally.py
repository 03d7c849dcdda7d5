"""Counts that nobody waits for: summed in memory and written every two seconds, in no command's transaction.

uses = Tally(database, "UPDATE … FROM unnest(%(id)s::bigint[], %(uses)s::bigint[]) AS v (id, uses) …", "id", "uses")
loops.add("uses", uses.save, every_s=WRITE_EVERY_S, finish=uses.save)
uses.add((alias.id,), 1)

A process that is killed loses what it has not written (docs/adr/0063).
"""

from __future__ import annotations

import operator
import threading
from typing import Any

from .database import Database, DatabaseUnavailable

WRITE_EVERY_S = 2.0


class Tally:
    """Sums by key. For all threads.

    `sql` adds them to a table; it gets a list for each of the columns, first those of the key, then those of the sums.
    """

    def __init__(self, db: Database, sql: str, *columns: str) -> None:
        self._db = db
        self._sql = sql
        self._columns = columns
        self._sums: dict[tuple[Any, ...], tuple[float, ...]] = {}
        self._lock = threading.Lock()
        # Whoever reads what is written waits for a writer who has begun.
        self._writing = threading.Lock()

    def add(self, key: tuple[Any, ...], *amounts: float) -> None:
        with self._lock:
            before = self._sums.get(key)
            self._sums[key] = tuple(map(operator.add, before, amounts)) if before else amounts

    def save(self) -> None:
        """Write down what was counted until now. Raises: DatabaseUnavailable; it is kept for the next time then."""
        with self._writing:
            with self._lock:
                sums, self._sums = self._sums, {}
            if not sums:
                return
            # In one order everywhere, so that two writers hardly ever wait for each other for ever.
            rows = [(*key, *sums[key]) for key in sorted(sums)]
            try:
                self._db.statement(self._sql, dict(zip(self._columns, map(list, zip(*rows, strict=True)), strict=True)))
            except DatabaseUnavailable:
                for key, amounts in sums.items():
                    self.add(key, *amounts)
                raise
