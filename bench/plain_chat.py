"""Plain chat in batches through one router process, with rules and points: messages a second, and its memory."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable

import psutil
import psycopg2
from psycopg2.extras import execute_values
from waddlebot.base.ids import new_id
from waddlebot.fleet.embedded import free_port
from waddlebot.web.http import HTTPClient

from bench.common import ROOT, RunningFleet, cpu_seconds, fleet, pss_mb, server, table

BAR = 3000
MAX_GROWTH = 1.1
RULES = 1000
CHANNELS = 1000
PEOPLE = 20_000
BATCH = 100
IN_FLIGHT = 4
ROUNDS = 3
BATCHES = 200
MESSAGES = 500_000


def words() -> list[str]:
    """What people might write: the words of our own documents."""
    text = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
    return sorted({word.lower() for word in text.split() if word.isalpha()})


class Chat:
    """Messages of many people in many channels; about one in a hundred hits a rule."""

    def __init__(self) -> None:
        self.random = random.Random(1)
        self.words = words()
        self.prefix = new_id()[:8]
        self.numbers = itertools.count()

    def batch(self) -> bytes:
        return json.dumps([self.event() for _ in range(BATCH)]).encode()

    def event(self) -> dict[str, object]:
        number = next(self.numbers)
        person = f"viewer{self.random.randrange(PEOPLE)}"
        text = " ".join(self.random.choices(self.words, k=10))
        if self.random.random() < 0.01:
            text += f" forbidden{self.random.randrange(RULES)}"
        return {
            "event_id": f"{self.prefix}-{number}",
            "message_type": "chatMessage",
            "platform": "console",
            "server_id": "demo",
            "channel_id": f"channel{self.random.randrange(CHANNELS)}",
            "user": {"platform_user_id": person, "name": person, "display_name": person, "badges": []},
            "message": text,
        }


def add_rules(running: RunningFleet) -> None:
    """A thousand rules of the demo community, before anybody has spoken there."""
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM communities WHERE slug = 'demo'")
        (community,) = cursor.fetchone()
        kinds = ("word", "contains", "regex")
        rows = [(community, f"forbidden{n}", kinds[n % 3], "warn") for n in range(RULES)]
        execute_values(cursor, "INSERT INTO stringmatch (community_id, string, match_type, action) VALUES %s", rows)


def post(url: str, headers: dict[str, str], make: Callable[[], bytes], batches: int) -> float:
    """Post so many batches, IN_FLIGHT at a time, each answer checked; messages a second."""
    numbers = itertools.count()
    lock = threading.Lock()
    wrong: list[bytes] = []

    def work() -> None:
        http = HTTPClient()
        while next(numbers) < batches:
            with lock:
                body = make()
            answer = http.request("POST", url, body=body, headers=headers, timeout_s=60)
            if answer.status != 200 or b'"success":false' in answer.body:
                wrong.append(answer.body)

    threads = [threading.Thread(target=work) for _ in range(IN_FLIGHT)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise SystemExit(f"{len(wrong)} batches were answered wrong, such as {wrong[0][:300]!r}")
    return batches * BATCH / (time.perf_counter() - started)


def router_of(running: RunningFleet) -> psutil.Process:
    return next(each for each in running.tree.children() if each.environ().get("WADDLEBOT_MODULES") == "router_module")


def main(messages: int = MESSAGES) -> None:
    chat = Chat()
    # Made beforehand, because the client shares the machine with what it measures.
    ready = [chat.batch() for _ in range(ROUNDS * BATCHES * 2 + 40)]
    with fleet("--per-module") as running, contextlib.ExitStack() as stack:
        url = running.environment["DATABASE_URL"]
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE floor_rows (id bigserial PRIMARY KEY, body text)")
        port = free_port()
        stack.enter_context(server("bench.floor:app", port, {"DATABASE_URL": url}))
        add_rules(running)
        ours, floor = f"{running.url}/router/events/batch", f"http://127.0.0.1:{port}/"
        router = router_of(running)
        post(ours, running.headers(), ready.pop, 20)
        post(floor, {"Content-Type": "application/json"}, ready.pop, 20)
        rows, speeds = [], []
        for number in range(1, ROUNDS + 1):
            bare = post(floor, {"Content-Type": "application/json"}, ready.pop, BATCHES)
            before = cpu_seconds(router)
            speed = post(ours, running.headers(), ready.pop, BATCHES)
            cpu = (cpu_seconds(router) - before) / (BATCHES * BATCH) * 1000
            speeds.append(speed)
            rows.append((number, f"{bare:.0f}", f"{speed:.0f}", f"{speed / bare:.2f}", f"{cpu:.3f}"))
        table(
            f"Plain chat, batches of {BATCH}, {RULES} rules, {CHANNELS} channels, points",
            ("round", "bare INSERT of the batch, messages/s", "router, messages/s", "ratio", "router's CPU s/1000"),
            rows,
        )
        speed = statistics.median(speeds)
        print(f"  median {speed:.0f} messages/s; the bar is {BAR}: {'met' if speed >= BAR else 'MISSED'}")
        early, late = memory_over(messages, ours, running, router, chat)
    growth = late / early
    print(
        f"  memory of the router {early:.0f} MB after a tenth of {messages} messages, {late:.0f} MB at the end;"
        f" the bar is {MAX_GROWTH:.1f}x: {'met' if growth <= MAX_GROWTH else 'MISSED'}"
    )


def memory_over(
    messages: int, url: str, running: RunningFleet, router: psutil.Process, chat: Chat
) -> tuple[float, float]:
    batches = messages // BATCH
    post(url, running.headers(), chat.batch, batches // 10)
    early = pss_mb(router)
    post(url, running.headers(), chat.batch, batches - batches // 10)
    return early, pss_mb(router)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES)
