"""kill -9 of one process of the fleet after another, under load: what was lost, doubled or left unknown.

Clients behave as collectors do: an event that was not answered is handed over again, the same one, until it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter

import psutil
import psycopg2
from waddlebot.errors import UpstreamError
from waddlebot.http import HTTPClient
from waddlebot.ids import new_id

from bench.common import RunningFleet, event, fleet, table

CLIENTS = 8
SECONDS = 25
KILL_EVERY_S = 2.0
PATIENCE_S = 60.0


class Client(threading.Thread):
    """Adds items, each with one event, until told to stop."""

    def __init__(self, running: RunningFleet, going: threading.Event) -> None:
        super().__init__(daemon=True)
        self.running = running
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
            if self._add(name):
                self.done.append(name)
            else:
                self.given_up.append(name)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def _add(self, name: str) -> bool:
        # Somebody else after a while, or the limit a minute would be what is measured.
        body = event(f"!inventory add {name} x", name, name=f"client-{id(self)}-{len(self.done) // 50}")
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
    with fleet("--per-module") as running:
        url = running.environment["DATABASE_URL"]
        going = threading.Event()
        going.set()
        clients = [Client(running, going) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        killed = kill_one_after_another(running)
        going.clear()
        for client in clients:
            client.join()
        done = [name for client in clients for name in client.done]
        given_up = [name for client in clients for name in client.given_up]
        items, said, unknown = count(url)
    rows = [
        ("commands answered", len(done)),
        ("lost", sum(items[name] == 0 or said[name] == 0 for name in done)),
        ("doubled", sum(items[name] > 1 or said[name] > 1 for name in done + given_up)),
        ("unknown", unknown),
        ("not answered within a minute", len(given_up)),
        ("slowest answer", f"{max(client.slowest_s for client in clients):.1f} s"),
        ("killed", ", ".join(f"{name} {n}" for name, n in sorted(killed.items()))),
    ]
    table(f"kill -9 every {KILL_EVERY_S:g} s for {SECONDS} s, {CLIENTS} clients", ("what", "count"), rows)


def kill_one_after_another(running: RunningFleet) -> Counter[str]:
    killed: Counter[str] = Counter()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        time.sleep(KILL_EVERY_S)
        found = victims(running)
        random.shuffle(found)
        name, pid = min(found, key=lambda victim: killed[victim[0]])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed[name] += 1
    return killed


def victims(running: RunningFleet) -> list[tuple[str, int]]:
    """The supervisor's children and their workers, by what they are."""
    found = []
    for process in running.tree.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            if "waddlebot.serve" in command:
                found.append((process.environ()["WADDLEBOT_MODULES"].split("_")[0], process.pid))
            elif "bin/postgres" in command:
                found.append(("postgres", process.pid))
            elif "valkey-server" in command:
                found.append(("valkey", process.pid))
    return found


def count(url: str) -> tuple[Counter[str], Counter[str], int]:
    """How often each item exists, how often it was said that it was added, and how much is unknown."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT item_name FROM inventory_items")
        items = Counter(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT event_id, response_data FROM outbox WHERE response_action = 'chat'")
        said = Counter(event_id for event_id, data in cursor.fetchall() if "Added" in json.dumps(data))
        cursor.execute("SELECT count(*) FROM command_executions WHERE status = 'unknown'")
        row = cursor.fetchone()
        assert row is not None
        return items, said, row[0]


if __name__ == "__main__":
    main()
