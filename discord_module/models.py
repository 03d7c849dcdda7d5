"""PyDAL's view of the collector's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field
from waddlebot.collecting.event_store import EventTable, define_events

EVENTS = EventTable("discord_events", channel="channel_id", person="user_id")


def define_tables(db: DAL) -> None:
    if EVENTS.name in db.tables:
        return
    define_events(db, EVENTS)
    db.define_table(
        "discord_guilds",
        Field("guild_id", "text"),
        Field("name", "text"),
        Field("owner_id", "text"),
        Field("member_count", "integer"),
        Field("system_channel_id", "text"),
        Field("is_available", "boolean"),
        Field("added_by", "text"),
        Field("joined_at", "datetime"),
        Field("left_at", "datetime"),
        Field("commands_hash", "text"),
        Field("commands", "json"),
        Field("commands_refused", "text"),
        Field("commands_retry_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["guild_id"],
    )
    db.define_table(
        "discord_shards",
        Field("shard_id", "integer"),
        Field("shard_count", "integer"),
        Field("container_id", "text"),
        Field("state", "text"),
        Field("detail", "text"),
        Field("guilds", "integer"),
        Field("latency_ms", "double"),
        Field("updated_at", "datetime"),
        Field("session_id", "text"),
        Field("sequence", "bigint"),
        Field("resume_url", "text"),
        Field("privileged", "boolean"),
        primarykey=["shard_id"],
    )
    db.define_table(
        "discord_interactions",
        Field("interaction_id", "text"),
        Field("guild_id", "text"),
        Field("channel_id", "text"),
        Field("user_id", "text"),
        Field("command", "text"),
        Field("token_sealed", "text"),
        Field("first_reply", "bigint"),
        Field("created_at", "datetime"),
        primarykey=["interaction_id"],
    )
    db.define_table(
        "discord_voice_sessions",
        Field("guild_id", "text"),
        Field("user_id", "text"),
        Field("channel_id", "text"),
        Field("name", "text"),
        Field("display_name", "text"),
        Field("minutes", "integer"),
        Field("joined_at", "datetime"),
        Field("seen_at", "datetime"),
    )
