"""A thousand Discord channels on one collector process: what is lost, what is doubled, how long an answer takes, and
whether memory grows; and how soon slash commands are acknowledged while the router hangs.

Bars: 200 messages a second for five minutes with 5 % commands, nothing lost or doubled, p99 of an answer ≤ 500 ms,
memory flat over 200 000 events; acknowledgements p99 ≤ 500 ms. `python -m bench.discord_channels full` takes those
five minutes and then the rest of the 200 000 events; without it, it is as hard and shorter.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import psutil
from waddlebot.testing.plugin import eventually

from bench.common import RunningFleet, fleet, pss_mb, table
from simulators.discord import Channel, DiscordSimulator

GUILDS, CHANNELS_EACH, SHARDS = 20, 50, 2
RATE = 200
SECONDS, FULL_SECONDS = 30, 300
MEMORY_EVENTS, FULL_MEMORY_EVENTS = 20_000, 200_000
HANG_S = 10
SLASHES_PER_S = 20
BAR_MS = 500


def main(*, full: bool = False) -> None:
    with DiscordSimulator() as discord:
        discord.gateway.identify_spacing_s = 0.5
        channels = make_channels(discord)
        os.environ.update(discord.settings(), DISCORD_SHARD_COUNT=str(SHARDS))
        with fleet() as running:
            serve(running, discord)
            measure_load(running, discord, seconds=FULL_SECONDS if full else SECONDS)
            measure_memory(running, discord, events=FULL_MEMORY_EVENTS if full else MEMORY_EVENTS)
        discord.reset()
        with fleet("--per-module") as running:
            serve(running, discord)
            measure_acknowledgements(running, discord, channels)


def make_channels(discord: DiscordSimulator) -> list[Channel]:
    made: list[Channel] = []
    for number in range(GUILDS):
        guild = discord.world.add_guild(f"Server {number}")
        made += [discord.world.add_channel(guild, f"channel-{n}") for n in range(CHANNELS_EACH)]
    return made


def serve(running: RunningFleet, discord: DiscordSimulator) -> None:
    """Serve every server in the community demo, with a command that repeats what it is given."""
    listed = running.home / "servers.csv"
    with listed.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["platform", "channel", "name", "server_id", "community"])
        writer.writerows(["discord", "", guild.name, guild.id, "demo"] for guild in discord.world.guilds.values())
    subprocess.run(
        [sys.executable, "-m", "waddlebot.cli.cli", "servers", "import", "--home", str(running.home), str(listed)],
        check=True,
        capture_output=True,
    )
    running.say('!alias add echo "pong {all_args}"')
    eventually(lambda: any(each.connection for each in discord.gateway.sessions.values()), within_s=60)
    channel = next(iter(discord.world.channels.values()))

    def answers() -> bool:
        discord.say(channel, "!echo warm", user="1")
        return bool(discord.messages)

    eventually(lambda: answers() or time.sleep(1), within_s=60)
    time.sleep(2)


def collectors_of(running: RunningFleet) -> psutil.Process:
    """The process that runs the collectors' loops."""
    return process_of(running, "waddlebot.fleet.serve", "collectors")


def process_of(running: RunningFleet, *words: str, **environment: str) -> psutil.Process:
    for each in running.tree.children(recursive=True):
        if all(word in each.cmdline() for word in words):
            found = each.environ()
            if all(found.get(name) == value for name, value in environment.items()):
                return each
    raise SystemExit(f"no process runs {' '.join(words)} {environment}")


