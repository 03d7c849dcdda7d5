"""The fleet beside a TwitchIO 3 bot with two commands, on one Twitch, each with channels of its own.

TwitchIO has none of our rules, storage, limits and points: what it holds when it dies is gone. It hears as the fleet
does, by signed webhooks and its own web adapter; beside the fleet on a conduit by WebSocket, for it knows no conduits
for one process. It is installed into a Python of its own for as long as this runs.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from waddlebot.fleet.embedded import free_port

from bench.common import ROOT, cpu_seconds, table
from bench.twitch import RunningTwitch, fleet_on, twitch

TWITCHIO = "twitchio==3.3.2"
# What one WebSocket session can have.
CHANNELS = 300
THEIRS_FROM = 1001
DOMAIN = "twitchio.example"
ROUNDS = 3
MIXED, MIX = 6000, 0.05
PACED_PER_S, PACED_S, PACED_BAR_MS = 300, 10, 150
CONDUIT_BAR = 0.5
BOT_SCOPES = ["user:bot", "user:read:chat", "user:write:chat"]
# A text that a community made a command of; and one of a module, which asks the database.
COMMAND, ASKING = "!rules", "!inventory list"
SEED_RULES = """
INSERT INTO alias_commands (community_id, prefix, alias, command)
SELECT id, '!', 'rules', 'Be kind. No spoilers.' FROM communities WHERE slug LIKE 'bench-%'
"""
# Neither side is to wait for what Twitch allows.
UNLIMITED = "1000000"


@dataclass(frozen=True, slots=True)
class Bar:
    """So many messages, at most `window` commands unanswered, beside what TwitchIO takes for the same."""

    title: str
    count: int
    share: float = 1.0
    window: int = 64
    # Our CPU at most, and our messages a second at least, as a multiple of TwitchIO's.
    cpu: float = 0.0
    speed: float = 0.0
    command: str = COMMAND


COMMAND_BARS = (
    Bar("64 commands at once", 1000, cpu=2.8, speed=0.4),
    Bar("16 commands at once", 1000, window=16, cpu=4.0),
    Bar("one command after the other", 200, window=1),
    Bar("64 commands at once that ask the database", 1000, command=ASKING),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        python = install(Path(folder))
        by_webhook = run(python, "webhook")
        by_conduit = run(python, "conduit")
    spared = by_conduit / by_webhook
    met = verdict(spared <= CONDUIT_BAR)
    print(f"  by conduit {spared:.2f} of the CPU of a line by webhook; the bar is {CONDUIT_BAR}: {met}")


def run(python: Path, transport: str) -> float:
    """Returns the fleet's CPU seconds for 1000 lines of chat, as this transport brings them."""
    environment = {"TWITCH_SEND_LIMIT": UNLIMITED, "TWITCH_EVENTSUB_TRANSPORT": transport}
    with (
        twitch("--no-echoes") as platform,
        fleet_on(platform, channels=CHANNELS, **environment) as running,
        twitchio_bot(platform, python, transport) as theirs,
    ):
        with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
            cursor.execute(SEED_RULES)
        if transport == "conduit":
            wait_until_heard(platform)
        sides = {
            "TwitchIO": (THEIRS_FROM, lambda: cpu_seconds(theirs)),
            "fleet": (1, lambda: cpu_seconds(running.tree)),
        }
        for first, _ in sides.values():
            send(platform, first, count=2000, share=0.2)
        if transport == "webhook":
            for bar in COMMAND_BARS:
                compare(platform, sides, bar)
        steady = send(platform, 1, count=PACED_PER_S * PACED_S, share=MIX, per_s=PACED_PER_S)
        p50 = steady["reply_ms"]["p50"]
        print(
            f"  {PACED_PER_S} messages a second by {transport}: a reply after {p50:.0f} ms (p50); "
            f"the bar is {PACED_BAR_MS}: {verdict(p50 <= PACED_BAR_MS)}"
        )
        return compare(platform, sides, Bar(f"{MIX:.0%} commands by {transport}", MIXED, share=MIX))


def wait_until_heard(platform: RunningTwitch) -> None:
    """Until the conduit hears each channel's chat."""
    until = time.monotonic() + 90
    while heard(platform) < CHANNELS:
        if time.monotonic() > until:
            raise SystemExit(f"the conduit hears {heard(platform)} of {CHANNELS} channels")
        time.sleep(0.5)


def heard(platform: RunningTwitch) -> int:
    return sum(
        each["type"] == "channel.chat.message"
        and each["transport"]["method"] == "conduit"
        and each["status"] == "enabled"
        for each in platform.ask("state")["subscriptions"]
    )


def compare(platform: RunningTwitch, sides: dict[str, tuple[int, Callable[[], float]]], bar: Bar) -> float:
    """Returns the fleet's CPU seconds for 1000 messages, the median."""
    rows = []
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    costs: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(1, ROUNDS + 1):
        for name, (first, cpu) in sides.items():
            before = cpu()
            report = send(platform, first, count=bar.count, share=bar.share, window=bar.window, command=bar.command)
            costs[name].append((cpu() - before) / bar.count * 1000)
            speeds[name].append(report["per_s"])
            reply = report["reply_ms"]
            times = f"{reply['p50']:.0f}", f"{reply['p99']:.0f}"
            rows.append((f"{number} {name}", f"{report['per_s']:.0f}", *times, f"{costs[name][-1]:.2f}"))
    title = f"{bar.count} messages, {bar.title}, {CHANNELS} channels each"
    table(title, ("round", "messages/s", "reply p50 ms", "p99 ms", "CPU s/1000"), rows)
    ours, theirs = (statistics.median(costs[name]) for name in ("fleet", "TwitchIO"))
    if bar.cpu:
        dearer = ours / theirs
        print(f"  {dearer:.1f} times the CPU of TwitchIO; the bar is {bar.cpu}: {verdict(dearer <= bar.cpu)}")
    if bar.speed:
        speed = statistics.median(speeds["fleet"]) / statistics.median(speeds["TwitchIO"])
        print(f"  {speed:.2f} of its throughput; the bar is {bar.speed}: {verdict(speed >= bar.speed)}", flush=True)
    return ours


def verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def send(
    platform: RunningTwitch,
    first: int,
    *,
    count: int,
    share: float,
    window: int = 64,
    per_s: float | None = None,
    command: str = COMMAND,
) -> dict[str, Any]:
    report = platform.run_traffic(
        count=count,
        per_s=per_s,
        window=window,
        channels=CHANNELS,
        first_channel=first,
        commands=share,
        command=command,
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
def twitchio_bot(platform: RunningTwitch, python: Path, transport: str) -> Iterator[psutil.Process]:
    port = free_port()
    platform.ask("callback", {"of": f"https://{DOMAIN}/", "url": f"http://127.0.0.1:{port}/"})
    bot_id = platform.settings["TWITCH_BOT_USER_ID"]
    granted = platform.ask("token", {"user": bot_id, "scopes": BOT_SCOPES})
    given = {
        "url": platform.url,
        "transport": transport,
        "domain": DOMAIN,
        "port": port,
        "secret": secrets.token_hex(),
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
