"""What plays in a community: kept in a row, told to overlays when it changes, and looked at while somebody looks.

The card on the overlay counts on by itself, so it is told only what it cannot know: another track, a pause, a leap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import ModuleResponse
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.lists import Listed, Page, fetch_page

from .request_service import RequestService
from .tracks import Playing, Track

SERVICE = "Spotify"
# A card that is further off than this is put right.
LEAP_MS = 3000
# The card of what has ended goes away after this.
ENDED_S = 3.0
# How long a track without an end of its own is believed to play while nobody looks.
BELIEVED = "10 minutes"
HISTORY_KEPT = "90 days"
PROGRESS = "progress_ms + CASE WHEN is_playing THEN extract(epoch FROM now() - updated_at) * 1000 ELSE 0 END"


@dataclass(frozen=True, slots=True)
class Display:
    """What the operator wants on the card."""

    seconds: float
    art: bool
    bar: bool


@dataclass(frozen=True, slots=True)
class NowPlaying:
    """What played when somebody last looked."""

    community_id: int
    track: Track
    is_playing: bool
    progress_ms: int
    device_name: str
    volume: int | None
    requested_by: str
    requested_by_id: int | None
    version: int
    started_at: datetime
    updated_at: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "track_uri": self.track.uri,
            "track_name": self.track.name,
            "artists": self.track.artists,
            "album": self.track.album,
            "duration_ms": self.track.duration_ms,
            "album_art_url": self.track.art_url,
            "is_playing": self.is_playing,
            "progress_ms": self.progress_ms,
            "device": self.device_name,
            "volume": self.volume,
            "requested_by": self.requested_by,
            "started_at": self.started_at,
            "updated_at": self.updated_at,
        }


class NowPlayingService:
    def __init__(self, database: Database, requests: RequestService, *, display: Display, keeps_history: bool) -> None:
        self._db = database
        self._requests = requests
        self._display = display
        self._keeps_history = keeps_history

    def find(self, db: DAL, community_id: int) -> NowPlaying | None:
        """What plays or is paused, with its progress as of now; None when there is nothing."""
        row = fetch_one(
            db,
            f"SELECT *, least({PROGRESS}, CASE WHEN duration_ms > 0 THEN duration_ms ELSE 1e15 END)::bigint AS now_ms"
            " FROM spotify_now_playing WHERE community_id = %s AND track_uri <> ''",
            (community_id,),
        )
        return _read(row) if row else None

    def see(
        self,
        db: DAL,
        community_id: int,
        playing: Playing | None,
        *,
        seen_at: datetime | None = None,
        by: tuple[int, str] | None = None,
    ) -> list[ModuleResponse]:
        """Take down what plays, and give back what overlays have to be told; nothing when they know it by themselves.

        What was seen before somebody else has looked (`seen_at`) says nothing. `by` is who has just made it play.
        """
        if playing is None:
            ended = self._end(db, community_id, seen_at)
            return [self.card(_read(ended), ended=True)] if ended else []
        row = self._lock(db, community_id, seen_at)
        if row is None:
            return []
        is_new = row["track_uri"] != playing.track.uri
        is_known = not is_new and row["is_playing"] == playing.is_playing
        is_known = is_known and abs(row["now_ms"] - playing.progress_ms) <= LEAP_MS
        whose = self._whose(db, community_id, playing.track, by) if is_new else None
        now = self._save(db, community_id, playing, whose, is_new=is_new, is_known=is_known)
        if is_new and self._keeps_history:
            self._add_history(db, now)
        return [] if is_known else [self.card(now)]

    def list_history(self, db: DAL, community_id: int, page: Page) -> Listed[dict[str, Any]]:
        """What was played, the latest first."""
        return fetch_page(
            lambda sql, values: fetch(db, sql, values),
            "SELECT track_uri, track_name, artists, album, duration_ms, requested_by, played_at,"
            " count(*) OVER () AS total FROM spotify_history WHERE community_id = %(community)s ORDER BY id DESC"
            " LIMIT %(limit)s OFFSET %(offset)s",
            {"community": community_id},
            page,
        )

    def playing_in(self) -> Sequence[int]:
        """The communities in which something plays, as far as is known."""
        rows = self._db.statement(
            "SELECT community_id FROM spotify_now_playing WHERE is_playing AND updated_at > now() -"
            f" greatest(interval '{BELIEVED}', make_interval(secs => duration_ms / 1000.0)) LIMIT 10000"
        )
        return [row["community_id"] for row in rows]

    def forget_old(self) -> None:
        self._db.statement(f"DELETE FROM spotify_history WHERE played_at < now() - interval '{HISTORY_KEPT}'")
        self._db.statement("DELETE FROM spotify_search_cache WHERE created_at < now() - interval '1 day'")

    def _lock(self, db: DAL, community_id: int, seen_at: datetime | None) -> dict[str, Any] | None:
        """What was known; None when somebody has looked since."""
        fetch(
            db,
            "INSERT INTO spotify_now_playing (community_id, track_uri, updated_at) VALUES (%s, '', 'epoch')"
            " ON CONFLICT DO NOTHING",
            (community_id,),
        )
        return fetch_one(
            db,
            f"SELECT track_uri, is_playing, ({PROGRESS})::bigint AS now_ms FROM spotify_now_playing"
            " WHERE community_id = %(id)s AND updated_at <= coalesce(%(seen_at)s, now()) FOR UPDATE",
            {"id": community_id, "seen_at": seen_at},
        )

    def _end(self, db: DAL, community_id: int, seen_at: datetime | None) -> dict[str, Any] | None:
        """Nothing plays any more. The row that was, or None if nothing did."""
        return fetch_one(
            db,
            "UPDATE spotify_now_playing n SET track_uri = '', is_playing = false, version = n.version + 1,"
            " updated_at = now() FROM (SELECT *, duration_ms AS now_ms FROM spotify_now_playing"
            "  WHERE community_id = %(id)s FOR UPDATE) was WHERE n.community_id = %(id)s AND was.track_uri <> ''"
            " AND was.updated_at <= coalesce(%(seen_at)s, now()) RETURNING was.*",
            {"id": community_id, "seen_at": seen_at},
        )

    def _whose(self, db: DAL, community_id: int, track: Track, by: tuple[int, str] | None) -> tuple[int | None, str]:
        """Who asked for a track that begins, if anybody did."""
        taken = self._requests.take(db, community_id, track.uri) if by is None else None
        if taken:
            return taken["user_id"], taken["requested_by"]
        return by or (None, "")

    def _save(
        self,
        db: DAL,
        community_id: int,
        playing: Playing,
        whose: tuple[int | None, str] | None,
        *,
        is_new: bool,
        is_known: bool,
    ) -> NowPlaying:
        track = playing.track
        row = fetch_one(
            db,
            "UPDATE spotify_now_playing SET track_uri = %(uri)s, track_name = %(name)s, artists = %(artists)s,"
            " album = %(album)s, duration_ms = %(duration)s, album_art_url = %(art)s, is_playing = %(is_playing)s,"
            " progress_ms = %(progress)s, device_name = %(device)s, volume = %(volume)s, updated_at = now(),"
            " version = version + CASE WHEN %(is_known)s THEN 0 ELSE 1 END,"
            " started_at = CASE WHEN %(is_new)s THEN now() ELSE started_at END,"
            " requested_by_id = CASE WHEN %(is_new)s THEN %(own_id)s ELSE requested_by_id END,"
            " requested_by = CASE WHEN %(is_new)s THEN %(by)s ELSE requested_by END"
            " WHERE community_id = %(id)s RETURNING *, progress_ms AS now_ms",
            {
                "id": community_id,
                "uri": track.uri,
                "name": track.name,
                "artists": track.artists,
                "album": track.album,
                "duration": track.duration_ms,
                "art": track.art_url,
                "is_playing": playing.is_playing,
                "progress": playing.progress_ms,
                "device": playing.device_name,
                "volume": playing.volume,
                "is_known": is_known,
                "is_new": is_new,
                "own_id": whose[0] if whose else None,
                "by": whose[1] if whose else "",
            },
        )
        assert row is not None
        return _read(row)

    def _add_history(self, db: DAL, now: NowPlaying) -> None:
        track = now.track
        fetch(
            db,
            "INSERT INTO spotify_history"
            " (community_id, track_uri, track_name, artists, album, duration_ms, requested_by, user_id)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                now.community_id,
                track.uri,
                track.name,
                track.artists,
                track.album,
                track.duration_ms,
                now.requested_by,
                now.requested_by_id,
            ),
        )

    def card(self, now: NowPlaying, *, ended: bool = False) -> ModuleResponse:
        """What the overlay shows of it."""
        track = now.track
        left_s = max(0, track.duration_ms - now.progress_ms) / 1000 + ENDED_S
        data = {
            "media_type": "music",
            "track_id": track.uri,
            "player": "none",
            "title": track.name,
            "artist": track.artists,
            "album": track.album,
            "artwork_url": track.art_url if self._display.art else "",
            "service": SERVICE,
            "progress_ms": now.progress_ms if self._display.bar else 0,
            "duration_ms": track.duration_ms if self._display.bar else 0,
            "is_playing": now.is_playing and not ended,
            "requested_by": now.requested_by,
            "display_s": ENDED_S if ended else self._display.seconds or left_s,
        }
        return ModuleResponse(response_action="media", response_data=data)


def _read(row: dict[str, Any]) -> NowPlaying:
    return NowPlaying(
        row["community_id"],
        Track(
            row["track_uri"],
            row["track_name"],
            row["artists"],
            row["album"],
            row["duration_ms"],
            row["album_art_url"],
        ),
        row["is_playing"],
        int(row["now_ms"]),
        row["device_name"],
        row["volume"],
        row["requested_by"],
        row["requested_by_id"],
        row["version"],
        row["started_at"],
        row["updated_at"],
    )
