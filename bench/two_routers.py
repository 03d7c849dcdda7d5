"""Commands through one router process and through two on the same database and Valkey, beside what the cores allow.

Then the same with each router held to a small share of a core, so that there is room for a second one anywhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import all_manifests
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import Child, answers_200
from waddlebot.fleet.home import Home
from waddlebot.testing.routers import module_process

from bench.common import RunningFleet, cpu_seconds, event, fleet, run_load, table

BAR = 1.5
ROUNDS = 3
REQUESTS = 2000
IN_FLIGHT = 16  # For each router.
HELD_TO = 0.1
HELD_REQUESTS = 400
HELD_PERIOD_S = 0.05
COMMAND = '!inventory status "Blue Sword"'
# Enough people that nobody asks more often than once a second, which is the default limit.
PEOPLE = 400
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Measured:
    per_second: float
    # How many of the machine's cores all of us took: clients, routers, module, PostgreSQL, Valkey.
    cores: float

    @property
    def at_most(self) -> float:
        """How many times as much would take all cores, were there nobody else."""
        return CORES / self.cores


@contextlib.contextmanager
def second_router(running: RunningFleet) -> Iterator[Child]:
    """Another router beside the fleet's own."""
    manifest = next(each for each in all_manifests() if each.name == "router")
    made, _ = Home(running.home).load_secrets()
    environment = {
        **running.environment,
        "CORE_API_URL": running.url,
        "WADDLEBOT_ENCRYPTION_KEYS": made.encryption_keys,
        "ROUTER_WADDLEBOT_API_KEY": made.keys["router"],
        "LOG_DIR": str(running.home / "logs"),
        "LOG_ROLE": "second",
        "LOG_CONSOLE_LEVEL": "ERROR",
    }
    run_dir = running.home / "run" / "second"
    child = module_process(manifest, port=free_port(), environment=environment, run_dir=run_dir)
    child.start()
    try:
        until = time.monotonic() + 60
        while not all(answers_200(url) for url in child.ready_urls):
            if time.monotonic() > until:
                raise SystemExit("the second router did not start")
            time.sleep(0.1)
        yield child
    finally:
        child.stop()


def first_router(running: RunningFleet) -> int:
    """The process group of the fleet's own router."""
    found = (
        child.pid
        for child in running.tree.children(recursive=True)
        if "waddlebot.fleet.serve" in child.cmdline() and child.environ()["WADDLEBOT_MODULES"] == "router_module"
    )
    return os.getpgid(next(found))


@contextlib.contextmanager
def held(groups: Sequence[int]) -> Iterator[None]:
    """Let these process groups run for a share of each moment only, all at the same time."""
    over = threading.Event()

    def send(number: int) -> None:
        for group in groups:
            os.killpg(group, number)

    def hold() -> None:
        while not over.wait(HELD_PERIOD_S * HELD_TO):
            send(signal.SIGSTOP)
            over.wait(HELD_PERIOD_S * (1 - HELD_TO))
            send(signal.SIGCONT)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure(running: RunningFleet, urls: Sequence[str], requests: int) -> Measured:
    """As many commands as these routers carry together, each with its own clients."""

    def load(url: str) -> float:
        return run_load(
            f"{url}/router/events",
            lambda number: event(COMMAND, new_id(), name=f"viewer{number % PEOPLE}"),
            requests=requests,
            in_flight=IN_FLIGHT,
            headers=running.headers(),
            check=lambda answer: answer["executions"][0]["status"] in ("success", "pending"),
            process=running.tree,
        ).per_second

    here = psutil.Process()  # The fleet is its child.
    cpu, begun = cpu_seconds(here), time.monotonic()
    with ThreadPoolExecutor(len(urls)) as threads:
        per_second = sum(threads.map(load, urls))
    return Measured(per_second, (cpu_seconds(here) - cpu) / (time.monotonic() - begun))


def compare(title: str, pairs: Sequence[tuple[Measured, Measured]]) -> tuple[float, float]:
    """Print the rounds; return the medians of the ratios and of what the cores allow."""
    rows = [
        (n, f"{a.per_second:.0f}", f"{b.per_second:.0f}", f"{b.per_second / a.per_second:.2f}", f"{a.at_most:.2f}")
        for n, (a, b) in enumerate(pairs, 1)
    ]
    table(title, ("round", "one router", "two", "ratio", "cores allow"), rows)
    return statistics.median(b.per_second / a.per_second for a, b in pairs), statistics.median(
        a.at_most for a, _ in pairs
    )


def main() -> None:
    with fleet("--per-module") as running, second_router(running) as second:
        running.say('!inventory add "Blue Sword" "A shiny sword" weapons,rare')
        one = [running.url]
        two = [running.url, second.environment["MODULE_URL"]]

        def rounds(requests: int) -> list[tuple[Measured, Measured]]:
            return [(measure(running, one, requests), measure(running, two, requests)) for _ in range(ROUNDS)]

        measure(running, two, HELD_REQUESTS)
        free = rounds(REQUESTS)
        assert second.process is not None
        with held([first_router(running), second.process.pid]):
            slowed = rounds(HELD_REQUESTS)
    ratio, allowed = compare("Commands a second", free)
    held_ratio, held_allowed = compare(f"The same, each router held to {HELD_TO:.0%} of the time", slowed)
    print(f"  {CORES} cores allow at most {allowed:.2f} times one router, {held_allowed:.2f} when held")
    if allowed >= BAR:
        print(f"  median {ratio:.2f}; the bar is {BAR}: {'met' if ratio >= BAR else 'MISSED'}")
    elif held_allowed >= BAR:
        print(f"  median {held_ratio:.2f} when held; the bar is {BAR}: {'met' if held_ratio >= BAR else 'MISSED'}")
    else:
        print(f"  median {ratio:.2f}, {held_ratio:.2f} when held; these cores leave no room for the bar of {BAR}")


if __name__ == "__main__":
    main()
