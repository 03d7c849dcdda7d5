"""kill -9 of one process of the fleet after another, and of its replica, under load: what was lost, doubled, unknown.

Clients behave as collectors do: an event that was not answered is handed over again, the same one, until it is.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import all_manifests
from waddlebot.fleet.accounts import make_missing_keys
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.home import Home
from waddlebot.testing.streaming_replica import StreamingReplica
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, event, fleet, kill_one_after_another, table, victims

CLIENTS = 8
SECONDS = 40
KILL_EVERY_S = 2.0
PATIENCE_S = 60.0


class Client(threading.Thread):
    """Adds items, each with one event, or only looks at them, until told to stop."""

    def __init__(self, running: RunningFleet, going: threading.Event, *, only_reads: bool) -> None:
        super().__init__(daemon=True)
        self.running = running
        self.only_reads = only_reads
        self.going = going
        self.done: list[str] = []
        self.given_up: list[str] = []
        self.slowest_s = 0.0
        self.http = HTTPClient()
        self.headers = running.headers()

    def run(self) -> None:
        while self.going.is_set():
            name = new_id()
            started = time.monotonic()
            if self._ask(name):
                self.done.append(name)
            else:
                self.given_up.append(name)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def _ask(self, name: str) -> bool:
        # Somebody else after a while, or the limit a minute would be what is measured.
        text = "!inventory stats" if self.only_reads else f"!inventory add {name} x"
        body = event(text, name, name=f"client-{id(self)}-{len(self.done) // 50}")
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(UpstreamError):
                url = f"{self.running.url}/router/events"
                response = self.http.request("POST", url, body=body, headers=self.headers, timeout_s=5)
                if response.status == 200:
                    statuses = [each["status"] for each in response.json()["executions"]]
                    if statuses and "pending" not in statuses:
                        return statuses == ["success"]
            time.sleep(0.1)
        return False


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, fleet_with_replica(Path(folder)) as (running, replica):
        going = threading.Event()
        going.set()
        clients = [Client(running, going, only_reads=n % 2 == 1) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        killed = kill_one_after_another(lambda: victims_of(running, replica), SECONDS, KILL_EVERY_S)
        going.clear()
        for client in clients:
            client.join()
        done = [name for client in clients for name in client.done]
        looked = {name for client in clients if client.only_reads for name in [*client.done, *client.given_up]}
        given_up = [name for client in clients for name in client.given_up]
        found = Found.of(running.environment["DATABASE_URL"])
    found.items.update(looked)  # Which ask for no item.
    rows = [
        ("commands answered", len(done)),
        ("not answered within a minute", len(given_up)),
        ("slowest answer", f"{max(client.slowest_s for client in clients):.1f} s"),
        ("killed", ", ".join(f"{name} {n}" for name, n in sorted(killed.items()))),
    ]
    table(f"kill -9 every {KILL_EVERY_S:g} s for {SECONDS} s, {CLIENTS} clients", ("what", "count"), rows)
    lost = sum(0 in found.counts(name) for name in done)
    doubled = sum(max(found.counts(name)) > 1 for name in done + given_up)
    print(f"  lost = {lost}, doubled = {doubled}, unknown = {found.unknown}")


@contextlib.contextmanager
def fleet_with_replica(folder: Path) -> Iterator[tuple[RunningFleet, StreamingReplica]]:
    """A fleet that looks for its replica where there is none yet, and takes it up when there is."""
    home = Home(folder / "home")
    home.path.mkdir(mode=0o711)
    made, _ = home.load_secrets()
    make_missing_keys(made, all_manifests())
    home.save_secrets(made)
    folder.chmod(0o711)  # The database's user passes through.
    replica = StreamingReplica(
        folder / "replica",
        made.database_password,
        owner_password=made.database_owner_password,
        port=free_port(),
    )
    # What is known is reread all the time, so that the replica is asked all the time.
    settings = {
        "READ_REPLICA_URL": replica.owner_url,
        "ROUTER_COMMAND_CACHE_TTL": "0.2",
        "ROUTER_ENTITY_CACHE_TTL": "0.2",
    }
    os.environ.update(settings)
    try:
        with fleet("--per-module", home=home.path) as running:
            replica.primary_port = urlsplit(running.environment["DATABASE_URL"]).port or 0
            replica.start()
            yield running, replica
    finally:
        replica.stop()
        for name in settings:
            del os.environ[name]


def victims_of(running: RunningFleet, replica: StreamingReplica) -> list[tuple[str, int]]:
    assert replica.process is not None
    if replica.process.poll() is not None:
        replica.start()
    return [*victims(running), ("replica", replica.process.pid)]


@dataclass(frozen=True, slots=True)
class Found:
    """What the database has of each event, which is named as its item: all of it once."""

    items: Counter[str]
    outcomes: Counter[str]
    said: Counter[str]
    unknown: int

    @classmethod
    def of(cls, url: str) -> Found:
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:

            def names(sql: str) -> Counter[str]:
                cursor.execute(sql)
                return Counter(row[0] for row in cursor.fetchall())

            ended = "SELECT event_id FROM router_events JOIN command_executions USING (session_id) WHERE status"
            return cls(
                names("SELECT item_name FROM inventory_items"),
                names(f"{ended} <> 'pending'"),
                names("SELECT event_id FROM outbox WHERE response_data->>'message' ~ 'Added|items?:'"),
                names(f"{ended} = 'unknown'").total(),
            )

    def counts(self, name: str) -> tuple[int, int, int]:
        return self.items[name], self.outcomes[name], self.said[name]


if __name__ == "__main__":
    main()
