"""10 000 roles handed out and 10 000 permissions checked, each in one call over HTTP, beside bare SQL."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import psycopg2
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, fleet, table

PEOPLE = 10_000
ROUNDS = 5
BARS_S = {"check": 1.0, "assign": 3.0}
ROLES = ("vip", "moderator", "subscriber")

MAKE_PEOPLE = """
WITH person AS (INSERT INTO users (display_name) SELECT 'p' || n FROM generate_series(1, %s) AS n RETURNING id)
INSERT INTO platform_identities (user_id, platform, platform_user_id, name)
SELECT id, 'console', 'bench' || id, 'p' || id FROM person RETURNING user_id
"""
BARE_ASSIGN = """
INSERT INTO community_rbac (community_id, user_id, role)
SELECT (SELECT id FROM communities WHERE is_global), id, role FROM unnest(%s::bigint[], %s::text[]) AS a (id, role)
ON CONFLICT (community_id, user_id) DO UPDATE SET role = excluded.role, assigned_at = now()
"""
BARE_CHECK = """
SELECT user_id, role FROM community_rbac
WHERE community_id = (SELECT id FROM communities WHERE is_global) AND user_id = ANY(%s::bigint[])
"""


def timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def call(running: RunningFleet, path: str, body: dict[str, Any]) -> None:
    """One call, every result of which must be a success."""
    raw = json.dumps({"community_id": "demo", **body}).encode()
    answer = HTTPClient().request("POST", running.url + path, body=raw, headers=running.headers(), timeout_s=60)
    if answer.status != 200 or not all(each["success"] for each in answer.json()["results"]):
        raise SystemExit(f"{path} answered {answer.status} {answer.body[:300]!r}")


def main() -> None:
    rows = []
    times: dict[str, list[float]] = {name: [] for name in ("assign", "bare assign", "check", "bare check")}
    with fleet() as running, contextlib.closing(psycopg2.connect(running.environment["DATABASE_URL"])) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(MAKE_PEOPLE, (PEOPLE,))
            people = [row[0] for row in cursor.fetchall()]

            def bare(sql: str, *values: object) -> list[Any]:
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []

            for n in range(ROUNDS):
                role = ROLES[n % len(ROLES)]
                given = {"assignments": [{"user_id": user, "role": role} for user in people]}
                asked = {"checks": [{"user_id": user, "level": "vip"} for user in people]}
                times["bare assign"].append(timed(lambda role=role: bare(BARE_ASSIGN, people, [role] * PEOPLE)))
                times["assign"].append(timed(lambda given=given: call(running, "/router/roles/assign", given)))
                times["bare check"].append(timed(lambda: bare(BARE_CHECK, people)))
                times["check"].append(timed(lambda asked=asked: call(running, "/router/roles/check", asked)))
    for name in ("assign", "check"):
        for n, (floor, ours) in enumerate(zip(times[f"bare {name}"], times[name], strict=True), 1):
            rows.append((f"{n} {name}", f"{floor * 1e3:.0f}", f"{ours * 1e3:.0f}", f"{ours / floor:.1f}"))
    table(f"{PEOPLE} roles in one call", ("round", "bare SQL ms", "fleet ms", "ratio"), rows)
    for name, bar in BARS_S.items():
        median = statistics.median(times[name])
        print(f"  {name}: median {median:.2f} s; the bar is {bar} s: {'met' if median <= bar else 'MISSED'}")


if __name__ == "__main__":
    main()
