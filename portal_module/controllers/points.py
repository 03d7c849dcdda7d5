"""Points: who has the most, who moved, and every entry of the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydal import DAL
from waddlebot.data.database import Database, fetch
from waddlebot.web.signin import Login
from waddlebot.web.site import page

from ..services import charts
from ..services.channels import ago
from ..services.figures import FigureService
from ..services.naming import in_words
from ..services.seats import Seats
from .parts import asked

PAGE = 30
# How far back is looked: where much happens a quarter of an hour has more than a page.
BACK_HOURS = (0.25, 3, 7 * 24)
LEDGER = """
SELECT e.*, u.display_name FROM (
    SELECT source_id::text AS source_id, event_name, event_score, processed_at, user_id FROM reputation_events
    WHERE community_id = %(community)s AND processed_at > now() - interval '7 days'
        AND processed_at > coalesce(%(before)s::timestamptz, now()) - %(back)s * interval '1 hour'
        AND processed_at < coalesce(%(before)s::timestamptz, 'infinity')
    ORDER BY processed_at DESC, source_id LIMIT %(limit)s
) AS e LEFT JOIN users u ON u.id = e.user_id ORDER BY e.processed_at DESC, e.source_id
"""


@page("GET", "/portal/c/<community>/points", "points.html")
def show_points(community: str, login: Login, seats: Seats, database: Database, figures: FigureService) -> Any:
    """Who has the most points, and what the last of them were for."""
    seat = seats.take(login, community, "people")
    leaders = figures.leaders(seat.community_id)
    with database.lookup() as db:
        rows = _ledger(db, seat.community_id, _moment(asked("before")))
    more = rows[PAGE - 1]["processed_at"].isoformat() if len(rows) > PAGE else ""
    bars = charts.bars(
        [(each["display_name"] or "Somebody", each["current_score"]) for each in leaders],
        f"{seat.path}/members?show=points",
    )
    return seat.shown(
        "Points",
        leaders=leaders,
        bars=bars,
        rows=rows[:PAGE],
        more=more,
        is_first=not asked("before"),
        ago=ago,
        in_words=in_words,
    )


def _ledger(db: DAL, community_id: int, before: datetime | None) -> list[dict[str, Any]]:
    """One entry more than a page has, out of as little as has them."""
    rows: list[dict[str, Any]] = []
    for back in BACK_HOURS:
        rows = fetch(db, LEDGER, {"community": community_id, "before": before, "back": back, "limit": PAGE + 1})
        if len(rows) > PAGE:
            break
    return rows


def _moment(text: str) -> datetime | None:
    """A time out of the address, or nothing."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
