"""PyDAL's view of the music module's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "youtube_now_playing" in db.tables:
        return
    db.define_table(
        "youtube_now_playing",
        Field("community_id", "bigint"),
        Field("track_id"),
        Field("video_id"),
        Field("title"),
        Field("artist"),
        Field("album"),
        Field("duration", "integer"),
        Field("thumbnail_url"),
        Field("start_s", "integer"),
        Field("is_paused", "boolean"),
        Field("requested_by"),
        Field("own_id", "bigint"),
        Field("started_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "youtube_players",
        Field("community_id", "bigint"),
        Field("volume", "integer"),
        Field("failures", "integer"),
    )
    db.define_table(
        "youtube_queue",
        Field("community_id", "bigint"),
        Field("rank", "integer"),
        Field("video_id"),
        Field("title"),
        Field("artist"),
        Field("duration", "integer"),
        Field("thumbnail_url"),
        Field("start_s", "integer"),
        Field("requested_by"),
        Field("own_id", "bigint"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "youtube_skip_votes",
        Field("community_id", "bigint"),
        Field("track_id"),
        Field("own_id", "bigint"),
    )
    db.define_table(
        "youtube_history",
        Field("community_id", "bigint"),
        Field("track_id"),
        Field("video_id"),
        Field("title"),
        Field("artist"),
        Field("duration", "integer"),
        Field("thumbnail_url"),
        Field("requested_by"),
        Field("own_id", "bigint"),
        Field("outcome"),
        Field("played_at", "datetime"),
    )
    db.define_table(
        "youtube_playlists",
        Field("community_id", "bigint"),
        Field("name"),
        Field("name_key"),
        Field("own_id", "bigint"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "youtube_playlist_tracks",
        Field("playlist_id", "reference youtube_playlists"),
        Field("video_id"),
        Field("title"),
        Field("artist"),
        Field("duration", "integer"),
        Field("thumbnail_url"),
        Field("own_id", "bigint"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "youtube_blocked",
        Field("community_id", "bigint"),
        Field("video_id"),
        Field("title"),
        Field("own_id", "bigint"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "youtube_search_cache",
        Field("community_id", "bigint"),
        Field("user_id", "bigint"),
        Field("query"),
        Field("results", "json"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "youtube_activity",
        Field("community_id", "bigint"),
        Field("user_id", "bigint"),
        Field("action"),
        Field("details", "json"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "youtube_searches",
        Field("query_key"),
        Field("region"),
        Field("results", "json"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "youtube_quota",
        Field("day", "date"),
        Field("bucket"),
        Field("used", "integer"),
    )
    db.define_table(
        "youtube_outgoing",
        Field("community_id", "bigint"),
        Field("announcement_id"),
        Field("responses", "json"),
        Field("created_at", "datetime"),
    )
