"""A pool of threads for each target: what hangs hangs alone, and it can be told how long there is to wait."""

from __future__ import annotations

import threading

import pytest
from waddlebot.base.background import TargetPools
from waddlebot.base.logs import AAALog
from waddlebot.testing.plugin import eventually


@pytest.fixture
def hang():
    """An event that jobs wait for; set at the end of the test in any case."""
    over = threading.Event()
    yield over
    over.set()


@pytest.fixture
def pools(hang):
    made = TargetPools(AAALog("test", "1"), workers_per_target=2)
    yield made
    hang.set()
    made.stop()


def test_a_target_that_hangs_does_not_delay_another(pools, hang):
    for _ in range(10):
        pools.submit("hung", hang.wait, 30)

    assert pools.submit("fine", lambda: "done").result(5) == "done"
    eventually(lambda: (pools.waiting("hung"), pools.waiting("fine")) == (8, 0))


def test_a_job_that_fails_ends_too(pools):
    for _ in range(5):
        pools.submit("broken", lambda: 1 / 0)

    assert pools.submit("broken", lambda: "mended").result(5) == "mended"
    eventually(lambda: pools.waiting("broken") == 0)


def test_the_delay_is_the_time_that_the_next_job_has_waited(pools, hang):
    assert pools.delay_s("hung") == 0
    for _ in range(2):
        pools.submit("hung", hang.wait, 30)
    eventually(lambda: pools.delay_s("hung") == 0, what="both have a thread")

    pools.submit("hung", lambda: None)
    first = pools.delay_s("hung")
    pools.submit("hung", lambda: None)
    eventually(lambda: pools.delay_s("hung") > first, what="it grows while nobody has a thread for it")
    assert pools.delay_s("fine") == 0

    hang.set()
    eventually(lambda: pools.delay_s("hung") == 0)


def test_a_brief_target_keeps_no_threads_and_works_again(pools):
    def count():
        return [each for each in threading.enumerate() if each.name.startswith("target-brief")]

    for _ in range(2):
        assert {pools.submit("brief", threading.get_ident, brief=True).result(5) for _ in range(5)}
        eventually(lambda: not count())
