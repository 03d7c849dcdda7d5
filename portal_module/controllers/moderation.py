"""The moderation log: whom a rule hit, with what, and what became of it at the platform."""

from __future__ import annotations

from typing import Any

from waddlebot.data.database import Database, fetch
from waddlebot.web.signin import Login
from waddlebot.web.site import page

from ..services.channels import ago
from ..services.seats import Seats
from .parts import asked

PAGE = 30
LOG = """
SELECT o.id, o.entity_id, o.state, o.detail, o.created_at, o.response_data->>'action' AS action,
    e.session_id::text AS session_id, e.event->>'message' AS message, e.verdict->'moderation'->>'rule_id' AS rule_id,
    e.verdict->'moderation'->>'times' AS times,
    e.user_id, u.display_name
FROM outbox o LEFT JOIN router_events e ON (e.platform, e.event_id) = (o.platform, o.event_id)
LEFT JOIN users u ON u.id = e.user_id
WHERE o.community_id = %(community)s AND o.response_action = 'moderate' AND o.id < %(before)s
ORDER BY o.id DESC LIMIT %(limit)s
"""
WORDS = {"delete": "Deleted", "warn": "Warned", "timeout": "Timed out", "ban": "Banned", "unban": "Unbanned"}
STATES = {
    "sent": ("good", "Done"),
    "pending": ("", "Waits"),
    "sending": ("", "At work"),
    "dropped": ("bad", "Not done"),
    "unknown": ("wait", "Nobody knows"),
}


@page("GET", "/portal/c/<community>/moderation", "moderation.html")
def show_moderation(community: str, login: Login, seats: Seats, database: Database) -> Any:
    """What the bot did about messages and people, the newest first."""
    seat = seats.take(login, community, "rules")
    before = asked("before")
    is_number = before.isascii() and before.isdigit() and len(before) < 19
    wanted = {"community": seat.community_id, "before": int(before) if is_number else 2**62, "limit": PAGE + 1}
    with database.lookup() as db:
        rows = fetch(db, LOG, wanted)
    more = rows[PAGE - 1]["id"] if len(rows) > PAGE else None
    return seat.shown(
        "Moderation", rows=rows[:PAGE], more=more, is_first=not before, words=WORDS, states=STATES, ago=ago
    )
