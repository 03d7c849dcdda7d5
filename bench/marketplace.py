"""The store with 10 000 modules and 100 000 installations: how long browsing, searching and a module's page take."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlencode

import psycopg2
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, fleet, table

MODULES, COMMUNITIES, EACH_HAS = 10_000, 2_000, 50
WORDS = [
    "weather",
    "dice",
    "quote",
    "poll",
    "song",
    "game",
    "trivia",
    "clock",
    "timer",
    "raffle",
    "horoscope",
    "recipe",
    "meme",
    "chess",
    "story",
]
ASKED = 200
BAR_MS = 50.0
SORTS = ("popular", "recent", "rating", "name")
FILL = (
    "INSERT INTO marketplace_packages (sha256, content) VALUES ('bench', '')",
    """
INSERT INTO marketplace_modules (module_id, skeleton, publisher, display_name, description, category, latest_version,
    download_count, rating_average, rating_count, price, words, updated_at)
SELECT 'bench_' || n, 'bench' || n, 'account:0', w[1 + n % 15] || ' ' || n,
    'A ' || w[1 + n / 15 % 15] || ' for your ' || w[1 + n / 225 % 15],
    (ARRAY['games', 'minigames', 'fun', 'music', 'utilities', 'weather'])[1 + n % 6], '1.0.0', (n * 7919) % 10007,
    1 + (n % 400) / 100.0, n % 50, CASE WHEN n % 10 = 0 THEN 5 ELSE 0 END,
    to_tsvector('simple', w[1 + n % 15] || ' ' || w[1 + n / 15 % 15] || ' ' || w[1 + n / 225 % 15] || ' bench ' || n),
    now() - n * interval '1 minute'
FROM generate_series(1, {modules}) AS n, (SELECT string_to_array('{words}', ' ') AS w) AS t
""".format(modules=MODULES, words=" ".join(WORDS)),
    """
INSERT INTO module_versions (module_id, version, sha256, file_size, manifest, limits, is_stable, state)
SELECT module_id, '1.0.0', 'bench', 0, '{"commands": [], "settings": []}', '{}', true, 'approved'
FROM marketplace_modules
""",
    f"INSERT INTO communities (slug, name) SELECT 'bench-' || n, 'Bench' FROM generate_series(1, {COMMUNITIES}) AS n",
    f"""
INSERT INTO module_installations (community_id, module_id, version, state)
SELECT c.id, 'bench_' || (1 + (c.n * 37 + k * 211) % {MODULES}), '1.0.0', 'installed'
FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM communities WHERE slug LIKE 'bench-%') c,
    generate_series(1, {EACH_HAS}) AS k
""",
    "ANALYZE marketplace_modules, module_installations, module_versions, communities",
)


def times_ms(running: RunningFleet, path: Callable[[], str]) -> list[float]:
    http, took = HTTPClient(), []
    for _ in range(ASKED):
        url = f"{running.url}/marketplace{path()}"
        began = time.perf_counter()
        answer = http.request("GET", url, headers=running.headers(), timeout_s=10)
        took.append((time.perf_counter() - began) * 1e3)
        if answer.status != 200:
            raise SystemExit(f"{url} answered {answer.status} {answer.body[:300]!r}")
    return sorted(took)


def main() -> None:
    chance = random.Random(1)

    def browse(**query: object) -> str:
        return "/browse?" + urlencode({"sort": chance.choice(SORTS), **query})

    asked: dict[str, Callable[[], str]] = {
        "browse, any page": lambda: browse(page=chance.randint(1, 100)),
        "browse a category": lambda: browse(category="games"),
        "browse with a search": lambda: browse(search=f"{chance.choice(WORDS)} {chance.choice(WORDS)}"),
        "search while typing": lambda: "/search?q=" + chance.choice(WORDS)[: chance.randint(2, 5)],
        "a module's page": lambda: f"/module/bench_{chance.randint(1, MODULES)}",
        "the front": lambda: "",
    }
    rows, is_slow = [], False
    with fleet() as running:
        with contextlib.closing(psycopg2.connect(running.environment["DATABASE_URL"])) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in FILL:
                    cursor.execute(statement)
        for name, path in asked.items():
            took = times_ms(running, path)
            p95 = took[int(ASKED * 0.95)]
            is_slow |= p95 > BAR_MS
            rows.append([name, f"{statistics.median(took):.1f}", f"{p95:.1f}", f"{BAR_MS:.0f}"])
    table("10 000 modules, 100 000 installations", ["asked for", "p50 ms", "p95 ms", "bar"], rows)
    if is_slow:
        raise SystemExit("slower than the bar")


if __name__ == "__main__":
    main()
