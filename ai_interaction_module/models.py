"""PyDAL's view of the module's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "ai_conversations" in db.tables:
        return
    db.define_table(
        "ai_conversations",
        Field("community_id", "bigint"),
        Field("entity_id", "text"),
        Field("own_id", "bigint"),
        Field("question", "text"),
        Field("answer", "text"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "ai_usage",
        Field("at", "datetime"),
        Field("community_id", "bigint"),
        Field("own_id", "bigint"),
        Field("asked_as", "text"),
        Field("provider", "text"),
        Field("model", "text"),
        Field("prompt_tokens", "integer"),
        Field("completion_tokens", "integer"),
        Field("is_estimated", "boolean"),
        Field("has_own_key", "boolean"),
    )
    db.define_table(
        "ai_fleet_config",
        Field("name", "text"),
        Field("config", "json"),
        Field("updated_at", "datetime"),
        primarykey=["name"],
    )
    db.define_table(
        "ai_silences",
        Field("entity_id", "text"),
        Field("community_id", "bigint"),
        Field("since", "datetime"),
        primarykey=["entity_id"],
    )
