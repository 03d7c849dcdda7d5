"""Who was shouted out, when and why; what the cooldown and the next clip go by."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pydal import DAL
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.data.retention import delete_old
from waddlebot.web.lists import Listed, Page, fetch_page

from .words import Clip

Cause = Literal["command", "api", "raid", "follow", "subscription"]
LIST = """
SELECT h.id, h.own_id, coalesce(nullif(i.display_name, ''), nullif(i.name, ''), i.platform_user_id, '') AS username,
    i.platform, i.platform_user_id, h.cause, coalesce(nullif(b.display_name, ''), nullif(b.name, ''), '') AS by_name,
    h.entity_id, h.game, h.clip_id, h.created_at, count(*) OVER () AS total
FROM shoutout_history h
LEFT JOIN LATERAL (SELECT * FROM platform_identities i WHERE i.user_id = h.own_id ORDER BY i.id LIMIT 1) AS i ON true
LEFT JOIN LATERAL (SELECT * FROM platform_identities b WHERE b.user_id = h.by_id ORDER BY b.id LIMIT 1) AS b ON true
WHERE h.community_id = %(community)s AND (%(ids)s::bigint[] IS NULL OR h.own_id = ANY(%(ids)s))
ORDER BY h.id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
STATS = """
WITH counted AS (
    SELECT h.*, coalesce(u.head_id, u.id) AS person FROM shoutout_history h JOIN users u ON u.id = h.own_id
    WHERE h.community_id = %(community)s
        AND (%(days)s::int IS NULL OR h.created_at > now() - %(days)s * interval '1 day')
)
SELECT (SELECT count(*) FROM counted) AS total, (SELECT count(DISTINCT person) FROM counted) AS people,
    (SELECT count(*) FROM counted WHERE clip_id <> '') AS clips,
    (SELECT coalesce(json_object_agg(cause, n), '{}') FROM (SELECT cause, count(*) AS n FROM counted GROUP BY cause) c)
        AS causes,
    (SELECT coalesce(json_agg(t), '[]') FROM (
        SELECT coalesce(nullif(i.display_name, ''), nullif(i.name, ''), i.platform_user_id) AS username, n AS shoutouts
        FROM (SELECT person, count(*) AS n FROM counted GROUP BY person ORDER BY n DESC, person LIMIT 5) AS p
        JOIN LATERAL (SELECT * FROM platform_identities i WHERE i.user_id = p.person ORDER BY i.id LIMIT 1) AS i ON true
        ORDER BY n DESC, person) t) AS top
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A shoutout that is about to be said."""

    community_id: int
    own_id: int
    cause: Cause
    by_id: int | None = None
    entity_id: str = ""
    game: str = ""
    request_id: str | None = None


class HistoryService:
    """Each method but `forget` works in the transaction that it is given."""

    def is_resting(self, db: DAL, community_id: int, ids: Sequence[int], *, cooldown: timedelta) -> bool:
        """Whether somebody was shouted out so lately, for whatever reason, that it does not happen again by itself."""
        row = fetch_one(
            db,
            "SELECT 1 FROM shoutout_history WHERE community_id = %s AND own_id = ANY(%s)"
            " AND created_at > now() - %s LIMIT 1",
            (community_id, list(ids), cooldown),
        )
        return row is not None

    def lock(self, db: DAL, community_id: int, ids: Sequence[int]) -> None:
        """Have everybody else who shouts out the same person here wait for the end of this transaction."""
        key = f"shoutout:{community_id}:{min(ids)}"
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))

    def choose(self, db: DAL, community_id: int, ids: Sequence[int], clips: Sequence[Clip]) -> Clip | None:
        """Any of these clips but the one that was shown last. To be called with the lock."""
        last = fetch_one(
            db,
            "SELECT clip_id FROM shoutout_history WHERE community_id = %s AND own_id = ANY(%s)"
            " ORDER BY id DESC LIMIT 1",
            (community_id, list(ids)),
        )
        others = [each for each in clips if last is None or each.id != last["clip_id"]]
        return secrets.choice(others) if others else None

    def add(self, db: DAL, entry: Entry, clip: Clip | None) -> int | None:
        """Write a shoutout down. None when the same request is written down already."""
        row = fetch_one(
            db,
            "INSERT INTO shoutout_history (community_id, own_id, cause, by_id, entity_id, game, clip_id, request_id)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (request_id) DO NOTHING RETURNING id",
            (
                entry.community_id,
                entry.own_id,
                entry.cause,
                entry.by_id,
                entry.entity_id,
                entry.game,
                clip.id if clip else "",
                entry.request_id,
            ),
        )
        return int(row["id"]) if row else None

    @staticmethod
    def forget(db: Database) -> bool:
        """Delete some of what is older than records are kept. True when there may be more."""
        return delete_old(db, "shoutout_history", "created_at")

    def list_past(
        self, db: DAL, community_id: int, page: Page, *, ids: Sequence[int] | None = None
    ) -> Listed[dict[str, Any]]:
        """Newest first; of one person, if given their numbers."""
        parameters = {"community": community_id, "ids": list(ids) if ids is not None else None}
        return fetch_page(lambda sql, given: fetch(db, sql, given), LIST, parameters, page)

    def stats(self, db: DAL, community_id: int, *, days: int | None = None) -> dict[str, Any]:
        row = fetch_one(db, STATS, {"community": community_id, "days": days})
        assert row is not None
        return row
