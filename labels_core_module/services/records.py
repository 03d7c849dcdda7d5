"""Where the labels' tables have people in them."""

from __future__ import annotations

from waddlebot.module.people import IN_COMMUNITY, Personal

PEOPLE = [
    Personal("ban_echoes", where="own_id = ANY(%(own_ids)s)", within=IN_COMMUNITY, shown="community_id, own_id, at"),
    Personal(
        "labels_of_things",
        where="given_by_id = ANY(%(own_ids)s)",
        become="given_by_id = NULL",
        within=IN_COMMUNITY,
        key="name",
        shown="community_id, subject_type, subject_id, name, given_at",
    ),
    Personal(
        "link_codes",
        where="own_id = ANY(%(own_ids)s) OR claimed_by = ANY(%(own_ids)s)",
        shown="own_id, claimed_by, created_at, expires_at, ended_at",
    ),
    Personal("link_tries", where="own_id = ANY(%(own_ids)s)", shown="own_id, at"),
    Personal(
        "account_links",
        where="own_id = ANY(%(own_ids)s) OR with_id = ANY(%(own_ids)s) OR joined_ids && %(own_ids)s::bigint[]",
        shown="own_id, with_id, reason, made_at, undone_at",
    ),
    Personal(
        "account_links",
        where="made_by_id = ANY(%(own_ids)s)",
        become="made_by_id = NULL",
        shown="own_id, with_id, made_at",
    ),
    Personal(
        "label_roles",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        key="own_id",
        shown="community_id, platform, server_id, role_id, is_wanted, has_it, changed_at",
    ),
    Personal(
        "label_jobs",
        where="rows && (%(own_texts)s::text[] || %(identities)s::text[])",
        # The place of each other row stays what it was.
        become="rows = ARRAY(SELECT CASE WHEN r = ANY(%(own_texts)s::text[] || %(identities)s::text[])"
        " THEN '' ELSE r END FROM unnest(rows) WITH ORDINALITY AS each (r, n) ORDER BY n), failures = '[]'",
        within=IN_COMMUNITY,
        shown="id, community_id, label, action, created_at",
    ),
    Personal(
        "label_jobs",
        where="made_by_id = ANY(%(own_ids)s)",
        become="made_by_id = NULL",
        within=IN_COMMUNITY,
        shown="id, community_id, created_at",
    ),
]
