"""What of the music a community can carry away, and where people stand in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Wire
from waddlebot.base.youtube_links import VIDEO_ID
from waddlebot.data.database import fetch
from waddlebot.module.people import IN_COMMUNITY, Personal
from waddlebot.module.portable import Item, Part

from .player_service import By, PlayerService
from .playlists import MAX_NAME_CHARS, MAX_TRACKS, PlaylistService, playlist_key
from .tracks import MAX_TITLE_CHARS, Track

VideoID = Annotated[str, StringConstraints(pattern=f"^{VIDEO_ID.pattern}$")]
Title = Annotated[str, StringConstraints(max_length=MAX_TITLE_CHARS)]


class SongItem(Wire):
    video_id: VideoID
    title: Title
    artist: Title = ""
    duration: int = Field(ge=0)
    thumbnail_url: Annotated[str, StringConstraints(max_length=500)] = ""


class PlaylistItem(Item):
    """A playlist with its songs."""

    kind: Literal["playlist"] = "playlist"
    name: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS)]
    songs: list[SongItem] = Field(default_factory=list, max_length=MAX_TRACKS)


class BlockedItem(Item):
    """A video that is not played."""

    kind: Literal["blocked"] = "blocked"
    video_id: VideoID
    title: Title = ""


def playlist_part(playlists: PlaylistService) -> Part[PlaylistItem]:
    def export(db: DAL, community_id: int) -> list[PlaylistItem]:
        rows = fetch(
            db,
            "SELECT l.name, coalesce(jsonb_agg(jsonb_build_object('video_id', t.video_id, 'title', t.title,"
            " 'artist', t.artist, 'duration', t.duration, 'thumbnail_url', t.thumbnail_url) ORDER BY t.id)"
            " FILTER (WHERE t.id IS NOT NULL), '[]') AS songs FROM youtube_playlists l"
            " LEFT JOIN youtube_playlist_tracks t ON t.playlist_id = l.id WHERE l.community_id = %s"
            " GROUP BY l.id ORDER BY l.name_key",
            (community_id,),
        )
        return [PlaylistItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: PlaylistItem, known: PlaylistItem | None) -> None:
        if known is not None:
            playlists.delete(db, community_id, item.name)
        playlists.create(db, community_id, item.name, None)
        tracks = [Track(**song.model_dump()) for song in item.songs]
        if tracks:
            playlists.add(db, community_id, item.name, tracks, None)

    return Part(
        PlaylistItem,
        lambda item: playlist_key(item.name),
        export,
        put,
        tables=("youtube_playlists", "youtube_playlist_tracks"),
    )


def blocked_part(player: PlayerService) -> Part[BlockedItem]:
    def export(db: DAL, community_id: int) -> list[BlockedItem]:
        rows = fetch(
            db,
            "SELECT video_id, title FROM youtube_blocked WHERE community_id = %s ORDER BY video_id",
            (community_id,),
        )
        return [BlockedItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: BlockedItem, known: BlockedItem | None) -> None:
        if known is not None:
            player.unblock(db, community_id, item.video_id)
        player.block(db, community_id, Track(item.video_id, item.title, "", 0), By(""))

    return Part(BlockedItem, lambda item: item.video_id, export, put, tables=("youtube_blocked",))


IN_LIST = "playlist_id IN (SELECT id FROM youtube_playlists WHERE community_id = %(community)s)"
WITHOUT_NAME = "requested_by = '', own_id = NULL"

PEOPLE = [
    # What plays goes on; that they asked for it is forgotten.
    Personal(
        "youtube_now_playing",
        where="own_id = ANY(%(own_ids)s)",
        become=WITHOUT_NAME,
        within=IN_COMMUNITY,
        shown="community_id, title, artist, requested_by, started_at",
    ),
    Personal(
        "youtube_queue",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, title, artist, requested_by, created_at",
    ),
    Personal(
        "youtube_skip_votes", where="own_id = ANY(%(own_ids)s)", within=IN_COMMUNITY, shown="community_id, track_id"
    ),
    Personal(
        "youtube_history",
        where="own_id = ANY(%(own_ids)s)",
        become=WITHOUT_NAME,
        within=IN_COMMUNITY,
        shown="community_id, title, artist, requested_by, outcome, played_at",
    ),
    Personal(
        "youtube_playlists",
        where="own_id = ANY(%(own_ids)s)",
        become="own_id = NULL",
        within=IN_COMMUNITY,
        shown="community_id, name, created_at",
    ),
    Personal(
        "youtube_playlist_tracks",
        where="own_id = ANY(%(own_ids)s)",
        become="own_id = NULL",
        within=IN_LIST,
        shown="playlist_id, title, created_at",
    ),
    Personal(
        "youtube_blocked",
        where="own_id = ANY(%(own_ids)s)",
        become="own_id = NULL",
        within=IN_COMMUNITY,
        shown="community_id, title, created_at",
    ),
    Personal(
        "youtube_search_cache",
        where="user_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, query, created_at",
    ),
    Personal(
        "youtube_activity",
        where="user_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, action, details, created_at",
    ),
    # Empty a second later.
    Personal("youtube_outgoing", within=IN_COMMUNITY, mentions=("responses",)),
]
