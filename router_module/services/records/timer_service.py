"""Timers: what a community has said again and again (contracts §7). They are announcements of the router's.

One statement finds whose turn it is: those that are due, have seen enough lines and have a channel that wants to hear
them, the longest due of each community, and of none that heard one within the last minute. Whoever cannot be said yet
is looked at again after a tenth of its minutes, so that thousands of idle timers cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base.chat import neutralise
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.ids import new_id
from waddlebot.base.text import fold
from waddlebot.base.variables import ANYWHERE, OF_A_STREAM
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.lists import Page, fetch_page, list_answer

from .announcement_service import fill_in, list_channels, say_in

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
WHERE is_active AND due_at <= now() AND (lines < min_lines OR only_live AND NOT {LIVE})
"""


class UnknownTimer(NotFound):
    """There is no such timer."""

    code = "unknown_timer"


class TimerExists(Conflict):
    """There is a timer of that name already."""

    code = "timer_exists"


class TooManyTimers(Conflict):
    """A community has at most 100 timers. Remove one first."""

    code = "too_many_timers"


class TimerService:
    def __init__(self, db: Database) -> None:
        self._db = db

    def list(self, community_id: int, page: Page) -> dict[str, Any]:
        with self._db.transaction() as db:
            listed = fetch_page(
                partial(fetch, db),
                f"SELECT {SHOWN}, count(*) OVER () AS total FROM timers WHERE community_id = %(community)s"
                " ORDER BY name LIMIT %(limit)s OFFSET %(offset)s",
                {"community": community_id},
                page,
            )
        return list_answer("timers", listed, page)

    def create(self, community_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add a timer, which is said for the first time after its minutes.

        Raises: TimerExists; TooManyTimers; NotFound for a channel of somebody else's.
        """
        with self._db.transaction() as db:
            return create_timer(db, community_id, values)

    def update(self, community_id: int, timer_id: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change what is named; it is said next after its minutes from now. Raises: UnknownTimer; as create does."""
        with self._db.transaction() as db:
            return update_timer(db, get_timer(db, community_id, timer_id=timer_id), changes)

    def delete(self, community_id: int, timer_id: int) -> None:
        """Raises: UnknownTimer."""
        with self._db.transaction() as db:
            delete_timer(db, get_timer(db, community_id, timer_id=timer_id))

    def step(self) -> bool:
        """Say what is due. True when there may be more to say at once."""
        with self._db.transaction() as db:
            turn = fetch_one(db, "SELECT pg_try_advisory_xact_lock(hashtext('timers'), 0) AS ours")
            if turn is None or not turn["ours"]:
                return False
            turns = fetch(db, TURNS)
            for timer in turns:
                _say(db, timer)
            fetch(
                db,
                "UPDATE timers SET due_at = now() + minutes * interval '1 minute', said_at = now(), lines = 0,"
                " said_count = said_count + 1"
                " WHERE id = ANY(%s)",
                ([timer["id"] for timer in turns],),
            )
            fetch(db, POSTPONE)
        return len(turns) == MAX_SAID


def _say(db: DAL, timer: dict[str, Any]) -> None:
    """Put it, with its variables, into the outbox for every channel that wants announcements and, if it matters, is no
    stream at rest."""
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


def preview(db: DAL, community_id: int, message: str, entity_id: str | None) -> list[dict[str, str]]:
    """What would be said now, and where. Raises: NotFound for a channel of somebody else's."""
    _check_channel(db, community_id, entity_id)
    channels = list_channels(db, community_id, entity_id=entity_id)
    count = {"count": "1"}
    return [
        {
            "entity_id": each["entity_id"],
            "message": neutralise(fill_in(db, message, community_id, each["entity_id"], count)),
        }
        for each in channels[:MAX_PREVIEWED]
    ]


def get_timer(db: DAL, community_id: int, *, timer_id: int | None = None, name: str | None = None) -> dict[str, Any]:
    """A timer by its number or its name, held until the transaction ends. Raises: UnknownTimer."""
    row = fetch_one(
        db,
        f"SELECT {SHOWN} FROM timers WHERE community_id = %s AND (id = %s OR name = %s) FOR UPDATE",
        (community_id, timer_id, fold(name) if name is not None else None),
    )
    if row is None:
        raise UnknownTimer(f"There is no timer {name[:50] if name is not None else timer_id} here.")
    return row


def create_timer(db: DAL, community_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Raises: as TimerService.create."""
    fetch(db, "SELECT pg_advisory_xact_lock(hashtext('timers'), %s)", (community_id % 2**31,))
    _check_channel(db, community_id, values["entity_id"])
    count = fetch_one(db, "SELECT count(*) AS there FROM timers WHERE community_id = %s", (community_id,))
    if count is not None and count["there"] >= MAX_TIMERS:
        raise TooManyTimers()
    row = fetch_one(
        db,
        f"INSERT INTO timers (community_id, due_at, {', '.join(COLUMNS)})"
        f" VALUES (%(community_id)s, now() + %(minutes)s * interval '1 minute',"
        f" {', '.join(f'%({column})s' for column in COLUMNS)})"
        f" ON CONFLICT DO NOTHING RETURNING {SHOWN}",
        {**values, "name": fold(values["name"]), "community_id": community_id},
    )
    if row is None:
        raise TimerExists(f"There is a timer {values['name']} already. Remove it first, or give this one another name.")
    _record(db, "timer_created", None, row)
    return row


def update_timer(db: DAL, before: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Raises: TimerExists; NotFound."""
    values = {column: before[column] for column in COLUMNS} | dict(changes)
    _check_channel(db, before["community_id"], values["entity_id"])
    values["name"] = fold(values["name"])
    other = "SELECT 1 FROM timers WHERE community_id = %s AND name = %s AND id <> %s"
    if fetch_one(db, other, (before["community_id"], values["name"], before["id"])):
        raise TimerExists(f"There is a timer {values['name']} already.")
    row = fetch_one(
        db,
        f"UPDATE timers SET {', '.join(f'{column} = %({column})s' for column in COLUMNS)}, updated_at = now(),"
        f" lines = 0, due_at = now() + %(minutes)s * interval '1 minute' WHERE id = %(id)s RETURNING {SHOWN}",
        {**values, "id": before["id"]},
    )
    assert row is not None, "a timer that is held is gone"
    _record(db, "timer_changed", before, row)
    return row


def delete_timer(db: DAL, before: dict[str, Any]) -> None:
    fetch(db, "DELETE FROM timers WHERE id = %s", (before["id"],))
    _record(db, "timer_deleted", before, None)


def list_timers(db: DAL, community_id: int) -> list[dict[str, Any]]:
    return fetch(db, f"SELECT {SHOWN} FROM timers WHERE community_id = %s ORDER BY name", (community_id,))


def _check_channel(db: DAL, community_id: int, entity_id: str | None) -> None:
    here = "SELECT 1 FROM entities WHERE entity_id = %s AND community_id = %s"
    if entity_id is not None and not fetch_one(db, here, (entity_id, community_id)):
        raise NotFound(f"{entity_id} is not a channel of this community.", field="entity_id")


def _record(db: DAL, action: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    timer = before or after
    assert timer is not None
    was = before and {column: before[column] for column in COLUMNS}
    path = f"/router/communities/{timer['community_id']}/timers"
    undo = Undo("PUT", f"{path}/{timer['id']}", was) if after else Undo("POST", path, was)
    if not before:
        undo = Undo("DELETE", f"{path}/{timer['id']}")
    audit.record(
        db,
        "router",
        action,
        f"timer/{timer['id']}",
        community_id=timer["community_id"],
        before=was,
        after=after and {column: after[column] for column in COLUMNS},
        undo=undo,
    )
