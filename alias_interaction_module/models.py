"""PyDAL's view of the alias table; the migrations make it."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "alias_commands" in db.tables:
        return
    db.define_table(
        "alias_commands",
        Field("community_id", "bigint"),
        Field("entity_id", "text"),
        Field("prefix", "text"),
        Field("alias", "text"),
        Field("command", "text"),
        Field("created_by", "text"),
        Field("created_by_id", "bigint"),
        Field("usage_count", "bigint"),
        Field("last_used", "datetime"),
        Field("total_time_ms", "double"),
        Field("is_active", "boolean"),
        Field("cooldown_s", "integer"),
        Field("cooldown_person_s", "integer"),
        Field("cooldown_exempt", "text"),
        Field("level", "text"),
        Field("label", "text"),
        Field("only_live", "boolean"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
