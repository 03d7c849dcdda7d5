"""What the collector knows, for whoever asks."""

from __future__ import annotations

from typing import Any

from waddlebot.collecting.event_lists import list_newest, of_community
from waddlebot.data.database import Database
from waddlebot.web.lists import Listed, Page

from .guild_service import GuildService
from .shards import ShardReports

EVENT_COLUMNS = (
    "id, event_id, type, event_data->>'guild_id' AS guild_id, channel_id, user_id, occurred_at, received_at,"
    " processed_at, state, detail, session_id::text AS session_id, event_data->>'message_type' AS message_type"
)
EVENTS = f"""
discord_events WHERE (%(channel_id)s::text IS NULL OR channel_id = %(channel_id)s)
    AND (%(guild_id)s::text IS NULL OR event_data->>'guild_id' = %(guild_id)s)
    AND {of_community("'discord:' || (event_data->>'guild_id') || ':' || channel_id")}
"""
ACTIVITY_COLUMNS = (
    "id, event_id, activity_type, platform_user_id, entity_id, amount, session_id::text AS session_id, created_at"
)
ACTIVITIES = f"discord_activities a WHERE {of_community('a.entity_id')}"


class InfoService:
    def __init__(self, db: Database, guilds: GuildService, shards: ShardReports) -> None:
        self._db = db
        self._guilds = guilds
        self._shards = shards

    def list_shards(self) -> list[dict[str, Any]]:
        return self._shards.list_shards()

    def list_guilds(self, community_id: int | None, page: Page) -> Listed[dict[str, Any]]:
        return self._guilds.list_guilds(community_id, page)

    def list_events(
        self, community_id: int | None, *, guild_id: str | None, channel_id: str | None, page: Page
    ) -> Listed[dict[str, Any]]:
        asked = {"guild_id": guild_id, "channel_id": channel_id, "community": community_id}
        return list_newest(self._db, EVENT_COLUMNS, EVENTS, asked, page)

    def list_activities(self, community_id: int | None, page: Page) -> Listed[dict[str, Any]]:
        return list_newest(self._db, ACTIVITY_COLUMNS, ACTIVITIES, {"community": community_id}, page)
