"""What bears labels: people, communities, modules, and groups of channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydal import DAL
from waddlebot.base.manifest import all_manifests
from waddlebot.base.wire import is_number, to_json
from waddlebot.data.database import fetch

SubjectType = Literal["user", "community", "module", "group"]
# Each in a statement of its own, by one index: all in one took ten times as long.
HEADS = "SELECT id, head_id FROM users WHERE id = ANY(%(numbers)s::bigint[]) AND head_id IS NOT NULL"
BY_IDENTITY = """
SELECT named.it, i.user_id FROM json_to_recordset(%(named)s) AS named (it text, platform text, platform_user_id text)
JOIN platform_identities i USING (platform, platform_user_id)
"""
OTHERS = "SELECT id, head_id FROM users WHERE head_id = ANY(%(heads)s::bigint[])"
MEMBERS = """
SELECT array_agg(user_id) AS ids FROM community_memberships
WHERE community_id = %(community)s AND is_active AND user_id = ANY(%(numbers)s::bigint[])
"""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody's own number, and all that are theirs, the one that counts first."""

    own_id: int
    ids: tuple[int, ...]


def find_people(db: DAL, community_id: int, names: Collection[str]) -> dict[str, Member]:
    """Members by what they are called, `12` or `twitch:4711`. Who is none, with none of their accounts, is left out, so
    that nobody learns here who is known elsewhere."""
    found = {name: int(name) for name in names if is_number(name)}
    identities = [
        dict(zip(("it", "platform", "platform_user_id"), (name, *name.split(":", 1)), strict=True))
        for name in names
        if name not in found and ":" in name
    ]
    if identities:
        found |= {row["it"]: row["user_id"] for row in fetch(db, BY_IDENTITY, {"named": to_json(identities)})}
    heads = {row["id"]: row["head_id"] for row in fetch(db, HEADS, {"numbers": array_of(found.values())})}
    numbers_of = all_numbers(db, {heads.get(number, number) for number in found.values()})
    everybody = array_of(number for each in numbers_of.values() for number in each)
    (row,) = fetch(db, MEMBERS, {"community": community_id, "numbers": everybody})
    members = set(row["ids"] or ())
    people = {}
    for name, number in found.items():
        ids = numbers_of[heads.get(number, number)]
        if not members.isdisjoint(ids):
            people[name] = Member(number, ids)
    return people


def all_numbers(db: DAL, heads: Collection[int]) -> dict[int, tuple[int, ...]]:
    """All numbers of people, by the one that counts, which comes first."""
    numbers: dict[int, tuple[int, ...]] = {head: (head,) for head in heads}
    for row in fetch(db, OTHERS, {"heads": array_of(heads)}):
        numbers[row["head_id"]] += (row["id"],)
    return numbers


def array_of(numbers: Iterable[int]) -> str:
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
