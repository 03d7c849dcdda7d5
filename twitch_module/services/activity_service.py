"""What Twitch has told and what it earned, for people to look at."""

from __future__ import annotations

from typing import Any

from waddlebot.collecting.event_lists import list_newest, of_community
from waddlebot.data.database import Database
from waddlebot.web.lists import Listed, Page

EVENT_COLUMNS = (
    "id, delivery_id, event_id, type, broadcaster_id AS channel_id, chatter_id AS platform_user_id, occurred_at,"
    " received_at, processed_at, state, detail, attempts, session_id, event_data -> 'event' AS event"
)
EVENTS = f"""
twitch_events WHERE broadcaster_id = coalesce(%(channel)s, broadcaster_id) AND type = coalesce(%(type)s, type)
    AND {of_community("'twitch::' || broadcaster_id")}
"""
ACTIVITY_COLUMNS = (
    "id, event_id, activity_type, platform_user_id, entity_id, amount, context_sent, session_id, created_at"
)
ACTIVITIES = f"""
twitch_activities a WHERE entity_id = coalesce('twitch::' || %(channel)s, entity_id)
    AND activity_type = coalesce(%(type)s, activity_type) AND {of_community("a.entity_id")}
"""


class ActivityService:
    """Lists, newest first; of one community's channels if it is named."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def list_events(
        self, community_id: int | None, page: Page, *, channel_id: str | None, type_: str | None
    ) -> Listed[dict[str, Any]]:
        asked = {"community": community_id, "channel": channel_id, "type": type_}
        return list_newest(self._db, EVENT_COLUMNS, EVENTS, asked, page)

    def list_activities(
        self, community_id: int | None, page: Page, *, channel_id: str | None, type_: str | None
    ) -> Listed[dict[str, Any]]:
        asked = {"community": community_id, "channel": channel_id, "type": type_}
        return list_newest(self._db, ACTIVITY_COLUMNS, ACTIVITIES, asked, page)
