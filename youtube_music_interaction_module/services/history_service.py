"""What was played, and who asked for it most; and each person's last search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.base.chat import count_of
from waddlebot.base.errors import NotFound
from waddlebot.data.database import fetch, fetch_one
from waddlebot.web.lists import Listed, Page, fetch_page

from .tracks import Track

TOP = 5


class NoSearch(NotFound):
    """Search first: !ytmusic search <words>, then !ytmusic play <number>."""

    code = "no_search"


@dataclass(frozen=True, slots=True)
class Stats:
    songs: int
    played_s: int
    top_songs: Sequence[dict[str, Any]]
    top_requesters: Sequence[dict[str, Any]]


class HistoryService:
    def __init__(self, *, search_kept_s: float) -> None:
        self._search_kept_s = search_kept_s

    def list(self, db: DAL, community_id: int, page: Page) -> Listed[dict[str, Any]]:
        """The newest first."""
        return fetch_page(
            partial(fetch, db),
            "SELECT track_id, video_id, title, artist, duration, thumbnail_url, requested_by, outcome, played_at,"
            " count(*) OVER () AS total FROM youtube_history WHERE community_id = %(community)s"
            " ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s",
            {"community": community_id},
            page,
        )

    def stats(self, db: DAL, community_id: int) -> Stats:
        """The songs that were played to their end most often, and who asked for most."""
        counted = fetch_one(
            db,
            "SELECT count(*) AS songs, coalesce(sum(duration), 0)::bigint AS played_s FROM youtube_history"
            " WHERE community_id = %s AND outcome = 'played'",
            (community_id,),
        )
        songs = fetch(
            db,
            "SELECT video_id, (array_agg(title ORDER BY id DESC))[1] AS title,"
            " (array_agg(artist ORDER BY id DESC))[1] AS artist, count(*) AS plays FROM youtube_history"
            " WHERE community_id = %s AND outcome = 'played' GROUP BY video_id"
            " ORDER BY plays DESC, max(id) DESC LIMIT %s",
            (community_id, TOP),
        )
        # Somebody's accounts count together.
        people = fetch(
            db,
            "SELECT (array_agg(h.requested_by ORDER BY h.id DESC))[1] AS name, count(*) AS songs FROM youtube_history h"
            " JOIN users u ON u.id = h.own_id WHERE h.community_id = %s AND h.outcome IN ('played', 'skipped')"
            " GROUP BY coalesce(u.head_id, u.id) ORDER BY songs DESC, max(h.id) DESC LIMIT %s",
            (community_id, TOP),
        )
        assert counted is not None
        return Stats(counted["songs"], counted["played_s"], songs, people)

    def keep_search(self, db: DAL, community_id: int, own_id: int, query: str, found: Sequence[Track]) -> None:
        """Let somebody choose from what they found, by number."""
        fetch(
            db,
            "INSERT INTO youtube_search_cache (community_id, user_id, query, results) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (community_id, user_id) DO UPDATE SET query = excluded.query, results = excluded.results,"
            " created_at = now()",
            (community_id, own_id, query[:200], Json([each.as_json() for each in found])),
        )

    def get_found(self, db: DAL, community_id: int, ids: Sequence[int], number: int) -> Track:
        """That number of somebody's last search, with whichever of their accounts they made it. Raises: NoSearch."""
        row = fetch_one(
            db,
            "SELECT results FROM youtube_search_cache WHERE community_id = %s AND user_id = ANY(%s)"
            " AND created_at > now() - %s * interval '1 second' ORDER BY created_at DESC LIMIT 1",
            (community_id, list(ids), self._search_kept_s),
        )
        if row is None:
            raise NoSearch()
        if not 1 <= number <= len(row["results"]):
            raise NoSearch(
                f"Your last search found {count_of(len(row['results']), 'song')}; there is no number {number}."
            )
        return Track.of(row["results"][number - 1])
