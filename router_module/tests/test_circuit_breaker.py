"""A target that has stopped answering is left alone, and asked again after a while by one call."""

from __future__ import annotations

import threading

import pytest
from waddlebot.base import circuit_breaker
from waddlebot.base.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from waddlebot.base.logs import AAALog
from waddlebot.base.metrics import Metrics
from waddlebot.testing.plugin import eventually


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics():
    return Metrics("test")


@pytest.fixture
def breaker():
    return circuit_breaker


@pytest.fixture
def circuits(breaker, clock, metrics):
    return breaker.CircuitBreakers(AAALog("test", "1"), metrics, max_failures=3, rest_s=10, clock=clock)


@pytest.fixture
def call(circuits, breaker):
    """Make a call that ends with this error, or well; say how it ended."""

    def end(error: Exception | None = None, location: str = "https://example.com/", place: str = "") -> str:
        try:
            with circuits.watching("weather", location, place):
                if error:
                    raise error
        except breaker.CircuitOpen:
            return "open"
        except (UpstreamError, RuntimeError):
            return "failed"
        return "fine"

    return end


def is_open(metrics: Metrics) -> bool:
    (sample,) = metrics.as_json()["waddlebot_test_circuits_open"]
    return sample == {"module": "weather", "value": 1}


@pytest.mark.parametrize("error", [UpstreamTimeout(), UpstreamError(), RuntimeError("a bug")])
def test_it_opens_after_so_many_failures_in_a_row(call, metrics, error):
    assert [call(error) for _ in range(5)] == ["failed", "failed", "failed", "open", "open"]
    assert is_open(metrics)
    assert metrics.as_json()["waddlebot_test_circuit_refusals_total"] == [{"module": "weather", "value": 2}]


@pytest.mark.parametrize("answer", [None, UpstreamRefused()])
def test_any_answer_begins_the_count_anew(call, answer):
    for _ in range(5):
        call(UpstreamError())
        call(UpstreamError())
        assert call(answer) != "open"


def test_targets_do_not_share_a_circuit(call):
    for _ in range(3):
        call(UpstreamError())

    assert call() == "open"
    assert call(location="https://example.org/") == "fine"


def test_what_fails_for_one_place_alone_is_left_alone_for_that_one(call, clock, metrics):
    for _ in range(4):
        call(UpstreamTimeout(), place="1")
    assert [call(place="1"), call(place="2")] == ["open", "fine"]
    assert is_open(metrics)
    clock.now = 10
    assert [call(place="1"), is_open(metrics)] == ["fine", False]
    # What fails for two of them is down, and so is at once what nobody reaches.
    for place in "121":
        call(UpstreamTimeout(), place=place)
    assert [call(place="1"), call(place="3")] == ["open", "open"]
    clock.now = 20
    assert [call(place="3"), call(place="1")] == ["fine", "fine"]
    for _ in range(3):
        call(UpstreamUnreachable(), place="1")
    assert call(place="2") == "open"


def test_after_a_rest_one_call_tries_and_closes_it(call, circuits, clock, metrics):
    for _ in range(3):
        call(UpstreamError())
    clock.now = 9.9
    assert call() == "open"
    clock.now = 10

    with circuits.watching("weather", "https://example.com/"):
        assert call() == "open"  # One probe at a time.
    assert call() == "fine"
    assert not is_open(metrics)


def test_a_probe_that_fails_opens_it_again(call, clock, metrics):
    for _ in range(3):
        call(UpstreamError())
    for clock.now in (10, 20, 30):
        assert [call(UpstreamError()), call()] == ["failed", "open"]
    assert is_open(metrics)

    clock.now = 40
    assert [call(), call(UpstreamError()), call(UpstreamError()), call()] == ["fine", "failed", "failed", "fine"]
    assert not is_open(metrics)


def test_calls_that_began_before_it_opened_neither_prolong_nor_confuse_it(call, circuits, clock, metrics):
    late = circuits.watching("weather", "https://example.com/")
    late.__enter__()
    for _ in range(3):
        call(UpstreamError())
    clock.now = 10
    late.__exit__(UpstreamError, UpstreamError(), None)

    assert [call(), is_open(metrics)] == ["fine", False]


def test_an_answer_to_an_older_call_closes_it_also_under_a_probe(call, circuits, clock, metrics):
    older = circuits.watching("weather", "https://example.com/")
    older.__enter__()
    for _ in range(3):
        call(UpstreamError())
    clock.now = 10
    probe = circuits.watching("weather", "https://example.com/")
    probe.__enter__()
    older.__exit__(None, None, None)
    assert not is_open(metrics)

    probe.__exit__(UpstreamError, UpstreamError(), None)
    assert [call(), is_open(metrics)] == ["open", True]


def test_many_threads_agree_on_one_probe(call, circuits, clock):
    for _ in range(3):
        call(UpstreamError())
    clock.now = 10
    outcomes: list[str] = []
    begin = threading.Barrier(8)

    def ask() -> None:
        begin.wait()
        try:
            with circuits.watching("weather", "https://example.com/"):
                outcomes.append("probe")
                eventually(lambda: len(outcomes) == 8)
        except UpstreamError:
            outcomes.append("open")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["open"] * 7 + ["probe"]
