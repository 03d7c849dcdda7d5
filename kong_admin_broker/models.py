"""PyDAL's view of the broker's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "kong_admin_users" in db.tables:
        return
    db.define_table(
        "kong_admin_users",
        Field("username"),
        Field("email"),
        Field("full_name"),
        Field("notes", "text"),
        Field("tier"),
        Field("state"),
        Field("account_id", "bigint"),
        Field("custom_id"),
        Field("consumer_id"),
        Field("doing"),
        Field("doing_since", "datetime"),
        Field("is_unfinished", "boolean"),
        Field("verification"),
        Field("verified_at", "datetime"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "kong_admin_audit_log",
        Field("at", "datetime"),
        Field("account_id", "bigint"),
        Field("user_id", "bigint"),
        Field("action"),
        Field("result"),
        Field("before", "json"),
        Field("after", "json"),
        Field("address"),
        Field("agent"),
        Field("previous"),
        Field("digest"),
    )
    db.define_table(
        "kong_admin_audit_head",
        Field("only_one", "boolean"),
        Field("id", "bigint"),
        Field("digest"),
        Field("seal", "text"),
        primarykey=["only_one"],
    )
    db.define_table(
        "kong_admin_sessions",
        Field("account_id", "bigint"),
        Field("hour", "datetime"),
        Field("address"),
        Field("agent"),
        Field("requests", "bigint"),
        Field("first_at", "datetime"),
        Field("last_at", "datetime"),
        primarykey=["account_id", "hour", "address", "agent"],
    )
    db.define_table(
        "kong_admin_backups",
        Field("account_id", "bigint"),
        Field("user_count", "integer"),
        Field("key_count", "integer"),
        Field("sha256"),
        Field("content", "text"),
        Field("created_at", "datetime"),
    )
