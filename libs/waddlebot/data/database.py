"""The primary and the replica, and the one way to use them from a thread."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.sql import Composable
from pydal import DAL
from pydal.connection import ConnectionPool
from threadsafevariable import ThreadSafeVariable

from ..base.errors import Busy, ConfigError
from ..base.logs import AAALog, redact
from ..base.settings import Settings, pydal_url
from ..base.transactions import OpenTransaction, open_units
from .awaited import AwaitedConnection, AwaitedCursor
from .replica import Replica, ReplicaConnection, reason_of

CONNECT_TIMEOUT_S = 5
CONNECT_ATTEMPTS = 5
# How long nobody asks a server that has hung, before one caller tries it again.
RETRY_S = 1.0
# A start opens as many connections as its loops ask for at once; each that is kept costs the server 2 MB. An idle fleet
# opens no more of them for it: the same few are used again and again.
IDLE_S = 3.0
# PyDAL drops offsets and microseconds, so every session speaks UTC and precise times are the database's own.
SESSION_OPTIONS = (
    "-c TimeZone=UTC -c statement_timeout=15000 -c idle_in_transaction_session_timeout=30000"
    " -c plan_cache_mode=force_generic_plan"
    # Whoever waits for a page or an answer has it sooner than the server has started workers for it.
    " -c max_parallel_workers_per_gather=0"
)

# What is planned while a table is new and used for months must be right for a table of any size (docs/adr/0020).
# Scanning all of it is not, nor a bitmap of a queue's index: only plain index scans skip what they have found dead.
BY_INDEX = " -c enable_seqscan=off -c enable_bitmapscan=off"

# Lost connections, deadlocks, a full server, a lock that is held, a server that shuts down or a cancelled statement.
# Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
TRY_AGAIN = ("08", "40", "53", "55", "57")

# What psycopg2 raises for these, or when a connection breaks.
BROKEN = (psycopg2.OperationalError, psycopg2.InterfaceError)

# First in a Prepared whose loss in a crash of the server does no harm (docs/adr/0067): its commit waits for no disk,
# which is most of what a small statement costs. Whatever is committed durably later takes it along.
UNHURRIED = "SELECT set_config('synchronous_commit', 'off', true)"


class DatabaseUnavailable(Busy):
    """The database does not answer. Nothing is lost; try again in a moment."""

    code = "database_unavailable"


class Connection(AwaitedConnection):
    """A connection that knows which statements it has prepared, and when it was last used."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.prepared: set[str] = set()
        self.used_at = time.monotonic()


