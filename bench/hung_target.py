"""One target hangs while it is called 50 times a second: what the other commands notice of it.

Their times are taken while the target answers, while it hangs and its circuit is still closed, and once that is open.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from waddlebot.base.ids import new_id
from waddlebot.testing.module_stub import ModuleStub
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, event, fleet, table

BAR = 1.5
CALLS_PER_S = 50
HANGS_FOR_S = 30
OTHERS = '!inventory status "Blue Sword"'
OTHERS_PER_S = 15
FINE_S = 15
OPEN_S = 20
WINDOW_S = 2
PEOPLE = 1000


@dataclass(slots=True)
class Calls:
    """What was asked at a steady pace, whatever becomes of it."""

    running: RunningFleet
    headers: dict[str, str]
    text: str
    per_s: float
    times: list[tuple[float, float]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    people: Iterator[int] = field(default_factory=itertools.count)

    def run(self, seconds: float) -> None:
        local = threading.local()
        begun = time.monotonic()
        with ThreadPoolExecutor(100) as pool:
            for n in range(int(seconds * self.per_s)):
                due = begun + n / self.per_s
                time.sleep(max(0.0, due - time.monotonic()))
                pool.submit(self._ask, local, due)

    def _ask(self, local: threading.local, due: float) -> None:
        http = local.__dict__.setdefault("http", HTTPClient())
        # Many people: one person's commands wait for each other, and are limited to one a second.
        body = event(self.text, new_id(), f"viewer{next(self.people) % PEOPLE}")
        response = http.request("POST", f"{self.running.url}/router/events", body=body, headers=self.headers)
        self.times.append((due, time.monotonic() - due))
        self.outcomes[outcome(response.status, response.json())] += 1

    def p95_ms(self, since: float, until: float) -> float:
        times = sorted(took for due, took in self.times if since <= due < until)
        return times[int(len(times) * 0.95)] * 1e3 if times else float("nan")


def outcome(status: int, answer: dict[str, Any]) -> str:
    if status != 200:
        return f"HTTP {status}"
    (execution,) = answer["executions"]
    return str(execution["error"]["code"] if execution["error"] else execution["status"])


def register(running: RunningFleet, stub: ModuleStub) -> None:
    made = subprocess.run(
        [
            *(sys.executable, "-m", "waddlebot.cli.cli", "keys", "create", "--home", str(running.home)),
            *("--name", "stub", "--group", "services", "--module", "stub", "--json"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    headers = {"X-API-Key": json.loads(made.stdout)["api_key"], "Content-Type": "application/json"}
    command = {"command": "stub", "timeout": HANGS_FOR_S}
    body = {"module_name": "stub", "module_version": "1", "endpoint_url": stub.url, "commands": [command]}
    answer = HTTPClient().request(
        "POST", f"{running.url}/api/modules/register", body=json.dumps(body).encode(), headers=headers
    )
    assert answer.status == 200, answer.body
    installed = HTTPClient().request(
        "PUT",
        f"{running.url}/router/communities/demo/modules/stub",
        body=b'{"enabled": true}',
        headers=running.headers(),
    )
    assert installed.status == 200, installed.body


def print_windows(began: float, others: Calls, hung: Calls) -> None:
    spans = [(began + n, began + n + WINDOW_S) for n in range(0, FINE_S + HANGS_FOR_S + OPEN_S, WINDOW_S)]
    rows = [
        (f"{since - began:.0f} s", *(f"{each.p95_ms(since, until):.0f}" for each in (others, hung)))
        for since, until in spans
    ]
    table("By time", ("from", "others' p95 ms", "its p95 ms"), rows)


def main() -> None:
    stub, over = ModuleStub(), threading.Event()
    os.environ["MODULE_URLS"] = f"stub=http://{stub.address}"
    with fleet() as running:
        running.say('!inventory add "Blue Sword" "A shiny sword" weapons,rare')
        register(running, stub)
        headers = running.headers()
        others = Calls(running, headers, OTHERS, OTHERS_PER_S)
        hung = Calls(running, headers, "!stub", CALLS_PER_S)
        others.run(3)  # To warm up.
        others.times.clear()
        both = [threading.Thread(target=each.run, args=(FINE_S + HANGS_FOR_S + OPEN_S,)) for each in (others, hung)]
        began = time.monotonic()
        for thread in both:
            thread.start()
        time.sleep(FINE_S)
        stub.behaviour = lambda _: (over.wait(), (500, b""))[1]
        for thread in both:
            thread.join()
        over.set()
    stub.stop()
    hangs, opens = began + FINE_S, began + FINE_S + HANGS_FOR_S
    spans = {
        "it answers": (began, hangs),
        "it hangs": (hangs, opens),
        "its circuit is open": (opens, opens + OPEN_S),
    }
    before = others.p95_ms(*spans["it answers"])
    if os.environ.get("WINDOWS"):
        print_windows(began, others, hung)
    rows = [
        (name, f"{others.p95_ms(*span):.1f}", f"{hung.p95_ms(*span):.0f}", f"{others.p95_ms(*span) / before:.2f}")
        for name, span in spans.items()
    ]
    table(f"One target hangs, {CALLS_PER_S} calls a second", ("", "others' p95 ms", "its p95 ms", "ratio"), rows)
    print(f"  its calls: {dict(hung.outcomes)}; the others: {dict(others.outcomes)}")
    ratio = max(others.p95_ms(*span) / before for span in spans.values())
    print(f"  the others' p95 moves by {ratio:.2f}; the bar is {BAR}: {'met' if ratio <= BAR else 'MISSED'}")


if __name__ == "__main__":
    main()
