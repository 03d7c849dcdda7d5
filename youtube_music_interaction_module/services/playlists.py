"""A community's playlists: names that moderators fill with songs."""

from __future__ import annotations

import unicodedata
from typing import Any

from pydal import DAL
from waddlebot.base.errors import Conflict, NotFound, UserError
from waddlebot.base.text import as_seen, fold
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import fetch, fetch_one

from .tracks import Track

MODULE = "youtube_music"
MAX_NAME_CHARS = 60
MAX_PLAYLISTS = 50
MAX_TRACKS = 500


class NoSuchPlaylist(NotFound):
    """There is no such playlist."""

    code = "no_such_playlist"


def first_of(name: str) -> tuple[str, dict[str, Any]]:
    """The songs of a community's playlist, as SQL with its parameters."""
    return (
        "SELECT t.id, t.video_id, t.title, t.artist, t.duration, t.thumbnail_url FROM youtube_playlist_tracks t"
        " JOIN youtube_playlists l ON l.id = t.playlist_id"
        " WHERE l.community_id = %(community)s AND l.name_key = %(playlist)s",
        {"playlist": playlist_key(name)},
    )


def playlist_key(name: str) -> str:
    """A name as it is compared: case, form, spacing and what nobody sees do not matter."""
    return fold(unicodedata.normalize("NFKC", " ".join(as_seen(name).split())))


class PlaylistService:
    """Each method works in the transaction that it is given, and puts what it changes on record there."""

    def create(self, db: DAL, community_id: int, name: str, own_id: int | None) -> str:
        """Returns the name as it is kept. Raises: UserError; Conflict."""
        name = " ".join(name.split())
        if not name or not any(each.isprintable() and not each.isspace() for each in name):
            raise UserError("A playlist needs a name.")
        if len(name) > MAX_NAME_CHARS:
            raise UserError(f"A playlist's name can have {MAX_NAME_CHARS} characters.")
        counted = fetch_one(db, "SELECT count(*) AS n FROM youtube_playlists WHERE community_id = %s", (community_id,))
        if counted and counted["n"] >= MAX_PLAYLISTS:
            raise UserError(f"There are {MAX_PLAYLISTS} playlists already; delete one first.")
        made = fetch_one(
            db,
            "INSERT INTO youtube_playlists (community_id, name, name_key, own_id) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING id",
            (community_id, name, playlist_key(name), own_id),
        )
        if made is None:
            raise Conflict(f"There is a playlist “{name}” already.")
        self._record(db, community_id, "playlist_made", name, after={"name": name})
        return name

    def delete(self, db: DAL, community_id: int, name: str) -> str:
        """Raises: NoSuchPlaylist."""
        row = self._get(db, community_id, name)
        tracks = self.tracks(db, community_id, name)
        fetch(db, "DELETE FROM youtube_playlists WHERE id = %s", (row["id"],))
        before = {"name": row["name"], "videos": [each.video_id for each in tracks]}
        self._record(db, community_id, "playlist_deleted", row["name"], before=before)
        return str(row["name"])

    def add(self, db: DAL, community_id: int, name: str, tracks: list[Track], own_id: int | None) -> tuple[str, int]:
        """Add songs that are not there yet; the playlist is made if there is none. Returns its name and how many were
        added. Raises: UserError when it is full."""
        row = self._find(db, community_id, name)
        if row is None:
            self.create(db, community_id, name, own_id)
            row = self._get(db, community_id, name)
        counted = fetch_one(
            db, "SELECT count(*) AS n FROM youtube_playlist_tracks WHERE playlist_id = %s", (row["id"],)
        )
        room = MAX_TRACKS - (counted["n"] if counted else 0)
        if room <= 0:
            raise UserError(f"“{row['name']}” has {MAX_TRACKS} songs already.")
        added = fetch(
            db,
            "INSERT INTO youtube_playlist_tracks"
            " (playlist_id, video_id, title, artist, duration, thumbnail_url, own_id)"
            " SELECT %(list)s, *, %(own)s FROM unnest(%(ids)s::text[], %(titles)s::text[], %(artists)s::text[],"
            " %(durations)s::integer[], %(pictures)s::text[]) ON CONFLICT DO NOTHING RETURNING id",
            {
                "list": row["id"],
                "own": own_id,
                "ids": [each.video_id for each in tracks[:room]],
                "titles": [each.title for each in tracks[:room]],
                "artists": [each.artist for each in tracks[:room]],
                "durations": [each.duration for each in tracks[:room]],
                "pictures": [each.thumbnail_url for each in tracks[:room]],
            },
        )
        if added:
            videos = [each.video_id for each in tracks[:room]]
            self._record(db, community_id, "playlist_added_to", row["name"], after={"videos": videos})
        return row["name"], len(added)

    def remove(self, db: DAL, community_id: int, name: str, place: int) -> Track:
        """Raises: NoSuchPlaylist; NotFound."""
        row = self._get(db, community_id, name)
        gone = fetch_one(
            db,
            "DELETE FROM youtube_playlist_tracks WHERE id = (SELECT id FROM youtube_playlist_tracks"
            " WHERE playlist_id = %s ORDER BY id OFFSET %s LIMIT 1) RETURNING *",
            (row["id"], place - 1),
        )
        if gone is None:
            raise NotFound(f"There is no number {place} in “{row['name']}”.")
        self._record(db, community_id, "playlist_taken_from", row["name"], before={"videos": [gone["video_id"]]})
        return Track.of(gone)

    def tracks(self, db: DAL, community_id: int, name: str) -> list[Track]:
        """Raises: NoSuchPlaylist."""
        self._get(db, community_id, name)
        sql, parameters = first_of(name)
        return [Track.of(row) for row in fetch(db, f"{sql} ORDER BY t.id", {"community": community_id, **parameters})]

    def list(self, db: DAL, community_id: int) -> list[tuple[str, int]]:
        """Each playlist, with how many songs it has."""
        rows = fetch(
            db,
            "SELECT l.name, count(t.id) AS n FROM youtube_playlists l LEFT JOIN youtube_playlist_tracks t"
            " ON t.playlist_id = l.id WHERE l.community_id = %s GROUP BY l.id ORDER BY l.name_key",
            (community_id,),
        )
        return [(row["name"], row["n"]) for row in rows]

    def _get(self, db: DAL, community_id: int, name: str) -> dict[str, Any]:
        row = self._find(db, community_id, name)
        if row is None:
            raise NoSuchPlaylist(f"There is no playlist “{name[:MAX_NAME_CHARS]}”. See !ytmusic playlist list")
        return row

    @staticmethod
    def _find(db: DAL, community_id: int, name: str) -> dict[str, Any] | None:
        return fetch_one(
            db,
            "SELECT * FROM youtube_playlists WHERE community_id = %s AND name_key = %s",
            (community_id, playlist_key(name)),
        )

    @staticmethod
    def _record(db: DAL, community_id: int, action: str, name: str, **change: Any) -> None:
        undo: Undo | None = None  # There is no call for playlists yet that could take it back.
        subject = f"playlist/{playlist_key(name)}"
        audit.record(db, MODULE, action, subject, community_id=community_id, undo=undo, **change)


__all__ = ["NoSuchPlaylist", "PlaylistService", "first_of", "playlist_key"]
