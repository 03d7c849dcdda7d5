"""PyDAL's view of the collector's table; the migrations make it."""

from __future__ import annotations

from pydal import DAL, Field
from waddlebot.event_store import EventTable, define_activities

EVENTS = EventTable("twitch_events", channel="broadcaster_id", person="chatter_id")


def define_tables(db: DAL) -> None:
    if EVENTS.name in db.tables:
        return
    db.define_table(
        EVENTS.name,
        Field("delivery_id", "text"),
        Field("event_id", "text"),
        Field("type", "text"),
        Field("broadcaster_id", "text"),
        Field("chatter_id", "text"),
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
        "twitch_tokens",
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
        "twitch_channels",
        Field("broadcaster_id", "text"),
        Field("login", "text"),
        Field("display_name", "text"),
        Field("is_live", "boolean"),
        Field("viewer_count", "integer"),
        Field("title", "text"),
        Field("game_name", "text"),
        Field("bot_moderates", "boolean"),
        Field("checked_at", "datetime"),
        Field("trouble", "text"),
        Field("purged_to", "bigint"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["broadcaster_id"],
    )
    db.define_table(
        "twitch_subscriptions",
        Field("broadcaster_id", "text"),
        Field("type", "text"),
        Field("version", "text"),
        Field("subscription_id", "text"),
        Field("transport", "text"),
        Field("status", "text"),
        Field("reason", "text"),
        Field("cost", "integer"),
        Field("retry_at", "datetime"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
