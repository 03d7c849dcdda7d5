"""How often rules, commands and limits are used, and how much is said. Counted beside the commands (docs/adr/0063)."""

from __future__ import annotations

from collections.abc import Collection
from threading import Lock

from waddlebot.base.contracts import ExecutionStatus
from waddlebot.community.directory import ACTIVITY_WITHIN, note_activity
from waddlebot.data.database import Database, DatabaseUnavailable, fetch
from waddlebot.data.tally import Tally

from .work import Job, Work

HITS = """
UPDATE stringmatch r SET match_count = match_count + v.hits, last_matched = now()
FROM unnest(%(id)s::bigint[], %(hits)s::bigint[]) AS v (id, hits) WHERE r.id = v.id
"""
USES = """
INSERT INTO command_permissions (community_id, entity_id, command, usage_count, last_used)
SELECT v.community_id, e.entity_id, v.command, v.uses, now()
FROM unnest(%(community_id)s::bigint[], %(entity_id)s::text[], %(command)s::text[], %(uses)s::bigint[])
    AS v (community_id, entity_id, command, uses) JOIN entities e USING (entity_id)
ON CONFLICT (community_id, entity_id, command) DO UPDATE
    SET usage_count = command_permissions.usage_count + excluded.usage_count, last_used = now()
"""
REQUESTS = """
INSERT INTO rate_limits (command_id, entity_id, user_id, window_start, request_count, refused_count)
SELECT c.id, v.entity_id, v.user_id, date_trunc('minute', now()), v.asked, v.refused
FROM unnest(%(command_id)s::bigint[], %(entity_id)s::text[], %(user_id)s::bigint[], %(asked)s::bigint[],
    %(refused)s::bigint[]) AS v (command_id, entity_id, user_id, asked, refused)
    JOIN commands c ON c.id = v.command_id
ON CONFLICT (command_id, entity_id, user_id, window_start) DO UPDATE
    SET request_count = rate_limits.request_count + excluded.request_count,
        refused_count = rate_limits.refused_count + excluded.refused_count
"""
# Of chat, by entity: timers wait for them.
LINES = """
UPDATE timers t SET lines = least(t.min_lines, t.lines + v.n) FROM (
    SELECT o.id, sum(n) AS n FROM unnest(%(entity_id)s::text[], %(n)s::bigint[]) AS s (entity_id, n)
    JOIN entities e USING (entity_id) JOIN timers o ON o.community_id = e.community_id AND o.is_active
        AND o.lines < o.min_lines AND (o.entity_id IS NULL OR o.entity_id = e.entity_id) GROUP BY o.id) v
WHERE t.id = v.id
"""


class UsageService:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._hits = Tally(db, HITS, "id", "hits")
        self._uses = Tally(db, USES, "community_id", "entity_id", "command", "uses")
        self._requests = Tally(db, REQUESTS, "command_id", "entity_id", "user_id", "asked", "refused")
        self._lines = Tally(db, LINES, "entity_id", "n")
        self._lock = Lock()
        # Entities in which something happened.
        self._active: set[str] = set()

    def count(self, works: Collection[Work]) -> None:
        """Count what these events hit and asked for."""
        with self._lock:
            self._active.update(work.place.entity_id for work in works)
        for work in works:
            if work.is_new_line:
                self._lines.add((work.place.entity_id,), 1)
            for rule_id in work.hits:
                self._hits.add((rule_id,), 1)
            for job in work.jobs:
                self._count_job(work, job)

    def save(self) -> None:
        """Write down what was counted since the last time. Raises: DatabaseUnavailable; nothing is lost then."""
        for tally in (self._hits, self._uses, self._requests, self._lines):
            tally.save()
        self._save_activity()

    def _save_activity(self) -> None:
        with self._lock:
            active, self._active = self._active, set()
        if not active:
            return
        try:
            with self._db.transaction() as db:
                note_activity(db, active)
                fetch(
                    db,
                    "UPDATE coordination c SET last_activity = now() FROM entities e WHERE e.entity_id = ANY(%s)"
                    " AND c.platform = e.platform AND c.server_id = e.server_id AND c.channel_id IN (e.channel_id, '')"
                    " AND coalesce(c.last_activity, '-infinity') < now() - %s",
                    (sorted(active), ACTIVITY_WITHIN),
                )
        except DatabaseUnavailable:
            with self._lock:
                self._active |= active
            raise

    def forget_old_windows(self) -> bool:
        """Delete what is more than a week old, a piece at a time. True when there may be more."""
        gone = self._db.statement(
            "DELETE FROM rate_limits WHERE ctid = ANY(ARRAY(SELECT ctid FROM rate_limits"
            " WHERE window_start < now() - interval '7 days' LIMIT 5000)) RETURNING 1 AS gone"
        )
        return len(gone) == 5000

    def _count_job(self, work: Work, job: Job) -> None:
        entity_id, command_id = work.place.entity_id, job.command.id
        if job.status is not ExecutionStatus.DENIED:
            self._uses.add((work.place.community_id, entity_id, job.command.name), 1)
        if command_id is not None:
            is_refused = job.status is ExecutionStatus.RATE_LIMITED
            self._requests.add((command_id, entity_id, work.person.own_id), 1, int(is_refused))
