"""Twitch's webhook beside a bare one: deliveries a second, and acknowledgements while the router is away."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import psycopg2
from waddlebot.fleet.embedded import free_port

from bench.common import RunningFleet, cpu_seconds, server, table
from bench.twitch import CHANNELS, Taken, deliver, fleet_on, lines_of_chat, process_of, twitch, webhook_of
from simulators.twitch import Delivery, TwitchSimulator

RATIO_BAR = 0.6
P99_BAR = 3.0
IN_FLIGHT = 16
ROUNDS = 3
DELIVERIES = 3000
PACED_S = 10
PEOPLE = 20_000


class Chat:
    """Signed messages that nobody has seen yet. They are fresh for ten minutes, so each round makes its own."""

    def __init__(self, secret: str) -> None:
        self._twitch = TwitchSimulator(secret=secret)
        self._dice = random.Random(1)
        self._lines = lines_of_chat()
        self._numbers = itertools.count()

    def make(self, count: int) -> list[Delivery]:
        return [self._message() for _ in range(count)]

    def _message(self) -> Delivery:
        return self._twitch.chat_message(
            str(1 + self._dice.randrange(CHANNELS)),
            self._dice.choice(self._lines),
            chatter=str(10_000_000 + self._dice.randrange(PEOPLE)),
            name=f"Viewer{next(self._numbers) % PEOPLE}",
        )


def main(deliveries: int = DELIVERIES) -> None:
    with twitch() as platform, fleet_on(platform, "--per-module") as running, contextlib.ExitStack() as stack:
        database = running.environment["DATABASE_URL"]
        with psycopg2.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE floor_rows (id text PRIMARY KEY, body text)")
        port = free_port()
        secret = platform.settings["TWITCH_WEBHOOK_SECRET"]
        environment = {"DATABASE_URL": database, "TWITCH_WEBHOOK_SECRET": secret}
        floor = stack.enter_context(server("bench.twitch_floor:app", port, environment))
        ours, bare = webhook_of(running, per_module=True), f"http://127.0.0.1:{port}/"
        chat = Chat(secret)
        for url in (bare, ours):
            deliver(url, chat.make(1000), in_flight=IN_FLIGHT)
        speed = throughput(chat, ours, bare, floor, running, deliveries)
        acknowledgements(chat, ours, running, speed / 2)


def throughput(
    chat: Chat, ours: str, bare: str, floor: psutil.Process, running: RunningFleet, deliveries: int
) -> float:
    """Returns the fleet's median of deliveries a second.

    The intake is measured while the router is held, so that it has the machine to itself as the bare app has; then
    with all that follows from a delivery going on beside it.
    """
    rows, ratios, speeds = [], [], []
    database = next(each for each in running.tree.children() if each.name() == "postgres")
    for number in range(1, ROUNDS + 1):
        settle(running)
        measured = {"bare": measure(bare, chat.make(deliveries), floor, database)}
        with hanging(running):
            module = process_of(running, "twitch")
            measured["intake"] = measure(ours, chat.make(deliveries), module, database)
        settle(running)
        measured["and forwarding"] = measure(ours, chat.make(deliveries), running.tree)
        for name, (taken, cpu_s) in measured.items():
            of_bare = f"{taken.per_second / measured['bare'][0].per_second:.2f}"
            rows.append((f"{number} {name}", *row(taken), f"{cpu_s:.2f}", "" if name == "bare" else of_bare))
        ratios.append(measured["intake"][0].per_second / measured["bare"][0].per_second)
        speeds.append(measured["and forwarding"][0].per_second)
    table(
        f"Webhook intake, {IN_FLIGHT} in flight, {CHANNELS} channels",
        ("round", "per s", "p50 ms", "p99 ms", "CPU s/1000", "ratio"),
        rows,
    )
    ratio = statistics.median(ratios)
    print(f"  median {ratio:.2f} of the bare one; the bar is {RATIO_BAR}: {verdict(ratio >= RATIO_BAR)}")
    return statistics.median(speeds)


def measure(url: str, deliveries: list[Delivery], *processes: psutil.Process) -> tuple[Taken, float]:
    """How they were taken, and what 1 000 of them cost these processes."""
    before = sum(cpu_seconds(each) for each in processes)
    taken = deliver(url, deliveries, in_flight=IN_FLIGHT)
    used = sum(cpu_seconds(each) for each in processes) - before
    return taken, used / len(deliveries) * 1000


def acknowledgements(chat: Chat, url: str, running: RunningFleet, per_s: float) -> None:
    """At a steady pace: with the router up, with a router that hangs, and with one that is dead."""
    states: list[tuple[str, Callable[[RunningFleet], contextlib.AbstractContextManager[None]]]] = [
        ("up", as_it_is),
        ("hanging", hanging),
        ("dead", dead),
    ]
    found: dict[str, list[Taken]] = {name: [] for name, _ in states}
    rows = []
    for number in range(1, ROUNDS + 1):
        for name, state in states:
            settle(running)
            with state(running):
                taken = deliver(url, chat.make(int(per_s * PACED_S)), in_flight=IN_FLIGHT * 2, per_s=per_s)
            found[name].append(taken)
            rows.append((f"{number} {name}", *row(taken)))
    table(f"Acknowledgements at {per_s:.0f} a second", ("router", "per s", "p50 ms", "p99 ms"), rows)
    up = statistics.median(taken.p99_ms for taken in found["up"])
    for name in ("hanging", "dead"):
        slower = statistics.median(taken.p99_ms for taken in found[name]) / up
        print(
            f"  {name}: p99 {slower:.1f} times of that with it up; the bar is {P99_BAR}: {verdict(slower <= P99_BAR)}"
        )


@contextlib.contextmanager
def as_it_is(_: RunningFleet) -> Iterator[None]:
    yield


@contextlib.contextmanager
def hanging(running: RunningFleet) -> Iterator[None]:
    """A router that takes connections and answers nothing."""
    router = process_of(running, "router")
    stopped = [router, *router.children(recursive=True)]
    for each in stopped:
        each.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in stopped:
            each.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def dead(running: RunningFleet) -> Iterator[None]:
    """No router at all: it is killed, and the supervisor is kept from starting it again."""
    supervisor, router = running.tree, process_of(running, "router")
    supervisor.suspend()
    try:
        for each in [*router.children(recursive=True), router]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        yield
    finally:
        supervisor.resume()


def settle(running: RunningFleet) -> None:
    """Wait until everything that came in before has been forwarded."""
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            cursor.execute("SELECT count(*) FROM twitch_events WHERE state IN ('pending', 'forwarding')")
            if cursor.fetchone() == (0,):
                return
            connection.commit()
            time.sleep(0.2)
    raise SystemExit("what came in was not forwarded within two minutes")


def row(taken: Taken) -> tuple[str, str, str]:
    return f"{taken.per_second:.0f}", f"{taken.p50_ms:.1f}", f"{taken.p99_ms:.1f}"


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DELIVERIES)
