"""Points: who has the most, who moved, and every entry of the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from waddlebot.data.database import Database, fetch
from waddlebot.web.signin import Login
from waddlebot.web.site import page

from ..services import charts
from ..services.channels import ago
from ..services.seats import Seats
from .parts import asked

PAGE = 30
LEDGER = """
SELECT e.source_id::text AS source_id, e.event_name, e.event_score, e.processed_at, e.user_id, u.display_name
FROM reputation_events e LEFT JOIN users u ON u.id = e.user_id
WHERE e.community_id = %(community)s AND e.processed_at > now() - interval '7 days'
    AND e.processed_at < coalesce(%(before)s::timestamptz, 'infinity')
ORDER BY e.processed_at DESC, e.source_id LIMIT %(limit)s
"""


@page("GET", "/portal/c/<community>/points", "points.html")
def show_points(community: str, login: Login, seats: Seats, database: Database) -> Any:
    """Who has the most points, and what the last of them were for."""
    seat = seats.take(login, community, "people")
    with database.lookup() as db:
        leaders = fetch(
            db,
            "SELECT r.user_id, u.display_name, r.current_score FROM user_reputation r JOIN users u ON u.id = r.user_id"
            " WHERE r.community_id = %s ORDER BY r.current_score DESC, r.user_id LIMIT 10",
            (seat.community_id,),
        )
        rows = fetch(
            db, LEDGER, {"community": seat.community_id, "before": _moment(asked("before")), "limit": PAGE + 1}
        )
    more = rows[PAGE - 1]["processed_at"].isoformat() if len(rows) > PAGE else ""
    bars = charts.bars(
        [(each["display_name"] or "Somebody", each["current_score"]) for each in leaders],
        f"{seat.path}/members?show=points",
    )
    return seat.shown(
        "Points", leaders=leaders, bars=bars, rows=rows[:PAGE], more=more, is_first=not asked("before"), ago=ago
    )


def _moment(text: str) -> datetime | None:
    """A time out of the address, or nothing."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
