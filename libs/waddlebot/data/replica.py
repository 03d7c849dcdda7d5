"""The replica: connections to it, and up to when it has everything that the primary has.

One thread asks the primary how much it has written and the replica how much of it is replayed. That holds whatever the
clocks say and whether the replica streams, pauses or hangs; what nobody could find out lately counts as behind.
"""

from __future__ import annotations

import contextlib
import math
import queue
import select
import socket
import threading
import time
from collections import deque
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extensions
from prometheus_client import Counter

from ..base.errors import Busy
from ..base.logs import AAALog, redact
from ..base.watched import Watched

# A statement that takes longer is run on the primary instead; the replica stops it by itself.
SESSION_OPTIONS = (
    "-c TimeZone=UTC -c default_transaction_read_only=on -c statement_timeout=500 -c max_parallel_workers_per_gather=0"
)
# A replica that has not even said so by then hangs. With the primary's turn it is still less than ROUTER_ANSWER_WAIT.
ANSWER_TIMEOUT_S = 0.75
PROBE_EVERY_S = 1.0
# Nobody waits for the probes, so they need not give up early on a machine that is busy.
PROBE_TIMEOUT_S = 2.0
# A minute of them, which is more than any lag that is put up with.
MAX_POSITIONS = 100

# Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
QUERY_CANCELED = "57014"

WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
# NULL when it is a server of its own, perhaps since it was promoted.
REPLAYED = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') END"


class ReplicaNotUsed(Busy):
    """Lookups read the primary."""

    code = "replica_not_used"


class NoAnswer(psycopg2.OperationalError):  # type: ignore[misc]
    """It hangs."""


class ReplicaConnection(psycopg2.extensions.connection):  # type: ignore[misc]
    """A connection on which nobody waits for longer than `timeout_s`. Each statement is a transaction by itself."""

    timeout_s = ANSWER_TIMEOUT_S

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.prepared: set[str] = set()
        # Whose it is; nobody's once it failed.
        self.replica: Replica | None = None

    def wait(self) -> None:
        """Wait for what was begun. Raises: psycopg2.Error, an OperationalError when it takes too long."""
        until = time.monotonic() + self.timeout_s
        while (state := self.poll()) != psycopg2.extensions.POLL_OK:
            poller = select.poll()
            is_reading = state == psycopg2.extensions.POLL_READ
            poller.register(self.fileno(), select.POLLIN if is_reading else select.POLLOUT)
            if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
                raise NoAnswer(f"no answer within {self.timeout_s:g} s")


class _PatientConnection(ReplicaConnection):
    timeout_s = PROBE_TIMEOUT_S


class _Cursor(psycopg2.extensions.cursor):  # type: ignore[misc]
    def execute(self, sql: Any, parameters: Any = None) -> None:
        super().execute(sql, parameters)
        self.connection.wait()


class _Position(NamedTuple):
    """How much the primary had written when it was asked."""

    asked_at: float
    written: Decimal


