"""Points that a community carries to another fleet, and points that it brings from another bot.

A fleet's own export says how many points somebody has, and an import makes it so. What comes from another bot is added
to what they have here: it is remembered in the ledger how much was brought from where, so that the same again adds
nothing, and more of it only the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.ids import new_id
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.people import ensure_person
from waddlebot.module.portable import Item, Part, Unchanged

from ..people.reputation_service import EARN, correct_in

MODULE = "router"
MAX_POINTS = 10**12
BROUGHT = "brought."
Points = Annotated[int, Field(ge=-MAX_POINTS, le=MAX_POINTS)]
Identity = Annotated[str, StringConstraints(min_length=3, max_length=255)]
Origin = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
OF_ORIGIN = """
SELECT user_id, sum(event_score)::bigint AS points FROM reputation_events
WHERE community_id = %(community)s AND event_name = %(event)s GROUP BY 1 HAVING sum(event_score) <> 0
"""


class PointsItem(Item):
    """How many points somebody has."""

    kind: Literal["points"] = "points"
    person: Identity
    points: Points


class BroughtItem(Item):
    """How many points somebody had at another bot."""

    kind: Literal["points_from"] = "points_from"
    origin: Origin
    person: Identity
    points: Points


def points_part() -> Part[PointsItem]:
    def export(db: DAL, community_id: int) -> list[PointsItem]:
        rows = fetch(
            db,
            "SELECT i.platform || ':' || i.platform_user_id AS person, r.current_score AS points"
            " FROM user_reputation r JOIN LATERAL (SELECT * FROM platform_identities i WHERE i.user_id = r.user_id"
            "  ORDER BY id LIMIT 1) i ON true WHERE r.community_id = %s AND r.current_score <> 0 ORDER BY 1",
            (community_id,),
        )
        return [PointsItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: PointsItem, known: PointsItem | None) -> None:
        own_id = ensure_person(db, item.person, member_of=community_id)
        more = item.points - (known.points if known else 0)
        if not more:
            raise Unchanged()
        correct_in(db, community_id, own_id, more, "As an import says")

    tables = ("user_reputation", "reputation_events", "community_memberships")
    return Part(PointsItem, lambda item: item.person, export, put, tables=tables)


def brought_part() -> Part[BroughtItem]:
    def put(db: DAL, community_id: int, item: BroughtItem, _known: BroughtItem | None) -> str:
        own_id = ensure_person(db, item.person, member_of=community_id)
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"points from elsewhere {community_id}",))
        event = BROUGHT + item.origin
        before = fetch_one(
            db,
            "SELECT coalesce(sum(event_score), 0)::bigint AS points FROM reputation_events"
            " WHERE community_id = %s AND user_id = %s AND event_name = %s",
            (community_id, own_id, event),
        )
        assert before is not None
        more = item.points - before["points"]
        if not more:
            raise Unchanged("These points were brought already.")
        _add(db, community_id, own_id, event, more)
        return f"{more:+,} points are added to what they have here."

    def settle(db: DAL, community_id: int, items: Sequence[BroughtItem]) -> None:
        for origin in sorted({item.origin for item in items}):
            _record(db, "points_brought", community_id, origin)

    # What was brought is in the sums already, so an export has none of it.
    return Part(BroughtItem, lambda item: (item.origin, item.person), lambda *_: [], put, settle=settle)


def take_back(db: DAL, community_id: int, origin: str) -> int:
    """Take from everybody what was brought from there. Returns how many people that were."""
    rows = fetch(db, OF_ORIGIN, {"community": community_id, "event": BROUGHT + origin})
    for row in rows:
        _add(db, community_id, row["user_id"], BROUGHT + origin, -row["points"])
    _record(db, "points_taken_back", community_id, origin)
    return len(rows)


def _add(db: DAL, community_id: int, own_id: int, event: str, points: int) -> None:
    values: dict[str, Any] = {"community": community_id, "user": own_id, "event": event, "score": points}
    fetch(db, EARN, {**values, "source": new_id(), "entity": "", "amount": None})


def _record(db: DAL, action: str, community_id: int, origin: str) -> None:
    """One entry for all of them: what there is from that origin now, and what takes all of it back."""
    row = fetch_one(
        db,
        f"SELECT count(*) AS people, coalesce(sum(points), 0)::bigint AS points FROM ({OF_ORIGIN}) AS brought",
        {"community": community_id, "event": BROUGHT + origin},
    )
    undo = Undo("DELETE", f"/router/reputation/{community_id}/brought/{origin}")
    audit.record(
        db,
        MODULE,
        action,
        f"points_from/{origin}",
        community_id=community_id,
        after=row,
        undo=undo if action == "points_brought" else None,
    )
