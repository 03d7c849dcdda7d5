"""Rate limits (contracts §7): exact over threads and replicas, and through Redis' outages."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.metrics import Metrics
from waddlebot.base.settings import Settings
from waddlebot.data.cache import open_redis
from waddlebot.data.ratelimit import MAX_REMEMBERED, PREFIX, RETRY_S, Decision, Limit, RateLimiter, Request
from waddlebot.fleet.embedded import ValkeyServer, free_port
from waddlebot.testing.fleet import Stack
from waddlebot.testing.plugin import eventually

SHORT_S = 0.3


class Replica:
    """One process's limiter, and what it logged and counted."""

    def __init__(self, client: redis.Redis, *, window_s: float = 60) -> None:
        self.client = client
        self.module = f"limits_{new_id().replace('-', '')}"
        self.metrics = Metrics(self.module)
        self.limiter = RateLimiter(client, AAALog(self.module, "1"), self.metrics, window_s=window_s)

    def ask(self, *limits: Limit, id_: str | None = None) -> Decision:
        return self.limiter.reserve([Request(id_ or new_id(), limits)])[0]

    def allowed(self, limit: Limit, tries: int) -> int:
        """How many of so many new requests may."""
        return sum(decision.allowed for decision in self.limiter.reserve(many(limit, tries)))

    def is_with_redis(self) -> bool:
        before = self.unshared
        self.ask(limit(1))
        return self.unshared == before

    @property
    def unshared(self) -> float:
        return self.metrics.as_json()[f"waddlebot_{self.module}_rate_limits_unshared_total"]

    def logged(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == f"waddlebot.{self.module}"]


def many(limit: Limit, count: int) -> list[Request]:
    return [Request(new_id(), [limit]) for _ in range(count)]


def limit(per_minute: int, what: str = "you") -> Limit:
    """A limit that no other test has."""
    return Limit(f"test:{new_id()}", per_minute, what)


def settings(valkey: ValkeyServer) -> Settings:
    # As the operator, whoever the fleet of other tests in this process is.
    where = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": valkey.port}
    where |= {"REDIS_USERNAME": None, "REDIS_PASSWORD": valkey.password}
    return Settings(DATABASE_URL="postgresql://nobody@localhost/nothing", **where)


