"""Lookups on a real streaming replica, and on the primary whenever the replica is away or behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg2
import pytest
from waddlebot.base.errors import WaddleBotError
from waddlebot.base.ids import new_id
from waddlebot.base.settings import Settings
from waddlebot.data.cache import Bus, open_redis
from waddlebot.data.database import Database, DatabaseUnavailable, Prepared, fetch, fetch_one
from waddlebot.data.replica import ReplicaNotUsed
from waddlebot.fleet.embedded import PostgresServer, free_port
from waddlebot.testing.fleet import FAST
from waddlebot.testing.plugin import eventually, hanging
from waddlebot.testing.streaming_replica import StreamingReplica

MAX_LAG_S = 1.0


@pytest.fixture(scope="module")
def primary(tmp_path_factory) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path_factory.mktemp("primary"), new_id(), FAST)
    server.start()
    with connected(server) as cursor:
        cursor.execute("CREATE TABLE words (id int PRIMARY KEY, word text)")
        cursor.execute("INSERT INTO words VALUES (1, 'first')")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def replica(primary, tmp_path_factory) -> Iterator[StreamingReplica]:
    """The tests' one replica: what a test does to it, it undoes."""
    server = StreamingReplica(tmp_path_factory.mktemp("replica"), primary.password, FAST, primary_port=primary.port)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(primary, replica) -> Iterator[Database]:
    with opened(primary, replica.url) as made:
        eventually(lambda: reads_replica(made))
        yield made


@contextlib.contextmanager
def opened(primary: PostgresServer, replica_url: str) -> Iterator[Database]:
    made = Database(primary.url, replica_url, max_lag_s=MAX_LAG_S)
    yield made
    made.close()


@contextlib.contextmanager
def connected(server: PostgresServer) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def reads_replica(database: Database) -> bool:
    with database.lookup() as db:
        row = fetch_one(db, "SELECT pg_is_in_recovery() AS is_replica")
    assert row is not None
    return bool(row["is_replica"])


WORD = Prepared("word", "SELECT word FROM words WHERE id = %(id)s")


def word(database: Database) -> str:
    with database.lookup() as db:
        return fetch(db, "SELECT word FROM words WHERE id = 1")[0]["word"]


def word_as_prepared(database: Database) -> str:
    with database.lookup() as db:
        return fetch(db, WORD, {"id": 1})[0]["word"]


def why_not_used(database: Database) -> str:
    with pytest.raises(ReplicaNotUsed) as caught:
        database.replica.check()
    return caught.value.message


def write(database: Database) -> str:
    """Change the word on the primary and return it."""
    made = new_id()
    database.statement("UPDATE words SET word = %s WHERE id = 1", (made,))
    return made


def kill(server: PostgresServer) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()


@contextlib.contextmanager
def paused(server: StreamingReplica) -> Iterator[None]:
    """A replica that takes what the primary sends and does not replay it."""
    with connected(server) as cursor:
        cursor.execute("SELECT pg_wal_replay_pause()")
        yield
        cursor.execute("SELECT pg_wal_replay_resume()")


def test_lookups_read_the_replica_and_everything_else_the_primary(database):
    with database.transaction() as db:
        assert not fetch(db, "SELECT pg_is_in_recovery() AS is_replica")[0]["is_replica"]
    assert database.statement("SELECT pg_is_in_recovery() AS is_replica") == [{"is_replica": False}]

    written = write(database)

    eventually(lambda: word(database) == written)
    eventually(lambda: reads_replica(database))


def test_a_lookup_on_the_replica_cannot_write(database):
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), database.lookup() as db:
        fetch(db, "UPDATE words SET word = 'x'")

    eventually(lambda: reads_replica(database))


def test_no_lookup_fails_when_the_replica_is_killed_and_it_is_used_again_when_it_is_back(database, replica):
    with looking_up(database) as failures:
        kill(replica)
        eventually(lambda: not reads_replica(database))
        written = write(database)
        assert (word(database), word_as_prepared(database)) == (written, written)

        replica.start()
        eventually(lambda: reads_replica(database))
        assert (word(database), word_as_prepared(database)) == (written, written)

    assert failures == []


@contextlib.contextmanager
def looking_up(database: Database) -> Iterator[list[Exception]]:
    """Four threads that look up all the time. Yields what came in their way."""
    stopping = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        while not stopping.is_set():
            try:
                word(database)
                word_as_prepared(database)
            except (psycopg2.Error, WaddleBotError) as err:
                failures.append(err)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def test_a_replica_that_hangs_is_left_at_once(database, replica):
    with hanging(replica):
        assert not reads_replica(database)
        assert "no answer" in why_not_used(database)
        assert not reads_replica(database)

    eventually(lambda: reads_replica(database))


