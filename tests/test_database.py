"""Transactions, migrations, and that PyDAL's view of the tables is what the migrations make."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from pydal import Field
from waddlebot.base.errors import ConfigError
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import all_manifests
from waddlebot.base.transactions import OpenTransaction
from waddlebot.community.people import SELECT_PEOPLE
from waddlebot.data.database import BY_INDEX, SESSION_OPTIONS, Database, DatabaseUnavailable, Prepared, fetch
from waddlebot.data.migrate import RENAMED, list_migrations, migrate
from waddlebot.fleet.embedded import PostgresServer
from waddlebot.testing.fleet import FAST
from waddlebot.testing.plugin import eventually, hanging
from waddlebot.web.clients import FleetTransport
from waddlebot.web.http import HTTPClient


@pytest.fixture
def database(fleet):
    return fleet.database


@pytest.fixture
def scratch(database):
    name = "scratch_" + new_id().replace("-", "")
    database.statement(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    yield name
    database.statement(f"DROP TABLE {name}")


def count(database, table):
    return database.statement(f"SELECT count(*) AS n FROM {table}")[0]["n"]


def test_a_transaction_is_kept_at_its_end_and_undone_by_any_exception(database, scratch):
    with database.transaction() as db:
        fetch(db, f"INSERT INTO {scratch} VALUES (1)")
    with pytest.raises(ZeroDivisionError), database.transaction() as db:
        fetch(db, f"INSERT INTO {scratch} VALUES (2)")
        raise ZeroDivisionError

    assert count(database, scratch) == 1


def test_a_transaction_inside_another_is_refused_and_undoes_the_outer(database, scratch):
    with pytest.raises(OpenTransaction), database.transaction() as db:
        fetch(db, f"INSERT INTO {scratch} VALUES (1)")
        with database.transaction():
            pass

    assert count(database, scratch) == 0


def test_nothing_is_called_while_a_transaction_is_open(database):
    with pytest.raises(OpenTransaction), database.transaction():
        FleetTransport(HTTPClient()).request("GET", "http://127.0.0.1:9/")


def test_lookups_cannot_write(database, scratch):
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), database.lookup() as db:
        fetch(db, f"INSERT INTO {scratch} VALUES (1)")


def test_many_threads_leave_no_connection_in_a_transaction(database, scratch):
    def work(n):
        with database.transaction() as db:
            fetch(db, f"INSERT INTO {scratch} VALUES (%s)", (n,))
        database.statement(f"SELECT 1 FROM {scratch}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert count(database, scratch) == 20
    open_ones = "state LIKE 'idle in transaction%' AND application_name = 'waddlebot'"
    eventually(lambda: count(database, f"pg_stat_activity WHERE {open_ones}") == 0)


def test_what_a_rush_opened_is_closed_when_nobody_needs_it_any_more(stack, monkeypatch):
    database, all_are_in = Database(stack.postgres.owner_url, pool_size=6), threading.Barrier(6)

    def work():
        with database.transaction() as db, database.reading(), database.session():
            all_are_in.wait(10)
            opened.append(fetch(db, "SELECT pg_backend_pid() AS pid")[0]["pid"])

    opened: list[int] = []
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr("waddlebot.data.database.IDLE_S", 0.05)

    def still_open():
        alive = "SELECT count(*) AS n FROM pg_stat_activity WHERE pid = ANY(%s)"
        return database.statement(alive, (opened,))[0]["n"]

    assert len(set(opened)) == 6
    eventually(lambda: still_open() == 0)
    with database.transaction() as db:
        assert fetch(db, "SELECT 1 AS one") == [{"one": 1}]
    database.close()


def test_a_prepared_statement_works_in_and_outside_a_transaction(database, scratch):
    insert = Prepared(f"insert_{scratch}", f"INSERT INTO {scratch} VALUES (%(id)s) RETURNING id")

    assert database.statement(insert, {"id": 1}) == [{"id": 1}]
    with database.transaction() as db:
        assert insert.run(db, {"id": 2}) == [{"id": 2}]
        assert fetch(db, insert, {"id": 3}) == [{"id": 3}]
    assert count(database, scratch) == 3


def test_a_new_queue_is_read_by_its_index_in_order(database, scratch):
    database.statement(f"ALTER TABLE {scratch} ADD COLUMN state text, ADD COLUMN person text")
    database.statement(f"CREATE INDEX ON {scratch} (person, id) WHERE state = 'pending'")
    database.statement(f"CREATE INDEX ON {scratch} (id) WHERE state = 'pending'")
    explain = f"EXPLAIN SELECT id FROM {scratch} WHERE state = 'pending' ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED"
    plan = " ".join(row["QUERY PLAN"] for row in database.statement(explain))
    assert f"Index Scan using {scratch}_id_idx" in plan


def test_people_are_found_by_index_while_their_tables_are_young(stack):
    options = SESSION_OPTIONS + BY_INDEX
    url = re.sub(r"^postgres[23]?:", "postgresql:", stack.environment()["DATABASE_URL"])
    with contextlib.closing(psycopg2.connect(url, options=options)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "WITH u AS (INSERT INTO users (display_name) SELECT n::text FROM generate_series(1, 3000) n RETURNING id)"
            " INSERT INTO platform_identities (user_id, platform, platform_user_id) SELECT id, 'peer', id FROM u"
        )
        cursor.execute("SELECT array_agg(id) FROM (SELECT id FROM users ORDER BY id DESC LIMIT 10) AS last")
        cursor.execute(f"EXPLAIN {SELECT_PEOPLE}", cursor.fetchone())
        plan = " ".join(row[0] for row in cursor.fetchall())
        connection.rollback()
    assert "platform_identities_first" in plan
    assert "platform_identities_pkey" not in plan


def test_statements_prepared_together_are_one_transaction_and_answer_with_the_last(database, scratch):
    both = Prepared(
        f"both_{scratch}",
        f"INSERT INTO {scratch} VALUES (%(id)s)",
        f"SELECT count(*) AS n, 1 / %(divisor)s::integer AS quotient FROM {scratch}",
    )

    assert database.statement(both, {"id": 1, "divisor": 1}) == [{"n": 1, "quotient": 1}]
    with pytest.raises(psycopg2.errors.DivisionByZero):
        database.statement(both, {"id": 2, "divisor": 0})
    assert count(database, scratch) == 1


def test_pydals_tables_are_the_migrated_ones(fleet):
    named = [name for manifest in all_manifests() for name in manifest.tables]
    tables = [name for name in named if getattr(fleet.database.primary, name, None)]
    columns = fleet.database.statement(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    migrated: dict[str, set[str]] = {}
    for row in columns:
        migrated.setdefault(row["table_name"], set()).add(row["column_name"])

    assert {"commands", "inventory_items", "alias_commands", "twitch_events", "auth_user"} <= set(tables)
    assert set(fleet.database.primary.tables) == set(tables)
    for name in tables:
        assert set(fleet.database.primary[name].fields) == migrated[name], name


@pytest.fixture(scope="module")
def empty_server(tmp_path_factory):
    server = PostgresServer(tmp_path_factory.mktemp("empty"), new_id(), FAST)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def empty_url(empty_server):
    """A database of its own, without a schema."""
    name = "d" + new_id().replace("-", "")
    connection = psycopg2.connect(empty_server.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return empty_server.url.rpartition("/")[0] + "/" + name


def test_migrations_are_applied_once_also_by_eight_at_a_time(empty_url):
    done: list[list[str]] = []
    threads = [threading.Thread(target=lambda: done.append(migrate(empty_url, post=True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(done) == 8
    assert sorted(name for names in done for name in names) == sorted(each.key for each in list_migrations())


def test_post_migrations_wait_until_they_are_asked_for(empty_url, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/0001_pre_a.sql").write_text("CREATE TABLE a (id int);")
    (tmp_path / "x/0002_post_b.sql").write_text("DROP TABLE a;")

    assert migrate(empty_url, post=False, folder=tmp_path) == ["x/0001_pre_a"]
    assert migrate(empty_url, post=True, folder=tmp_path) == ["x/0002_post_b"]


def test_an_edited_migration_is_refused_by_name(empty_url, tmp_path):
    (tmp_path / "x").mkdir()
    file = tmp_path / "x/0001_pre_a.sql"
    file.write_text("CREATE TABLE a (id int);")
    migrate(empty_url, post=False, folder=tmp_path)
    file.write_text("CREATE TABLE a (id bigint);")

    with pytest.raises(ConfigError, match="x/0001_pre_a was edited"):
        migrate(empty_url, post=False, folder=tmp_path)


def test_a_migration_that_fails_leaves_nothing(empty_url, tmp_path):
    (tmp_path / "x").mkdir()
    file = tmp_path / "x/0001_pre_a.sql"
    file.write_text("CREATE TABLE a (id int); SELECT nonsense;")
    with pytest.raises(psycopg2.Error):
        migrate(empty_url, post=False, folder=tmp_path)

    file.write_text("CREATE TABLE a (id int);")
    assert migrate(empty_url, post=False, folder=tmp_path) == ["x/0001_pre_a"]


def is_away(database: Database) -> bool:
    try:
        database.statement("SELECT 1")
    except DatabaseUnavailable:
        return True
    return False


def test_a_server_that_was_killed_is_used_again_as_soon_as_it_is_back(tmp_path):
    server = PostgresServer(tmp_path / "postgres", new_id(), FAST)
    server.start()
    database = Database(server.url)
    try:
        assert database.statement("SELECT 1 AS n") == [{"n": 1}]
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        eventually(lambda: is_away(database))  # A session may outlive its server for a moment.
        server.start()
        assert database.statement("SELECT 1 AS n") == [{"n": 1}]
        with database.transaction() as db:
            assert fetch(db, "SELECT 2 AS n") == [{"n": 2}]
    finally:
        database.close()
        server.stop()


def test_nobody_waits_for_long_for_a_server_that_hangs_in_the_midst_of_a_statement(tmp_path):
    server = PostgresServer(tmp_path / "postgres", new_id(), FAST)
    server.start()
    database = Database(server.url)

    def take_long() -> float:
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            database.statement("SELECT pg_sleep(14)")
        return time.monotonic() - began

    def take_long_in_a_transaction() -> float:
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable), database.transaction() as db:
            fetch(db, "SELECT pg_sleep(14)")
        return time.monotonic() - began

    try:
        with ThreadPoolExecutor(3) as threads:
            # While others are answered a statement may take as long as it takes.
            slow = threads.submit(database.statement, "SELECT pg_sleep(4), 1 AS n")
            assert slow.result()[0]["n"] == 1
            waits = [threads.submit(take_long), threads.submit(take_long_in_a_transaction)]
            busy = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(14)%%'"
            eventually(lambda: database.statement(busy)[0]["n"] == 2)
            with hanging(server):
                assert max(each.result() for each in waits) < 12
                began = time.monotonic()
                for _ in range(5):
                    with pytest.raises(DatabaseUnavailable):
                        database.statement("SELECT 1")
                    with pytest.raises(DatabaseUnavailable), database.transaction():
                        pass
                assert time.monotonic() - began < 8
            eventually(lambda: not is_away(database))
        assert database.statement("SELECT 1 AS n") == [{"n": 1}]
    finally:
        database.close()
        server.stop()


def test_two_migrations_of_one_owner_never_share_a_number(empty_url, tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("0001_pre_a", "0001_pre_b"):
        (tmp_path / "x" / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match="Two migrations of x have the number 0001"):
        migrate(empty_url, post=False, folder=tmp_path)


def test_a_migration_may_run_outside_a_transaction(empty_url, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "0001_pre_a.sql").write_text("CREATE TABLE a (b int)")
    index = "-- outside a transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a_b ON a (b)"
    (tmp_path / "x" / "0002_pre_index.sql").write_text(index)
    assert migrate(empty_url, post=False, folder=tmp_path) == ["x/0001_pre_a", "x/0002_pre_index"]
    assert migrate(empty_url, post=False, folder=tmp_path) == []


def test_a_home_from_before_a_migration_was_renamed_goes_on(empty_url):
    migrate(empty_url, post=True)
    connection = psycopg2.connect(empty_url)
    with connection, connection.cursor() as cursor:
        for old, new in RENAMED.items():
            cursor.execute("UPDATE schema_migrations SET name = %s WHERE name = %s", (old, new))
            assert cursor.rowcount == 1
    connection.close()
    assert migrate(empty_url, post=True) == []


def test_tables_are_defined_once_when_first_asked_for_however_many_ask(stack):
    database, begun = Database(stack.postgres.owner_url), []

    def define_tables(db):
        begun.append(db)
        time.sleep(0.1)  # Others ask meanwhile.
        db.define_table("late_one", Field("name", default="nobody"))
        db.define_table("late_other", Field("name"))

    database.define(["late_one", "late_other"], define_tables)
    assert begun == []
    with ThreadPoolExecutor(4) as pool:
        fields = list(pool.map(lambda name: database.primary[name].fields, ["late_one", "late_other"] * 4))

    assert fields == [["id", "name"]] * 8
    assert begun == [database.primary]
    # To a thread that has not defined it, too, a field is what it was defined as.
    assert database.primary.late_one.name.default == "nobody"
    with pytest.raises(AttributeError):
        _ = database.primary.late_third
    database.close()
