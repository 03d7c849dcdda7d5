"""What the benchmarks of Twitch share: a Twitch in a process of its own, a fleet on it, and deliveries."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg2
from waddlebot.base.manifest import all_manifests
from waddlebot.fleet.fleet import BASE_PORT
from waddlebot.web.http import HTTPClient

from bench.common import ROOT, RunningFleet, fleet
from simulators.twitch import Delivery

CHANNELS = 1000
SEED = """
WITH c AS (
    INSERT INTO communities (slug, name) SELECT 'bench-' || n, 'Bench ' || n FROM generate_series(1, %(channels)s) AS n
    RETURNING id, substr(slug, 7) AS channel
), s AS (
    INSERT INTO servers (platform, channel, name, community_id)
    SELECT 'twitch', channel, 'channel' || channel, id FROM c
)
INSERT INTO entities (entity_id, platform, channel_id, community_id)
SELECT 'twitch::' || channel, 'twitch', channel, id FROM c
"""


@dataclass(slots=True)
class RunningTwitch:
    process: subprocess.Popen[str]
    settings: dict[str, str]

    @property
    def url(self) -> str:
        return self.settings["TWITCH_API_BASE_URL"].removesuffix("/helix/")

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        raw = None if body is None else json.dumps(body).encode()
        answer = HTTPClient().request("GET" if body is None else "POST", f"{self.url}/_control/{path}", body=raw)
        if answer.status != 200:
            raise SystemExit(f"the simulator refuses {path}: {answer.body[:300]!r}")
        found: dict[str, Any] = answer.json()
        return found

    def run_traffic(self, **plan: Any) -> dict[str, Any]:
        """Run a plan of traffic to its end. Returns its report."""
        self.ask("traffic", plan)
        while not (report := self.ask("traffic"))["done"]:
            time.sleep(0.5)
        if report["failed"]:
            raise SystemExit(f"the traffic failed: {report['failed']}")
        return report


@contextlib.contextmanager
def twitch(*options: str) -> Iterator[RunningTwitch]:
    """A Twitch without limits unless options say otherwise."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators.twitch", "--points", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "\n")
        settings = dict(line.strip().split("=", 1) for line in lines)
        yield RunningTwitch(process, settings)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@contextlib.contextmanager
def fleet_on(running: RunningTwitch, *options: str, channels: int = CHANNELS, **more: str) -> Iterator[RunningFleet]:
    """A fleet on this Twitch that serves channels 1 to n, each in a community of its own."""
    with fleet(*options, environment={**running.settings, **more}) as ours:
        serve(ours, channels)
        running.ask("callback", {"url": webhook_of(ours, per_module="--per-module" in options)})
        yield ours


def serve(running: RunningFleet, channels: int) -> None:
    """Have channels 1 to n served, each in a community of its own."""
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(SEED, {"channels": channels})


def webhook_of(running: RunningFleet, *, per_module: bool) -> str:
    module = next(each for each in all_manifests() if each.name == "twitch")
    port = running.port + (module.port - BASE_PORT if per_module else 0)
    return f"http://127.0.0.1:{port}{module.prefix}/webhook"


def process_of(running: RunningFleet, module: str) -> psutil.Process:
    """The process of one module of a fleet with --per-module."""
    wanted = f"{module}_module"
    for each in running.tree.children():
        with contextlib.suppress(psutil.Error):  # One that has just ended.
            if each.environ().get("WADDLEBOT_MODULES") == wanted:
                return each
    raise SystemExit(f"{module} does not run")


@dataclass(frozen=True, slots=True)
class Taken:
    per_second: float
    p50_ms: float
    p99_ms: float


def deliver(url: str, deliveries: Sequence[Delivery], *, in_flight: int, per_s: float | None = None) -> Taken:
    """Post all of them, so many at once; every answer has to be 204. With `per_s` at that pace, timed from when due."""
    numbers = itertools.count()
    times: list[float] = []
    wrong: list[tuple[int, bytes]] = []

    def work() -> None:
        http = HTTPClient()
        while (number := next(numbers)) < len(deliveries):
            due = begun + number / per_s if per_s else time.perf_counter()
            time.sleep(max(0.0, due - time.perf_counter()))
            each = deliveries[number]
            answer = http.request("POST", url, body=each.body, headers=dict(each.headers))
            times.append(time.perf_counter() - due)
            if answer.status != 204:
                wrong.append((answer.status, answer.body))

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(deliveries)} were answered wrong, such as {wrong[0]!r}")
    times.sort()
    return Taken(len(deliveries) / took, times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3)


def lines_of_chat() -> list[str]:
    """What people might write: sentences of our own documents."""
    text = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
    words = [word for word in text.split() if word.isalpha()]
    return [" ".join(words[n : n + 8]) for n in range(0, len(words) - 8, 8)]
