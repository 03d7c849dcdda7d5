"""PyDAL's view of the shoutouts' tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "shoutout_people" in db.tables:
        return
    db.define_table(
        "shoutout_people",
        Field("community_id", "bigint"),
        Field("own_id", "bigint"),
        Field("message", "text"),
        Field("links", "list:string"),
        Field("auto", "text"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "shoutout_history",
        Field("community_id", "bigint"),
        Field("own_id", "bigint"),
        Field("cause", "text"),
        Field("by_id", "bigint"),
        Field("entity_id", "text"),
        Field("game", "text"),
        Field("clip_id", "text"),
        Field("request_id", "text"),
        Field("created_at", "datetime"),
    )
