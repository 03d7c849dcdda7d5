"""A thousand channels: chat and commands at a steady pace, from the webhook to the reply in Helix, all of it counted.

`python -m bench.twitch_channels full` takes five minutes, and then sends 200 000 events for the memory.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import psycopg2

from bench.common import RunningFleet, cpu_seconds, pss_mb, table
from bench.twitch import CHANNELS, RunningTwitch, fleet_on, twitch

PER_S = 200
SECONDS, FULL_SECONDS = 30, 300
EVENTS, FULL_EVENTS = 0, 200_000
REPLY_BAR_MS = 500.0
COMMANDS = 0.05
COMMAND = "!inventory list"
# How much more memory there may be at the end than after the first tenth.
MAX_GROWTH = 1.1
# Caches fill up once, and new people cost most; neither is what is measured.
WARM_UP = 2000
# What a verified bot may say in 30 s, on both sides.
VERIFIED = {"TWITCH_SEND_LIMIT": "7500"}


def main(*, full: bool = False) -> None:
    seconds, events = (FULL_SECONDS, FULL_EVENTS) if full else (SECONDS, EVENTS)
    with twitch("--verified", "--no-echoes") as platform, fleet_on(platform, "--per-module", **VERIFIED) as running:
        send(platform, running, WARM_UP, PER_S)
        before = cpu_seconds(running.tree)
        report = send(platform, running, PER_S * seconds, PER_S)
        show(report, cpu_seconds(running.tree) - before)
        if events:
            memory(platform, running, events)


def send(platform: RunningTwitch, running: RunningFleet, count: int, per_s: float | None) -> dict[str, Any]:
    report = platform.run_traffic(
        count=count, per_s=per_s, channels=CHANNELS, commands=COMMANDS, command=COMMAND, settle_s=30
    )
    states = count_events(running)
    if states.keys() - {"forwarded"}:
        raise SystemExit(f"some events ended otherwise than forwarded: {states}")
    return report


def count_events(running: RunningFleet) -> dict[str, int]:
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT state, count(*) FROM twitch_events GROUP BY state")
        return dict(cursor.fetchall())


def show(report: dict[str, Any], cpu_s: float) -> None:
    reply, ack, lag = report["reply_ms"], report["ack_ms"], report["lag_ms"]
    rows = [
        (name, f"{times['p50']:.0f}", f"{times['p90']:.0f}", f"{times['p99']:.0f}", f"{times['max']:.0f}")
        for name, times in (("reply", reply), ("acknowledgement", ack), ("simulator late by", lag))
    ]
    table(
        f"{report['sent']} messages in {CHANNELS} channels, {PER_S} a second", ("ms", "p50", "p90", "p99", "max"), rows
    )
    doubled = report["doubled"] + report["unexpected"]
    lost = report["lost"] + report["lost_deliveries"]
    print(f"  {report['commands']} commands: lost {lost}, doubled {doubled}: {verdict(not lost and not doubled)}")
    met = reply["p99"] <= REPLY_BAR_MS
    print(f"  p99 of a reply {reply['p99']:.0f} ms; the bar is {REPLY_BAR_MS:.0f} ms: {verdict(met)}")
    print(f"  CPU of the fleet {cpu_s / report['sent'] * 1000:.2f} s for 1000 messages", flush=True)


def memory(platform: RunningTwitch, running: RunningFleet, events: int) -> None:
    """As fast as it is taken, with the same share of commands; the database's memory is left out."""
    started = time.monotonic()
    send(platform, running, events // 10, None)
    early = memory_of(running)
    report = send(platform, running, events - events // 10, None)
    late = memory_of(running)
    lost, doubled = report["lost"] + report["lost_deliveries"], report["doubled"] + report["unexpected"]
    rows = [(name, f"{early[name]:.0f}", f"{late[name]:.0f}", f"{late[name] / early[name]:.2f}") for name in early]
    took = time.monotonic() - started
    table(f"Memory over {events} events in {took:.0f} s", ("process", "MB early", "MB at the end", "ratio"), rows)
    growth = sum(late.values()) / sum(early.values())
    print(f"  lost {lost}, doubled {doubled}: {verdict(not lost and not doubled)}")
    print(f"  all together {growth:.2f}; the bar is {MAX_GROWTH}: {verdict(growth <= MAX_GROWTH)}")


def memory_of(running: RunningFleet) -> dict[str, float]:
    """Of the modules' processes, without that of PostgreSQL and Valkey."""
    found = {each.environ().get("WADDLEBOT_MODULES", ""): each for each in running.tree.children()}
    return {name: pss_mb(process) for name, process in found.items() if name}


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main(full=sys.argv[1:] == ["full"])
