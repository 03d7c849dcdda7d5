"""Jobs that one replica does for all: each period once, by one at a time, and by another one when its holder dies."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from waddlebot.base.background import Loops
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.data import jobs
from waddlebot.data.database import Database
from waddlebot.data.jobs import Jobs
from waddlebot.testing.plugin import eventually

# One that begins a job and never comes to its end.
HANGS = """
import sys, threading
from waddlebot.base.background import Loops
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database
from waddlebot.data.jobs import Jobs

def hang():
    print("at work", flush=True)
    threading.Event().wait()

loops = Loops(AAALog(sys.argv[2], "1"), Jobs(Database(sys.argv[1]), sys.argv[2]))
loops.add("tidy", hang, every_s=3600, once=True)
loops.start("service")
threading.Event().wait()
"""


class Replicas:
    """Replicas of one service, each as it were in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.service = "s" + new_id().replace("-", "")
        self.databases: list[Database] = []
        self.started: list[Loops] = []

    def turns(self) -> Jobs:
        self.databases.append(Database(self.url))
        return Jobs(self.databases[-1], self.service)

    def start(self, step: Callable[[], bool | None], *, every_s: float) -> Loops:
        loops = Loops(AAALog(self.service, "1"), self.turns())
        loops.add("tidy", step, every_s=every_s, once=True)
        loops.start("service")
        self.started.append(loops)
        return loops

    def row(self) -> dict:
        (row,) = self.databases[0].statement("SELECT * FROM jobs WHERE name = %s", (f"{self.service}/tidy",))
        return row

    def stop(self) -> None:
        for loops in self.started:
            loops.stop()
        for database in self.databases:
            database.close()


@pytest.fixture
def replicas(stack) -> Iterator[Replicas]:
    made = Replicas(stack.postgres.owner_url)
    yield made
    made.stop()


def test_each_period_is_done_once_whoever_does_it(replicas):
    began = []
    for _ in range(3):
        replicas.start(lambda: began.append(replicas.row()["began_at"]), every_s=0.2)

    eventually(lambda: len(began) >= 8)
    gaps = [later - before for before, later in itertools.pairwise(began)]
    assert min(gaps) >= timedelta(seconds=0.2)


def test_no_two_are_at_it_at_once_however_long_it_takes(replicas):
    at_work, most, lock, rounds = 0, 0, threading.Lock(), []

    def work():
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        threading.Event().wait(0.15)
        with lock:
            at_work -= 1
        rounds.append(1)

    for _ in range(3):
        replicas.start(work, every_s=0.01)

    eventually(lambda: len(rounds) >= 6)
    assert most == 1


def test_what_left_work_behind_is_gone_on_with_at_once(replicas):
    left = [True, True, False]
    replicas.start(lambda: left.pop(0) if left else False, every_s=3600)

    eventually(lambda: not left)
    eventually(lambda: replicas.row()["ended_at"])
    assert replicas.row()["times"] == 3


def test_what_fails_is_left_to_the_next_one(replicas):
    first, second = replicas.turns(), replicas.turns()
    assert first.begin("tidy", every_s=3600) == 0
    first.end("tidy", is_done=False)

    assert second.begin("tidy", every_s=3600) == 0
    second.end("tidy", is_done=True)
    assert 3000 < first.begin("tidy", every_s=3600) <= 3600


def test_another_replica_goes_on_when_the_holder_is_killed_at_work(replicas):
    arguments = [sys.executable, "-c", HANGS, replicas.url, replicas.service]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "at work\n"
        done = threading.Event()
        replicas.start(done.set, every_s=3600)
        assert replicas.turns().begin("tidy", every_s=3600) > 0
        assert not done.is_set()

        holder.kill()

        eventually(done.is_set)
    eventually(lambda: replicas.row()["ended_at"])
    assert replicas.row()["times"] == 2


def test_a_holder_that_stands_still_loses_its_turn_and_spoils_nobody_elses(replicas, monkeypatch):
    monkeypatch.setattr(jobs, "STANDS_STILL_S", 0.3)
    still, next_one = replicas.turns(), replicas.turns()
    assert still.begin("tidy", every_s=0.2) == 0

    eventually(lambda: next_one.begin("tidy", every_s=0.2) == 0)
    still.end("tidy", is_done=True)

    assert replicas.row()["ended_at"] is None
    next_one.end("tidy", is_done=True)
    assert replicas.row()["ended_at"] is not None


def test_the_lock_is_let_go_with_the_turn(replicas):
    turns = replicas.turns()
    assert turns.begin("tidy", every_s=60) == 0
    # Of this job only: others in this process hold locks of their own.
    held = (
        "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory'"
        " AND (classid::bigint << 32) | objid::bigint = hashtextextended('job ' || %s, 0)"
    )
    name = (f"{replicas.service}/tidy",)
    assert replicas.databases[0].statement(held, name)[0]["n"] == 1
    turns.end("tidy", is_done=True)

    assert replicas.databases[0].statement(held, name)[0]["n"] == 0
    limits = replicas.databases[0].statement("SELECT current_setting('idle_session_timeout') AS it")
    assert limits == [{"it": "0"}]


def test_a_job_for_all_cannot_be_woken(replicas):
    loops = Loops(AAALog("x", "1"), replicas.turns())
    with pytest.raises(ValueError, match="cannot be woken"):
        loops.add("tidy", lambda: None, every_s=1, once=True, wake=threading.Event())
