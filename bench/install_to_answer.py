"""From `!module install` until the new command has answered in chat, for the examples on the fleet's own host.

The first row is a fleet that has run no module yet; `published` is how long before that its first package came.
"""

from __future__ import annotations

import json
import statistics
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from waddlebot.base.ids import new_id
from waddlebot.module.package import pack_folder
from waddlebot.web.http import HTTPClient

from bench.common import ROOT, RunningFleet, event, fleet, table

BAR_MS = 1000
EXAMPLES = Path(ROOT) / "examples" / "community_modules"
TALKS = {"game": "rock", "weather": "Tokyo may", "translate": "es hello", "quote": "add Ship it", "giveaway": ""}
AGAIN = 3
WAITS_S = 30


def main() -> None:
    with fleet() as running:
        http = HTTPClient()
        began = time.perf_counter()
        for name in TALKS:
            body = json.dumps({"package": b64encode(pack_folder(EXAMPLES / name)).decode()}).encode()
            answer = http.request("POST", f"{running.url}/marketplace/modules", body=body, headers=running.headers())
            if answer.status != 200:
                raise SystemExit(f"{name} is not published: {answer.body[:300]!r}")
        published_ms = (time.perf_counter() - began) * 1e3
        rows, took = [["published", f"{published_ms:.0f}", ""]], []
        for round_ in range(AGAIN):
            for name, words in TALKS.items():
                ms = install(http, running, name, words)
                if round_ or took:
                    took.append(ms)
                else:
                    took = [ms]
                rows.append([f"{name}, round {round_ + 1}", f"{ms:.0f}", str(BAR_MS)])
    table("from !module install to the answer", ["module", "ms", "bar"], rows)
    worst = max(took)
    print(f"  p50 {statistics.median(took):.0f} ms, worst {worst:.0f} ms: {'met' if worst <= BAR_MS else 'MISSED'}")


def install(http: HTTPClient, running: RunningFleet, name: str, words: str) -> float:
    say(http, running, f"!module remove {name}")
    began = time.perf_counter()
    say(http, running, f"!module install {name} yes")
    command = f"#{name} {words}".strip()
    while time.perf_counter() - began < WAITS_S:
        answer = say(http, running, command)
        if [each["status"] for each in answer["executions"]] == ["success"]:
            return (time.perf_counter() - began) * 1e3
    raise SystemExit(f"{command} was answered {answer}")


def say(http: HTTPClient, running: RunningFleet, text: str) -> dict[str, Any]:
    """The answer to one line, once nothing of it is pending."""
    body = event(text, new_id(), name="owner")
    for _ in range(int(WAITS_S / 0.02)):
        answer = http.request("POST", f"{running.url}/router/events", body=body, headers=running.headers()).json()
        if all(each["status"] != "pending" for each in answer["executions"]):
            return dict(answer)
        time.sleep(0.02)
    raise SystemExit(f"{text} is pending for ever")


if __name__ == "__main__":
    main()
