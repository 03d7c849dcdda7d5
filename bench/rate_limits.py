"""A reservation beside a script call with the same keys that does nothing: one thread, the fleet's own Valkey."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import redis
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.metrics import Metrics
from waddlebot.base.settings import Settings
from waddlebot.data.cache import open_redis
from waddlebot.data.ratelimit import PREFIX, Limit, RateLimiter, Request
from waddlebot.fleet.embedded import ValkeyServer

from bench.common import table

T = TypeVar("T")

BAR = 1.3
# A machine that others use changes its speed many times a second, so the two take turns more often than that.
ROUNDS, CALLS = 200, 50
PEOPLE, PLACES = 5_000, 1_000


def requests(count: int, limits: int) -> list[Request]:
    """Commands of people who take turns, in places that take turns. None is refused: that would be less work."""
    made = []
    for n in range(count):
        person, place = n % PEOPLE, n % PLACES
        you = Limit(f"user:{person}:!inventory:{place}", 1_000, "you")
        others = Limit(f"command:!inventory:{place}", 10_000, "this"), Limit(f"entity:{place}", 10_000, "everybody")
        made.append(Request(new_id(), (you, *others)[:limits]))
    return made


def split(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start:end] for start, end in pairwise(range(0, len(values) + 1, size))]


def microseconds(call: Callable[[T], object], arguments: Sequence[T]) -> float:
    started = time.perf_counter()
    for argument in arguments:
        call(argument)
    return (time.perf_counter() - started) / len(arguments) * 1e6


def measure(client: redis.Redis, *, limits: int, batch: int, rounds: int) -> tuple[float, float, float]:
    """Microseconds of nothing and of a reservation, and the median of their ratios in each round."""
    limiter = RateLimiter(client, AAALog("bench", "1"), Metrics("bench"))
    nothing = client.register_script("return {}")
    pairs = []
    asked = requests(rounds * CALLS * batch, limits)
    for calls in split(split(asked, batch), CALLS):
        keys = [[PREFIX + limit.key for request in call for limit in request.limits] for call in calls]
        pairs.append((microseconds(nothing, keys), microseconds(limiter.reserve, calls)))
        if not all(decision.allowed for call in calls for decision in limiter.reserve(call)):
            raise SystemExit("a request was refused that was far from its limits")
    client.flushall()
    floor, ours = (statistics.median(each) for each in zip(*pairs, strict=True))
    return floor, ours, statistics.median(own / bare for bare, own in pairs)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        valkey = ValkeyServer(Path(folder), new_id())
        valkey.start()
        try:
            where = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": valkey.port, "REDIS_PASSWORD": valkey.password}
            client = open_redis(Settings(DATABASE_URL="postgresql://nobody@localhost/nothing", **where))
            one, three = (measure(client, limits=limits, batch=1, rounds=ROUNDS) for limits in (1, 3))
            hundred = measure(client, limits=3, batch=100, rounds=4)
        finally:
            valkey.stop()
    rows = [
        (what, f"{floor:.0f}", f"{ours:.0f}", f"{ratio:.2f}", verdict)
        for what, (floor, ours, ratio), verdict in (
            ("1 limit", one, "met" if one[2] <= BAR else "MISSED"),
            ("3 limits", three, "met" if three[2] <= BAR else "MISSED"),
            ("batch of 100, 3 limits", hundred, ""),
        )
    ]
    head = ("a reservation of", "no-op µs", "ours µs", "ratio", f"bar {BAR}")
    table("Rate limits, one call from one thread", head, rows)


if __name__ == "__main__":
    main()
