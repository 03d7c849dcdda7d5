"""Finding people and things by their labels; kept in Redis for all replicas, and in the process while Redis is away."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Literal

import redis
from pydal import DAL
from waddlebot.base.wire import is_number
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch
from waddlebot.web.lists import Listed, Page

from .label_service import CHANGES
from .subjects import SubjectType, array_of, find_together

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
OF_LABEL = f"l.community_id = %(community)s AND l.name = {{}} AND {LIVE}"
LACKS = f"NOT EXISTS (SELECT FROM labels_of_people l WHERE l.own_id = {{}} AND {OF_LABEL})"
IS_MEMBER = "m.community_id = %(community)s AND m.is_active"
# Accounts that are one person with others are few, so they are looked at apart from all those that stand alone, which
# are read in the order of an index and no further than is wanted.
# OFFSET 0: of each that was found, and no join of all.
ALONE = """NOT EXISTS (SELECT FROM users u WHERE u.id = c.own_id AND u.head_id IS NOT NULL OFFSET 0)
    AND NOT EXISTS (SELECT FROM users u WHERE u.head_id = c.own_id OFFSET 0)"""
FIND_ALONE = f"(SELECT c.own_id AS head_id FROM ({{}} OFFSET 0) AS c WHERE {ALONE} ORDER BY c.own_id LIMIT %(most)s)"
FIND_PEOPLE = """
SELECT DISTINCT head_id FROM ({alone} UNION ALL ({linked} ORDER BY head_id LIMIT %(most)s)) AS found
ORDER BY head_id LIMIT %(most)s
"""
# Person by person, which costs what linked people there are, and not how many have a label.
FIND_LINKED = """
SELECT h.head_id FROM (SELECT DISTINCT head_id FROM users WHERE head_id IS NOT NULL OFFSET 0) AS h WHERE {}
"""
THEIRS = "(SELECT h.head_id AS id UNION ALL SELECT u.id FROM users u WHERE u.head_id = h.head_id) AS a"
THEY_HAVE = f"EXISTS (SELECT FROM {THEIRS} JOIN labels_of_people l ON l.own_id = a.id WHERE {OF_LABEL})"
ARE_MEMBERS = f"EXISTS (SELECT FROM {THEIRS} JOIN community_memberships m ON m.user_id = a.id WHERE {IS_MEMBER})"
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
# Of people by all of their numbers; each by one index.
LABELS_OF = f"""
SELECT l.own_id, l.name AS label, l.expires_at FROM labels_of_people l
WHERE l.community_id = %(community)s AND l.own_id = ANY(%(numbers)s::bigint[]) AND {LIVE} ORDER BY l.name, l.own_id
"""
NAMES_OF = """
SELECT DISTINCT ON (user_id) user_id, name, display_name, platform FROM platform_identities
WHERE user_id = ANY(%(numbers)s::bigint[]) ORDER BY user_id, id
"""
NAMELESS = {"name": None, "display_name": None, "platform": None}
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
        self, db: DAL, community_id: int, labels: Sequence[str], match: Match, subject_type: SubjectType, page: Page
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
        if not ids:
            return Listed([], len(found))
        if subject_type == "user":
            return Listed(self._show_people(db, community_id, [int(each) for each in ids]), len(found))
        return Listed(self._db.statement(SHOW_THINGS, {**asked, "ids": ids}), len(found))

    def _show_people(self, db: DAL, community_id: int, heads: Sequence[int]) -> list[dict[str, Any]]:
        together = find_together(db, heads)
        numbers = {head: together.get(head, (head,)) for head in heads}
        asked = {"community": community_id, "numbers": array_of(each for of in numbers.values() for each in of)}
        labels: dict[int, list[dict[str, Any]]] = {}
        for row in fetch(db, LABELS_OF, asked):
            labels.setdefault(row.pop("own_id"), []).append(row)
        names = {row.pop("user_id"): row for row in fetch(db, NAMES_OF, {"numbers": array_of(heads)})}
        return [
            {
                "subject_type": "user",
                "subject_id": str(head),
                "ids": sorted(numbers[head]),
                **names.get(head, NAMELESS),
                "labels": sorted((e for n in numbers[head] for e in labels.get(n, ())), key=itemgetter("label")),
            }
            for head in heads
        ]

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
        labels = {f"name{n}": name for n, name in enumerate(asked["names"])}
        sql = FIND_PEOPLE.format(
            alone=" UNION ALL ".join(FIND_ALONE.format(each) for each in _accounts(list(labels), match)),
            linked=FIND_LINKED.format(_of_linked(list(labels), match)),
        )
        return [str(row["head_id"]) for row in self._db.statement(sql, {**asked, **labels})]

    def _forget(self, *community_ids: str) -> None:
        """Have searches of communities made anew everywhere."""
        self._local.drop("*")
        try:
            for each in filter(is_number, community_ids):
                self._client.incr(f"{KEY}:change:{each}")
        except redis.RedisError:
            self._redis_away_until = time.monotonic() + REDIS_PAUSE_S


def _accounts(names: Sequence[str], match: Match) -> list[str]:
    """Statements that together find accounts with all, any or none of the labels that these parameters name, each in
    order. Each label is asked for by itself, so that rows of an index are merged and none is sorted."""
    places = [f"%({each})s" for each in names]
    if match == "none":
        lacks = " AND ".join(LACKS.format("m.user_id", each) for each in places)
        return [f"SELECT m.user_id AS own_id FROM community_memberships m WHERE {IS_MEMBER} AND {lacks} ORDER BY 1"]
    rows = [f"SELECT l.own_id FROM labels_of_people l WHERE {OF_LABEL.format(each)}" for each in places]
    if match == "any":
        return [f"{each} ORDER BY 1" for each in rows]
    first, *others = (f"({sql}) AS l{n}" for n, sql in enumerate(rows))
    return [f"SELECT own_id FROM {first} {' '.join(f'JOIN {each} USING (own_id)' for each in others)} ORDER BY 1"]


def _of_linked(names: Sequence[str], match: Match) -> str:
    """The condition that people with several accounts have all, any or none of the labels, on whichever of them."""
    if match == "all":
        return " AND ".join(THEY_HAVE.format(f"%({each})s") for each in names)
    has_any = THEY_HAVE.format("ANY(%(names)s)")
    return has_any if match == "any" else f"NOT {has_any} AND {ARE_MEMBERS}"
