"""What channels cost in which nothing happens: an empty fleet, then the same one with 10 000 Twitch channels."""

from __future__ import annotations

import sys
import time

import psycopg2

from bench.common import RunningFleet, cpu_by_process, fleet, table
from bench.twitch import serve, twitch

CHANNELS = 10_000
# Long enough for what is done every minute.
SECONDS = 60.0
# Of one core, more than an empty fleet uses.
BAR = 0.03
SETTLE_S = 20.0
CLAIMED = "SELECT count(*) FROM coordination WHERE platform = 'twitch' AND claimed_by IS NOT NULL"


def main(channels: int = CHANNELS, seconds: float = SECONDS) -> None:
    with twitch() as platform, fleet(environment=platform.settings) as running:
        measure(running, channels, seconds)


def measure(running: RunningFleet, channels: int, seconds: float) -> None:
    time.sleep(SETTLE_S)
    empty = used(running, seconds)
    serve(running, channels)
    wait_until_held(running, channels)
    time.sleep(SETTLE_S)
    full = used(running, seconds)
    names = sorted({*empty, *full})
    rows = [(name, *(f"{each.get(name, 0) / seconds * 1000:.1f}" for each in (empty, full))) for name in names]
    rows.append(("all", *(f"{sum(each.values()) / seconds * 1000:.1f}" for each in (empty, full))))
    table(f"Nothing happens for {seconds:.0f} s", ("CPU ms/s", "empty", f"{channels} channels"), rows)
    more = (sum(full.values()) - sum(empty.values())) / seconds
    print(f"  {more:.1%} of a core more; the bar is {BAR:.0%}: {'met' if more <= BAR else 'MISSED'}", flush=True)


def wait_until_held(running: RunningFleet, channels: int) -> None:
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            cursor.execute(CLAIMED)
            if cursor.fetchone() == (channels,):
                return
            connection.commit()
            time.sleep(0.5)
    raise SystemExit(f"the fleet did not claim {channels} channels")


def used(running: RunningFleet, seconds: float) -> dict[str, float]:
    before = cpu_by_process(running.tree)
    time.sleep(seconds)
    after = cpu_by_process(running.tree)
    return {name: after[name] - before.get(name, 0.0) for name in after}


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))
