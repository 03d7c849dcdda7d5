"""PyDAL's view of the marketplace's tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "marketplace_modules" in db.tables:
        return
    db.define_table(
        "module_categories",
        Field("name"),
        Field("display_name"),
        Field("description", "text"),
        Field("icon"),
        Field("parent_category"),
        Field("sort_order", "integer"),
    )
    db.define_table(
        "marketplace_modules",
        Field("module_id"),
        Field("skeleton"),
        Field("publisher"),
        Field("display_name"),
        Field("description", "text"),
        Field("long_description", "text"),
        Field("author"),
        Field("author_email"),
        Field("website"),
        Field("repository"),
        Field("license"),
        Field("category"),
        Field("tags", "list:string"),
        Field("icon_url"),
        Field("screenshots", "list:string"),
        Field("latest_version"),
        Field("is_featured", "boolean"),
        Field("is_verified", "boolean"),
        Field("download_count", "bigint"),
        Field("rating_average", "double"),
        Field("rating_count", "integer"),
        Field("price", "double"),
        Field("currency"),
        Field("words", "text"),
        Field("taken_down_at", "datetime"),
        Field("taken_down_why", "text"),
        Field("taken_down_told", "boolean"),
        Field("published_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "marketplace_packages",
        Field("sha256"),
        Field("content", "blob"),
        Field("created_at", "datetime"),
        primarykey=["sha256"],
    )
    db.define_table(
        "module_versions",
        Field("module_id"),
        Field("version"),
        Field("sha256"),
        Field("file_size", "integer"),
        Field("manifest", "json"),
        Field("changelog", "text"),
        Field("permissions", "list:string"),
        Field("hosts", "list:string"),
        Field("limits", "json"),
        Field("asks", "list:string"),
        Field("price", "double"),
        Field("currency"),
        Field("is_stable", "boolean"),
        Field("state"),
        Field("reason", "text"),
        Field("download_count", "bigint"),
        Field("published_by"),
        Field("created_at", "datetime"),
        Field("decided_at", "datetime"),
    )
    db.define_table("module_commands", Field("module_id"), Field("command"), Field("skeleton"))
    db.define_table(
        "module_installations",
        Field("community_id", "bigint"),
        Field("entity_id"),
        Field("module_id"),
        Field("version"),
        Field("is_enabled", "boolean"),
        Field("asks", "list:string"),
        Field("state"),
        Field("target_version"),
        Field("target_asks", "list:string"),
        Field("target_config", "json"),
        Field("replaces", "list:string"),
        Field("installed_by"),
        Field("installed_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    _define_words(db)
    _define_payments(db)


def _define_words(db: DAL) -> None:
    """What people say of modules, how they use them, and what modules remember."""
    db.define_table(
        "module_reviews",
        Field("module_id"),
        Field("reviewer"),
        Field("own_id", "bigint"),
        Field("user_name"),
        Field("rating", "integer"),
        Field("title"),
        Field("review_text", "text"),
        Field("version"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "module_reports",
        Field("module_id"),
        Field("reporter"),
        Field("own_id", "bigint"),
        Field("community_id", "bigint"),
        Field("reason"),
        Field("details", "text"),
        Field("state"),
        Field("resolution", "text"),
        Field("resolved_at", "datetime"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "module_usage_stats",
        Field("module_id"),
        Field("community_id", "bigint"),
        Field("command"),
        Field("date", "date"),
        Field("usage_count", "bigint"),
        Field("failure_count", "bigint"),
        Field("total_ms", "double"),
        Field("last_used", "datetime"),
    )
    db.define_table(
        "module_usage_mark", Field("only_one", "boolean"), Field("until", "datetime"), primarykey=["only_one"]
    )
    db.define_table(
        "module_state",
        Field("module_id"),
        Field("community_id", "bigint"),
        Field("key", rname='"key"'),
        Field("value", "json"),
        Field("version", "bigint"),
        Field("updated_at", "datetime"),
    )


def _define_payments(db: DAL) -> None:
    db.define_table(
        "community_subscriptions",
        Field("community_id", "bigint"),
        Field("module_id"),
        Field("provider"),
        Field("provider_id"),
        Field("status"),
        Field("period_end", "datetime"),
        Field("cancel_at_period_end", "boolean"),
        Field("paid_until", "datetime"),
        Field("provider_at", "datetime"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
    )
    db.define_table(
        "community_payments",
        Field("community_id", "bigint"),
        Field("provider"),
        Field("payment_id"),
        Field("subscription_id"),
        Field("amount", "double"),
        Field("currency"),
        Field("payment_status"),
        Field("paid_at", "datetime"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "payment_events", Field("provider"), Field("event_id"), Field("type"), Field("received_at", "datetime")
    )
