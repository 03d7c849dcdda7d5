"""PyDAL's view of the collector's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field
from waddlebot.collecting.event_store import EventTable, define_events
from waddlebot.community.tokens import define_tokens

EVENTS = EventTable("twitch_events", channel="broadcaster_id", person="chatter_id")


def define_tables(db: DAL) -> None:
    if EVENTS.name in db.tables:
        return
    define_events(db, EVENTS)
    define_tokens(db, "twitch_tokens")
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
        "twitch_shoutouts",
        Field("broadcaster_id", "text"),
        Field("to_user_id", "text"),
        Field("state", "text"),
        Field("reason", "text"),
        Field("not_before", "datetime"),
        Field("expires_at", "datetime"),
        Field("sent_at", "datetime"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "twitch_conduits",
        Field("client_id", "text"),
        Field("conduit_id", "text"),
        Field("shard_count", "integer"),
        Field("total_cost", "integer"),
        Field("max_total_cost", "integer"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["client_id"],
    )
    db.define_table(
        "twitch_conduit_shards",
        Field("shard_id", "integer"),
        Field("container_id", "text"),
        Field("state", "text"),
        Field("detail", "text"),
        Field("heard_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["shard_id"],
    )
    db.define_table(
        "twitch_conduit_replicas",
        Field("container_id", "text"),
        Field("seen_at", "datetime"),
        primarykey=["container_id"],
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
