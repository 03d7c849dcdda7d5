"""PyDAL's view of Spotify's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field
from waddlebot.community.tokens import define_tokens

TOKENS = "spotify_tokens"


def define_tables(db: DAL) -> None:
    if TOKENS in db.tables:
        return
    define_tokens(
        db,
        TOKENS,
        Field("community_id", "bigint"),
        Field("user_id", "bigint"),
        Field("scope", "text"),
        Field("client_id", "text"),
        Field("account_id", "text"),
        Field("account_name", "text"),
    )
    db.define_table(
        "spotify_links",
        Field("ticket_hash", "text"),
        Field("community_id", "bigint"),
        Field("user_id", "bigint"),
        Field("by_owner", "boolean"),
        Field("created_at", "datetime"),
        Field("used_at", "datetime"),
        primarykey=["ticket_hash"],
    )
    db.define_table(
        "spotify_players",
        Field("community_id", "bigint"),
        Field("user_id", "bigint"),
        Field("device_id", "text"),
        Field("device_name", "text"),
        Field("look_at", "datetime"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["community_id"],
    )
    db.define_table(
        "spotify_now_playing",
        Field("community_id", "bigint"),
        *_track(),
        Field("album", "text"),
        Field("album_art_url", "text"),
        Field("is_playing", "boolean"),
        Field("progress_ms", "bigint"),
        Field("device_name", "text"),
        Field("volume", "integer"),
        Field("requested_by", "text"),
        Field("requested_by_id", "bigint"),
        Field("version", "bigint"),
        Field("started_at", "datetime"),
        Field("updated_at", "datetime"),
        primarykey=["community_id"],
    )
    db.define_table(
        "spotify_search_cache",
        Field("community_id", "bigint"),
        Field("user_id", "bigint"),
        Field("query", "text"),
        Field("results", "json"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "spotify_queue",
        Field("community_id", "bigint"),
        Field("execution_id", "text"),
        Field("user_id", "bigint"),
        Field("requested_by", "text"),
        *_track(),
        Field("state", "text"),
        Field("requested_at", "datetime"),
        Field("ended_at", "datetime"),
    )
    db.define_table(
        "spotify_history",
        Field("community_id", "bigint"),
        *_track(),
        Field("album", "text"),
        Field("requested_by", "text"),
        Field("user_id", "bigint"),
        Field("played_at", "datetime"),
    )


def _track() -> list[Field]:
    return [Field(name, "text") for name in ("track_uri", "track_name", "artists")] + [Field("duration_ms", "bigint")]
