"""PyDAL's view of the browser sources' tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "browser_source_tokens" in db.tables:
        return
    db.define_table(
        "browser_source_tokens",
        Field("community_id", "bigint"),
        Field("source_type"),
        Field("token_hash"),
        Field("token", "text"),
        Field("is_active", "boolean"),
        Field("is_preview", "boolean"),
        Field("expires_at", "datetime"),
        Field("created_by"),
        Field("last_seen", "datetime"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_queues",
        Field("community_id", "bigint"),
        Field("source_type"),
        Field("last_seq", "bigint"),
        Field("last_control", "bigint"),
        Field("is_paused", "boolean"),
    )
    db.define_table(
        "browser_source_history",
        Field("community_id", "bigint"),
        Field("source_type"),
        Field("seq", "bigint"),
        Field("item_id"),
        Field("session_id"),
        Field("traceparent"),
        Field("content", "json"),
        Field("priority", "integer"),
        Field("display_s", "double"),
        Field("is_test", "boolean"),
        Field("state"),
        Field("expires_at", "datetime"),
        Field("received_at", "datetime"),
        Field("shown_at", "datetime"),
        Field("done_at", "datetime"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_controls",
        Field("community_id", "bigint"),
        Field("source_type"),
        Field("number", "bigint"),
        Field("action"),
        Field("seq", "bigint"),
        Field("note"),
        Field("created_by"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_themes",
        Field("community_id", "bigint"),
        Field("variables", "json"),
        Field("css", "text"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "browser_source_forms",
        Field("community_id", "bigint"),
        Field("history_id", "reference browser_source_history"),
        Field("session_id"),
        Field("form", "json"),
        Field("state"),
        Field("expires_at", "datetime"),
        Field("lease_until", "datetime"),
        Field("submitted_at", "datetime"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_access_log",
        Field("community_id", "bigint"),
        Field("source_type"),
        Field("token_id", "bigint"),
        Field("ip_address"),
        Field("user_agent", "text"),
        Field("accessed_at", "datetime"),
    )
    db.define_table(
        "browser_source_alerts",
        Field("community_id", "bigint"),
        Field("version", "integer"),
        Field("event"),
        Field("platforms", "json"),
        Field("labels", "json"),
        Field("is_active", "boolean"),
        Field("min_amount", "double"),
        Field("max_amount", "double"),
        Field("weight", "double"),
        Field("title"),
        Field("text", "text"),
        Field("chat_message", "text"),
        Field("image"),
        Field("sound"),
        Field("volume", "integer"),
        Field("accent"),
        Field("animation"),
        Field("position"),
        Field("display_s", "double"),
        Field("shown_count", "bigint"),
        Field("created_by"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "browser_source_media",
        Field("community_id", "bigint"),
        Field("sha256"),
        Field("content_type"),
        Field("size_bytes", "integer"),
        Field("content", "blob"),
        Field("created_by"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_tip_links",
        Field("community_id", "bigint"),
        Field("token_hash"),
        Field("token", "text"),
        Field("created_by"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_tips",
        Field("community_id", "bigint"),
        Field("tip_id"),
        Field("state"),
        Field("event", "json"),
        Field("detail"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_playback",
        Field("community_id", "bigint"),
        Field("track_id"),
        Field("item_id"),
        Field("seq", "bigint"),
        Field("state"),
        Field("position_ms", "bigint"),
        Field("code", "integer"),
        Field("reported_at", "datetime"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "browser_source_leaders",
        Field("community_id", "bigint"),
        Field("page"),
        Field("is_hidden", "boolean"),
        Field("lease_until", "datetime"),
    )
    db.define_table(
        "browser_source_playback_reports",
        Field("community_id", "bigint"),
        Field("item_id"),
        Field("track_id"),
        Field("state"),
        Field("position_ms", "bigint"),
        Field("code", "integer"),
        Field("lease_until", "datetime"),
        Field("told_at", "datetime"),
        Field("created_at", "datetime"),
    )