def measure_load(running: RunningFleet, discord: DiscordSimulator, *, seconds: float) -> None:
    process = collectors_of(running)
    used = process.cpu_times()
    report = discord.run(discord.load(rate=RATE, seconds=seconds, command="!echo {id}"), within_s=seconds + 90)
    now = process.cpu_times()
    cpu = (now.user + now.system - used.user - used.system) / report["messages"] * 1000
    table(
        f"{GUILDS * CHANNELS_EACH} Discord channels, {RATE} messages/s for {seconds:.0f} s, 5 % commands",
        ["", "measured", "bar"],
        [
            ["lost", report["lost"], 0],
            ["doubled", report["doubled"], 0],
            ["answer p50, ms", report["p50_ms"], ""],
            ["answer p99, ms", report["p99_ms"], BAR_MS],
            ["answer max, ms", report["max_ms"], ""],
            ["commands", report["commands"], ""],
            ["pace kept, messages/s", round(report["messages"] / report["seconds"], 1), RATE],
            ["collectors' CPU per 1000 messages, s", f"{cpu:.2f}", ""],
            ["identified too soon", len(discord.gateway.identified_too_soon), 0],
            ["machine: load on its cores", f"{os.getloadavg()[0] / (os.cpu_count() or 1):.1f}", "1"],
        ],
    )


def measure_memory(running: RunningFleet, discord: DiscordSimulator, *, events: int) -> None:
    """As fast as the collector takes it, plain chat only."""
    process, rows = collectors_of(running), []
    steps = 5
    for step in range(steps + 1):
        rows.append([f"{events // steps * step:,}", f"{pss_mb(process):.1f}", process.num_threads()])
        if step < steps:
            seconds = events / steps / RATE
            discord.run(discord.load(rate=RATE, seconds=seconds, commands=0), within_s=seconds + 90)
    growth = float(rows[-1][1]) / float(rows[1][1])
    table(f"Memory of the collectors over {events:,} events", ["events", "MB", "threads"], rows)
    print(f"  last / after the first fifth: {growth:.3f}")


def measure_acknowledgements(running: RunningFleet, discord: DiscordSimulator, channels: list[Channel]) -> None:
    port = running.port + 3  # As 8003 is to 8000.
    router = process_of(running, "waddlebot.fleet.serve", WADDLEBOT_MODULES="router_module")
    stopped = [router, *router.children(recursive=True)]
    discord.interactions_url = f"http://127.0.0.1:{port}/discord/interactions"
    rows = []
    used: list[str] = []
    for each in stopped:
        each.send_signal(signal.SIGSTOP)
    try:
        for way in ("gateway", "HTTP"):
            ids = use_commands(discord, channels, over_http=way == "HTTP")
            used += ids
            found = [discord.rest.interactions[id_] for id_ in ids]
            eventually(lambda found=found: all(each.acked_at for each in found), within_s=30)
            times = sorted(each.acked_at - each.at for each in found)
            p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
            rows.append([way, len(times), f"{p50:.0f}", f"{p99:.0f}", BAR_MS])
    finally:
        for each in stopped:
            each.send_signal(signal.SIGCONT)
    head = ["by", "commands", "p50, ms", "p99, ms", "bar, ms"]
    table("Slash commands acknowledged while the router hangs", head, rows)
    eventually(lambda: all(discord.rest.interactions[id_].replies for id_ in used), within_s=120)
    answers = [len(discord.rest.interactions[id_].replies) for id_ in used]
    print(f"  answered once the router goes on: {sum(n == 1 for n in answers)} of {len(used)}")


def use_commands(discord: DiscordSimulator, channels: list[Channel], *, over_http: bool) -> list[str]:
    ids: list[str] = []
    begun = time.monotonic()
    for n in range(HANG_S * SLASHES_PER_S):
        time.sleep(max(0.0, begun + n / SLASHES_PER_S - time.monotonic()))
        channel, user = channels[n % len(channels)], str(20_000 + n)
        payload = discord.interaction(channel, "echo", {"args": str(n)}, user=user)
        ids.append(payload["id"])
        if over_http:
            discord.deliver_later(payload)
        else:
            discord.dispatch(channel.guild_id, "INTERACTION_CREATE", payload)
    return ids


if __name__ == "__main__":
    main(full=sys.argv[1:] == ["full"])
