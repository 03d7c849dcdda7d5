"""The fleet beside a TwitchIO 3 bot with one command, on one Twitch, each with channels of its own.

TwitchIO has none of our rules, storage, limits and points, and hears by WebSocket, which nobody acknowledges: what it
holds when it dies is gone. It is installed into a Python of its own for as long as this runs.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.common import ROOT, cpu_seconds, table
from bench.twitch import RunningTwitch, fleet_on, twitch

TWITCHIO = "twitchio==3.3.2"
# What one WebSocket session can have.
CHANNELS = 300
THEIRS_FROM = 1001
ROUNDS = 3
MIXED, COMMANDS = 6000, 1000
MIX = 0.05
MIXED_GOAL, COMMANDS_GOAL = 1.0, 0.5
BOT_SCOPES = ["user:bot", "user:read:chat", "user:write:chat"]
# Neither side is to wait for what Twitch allows.
UNLIMITED = {"TWITCH_SEND_LIMIT": "1000000"}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        twitch("--no-echoes") as platform,
        fleet_on(platform, "--per-module", channels=CHANNELS, **UNLIMITED) as running,
        twitchio_bot(platform, install(Path(folder))) as theirs,
    ):
        sides = {
            "TwitchIO": (THEIRS_FROM, lambda: cpu_seconds(theirs)),
            "fleet": (1, lambda: cpu_seconds(running.tree)),
        }
        for first, _ in sides.values():
            send(platform, first, count=1000, share=0.2)
        compare(platform, sides, f"{MIX:.0%} commands", count=MIXED, share=MIX, goal=MIXED_GOAL)
        compare(platform, sides, "commands alone", count=COMMANDS, share=1.0, goal=COMMANDS_GOAL)


def compare(
    platform: RunningTwitch,
    sides: dict[str, tuple[int, Callable[[], float]]],
    title: str,
    *,
    count: int,
    share: float,
    goal: float,
) -> None:
    rows, ratios = [], []
    for number in range(1, ROUNDS + 1):
        speeds = {}
        for name, (first, cpu) in sides.items():
            before = cpu()
            report = send(platform, first, count=count, share=share)
            used = (cpu() - before) / count * 1000
            speeds[name] = report["per_s"]
            reply = report["reply_ms"]
            times = f"{reply['p50']:.0f}", f"{reply['p99']:.0f}"
            rows.append((f"{number} {name}", f"{report['per_s']:.0f}", *times, f"{used:.2f}"))
        ratios.append(speeds["fleet"] / speeds["TwitchIO"])
    table(
        f"{count} messages, {title}, {CHANNELS} channels each",
        ("round", "messages/s", "reply p50 ms", "p99 ms", "CPU s/1000"),
        rows,
    )
    ratio = statistics.median(ratios)
    print(f"  median {ratio:.2f} of TwitchIO; the goal is {goal}: {'met' if ratio >= goal else 'MISSED'}", flush=True)


def send(platform: RunningTwitch, first: int, *, count: int, share: float) -> dict[str, Any]:
    report = platform.run_traffic(
        count=count,
        per_s=None,
        channels=CHANNELS,
        first_channel=first,
        commands=share,
        command="!inventory list",
        settle_s=30,
    )
    wrong = {name: report[name] for name in ("lost", "doubled", "unexpected", "lost_deliveries") if report[name]}
    if wrong:
        raise SystemExit(f"not every command was answered once: {wrong} of {report['commands']}")
    return report


def install(folder: Path) -> Path:
    """TwitchIO in a virtual environment. Returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TWITCHIO]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"{TWITCHIO} cannot be installed, so there is nothing to stand beside")
    return python


@contextlib.contextmanager
def twitchio_bot(platform: RunningTwitch, python: Path) -> Iterator[psutil.Process]:
    bot_id = platform.settings["TWITCH_BOT_USER_ID"]
    granted = platform.ask("token", {"user": bot_id, "scopes": BOT_SCOPES})
    given = {
        "url": platform.url,
        "client_id": platform.settings["TWITCH_APP_ID"],
        "client_secret": platform.settings["TWITCH_APP_SECRET"],
        "bot_id": bot_id,
        "access_token": granted["access_token"],
        "refresh_token": granted["refresh_token"],
        "channels": [str(THEIRS_FROM + n) for n in range(CHANNELS)],
    }
    # Without -P the folder of this file would hide the library of the same name.
    process = subprocess.Popen(
        [python, "-P", str(ROOT / "bench" / "twitchio_bot.py"), json.dumps(given)],
        stdout=subprocess.PIPE,
        text=True,
        env={},
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the TwitchIO bot does not start")
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.communicate(timeout=10)


if __name__ == "__main__":
    sys.exit(main())
