"""What bears labels: people, communities, modules, and groups of channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from pydal import DAL
from waddlebot.base.manifest import all_manifests
from waddlebot.base.wire import is_number, to_json
from waddlebot.data.database import fetch

SubjectType = Literal["user", "community", "module", "group"]
BY_IDENTITY = """
SELECT named.it, i.user_id FROM json_to_recordset(%(named)s) AS named (it text, platform text, platform_user_id text)
JOIN platform_identities i USING (platform, platform_user_id)
"""
# Accounts that are one person with others; few, so what is asked for most people is an index of those few.
LINKED = """
SELECT id, head_id FROM users WHERE head_id = ANY(%(numbers)s::bigint[]
    || ARRAY(SELECT head_id FROM users WHERE id = ANY(%(numbers)s::bigint[]) AND head_id IS NOT NULL)) ORDER BY id
"""
# Which of them are, unless all are, which is so nearly always.
MEMBERS = """
SELECT count(*) AS count, CASE WHEN count(*) < cardinality(%(numbers)s::bigint[]) THEN array_agg(user_id) END AS ids
FROM community_memberships
WHERE community_id = %(community)s AND is_active AND user_id = ANY(%(numbers)s::bigint[])
"""


class Member(NamedTuple):
    """Somebody's own number, and all that are theirs, the one that counts first."""

    own_id: int
    ids: tuple[int, ...]


def find_people(db: DAL, community_id: int, names: Collection[str]) -> dict[str, Member]:
    """Members by what they are called, `12` or `twitch:4711`. Who is none, with none of their accounts, is left out, so
    that nobody learns here who is known elsewhere."""
    found = {name: int(name) for name in names if is_number(name)}
    if len(found) < len(names):
        identities = [
            dict(zip(("it", "platform", "platform_user_id"), (name, *name.split(":", 1)), strict=True))
            for name in names
            if name not in found and ":" in name
        ]
        found |= {row["it"]: row["user_id"] for row in fetch(db, BY_IDENTITY, {"named": to_json(identities)})}
    together = find_together(db, found.values())
    everybody = {*found.values(), *together}
    (row,) = fetch(db, MEMBERS, {"community": community_id, "numbers": array_of(everybody)})
    people = {name: Member(number, together.get(number) or (number,)) for name, number in found.items()}
    if row["count"] == len(everybody):
        return people
    members = set(row["ids"] or ())
    return {name: each for name, each in people.items() if not members.isdisjoint(each.ids)}


def find_together(db: DAL, numbers: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """All numbers of those people who have several, the one that counts first, by each of them."""
    people: dict[int, list[int]] = {}
    for row in fetch(db, LINKED, {"numbers": array_of(numbers)}):
        people.setdefault(row["head_id"], [row["head_id"]]).append(row["id"])
    return {number: tuple(ids) for ids in people.values() for number in ids}


def array_of(numbers: Iterable[int | str]) -> str:
    """Numbers as an array's text, which PostgreSQL reads several times as fast as the same in a statement."""
    return f"{{{','.join(map(str, numbers))}}}"


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
