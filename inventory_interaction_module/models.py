"""PyDAL's view of the inventory's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "inventory_items" in db.tables:
        return
    db.define_table(
        "inventory_items",
        Field("community_id", "bigint"),
        Field("item_name", "text"),
        Field("item_key", "text"),
        Field("description", "text"),
        Field("is_checked_out", "boolean"),
        Field("checked_out_to", "text"),
        Field("checked_out_to_id", "bigint"),
        Field("checked_out_at", "datetime"),
        Field("checked_in_at", "datetime"),
        Field("created_by", "text"),
        Field("created_by_id", "bigint"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "inventory_item_labels",
        Field("item_id", "reference inventory_items"),
        Field("label", "text"),
    )
    db.define_table(
        "inventory_activity",
        Field("community_id", "bigint"),
        Field("item_id", "bigint"),
        Field("action", "text"),
        Field("performed_by", "text"),
        Field("performed_by_id", "bigint"),
        Field("holder_id", "bigint"),
        Field("details", "json"),
        Field("created_at", "datetime"),
    )
