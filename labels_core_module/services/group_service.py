"""Groups of channels and servers in which a label brings a role, and what became of the roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydal import DAL
from waddlebot.base.errors import Conflict, Invalid, NotFound
from waddlebot.base.ids import EntityId, parse_entity_id
from waddlebot.base.text import at_a_glance
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus
from waddlebot.data.database import fetch, fetch_one
from waddlebot.web.lists import Listed, Page, fetch_page

from .label_service import CHANGES, MODULE, LabelService, Wish
from .names import check_label

MAX_GROUPS, MAX_PLACES, MAX_RULES = 100, 100, 100
TWITCH_ROLES = ("vip", "moderator")
PLATFORMS = ("twitch", "discord", "slack")

SHOWN = """
g.id, g.community_id, g.name, g.created_at,
ARRAY(SELECT entity_id FROM label_group_places p WHERE p.group_id = g.id ORDER BY entity_id) AS entities,
coalesce((
    SELECT json_agg(json_build_object(
        'id', r.id, 'label', r.label, 'entity_id', r.entity_id, 'role_id', r.role_id) ORDER BY r.id)
    FROM label_group_rules r WHERE r.group_id = g.id), '[]') AS rules
"""
LIST = f"""
SELECT {SHOWN}, count(*) OVER () AS total FROM label_groups g WHERE g.community_id = %(community)s
ORDER BY g.id LIMIT %(limit)s OFFSET %(offset)s
"""
# What the platforms refused, and how many have their roles.
ROLES = """
SELECT r.platform, r.server_id, r.role_id, r.own_id, i.name, r.platform_user_id, r.is_wanted, r.has_it, r.is_ours,
    r.times_taken, r.tries, r.error_code, r.error_message, r.changed_at,
    CASE WHEN r.is_wanted <> r.has_it AND isfinite(r.next_try_at) THEN r.next_try_at END AS next_try_at,
    count(*) OVER () AS total
FROM label_roles r LEFT JOIN platform_identities i
    ON i.platform = r.platform AND i.platform_user_id = r.platform_user_id
WHERE r.community_id = %(community)s AND (NOT %(refused)s OR r.error_code <> '') AND EXISTS (
    SELECT FROM label_group_rules g WHERE g.group_id = %(group)s
    AND (g.platform, g.server_id, g.role_id) = (r.platform, r.server_id, r.role_id))
ORDER BY r.error_code = '', r.changed_at DESC, r.own_id LIMIT %(limit)s OFFSET %(offset)s
"""


class UnknownGroup(NotFound):
    """There is no such group."""

    code = "unknown_group"


@dataclass(frozen=True, slots=True)
class Rule:
    """A label that brings a role at one of the group's places."""

    label: str
    entity_id: str
    role_id: str


@dataclass(frozen=True, slots=True)
class GroupLabel:
    """A label that a group itself has."""

    label: str
    expires_at: datetime | None
    metadata: Mapping[str, Any]


