"""The queue of each overlay: what is to be shown, what moderators do to it, and what was shown.

PostgreSQL has the truth; Redis only carries it to the hubs sooner than they would look.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import redis
from pydal import DAL
from waddlebot.base.errors import NotFound
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog, log_context
from waddlebot.community.communities import UnknownCommunity
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, Prepared, fetch, fetch_one
from waddlebot.web.lists import Listed, Page, fetch_page

from .frames import ITEMS, QUEUES, Source, item_frame
from .playback_service import is_track, note_track, without_player
from .router_service import Content

Control = Literal["skip", "pause", "resume", "clear"]
# A test is for whoever looks right now.
TEST_EXPIRES_AFTER = timedelta(seconds=60)
# A page that is away for less than this loses nothing, however much comes; the queue's size is for longer absences.
SETTLED_AFTER = timedelta(seconds=60)
CONTROLS_KEPT = timedelta(days=1)
# While Redis is away every item would wait for it to time out; the hubs look by themselves meanwhile.
REDIS_PAUSE_S = 1.0
CLEANUP_BATCH = 1000

SHOW = Prepared(
    "overlay_show",
    """
WITH known AS (
    SELECT seq, id FROM browser_source_history WHERE community_id = %(community)s::bigint
        AND source_type = %(source)s::text AND item_id = %(item_id)s::text
), queue AS (
    INSERT INTO browser_source_queues (community_id, source_type, last_seq)
    SELECT id, %(source)s::text, 1 FROM communities
        WHERE id = %(community)s::bigint AND is_active AND NOT EXISTS (SELECT 1 FROM known)
    ON CONFLICT (community_id, source_type) DO UPDATE SET last_seq = browser_source_queues.last_seq + 1
    RETURNING last_seq
), item AS (
    INSERT INTO browser_source_history
        (community_id, source_type, seq, item_id, session_id, traceparent, content, priority, display_s, is_test,
            expires_at)
    SELECT %(community)s::bigint, %(source)s::text, last_seq, %(item_id)s::text, %(session)s::text,
        %(traceparent)s::text, %(content)s::jsonb, %(priority)s::integer, %(display_s)s::float, %(is_test)s::boolean,
        now() + %(expires)s::interval FROM queue
    ON CONFLICT (community_id, source_type, item_id) DO NOTHING
    RETURNING seq, id
)
SELECT seq, id, false AS duplicate FROM item UNION ALL SELECT seq, id, true FROM known
""",
)


class NothingToReplay(NotFound):
    """Nothing was shown there yet."""

    code = "nothing_to_replay"


@dataclass(frozen=True, slots=True)
class Shown:
    """An item in its queue."""

    id: int
    seq: int
    duplicate: bool


class BrowserSourceService:
    def __init__(self, database: Database, bus: Bus, log: AAALog, *, item_expiry_s: float, queue_size: int) -> None:
        self._database = database
        self._bus = bus
        self._log = log
        self._expires_after = timedelta(seconds=item_expiry_s)
        self._queue_size = queue_size
        self._redis_away_until = 0.0

    def show(self, source: Source, content: Content, *, item_id: str, session_id: str, is_test: bool) -> Shown:
        """Put an item into its queue and send it to the pages. The same item again changes nothing.

        Raises: UnknownCommunity.
        """
        if is_track(content):
            return self._show_track(source, content, item_id=item_id, session_id=session_id, is_test=is_test)
        rows: list[dict[str, Any]] = []
        parameters = self._parameters(source, content, item_id=item_id, session_id=session_id, is_test=is_test)
        # A copy that came at the same moment makes the statement return nothing; by then that copy is there to find.
        for _ in range(2):
            rows = rows or self._database.statement(SHOW, parameters)
        if not rows:
            raise UnknownCommunity()
        shown = Shown(**rows[0])
        if not shown.duplicate:
            self._announce(source, content, shown.seq, item_id=item_id, is_test=is_test)
        return shown

    def _show_track(self, source: Source, content: Content, *, item_id: str, session_id: str, is_test: bool) -> Shown:
        """The same for what a page plays, with what is to be remembered of it."""
        if is_test:
            content = without_player(content)
        with self._database.transaction() as db:
            # One after the other, so that the track that is remembered is the one that was sent last.
            fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('playback ' || %s, 0))", (source.community_id,))
            shown = self.show_in(db, source, content, item_id=item_id, session_id=session_id, is_test=is_test)
            if is_track(content) and not shown.duplicate:
                note_track(db, source.community_id, content, seq=shown.seq, item_id=item_id)
        if not shown.duplicate:
            self._announce(source, content, shown.seq, item_id=item_id, is_test=is_test)
        return shown

    def show_in(
        self, db: DAL, source: Source, content: Content, *, item_id: str, session_id: str, is_test: bool = False
    ) -> Shown:
        """The same as a part of a transaction, whose end is followed by `announce`."""
        parameters = self._parameters(source, content, item_id=item_id, session_id=session_id, is_test=is_test)
        rows = SHOW.run(db, parameters)
        if not rows:
            raise UnknownCommunity()
        return Shown(**rows[0])

    def announce(self, source: Source) -> None:
        """Make the hubs look at a queue, after the commit of what changed it."""
        self._bus.invalidate(QUEUES, source)

    # What moderators do. Each runs in the caller's transaction, which is followed by `announce`.

    def control(self, db: DAL, source: Source, action: Control, *, by: str) -> int | None:
        """Skip what is shown now, pause, resume, or clear what waits. Returns the number of an item that is skipped."""
        self._lock(db, source)
        seq = self._skip(db, source) if action == "skip" else None
        if action == "skip" and seq is None:
            return None
        if action == "clear":
            fetch(
                db,
                "UPDATE browser_source_history SET state = 'skipped', done_at = now()"
                " WHERE community_id = %s AND source_type = %s AND state IN ('queued', 'shown')",
                (source.community_id, source.source_type),
            )
        self.add_control(db, source, action, seq=seq, by=by)
        self._log.audit(
            "overlay_controlled", community=source.community_id, user=by, source=str(source), control=action
        )
        return seq

    def replay(self, db: DAL, source: Source, *, item_id: str | None, by: str, only_alerts: bool = False) -> Shown:
        """Show an item of the history again, the last one that was shown unless one is named.

        Raises: NothingToReplay.
        """
        row = fetch_one(
            db,
            "SELECT item_id, session_id, content, priority, display_s FROM browser_source_history"
            " WHERE community_id = %(community)s AND source_type = %(source)s AND content->>'action' <> 'form'"
            " AND (NOT %(only_alerts)s OR content->'data'->>'kind' = 'alert')"
            " AND CASE WHEN %(item)s::text IS NULL THEN shown_at IS NOT NULL AND NOT is_test"
            " ELSE item_id = %(item)s END"
            " ORDER BY shown_at DESC NULLS LAST, seq DESC LIMIT 1",
            {
                "community": source.community_id,
                "source": source.source_type,
                "item": item_id,
                "only_alerts": only_alerts,
            },
        )
        if row is None:
            raise NothingToReplay()
        content = Content(
            row["content"]["action"], source.source_type, row["content"]["data"], row["display_s"], row["priority"]
        )
        self._log.audit("overlay_replayed", community=source.community_id, user=by, source=str(source))
        return self.show_in(
            db, source, without_player(content), item_id=f"replay-{new_id()}", session_id=row["session_id"]
        )

    def take_back(self, db: DAL, source: Source, *, session_id: str) -> bool:
        """Leave out what an event has to show and no page has begun to. False where nothing of it waits."""
        self._lock(db, source)
        rows = fetch(
            db,
            "UPDATE browser_source_history SET state = 'skipped', done_at = now() WHERE community_id = %s"
            " AND source_type = %s AND state = 'queued' AND session_id = %s AND item_id NOT LIKE 'replay-%%'"
            " RETURNING seq",
            (source.community_id, source.source_type, session_id),
        )
        for row in rows:
            self.add_control(db, source, "skip", seq=row["seq"])
        return bool(rows)

    def add_control(
        self, db: DAL, source: Source, action: str, *, seq: int | None = None, note: str = "", by: str = ""
    ) -> None:
        """Add to what pages are told; pausing and resuming also hold for pages that come later."""
        fetch(
            db,
            "WITH queue AS (INSERT INTO browser_source_queues AS q (community_id, source_type, last_control, is_paused)"
            " VALUES (%(community)s, %(source)s, 1, %(action)s = 'pause')"
            " ON CONFLICT (community_id, source_type) DO UPDATE SET last_control = q.last_control + 1, is_paused ="
            " CASE %(action)s WHEN 'pause' THEN true WHEN 'resume' THEN false ELSE q.is_paused END"
            " RETURNING last_control) INSERT INTO browser_source_controls"
            " (community_id, source_type, number, action, seq, note, created_by)"
            " SELECT %(community)s, %(source)s, last_control, %(action)s, %(seq)s, %(note)s, %(by)s FROM queue",
            {
                "community": source.community_id,
                "source": source.source_type,
                "action": action,
                "seq": seq,
                "note": note,
                "by": by,
            },
        )

    def list_history(self, db: DAL, source: Source, page: Page, *, state: str | None) -> Listed[dict[str, Any]]:
        """The newest items first, whatever became of them."""
        return fetch_page(
            partial(fetch, db),
            "SELECT item_id, seq, session_id, content->>'action' AS action, content->'data' AS data, priority,"
            " display_s, is_test, state, created_at, received_at, shown_at, done_at, expires_at,"
            " count(*) OVER () AS total FROM browser_source_history"
            " WHERE community_id = %(community)s AND source_type = %(source)s"
            " AND (%(state)s::text IS NULL OR state = %(state)s) ORDER BY seq DESC LIMIT %(limit)s OFFSET %(offset)s",
            {
                "community": source.community_id,
                "source": source.source_type,
                "state": state,
            },
            page,
        )

    def is_paused(self, db: DAL, source: Source) -> bool:
        row = fetch_one(
            db,
            "SELECT is_paused FROM browser_source_queues WHERE community_id = %s AND source_type = %s",
            (source.community_id, source.source_type),
        )
        return bool(row and row["is_paused"])

    # What time does

    def trim(self) -> None:
        """End what is too old to be shown, and what is too much for a page that has been away for long.

        What a page has received is its own to show, however much that is.
        """
        self._database.statement(
            "UPDATE browser_source_history SET state = 'expired', done_at = now() WHERE id IN ("
            "SELECT id FROM browser_source_history WHERE state = 'queued' AND expires_at <= now() LIMIT %s"
            " FOR UPDATE SKIP LOCKED)",
            (CLEANUP_BATCH,),
        )
        self._database.statement(
            "UPDATE browser_source_history SET state = 'dropped', done_at = now() WHERE state = 'queued' AND id IN ("
            "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY community_id, source_type"
            " ORDER BY priority, seq DESC) AS place FROM browser_source_history"
            " WHERE state = 'queued' AND received_at IS NULL AND created_at < now() - %s) AS waiting"
            " WHERE place > %s LIMIT %s)",
            (SETTLED_AFTER, self._queue_size, CLEANUP_BATCH),
        )

    def clean_up(self, *, access_log_days: int, history_days: int) -> bool:
        """Delete what is past its time, a batch of each. True when there may be more."""
        old = {
            ("browser_source_access_log", "accessed_at"): timedelta(days=access_log_days),
            ("browser_source_history", "created_at"): timedelta(days=history_days),
            ("browser_source_controls", "created_at"): CONTROLS_KEPT,
        }
        self._database.statement("DELETE FROM browser_source_tokens WHERE is_preview AND expires_at < now()")
        deleted = [
            self._database.statement(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {column} < now() - %s LIMIT %s)"
                " RETURNING id",
                (age, CLEANUP_BATCH),
            )
            for (table, column), age in old.items()
        ]
        return any(len(rows) == CLEANUP_BATCH for rows in deleted)

    def log_access(self, source: Source, *, token_id: int, address: str, user_agent: str) -> None:
        self._database.statement(
            "INSERT INTO browser_source_access_log (community_id, source_type, token_id, ip_address, user_agent)"
            " VALUES (%s, %s, %s, %s, %s)",
            (source.community_id, source.source_type, token_id, address[:64], user_agent[:300]),
        )

    def _parameters(
        self, source: Source, content: Content, *, item_id: str, session_id: str, is_test: bool
    ) -> dict[str, Any]:
        return {
            "community": source.community_id,
            "source": source.source_type,
            "item_id": item_id,
            "session": session_id,
            "traceparent": log_context().traceparent,
            "content": json.dumps(content.as_json()),
            "priority": content.priority,
            "display_s": content.display_s,
            "is_test": is_test,
            "expires": TEST_EXPIRES_AFTER if is_test else self._expires_after,
        }

    def _announce(self, source: Source, content: Content, seq: int, *, item_id: str, is_test: bool) -> None:
        if time.monotonic() < self._redis_away_until:
            return
        expires = TEST_EXPIRES_AFTER if is_test else self._expires_after
        frame = item_frame(
            seq,
            item_id,
            content.as_json(),
            display_s=content.display_s,
            is_test=is_test,
            expires_in_s=expires.total_seconds(),
        )
        try:
            self._bus.client.publish(f"{ITEMS}{source}", f"{seq} {frame}")
        except redis.RedisError:
            self._redis_away_until = time.monotonic() + REDIS_PAUSE_S

    @staticmethod
    def _lock(db: DAL, source: Source) -> None:
        fetch(
            db,
            "SELECT id FROM browser_source_queues WHERE community_id = %s AND source_type = %s FOR UPDATE",
            (source.community_id, source.source_type),
        )

    @staticmethod
    def _skip(db: DAL, source: Source) -> int | None:
        """End what is on the screen, or what comes next where nothing is."""
        row = fetch_one(
            db,
            "UPDATE browser_source_history SET state = 'skipped', done_at = now() WHERE id = ("
            "SELECT id FROM browser_source_history WHERE community_id = %s AND source_type = %s"
            " AND ((state = 'shown' AND (display_s = 0 OR shown_at > now() - make_interval(secs => display_s + 60)))"
            " OR (state = 'queued' AND expires_at > now()))"
            " ORDER BY state = 'shown' DESC, CASE WHEN state = 'shown' THEN -seq ELSE priority END, seq LIMIT 1)"
            " RETURNING seq",
            (source.community_id, source.source_type),
        )
        return row["seq"] if row else None
