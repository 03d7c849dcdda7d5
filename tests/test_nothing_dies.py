"""Nothing dies silently: what ends unasked is begun again, logged, counted, and told by health and the doctor."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from own_log import own_log
from test_fleet import Up
from waddlebot.base import watched
from waddlebot.base.background import Loops
from waddlebot.base.bridge import Bridge
from waddlebot.base.logs import AAALog, configure_logging, stop_logging
from waddlebot.base.settings import Settings
from waddlebot.base.watched import Watched
from waddlebot.collecting.liveness import Liveness
from waddlebot.data import wakeup
from waddlebot.data.cache import Bus, open_redis
from waddlebot.data.database import StatementPool
from waddlebot.data.redis_users import INVALIDATIONS, WAKE
from waddlebot.data.wakeup import Wakeup
from waddlebot.fleet.home import Home, Running
from waddlebot.testing.plugin import eventually

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("forgiven")]
# What anybody on the fleet's Redis can say.
NONSENSE = [b"not json", b"\xff\xfe", b"[]", b"{}", b'[["a"]]', b"[1, 2]", b'["a", null]', b"7", b"", b"[" * 100_000]


def state_of(name: str) -> watched.State:
    return next(each for each in watched.states() if each.name == name)


@pytest.fixture
def name(request) -> str:
    """A name that nothing else in this process has."""
    return f"{request.node.name[:40]}-{time.monotonic_ns()}"


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    """What the process's own log says from now on."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()} {record.aaa['fields']}")
    logger = logging.getLogger("waddlebot.process")
    monkeypatch.setattr(logger, "handlers", [handler])
    return lines


# Threads and tasks


@pytest.mark.parametrize("fault", [KeyError("gone"), SystemExit(3), MemoryError(), None], ids=repr)
def test_a_thread_that_ends_unasked_is_begun_again_logged_and_counted(name, logged, fault):
    rounds, stopping = [], threading.Event()

    def run():
        rounds.append(1)
        if len(rounds) < 3:
            if fault is not None:
                raise fault
            return
        stopping.wait()

    thread = Watched(name).start(run, stopping=stopping)

    eventually(lambda: len(rounds) == 3)
    state = state_of(name)
    assert (state.is_alive, state.ended) == (True, 2)
    assert ("it returned" if fault is None else type(fault).__name__) in state.trouble
    assert sum("ended_unasked" in line and line.startswith("ERROR") for line in logged) == 2
    stopping.set()
    thread.join(5)
    assert not any(each.name == name for each in watched.states())


def test_while_it_waits_to_be_begun_again_it_does_not_run(name):
    stopping = threading.Event()

    def run():
        raise KeyError

    Watched(name).start(run, stopping=stopping)

    eventually(lambda: state_of(name).ended)
    assert not state_of(name).is_alive
    assert "does not run" in state_of(name).trouble
    stopping.set()


