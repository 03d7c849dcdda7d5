"""What Twitch has told and what it earned, for people to look at."""

from __future__ import annotations

from typing import Any

from waddlebot.data.database import Database

OWN = """(%(community)s::bigint IS NULL OR EXISTS (SELECT 1 FROM entities o
        WHERE o.entity_id = {entity} AND o.community_id = %(community)s))"""
OWN_CHANNEL, OWN_ENTITY = OWN.format(entity="'twitch::' || broadcaster_id"), OWN.format(entity="a.entity_id")
EVENTS = f"""
SELECT id, delivery_id, event_id, type, broadcaster_id AS channel_id, chatter_id AS platform_user_id, occurred_at,
    received_at, processed_at, state, detail, attempts, session_id, event_data -> 'event' AS event
FROM twitch_events WHERE broadcaster_id = coalesce(%(channel)s, broadcaster_id) AND type = coalesce(%(type)s, type)
    AND {OWN_CHANNEL}
ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
ACTIVITIES = f"""
SELECT id, event_id, activity_type, platform_user_id, entity_id, amount, context_sent, session_id, created_at
FROM twitch_activities a WHERE entity_id = coalesce('twitch::' || %(channel)s, entity_id)
    AND activity_type = coalesce(%(type)s, activity_type) AND {OWN_ENTITY}
ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
# Counting millions of rows for a list would take longer than reading it.
MAX_COUNTED = 10_000
COUNT = """
SELECT count(*) AS n FROM (SELECT 1 FROM {table} WHERE {channel} = coalesce(%(channel)s, {channel})
    AND {type} = coalesce(%(type)s, {type}) AND {own} LIMIT {at_most}) AS counted
"""
COUNT_EVENTS = COUNT.format(
    table="twitch_events", channel="broadcaster_id", type="type", own=OWN_CHANNEL, at_most=MAX_COUNTED
)
COUNT_ACTIVITIES = COUNT.format(
    table="twitch_activities a",
    channel="substr(entity_id, 9)",
    type="activity_type",
    own=OWN_ENTITY,
    at_most=MAX_COUNTED,
)


class ActivityService:
    """Lists, newest first, each with how many there are, 10 000 at most; of one community's channels if it is named."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def list_events(
        self, community_id: int | None, *, channel_id: str | None, type_: str | None, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]:
        asked = {"community": community_id, "channel": channel_id, "type": type_, "limit": limit, "offset": offset}
        return self._list(EVENTS, COUNT_EVENTS, **asked)

    def list_activities(
        self, community_id: int | None, *, channel_id: str | None, type_: str | None, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]:
        asked = {"community": community_id, "channel": channel_id, "type": type_, "limit": limit, "offset": offset}
        return self._list(ACTIVITIES, COUNT_ACTIVITIES, **asked)

    def _list(self, rows: str, count: str, **asked: Any) -> tuple[list[dict[str, Any]], int]:
        return self._db.statement(rows, asked), self._db.statement(count, asked)[0]["n"]
