"""PyDAL's view of the labels' tables; the migrations make them."""

from __future__ import annotations

from pydal import DAL, Field


def define_tables(db: DAL) -> None:
    if "labels" in db.tables:
        return
    db.define_table(
        "labels",
        Field("community_id", "bigint"),
        Field("name", "text"),
        Field("looks_like", "text"),
        Field("colour", "text"),
        Field("description", "text"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "labels_of_things",
        Field("community_id", "bigint"),
        Field("subject_type", "text"),
        Field("subject_id", "text"),
        Field("name", "text"),
        Field("expires_at", "datetime"),
        Field("given_by", "text"),
        Field("given_by_id", "bigint"),
        Field("given_at", "datetime"),
        Field("metadata", "json"),
        primarykey=["community_id", "subject_type", "subject_id", "name"],
    )
    db.define_table(
        "link_codes",
        Field("code_hash", "text"),
        Field("own_id", "bigint"),
        Field("claimed_by", "bigint"),
        Field("is_contested", "boolean"),
        Field("created_at", "datetime"),
        Field("expires_at", "datetime"),
        Field("ended_at", "datetime"),
    )
    db.define_table("ban_echoes", Field("community_id", "bigint"), Field("own_id", "bigint"), Field("at", "datetime"))
    db.define_table("link_tries", Field("own_id", "bigint"), Field("at", "datetime"))
    db.define_table(
        "account_links",
        Field("own_id", "bigint"),
        Field("with_id", "bigint"),
        Field("joined_ids", "list:integer"),
        Field("reason", "text"),
        Field("made_by", "text"),
        Field("made_by_id", "bigint"),
        Field("made_at", "datetime"),
        Field("undone_at", "datetime"),
        Field("undone_by", "text"),
    )
    db.define_table(
        "label_groups",
        Field("community_id", "bigint"),
        Field("name", "text"),
        Field("looks_like", "text"),
        Field("created_at", "datetime"),
    )
    db.define_table(
        "label_group_places",
        Field("group_id", "bigint"),
        Field("entity_id", "text"),
        primarykey=["group_id", "entity_id"],
    )
    db.define_table(
        "label_group_rules",
        Field("group_id", "bigint"),
        Field("label", "text"),
        Field("entity_id", "text"),
        Field("platform", "text"),
        Field("server_id", "text"),
        Field("role_id", "text"),
    )
    db.define_table(
        "label_roles",
        Field("community_id", "bigint"),
        Field("platform", "text"),
        Field("server_id", "text"),
        Field("role_id", "text"),
        Field("platform_user_id", "text"),
        Field("own_id", "bigint"),
        Field("is_wanted", "boolean"),
        Field("has_it", "boolean"),
        Field("is_ours", "boolean"),
        Field("is_asked", "boolean"),
        Field("times_taken", "integer"),
        Field("tries", "integer"),
        Field("next_try_at", "datetime"),
        Field("error_code", "text"),
        Field("error_message", "text"),
        Field("changed_at", "datetime"),
        primarykey=["community_id", "platform", "server_id", "role_id", "platform_user_id"],
    )
    db.define_table(
        "label_jobs",
        Field("community_id", "bigint"),
        Field("kind", "text"),
        Field("action", "text"),
        Field("label", "text"),
        Field("expires_at", "datetime"),
        Field("rows", "list:string"),
        Field("min_points", "bigint"),
        Field("state", "text"),
        Field("place", "bigint"),
        Field("total", "bigint"),
        Field("done", "bigint"),
        Field("counts", "json"),
        Field("failures", "json"),
        Field("error", "text"),
        Field("made_by", "text"),
        Field("made_by_login", "bigint"),
        Field("made_by_id", "bigint"),
        Field("created_at", "datetime"),
        Field("ended_at", "datetime"),
    )
