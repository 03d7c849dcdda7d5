"""Labels given, read and found, beside bare SQL and an endpoint that says nothing; on a database of its own."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
from waddlebot.community.people import Person
from waddlebot.fleet.serve import settle
from waddlebot.testing.fleet import Fleet, Stack, load_fleet
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from bench.common import table

T = TypeVar("T")

COMMUNITY = "bench"
BULK, ROUNDS = 1_000, 8
SMALL, LARGE, PER_PERSON, NAMES = 10_000, 1_000_000, 5, 50
READS, REQUESTS, SEARCHES = 100_000, 600, 60
KINDS = (("all", 1), ("all", 2), ("all", 5), ("any", 2), ("any", 10), ("none", 2))
# One person of so many has linked a second account.
LINKED_EVERY = 100
HOT_PEOPLE = 20_000
BARS = {"bulk": 0.5, "reads a second": 20_000, "HTTP": 0.6, "search p95 ms": 50, "hot path us": 15}

MAKE_PEOPLE = """
WITH u AS (INSERT INTO users (display_name) SELECT 'p' || n FROM generate_series(1, %(n)s) AS n RETURNING id),
m AS (INSERT INTO community_memberships (community_id, user_id) SELECT %(c)s, id FROM u)
INSERT INTO platform_identities (user_id, platform, platform_user_id, name)
SELECT id, 'bench', id::text, 'p' || id FROM u RETURNING user_id
"""
# A row for each of some people and five of the names, as they come.
FILL = """
INSERT INTO labels_of_people (community_id, own_id, name)
SELECT %(c)s, id, 'label ' || (id * 7 + k * 11) %% %(names)s
FROM unnest(%(ids)s::bigint[]) AS id CROSS JOIN generate_series(1, %(per)s) AS k ON CONFLICT DO NOTHING
"""
# The same table, indexes and references, and nothing else that the module does.
BARE_TABLE = """
CREATE TABLE bare_labels (LIKE labels_of_people INCLUDING ALL);
ALTER TABLE bare_labels ADD FOREIGN KEY (community_id) REFERENCES communities, ADD FOREIGN KEY (own_id) REFERENCES users
"""
BARE = """
INSERT INTO bare_labels (community_id, own_id, name, given_by)
SELECT %s, own_id, %s, 'bench' FROM unnest(%s::bigint[]) AS own_id ON CONFLICT (own_id, community_id, name)
DO UPDATE SET given_at = now()
"""


def seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def staged(name: str, run: Callable[[], T]) -> T:
    """What a stage found; how long it took goes to stderr."""
    started = time.perf_counter()
    found = run()
    shown = "" if isinstance(found, list) else found
    print(f"{name}: {time.perf_counter() - started:.1f} s {shown}", file=sys.stderr, flush=True)
    return found


def p95_ms(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)] * 1e3


class Bench:
    def __init__(self, fleet: Fleet, stack: Stack) -> None:
        self.fleet = fleet
        self.bot = fleet.bot(COMMUNITY)
        self.service = importlib.import_module("apps.labels_core_module.app")
        self.wish = importlib.import_module("apps.labels_core_module.services.label_service").Wish
        self.connection = psycopg2.connect(stack.postgres.url)
        self.connection.autocommit = True

    def people(self, count: int) -> list[int]:
        with self._filling() as cursor:
            cursor.execute(MAKE_PEOPLE, {"n": count, "c": self.bot.community_id})
            return [row[0] for row in cursor.fetchall()]

    @contextlib.contextmanager
    def _filling(self) -> Iterator[Any]:
        """Without triggers and references: they are not what is measured here."""
        with self.connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            yield cursor
            cursor.execute("SET session_replication_role = origin")

    def bulk(self) -> tuple[float, float, float]:
        """Rows a second of bare SQL and of POST /labels/apply, and the median of their ratios; they take turns."""
        people = self.people(BULK)
        pairs = []
        with self.connection.cursor() as cursor:
            cursor.execute(BARE_TABLE)
            for number in range(ROUNDS):
                name = f"bulk {number % 4}"
                bare = seconds(lambda name=name: cursor.execute(BARE, (self.bot.community_id, name, people)))
                items = [{"label": name, "subject_type": "user", "subject_id": each} for each in people]
                body = json.dumps({"community_id": COMMUNITY, "items": items}).encode()
                started = time.perf_counter()
                answer = self.fleet.request("POST", "/labels/apply", body)
                pairs.append((bare, time.perf_counter() - started))
                if answer.status != 200 or answer.json()["changed"] != BULK:
                    raise SystemExit(f"not applied: {answer.status} {answer.body[:300]!r}")
                if number % 4 == 3:
                    cursor.execute("DELETE FROM labels_of_people; DELETE FROM bare_labels")
        bare_s, own_s = (statistics.median(each) for each in zip(*pairs, strict=True))
        return BULK / bare_s, BULK / own_s, statistics.median(bare / own for bare, own in pairs)

    def reads(self, people: Sequence[int]) -> float:
        """Labels of one person read in process, a second, for 20 000 people who take turns."""
        ids = [str(each) for each in people[:HOT_PEOPLE]]
        read = self.service.labels.read
        for each in ids:
            read(self.bot.community_id, "user", each)
        wanted = [ids[n % len(ids)] for n in range(READS)]
        return READS / seconds(lambda: [read(self.bot.community_id, "user", each) for each in wanted])

    def http(self, people: Sequence[int]) -> tuple[float, float, float]:
        """Requests a second of an endpoint that says a constant, of a person's labels, and the ratio."""
        body = json.loads(self._get(people[0]).body)

        @endpoint("GET", "/labels/bench-constant", caller=self.service.api.ADMINS_OR_API_USERS, area="people")
        def constant() -> dict[str, Any]:
            """Say what a person's labels look like."""
            return body

        # py4web asks which app a route is of.
        constant.__module__ = self.service.api.__name__
        self.service.service.mount(constant)
        pairs, count = [], REQUESTS // 10
        for _ in range(10):
            floor = seconds(lambda: [self._constant(people[n % 100]) for n in range(count)])
            own = seconds(lambda: [self._get(people[n % 100]) for n in range(count)])
            pairs.append((count / floor, count / own))
        floor_s, own_s = (statistics.median(each) for each in zip(*pairs, strict=True))
        return floor_s, own_s, statistics.median(own / floor for floor, own in pairs)

    def _get(self, person: int, path: str = "/labels") -> Any:
        query = {"community_id": self.bot.community_id, "subject_type": "user", "subject_id": person}
        return self.fleet.request("GET", path, query=query)

    def _constant(self, person: int) -> Any:
        """The same request, so that what the client does costs both the same."""
        return self._get(person, "/labels/bench-constant")

    def search(self) -> float:
        """p95 in ms of searches of each kind in turn, none of them kept from before."""
        community, bus, search = self.bot.community_id, self.service.bus, self.service.searches.search
        times = []
        for n in range(SEARCHES):
            match, count = KINDS[n % len(KINDS)]
            names = sorted({f"label {(n * 3 + 11 * k) % NAMES}" for k in range(count)})
            bus.invalidate("label_changes", community)
            with self.fleet.database.reading() as db:
                times.append(
                    seconds(lambda db=db, names=names, match=match: search(db, community, names, match, "user", Page()))
                )
        return p95_ms(times)

    def names(self) -> float:
        """p95 in ms of listing the community's labels and how many have each."""
        labels, community = self.service.labels, self.bot.community_id
        return p95_ms([seconds(lambda: labels.list_names(community, Page())) for _ in range(SEARCHES)])

    def fill(self, people: Sequence[int]) -> None:
        with self._filling() as cursor:
            cursor.execute(FILL, {"c": self.bot.community_id, "ids": list(people), "per": PER_PERSON, "names": NAMES})
            linked = list(people)[1::LINKED_EVERY]
            cursor.execute("UPDATE users SET head_id = id - 1 WHERE id = ANY(%s)", (linked,))
            for name in ("labels_of_people", "users", "community_memberships", "platform_identities"):
                cursor.execute(f"VACUUM ANALYZE {name}")  # As the server does by itself after so many new rows.


