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

from .label_service import CHANGES, MAX_LABELS
from .link_service import MAX_ACCOUNTS
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
IS_MEMBER = "m.community_id = %(community)s AND m.is_active"
# Whoever is found is found by the first of their accounts that fits, in the order of an index, so nothing is read
# beyond what is wanted, however much there is. Accounts that are one person with others are few: nearly always it ends
# with looking into the indexes of those few. OFFSET 0: of each that was found, and no join of all.
FIND_PEOPLE = """
SELECT coalesce((SELECT u.head_id FROM users u WHERE u.id = c.own_id AND u.head_id IS NOT NULL), c.own_id) AS head_id
FROM ({accounts}) AS c WHERE {is_first} ORDER BY c.own_id LIMIT %(most)s
"""
# So many accounts are so many people at least.
FIRST_ACCOUNTS = f"%(most)s * {MAX_ACCOUNTS}"
OTHERS = """(
    SELECT a.id FROM users me CROSS JOIN LATERAL (
        SELECT me.head_id AS id UNION ALL SELECT u.id FROM users u WHERE u.head_id = me.head_id
    ) AS a WHERE me.id = c.own_id AND me.head_id IS NOT NULL AND a.id <> c.own_id
    UNION ALL SELECT u.id FROM users u WHERE u.head_id = c.own_id
) AS o"""
HAVE_ANY = f"EXISTS (SELECT FROM labels_of_people l WHERE l.own_id = o.id AND {OF_LABEL.format('ANY(%(names)s)')})"
ARE_MEMBERS = f"EXISTS (SELECT FROM community_memberships m WHERE m.user_id = o.id AND {IS_MEMBER})"
IS_FIRST = {
    "any": f"NOT EXISTS (SELECT FROM {OTHERS} WHERE o.id < c.own_id AND {HAVE_ANY})",
    "none": f"NOT EXISTS (SELECT FROM {OTHERS} WHERE {HAVE_ANY} OR (o.id < c.own_id AND {ARE_MEMBERS}))",
}
LACKS = f"NOT EXISTS (SELECT FROM labels_of_people l WHERE l.own_id = m.user_id AND {OF_LABEL})"
# Several labels that somebody has, each perhaps by another account, are found by the first label and joins of the rest.
FIND_WITH_ALL = """
SELECT DISTINCT head_id FROM ({alone}
    UNION ALL (SELECT p.head_id FROM (
        SELECT DISTINCT a.head_id FROM (
            SELECT id, head_id FROM users WHERE head_id IS NOT NULL
            UNION ALL SELECT DISTINCT head_id, head_id FROM users WHERE head_id IS NOT NULL
        ) AS a JOIN labels_of_people l ON l.own_id = a.id WHERE {first} ORDER BY 1 OFFSET 0
    ) AS p WHERE {rest} ORDER BY 1 LIMIT %(most)s)
) AS found ORDER BY head_id LIMIT %(most)s
"""
STANDS_ALONE = """NOT EXISTS (SELECT FROM users u WHERE u.id = c.own_id AND u.head_id IS NOT NULL OFFSET 0)
    AND NOT EXISTS (SELECT FROM users u WHERE u.head_id = c.own_id OFFSET 0)"""
FIND_ALONE = f"(SELECT c.own_id AS head_id FROM ({{}} OFFSET 0) AS c WHERE {STANDS_ALONE} ORDER BY 1 LIMIT %(most)s)"
NOBODY = "SELECT NULL::bigint AS head_id WHERE false"
THEY_HAVE = f"""EXISTS (SELECT FROM (
    SELECT p.head_id AS id UNION ALL SELECT u.id FROM users u WHERE u.head_id = p.head_id
) AS a JOIN labels_of_people l ON l.own_id = a.id WHERE {OF_LABEL})"""
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
            "most": counted_to(page),
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
        return [str(row["head_id"]) for row in self._db.statement(_people(list(labels), match), {**asked, **labels})]

    def _forget(self, *community_ids: str) -> None:
        """Have searches of communities made anew everywhere."""
        self._local.drop("*")
        try:
            for each in filter(is_number, community_ids):
                self._client.incr(f"{KEY}:change:{each}")
        except redis.RedisError:
            self._redis_away_until = time.monotonic() + REDIS_PAUSE_S


def counted_to(page: Page) -> int:
    """How far what a search finds is counted for that page."""
    return max(MAX_COUNTED, min(page.offset + page.limit, MAX_REACHED))


def _people(names: Sequence[str], match: Match) -> str:
    """The statement that finds people with all, any or none of the labels that these parameters name. Each label is
    asked for by itself, so that rows of an index are merged and none is sorted."""
    labels = [OF_LABEL.format(f"%({each})s") for each in names]
    rows = [f"SELECT l.own_id FROM labels_of_people l WHERE {each}" for each in labels]
    if match == "none":
        lacks = " AND ".join(LACKS.format(f"%({each})s") for each in names)
        members = (
            f"SELECT m.user_id AS own_id FROM community_memberships m WHERE {IS_MEMBER} AND {lacks} ORDER BY 1 OFFSET 0"
        )
        return FIND_PEOPLE.format(accounts=members, is_first=IS_FIRST["none"])
    if match == "any" or len(names) == 1:
        merged = " UNION ALL ".join(f"({each} ORDER BY 1 LIMIT {FIRST_ACCOUNTS})" for each in rows)
        found = f"SELECT DISTINCT ON (own_id) own_id FROM ({merged}) AS l ORDER BY 1 LIMIT {FIRST_ACCOUNTS}"
        return FIND_PEOPLE.format(accounts=found, is_first=IS_FIRST["any"])
    first, *others = (f"({sql}) AS l{n}" for n, sql in enumerate(rows))
    joined = f"SELECT own_id FROM {first} {' '.join(f'JOIN {each} USING (own_id)' for each in others)} ORDER BY 1"
    return FIND_WITH_ALL.format(
        # Nobody has more than five by one account.
        alone=FIND_ALONE.format(joined) if len(names) <= MAX_LABELS else NOBODY,
        first=labels[0],
        rest=" AND ".join(THEY_HAVE.format(f"%({each})s") for each in names[1:]),
    )
