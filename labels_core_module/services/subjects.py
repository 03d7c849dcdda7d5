"""What bears labels: people, communities, modules, and groups of channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pydal import DAL
from waddlebot.base.manifest import all_manifests
from waddlebot.base.wire import is_number
from waddlebot.data.database import fetch

SubjectType = Literal["user", "community", "module", "group"]
# Somebody by their number, or by a platform and their id there.
MEMBERS = """
SELECT named.it, u.id AS own_id, coalesce(u.head_id, u.id) AS head_id,
    ARRAY(SELECT o.id FROM users o WHERE o.head_id = coalesce(u.head_id, u.id)) AS others
FROM unnest(%(names)s::text[], %(numbers)s::bigint[], %(platforms)s::text[], %(ids)s::text[])
    AS named (it, number, platform, platform_user_id)
LEFT JOIN platform_identities by_id USING (platform, platform_user_id)
LEFT JOIN users by_number ON by_number.id = named.number
JOIN users u ON u.id = coalesce(by_id.user_id, by_number.id)
WHERE EXISTS (
    SELECT FROM community_memberships m WHERE m.community_id = %(community)s AND m.is_active AND m.user_id = u.id
) OR u.head_id IS NOT NULL AND EXISTS (
    SELECT FROM community_memberships m
    WHERE m.community_id = %(community)s AND m.is_active AND m.user_id = u.head_id
) OR EXISTS (
    SELECT FROM users o JOIN community_memberships m ON m.user_id = o.id
    WHERE o.head_id = coalesce(u.head_id, u.id) AND m.community_id = %(community)s AND m.is_active
)
"""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody's own number, the one that counts, and all that are theirs."""

    own_id: int
    head_id: int
    ids: tuple[int, ...]


def find_people(db: DAL, community_id: int, names: Collection[str]) -> dict[str, Member]:
    """Members by what they are called, `12` or `twitch:4711`. Who is none, with none of their accounts, is left out, so
    that nobody learns here who is known elsewhere."""
    numbers, platforms, ids = [], [], []
    for name in names:
        platform, _, platform_user_id = name.partition(":")
        numbers.append(int(name) if is_number(name) else None)
        platforms.append(platform)
        ids.append(platform_user_id)
    asked = {"community": community_id, "names": list(names), "numbers": numbers, "platforms": platforms, "ids": ids}
    return {
        row["it"]: Member(row["own_id"], row["head_id"], (row["head_id"], *row["others"]))
        for row in fetch(db, MEMBERS, asked)
    }


def find_things(
    db: DAL, community_id: int, wanted: Mapping[SubjectType, Collection[str]]
) -> set[tuple[SubjectType, str]]:
    """Which of these communities, modules and groups there are, as far as they are this community's business."""
    found: set[tuple[SubjectType, str]] = set()
    if str(community_id) in wanted.get("community", ()):
        found.add(("community", str(community_id)))
    if modules := wanted.get("module"):
        rows = fetch(db, "SELECT module_name FROM collector_modules WHERE module_name = ANY(%s)", (list(modules),))
        names = {row["module_name"] for row in rows} | ({each.name for each in all_manifests()} & set(modules))
        found |= {("module", name) for name in names}
    if groups := [each for each in wanted.get("group", ()) if is_number(each)]:
        sql = "SELECT id::text FROM label_groups WHERE community_id = %s AND id = ANY(%s::bigint[])"
        found |= {("group", row["id"]) for row in fetch(db, sql, (community_id, groups))}
    return found
