"""What people search for, and which track they mean."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.data.database import fetch, fetch_one

from .tracks import NoTrack, Track

MAX_QUERY_CHARS = 200
MAX_NUMBER_DIGITS = 2


class SearchService:
    def __init__(self, *, kept_s: float) -> None:
        self._kept_s = kept_s

    def keep(self, db: DAL, community_id: int, user_id: int, query: str, found: Sequence[Track]) -> None:
        """Remember what somebody found, for its numbers."""
        fetch(
            db,
            "INSERT INTO spotify_search_cache (community_id, user_id, query, results) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (community_id, user_id) DO UPDATE SET query = excluded.query, results = excluded.results,"
            " created_at = now()",
            (community_id, user_id, query[:MAX_QUERY_CHARS], Json([each.as_json() for each in found])),
        )

    def find_number(self, db: DAL, community_id: int, ids: Sequence[int], number: int) -> Track:
        """The track of that number in somebody's last search. Raises: NoTrack."""
        row = fetch_one(
            db,
            "SELECT results FROM spotify_search_cache WHERE community_id = %s AND user_id = ANY(%s)"
            " AND created_at > now() - make_interval(secs => %s) ORDER BY created_at DESC LIMIT 1",
            (community_id, list(ids), self._kept_s),
        )
        if row is None:
            raise NoTrack("You have not searched for anything of late: !spotify search <query>.")
        if not 1 <= number <= len(row["results"]):
            raise NoTrack(f"Your last search has the numbers 1 to {len(row['results'])}.")
        return Track(**row["results"][number - 1])

    def find_same(self, db: DAL, community_id: int, query: str) -> list[Track] | None:
        """What the same search found in this community a moment ago."""
        row = fetch_one(
            db,
            "SELECT results FROM spotify_search_cache WHERE community_id = %s AND query = %s"
            " AND created_at > now() - make_interval(secs => %s) ORDER BY created_at DESC LIMIT 1",
            (community_id, query[:MAX_QUERY_CHARS], self._kept_s),
        )
        return [Track(**each) for each in row["results"]] if row else None


def as_number(words: Sequence[str]) -> int | None:
    """A number of a search; None for what is none."""
    text = words[0].removeprefix("#") if len(words) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS else None
