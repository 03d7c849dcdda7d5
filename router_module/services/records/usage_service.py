"""How often rules, commands and limits are used. Counted in memory and written now and then: a crash loses seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from threading import Lock

from psycopg2.extras import execute_values
from waddlebot.base.contracts import ExecutionStatus
from waddlebot.community.directory import ACTIVITY_WITHIN, note_activity
from waddlebot.data.database import Database, DatabaseUnavailable, fetch

from .work import Job, Work

WRITE_EVERY_S = 2.0


class UsageService:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = Lock()
        self._hits: Counter[int] = Counter()
        self._uses: Counter[tuple[int, str, str]] = Counter()
        self._requests: Counter[tuple[int, str, int]] = Counter()
        self._refused: Counter[tuple[int, str, int]] = Counter()
        # Of chat, by entity: timers wait for them.
        self._lines: Counter[str] = Counter()
        # Entities in which something happened.
        self._active: set[str] = set()

    def count(self, works: Iterable[Work]) -> None:
        """Count what these events hit and asked for."""
        with self._lock:
            for work in works:
                self._active.add(work.place.entity_id)
                if work.is_new_line:
                    self._lines[work.place.entity_id] += 1
                if work.hits:
                    self._hits.update(work.hits)
                for job in work.jobs:
                    self._count_job(work, job)

    def save(self) -> None:
        """Write down what was counted since the last time; while the database is away it is kept for the next."""
        with self._lock:
            counted = self._hits, self._uses, self._requests, self._refused
            lines, self._lines = self._lines, Counter()
            active, self._active = self._active, set()
            self._hits, self._uses, self._requests, self._refused = Counter(), Counter(), Counter(), Counter()
        try:
            self._write(*counted)
            self._write_lines(lines)
            self._write_activity(active)
        except DatabaseUnavailable:
            with self._lock:
                hits, uses, requests, refused = counted
                self._lines.update(lines)
                self._active |= active
                self._hits.update(hits)
                self._uses.update(uses)
                self._requests.update(requests)
                self._refused.update(refused)
            raise

    def _write_lines(self, lines: Counter[str]) -> None:
        if not lines:
            return
        self._db.statement(
            "UPDATE timers t SET lines = least(t.min_lines, t.lines + v.n) FROM ("
            " SELECT o.id, sum(n) AS n FROM unnest(%s::text[], %s::int[]) AS s (entity_id, n)"
            " JOIN entities e USING (entity_id) JOIN timers o ON o.community_id = e.community_id AND o.is_active"
            "  AND o.lines < o.min_lines AND (o.entity_id IS NULL OR o.entity_id = e.entity_id) GROUP BY o.id) v"
            " WHERE t.id = v.id",
            (list(lines), list(lines.values())),
        )

    def _write_activity(self, active: set[str]) -> None:
        if not active:
            return
        with self._db.transaction() as db:
            note_activity(db, active)
            fetch(
                db,
                "UPDATE coordination c SET last_activity = now() FROM entities e WHERE e.entity_id = ANY(%s)"
                " AND c.platform = e.platform AND c.server_id = e.server_id AND c.channel_id IN (e.channel_id, '')"
                " AND coalesce(c.last_activity, '-infinity') < now() - %s",
                (sorted(active), ACTIVITY_WITHIN),
            )

    def _write(
        self,
        hits: Counter[int],
        uses: Counter[tuple[int, str, str]],
        requests: Counter[tuple[int, str, int]],
        refused: Counter[tuple[int, str, int]],
    ) -> None:
        if not (hits or uses or requests):
            return
        with self._db.transaction() as db:
            cursor = db._adapter.cursor
            if hits:
                execute_values(
                    cursor,
                    "UPDATE stringmatch r SET match_count = match_count + v.hits, last_matched = now()"
                    " FROM (VALUES %s) AS v (id, hits) WHERE r.id = v.id",
                    sorted(hits.items()),
                )
            if uses:
                execute_values(
                    cursor,
                    "INSERT INTO command_permissions (community_id, entity_id, command, usage_count, last_used)"
                    " SELECT v.community_id, e.entity_id, v.command, v.uses, now()"
                    " FROM (VALUES %s) AS v (community_id, entity_id, command, uses) JOIN entities e USING (entity_id)"
                    " ON CONFLICT (community_id, entity_id, command) DO UPDATE"
                    " SET usage_count = command_permissions.usage_count + excluded.usage_count, last_used = now()",
                    sorted((*key, count) for key, count in uses.items()),
                )
            if requests:
                execute_values(
                    cursor,
                    "INSERT INTO rate_limits (command_id, entity_id, user_id, window_start, request_count,"
                    " refused_count)"
                    " SELECT c.id, v.entity_id, v.user_id, date_trunc('minute', now()), v.asked, v.refused"
                    " FROM (VALUES %s) AS v (command_id, entity_id, user_id, asked, refused)"
                    " JOIN commands c ON c.id = v.command_id"
                    " ON CONFLICT (command_id, entity_id, user_id, window_start) DO UPDATE"
                    " SET request_count = rate_limits.request_count + excluded.request_count,"
                    " refused_count = rate_limits.refused_count + excluded.refused_count",
                    sorted((*key, count, refused[key]) for key, count in requests.items()),
                )

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
            self._uses[work.place.community_id, entity_id, job.command.name] += 1
        if command_id is not None:
            key = (command_id, entity_id, work.person.own_id)
            self._requests[key] += 1
            if job.status is ExecutionStatus.RATE_LIMITED:
                self._refused[key] += 1
