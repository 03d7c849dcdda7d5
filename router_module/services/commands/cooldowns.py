"""How long commands and aliases rest after a use (contracts §7). In PostgreSQL, unlike limits: a cooldown of an hour
has to outlast a restart, and it is one for all replicas. Only commands that have one cost anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from waddlebot.base.contracts import Level
from waddlebot.data.database import Database, fetch, fetch_one

from ..catalogue.catalogue import Terms
from ..records.work import Job, Work

# Whoever asks for the same command in the same place at the same moment waits for the other.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('cooldown:' || %(entity)s || %(command)s, 0))"
TAKE = """
WITH rests AS (
    SELECT own_id, extract(epoch FROM until - clock_timestamp())::float AS left_s FROM cooldowns
    WHERE entity_id = %(entity)s AND command = %(command)s AND until > clock_timestamp()
        AND (%(all_s)s > 0 AND own_id = 0 OR %(person_s)s > 0 AND own_id = ANY(%(ids)s))
), taken AS (
    INSERT INTO cooldowns (entity_id, community_id, command, own_id, execution_id, until)
    SELECT %(entity)s, %(community)s, %(command)s, own_id, %(execution)s::uuid,
        clock_timestamp() + seconds * interval '1 second'
    FROM (VALUES (0::bigint, %(all_s)s), (%(own)s::bigint, %(person_s)s)) AS wanted (own_id, seconds)
    WHERE seconds > 0 AND NOT EXISTS (SELECT FROM rests)
    ON CONFLICT (entity_id, command, own_id) DO UPDATE SET execution_id = excluded.execution_id, until = excluded.until
)
SELECT own_id, left_s FROM rests ORDER BY left_s DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Resting:
    """Why a command is not run: whom it rests for, and how much longer."""

    for_everybody: bool
    left_s: float
    terms: Terms

    def refusal(self, job: Job) -> str:
        seconds = self.terms.cooldown_s if self.for_everybody else self.terms.cooldown_person_s
        whom = "everybody here" if self.for_everybody else "you"
        left = max(1, math.ceil(self.left_s))
        return f"{job.command.name} rests for {whom}, {seconds} s after each use. Try again in {left} s."


class Cooldowns:
    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(self, asked: Sequence[tuple[Work, Job, Terms, Level]]) -> dict[str, Resting]:
        """Begin the cooldown of each job that may run now, in their order; the others by their execution ids.

        Whose level a cooldown leaves alone begins none either.
        """
        wanted = [
            (work, job, terms)
            for work, job, terms, level in asked
            if terms.rests and (terms.cooldown_exempt is None or level < terms.cooldown_exempt)
        ]
        if not wanted:
            return {}
        resting: dict[str, Resting] = {}
        # In one order everywhere, so that no two batches wait for each other for ever.
        wanted.sort(key=lambda each: (each[0].place.entity_id, each[1].command.name))
        with self._db.transaction() as db:
            for work, job, terms in wanted:
                values = _values(work, job, terms)
                fetch(db, LOCK, values)
                row = fetch_one(db, TAKE, values)
                if row:
                    resting[job.execution_id] = Resting(row["own_id"] == 0, row["left_s"], terms)
                else:
                    job.rests = terms
        return resting

    def refund(self, jobs: Iterable[Job]) -> None:
        """End the cooldowns that these began: they did not run."""
        begun = [job for job in jobs if job.rests]
        if begun:
            ids = [job.execution_id for job in begun]
            self._db.statement("DELETE FROM cooldowns WHERE execution_id = ANY(%s::uuid[])", (ids,))
        for job in begun:
            job.rests = None

    def forget_old(self) -> None:
        self._db.statement("DELETE FROM cooldowns WHERE until < now()")


def _values(work: Work, job: Job, terms: Terms) -> dict[str, object]:
    return {
        "entity": work.place.entity_id,
        "community": work.place.community_id,
        "command": job.command.name,
        "all_s": terms.cooldown_s,
        "person_s": terms.cooldown_person_s,
        "own": work.person.own_id,
        "ids": list(work.person.ids),
        "execution": job.execution_id,
    }
