"""What a community's media overlay plays: the track that was sent last, and telling the router what became of it.

The page that leads says so to its hub, which writes it down; here it goes to the router, each state of a track once.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import Playback
from waddlebot.base.errors import UpstreamError, UpstreamRefused
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, fetch
from waddlebot.web.clients import RouterClient

from .router_service import Content

BATCH = 50
# Nobody plays a track that no page has led for so long.
NO_PAGE_AFTER_S = 30
# Long enough for a whole batch that is answered slowly.
LEASE_S = 30
RETRY_AFTER_S = 2
# Tracks end within hours; a page that comes back with an old one is not asked what became of it.
KEPT = "7 days"


def is_track(content: Content) -> bool:
    """Whether it is about something that a page plays, or that it is to stop playing."""
    return content.action == "media" and bool(content.data.get("track_id"))


def without_player(content: Content) -> Content:
    """The same to look at only: what is shown again, or as a test, plays nothing."""
    if not is_track(content):
        return content
    return replace(content, data={**content.data, "player": "none", "track_id": ""})


def note_track(db: DAL, community_id: int, content: Content, *, seq: int, item_id: str) -> None:
    """Remember what is to be played now. A track without a player is over, one with another id takes its place."""
    asked = {"community": community_id, "track": content.data["track_id"], "seq": seq, "item": item_id}
    if content.data["player"] == "none":
        fetch(
            db,
            "DELETE FROM browser_source_playback WHERE community_id = %(community)s AND track_id = %(track)s",
            asked,
        )
        return
    fetch(
        db,
        "INSERT INTO browser_source_playback AS p (community_id, track_id, item_id, seq, position_ms)"
        " VALUES (%(community)s, %(track)s, %(item)s, %(seq)s, %(position)s)"
        " ON CONFLICT (community_id) DO UPDATE SET seq = excluded.seq, track_id = excluded.track_id,"
        + ", ".join(
            f" {column} = CASE WHEN p.track_id = excluded.track_id THEN p.{column} ELSE excluded.{column} END"
            for column in ("item_id", "state", "position_ms", "code", "reported_at", "created_at")
        ),
        {**asked, "position": content.data["progress_ms"]},
    )
    # What no page has received of the tracks before it would only flicker by on the first one that comes.
    fetch(
        db,
        "UPDATE browser_source_history SET state = 'skipped', done_at = now() WHERE community_id = %(community)s"
        " AND source_type = 'media' AND state = 'queued' AND received_at IS NULL AND seq < %(seq)s"
        " AND content->'data'->>'track_id' <> ''",
        asked,
    )


class PlaybackService:
    def __init__(self, database: Database, router: RouterClient, log: AAALog) -> None:
        self._database = database
        self._router = router
        self._log = log
        self.wake = threading.Event()

    def look_for_pages(self) -> None:
        """Note that nobody plays what should be playing."""
        noted = self._database.statement(
            "INSERT INTO browser_source_playback_reports (community_id, item_id, track_id, state, position_ms)"
            " SELECT p.community_id, p.item_id, p.track_id, 'no_page', p.position_ms FROM browser_source_playback p"
            " LEFT JOIN browser_source_leaders l USING (community_id) WHERE p.state NOT IN ('ended', 'failed')"
            " AND greatest(p.created_at, coalesce(l.lease_until, '-infinity')) < now() - %s * interval '1 second'"
            " ON CONFLICT DO NOTHING RETURNING id",
            (NO_PAGE_AFTER_S,),
        )
        if noted:
            self.wake.set()

    def tell(self) -> bool:
        """Tell the router what it does not know yet, in its order. True when there may be more.

        Raises: UpstreamError when the router is away; everything is told again then.
        """
        rows = self._take()
        for place, row in enumerate(rows):
            try:
                self._router.playback(Playback(**{name: row[name] for name in Playback.model_fields}))
            except UpstreamRefused as err:
                # The item is not from the router, or its module is gone: nobody wants to know.
                self._log.system("playback_not_taken", result="FAILED", track_id=row["track_id"], detail=err.message)
            except UpstreamError:
                self._put_back([each["id"] for each in rows[place:]])
                raise
            self._database.statement(
                "UPDATE browser_source_playback_reports SET told_at = now() WHERE id = %s", (row["id"],)
            )
        return len(rows) == BATCH

    def forget(self) -> None:
        self._database.statement(
            f"DELETE FROM browser_source_playback_reports WHERE created_at < now() - interval '{KEPT}'"
        )

    def _take(self) -> list[dict[str, Any]]:
        rows = self._database.statement(
            "UPDATE browser_source_playback_reports SET lease_until = now() + %s * interval '1 second' WHERE id IN ("
            "SELECT id FROM browser_source_playback_reports WHERE told_at IS NULL"
            " AND (lease_until IS NULL OR lease_until <= now()) ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)"
            " RETURNING id, item_id, track_id, state, position_ms, code",
            (LEASE_S, BATCH),
        )
        return sorted(rows, key=lambda row: row["id"])

    def _put_back(self, ids: list[int]) -> None:
        self._database.statement(
            "UPDATE browser_source_playback_reports SET lease_until = now() + %s * interval '1 second'"
            " WHERE id = ANY(%s)",
            (RETRY_AFTER_S, ids),
        )
