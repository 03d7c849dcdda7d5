"""What the collector has taken in and done, for whoever looks after it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import TimeoutError as NotInTime
from typing import Any

from waddlebot.base.bridge import Bridge
from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import NotFound, UpstreamTimeout
from waddlebot.base.logs import AAALog
from waddlebot.collecting.event_lists import list_newest, of_community
from waddlebot.collecting.moderation import Act, ModerationAction
from waddlebot.data.database import Database
from waddlebot.web.lists import Listed, Page

from .installations import Installations

MAX_TEAMS = 1000
ACT_WITHIN_S = 15.0
TYPES = ["message", "app_mention", "file_share", "reaction_added", "member_joined_channel", "member_left_channel"]

EVENT_COLUMNS = (
    "id, delivery_id, event_id, type, event_data->>'team_id' AS team_id, channel_id, user_id, state, detail,"
    " session_id::text, occurred_at, received_at, processed_at"
)
EVENTS = f"""slack_events WHERE {of_community("'slack:' || (event_data->>'team_id') || ':' || channel_id")}"""
ACTIVITY_COLUMNS = (
    "id, event_id, activity_type, platform_user_id AS user_id, entity_id, amount, context_sent, created_at"
)
ACTIVITIES = f"slack_activities a WHERE {of_community('a.entity_id')}"


class Records:
    def __init__(
        self,
        db: Database,
        installations: Installations,
        act: Act,
        bridge: Bridge,
        *,
        socket_mode: bool,
        serves: Callable[[str, str], bool],
        log: AAALog,
    ) -> None:
        self._db = db
        self._installations = installations
        self._act = act
        self._bridge = bridge
        self._socket_mode = socket_mode
        self._serves = serves
        self._log = log

    def info(self, community_id: int | None) -> dict[str, Any]:
        return {
            "platform": "slack",
            "intake": "socket" if self._socket_mode else "webhook",
            "supported_events": TYPES,
            "workspaces": self._installations.list_teams(community_id, limit=MAX_TEAMS),
        }

    def list_events(self, community_id: int | None, page: Page) -> Listed[dict[str, Any]]:
        return list_newest(self._db, EVENT_COLUMNS, EVENTS, {"community": community_id}, page)

    def list_activities(self, community_id: int | None, page: Page) -> Listed[dict[str, Any]]:
        return list_newest(self._db, ACTIVITY_COLUMNS, ACTIVITIES, {"community": community_id}, page)

    def moderate(self, asked: dict[str, Any], *, by: str) -> dict[str, Any]:
        """Do it now. Raises: NotFound for a place that is not served; UpstreamTimeout."""
        action = ModerationAction(**asked)
        _, server_id, channel_id = action.entity_id.split(":")
        if not self._serves(channel_id, server_id):
            raise NotFound(f"{action.entity_id} is not served.")
        try:
            outcome = self._bridge.submit(self._act(action)).result(ACT_WITHIN_S)
        except NotInTime as err:
            raise UpstreamTimeout("Slack did not answer in time; it may have been done.") from err
        self._log.audit("moderated", entity_id=action.entity_id, what=action.action, by=by, state=outcome.state.value)
        return {
            "success": outcome.state is OutboxState.SENT,
            "action": action.action,
            "state": outcome.state.value,
            "detail": outcome.detail,
        }
