"""PyDAL's view of the portal's tables; the migrations make them. `auth_user` is defined by signing in."""

from __future__ import annotations

from pydal import DAL, Field

# What `auth_user` has beside py4web's own columns.
LOGIN_FIELDS = (
    Field("waddlebot_user_id", "bigint"),
    Field("is_operator", "boolean", default=False),
    Field("has_totp", "boolean", default=False),
    Field("temp_password_expires", "datetime"),
    Field("created_by"),
    Field("created_at", "datetime"),
    Field("last_portal_login", "datetime"),
    Field("notices_mailed_since", "datetime"),
)


def define_tables(db: DAL) -> None:
    if "portal_access" in db.tables:
        return
    db.define_table(
        "portal_totp",
        Field("auth_user_id", "bigint"),
        Field("secret", "text"),
        Field("used_step", "bigint"),
        primarykey=["auth_user_id"],
    )
    db.define_table(
        "portal_access",
        Field("auth_user_id", "bigint"),
        Field("community_id", "bigint"),
        Field("area"),
        Field("held"),
        Field("created_at", "datetime"),
        primarykey=["auth_user_id", "community_id", "area"],
    )
    db.define_table(
        "portal_platform_roles",
        Field("auth_user_id", "bigint"),
        Field("platform"),
        Field("community_id", "bigint"),
        Field("role"),
        Field("expires_at", "datetime"),
        primarykey=["auth_user_id", "platform", "community_id"],
    )
    db.define_table(
        "portal_links",
        Field("token_hash"),
        Field("kind"),
        Field("auth_user_id", "bigint"),
        Field("community_id", "bigint"),
        Field("area"),
        Field("held"),
        Field("sent_to"),
        Field("expires_at", "datetime"),
        Field("used_at", "datetime"),
        Field("created_at", "datetime"),
        primarykey=["token_hash"],
    )
    db.define_table(
        "portal_hours",
        Field("community_id", "bigint"),
        Field("hour", "datetime"),
        Field("messages", "bigint"),
        Field("commands", "bigint"),
        Field("points", "bigint"),
        primarykey=["community_id", "hour"],
    )
    db.define_table(
        "portal_days",
        Field("community_id", "bigint"),
        Field("day", "date"),
        Field("members", "bigint"),
        Field("people", "bigint"),
        Field("half_ms", "double"),
        Field("most_ms", "double"),
        primarykey=["community_id", "day"],
    )
    db.define_table(
        "portal_command_days",
        Field("community_id", "bigint"),
        Field("day", "date"),
        Field("command"),
        Field("module_name"),
        Field("calls", "bigint"),
        Field("failures", "bigint"),
        primarykey=["community_id", "day", "command", "module_name"],
    )
    db.define_table(
        "portal_movers",
        Field("community_id", "bigint"),
        Field("days", "integer"),
        Field("user_id", "bigint"),
        Field("points", "bigint"),
        primarykey=["community_id", "days", "user_id"],
    )
    db.define_table(
        "portal_person_days",
        Field("user_id", "bigint"),
        Field("community_id", "bigint"),
        Field("day", "date"),
        Field("points", "bigint"),
        primarykey=["user_id", "community_id", "day"],
    )
    db.define_table(
        "portal_contexts",
        Field("own_id", "bigint"),
        Field("community_id", "bigint"),
        Field("expires_at", "datetime"),
        primarykey=["own_id"],
    )
    db.define_table(
        "portal_notice_mails",
        Field("notice_id", "bigint"),
        Field("auth_user_id", "bigint"),
        Field("sent_at", "datetime"),
        primarykey=["notice_id", "auth_user_id"],
    )