def test_a_task_that_ends_unasked_is_begun_again_and_one_that_is_cancelled_is_not(name):
    rounds = []

    async def work():
        rounds.append(1)
        if len(rounds) == 1:
            raise KeyError
        if len(rounds) == 2:
            raise asyncio.CancelledError  # As from something that it awaits.
        await asyncio.Event().wait()

    async def main():
        task = Watched(name).start_task(work)
        while len(rounds) < 3:
            await asyncio.sleep(0.01)
        assert (state_of(name).is_alive, state_of(name).ended) == (True, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not any(each.name == name for each in watched.states())


def test_a_loop_outlives_even_a_step_that_ends_the_thread_and_its_bugs_are_told_at_once(name):
    loops, faults = Loops(AAALog("loops", "1")), [SystemExit(1), KeyError("bug")]

    def step():
        if faults:
            raise faults.pop(0)

    loops.add(name, step, every_s=0.01)
    loops.start("service")

    eventually(lambda: not faults and state_of(name).troubles)
    eventually(lambda: state_of(name).is_alive)
    assert state_of(name).ended == 1
    assert "KeyError" in state_of(name).trouble
    loops.stop()


def test_a_bridge_outlives_what_ends_its_loop_and_tells_of_what_nobody_waits_for():
    bridge = Bridge()

    async def leave():
        raise SystemExit(1)

    async def fail():
        raise KeyError("lost")

    async def answer():
        return 7

    bridge.submit(leave())
    assert bridge.submit(answer()).result(10) == 7
    bridge.start(fail())
    eventually(lambda: "KeyError: 'lost'" in state_of("bridge-tasks").trouble)


# Listeners


@pytest.fixture
def settings(stack, monkeypatch) -> Settings:
    for variable, value in stack.environment().items():
        monkeypatch.setenv(variable, value)
    return Settings.load()


@pytest.fixture
def anybody(stack) -> redis.Redis:
    """Somebody else on the fleet's Redis."""
    return redis.Redis(port=stack.valkey.port, password=stack.valkey.password, decode_responses=True)


def listening(operator: redis.Redis) -> int:
    """How many listen for what is to be forgotten."""
    return sum(int(each["psub"]) for each in operator.client_list(_type="pubsub"))


def test_no_message_ends_the_listener_that_empties_caches(settings, anybody, logged):
    bus = Bus(open_redis(settings), open_redis(settings, blocking=True))
    cache = bus.cache("people", ttl_s=600)
    others = listening(anybody)
    bus.start()
    before = state_of("cache-bus").troubles
    eventually(lambda: listening(anybody) > others)

    for message in NONSENSE:
        anybody.publish(INVALIDATIONS + "people", message)

    eventually(lambda: state_of("cache-bus").troubles >= before + len(NONSENSE))
    assert f"cannot read what {INVALIDATIONS}people says" in state_of("cache-bus").trouble
    cache.get("a", lambda _fresh: 1)
    anybody.publish(INVALIDATIONS + "people", json.dumps(["x", "a"]))
    eventually(lambda: cache.get("a", lambda _fresh: 2) == 2)
    listeners = sum(each.name == "cache-bus" for each in watched._watched)
    assert 1 <= sum("cannot read" in line for line in logged) <= listeners  # Once a minute.
    assert state_of("cache-bus").ended == 0
    bus.stop()


def test_no_message_ends_a_wakeup(settings, anybody):
    wakeup, rung = Wakeup(settings, "nonsense"), threading.Event()
    wakeup.listen(lambda _: rung.set())
    eventually(lambda: dict(anybody.pubsub_numsub(WAKE + "nonsense"))[WAKE + "nonsense"])
    eventually(rung.is_set)
    for message in NONSENSE:
        rung.clear()
        anybody.publish(WAKE + "nonsense", message)
        eventually(rung.is_set)
    wakeup.stop()


def test_what_rings_tell_while_redis_is_away_is_told_once_it_is_back(settings, monkeypatch):
    refused = iter([True, True, False])
    publish = redis.Redis.publish

    def away_at_first(client, channel, message):
        if next(refused, False):
            raise redis.ConnectionError()
        return publish(client, channel, message)

    monkeypatch.setattr(redis.Redis, "publish", away_at_first)
    monkeypatch.setattr(wakeup, "RETRY_S", 0.05)
    teller, listener, heard = Wakeup(settings, "told"), Wakeup(settings, "told"), []
    listener.listen(heard.append)
    eventually(lambda: heard == [[]])
    teller.ring(1)
    teller.ring([2, "two"])
    eventually(lambda: [each for told in heard for each in told] == [1, [2, "two"]])
    teller.stop()
    listener.stop()


# The log


@pytest.fixture
def log_to(tmp_path, monkeypatch):
    def start(**variables):
        monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@localhost/x")
        for variable, value in {
            "LOG_DIR": str(tmp_path),
            "LOG_LEVEL": "INFO",
            "LOG_CONSOLE_LEVEL": "INFO",
            **variables,
        }.items():
            monkeypatch.setenv(variable, value)
        configure_logging(Settings.load())
        return AAALog("inventory", "1.0.0")

    with own_log():
        yield start


def test_a_full_disk_costs_lines_and_when_there_is_room_they_are_counted(log_to, tmp_path, capsys):
    (tmp_path / "inventory.log").symlink_to("/dev/full")
    log = log_to()
    for n in range(10):
        log.audit("item_added", item_id=n)
    eventually(lambda: state_of("log-files").troubles >= 10)
    log.audit("item_moved")
    eventually(lambda: state_of("log-files").troubles >= 11)
    assert "No space left on device" in state_of("log-files").trouble
    assert state_of("log-writer").is_alive

    (tmp_path / "inventory.log").unlink()
    log.audit("item_removed")
    eventually(lambda: "lines_lost" in (tmp_path / "process.log").read_text())
    stop_logging()

    assert "action=item_removed" in (tmp_path / "inventory.log").read_text()
    told = capsys.readouterr().err
    assert told.count("action=item_added") == 10
    assert "action=item_removed" in told
    assert told.count("log_not_written") == 1
    assert "lines_lost=11" in told


def test_what_fits_on_the_disk_is_written_and_no_line_runs_into_the_next(log_to, tmp_path):
    log = log_to(LOG_CONSOLE_LEVEL="ERROR")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
        for n in range(100):
            log.audit("item_added", item_id=n)
        eventually(lambda: state_of("log-files").troubles)
        eventually(lambda: state_of("log-files").troubles + (tmp_path / "inventory.log").read_text().count("\n") >= 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.audit("item_removed")
    stop_logging()

    lines = (tmp_path / "inventory.log").read_text().splitlines()
    whole = [line for line in lines if "action=item_added" in line and "item_id=" in line]
    lost = int((tmp_path / "process.log").read_text().rpartition("lines_lost=")[2])
    assert len(lines) - len(whole) <= 2
    assert lines[-1].startswith("[")
    assert "action=item_removed" in lines[-1]
    # Each line is in the file of changes, too.
    changes = (tmp_path / "inventory.audit.log").read_text().splitlines()
    whole += [line for line in changes if "action=item_added" in line and "item_id=" in line]
    assert 200 <= len(whole) + lost <= 202


def test_a_console_that_cannot_be_written_leaves_the_files_alone(log_to, tmp_path, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        log = log_to()
        log.audit("item_added")
        eventually(lambda: state_of("console").troubles)
        assert "No space left on device" in state_of("console").trouble
        log.audit("item_removed")
        eventually(lambda: "item_removed" in (tmp_path / "inventory.log").read_text())
        stop_logging()
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()  # What the console has not written yet cannot be written now either.
    assert (tmp_path / "inventory.log").read_text().count("action=item_added") == 1


def test_a_syslog_server_that_is_not_known_costs_one_warning(log_to, tmp_path):
    log = log_to(ENABLE_SYSLOG="true", SYSLOG_HOST="nowhere.invalid", LOG_CONSOLE_LEVEL="ERROR")
    for n in range(5):
        log.audit("item_added", item_id=n)
    eventually(lambda: state_of("syslog").troubles >= 5)
    stop_logging()

    assert (tmp_path / "inventory.log").read_text().count("item_added") == 5
    process = (tmp_path / "process.log").read_text()
    assert process.count("log_not_written") == 1
    assert "WARNING process:- SYSTEM" in process
    assert "what=syslog" in process


# What else was lost in silence


def test_a_statement_that_is_refused_costs_no_connection(stack):
    pool = StatementPool(stack.postgres.owner_url, 4)
    (before,) = pool.run("SELECT pg_backend_pid() AS pid", ())
    with pytest.raises(psycopg2.Error):
        pool.run("SELECT 1 / 0", ())
    with pytest.raises(KeyError):
        pool.run("SELECT %(missing)s", {"other": 1})
    assert pool.run("SELECT pg_backend_pid() AS pid", ()) == [before]
    pool.close()


def test_signs_of_life_outlast_what_keeps_them_from_being_saved(simulated):
    liveness = Liveness(simulated.database, "ears", AAALog("ears", "1"))
    liveness.expect("ears::a", silent_after=timedelta(seconds=30))
    simulated.database.statement("ALTER TABLE channel_liveness RENAME TO elsewhere")
    with pytest.raises(psycopg2.Error):
        liveness.save()
    liveness.heard("ears::a")
    simulated.database.statement("ALTER TABLE elsewhere RENAME TO channel_liveness")
    liveness.heard("ears::no\x00name")
    liveness.heard("ears::b")

    liveness.save()

    rows = simulated.database.statement("SELECT entity_id, silent_after FROM channel_liveness ORDER BY 1")
    assert [(row["entity_id"], row["silent_after"]) for row in rows] == [
        ("ears::a", timedelta(seconds=30)),
        ("ears::b", None),
    ]


def test_a_home_whose_process_number_is_somebody_elses_by_now_has_no_fleet(home):
    fleet = Home(home)
    fleet.open()
    fleet.announce(Running(os.getpid(), "http://127.0.0.1:1", {}))
    assert Home(home).find_running() is not None

    fleet._lock.close()  # As the end of its process does.

    assert Home(home).find_running() is None
    fleet.open()
    assert Home(home).find_running() is not None
    fleet._lock.close()


def test_the_check_finds_what_nobody_watches(tmp_path):
    path = Path(__file__).parents[1] / "scripts" / "check_fleet.py"
    spec = importlib.util.spec_from_file_location("check_fleet", path)
    check_fleet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_fleet)
    (tmp_path / "a.py").write_text(
        "import threading, asyncio\n"
        "threading.Thread(target=print).start()\n"
        "asyncio.create_task(x())\n"
        "asyncio.create_task(x())  # not watched: it is waited for\n"
        "# not watched:\n"
        "loop.create_task(x())\n"
    )
    problems = sorted(check_fleet.check_watched([tmp_path]))
    assert [problem.rpartition("a.py:")[2].partition(":")[0] for problem in problems] == ["2", "3", "6"]


# A whole fleet, as the doctor sees it


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    up = Up(tmp_path_factory.mktemp("up") / "home").wait_until_ready()
    yield up
    up.stop()


def child(up: Up, role: str) -> psutil.Process:
    return next(each for each in up.tree() if each.cmdline()[-2:] == ["waddlebot.fleet.serve", role])


def told_by_doctor(up: Up, *words: str, within_s: float = 10) -> bool:
    """Whether the doctor finds all these words in one bad finding, and advice, within the time that is promised."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        findings = json.loads(up.cli("doctor", "--json").stdout)
        bad = [each for each in findings if each["verdict"] == "bad"]
        if found := [each for each in bad if all(word in each["detail"] for word in words)]:
            assert all(each["advice"] for each in found)
            return True
    return False


def test_collectors_that_are_up_before_the_router_say_so_without_alarm(running):
    text = "".join(path.read_text() for path in (running.home / "logs").glob("*.collectors.log"))
    assert "action=started" in text
    assert "loop_failed" not in text


def test_the_doctor_tells_within_ten_seconds_what_anybody_says_on_redis(running):
    environment = Home(running.home).find_running().environment
    client = redis.Redis(port=int(environment["REDIS_PORT"]), password=environment["REDIS_PASSWORD"])
    client.publish(INVALIDATIONS + "overlay_queues", b"not json")

    for process in ("", "collectors process", "hub process"):
        assert told_by_doctor(running, process, f"cannot read what {INVALIDATIONS}overlay_queues says")
    client.close()


def test_the_doctor_names_a_module_of_somebody_elses_that_fell_silent(running):
    with contextlib.closing(psycopg2.connect(Home(running.home).get_running().environment["DATABASE_URL"])) as database:
        with database, database.cursor() as cursor:
            cursor.execute(
                "INSERT INTO collector_modules (module_name, module_version, endpoint_url, last_heartbeat, status)"
                " VALUES ('outsider', '1.0.0', '', now() - interval '5 minutes', 'stale')"
            )
        assert told_by_doctor(running, "1 without a heartbeat: outsider")
        with database, database.cursor() as cursor:
            cursor.execute("DELETE FROM collector_modules WHERE module_name = 'outsider'")


def test_the_doctor_tells_within_ten_seconds_of_a_full_disk_and_the_log_goes_on(running):
    web = child(running, "web")
    workers = [web, *web.children(recursive=True)]
    before = {each: each.rlimit(psutil.RLIMIT_FSIZE) for each in workers}
    for each in workers:
        each.rlimit(psutil.RLIMIT_FSIZE, (1, before[each][1]))
    assert running.say("!inventory list").returncode == 0
    assert told_by_doctor(running, "log-files cannot be written", "File too large")

    for each in workers:
        each.rlimit(psutil.RLIMIT_FSIZE, before[each])
    assert running.say("!inventory list").returncode == 0
    eventually(lambda: "lines_lost=" in (running.home / "logs" / "process.log").read_text())


@pytest.mark.parametrize("role", ["collectors", "hub"])
def test_the_doctor_tells_within_ten_seconds_of_a_process_that_stands_still(running, role):
    process = child(running, role)
    process.send_signal(signal.SIGSTOP)
    try:
        assert told_by_doctor(running, f"{role} process", f":{process.pid}: not heard of for")
    finally:
        process.send_signal(signal.SIGCONT)
    assert not told_by_doctor(running, "not heard of for", within_s=3)
