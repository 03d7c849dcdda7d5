"""The portal's pages as a browser gets them, over HTTP and compressed, on a community of 50 000 members and 1 000 000
entries of the ledger, each in turns with the floor: a bare py4web page with the same session and the same login.

It asks from a process of its own, so that the server does not wait for it."""

from __future__ import annotations

import gzip
import http.client
import importlib
import json
import os
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg2
from py4web import action
from waddlebot.data.database import Database, fetch_one
from waddlebot.fleet.serve import THREADS, settle
from waddlebot.module.service import SERVICES, Service
from waddlebot.testing.fleet import Stack, load_fleet
from waddlebot.web.auth import ANYBODY
from waddlebot.web.edge import Edge, serve
from waddlebot.web.endpoint import Endpoint
from waddlebot.web.site import SIGNED_IN, Page

from bench.common import table

WARM_UP, TURNS = 5, 60
MEDIAN_BAR, P95_BAR = 3.0, 5.0
MEMBERS, ENTRIES = 50_000, 1_000_000
HERE = "/portal/c/<community>"
# Beside those that are found at an address of their own: one of many, and one's own.
MORE = (f"{HERE}/members/<member>", f"{HERE}/modules/router", "/portal/profile", "/portal/communities")
# As many as a busy community of some years has; who talks says ten things in a row.
FILL = """
INSERT INTO users (display_name) SELECT 'Person ' || n FROM generate_series(1, %(members)s) AS n;
INSERT INTO platform_identities (user_id, platform, platform_user_id, name, display_name)
SELECT id, 'console', 'p' || id, 'p' || id, display_name FROM users WHERE display_name LIKE 'Person %%';
INSERT INTO community_memberships (community_id, user_id)
SELECT %(community)s, id FROM users WHERE display_name LIKE 'Person %%';
INSERT INTO user_reputation (community_id, user_id, current_score, total_events)
SELECT %(community)s, id, 20 * (id %% 97), 20 FROM users WHERE display_name LIKE 'Person %%';
INSERT INTO reputation_events (community_id, user_id, event_name, event_score, source_id, processed_at, entity_id)
SELECT %(community)s, (SELECT min(id) FROM users WHERE display_name LIKE 'Person %%') + n / 10 %% %(members)s,
    'chatMessage', 5, gen_random_uuid(), now() - (%(entries)s - n) * interval '2 s', %(entity)s
FROM generate_series(1, %(entries)s) AS n;
"""


def bare_page(site: Any) -> None:
    """What py4web costs with the same session and login, and nothing on the page but a name."""
    portal = importlib.import_module("apps.portal_module.app")

    def bare() -> str:
        return f"<!doctype html><title>Bare</title><p>{site.signin.login_now.name}</p>"

    bare.__module__ = portal.__name__  # py4web wants to know whose it is.
    action("/portal/bare", method=["GET"])(action.uses(*site.fixtures("", SIGNED_IN))(bare))


def tidy(url: str) -> None:
    """What autovacuum does by itself after a while; without it an index by blocks knows nothing of what is new."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    connection.close()


def sign_in(database: Database, site: Any, community_id: int) -> str:
    with database.transaction() as db:
        row = fetch_one(db, "INSERT INTO auth_user (email, first_name) VALUES ('b@example.org', 'B') RETURNING id", ())
        assert row is not None
        fetch_one(
            db,
            "INSERT INTO portal_access (auth_user_id, community_id, held, area) VALUES (%s, %s, 'owner', '*')"
            " RETURNING 1 AS one",
            (row["id"], community_id),
        )
    session = secrets.token_urlsafe(32)
    user = {"id": row["id"], "since": "", "seen": int(time.time())}
    site.session.store.put(session, {"user": user}, is_new=True)
    return session


def took_ms(connection: http.client.HTTPConnection, path: str, session: str) -> float:
    headers = {"Accept": "text/html", "Accept-Encoding": "gzip", "Host": "waddlebot.test"}
    began = time.perf_counter()
    connection.request("GET", path, headers={**headers, "Cookie": f"portal_session={session}"})
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - began) * 1e3
    if answer.status != 200:
        said = gzip.decompress(body) if answer.headers["Content-Encoding"] else body
        raise SystemExit(f"{path}: HTTP {answer.status} {said[-300:]!r}")
    return took


def pages_of(service: Service, values: Mapping[str, object]) -> list[str]:
    """Every page of a community that an owner looks at."""
    pages = [each for each in service.endpoints if isinstance(each, Page) and each.template and "GET" in each.method]
    found = [each.path for each in pages if each.path.startswith(HERE) and each.path.count("<") == 1]
    return [re.sub("<(.+?)>", lambda name: str(values[name[1]]), path) for path in (*sorted(found), *MORE)]


def ask(port: int, session: str, *pages: str) -> None:
    """Time each page, and tell all figures on the standard output."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for page in pages:
        paths = ("/portal/bare", page)
        turns = [[took_ms(connection, path, session) for path in paths] for _ in range(WARM_UP + TURNS)]
        print(json.dumps([page, turns[WARM_UP:]]), flush=True)


def compare(port: int, session: str, pages: Sequence[str]) -> None:
    """Have a process of its own ask, show what it found, and end this one."""
    rows = []
    asking = [sys.executable, "-m", "bench.pages", str(port), session, *pages]
    with subprocess.Popen(asking, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            page, turns = json.loads(line)
            bare, ours = zip(*turns, strict=True)
            ratio = statistics.median(ours) / statistics.median(bare)
            late = sorted(ours)[int(TURNS * 0.95)] / sorted(bare)[int(TURNS * 0.95)]
            verdict = "met" if ratio <= MEDIAN_BAR and late <= P95_BAR else "not met"
            figures = [statistics.median(bare), statistics.median(ours), ratio, late]
            rows.append([page.removeprefix("/portal/c/bench") or "/", *(f"{each:.2f}" for each in figures), verdict])
    table("Pages", ["page", "bare ms", "ms", f"median <= {MEDIAN_BAR}", f"p95 <= {P95_BAR}", ""], rows)
    sys.stdout.flush()
    os._exit(process.returncode)


def main() -> None:
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as folder, Stack.running(Path(folder) / "stack") as stack:
        fleet = load_fleet(stack, Path(folder))
        portal = importlib.import_module("apps.portal_module.app")
        site = portal.site
        bot = fleet.bot("bench")
        bot.say("!help")
        values = {"members": MEMBERS, "entries": ENTRIES, "community": bot.community_id}
        with fleet.database.transaction() as db:
            db._adapter.cursor.execute("SET LOCAL statement_timeout = 0")
            db._adapter.cursor.execute(FILL, {**values, "entity": "console:bench:general"})
        portal.figures.count_days()
        tidy(stack.postgres.owner_url)
        session = sign_in(fleet.database, site, bot.community_id)
        bare_page(site)
        settle()
        endpoints = [endpoint for service in SERVICES for endpoint in service.endpoints]
        endpoints.append(Endpoint("GET", "/portal/bare", bare_page, ANYBODY))
        listening = socket.create_server(("127.0.0.1", 0))
        (newest,) = fleet.database.statement("SELECT max(user_id) AS id FROM community_memberships")
        pages = pages_of(portal.service, {"community": bot.slug, "member": newest["id"]})
        asked = (listening.getsockname()[1], session, pages)
        threading.Thread(target=compare, args=asked, daemon=True).start()
        serve(Edge(fleet.app, endpoints, threads=THREADS, log=SERVICES[0].log), listening)


if __name__ == "__main__":
    ask(int(sys.argv[1]), *sys.argv[2:]) if sys.argv[1:] else main()