class Replica:
    """Lends connections while what the replica has is at most `max_lag_s` old. For all threads.

    Nobody waits for a connection: the watching thread opens as many as were missed, and meanwhile the primary is read.
    """

    def __init__(
        self, url: str, primary_url: str, *, max_lag_s: float, pool_size: int, log: AAALog | None = None
    ) -> None:
        self._url = url
        self._max_lag_s = max_lag_s
        self._pool_size = pool_size
        self._log = log
        self._primary_probe = _Probe(primary_url, WRITTEN)
        self._replica_probe = _Probe(url, REPLAYED)
        self._positions: deque[_Position] = deque(maxlen=MAX_POSITIONS)
        # All that was committed before this time of the monotonic clock is on the replica.
        self._as_of = -math.inf
        # Whether it answered when it was last asked, and has not failed anybody since.
        self._is_well = False
        self._problem = "has not answered yet"
        self._was_used: bool | None = None
        self._idle: queue.LifoQueue[ReplicaConnection] = queue.LifoQueue()
        self._lock = threading.Lock()  # Of the two below.
        self._open = 0
        self._missed = 0
        self.lookups = Counter(
            "waddlebot_lookups", "Lookups of this process by the server that was asked.", ["server"], registry=None
        )
        self._lookups_here, self._lookups_on_primary = self.lookups.labels("replica"), self.lookups.labels("primary")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = Watched("replica-watch").start(self._watch, stopping=self._stopping)

    @property
    def is_used(self) -> bool:
        return self._is_well and self._lag_s <= self._max_lag_s

    @property
    def _lag_s(self) -> float:
        """How old what it has may be; infinite when that was never known."""
        return time.monotonic() - self._as_of

    def check(self) -> str:
        """Say for health how old it may be. Raises: ReplicaNotUsed."""
        if not self.is_used:
            raise ReplicaNotUsed(f"The replica {self._problem.rstrip('.')}; lookups read the primary.")
        return f"used, at most {self._lag_s:.1f} s old"

    def take(self) -> ReplicaConnection | None:
        """A connection to give back, or None when the primary has to be asked."""
        if self.is_used:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                with self._lock:
                    self._missed += 1
                self._wake.set()
            else:
                self._lookups_here.inc()
                return connection
        self._lookups_on_primary.inc()
        return None

    def give_back(self, connection: ReplicaConnection) -> None:
        self._idle.put(connection)

    def fail(self, connection: ReplicaConnection, err: psycopg2.Error) -> None:
        """Close a connection that failed. Unless only its statement took too long, nobody uses the replica until it has
        answered again, so that nobody else has to find out."""
        self._forget(connection)
        if err.pgcode != QUERY_CANCELED:
            self._leave(f"does not answer: {reason_of(err)}")

    def close(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        self._forget_idle()

    # The watching thread

    def _watch(self) -> None:
        every_s = min(PROBE_EVERY_S, self._max_lag_s / 4)
        probe_at = 0.0
        while not self._stopping.is_set():
            self._wake.clear()
            if time.monotonic() >= probe_at:
                self._probe()
                probe_at = time.monotonic() + every_s
            self._open_missed()
            self._wake.wait(max(0.0, probe_at - time.monotonic()))
        self._primary_probe.close()
        self._replica_probe.close()

    def _probe(self) -> None:
        problem = "is behind"
        asked_at = time.monotonic()
        try:
            self._note_written(asked_at, self._primary_probe.ask())
        except psycopg2.Error as err:
            problem = f"cannot be compared with the primary, which does not answer: {reason_of(err)}"
        try:
            replayed = self._replica_probe.ask()
        except psycopg2.Error as err:
            self._leave(f"does not answer: {reason_of(err)}")
        else:
            self._note_replayed(replayed, problem)
        self._tell()

    def _note_written(self, asked_at: float, written: Decimal) -> None:
        if self._positions and written < self._positions[-1].written:
            self._positions.clear()  # It is another primary, or one from a backup.
        self._positions.append(_Position(asked_at, written))

    def _note_replayed(self, replayed: Decimal | None, problem: str) -> None:
        if replayed is None:
            self._leave("is a server of its own")
            return
        while self._positions and self._positions[0].written <= replayed:
            self._as_of = self._positions.popleft().asked_at
        self._is_well = True
        self._problem = problem  # If it is none yet, it may become one before the next probe.

    def _leave(self, problem: str) -> None:
        self._is_well = False
        self._problem = problem
        self._forget_idle()

    def _tell(self) -> None:
        """Log that it is used from now on or not, once."""
        is_used = self.is_used
        if is_used is self._was_used:
            return
        self._was_used = is_used
        if self._log and is_used:
            self._log.system("replica_used")
        elif self._log:
            self._log.system("replica_not_used", result="FAILED", reason=self._problem)

    def _open_missed(self) -> None:
        with self._lock:
            wanted = min(self._missed, self._pool_size - self._open)
            self._missed = 0
        try:
            for _ in range(wanted):
                connection = connect(self._url)
                connection.replica = self
                with self._lock:
                    self._open += 1
                self._idle.put(connection)
        except psycopg2.Error:
            self._is_well = False  # The next probe says why.

    def _forget(self, connection: ReplicaConnection) -> None:
        connection.replica = None
        connection.close()
        with self._lock:
            self._open -= 1

    def _forget_idle(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._forget(self._idle.get_nowait())


class _Probe:
    """One question to one server, now and then, on a connection of its own."""

    def __init__(self, url: str, question: str) -> None:
        self._url = url
        self._question = question
        self._connection: ReplicaConnection | None = None

    def ask(self) -> Any:
        """What the server answers. Raises: psycopg2.Error, after a moment or two at the latest."""
        try:
            if self._connection is None:
                self._connection = connect(self._url, _PatientConnection)
            with self._connection.cursor() as cursor:
                cursor.execute(self._question)
                return cursor.fetchone()[0]
        except psycopg2.Error:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(url: str, kind: type[ReplicaConnection] = ReplicaConnection) -> ReplicaConnection:
    """Raises: psycopg2.Error, also when it takes too long."""
    connection: ReplicaConnection = psycopg2.connect(
        url,
        **_address_of(url),
        async_=True,
        application_name="waddlebot",
        client_encoding="UTF8",
        connection_factory=kind,
        cursor_factory=_Cursor,
        options=SESSION_OPTIONS,
    )
    try:
        connection.wait()
    except psycopg2.Error:
        connection.close()
        raise
    return connection


def _address_of(url: str) -> dict[str, str]:
    """Where the server of a URL is. libpq would look its name up while no other thread of this process can run."""
    named = psycopg2.extensions.parse_dsn(url)
    host = named.get("host", "")
    if not host or host.startswith("/") or "," in host or "hostaddr" in named:
        return {}
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as err:
        raise psycopg2.OperationalError(f'could not translate host name "{host}" to address: {err.strerror}') from err
    addresses = [str(each[4][0]) for each in found]
    return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


def reason_of(err: BaseException) -> str:
    """The first line of what went wrong; psycopg adds advice below it."""
    lines = str(err).strip().splitlines()
    return redact(lines[0].strip()) if lines else type(err).__name__
