"""What becomes of somebody who breaks a rule again and again (contracts §7): the more often within a time, the more.

All accounts of a person count together; what is longer ago than a step looks back does not count for it any more, so
everything decays by itself. !forgive forgets it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import NotFound, UsageError, UserError
from waddlebot.base.variables import lasted
from waddlebot.community.people import find_by_name
from waddlebot.data import audit
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.lists import Page, fetch_page, list_answer

from ..commands.rehearsing import changing
from ..records.work import Work
from .escalation_steps import MAX_WITHIN_S, Step, StepAction

DEFAULT_TIMEOUT_S = 600
# Two lines of one person at once count one after the other.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('violations:' || %(rule)s || ':' || %(head)s, 0))"
NOTE = """
INSERT INTO violations (community_id, rule_id, own_id, platform, event_id, entity_id)
VALUES (%(community)s, %(rule)s, %(own)s, %(platform)s, %(event)s, %(entity)s) ON CONFLICT DO NOTHING
"""
# Those up to this very event, the newest first; an event that comes again counts as it did.
AGES = """
SELECT extract(epoch FROM mine.created_at - v.created_at)::float AS age_s FROM violations v, (
    SELECT coalesce(max(id), 9223372036854775807) AS id, coalesce(max(created_at), clock_timestamp()) AS created_at
    FROM violations WHERE platform = %(platform)s AND event_id = %(event)s AND rule_id = %(rule)s) AS mine
WHERE v.rule_id = %(rule)s AND v.own_id = ANY(%(ids)s) AND v.community_id = %(community)s AND v.id <= mine.id
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """What is done this time, and the how manieth it is."""

    action: StepAction
    duration_s: int | None
    times: int

    @property
    def in_words(self) -> str:
        if self.action == "timeout":
            return f"(Time {self.times}: timed out for {lasted(timedelta(seconds=self.duration_s or 0))}.)"
        return f"(Time {self.times}: banned.)" if self.action == "ban" else f"(Time {self.times}.)"


class Escalation:
    def __init__(self, db: Database) -> None:
        self._db = db

    def reach(self, work: Work, rule_id: int, steps: Sequence[Step]) -> Reached | None:
        """Note that somebody broke a rule, and say what becomes of it. None: what the rule does anyway.

        The same event again is no other time; a simulated one is not noted.
        """
        values = {
            "community": work.place.community_id,
            "rule": rule_id,
            "own": work.person.own_id,
            "head": work.person.head_id,
            "ids": list(work.person.ids),
            "platform": work.event.platform,
            "event": work.event.event_id,
            "entity": work.place.entity_id,
        }
        with self._db.transaction() as db:
            if not work.is_simulated:
                fetch(db, LOCK, values)
                fetch(db, NOTE, values)
            ages = [float(row["age_s"]) for row in fetch(db, AGES, values)] + [0.0] * work.is_simulated
            reached = _reached(steps, ages)
            if reached and not work.is_simulated:
                done = "UPDATE violations SET action = %(action)s WHERE platform = %(platform)s"
                fetch(
                    db, f"{done} AND event_id = %(event)s AND rule_id = %(rule)s", {**values, "action": reached.action}
                )
        return reached

    def list(self, community_id: int, page: Page) -> dict[str, Any]:
        """Who broke which rule how often, as far as it still counts for anything; the most recent first."""
        with self._db.lookup() as db:
            listed = fetch_page(
                partial(fetch, db),
                "SELECT coalesce(u.head_id, u.id) AS user_id, max(h.display_name) AS display_name, rule_id,"
                " count(*) AS times, max(v.created_at) AS last_at, (array_agg(action ORDER BY v.id DESC))[1] AS action,"
                " count(*) OVER () AS total FROM violations v JOIN users u ON u.id = v.own_id"
                " JOIN users h ON h.id = coalesce(u.head_id, u.id) WHERE v.community_id = %(community)s"
                " GROUP BY 1, 3 ORDER BY max(v.id) DESC LIMIT %(limit)s OFFSET %(offset)s",
                {"community": community_id},
                page,
            )
        return list_answer("violations", listed, page)

    def forgive(self, community_id: int, user_id: int) -> int:
        """Forget what somebody did there, under all of their names. Returns how often that was."""
        with self._db.transaction() as db:
            return forgive(db, community_id, user_id)

    def forgive_by_name(self, call: ModuleCall) -> str:
        """What !forgive does."""
        name = " ".join(call.trigger.args).lstrip("@").strip()
        if not name:
            raise UsageError("Usage: !forgive @who")
        with self._db.lookup() as db:
            found = find_by_name(db, name, platform=call.entity.platform, community_id=call.community.id)
        if found is None:
            raise UserError(f"Nobody called {shorten(name, 60)} has written here yet.")

        def change(db: DAL) -> str:
            times = forgive(db, call.community.id, found)
            if not times:
                return f"There is nothing to forgive {shorten(name, 60)}."
            return f"Forgiven: {shorten(name, 60)} broke rules {'once' if times == 1 else f'{times} times'}."

        return changing(self._db, call, change)

    def forget_old(self) -> None:
        self._db.statement(
            "DELETE FROM violations WHERE created_at < now() - %s * interval '1 second'", (MAX_WITHIN_S,)
        )


def forgive(db: DAL, community_id: int, user_id: int) -> int:
    """Raises: NotFound for a number that nobody has."""
    if fetch_one(db, "SELECT id FROM users WHERE id = %s", (user_id,)) is None:
        raise NotFound(f"There is no user {user_id}.")
    gone = fetch(
        db,
        "DELETE FROM violations WHERE community_id = %(community)s AND own_id IN (SELECT o.id FROM users me"
        " JOIN users o ON coalesce(o.head_id, o.id) = coalesce(me.head_id, me.id) WHERE me.id = %(user)s) RETURNING id",
        {"community": community_id, "user": user_id},
    )
    if gone:
        was = {"violations": len(gone)}
        audit.record(db, "router", "forgiven", f"violations/{user_id}", community_id=community_id, before=was, after={})
    return len(gone)


def _reached(steps: Sequence[Step], ages: Sequence[float]) -> Reached | None:
    counted = [(step, sum(age < step.within_s for age in ages)) for step in steps]
    reached = [(step, times) for step, times in counted if times >= step.after]
    if not reached:
        return None
    step, times = reached[-1]
    duration_s = (step.duration_s or DEFAULT_TIMEOUT_S) if step.action == "timeout" else None
    return Reached(step.action, duration_s, times)
