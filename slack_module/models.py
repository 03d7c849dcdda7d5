"""PyDAL's view of the collector's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field
from waddlebot.collecting.event_store import EventTable, define_events
from waddlebot.community.tokens import define_tokens

EVENTS = EventTable("slack_events", channel="channel_id", person="user_id")


def define_tables(db: DAL) -> None:
    if EVENTS.name in db.tables:
        return
    define_events(db, EVENTS)
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
    define_tokens(db, "slack_tokens")
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
