"""PyDAL's view of the collector's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field
from waddlebot.event_store import EventTable, define_activities

EVENTS = EventTable("slack_events", channel="channel_id", person="user_id")


def define_tables(db: DAL) -> None:
    if EVENTS.name in db.tables:
        return
    db.define_table(
        EVENTS.name,
        Field("delivery_id", "text"),
        Field("event_id", "text"),
        Field("type", "text"),
        Field("channel_id", "text"),
        Field("user_id", "text"),
        Field("event_data", "json"),
        Field("occurred_at", "datetime"),
        Field("state", "text"),
        Field("detail", "text"),
        Field("attempts", "integer"),
        Field("available_at", "datetime"),
        Field("holder", "text"),
        Field("lease_until", "datetime"),
        Field("session_id", "text"),
        Field("received_at", "datetime"),
        Field("processed_at", "datetime"),
    )
    define_activities(db, EVENTS)
    db.define_table(
        "slack_teams",
        Field("team_id", "text"),
        Field("name", "text"),
        Field("enterprise_id", "text"),
        Field("app_id", "text"),
        Field("bot_user_id", "text"),
        Field("source", "text"),
        Field("state", "text"),
        Field("reason", "text"),
        Field("installed_by", "text"),
        Field("installed_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["team_id"],
    )
    db.define_table(
        "slack_tokens",
        Field("owner_id", "text"),
        Field("access_token", "text"),
        Field("refresh_token", "text"),
        Field("expires_at", "datetime"),
        Field("scopes", "list:string"),
        Field("state", "text"),
        Field("reason", "text"),
        Field("version", "bigint"),
        Field("refresh_holder", "text"),
        Field("refresh_until", "datetime"),
        Field("checked_at", "datetime"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["owner_id"],
    )
    db.define_table(
        "slack_commands",
        Field("event_id", "text"),
        Field("team_id", "text"),
        Field("channel_id", "text"),
        Field("user_id", "text"),
        Field("command", "text"),
        Field("is_private", "boolean"),
        Field("response_url", "text"),
        Field("uses_left", "integer"),
        Field("usable_until", "datetime"),
        Field("created_at", "datetime"),
    )
