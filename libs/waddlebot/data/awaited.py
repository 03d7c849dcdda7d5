"""Ending the wait for a server that hangs.

A server that is gone closes its connections; one that hangs, or whose machine or network is gone, says nothing for as
long as TCP lets it. A statement may take long, too, so what is asked is whether anybody is still answered.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import psycopg2.extensions

from ..base.watched import Watched
from .replica import NoAnswer, ReplicaConnection, connect

LOOK_EVERY_S = 1.0
# What takes no longer than this is not wondered about.
SLOW_S = 2.0
# As long as anybody waits for a new connection.
ANSWER_TIMEOUT_S = 5.0


class AwaitedConnection(psycopg2.extensions.connection):  # type: ignore[misc]
    """A connection whose statements fail, as if it were lost, when its server does not answer others either."""

    def __init__(self, dsn: str, *arguments: Any, **options: Any) -> None:
        super().__init__(dsn, *arguments, **options)
        self.dsn_given = dsn
        self.server = self.info.host, self.info.port
        self.awaited_since: float | None = None
        _watch(self)

    def commit(self) -> None:
        with self.awaiting():
            super().commit()

    def rollback(self) -> None:
        with self.awaiting():
            super().rollback()

    @contextlib.contextmanager
    def awaiting(self) -> Iterator[None]:
        self.awaited_since = time.monotonic()
        try:
            yield
        finally:
            self.awaited_since = None

    def give_up(self, since: float) -> None:
        """Let who has waited since then wait no longer."""
        with contextlib.suppress(OSError, psycopg2.InterfaceError):  # It has just ended.
            copy = socket.socket(fileno=os.dup(self.fileno()))
            with copy:
                # Asked once more with the copy at hand, which is of this connection whatever becomes of its number.
                if self.awaited_since == since:
                    copy.shutdown(socket.SHUT_RDWR)


class AwaitedCursor(psycopg2.extensions.cursor):  # type: ignore[misc]
    def execute(self, sql: Any, parameters: Any = None) -> None:
        # Written out, because it is run for every statement.
        self.connection.awaited_since = time.monotonic()
        try:
            super().execute(sql, parameters)
        finally:
            self.connection.awaited_since = None


class _Asking(ReplicaConnection):
    timeout_s = ANSWER_TIMEOUT_S


_connections: weakref.WeakSet[AwaitedConnection] = weakref.WeakSet()
_lock = threading.Lock()
_watched: Watched | None = None


def _watch(connection: AwaitedConnection) -> None:
    global _watched
    with _lock:
        _connections.add(connection)
        if _watched is None:
            _watched = Watched("database-watch")
            _watched.start(_look, stopping=threading.Event())


def _look() -> None:
    while True:
        time.sleep(LOOK_EVERY_S)
        with _lock:
            connections = list(_connections)
        now = time.monotonic()
        waiting = [(each, since) for each in connections if (since := each.awaited_since)]
        slow = {each.server: each.dsn_given for each, since in waiting if now - since > SLOW_S}
        silent = {server for server, dsn in slow.items() if not _answers(dsn)}
        for each, since in waiting:
            if each.server in silent:
                each.give_up(since)


def _answers(dsn: str) -> bool:
    """Whether anything at all is answered, a refusal too."""
    try:
        connect(dsn, _Asking).close()
    except NoAnswer:
        return False
    except psycopg2.Error:
        pass
    return True
