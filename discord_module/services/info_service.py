"""What the collector knows, for whoever asks."""

from __future__ import annotations

from typing import Any

from waddlebot.data.database import Database

from .guild_service import GuildService
from .shards import ShardReports

EVENTS = """
SELECT id, event_id, type, event_data->>'guild_id' AS guild_id, channel_id, user_id, occurred_at, received_at,
    processed_at, state, detail, session_id::text AS session_id, event_data->>'message_type' AS message_type
FROM discord_events WHERE (%(channel_id)s::text IS NULL OR channel_id = %(channel_id)s)
    AND (%(guild_id)s::text IS NULL OR event_data->>'guild_id' = %(guild_id)s)
ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
ACTIVITIES = """
SELECT id, event_id, activity_type, platform_user_id, entity_id, amount, session_id::text AS session_id, created_at
FROM discord_activities ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
# Counting a table of millions for a page of a hundred would take longer than anybody waits.
MAX_COUNTED = 10_000


class InfoService:
    def __init__(self, db: Database, guilds: GuildService, shards: ShardReports) -> None:
        self._db = db
        self._guilds = guilds
        self._shards = shards

    def list_shards(self) -> list[dict[str, Any]]:
        return self._shards.list_shards()

    def list_guilds(self, *, limit: int, offset: int) -> dict[str, Any]:
        rows = self._guilds.list_guilds(limit=limit, offset=offset)
        total = rows[0]["total"] if rows else 0
        shown = [{name: value for name, value in row.items() if name != "total"} for row in rows]
        return {"guilds": shown, "total": total, "limit": limit, "offset": offset}

    def list_events(self, *, guild_id: str | None, channel_id: str | None, limit: int, offset: int) -> dict[str, Any]:
        asked = {"guild_id": guild_id, "channel_id": channel_id, "limit": limit, "offset": offset}
        return {"events": self._db.statement(EVENTS, asked), **self._page("discord_events", limit, offset)}

    def list_activities(self, *, limit: int, offset: int) -> dict[str, Any]:
        rows = self._db.statement(ACTIVITIES, {"limit": limit, "offset": offset})
        return {"activities": rows, **self._page("discord_activities", limit, offset)}

    def _page(self, table: str, limit: int, offset: int) -> dict[str, int]:
        """`total` is of the whole table, and no more than 10 000."""
        sql = f"SELECT count(*) AS total FROM (SELECT 1 FROM {table} LIMIT {MAX_COUNTED}) AS counted"
        return {"total": self._db.statement(sql)[0]["total"], "limit": limit, "offset": offset}
