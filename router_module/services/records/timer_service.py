"""Timers: what a community has said again and again (contracts §7). They are announcements of the router's.

One statement finds whose turn it is: those that are due, have seen enough lines and have a channel that wants to hear
them, the longest due of each community, and of none that heard one within the last minute. Whoever cannot be said yet
is looked at again after a tenth of its minutes, so that thousands of idle timers cost next to nothing.
"""

from __future__ import annotations

from typing import Any

from pydal import DAL
from waddlebot.base.chat import neutralise
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.ids import new_id
from waddlebot.base.text import fold
from waddlebot.base.variables import ANYWHERE, OF_A_STREAM
from waddlebot.data.database import Database, fetch, fetch_one

from .announcement_service import fill_in, list_channels, say_in
from .community_rows import CommunityRows, check_channel

MAX_TIMERS = 100
MAX_PREVIEWED = 20
# What a timer's text may say: nobody calls it.
IN_TIMERS = ANYWHERE | OF_A_STREAM | {"count"}
# How many communities hear one in one step; the rest is said in the next.
MAX_SAID = 50
STEP_S = 2.0
COLUMNS = ("entity_id", "name", "message", "minutes", "min_lines", "only_live", "is_active")
SHOWN = f"id, community_id, {', '.join(COLUMNS)}, said_at, CASE WHEN is_active THEN due_at END AS due_at"
# A channel that streams has to be live itself; anywhere else it is enough that one of the community's is.
LIVE = """
EXISTS (SELECT FROM coordination c JOIN entities e USING (entity_id) WHERE c.is_live AND e.community_id = t.community_id
    AND (t.entity_id IS NULL OR c.entity_id = t.entity_id
        OR NOT EXISTS (SELECT FROM coordination o WHERE o.entity_id = t.entity_id)))
"""
TURNS = f"""
SELECT DISTINCT ON (community_id) id, community_id, entity_id, message, only_live, said_count FROM timers t
WHERE is_active AND due_at <= now() AND lines >= min_lines AND (NOT only_live OR {LIVE})
    AND NOT EXISTS (SELECT FROM timers o WHERE o.community_id = t.community_id
        AND o.said_at > now() - interval '1 minute')
ORDER BY community_id, due_at, id LIMIT {MAX_SAID}
"""
POSTPONE = f"""
UPDATE timers t SET due_at = now() + greatest(minutes * interval '6 seconds', interval '15 seconds')
WHERE is_active AND due_at <= now() AND (lines < min_lines OR only_live AND NOT {LIVE} OR id = ANY(%s))
"""


class UnknownTimer(NotFound):
    """There is no such timer."""

    code = "unknown_timer"


class TimerExists(Conflict):
    """There is a timer of that name already. Remove it first, or choose another name."""

    code = "timer_exists"


class TooManyTimers(Conflict):
    """A community has at most 100 timers. Remove one first."""

    code = "too_many_timers"


def _check(db: DAL, community_id: int, values: dict[str, Any]) -> dict[str, Any]:
    check_channel(db, community_id, values["entity_id"])
    return {**values, "name": fold(values["name"])}


NEXT = "now() + %(minutes)s * interval '1 minute'"
TIMERS = CommunityRows(
    "timer",
    "timers",
    "timers",
    columns=COLUMNS,
    shown=SHOWN,
    unique=("name",),
    maximum=MAX_TIMERS,
    unknown=UnknownTimer,
    exists=TimerExists,
    too_many=TooManyTimers,
    check=_check,
    at_insert={"due_at": NEXT},
    at_update={"due_at": NEXT, "lines": "0"},
)


class TimerService:
    def __init__(self, db: Database) -> None:
        self._db = db

    def step(self) -> bool:
        """Say what is due. True when there may be more to say at once."""
        with self._db.transaction() as db:
            turn = fetch_one(db, "SELECT pg_try_advisory_xact_lock(hashtext('timers'), 0) AS ours")
            if turn is None or not turn["ours"]:
                return False
            turns = fetch(db, TURNS)
            # Whom nobody hears, as its channel is gone, takes no other timer's turn.
            said = [timer["id"] for timer in turns if _say(db, timer)]
            fetch(
                db,
                "UPDATE timers SET due_at = now() + minutes * interval '1 minute', said_at = now(), lines = 0,"
                " said_count = said_count + 1"
                " WHERE id = ANY(%s)",
                (said,),
            )
            fetch(db, POSTPONE, ([timer["id"] for timer in turns if timer["id"] not in said],))
        return len(turns) == MAX_SAID


def _say(db: DAL, timer: dict[str, Any]) -> bool:
    """Put it, with its variables, into the outbox for every channel that wants announcements and, if it matters, is no
    stream at rest. False where there is none."""
    community_id = timer["community_id"]
    channels = list_channels(db, community_id, entity_id=timer["entity_id"])
    if timer["only_live"]:
        asleep = fetch(
            db,
            "SELECT entity_id FROM coordination WHERE NOT is_live AND entity_id = ANY(%s)",
            ([each["entity_id"] for each in channels],),
        )
        at_rest = {each["entity_id"] for each in asleep}
        channels = [each for each in channels if each["entity_id"] not in at_rest]
    count = {"count": str(timer["said_count"] + 1)}
    texts = [fill_in(db, timer["message"], community_id, each["entity_id"], count) for each in channels]
    say_in(db, f"timer:{timer['id']}:{new_id()}", community_id, channels, texts)
    return bool(channels)


def preview(db: DAL, community_id: int, message: str, entity_id: str | None) -> list[dict[str, str]]:
    """What would be said now, and where. Raises: NotFound for a channel of somebody else's."""
    check_channel(db, community_id, entity_id)
    channels = list_channels(db, community_id, entity_id=entity_id)
    count = {"count": "1"}
    return [
        {
            "entity_id": each["entity_id"],
            "message": neutralise(fill_in(db, message, community_id, each["entity_id"], count)),
        }
        for each in channels[:MAX_PREVIEWED]
    ]


def get_timer(db: DAL, community_id: int, name: str) -> dict[str, Any]:
    """A timer by its name, held until the transaction ends. Raises: UnknownTimer."""
    row = TIMERS.find(db, community_id, "name", fold(name))
    if row is None:
        raise UnknownTimer(f"There is no timer {name[:50]} here.")
    return row
