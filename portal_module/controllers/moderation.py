"""The moderation log: whom a rule hit, with what, and what became of it at the platform."""

from __future__ import annotations

import re
from typing import Any

from waddlebot.data.database import Database, fetch
from waddlebot.web.sessions import PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import page

from ..services.channels import ago
from ..services.seats import Seats
from .parts import Buttons, asked

PAGE = 30
# What was to be done at a platform, and what was only told, where nothing can be done. Sessions are in order of time.
LOG = """
WITH done AS (
    SELECT o.session_id, o.id, o.state, o.detail, o.response_data->>'action' AS action FROM outbox o
    WHERE o.community_id = %(community)s AND o.response_action = 'moderate'
        AND (o.session_id, o.id) < (%(session)s::uuid, %(id)s::bigint) ORDER BY o.id DESC LIMIT %(limit)s
), told AS (
    SELECT e.session_id, 0 AS id, 'told' AS state, '' AS detail, e.verdict->'moderation'->>'action' AS action
    FROM router_events e
    WHERE e.community_id = %(community)s AND e.verdict->'moderation'->>'action' IS NOT NULL
        AND (e.session_id, 0) < (%(session)s::uuid, %(id)s::bigint)
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.response_action = 'moderate'
            AND o.platform = e.platform AND o.event_id = e.event_id)
    ORDER BY e.session_id DESC LIMIT %(limit)s
)
SELECT d.*, d.session_id::text AS session_id, coalesce(e.received_at, o.created_at) AS at,
    e.event->>'message' AS message, e.user_id, u.display_name,
    e.verdict->'moderation'->>'rule_id' AS rule_id, e.verdict->'moderation'->>'times' AS times
FROM (SELECT * FROM done UNION ALL SELECT * FROM told) d
    LEFT JOIN router_events e USING (session_id) LEFT JOIN outbox o ON o.id = d.id
    LEFT JOIN users u ON u.id = e.user_id
ORDER BY d.session_id DESC, d.id DESC LIMIT %(limit)s
"""
NEWEST = ("ffffffff-ffff-ffff-ffff-ffffffffffff", 0)
PLACE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,18})")
WORDS = {
    "delete": "Deleted",
    "warn": "Warned",
    "timeout": "Timed out",
    "ban": "Banned",
    "unban": "Unbanned",
    "block": "Told",
}
# What goes on until somebody ends it, or by itself.
LASTS = ("timeout", "ban")
STATES = {
    "sent": ("good", "Done"),
    "pending": ("", "Waits"),
    "sending": ("", "At work"),
    "dropped": ("bad", "Not done"),
    "unknown": ("wait", "Nobody knows"),
    # Nothing can be done there, or nothing was asked for.
    "told": ("", "Told in chat"),
}


@page("GET", "/portal/c/<community>/moderation", "moderation.html")
def show_moderation(community: str, login: Login, session: PageSession, seats: Seats, database: Database) -> Any:
    """What the bot did about messages and people, the newest first."""
    seat = seats.take(login, community, "rules")
    place = PLACE.fullmatch(asked("before"))
    session_id, row_id = place.groups() if place else NEWEST
    wanted = {"community": seat.community_id, "session": session_id, "id": row_id, "limit": PAGE + 1}
    with database.lookup() as db:
        rows = fetch(db, LOG, wanted)
    more = f"{rows[PAGE - 1]['session_id']}.{rows[PAGE - 1]['id']}" if len(rows) > PAGE else None
    return seat.shown(
        "Moderation",
        rows=rows[:PAGE],
        more=more,
        is_first=place is None,
        words=WORDS,
        states=STATES,
        lasts=LASTS,
        ago=ago,
        button=Buttons(session),
    )