class Prepared:
    """A statement that each connection parses and plans once. For the few that run for every message: planning them
    takes several times as long as running them.

    Parameters are written `%(name)s`, with a cast where PostgreSQL cannot tell the type. Several statements go in one
    message: outside of a transaction they are one, each sees what the ones before had waited for, and the rows are
    those of the last.
    """

    def __init__(self, name: str, *statements: str) -> None:
        self.name = name
        prepare, execute = zip(*(_prepared(f"{name}_{n}", sql) for n, sql in enumerate(statements)), strict=True)
        self.prepare = "; ".join(prepare)
        self.execute = "; ".join(execute)

    def run(self, db: DAL, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run it in this thread's transaction and return its rows."""
        return self.run_on(db._adapter.connection, db._adapter.cursor, parameters)

    def run_on(self, connection: Connection, cursor: Any, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self.name not in connection.prepared:
            cursor.execute(self.prepare)
            connection.prepared.add(self.name)
        return _fetch(cursor, self.execute, parameters)


def _prepared(name: str, sql: str) -> tuple[str, str]:
    """How a statement is prepared under a name, and how it is run."""
    parameters = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    numbered = sql % {parameter: f"${n}" for n, parameter in enumerate(parameters, 1)}
    places = ", ".join(f"%({parameter})s" for parameter in parameters)
    return f"PREPARE {name} AS {numbered}", f"EXECUTE {name} ({places})" if places else f"EXECUTE {name}"


class StatementPool:
    """Connections for single statements, each a transaction by itself: one round trip instead of three, and none of
    PyDAL's bookkeeping."""

    def __init__(self, url: str, pool_size: int) -> None:
        self._url = _libpq_url(url)
        self._pool_size = pool_size
        self._idle: list[Connection] = []

    def run(
        self, sql: Prepared | Composable | str, parameters: Mapping[str, Any] | Sequence[Any]
    ) -> list[dict[str, Any]]:
        """Raises: DatabaseUnavailable."""
        with self.session() as session:
            return session.run(sql, parameters)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """One connection for several statements: for what a session holds, like an advisory lock.

        Raises: DatabaseUnavailable.
        """
        try:
            connection = self._take()
        except BROKEN as err:
            raise unavailable(err) from err
        try:
            yield Session(connection)
        except BROKEN as err:
            connection.close()
            raise unavailable(err) from err
        finally:
            # The server refuses a statement without harm; a connection in any other state is of no use to anybody.
            if connection.closed or connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
                connection.close()
            else:
                self._give_back(connection)

    def close(self, *, unused_since: float = math.inf) -> None:
        _close(self._idle, unused_since)

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            connection: Connection = psycopg2.connect(
                self._url,
                application_name="waddlebot",
                connect_timeout=CONNECT_TIMEOUT_S,
                connection_factory=Connection,
                cursor_factory=AwaitedCursor,
                options=SESSION_OPTIONS + BY_INDEX,
            )
            connection.autocommit = True
            return connection

    def _give_back(self, connection: Connection) -> None:
        connection.used_at = time.monotonic()
        if len(self._idle) < self._pool_size:
            self._idle.append(connection)
        else:
            connection.close()


@dataclass(frozen=True, slots=True)
class Session:
    """A connection on which each statement is a transaction by itself."""

    connection: Connection

    def run(
        self, sql: Prepared | Composable | str, parameters: Mapping[str, Any] | Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        with self.connection.cursor() as cursor:
            if isinstance(sql, Prepared):
                assert isinstance(parameters, Mapping)
                return sql.run_on(self.connection, cursor, parameters)
            return _fetch(cursor, sql, parameters)


class LateDAL(DAL):  # type: ignore[misc]
    """Defines a module's tables when one of them is first asked for: nearly all that runs is SQL, and the tables of a
    whole fleet, on both sides, would be a good part of what each process starts with."""

    _defining = threading.RLock()

    def define_late(self, names: Sequence[str], define_tables: Callable[[DAL], None]) -> None:
        self.__dict__.setdefault("_late", {}).update(dict.fromkeys(names, define_tables))

    def __getattr__(self, name: str) -> Any:
        late = self.__dict__.get("_late", {})
        if name in late:
            with self._defining:
                if define_tables := late[name]:
                    # It asks itself whether there are such tables.
                    late.update({each: None for each, its in late.items() if its is define_tables})
                    with _seen_by_all_threads():
                        define_tables(self)
                if name in self.__dict__:
                    return self.__dict__[name]
        return super().__getattr__(name)


@contextlib.contextmanager
def _seen_by_all_threads() -> Iterator[None]:
    """Most attributes of a Field are each thread's own, and None to it unless the main thread has set them."""
    before = ThreadSafeVariable.freeze()
    yield
    now = ThreadSafeVariable.freeze()
    ThreadSafeVariable.defaults.update({key: value for key, value in now.items() if before.get(key) is not value})


class Database:
    """One process's connections: `primary` for writes; for lookups, which may be a moment old, the replica, if there is
    one that is well and at most `max_lag_s` behind."""

    def __init__(
        self,
        primary_url: str,
        replica_url: str | None = None,
        *,
        pool_size: int = 8,
        max_lag_s: float = 5.0,
        log: AAALog | None = None,
    ) -> None:
        self.primary = _open(pydal_url(primary_url), pool_size=pool_size, read_only=False)
        # On the primary, too. A lookup exchanges its connection for one to the replica.
        self._reader = _open(pydal_url(primary_url), pool_size=pool_size, read_only=True)
        self._statements = StatementPool(primary_url, pool_size)
        self._looked_at = time.monotonic()
        self._hung_until = 0.0
        self.replica: Replica | None = None
        if replica_url and _libpq_url(replica_url) != _libpq_url(primary_url):
            self.replica = Replica(
                _libpq_url(replica_url), _libpq_url(primary_url), max_lag_s=max_lag_s, pool_size=pool_size, log=log
            )

    def define(self, names: Sequence[str], define_tables: Callable[[DAL], None]) -> None:
        """Give both sides the same definitions of these tables; nothing is created or altered."""
        self.primary.define_late(names, define_tables)
        self._reader.define_late(names, define_tables)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[DAL]:
        """A transaction on the primary: committed at the end, rolled back by any exception."""
        with self._noticing_loss(), unit_of_work(self.primary) as db:
            yield db

    def statement(
        self, sql: Prepared | Composable | str, parameters: Mapping[str, Any] | Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        """Run one statement on the primary that is a transaction of its own, and return its rows."""
        with self._noticing_loss():
            return self._statements.run(sql, parameters)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A connection to the primary for several statements, each a transaction of its own."""
        with self._noticing_loss(), self._statements.session() as session:
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[DAL]:
        """Read-only statements, each its own snapshot, on the primary: they see whatever is committed."""
        with self._noticing_loss(), unit_of_work(self._reader) as db:
            yield db

    @contextlib.contextmanager
    def lookup(self) -> Iterator[DAL]:
        """Read-only statements, each its own snapshot, on the replica or, when it fails or is not used, the primary."""
        connection = self.replica.take() if self.replica else None
        unit = _unit_on_replica(self._reader, connection) if connection else unit_of_work(self._reader)
        with self._noticing_loss(asks_primary=connection is None), unit as db:
            yield db

    @contextlib.contextmanager
    def _noticing_loss(self, *, asks_primary: bool = True) -> Iterator[None]:
        """Where one connection is lost the others are too; so only one request finds out, not one for each. While the
        server hangs one caller at a time waits for it."""
        began = time.monotonic()
        if self._hung_until and asks_primary:
            if began < self._hung_until:
                raise DatabaseUnavailable
            self._hung_until = began + CONNECT_TIMEOUT_S + RETRY_S
        try:
            yield
        except DatabaseUnavailable as err:
            self._drop_idle()
            now = time.monotonic()
            was_lost = isinstance(err.__cause__, psycopg2.Error) and err.__cause__.pgcode is None
            self._hung_until = now + RETRY_S if was_lost and now - began >= CONNECT_TIMEOUT_S else 0.0
            raise
        now = time.monotonic()
        if asks_primary:
            self._hung_until = 0.0
        if now - self._looked_at > IDLE_S / 3:
            self._looked_at = now
            self._drop_idle(unused_since=now - IDLE_S)

    def close(self) -> None:
        """Close the connections that nobody uses at the moment, and leave the replica alone from now on."""
        self._drop_idle()
        if self.replica:
            self.replica.close()

    def _drop_idle(self, *, unused_since: float = math.inf) -> None:
        """Close the idle connections, or only those that nobody has used since; the first were idle for longest."""
        self._statements.close(unused_since=unused_since)
        for db in (self.primary, self._reader):
            _close(ConnectionPool.POOLS.get(db._adapter.uri, []), unused_since)


_databases: dict[tuple[str, str | None, int], Database] = {}


def shared_database(settings: Settings, log: AAALog) -> Database:
    """The process's one Database for these URLs, however many modules ask. What becomes of the replica is told to the
    first one's log."""
    which = settings.database_url, settings.read_replica_url, settings.database_pool_size
    if which not in _databases:
        url, replica_url, pool_size = which
        max_lag_s = settings.replica_max_lag_s
        _databases[which] = Database(url, replica_url, pool_size=pool_size, max_lag_s=max_lag_s, log=log)
    return _databases[which]


def _open(url: str, *, pool_size: int, read_only: bool) -> LateDAL:
    options = SESSION_OPTIONS + (" -c default_transaction_read_only=on" if read_only else "")

    def set_autocommit(adapter: Any) -> None:
        adapter.connection.autocommit = True

    try:
        db = LateDAL(
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
                "connection_factory": Connection,
                "cursor_factory": AwaitedCursor,
                "options": options,
            },
            after_connection=set_autocommit if read_only else None,
        )
    except RuntimeError as err:
        raise ConfigError(f"The database at {redact(url)} does not answer: {reason_of(err)}") from err
    # Asking every time whether a pooled connection still lives costs as much as the query; Database empties its pools
    # instead when one turns out to be dead.
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
    action = "rollback"
    with _only_unit(db):
        try:
            db.get_connection_from_pool_or_new()
            db._adapter.connection.used_at = time.monotonic()
            yield db
            db.commit()
            action = ""
        finally:
            db.recycle_connection_in_pool_or_close(action)


@contextlib.contextmanager
def _unit_on_replica(db: DAL, connection: ReplicaConnection) -> Iterator[DAL]:
    """Run statements of this thread on the replica, and from one that fails there on, on the primary."""
    with _only_unit(db):
        db._adapter.set_connection(connection)
        try:
            yield db
        except BROKEN as err:
            if connection.replica is not None:  # It was not a statement of `fetch`.
                connection.replica.fail(connection, err)
            raise
        finally:
            if connection.replica is None:
                db.recycle_connection_in_pool_or_close("rollback")
            else:
                db._adapter.set_connection(None)
                connection.replica.give_back(connection)


@contextlib.contextmanager
def _only_unit(db: DAL) -> Iterator[None]:
    units = open_units()
    if id(db) in units:
        raise OpenTransaction("a transaction is already open in this thread")
    units.add(id(db))
    try:
        yield
    except BROKEN as err:
        raise unavailable(err) from err
    finally:
        units.discard(id(db))


def unavailable(err: psycopg2.Error) -> Exception:
    """What to raise for a driver's error: DatabaseUnavailable if another try may work, else the error itself.

    An error without a code means that the connection broke.
    """
    return DatabaseUnavailable() if err.pgcode is None or err.pgcode[:2] in TRY_AGAIN else err


def fetch(db: DAL, sql: Prepared | str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Run one statement and return its rows, each as a dict by column name."""
    try:
        return _run(db, sql, parameters)
    except BROKEN as err:
        if not _left_replica(db, err):
            raise
        return _run(db, sql, parameters)


def _run(db: DAL, sql: Prepared | str, parameters: Mapping[str, Any] | Sequence[Any]) -> list[dict[str, Any]]:
    if isinstance(sql, Prepared):
        assert isinstance(parameters, Mapping)
        return sql.run(db, parameters)
    return _fetch(db._adapter.cursor, sql, parameters)


def _left_replica(db: DAL, err: psycopg2.Error) -> bool:
    """Whether it was the replica that failed; this thread's lookup goes on with the primary then."""
    connection = db._adapter.connection
    if not isinstance(connection, ReplicaConnection) or connection.replica is None:
        return False
    connection.replica.fail(connection, err)
    db._adapter.set_connection(None)
    db.get_connection_from_pool_or_new()
    return True


def _fetch(cursor: Any, sql: str, parameters: Mapping[str, Any] | Sequence[Any]) -> list[dict[str, Any]]:
    cursor.execute(sql, parameters or None)
    if cursor.description is None:
        return []
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def fetch_one(
    db: DAL, sql: Prepared | str, parameters: Mapping[str, Any] | Sequence[Any] = ()
) -> dict[str, Any] | None:
    rows = fetch(db, sql, parameters)
    return rows[0] if rows else None


def _libpq_url(url: str) -> str:
    return re.sub(r"^postgres[23]?:", "postgresql:", url)


def _close(idle: list[Connection], unused_since: float) -> None:
    with contextlib.suppress(IndexError):  # Another thread may take the last one between the two lines.
        while idle[0].used_at <= unused_since:
            idle.pop(0).close()
