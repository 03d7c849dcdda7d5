"""A community module on this fleet's own host beside a core module's command, in turns; and how long
its first call takes in a community that has no process of it yet."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any
from urllib.parse import quote

import psycopg2
from waddlebot.base.ids import new_id
from waddlebot.fleet.home import Home
from waddlebot.module.package import pack, read_package
from waddlebot.testing.module_host import FleetSide, call_of
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, event, fleet, table

BAR_MS = 15
ROUNDS = 3
TURNS, WARM_UP = 150, 10
COLD = 30
CORE, COMMUNITY = '!inventory status "Blue Sword"', "#dice 2d6"
MANIFEST = """
name = "dice"
title = "Dice"
version = "1.0.0"
description = "Rolls dice"
[[commands]]
command = "dice"
"""
HANDLER = """
import random

def handler(event, context):
    count, _, sides = event["trigger"]["args"][0].partition("d")
    return f"You rolled {sum(random.randint(1, int(sides)) for _ in range(int(count)))}."
"""


def main() -> None:
    side = FleetSide()
    content = pack({"module.toml": MANIFEST.encode(), "handler.py": HANDLER.encode()})
    sha256 = read_package(content).sha256
    side.packages[sha256] = content
    try:
        with fleet(environment={"MODULES_PACKAGES_URL": f"{side.url}/marketplace/packages"}) as running:
            running.say('!inventory add "Blue Sword" "A shiny sword" weapons,rare')
            install(running, f"dice:1.0.0:{sha256}")
            rounds = [measure(running) for _ in range(ROUNDS)]
            cold, warm = measure_cold(running, f"dice:1.0.0:{sha256}")
    finally:
        side.stop()
    rows = [(str(n), f"{core:.1f}", f"{ours:.1f}", f"{ours - core:.1f}") for n, (core, ours) in enumerate(rounds, 1)]
    table(f"{TURNS} times in turns, p50 in ms", ("round", CORE, COMMUNITY, "more"), rows)
    more = statistics.median(ours - core for core, ours in rounds)
    print(f"  median {more:.1f} ms more; the bar is {BAR_MS} ms: {'met' if more <= BAR_MS else 'MISSED'}")
    print(f"  at the host: a first call p50 {cold:.1f} ms, any other p50 {warm:.2f} ms")


def install(running: RunningFleet, function: str) -> None:
    """As the marketplace does it."""
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE commands DROP CONSTRAINT IF EXISTS commands_type_check")
    made = subprocess.run(
        [
            *(sys.executable, "-m", "waddlebot.cli.cli", "keys", "create", "--home", str(running.home), "--json"),
            *("--name", "dice", "--group", "services", "--module", "dice"),
        ],
        check=True,
        capture_output=True,
    )
    command = {"command": "dice", "prefix": "#", "type": "local", "location_url": function}
    registration = {"module_name": "dice", "module_version": "1.0.0", "endpoint_url": "", "commands": [command]}
    key = json.loads(made.stdout)["api_key"]
    ask(f"{running.url}/api/modules/register", "POST", registration, key)
    key = running.headers()["X-API-Key"]
    ask(f"{running.url}/router/communities/demo/modules/dice", "PUT", {"enabled": True}, key)


def ask(url: str, method: str, body: Any, key: str) -> Any:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    answer = HTTPClient().request(method, url, body=json.dumps(body).encode(), headers=headers)
    if answer.status != 200:
        raise SystemExit(f"{url} answered {answer.status}: {answer.body[:300]!r}")
    return answer.json()


def measure(running: RunningFleet) -> tuple[float, float]:
    """p50 in ms of both commands."""
    http, took = HTTPClient(), {CORE: [], COMMUNITY: []}
    for n in range(TURNS + WARM_UP):
        for command, times in took.items():
            body = event(command, new_id(), name=f"viewer{n}")
            began = time.perf_counter()
            answer = http.request("POST", f"{running.url}/router/events", body=body, headers=running.headers()).json()
            status = answer["executions"][0]["status"]
            if n < WARM_UP and status == "pending":
                continue  # The host starts.
            if status != "success" or not answer["responses"]:
                raise SystemExit(f"{command} was answered {answer}")
            if n >= WARM_UP:
                times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took[CORE]), statistics.median(took[COMMUNITY])


def measure_cold(running: RunningFleet, function: str) -> tuple[float, float]:
    """p50 in ms of the first call in a community, and of the next ones."""
    made, _is_new = Home(running.home).load_secrets()
    url = f"{running.environment['MODULE_HOST_URL']}/2015-03-31/functions/{quote(function)}/invocations"
    headers, http = {"X-API-Key": made.module_host_key}, HTTPClient()
    first, others = [], []
    for n in range(COLD):
        for times in (first, others, others, others):
            body = json.dumps(call_of("http://127.0.0.1:9", "dice", "2d6", community=1000 + n)).encode()
            began = time.perf_counter()
            answer = http.request("POST", url, body=body, headers=headers)
            times.append((time.perf_counter() - began) * 1e3)
            if answer.status != 200 or not answer.json()["responses"]:
                raise SystemExit(f"the host answered {answer.status}: {answer.body[:300]!r}")
    return statistics.median(first), statistics.median(others)


if __name__ == "__main__":
    main()