def hot_path_us() -> float:
    """What the labels of whoever speaks cost a message in the router, once they are known: CPU in microseconds."""
    ends = datetime(2100, 1, 1, tzinfo=UTC)
    labels = {f"label {n}": (ends if n % 2 else None) for n in range(PER_PERSON)}
    people = [Person(n, n, (n,), labels={1: dict(labels)}) for n in range(HOT_PEOPLE)]
    started = time.process_time()
    for each in people:
        each.labels_in(1)
    return (time.process_time() - started) / len(people) * 1e6


def main() -> None:
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as folder, Stack.running(Path(folder) / "stack") as stack:
        fleet = load_fleet(stack, Path(folder), ["router_module", "labels_core_module"])
        bench = Bench(fleet, stack)
        settle()
        bare_s, own_s, bulk_ratio = staged("bulk", bench.bulk)
        few = bench.people(SMALL // PER_PERSON)
        bench.fill(few)
        small_ms = staged("search, small", bench.search)
        many = staged("people", lambda: bench.people((LARGE - SMALL) // PER_PERSON))
        staged("fill", lambda: bench.fill(many))
        large_ms = staged("search, large", bench.search)
        names_ms = staged("names", bench.names)
        reads_s = staged("reads", lambda: bench.reads(many))
        floor_s, get_s, http_ratio = staged("http", lambda: bench.http(many))
        hot_us = staged("hot path", hot_path_us)
        table(
            "Labels",
            ["", "measured", "bar"],
            [
                ["bulk, rows a second (bare SQL)", f"{own_s:,.0f} ({bare_s:,.0f})", ""],
                ["bulk, of bare SQL", f"{bulk_ratio:.2f}", f">= {BARS['bulk']}"],
                ["single reads in process, a second", f"{reads_s:,.0f}", f">= {BARS['reads a second']:,}"],
                ["GET /labels, a second (a constant)", f"{get_s:,.0f} ({floor_s:,.0f})", ""],
                ["GET /labels, of a constant", f"{http_ratio:.2f}", f">= {BARS['HTTP']}"],
                [f"search of {SMALL:,} rows, p95 ms", f"{small_ms:.1f}", f"<= {BARS['search p95 ms']}"],
                [f"search of {LARGE:,} rows, p95 ms", f"{large_ms:.1f}", f"<= {BARS['search p95 ms']}"],
                [f"names with counts among {LARGE:,} rows, p95 ms", f"{names_ms:.1f}", ""],
                ["labels of a message's author, us CPU", f"{hot_us:.1f}", f"<= {BARS['hot path us']}"],
            ],
        )
        for service in importlib.import_module("waddlebot.module.service").SERVICES:
            service.loops.stop()
            service.bus.stop()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
