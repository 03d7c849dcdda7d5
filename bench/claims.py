"""Claims: beside the bare SQL statement, when a container dies, and when the database pauses.

`python -m bench.claims hold …` is one container; the benchmark starts several of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg2
from waddlebot.base.errors import UpstreamError
from waddlebot.base.logs import AAALog
from waddlebot.collecting.claims import Claims
from waddlebot.data.database import Database
from waddlebot.web.clients import FleetClient, FleetTransport, RouterClient
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, fleet, table

ENTITIES = 10_000
WORKERS = 50
EACH = 5
ROUNDS = 5
RATIO_BAR = 0.5
HELD = 1_000
AGAIN_BAR_S = 20.0
# Longer than the containers' alive_for_s.
PAUSE_S = 20.0
PLATFORM = "twitch"

# What anybody would write who needs five free rows and nothing else.
BARE = """
UPDATE bare_claims SET claimed_by = %s, claimed_at = now() WHERE id IN (
    SELECT id FROM bare_claims WHERE platform = 'twitch' AND claimed_by IS NULL
    ORDER BY is_live DESC, priority, viewer_count DESC, last_activity DESC NULLS LAST, id
    LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING entity_id
"""


def main() -> None:
    with fleet() as running, contextlib.closing(connect(running)) as connection:
        database = connection.cursor()
        key = make_key(running)
        serve(database, ENTITIES)
        throughput(running, database, key)
        serve(database, HELD)
        takeover(running, database, key)


def throughput(running: RunningFleet, database: psycopg2.extensions.cursor, key: str) -> None:
    rows, ratios = [], []
    for n in range(1, ROUNDS + 1):
        database.execute("DROP TABLE IF EXISTS bare_claims")
        database.execute("CREATE TABLE bare_claims (LIKE coordination INCLUDING ALL)")
        reset(database)
        database.execute("INSERT INTO bare_claims SELECT * FROM coordination")
        database.execute("ANALYZE bare_claims, coordination")
        bare = claim_all(lambda worker: bare_claimer(running, worker))
        ours = claim_all(lambda worker: our_claimer(running, key, worker))
        ratios.append(ours / bare)
        rows += [(f"{n} bare statement", f"{bare:.0f}", ""), (f"{n} router", f"{ours:.0f}", f"{ours / bare:.2f}")]
    table(f"{ENTITIES} entities, {WORKERS} claimers, {EACH} a claim", ("round", "entities per s", "ratio"), rows)
    ratio = statistics.median(ratios)
    print(f"  median {ratio:.2f} of the bare statement; the bar is {RATIO_BAR}: {verdict(ratio >= RATIO_BAR)}")


def claim_all(make: Callable[[str], Callable[[], list[str]]]) -> float:
    """Claim everything with all workers at once; entities a second. Nothing may be claimed twice."""
    claimers = [make(f"bench-{n}") for n in range(WORKERS)]
    claimed: list[str] = []

    def work(claim: Callable[[], list[str]]) -> None:
        while got := claim():
            claimed.extend(got)

    started = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(work, claimers))
    took = time.perf_counter() - started
    if sorted(Counter(claimed).values()) != [1] * ENTITIES:
        raise SystemExit(f"{len(claimed)} claims of {len(set(claimed))} entities; there are {ENTITIES}")
    return ENTITIES / took


def bare_claimer(running: RunningFleet, worker: str) -> Callable[[], list[str]]:
    cursor = connect(running).cursor()

    def claim() -> list[str]:
        cursor.execute(BARE, (worker, EACH))
        return [row[0] for row in cursor.fetchall()]

    return claim


def our_claimer(running: RunningFleet, key: str, worker: str) -> Callable[[], list[str]]:
    http = HTTPClient()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    held = 0

    def claim() -> list[str]:
        nonlocal held
        body = {"platform": PLATFORM, "container_id": worker, "max_claims": held + EACH}
        url = f"{running.url}/router/coordination/claim"
        answer = http.request("POST", url, body=json.dumps(body).encode(), headers=headers).json()
        held += answer["claimed_count"]
        return [each["entity_id"] for each in answer["claimed_entities"]]

    return claim


def takeover(running: RunningFleet, database: psycopg2.extensions.cursor, key: str) -> None:
    """Pause the database under a container with everything, then kill the container."""
    reset(database)
    with container(running, key, "first") as first:
        wait_until(database, "first")
        with container(running, key, "second"):
            database.execute("SELECT max(epoch) FROM coordination")
            epochs = database.fetchone()
            pause_database(running)
            time.sleep(PAUSE_S)
            database.execute("SELECT count(*) FROM coordination WHERE claimed_by <> 'first' OR epoch > %s", epochs)
            moved = database.fetchone()
            os.kill(first.pid, signal.SIGKILL)
            again_s = wait_until(database, "second")
    assert moved is not None
    rows = [
        (f"claims that moved in a pause of {PAUSE_S:g} s", moved[0], 0, verdict(moved[0] == 0)),
        ("held again after kill -9", f"{again_s:.1f} s", f"{AGAIN_BAR_S:g} s", verdict(again_s <= AGAIN_BAR_S)),
    ]
    table(f"A container with {HELD} claims, and one that waits", ("what", "measured", "bar", ""), rows)


def pause_database(running: RunningFleet) -> None:
    servers = [each for each in running.tree.children(recursive=True) if "postgres" in each.name()]
    for server in servers:
        server.suspend()
    time.sleep(PAUSE_S)
    for server in servers:
        with contextlib.suppress(psutil.NoSuchProcess):
            server.resume()


def wait_until(database: psycopg2.extensions.cursor, holder: str) -> float:
    """Seconds until this container holds everything."""
    started = time.monotonic()
    while time.monotonic() - started < 60:
        database.execute("SELECT count(*) FROM coordination WHERE claimed_by = %s", (holder,))
        row = database.fetchone()
        if row and row[0] == HELD:
            return time.monotonic() - started
        time.sleep(0.05)
    raise SystemExit(f"{holder} does not hold everything after a minute")


@contextlib.contextmanager
def container(running: RunningFleet, key: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.claims", "hold", running.url, name],
        env={**os.environ, "WADDLEBOT_API_KEY": key, "DATABASE_URL": running.environment["DATABASE_URL"]},
        cwd=Path(__file__).resolve().parents[1],
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def hold(url: str, name: str) -> None:
    """Be a container until killed."""
    client = FleetClient(FleetTransport(HTTPClient()), os.environ["WADDLEBOT_API_KEY"])
    claims = Claims(
        RouterClient(client, core_url=url, router_url=f"{url}/router", timeout_s=5),
        Database(os.environ["DATABASE_URL"]),
        platform=PLATFORM,
        container_id=name,
        max_claims=HELD,
        gained=lambda _: None,
        lost=lambda _: None,
        log=AAALog("bench", "0"),
    )
    while True:
        with contextlib.suppress(UpstreamError):
            claims.step()
        time.sleep(claims.every_s)


def connect(running: RunningFleet) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(running.environment["DATABASE_URL"])
    connection.autocommit = True
    return connection


def make_key(running: RunningFleet) -> str:
    made = subprocess.run(
        [
            *(sys.executable, "-m", "waddlebot.cli.cli", "keys", "create", "--home", str(running.home), "--json"),
            *("--name", "bench", "--group", "collectors", "--platform", PLATFORM),
        ],
        check=True,
        capture_output=True,
    )
    return str(json.loads(made.stdout)["api_key"])


def serve(database: psycopg2.extensions.cursor, channels: int) -> None:
    database.execute("DELETE FROM servers")
    database.execute("DELETE FROM coordination")
    database.execute(
        "INSERT INTO servers (platform, channel, community_id) SELECT %s, n, c.id"
        " FROM generate_series(1, %s) AS n, communities c WHERE is_global",
        (PLATFORM, channels),
    )


def reset(database: psycopg2.extensions.cursor) -> None:
    """Have every served channel free, and no container known."""
    database.execute("DELETE FROM coordination_containers")
    database.execute("DELETE FROM coordination")
    database.execute(
        "INSERT INTO coordination (platform, channel_id, entity_id)"
        " SELECT platform, channel, platform || '::' || channel FROM servers"
    )


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    if sys.argv[1:2] == ["hold"]:
        hold(*sys.argv[2:])
    else:
        main()