def impatient(port: int, password: str | None = None) -> redis.Redis:
    return redis.Redis(
        port=port,
        password=password,
        socket_timeout=0.2,
        socket_connect_timeout=0.2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


@pytest.fixture
def shared(stack: Stack) -> Replica:
    return Replica(open_redis(settings(stack.valkey)))


@pytest.fixture(params=["redis", "alone"])
def replica(request: pytest.FixtureRequest, shared: Replica) -> Replica:
    """The rules are the same without Redis."""
    return shared if request.param == "redis" else Replica(impatient(free_port()))


@pytest.fixture
def other(replica: Replica, shared: Replica, stack: Stack) -> Replica:
    """Another replica; there is none of a process that is alone."""
    return Replica(open_redis(settings(stack.valkey))) if replica is shared else replica


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that a test may kill."""
    server = ValkeyServer(tmp_path / "valkey", new_id())
    server.start()
    yield server
    server.stop()


def kill(server: ValkeyServer) -> None:
    assert server.process
    server.process.kill()
    server.process.wait()


def at_once(threads: int, work: Callable[[int], object]) -> list:
    barrier = threading.Barrier(threads)

    def start(n: int) -> object:
        barrier.wait()
        return work(n)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(start, range(threads)))


# The rules, with Redis and without


def test_exactly_the_limit_is_allowed_over_threads_and_replicas(replica, other):
    each = limit(100)
    replicas = [replica, other]
    allowed = at_once(8, lambda n: sum(replicas[n % 2].ask(each).allowed for _ in range(50)))
    assert sum(allowed) == 100


def test_a_refusal_names_its_limit_and_when_to_come_back(replica):
    everybody, you = limit(1, "everybody here"), limit(5)
    replica.ask(everybody, you)
    refused = replica.ask(you, everybody)
    assert not refused.allowed
    assert refused.limit == everybody
    assert 0 < refused.retry_after_s <= 60


def test_of_several_refusals_the_longest_is_named(replica):
    first, second = limit(1, "first"), limit(1, "second")
    replica.ask(first)
    replica.ask(second)
    assert replica.ask(first, second).limit == second
    assert replica.ask(second, first).limit == second


def test_all_limits_are_charged_or_none(replica):
    free, full = limit(3), limit(1)
    replica.ask(full)
    assert [replica.ask(free, full).allowed for _ in range(5)] == [False] * 5
    assert replica.allowed(free, 5) == 3


def test_requests_of_a_batch_see_each_other_in_order(replica):
    you, here = limit(2), limit(3)
    batch = [Request(new_id(), limits) for limits in ([you], [you, here], [you], [here], [here], [here])]
    assert [each.allowed for each in replica.limiter.reserve(batch)] == [True, True, False, True, True, False]


def test_an_id_is_reserved_once(replica, other):
    each, id_ = limit(2), new_id()
    assert all(who.ask(each, id_=id_).allowed for who in (replica, other, replica))
    assert replica.limiter.reserve([Request(id_, [each])] * 3) == [Decision(True)] * 3
    assert other.allowed(each, 3) == 1
    assert other.ask(each, id_=id_).allowed, "its own reservation filled the limit"


def test_a_refund_gives_back_one_and_only_once(replica, other):
    each = limit(2)
    requests = many(each, 2)
    replica.limiter.reserve(requests)
    for who in (replica, replica, other):
        who.limiter.refund(requests[:1])
    assert other.allowed(each, 3) == 1
    replica.limiter.refund(many(each, 2))
    assert other.allowed(each, 1) == 0


def test_a_refunded_id_can_be_reserved_again(replica):
    each = limit(1)
    request = Request(new_id(), [each])
    for _ in range(3):
        assert replica.limiter.reserve([request])[0].allowed
        assert not replica.ask(each).allowed
        replica.limiter.refund([request])


def test_unlimited_requests_keep_their_place_in_a_batch(replica):
    full, free = limit(1), limit(0)
    batch = [Request(new_id(), limits) for limits in ([free], [full], [], [free, full], [free])]
    decisions = replica.limiter.reserve(batch)
    assert [each.allowed for each in decisions] == [True, True, True, False, True]
    assert decisions[3].limit == full


def test_the_window_slides(replica):
    """Ask all the time for several windows: no window, wherever it starts, may have more than the limit."""
    replica = Replica(replica.client, window_s=SHORT_S)
    each = limit(4)
    asked, allowed = [], []
    while len(allowed) < 20:
        started = time.monotonic()
        if replica.ask(each).allowed:
            asked.append(started)
            allowed.append(time.monotonic())
    assert all(last - first >= SHORT_S for first, last in zip(asked, allowed[4:], strict=False))


def test_an_id_is_charged_anew_after_its_window(replica):
    replica = Replica(replica.client, window_s=SHORT_S)
    each, id_ = limit(2), new_id()
    replica.ask(each, id_=id_)
    replica.ask(each)
    eventually(lambda: replica.ask(each, id_=id_).allowed and replica.ask(each).allowed)
    assert not replica.ask(each).allowed


# Redis, and when it is away


def test_a_batch_is_one_round_trip_and_no_limits_are_none(shared):
    def calls() -> int:
        return sum(stats["calls"] for name, stats in shared.client.info("commandstats").items() if "eval" in name)

    shared.ask(limit(1))
    before = calls()
    shared.limiter.reserve([Request(new_id(), [limit(5), limit(5), limit(0)]) for _ in range(100)])
    assert calls() == before + 1
    unlimited = [Request(new_id(), [limit(0)]), Request(new_id(), [])]
    assert shared.limiter.reserve(unlimited) == [Decision(True)] * 2
    shared.limiter.refund(unlimited)
    assert shared.limiter.reserve([]) == []
    assert calls() == before + 1


def test_script_flush_costs_no_limit_and_no_outage(shared, caplog):
    each = limit(3)
    shared.ask(each)
    shared.client.script_flush()
    assert shared.allowed(each, 5) == 2
    shared.client.script_flush()
    shared.limiter.refund(many(each, 1))
    assert shared.allowed(each, 5) == 0
    assert shared.unshared == 0
    assert shared.logged(caplog) == []


def test_redis_forgets_by_itself(valkey):
    client = open_redis(settings(valkey))
    replica, hurried = Replica(client), Replica(client, window_s=SHORT_S)
    at_once(4, lambda _: replica.allowed(limit(5), 8))
    keys = client.keys(PREFIX + "*")
    assert len(keys) == 4
    assert all(client.pttl(key) > 0 for key in keys)
    client.delete(*keys)
    at_once(4, lambda _: hurried.allowed(limit(5), 8))
    eventually(lambda: client.dbsize() == 0)


def test_limits_hold_through_an_outage_and_after_it(valkey, caplog):
    caplog.set_level(logging.INFO)
    replica = Replica(open_redis(settings(valkey)))
    each = limit(6)
    before, during = many(each, 2), many(each, 2)
    replica.limiter.reserve(before)
    kill(valkey)
    assert all(decision.allowed for decision in replica.limiter.reserve(during))
    assert all(decision.allowed for decision in replica.limiter.reserve(before + during)), "they are reserved"
    assert replica.unshared == 6
    replica.limiter.refund(before[:1])
    valkey.start()

    other = Replica(open_redis(settings(valkey)))
    eventually(replica.is_with_redis)
    assert replica.logged(caplog) == ["rate_limits_unshared", "rate_limits_shared"]
    assert other.allowed(each, 9) == 3, "two before and two meanwhile, one of them refunded"
    replica.limiter.refund(during[:1])
    assert other.allowed(each, 9) == 1
    assert other.unshared == 0


def test_a_restart_that_nobody_noticed_costs_no_limit(valkey, caplog):
    one, two = (Replica(open_redis(settings(valkey))) for _ in range(2))
    each = limit(6)
    one.allowed(each, 2)
    two.allowed(each, 2)
    kill(valkey)
    valkey.start()
    two.ask(limit(1))
    assert one.allowed(each, 9) == 2
    assert two.allowed(each, 1) == 0
    assert (one.unshared, two.unshared) == (0, 0)
    assert one.logged(caplog) + two.logged(caplog) == []


def test_a_redis_that_was_only_silent_is_told_of_charges_and_refunds(valkey):
    replica = Replica(impatient(valkey.port, valkey.password))
    each = limit(6)
    before, during = many(each, 3), many(each, 2)
    replica.limiter.reserve(before)
    assert valkey.process
    os.kill(valkey.process.pid, signal.SIGSTOP)
    try:
        # The first of these may be charged in Redis too, when it comes round to it; they are the same reservations.
        assert all(decision.allowed for decision in replica.limiter.reserve(during))
        replica.limiter.refund(before[:2])
        assert replica.allowed(each, 1) == 1
    finally:
        os.kill(valkey.process.pid, signal.SIGCONT)
    eventually(replica.is_with_redis)
    assert Replica(open_redis(settings(valkey))).allowed(each, 9) == 2


def test_limits_hold_when_redis_is_killed_and_restarted_under_load(valkey):
    replica = Replica(open_redis(settings(valkey)))
    each = limit(3_000)
    allowed: list[str] = []
    killed, restarted = threading.Event(), threading.Event()

    def ask_until_refused() -> None:
        while True:
            id_ = new_id()
            if replica.ask(each, id_=id_).allowed:
                allowed.append(id_)
            elif restarted.is_set():
                return
            if len(allowed) > 1_000:
                killed.wait()
            if len(allowed) > 2_500:
                restarted.wait()

    def restart() -> None:
        try:
            eventually(lambda: len(allowed) > 200)
            kill(valkey)
            killed.set()
            eventually(lambda: replica.unshared > 100)
            valkey.start()
            eventually(replica.is_with_redis)
        finally:
            killed.set()
            restarted.set()

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_until_refused) for _ in range(8)]
        restart()  # In this thread: Valkey ends with the thread that started it.
        for each_one in asking:
            each_one.result()
    assert len(allowed) == 3_000
    assert replica.client.zcard(PREFIX + each.key) == 3_000


def test_a_dead_redis_is_tried_by_one_caller_at_a_time():
    """A server that takes connections and never answers: what tries it waits, so hardly anything may."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        replica = Replica(impatient(server.getsockname()[1]))
        started = time.monotonic()
        at_once(8, lambda _: [replica.ask(limit(1)) for _ in range(200)])
        outage_s = time.monotonic() - started
        server.setblocking(False)
        tried = 0
        with pytest.raises(BlockingIOError):
            while True:
                server.accept()[0].close()
                tried += 1
    assert replica.unshared == 1_600
    assert tried <= 8 + outage_s / RETRY_S, "all eight may find out by themselves, once"


def test_what_a_process_remembers_is_bounded(valkey):
    replica = Replica(impatient(valkey.port, valkey.password))
    kill(valkey)
    first, last = limit(1), limit(1)
    replica.ask(first)
    for _ in range(3):
        replica.limiter.reserve([Request(new_id(), [limit(1)]) for _ in range(MAX_REMEMBERED)])
    replica.ask(last)
    assert not replica.ask(last).allowed
    assert replica.ask(first).allowed, "the oldest is forgotten first"
    valkey.start()
    eventually(replica.is_with_redis)
    assert replica.client.dbsize() < 1.1 * MAX_REMEMBERED
    assert not replica.ask(last).allowed
