"""What the fleet knows of streams and of people at the moment that a text is said: the values of variables.

Collectors write `streams` and `follows` (waddlebot.collecting.streams); nothing here asks a platform.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydal import DAL

from ..base.variables import LOOKED_UP, OF_A_STREAM, lasted
from ..data.database import fetch, fetch_one

OFFLINE = "not live"
NOTHING_YET = "not known yet"
# The channel's own stream; elsewhere the community's, that which most people watch, else the one that was on last.
STREAM = """
(SELECT row_to_json(s) FROM streams s JOIN entities e USING (entity_id)
 WHERE e.community_id = %(community)s AND e.is_active
 ORDER BY s.entity_id = %(entity)s DESC, s.is_live DESC, s.viewers DESC, s.started_at DESC NULLS LAST LIMIT 1) AS stream
"""
POINTS = """
(SELECT coalesce(sum(current_score), 0) FROM user_reputation
 WHERE community_id = %(community)s AND user_id = ANY(%(ids)s)) AS points
"""
# All accounts of a person have their points together; who has as many has the same place.
RANK = """
(WITH totals AS (SELECT coalesce(u.head_id, u.id) AS person, sum(r.current_score) AS score
  FROM user_reputation r JOIN users u ON u.id = r.user_id WHERE r.community_id = %(community)s GROUP BY 1)
 SELECT 1 + count(*) FROM totals WHERE score > (SELECT score FROM totals WHERE person = %(head)s)
 HAVING EXISTS (SELECT FROM totals WHERE person = %(head)s)) AS rank
"""
NAME = """
coalesce((SELECT nullif(s.name, '') FROM streams s WHERE s.entity_id = %(entity)s),
 (SELECT nullif(v.name, '') FROM entities e JOIN servers v ON v.platform = e.platform AND v.server_id = e.server_id
  AND v.channel IN ('', e.channel_id) WHERE e.entity_id = %(entity)s ORDER BY v.channel DESC LIMIT 1),
 (SELECT name FROM communities WHERE id = %(community)s)) AS channel
"""
FOLLOW = """
(SELECT row_to_json(f) FROM follows f JOIN entities e USING (entity_id)
 JOIN platform_identities i ON i.platform = e.platform AND i.platform_user_id = f.platform_user_id
 WHERE e.community_id = %(community)s AND e.is_active AND i.user_id = ANY(%(ids)s)
 ORDER BY e.entity_id = %(entity)s DESC, f.followed_at NULLS LAST LIMIT 1) AS follow
"""
# Has their collectors find out; what is known already stays.
WANT_FOLLOWS = """
INSERT INTO follows (entity_id, platform_user_id)
SELECT s.entity_id, i.platform_user_id FROM streams s JOIN entities e USING (entity_id)
    JOIN platform_identities i ON i.platform = e.platform AND i.user_id = ANY(%(ids)s)
WHERE e.community_id = %(community)s AND e.is_active ON CONFLICT DO NOTHING
"""
# What is asked for each variable that has to be looked up.
ASKED = {
    **dict.fromkeys(OF_A_STREAM - {"channel"}, STREAM),
    "channel": NAME,
    "points": POINTS,
    "rank": RANK,
    "followage": FOLLOW,
}
# To look these up may write down that somebody asked.
WRITING = frozenset({"followage"})


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a text is said, and about whom: `ids` are all of their accounts', none where it is about nobody."""

    community_id: int
    entity_id: str
    head_id: int = 0
    ids: Sequence[int] = ()


def look_up(db: DAL, names: Collection[str], spot: Spot) -> dict[str, str]:
    """The values of those of these variables that have to be looked up, in one statement, or none if there are none.

    What is not known has words for that: `not live`. A {followage} that nobody has asked for yet is found out soon.
    """
    wanted = [name for name in names if name in LOOKED_UP and (spot.ids or name in OF_A_STREAM)]
    if not wanted:
        return {}
    columns = ", ".join(dict.fromkeys(ASKED[name] for name in sorted(wanted)))
    values = {"community": spot.community_id, "entity": spot.entity_id, "head": spot.head_id, "ids": list(spot.ids)}
    row = fetch_one(db, f"SELECT {columns}", values)
    assert row is not None
    return {name: _in_words(name, row, db, values) for name in wanted}


def _in_words(name: str, row: dict[str, Any], db: DAL, values: dict[str, Any]) -> str:
    if name == "followage":
        return _followage(row["follow"], db, values)
    if name in ("points", "channel"):
        return str(row[name])
    if name == "rank":
        return str(row["rank"]) if row["rank"] else "none"
    stream = row["stream"] or {}
    if name == "uptime":
        return uptime(stream) or OFFLINE
    if name == "viewers":
        return str(stream.get("viewers") or 0) if stream.get("is_live") else "0"
    return str(stream.get(name) or NOTHING_YET)


def uptime(stream: dict[str, Any]) -> str:
    """How long a stream has been on, in words; empty for one that is not on."""
    if not stream.get("is_live"):
        return ""
    started = stream.get("started_at")
    since = datetime.fromisoformat(started) if isinstance(started, str) else started
    return lasted(datetime.now(UTC) - since) if since else "a moment"


def _followage(follow: dict[str, Any] | None, db: DAL, values: dict[str, Any]) -> str:
    if follow is None:
        fetch(db, WANT_FOLLOWS, values)
        return NOTHING_YET
    if follow["followed_at"]:
        return lasted(datetime.now(UTC) - datetime.fromisoformat(follow["followed_at"]))
    return "not following" if follow["checked_at"] else NOTHING_YET