class GroupService:
    def __init__(self, bus: Bus, labels: LabelService) -> None:
        self._bus = bus
        self._labels = labels

    def make(
        self,
        db: DAL,
        community_id: int,
        name: str,
        entities: Sequence[str],
        rules: Sequence[Rule],
        labels: Sequence[GroupLabel] = (),
    ) -> dict[str, Any]:
        """Make a group, with the labels that it has from the start; those that are over are left out.

        Raises: Invalid, naming the field; Conflict for a name that there is, or that looks like one; as labels are
        given.
        """
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('label groups of ' || %s, 0))", (str(community_id),))
        (count,) = fetch(db, "SELECT count(*) AS n FROM label_groups WHERE community_id = %s", (community_id,))
        if count["n"] >= MAX_GROUPS:
            raise Conflict(f"A community can have {MAX_GROUPS} groups.")
        checked = check_label(name)
        row = fetch_one(
            db,
            "INSERT INTO label_groups (community_id, name, looks_like) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING id",
            (community_id, checked, at_a_glance(checked)),
        )
        if row is None:
            raise Conflict(f"There is a group called “{checked}”, or one that looks like it.")
        self._set(db, community_id, row["id"], entities, rules)
        self._give(db, community_id, row["id"], labels)
        made = self.get(db, row["id"], community_id)
        self._record(db, "group_made", None, made)
        return made

    def _give(self, db: DAL, community_id: int, group_id: int, labels: Sequence[GroupLabel]) -> None:
        now = datetime.now(UTC)
        lasting = [each for each in labels if each.expires_at is None or each.expires_at > now]
        wishes = [Wish(each.label, "group", str(group_id), each.expires_at, each.metadata) for each in lasting]
        for outcome in self._labels.apply(db, community_id, wishes, is_recorded=False) if wishes else ():
            if outcome.error is not None:
                raise outcome.error

    def change(
        self,
        db: DAL,
        group_id: int,
        community_id: int | None,
        *,
        name: str | None,
        entities: Sequence[str] | None,
        rules: Sequence[Rule] | None,
    ) -> dict[str, Any]:
        """Change what is given. Raises: as make, and UnknownGroup."""
        before = self.get(db, group_id, community_id, for_update=True)
        if name is not None:
            checked = check_label(name)
            taken = fetch(
                db,
                "SELECT FROM label_groups WHERE community_id = %s AND looks_like = %s AND id <> %s",
                (before["community_id"], at_a_glance(checked), group_id),
            )
            if taken:
                raise Conflict(f"There is a group called “{checked}”, or one that looks like it.")
            fetch(
                db,
                "UPDATE label_groups SET name = %s, looks_like = %s WHERE id = %s",
                (checked, at_a_glance(checked), group_id),
            )
        kept = [Rule(each["label"], each["entity_id"], each["role_id"]) for each in before["rules"]]
        places = before["entities"] if entities is None else entities
        self._set(db, before["community_id"], group_id, places, kept if rules is None else rules)
        after = self.get(db, group_id, community_id)
        self._record(db, "group_changed", before, after)
        return after

    def delete(self, db: DAL, group_id: int, community_id: int | None) -> dict[str, Any]:
        """Delete a group; the roles that it brought are taken. Raises: UnknownGroup."""
        before = self.get(db, group_id, community_id, for_update=True)
        fetch(db, "DELETE FROM label_groups WHERE id = %s", (group_id,))
        labels = fetch(
            db,
            "DELETE FROM labels_of_things WHERE community_id = %s AND subject_type = 'group' AND subject_id = %s"
            " RETURNING name AS label, expires_at, metadata",
            (before["community_id"], str(group_id)),
        )
        self._record(db, "group_deleted", before | {"labels": labels}, None)
        return before

    def get(self, db: DAL, group_id: int, community_id: int | None, *, for_update: bool = False) -> dict[str, Any]:
        """Raises: UnknownGroup, also for another community's."""
        row = fetch_one(
            db,
            f"SELECT {SHOWN} FROM label_groups g WHERE g.id = %s AND (%s::bigint IS NULL OR g.community_id = %s)"
            + (" FOR UPDATE" if for_update else ""),
            (group_id, community_id, community_id),
        )
        if row is None:
            raise UnknownGroup(f"There is no group {group_id}.")
        return row

    def list_groups(self, db: DAL, community_id: int, page: Page) -> Listed[dict[str, Any]]:
        return fetch_page(lambda sql, asked: fetch(db, sql, asked), LIST, {"community": community_id}, page)

    def list_roles(
        self, db: DAL, group_id: int, community_id: int, page: Page, *, is_refused: bool
    ) -> Listed[dict[str, Any]]:
        """Who has or should have the roles of a group's rules; first what a platform refused."""
        asked = {"community": community_id, "group": group_id, "refused": is_refused}
        return fetch_page(lambda sql, asked: fetch(db, sql, asked), ROLES, asked, page)

    def try_again(self, db: DAL, group_id: int, community_id: int) -> int:
        """Ask the platforms anew for what they refused. Returns how many roles."""
        rows = fetch(
            db,
            "UPDATE label_roles r SET tries = 0, times_taken = 0, next_try_at = now(), error_code = '',"
            " error_message = '' FROM label_group_rules g WHERE r.community_id = %s AND g.group_id = %s"
            " AND (g.platform, g.server_id, g.role_id) = (r.platform, r.server_id, r.role_id)"
            " AND r.is_wanted <> r.has_it RETURNING 1",
            (community_id, group_id),
        )
        return len(rows)

    def tell(self, community_id: int) -> None:
        """Have roles follow; after the commit."""
        self._bus.invalidate(CHANGES, community_id)

    def _set(self, db: DAL, community_id: int, group_id: int, entities: Sequence[str], rules: Sequence[Rule]) -> None:
        places = {str(each): each for each in map(parse_entity_id, entities)}
        if len(places) > MAX_PLACES or len(rules) > MAX_RULES:
            raise Invalid(f"A group has at most {MAX_PLACES} places and {MAX_RULES} rules.", field="entities")
        self._check_places(db, community_id, places)
        fetch(db, "DELETE FROM label_group_places WHERE group_id = %s", (group_id,))
        fetch(db, "DELETE FROM label_group_rules WHERE group_id = %s", (group_id,))
        fetch(
            db,
            "INSERT INTO label_group_places (group_id, entity_id) SELECT %s, unnest(%s::text[])",
            (group_id, list(places)),
        )
        rows = [_rule_row(each, places) for each in rules]
        fetch(
            db,
            "INSERT INTO label_group_rules (group_id, label, entity_id, platform, server_id, role_id)"
            " SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"
            " ON CONFLICT DO NOTHING",
            (group_id, *([row[n] for row in rows] for n in range(5))),
        )

    @staticmethod
    def _check_places(db: DAL, community_id: int, places: dict[str, EntityId]) -> None:
        """Whether all of a group's places are this community's: channels of it, or servers that are all of it.

        Raises: Invalid, in the same words for what is another's and what is nobody's.
        """
        rows = fetch(
            db,
            "SELECT e.it FROM unnest(%(its)s::text[], %(platforms)s::text[], %(servers)s::text[], %(channels)s::text[])"
            " AS e (it, platform, server_id, channel_id) WHERE EXISTS (SELECT FROM entities k WHERE k.is_active"
            "  AND k.community_id = %(community)s AND k.platform = e.platform AND k.server_id = e.server_id"
            "  AND (k.channel_id = e.channel_id OR e.channel_id = ''))"
            " AND (e.channel_id <> '' OR NOT EXISTS (SELECT FROM entities k WHERE k.is_active"
            "  AND k.platform = e.platform AND k.server_id = e.server_id AND k.community_id <> %(community)s))",
            {
                "community": community_id,
                "its": list(places),
                "platforms": [each.platform for each in places.values()],
                "servers": [each.server_id for each in places.values()],
                "channels": [each.channel_id for each in places.values()],
            },
        )
        missing = sorted(set(places) - {row["it"] for row in rows})
        if missing:
            raise Invalid(f"{missing[0]} is not a channel or server of this community.", field="entities")

    def _record(self, db: DAL, action: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        group = after or before
        assert group is not None
        was, now = before and _as_recorded(before), after and _as_recorded(after)
        if was is None:
            undo = Undo("DELETE", f"/labels/groups/{group['id']}")
        elif now is None:
            undo = Undo("POST", "/labels/groups", {**was, "community_id": group["community_id"]})
        else:
            undo = Undo("PUT", f"/labels/groups/{group['id']}", was)
        subject = f"group/{group['id']}"
        audit.record(db, MODULE, action, subject, community_id=group["community_id"], before=was, after=now, undo=undo)


def _rule_row(rule: Rule, places: dict[str, EntityId]) -> tuple[str, str, str, str, str]:
    """Raises: Invalid."""
    entity = parse_entity_id(rule.entity_id)
    if str(entity) not in places:
        raise Invalid(f"{entity} is not one of the group's entities.", field="rules")
    if entity.platform not in PLATFORMS:
        raise Invalid(f"There are no roles on {entity.platform}.", field="rules")
    if entity.platform == "twitch" and rule.role_id not in TWITCH_ROLES:
        raise Invalid("A role on Twitch is vip or moderator.", field="rules")
    server_id = entity.channel_id if entity.platform == "twitch" else entity.server_id
    return check_label(rule.label), str(entity), entity.platform, server_id, rule.role_id


def _as_recorded(group: dict[str, Any]) -> dict[str, Any]:
    rules = [{key: each[key] for key in ("label", "entity_id", "role_id")} for each in group["rules"]]
    labels = {"labels": group["labels"]} if group.get("labels") else {}
    return {"name": group["name"], "entities": group["entities"], "rules": rules, **labels}
