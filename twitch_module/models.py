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
