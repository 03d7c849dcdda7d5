"""What a collector knows of the streams of its platform, kept for all modules: what is on, since when, and what it is
about. Variables and live notices say it (waddlebot.community.live)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydal import DAL
from pydantic_core import to_json

from ..data.database import Database, fetch

MAX_TEXT_CHARS = 300
KEEP_FOLLOWS = timedelta(days=30)
COLUMNS = ("is_live", "started_at", "title", "game", "viewers", "picture", "url", "name")
NOTE = f"""
INSERT INTO streams (entity_id, {", ".join(COLUMNS)})
SELECT entity_id, coalesce(r.is_live, o.is_live, false), coalesce(r.started_at, o.started_at),
    coalesce(left(r.title, %(chars)s), o.title, ''), coalesce(left(r.game, %(chars)s), o.game, ''),
    CASE WHEN coalesce(r.is_live, o.is_live, false) THEN coalesce(r.viewers, o.viewers, 0) ELSE 0 END,
    coalesce(r.picture, o.picture, ''), coalesce(r.url, o.url, ''), coalesce(left(r.name, %(chars)s), o.name, '')
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (entity_id text, is_live boolean, started_at timestamptz, title text,
    game text, viewers integer, picture text, url text, name text) LEFT JOIN streams o USING (entity_id)
ORDER BY entity_id
-- Thousands of channels are asked about every minute, and nothing is new of most.
ON CONFLICT (entity_id) DO UPDATE SET {", ".join(f"{each} = excluded.{each}" for each in COLUMNS)}, updated_at = now()
WHERE ({", ".join(f"streams.{each}" for each in COLUMNS)})
    IS DISTINCT FROM ({", ".join(f"excluded.{each}" for each in COLUMNS)})
"""


@dataclass(frozen=True, slots=True)
class StreamNews:
    """What is new of a stream. None is what nobody has said anything about, and stays as it is."""

    entity_id: str
    is_live: bool | None = None
    started_at: str | None = None
    title: str | None = None
    game: str | None = None
    viewers: int | None = None
    picture: str | None = None
    url: str | None = None
    name: str | None = None


class Streams:
    def __init__(self, db: Database) -> None:
        self._db = db

    def note(self, news: Sequence[StreamNews]) -> None:
        """Keep what is new. Who is not live has no viewers."""
        if news:
            self._db.statement(NOTE, {"rows": to_json(list(news)).decode(), "chars": MAX_TEXT_CHARS})

    def note_follow(self, entity_id: str, platform_user_id: str, followed_at: datetime | str | None) -> None:
        """Somebody follows since then, or with None does not."""
        self._db.statement(
            "INSERT INTO follows (entity_id, platform_user_id, followed_at, checked_at) VALUES (%s, %s, %s, now())"
            " ON CONFLICT (entity_id, platform_user_id) DO UPDATE SET followed_at = excluded.followed_at,"
            " checked_at = now()",
            (entity_id, platform_user_id, followed_at),
        )

    def wanted_follows(self, entity_ids: Collection[str], *, limit: int) -> list[tuple[str, str]]:
        """The channels and people of whom somebody wants to know since when they follow."""
        # A list of all channels costs far more than to see that nobody asks.
        if not self._db.statement("SELECT 1 FROM follows WHERE checked_at IS NULL LIMIT 1"):
            return []
        rows = self._db.statement(
            "SELECT entity_id, platform_user_id FROM follows WHERE checked_at IS NULL AND entity_id = ANY(%s) LIMIT %s",
            (list(entity_ids), limit),
        )
        return [(row["entity_id"], row["platform_user_id"]) for row in rows]

    def forget_old_follows(self) -> None:
        """Ask anew after a while: people stop following, and nobody tells."""
        self._db.statement("DELETE FROM follows WHERE checked_at < now() - %s", (KEEP_FOLLOWS,))


def forget_stream(db: DAL, entity_id: str) -> None:
    """Somebody left, in the caller's transaction."""
    fetch(db, "DELETE FROM streams WHERE entity_id = %s", (entity_id,))
    fetch(db, "DELETE FROM follows WHERE entity_id = %s", (entity_id,))