def test_a_replica_that_is_behind_is_not_read_until_it_has_caught_up(database, replica):
    with paused(replica):
        written = write(database)
        eventually(lambda: not reads_replica(database))
        assert word(database) == written

    eventually(lambda: reads_replica(database))
    assert word(database) == written


def test_a_replica_whose_primary_is_away_is_read_no_longer_than_it_is_new(primary, database):
    kill(primary)
    try:
        assert reads_replica(database)
        eventually(lambda: is_unavailable(database))
    finally:
        primary.start()

    eventually(lambda: not is_unavailable(database) and reads_replica(database))


def is_unavailable(database: Database) -> bool:
    try:
        word(database)
    except DatabaseUnavailable:
        return True
    return False


def test_a_statement_that_takes_long_is_run_on_the_primary_alone(database):
    with database.lookup() as db:
        assert fetch(db, "SELECT pg_is_in_recovery() AS r, pg_sleep(0.7)::text AS s") == [{"r": False, "s": ""}]

    eventually(lambda: reads_replica(database))


def test_a_replica_that_was_promoted_is_none_any_more(primary, tmp_path):
    once = StreamingReplica(tmp_path / "once", primary.password, FAST, primary_port=primary.port)
    once.start()
    try:
        with opened(primary, once.url) as database, connected(once) as cursor:
            eventually(lambda: reads_replica(database))
            cursor.execute("SELECT pg_promote()")

            eventually(lambda: not database.replica.is_used)
            eventually(lambda: "a server of its own" in why_not_used(database))
            written = write(database)
            assert word(database) == written
    finally:
        once.stop()


def test_without_its_replica_a_database_opens_and_takes_it_up_later(primary, replica):
    replica.stop()
    with opened(primary, replica.url) as database:
        assert word(database)
        assert not reads_replica(database)

        replica.start()
        eventually(lambda: reads_replica(database))


def test_what_is_no_server_is_no_replica(primary):
    url = primary.url.replace(f":{primary.port}/", f":{free_port()}/")
    with opened(primary, url) as database:
        assert word(database)
        eventually(lambda: "does not answer" in why_not_used(database))


NAMED = """
import socket, threading, time, psycopg2
from waddlebot.data.replica import connect

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.31.5.3", 53))


def ask():
    try:
        connect("postgresql://nobody@nowhere.example/none")
    except psycopg2.Error as err:
        print(str(err).splitlines()[0])


asking = threading.Thread(target=ask)
began = last = time.monotonic()
longest = 0.0
asking.start()
while asking.is_alive():
    time.sleep(0.01)
    longest, last = max(longest, time.monotonic() - last), time.monotonic()
print(longest, last - began)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process another name server")
def test_a_name_that_nobody_answers_for_keeps_nobody_waiting(tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.31.5.3\noptions timeout:1 attempts:1\n")
    (tmp_path / "ask.py").write_text(NAMED)
    bind = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec {sys.executable} {tmp_path}/ask.py"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", bind], capture_output=True, text=True, check=True)
    said, figures = done.stdout.strip().splitlines()
    longest_s, took_s = map(float, figures.split())

    assert "could not translate host name" in said
    assert took_s > 0.9 > 0.5 > longest_s


def test_a_primary_given_as_its_own_replica_is_just_the_primary(primary):
    with opened(primary, primary.url) as database:
        assert database.replica is None
        assert word(database)


@pytest.fixture
def bus(stack, monkeypatch) -> Bus:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    return Bus(open_redis(settings), open_redis(settings, blocking=True), replica_max_lag_s=MAX_LAG_S)


def test_after_an_invalidation_the_newest_value_is_read_however_far_behind_the_replica_is(database, replica, bus):
    cache = bus.cache("words", ttl_s=0)  # So that every time is a reload.

    def load(fresh: bool) -> str:
        with database.transaction() if fresh else database.lookup() as db:
            return fetch(db, "SELECT word FROM words WHERE id = 1")[0]["word"]

    with paused(replica):
        written = write(database)
        bus.invalidate("words", "1")
        # From the pause until long after the replica is known to be behind.
        until = time.monotonic() + 3 * MAX_LAG_S

        def still_reads_it() -> bool:
            assert cache.get("1", load) == written
            return time.monotonic() > until

        eventually(still_reads_it)
