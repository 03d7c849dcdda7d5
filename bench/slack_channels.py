"""1 000 Slack channels on one collector process: replies, memory, and slash commands while the router hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import psycopg2
from waddlebot.fleet.embedded import free_port

from bench.common import ROOT, RunningFleet, cpu_seconds, fleet, pss_mb, server, table

PER_S = 200
CHANNELS = 1000
PEOPLE = 5000
SECONDS, FULL_SECONDS = 60, 300
MEMORY_EVENTS, FULL_MEMORY_EVENTS = 40_000, 200_000
MEMORY_PER_S = 400
REPLY_BAR_MS = 500
ACK_BAR_MS = 500
GROWTH_BAR = 1.1
SLASH_PER_S, SLASH_SECONDS = 20, 15


class Slack:
    """A simulated Slack in a process of its own."""

    def __init__(self, port: int, settings: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.settings = settings

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(f"{self.url}/_control/{path}", data, timeout=3600) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def load(self, **options: Any) -> dict[str, Any]:
        return self.ask("load", **{"channels": CHANNELS, "people": PEOPLE, "share": 0.05, **options})


@contextlib.contextmanager
def slack() -> Iterator[Slack]:
    port = free_port()
    command = [sys.executable, "-m", "simulators.slack", "--port", str(port), "--events-url", "http://127.0.0.1:9/"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        settings = dict(process.stdout.readline().strip().split("=", 1) for _ in range(7))
        yield Slack(port, settings)
    finally:
        process.terminate()
        process.wait(10)


def process_of(running: RunningFleet, module: str) -> psutil.Process:
    return next(each for each in running.tree.children() if each.environ().get("WADDLEBOT_MODULES") == module)


def freeze(process: psutil.Process, signal_number: int) -> None:
    for each in [process, *process.children(recursive=True)]:
        each.send_signal(signal_number)


def floor_ack(simulator: Slack, running: RunningFleet) -> dict[str, Any]:
    """The same posts to a bare app that commits one INSERT for each."""
    url = running.environment["DATABASE_URL"]
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS floor_rows (id bigserial PRIMARY KEY, body text)")
    port = free_port()
    with server("bench.floor:app", port, {"DATABASE_URL": url}):
        simulator.ask("set", events_url=f"http://127.0.0.1:{port}/slack/events")
        return simulator.load(per_s=PER_S, seconds=10, share=0)


def answered(simulator: Slack, since: int) -> int:
    messages = simulator.ask(f"messages?since={since}")["messages"]
    return sum(each["via"] == "response_url" for each in messages)


def hung_router(simulator: Slack, running: RunningFleet) -> tuple[dict[str, Any], int, int]:
    """Slash commands while the router stands still, and how many of them are answered when it goes on."""
    first = simulator.ask("messages")["total"]
    router = process_of(running, "router_module")
    freeze(router, signal.SIGSTOP)
    try:
        acks = simulator.load(
            slash=True, per_s=SLASH_PER_S, seconds=SLASH_SECONDS, share=1, commands=["inventory list"], patience_s=0
        )
    finally:
        freeze(router, signal.SIGCONT)
    given = SLASH_PER_S * SLASH_SECONDS
    until = time.monotonic() + 60
    while answered(simulator, first) < given and time.monotonic() < until:
        time.sleep(0.5)
    time.sleep(3)  # A second answer would come now.
    return acks, given, answered(simulator, first)


def met(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def main(*, full: bool = False) -> None:
    seconds, memory_events = (FULL_SECONDS, FULL_MEMORY_EVENTS) if full else (SECONDS, MEMORY_EVENTS)
    with slack() as simulator:
        os.environ.update(simulator.settings)
        with fleet("--per-module") as running:
            floor = floor_ack(simulator, running)
            simulator.ask("set", events_url=f"http://127.0.0.1:{running.port + 4}/slack/events", channel_pause_s=1.0)
            simulator.load(per_s=50, seconds=10)
            collector = process_of(running, "slack_module")
            cpu = cpu_seconds(collector)
            load = simulator.load(per_s=PER_S, seconds=seconds)
            cpu = (cpu_seconds(collector) - cpu) / load["sent"] * 1000
            acks, given, answers = hung_router(simulator, running)
            early, late = memory_over(memory_events, simulator, collector)
    report(floor, load, cpu)
    is_lost, is_doubled = load["lost"], load["doubled"]
    print(f"  lost {is_lost}, doubled {is_doubled}: {met(not (is_lost or is_doubled))}")
    print(
        f"  p99 of a reply {load['reply_p99_ms']} ms; bar {REPLY_BAR_MS}: {met(load['reply_p99_ms'] <= REPLY_BAR_MS)}"
    )
    ratio = acks["ack_p99_ms"] / floor["ack_p99_ms"]
    print(
        f"  slash while the router hangs: {acks['statuses']}, p99 {acks['ack_p99_ms']} ms, {ratio:.1f} times the"
        f" floor's; bar {ACK_BAR_MS}: {met(acks['ack_p99_ms'] <= ACK_BAR_MS)}"
    )
    print(f"  then {answers} of {given} are answered: {met(answers == given)}")
    print(
        f"  memory of the collector {early:.0f} MB after a tenth of {memory_events} events, {late:.0f} MB at the end;"
        f" bar {GROWTH_BAR}x: {met(late <= early * GROWTH_BAR)}"
    )


def memory_over(events: int, simulator: Slack, collector: psutil.Process) -> tuple[float, float]:
    seconds = events / MEMORY_PER_S
    simulator.load(per_s=MEMORY_PER_S, seconds=seconds / 10, share=0.01)
    early = pss_mb(collector)
    simulator.load(per_s=MEMORY_PER_S, seconds=seconds * 0.9, share=0.01)
    return early, pss_mb(collector)


def report(floor: dict[str, Any], load: dict[str, Any], cpu: float) -> None:
    rows = [
        ("floor", floor["sent"], floor["ack_p50_ms"], floor["ack_p99_ms"], "", "", ""),
        (
            "collector",
            load["sent"],
            load["ack_p50_ms"],
            load["ack_p99_ms"],
            load["reply_p50_ms"],
            load["reply_p99_ms"],
            f"{cpu:.2f}",
        ),
    ]
    head = ("", "messages", "ack p50 ms", "ack p99 ms", "reply p50 ms", "reply p99 ms", "CPU s/1000")
    table(f"{CHANNELS} Slack channels, {PER_S} messages a second, 5 % commands", head, rows)
    print(f"  statuses {load['statuses']}; {load['commands']} commands")


if __name__ == "__main__":
    main(full=sys.argv[1:] == ["full"])
