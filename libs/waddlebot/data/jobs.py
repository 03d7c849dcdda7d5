"""Which replica does what one does for all: turns, by the database's clock and a lock that ends with its holder."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Any

import psycopg2

from .database import Database, Session

# A job that is due but in somebody's hands is looked at again so soon, in case they have died.
LOOK_EVERY_S = 2.0
# A process that stands still in the middle of a job keeps its lock no longer than this, or one period of the job.
STANDS_STILL_S = 60.0

LOOK = """
SELECT extract(epoch FROM began_at + %(every)s * interval '1 second' - now())::float AS wait_s
FROM jobs WHERE name = %(name)s AND ended_at IS NOT NULL
"""
# The lock is the session's: it is let go when its process or machine dies, and when it has done nothing for too long.
LOCK = """
SELECT CASE WHEN pg_try_advisory_lock(hashtextextended('job ' || %(name)s, 0))
    THEN set_config('idle_session_timeout', %(limit_ms)s, false) <> '' ELSE false END AS is_mine
"""
UNLOCK = """
SELECT pg_advisory_unlock(hashtextextended('job ' || %(name)s, 0)), set_config('idle_session_timeout', '0', false)
"""
# Somebody else may have done it between the look and the lock.
BEGIN = """
INSERT INTO jobs AS j (name, holder) VALUES (%(name)s, %(holder)s)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, began_at = now(), ended_at = NULL, times = j.times + 1
    WHERE j.ended_at IS NULL OR j.began_at <= now() - %(every)s * interval '1 second'
RETURNING 1 AS begun
"""
END = "UPDATE jobs SET ended_at = now() WHERE name = %(name)s AND holder = %(holder)s"


class Jobs:
    """The turns of one service's jobs. For all threads; each job is one loop's."""

    def __init__(self, db: Database, service: str) -> None:
        self._db = db
        self._service = service
        self._holder = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
        self._held: dict[str, contextlib.ExitStack] = {}

    def begin(self, job: str, *, every_s: float) -> float:
        """0 when it is this process's turn, which lasts until `end`; else in how many seconds to ask again.

        Raises: DatabaseUnavailable.
        """
        asked = {"name": self._name(job), "holder": self._holder, "every": every_s}
        known = self._db.statement(LOOK, asked)
        if known and known[0]["wait_s"] > 0:
            return float(min(known[0]["wait_s"], every_s))
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(self._db.session())
            limit_ms = str(int(max(STANDS_STILL_S, every_s) * 1000))
            if not session.run(LOCK, {**asked, "limit_ms": limit_ms})[0]["is_mine"]:
                return min(LOOK_EVERY_S, every_s)
            stack.callback(self._let_go, session, asked)
            if session.run(BEGIN, asked):
                self._held[job] = stack.pop_all()
                return 0.0
        return min(LOOK_EVERY_S, every_s)

    def end(self, job: str, *, is_done: bool) -> None:
        """Raises: DatabaseUnavailable."""
        with self._held.pop(job):
            if is_done:
                self._db.statement(END, {"name": self._name(job), "holder": self._holder})

    def _let_go(self, session: Session, asked: dict[str, Any]) -> None:
        try:
            session.run(UNLOCK, asked)
        except psycopg2.Error:
            session.connection.close()  # And with it the lock goes, if it was not gone by now.

    def _name(self, job: str) -> str:
        return f"{self._service}/{job}"
