"""What the collector knows, for whoever asks."""

from __future__ import annotations

from typing import Any

from waddlebot.data.database import Database

from .guild_service import GuildService
from .shards import ShardReports

OWN = """(%(community)s::bigint IS NULL OR EXISTS (SELECT 1 FROM entities o
        WHERE o.entity_id = {entity} AND o.community_id = %(community)s))"""
OWN_EVENT = OWN.format(entity="'discord:' || (event_data->>'guild_id') || ':' || channel_id")
OWN_ACTIVITY = OWN.format(entity="a.entity_id")
EVENTS = f"""
SELECT id, event_id, type, event_data->>'guild_id' AS guild_id, channel_id, user_id, occurred_at, received_at,
    processed_at, state, detail, session_id::text AS session_id, event_data->>'message_type' AS message_type
FROM discord_events WHERE (%(channel_id)s::text IS NULL OR channel_id = %(channel_id)s)
    AND (%(guild_id)s::text IS NULL OR event_data->>'guild_id' = %(guild_id)s) AND {OWN_EVENT}
ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
ACTIVITIES = f"""
SELECT id, event_id, activity_type, platform_user_id, entity_id, amount, session_id::text AS session_id, created_at
FROM discord_activities a WHERE {OWN_ACTIVITY} ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s
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

    def list_guilds(self, community_id: int | None, *, limit: int, offset: int) -> dict[str, Any]:
        rows = self._guilds.list_guilds(community_id, limit=limit, offset=offset)
        total = rows[0]["total"] if rows else 0
        shown = [{name: value for name, value in row.items() if name != "total"} for row in rows]
        return {"guilds": shown, "total": total, "limit": limit, "offset": offset}

    def list_events(
        self, community_id: int | None, *, guild_id: str | None, channel_id: str | None, limit: int, offset: int
    ) -> dict[str, Any]:
        asked = {"guild_id": guild_id, "channel_id": channel_id, "limit": limit, "offset": offset}
        rows = self._db.statement(EVENTS, {**asked, "community": community_id})
        return {"events": rows, **self._page(f"discord_events WHERE {OWN_EVENT}", community_id, limit, offset)}

    def list_activities(self, community_id: int | None, *, limit: int, offset: int) -> dict[str, Any]:
        rows = self._db.statement(ACTIVITIES, {"community": community_id, "limit": limit, "offset": offset})
        found = f"discord_activities a WHERE {OWN_ACTIVITY}"
        return {"activities": rows, **self._page(found, community_id, limit, offset)}

    def _page(self, found: str, community_id: int | None, limit: int, offset: int) -> dict[str, int]:
        """`total` is of all that the caller may see, whatever was asked for, and no more than 10 000."""
        sql = f"SELECT count(*) AS total FROM (SELECT 1 FROM {found} LIMIT {MAX_COUNTED}) AS counted"
        total = self._db.statement(sql, {"community": community_id})[0]["total"]
        return {"total": total, "limit": limit, "offset": offset}
