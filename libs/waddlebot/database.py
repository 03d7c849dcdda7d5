"""The primary and the replica, and the one way to use them from a thread."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2 import errors
from pydal import DAL
from pydal.connection import ConnectionPool

from .aaa import redact
from .errors import Busy, ConfigError
from .settings import pydal_url

CONNECT_TIMEOUT_S = 5
CONNECT_ATTEMPTS = 5
# PyDAL drops offsets and microseconds, so every session speaks UTC and precise times are the database's own.
SESSION_OPTIONS = "-c TimeZone=UTC -c statement_timeout=15000 -c idle_in_transaction_session_timeout=30000"

_open_units = threading.local()


class DatabaseUnavailable(Busy):
    """The database does not answer. Nothing is lost; try again in a moment."""

    code = "database_unavailable"


class OpenTransaction(AssertionError):
    """Something is called while this thread holds a transaction open: a bug in the caller."""


class Database:
    """One process's connections: `primary` for writes, `replica` for lookups that may be a moment old."""

    def __init__(self, primary_url: str, replica_url: str | None = None, *, pool_size: int = 8) -> None:
        self.primary = _open(pydal_url(primary_url), pool_size=pool_size, read_only=False)
        self.replica = _open(pydal_url(replica_url or primary_url), pool_size=pool_size, read_only=True)

    def define(self, *definitions: Any) -> None:
        """Give both sides the same table definitions; nothing is created or altered."""
        for define_tables in definitions:
            define_tables(self.primary)
            define_tables(self.replica)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[DAL]:
        """A transaction on the primary: committed at the end, rolled back by any exception."""
        with unit_of_work(self.primary) as db:
            yield db

    @contextlib.contextmanager
    def lookup(self) -> Iterator[DAL]:
        """Read-only statements on the replica, each its own snapshot."""
        with unit_of_work(self.replica) as db:
            yield db

    def close(self) -> None:
        for db in (self.primary, self.replica):
            _drop_pool(db)


@functools.lru_cache
def shared_database(primary_url: str, replica_url: str | None, pool_size: int) -> Database:
    """The process's one Database for these URLs, however many modules ask."""
    return Database(primary_url, replica_url, pool_size=pool_size)


def _open(url: str, *, pool_size: int, read_only: bool) -> DAL:
    options = SESSION_OPTIONS + (" -c default_transaction_read_only=on" if read_only else "")

    def set_autocommit(adapter: Any) -> None:
        adapter.connection.autocommit = True

    try:
        db = DAL(
            # Pools are kept by URI, and read-only connections must not end up among the others.
            url + ("&" if "?" in url else "?") + f"read_only={read_only}",
            pool_size=pool_size,
            migrate=False,
            migrate_enabled=False,
            decode_credentials=True,
            attempts=CONNECT_ATTEMPTS,
            driver_args={
                "application_name": "waddlebot",
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": options,
            },
            after_connection=set_autocommit if read_only else None,
        )
    except RuntimeError as err:
        raise ConfigError(f"The database at {redact(url)} does not answer: {str(err).splitlines()[-1]}") from err
    # Asking every time whether a pooled connection still lives costs as much as the query; unit_of_work empties the
    # pool instead when one turns out to be dead.
    db._adapter.check_active_connection = False
    db.recycle_connection_in_pool_or_close("commit")
    return db


@contextlib.contextmanager
def unit_of_work(db: DAL) -> Iterator[DAL]:
    """Run statements of this thread in one transaction: commit at the end, roll back on any exception.

    PyDAL keeps a connection per thread and would leave it idle in transaction; this gives it back to the pool.
    Raises: DatabaseUnavailable when the server is away; OpenTransaction when this thread already has one open on
    this database, because the inner end would commit the outer work.
    """
    units: set[int] = _open_units.__dict__.setdefault("units", set())
    if id(db) in units:
        raise OpenTransaction("a transaction is already open in this thread")
    units.add(id(db))
    action = "rollback"
    try:
        db.get_connection_from_pool_or_new()
        yield db
        db.commit()
        action = ""
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
        if not isinstance(err, errors.QueryCanceled | errors.TransactionRollbackError):
            _drop_pool(db)
        raise DatabaseUnavailable() from err
    finally:
        units.discard(id(db))
        db.recycle_connection_in_pool_or_close(action)


def check_no_transaction() -> None:
    """Raises: OpenTransaction. Called before anything leaves this thread (contracts §3)."""
    if getattr(_open_units, "units", None):
        raise OpenTransaction("close the transaction before calling another service")


def fetch(db: DAL, sql: str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Run one statement and return its rows, each as a dict by column name."""
    cursor = db._adapter.cursor
    cursor.execute(sql, parameters or None)
    if cursor.description is None:
        return []
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def fetch_one(db: DAL, sql: str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> dict[str, Any] | None:
    rows = fetch(db, sql, parameters)
    return rows[0] if rows else None


def _drop_pool(db: DAL) -> None:
    idle = ConnectionPool.POOLS.get(db._adapter.uri, [])
    while idle:
        with contextlib.suppress(IndexError):  # Another thread may take the last one between the two lines.
            idle.pop().close()
