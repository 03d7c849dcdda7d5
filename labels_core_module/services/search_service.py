"""Finding people and things by their labels; kept in Redis for all replicas, and in the process while Redis is away."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any, Literal

import redis
from waddlebot.base.wire import is_number
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database
from waddlebot.web.lists import Listed, Page

from .label_service import CHANGES
from .subjects import SubjectType

Match = Literal["all", "any", "none"]
# How far a search is counted; counting on would take longer the more there is.
MAX_COUNTED = 500
# A page beyond this is empty.
MAX_REACHED = 10_000
KEY = "waddlebot:labels"
# How long what changes by itself is kept: a label of the search ends soon.
BRIEFLY_S = 2
# Redis is not asked again for so long after it did not answer.
REDIS_PAUSE_S = 2.0

LIVE = "(l.expires_at IS NULL OR l.expires_at > now())"
OF_LABEL = f"SELECT l.own_id FROM labels_of_people l WHERE l.community_id = %(community)s AND l.name = {{}} AND {LIVE}"
OF_MEMBERS = (
    "SELECT m.user_id AS own_id FROM community_memberships m WHERE m.community_id = %(community)s AND m.is_active"
)
# By all of somebody's accounts.
HAS = f"""EXISTS (SELECT FROM labels_of_people l WHERE l.own_id = u.id
    AND l.community_id = %(community)s AND l.name = {{0}} AND {LIVE})
OR u.head_id IS NOT NULL AND EXISTS (SELECT FROM labels_of_people l WHERE l.own_id = u.head_id
    AND l.community_id = %(community)s AND l.name = {{0}} AND {LIVE})
OR EXISTS (SELECT FROM users o WHERE o.head_id = coalesce(u.head_id, u.id) AND EXISTS (
    SELECT FROM labels_of_people l WHERE l.own_id = o.id
    AND l.community_id = %(community)s AND l.name = {{0}} AND {LIVE}))"""
# Those of one label are read in the order of its index, and no more of them than are wanted.
FIND_PEOPLE = """
SELECT coalesce(u.head_id, u.id)::text AS subject_id FROM ({candidates} ORDER BY own_id) AS c
JOIN users u ON u.id = c.own_id {where} ORDER BY c.own_id LIMIT %(most)s
"""
# The rarest label leaves the fewest to be looked at.
RARITY = f"""
SELECT name, (SELECT count(*) FROM (SELECT FROM labels_of_people l
    WHERE l.community_id = %(community)s AND l.name = asked.name AND {LIVE} LIMIT 5000) AS counted) AS n
FROM unnest(%(names)s::text[]) AS asked (name) ORDER BY n, name
"""
FIND_THINGS = f"""
SELECT t.subject_id FROM ({{universe}}) AS t (subject_id)
LEFT JOIN labels_of_things l ON l.community_id = %(community)s AND l.subject_type = %(type)s
    AND l.subject_id = t.subject_id AND l.name = ANY(%(names)s) AND {LIVE}
GROUP BY t.subject_id HAVING count(l.name) {{wanted}} ORDER BY t.subject_id LIMIT %(most)s
"""
UNIVERSE = {
    "community": "SELECT %(community)s::text",
    "module": "SELECT module_name FROM collector_modules",
    "group": "SELECT id::text FROM label_groups WHERE community_id = %(community)s",
}
WANTED = {"all": ">= %(count)s", "any": "> 0", "none": "= 0"}
SHOW_PEOPLE = f"""
SELECT 'user' AS subject_type, p.head_id::text AS subject_id, people.ids, i.name, i.display_name, i.platform,
    coalesce((SELECT json_agg(json_build_object('label', l.name, 'expires_at', l.expires_at) ORDER BY l.name)
        FROM labels_of_people l WHERE l.community_id = %(community)s AND l.own_id = ANY(people.ids) AND {LIVE}
    ), '[]') AS labels
FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS p (head_id, place)
CROSS JOIN LATERAL (SELECT array_agg(id ORDER BY id) AS ids FROM (
    SELECT p.head_id AS id UNION SELECT o.id FROM users o WHERE o.head_id = p.head_id) AS each) AS people
LEFT JOIN LATERAL (SELECT name, display_name, platform FROM platform_identities
    WHERE user_id = p.head_id ORDER BY id LIMIT 1) AS i ON true
ORDER BY p.place
"""
SHOW_THINGS = f"""
SELECT %(type)s AS subject_type, t.subject_id,
    coalesce((SELECT json_agg(json_build_object('label', l.name, 'expires_at', l.expires_at) ORDER BY l.name)
        FROM labels_of_things l WHERE l.community_id = %(community)s AND l.subject_type = %(type)s
        AND l.subject_id = t.subject_id AND {LIVE}), '[]') AS labels
FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS t (subject_id, place) ORDER BY t.place
"""
ENDS_SOON = """
SELECT EXISTS (SELECT FROM labels_of_people WHERE expires_at BETWEEN now() AND now() + %(ttl)s * interval '1 second'
        AND community_id = %(community)s AND name = ANY(%(names)s))
    OR EXISTS (SELECT FROM labels_of_things WHERE expires_at BETWEEN now() AND now() + %(ttl)s * interval '1 second'
        AND community_id = %(community)s) AS soon
"""


class SearchService:
    def __init__(self, db: Database, bus: Bus, *, cache_ttl_s: float) -> None:
        self._db = db
        self._client = bus.client
        self._ttl_s = cache_ttl_s
        # Which subjects a search found, by community and search; only used while Redis is away.
        self._local: Cache[str, list[str]] = bus.cache("label_searches", ttl_s=BRIEFLY_S)
        self._redis_away_until = 0.0
        self.counts = {"redis_hits": 0, "redis_misses": 0, "local": 0}
        bus.listen(CHANGES, self._forget)

    def search(
        self, community_id: int, labels: Sequence[str], match: Match, subject_type: SubjectType, page: Page
    ) -> Listed[dict[str, Any]]:
        """Who or what has all, any or none of these labels, people once with all of their accounts. What is found is
        counted to MAX_COUNTED, or as far as the page reaches."""
        asked: dict[str, Any] = {
            "community": community_id,
            "names": sorted(set(labels)),
            "count": len(set(labels)),
            "type": subject_type,
            "most": max(MAX_COUNTED, min(page.offset + page.limit, MAX_REACHED)),
        }
        found = self._cached(asked, match)
        ids = found[page.offset : page.offset + page.limit]
        show = SHOW_PEOPLE if subject_type == "user" else SHOW_THINGS
        rows = self._db.statement(show, {**asked, "ids": ids}) if ids else []
        return Listed(rows, len(found))

    def _cached(self, asked: dict[str, Any], match: Match) -> list[str]:
        name = hashlib.sha256(json.dumps([match, asked]).encode()).hexdigest()[:32]
        community = asked["community"]
        if time.monotonic() < self._redis_away_until:
            return self._kept_here(f"{community}:{name}", asked, match)
        try:
            # What was found before a change has the number of a change before: nobody asks for it any more.
            change = str(self._client.get(f"{KEY}:change:{community}") or 0)
            key = f"{KEY}:search:{community}:{change}:{name}"
            kept = self._client.get(key)
            if isinstance(kept, str):
                self.counts["redis_hits"] += 1
                found: list[str] = json.loads(kept)
                return found
            self.counts["redis_misses"] += 1
            found = self._find(asked, match)
            soon = self._db.statement(ENDS_SOON, {**asked, "ttl": self._ttl_s})[0]["soon"]
            self._client.set(key, json.dumps(found), ex=BRIEFLY_S if soon else max(1, int(self._ttl_s)))
            return found
        except redis.RedisError:
            self._redis_away_until = time.monotonic() + REDIS_PAUSE_S
            return self._kept_here(f"{community}:{name}", asked, match)

    def _kept_here(self, key: str, asked: dict[str, Any], match: Match) -> list[str]:
        self.counts["local"] += 1
        return self._local.get(key, lambda _fresh: self._find(asked, match))

    def _find(self, asked: dict[str, Any], match: Match) -> list[str]:
        if asked["type"] != "user":
            sql = FIND_THINGS.format(universe=UNIVERSE[asked["type"]], wanted=WANTED[match])
            return [row["subject_id"] for row in self._db.statement(sql, asked)]
        names = asked["names"]
        if match == "all" and len(names) > 1:
            names = [row["name"] for row in self._db.statement(RARITY, asked)]
        values = {f"name{n}": name for n, name in enumerate(names)}
        places = [f"%({each})s" for each in values]
        if match == "none":
            candidates, where = OF_MEMBERS, " AND ".join(f"NOT ({HAS.format(each)})" for each in places)
        elif match == "any":
            candidates, where = " UNION ALL ".join(OF_LABEL.format(each) for each in places), ""
        else:
            candidates, where = OF_LABEL.format(places[0]), " AND ".join(f"({HAS.format(p)})" for p in places[1:])
        sql = FIND_PEOPLE.format(candidates=candidates, where=f"WHERE {where}" if where else "")
        rows = self._db.statement(sql, {**asked, **values})
        return list(dict.fromkeys(row["subject_id"] for row in rows))

    def _forget(self, community_id: str) -> None:
        """Have searches of a community made anew everywhere."""
        self._local.drop("*")
        if not is_number(community_id):
            return
        try:
            self._client.incr(f"{KEY}:change:{community_id}")
        except redis.RedisError:
            self._redis_away_until = time.monotonic() + REDIS_PAUSE_S
