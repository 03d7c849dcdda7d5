"""What of the router's a community can carry to another fleet: its rules, switches, permissions, roles, timers and
points. Who owns the community stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydal import DAL
from pydantic import Field, StringConstraints, model_validator
from waddlebot.base.contracts import LevelName, ModuleName
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.text import fold
from waddlebot.base.variables import unknown_in
from waddlebot.data.audit import record_all
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.people import ensure_person
from waddlebot.module.portable import Item, Part

from ..modules.switch_service import MAX_SUBJECTS, ModuleState, Scope, SwitchService
from ..people.roles_service import role_change
from ..rules.escalation_steps import Steps
from ..rules.filters import MAX_NUMBER, USUAL
from ..rules.rule_service import RuleService
from ..rules.string_matcher import MatchType
from .community_rows import CommunityRows
from .live_notice_fields import LiveNoticeFields
from .live_notice_service import NOTICES
from .point_items import brought_part, points_part
from .timer_fields import TimerFields
from .timer_service import IN_TIMERS, TIMERS

BY = "portal"
Kept = TypeVar("Kept", bound=Item)
# A secret is shown to whoever sets it, and an import sets none that anybody sees.
SIGNED_ANEW = "It is not there yet. Its calls will be signed with a new secret; set its action anew to be shown one."
Text = Annotated[str, StringConstraints(max_length=500)]
ShortText = Annotated[str, StringConstraints(max_length=255)]
LongText = Annotated[str, StringConstraints(max_length=200_000)]
Subjects = Annotated[list[ShortText], Field(max_length=MAX_SUBJECTS)]


class RuleItem(Item):
    """A string rule that is on. What its webhook's calls are signed with is not carried."""

    kind: Literal["string_rule"] = "string_rule"
    string: LongText
    match_type: MatchType = "exact"
    number: Annotated[int, Field(ge=1, le=MAX_NUMBER)] | None = None
    share: Annotated[int, Field(ge=0, le=100)] | None = None
    case_sensitive: bool = False
    look_alikes: bool = False
    exempt_level: LevelName | None = "moderator"
    action: Literal["warn", "block", "command", "webhook"]
    command_to_execute: ShortText = ""
    command_parameters: list[Text] = Field(default_factory=list, max_length=100)
    webhook_url: Annotated[str, StringConstraints(max_length=2048)] = ""
    warning_message: Text = ""
    block_message: Text = ""
    priority: int = Field(100, ge=-(2**31), lt=2**31)
    exempt_labels: list[ShortText] = Field(default_factory=list, max_length=50)
    escalation: Steps = Field(default_factory=list)
    enabled_entity_ids: list[ShortText] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="before")
    @classmethod
    def _as_it_is_kept(cls, said: Any) -> Any:
        """A filter's number and share that are not said are the usual ones."""
        usual = USUAL.get(str(said.get("match_type"))) if isinstance(said, dict) else None
        if usual is None:
            return said
        given = {name: value for name, value in said.items() if value is not None or name not in ("number", "share")}
        return {"number": usual[0], "share": usual[1], **given}


class SwitchItem(Item):
    kind: Literal["module"] = "module"
    module_name: ModuleName
    entity_id: ShortText | None = None
    enabled: bool | None = None
    replaced_by: ModuleName | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class PermissionItem(Item):
    """`allow` and `deny` list `role:<level>`, `label:<name>` and people as `<platform>:<user id>`."""

    kind: Literal["permission"] = "permission"
    command: ShortText
    entity_id: ShortText | None = None
    is_enabled: bool | None = None
    allow: Subjects = Field(default_factory=list)
    deny: Subjects = Field(default_factory=list)
    config: dict[str, Any] = Field(default_factory=dict)


class RoleItem(Item):
    """A role below owner."""

    kind: Literal["role"] = "role"
    person: ShortText
    role: Literal["admin", "moderator", "vip", "subscriber", "member"]


class TimerItem(TimerFields, Item):
    kind: Literal["timer"] = "timer"


class LiveNoticeItem(LiveNoticeFields, Item):
    kind: Literal["live_notice"] = "live_notice"


def parts(rules: RuleService, switches: SwitchService) -> list[Part[Any]]:
    return [
        rule_part(rules),
        switch_part(switches),
        permission_part(switches),
        role_part(),
        timer_part(),
        points_part(),
        brought_part(),
        notice_part(),
    ]


def rule_part(rules: RuleService) -> Part[RuleItem]:
    def export(db: DAL, community_id: int) -> list[RuleItem]:
        rows = fetch(
            db,
            "SELECT id, string, match_type, number, share, case_sensitive, look_alikes, exempt_level, action,"
            " command_to_execute, command_parameters, webhook_url, warning_message, block_message, priority,"
            " exempt_labels, escalation, ARRAY(SELECT entity_id FROM stringmatch_entities e"
            "  WHERE e.stringmatch_id = r.id ORDER BY 1) AS enabled_entity_ids"
            " FROM stringmatch r WHERE community_id = %s AND is_active ORDER BY priority, id",
            (community_id,),
        )
        return [RuleItem(**row).of_row(row_id) for row in rows if (row_id := row.pop("id"))]

    def put(db: DAL, community_id: int, item: RuleItem, known: RuleItem | None) -> str | None:
        values = {**item.model_dump(exclude={"kind", "enabled_entity_ids"}), "is_active": True}
        rules.check(values)
        if known is not None:
            rules.update_in(db, known.row_id, values, item.enabled_entity_ids)
            return None
        rules.create_in(db, community_id, values, item.enabled_entity_ids, by=BY)
        return SIGNED_ANEW if item.action == "webhook" else None

    def key(item: RuleItem) -> Any:
        return item.string, item.match_type, item.case_sensitive, item.action, tuple(sorted(item.enabled_entity_ids))

    return Part(RuleItem, key, export, put, tables=("stringmatch", "stringmatch_entities"))


def timer_part() -> Part[TimerItem]:
    return _rows_part(
        TIMERS,
        TimerItem,
        lambda item: fold(item.name),
        unfilled=lambda item: unknown_in(item.message, IN_TIMERS),
    )


def notice_part() -> Part[LiveNoticeItem]:
    return _rows_part(NOTICES, LiveNoticeItem, lambda item: (item.entity_id, item.stream_entity_id))


def _rows_part(rows: CommunityRows, kind: type[Kept], key: Callable[[Kept], Any], **more: Any) -> Part[Kept]:
    def export(db: DAL, community_id: int) -> list[Kept]:
        listed = rows.list_all(db, community_id)
        return [kind(**{each: row[each] for each in rows.columns}).of_row(row["id"]) for row in listed]

    def put(db: DAL, community_id: int, item: Kept, known: Kept | None) -> None:
        values = item.model_dump(exclude={"kind"})
        if known is None:
            rows.create(db, community_id, values)
        else:
            rows.update(db, rows.get(db, community_id, known.row_id), values)

    return Part(kind, key, export, put, tables=(rows.table,), **more)


def switch_part(switches: SwitchService) -> Part[SwitchItem]:
    def export(db: DAL, community_id: int) -> list[SwitchItem]:
        rows = fetch(
            db,
            "SELECT module_name, entity_id, enabled, replaced_by, config FROM module_switches WHERE community_id = %s"
            # What was installed is the marketplace's to carry.
            " AND version IS NULL ORDER BY module_name, entity_id NULLS FIRST",
            (community_id,),
        )
        return [SwitchItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: SwitchItem, _known: SwitchItem | None) -> None:
        scope = _scope(db, community_id, item.entity_id)
        is_set = item.enabled is not None or item.replaced_by is not None
        state = ModuleState(item.enabled is not False, item.replaced_by) if is_set else None
        switches.set_module_in(db, scope, item.module_name, switch=state, config=item.config, by=BY)

    return Part(SwitchItem, lambda item: (item.module_name, item.entity_id), export, put, tables=("module_switches",))


def permission_part(switches: SwitchService) -> Part[PermissionItem]:
    def export(db: DAL, community_id: int) -> list[PermissionItem]:
        rows = fetch(
            db,
            "SELECT p.command, p.entity_id, p.is_enabled, p.config,"
            " coalesce(array_agg(who ORDER BY who) FILTER (WHERE effect = 'allow'), '{}') AS allow,"
            " coalesce(array_agg(who ORDER BY who) FILTER (WHERE effect = 'deny'), '{}') AS deny"
            " FROM command_permissions p LEFT JOIN (SELECT s.*, CASE kind WHEN 'user' THEN ("
            "   SELECT platform || ':' || platform_user_id FROM platform_identities i"
            "   WHERE i.user_id::text = subject ORDER BY id LIMIT 1) ELSE kind || ':' || subject END AS who"
            "  FROM command_permission_subjects s) s"
            "  ON s.command_permission_id = p.id AND who IS NOT NULL"
            " WHERE p.community_id = %s AND p.is_explicit GROUP BY p.id ORDER BY command, p.entity_id NULLS FIRST",
            (community_id,),
        )
        return [PermissionItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: PermissionItem, _known: PermissionItem | None) -> None:
        scope = _scope(db, community_id, item.entity_id)
        switches.set_permission_in(
            db,
            scope,
            item.command,
            is_enabled=item.is_enabled,
            allow=[_subject(db, each) for each in item.allow],
            deny=[_subject(db, each) for each in item.deny],
            config=item.config,
            by=BY,
        )

    return Part(
        PermissionItem,
        lambda item: (item.command, item.entity_id),
        export,
        put,
        tables=("command_permissions", "command_permission_subjects"),
    )


def role_part() -> Part[RoleItem]:
    def export(db: DAL, community_id: int) -> list[RoleItem]:
        rows = fetch(
            db,
            "SELECT i.platform || ':' || i.platform_user_id AS person, r.role FROM community_rbac r"
            " JOIN LATERAL (SELECT * FROM platform_identities i WHERE i.user_id = r.user_id ORDER BY id LIMIT 1) i"
            "  ON true WHERE r.community_id = %s AND r.role <> 'owner' ORDER BY 1",
            (community_id,),
        )
        return [RoleItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: RoleItem, known: RoleItem | None) -> None:
        user_id = ensure_person(db, item.person)
        row = fetch_one(
            db,
            "INSERT INTO community_rbac AS r (community_id, user_id, role, assigned_by) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (community_id, user_id) DO UPDATE SET role = excluded.role,"
            " assigned_by = excluded.assigned_by, assigned_at = now() WHERE r.role <> 'owner' RETURNING user_id",
            (community_id, user_id, item.role, BY),
        )
        if row is None:
            raise Conflict(f"{item.person} owns this community.")
        change = role_change(community_id, {user_id: known.role if known else "member"}, item.role)
        record_all(db, "router", "role_assigned", [change], community_id=community_id)

    return Part(RoleItem, lambda item: item.person, export, put, tables=("community_rbac",))


def _subject(db: DAL, text: str) -> str:
    return text if text.startswith(("role:", "label:")) else f"user:{ensure_person(db, text)}"


def _scope(db: DAL, community_id: int, entity_id: str | None) -> Scope:
    if entity_id is None:
        return Scope(community_id)
    rows: Sequence[Any] = fetch(
        db, "SELECT 1 FROM entities WHERE entity_id = %s AND community_id = %s", (entity_id, community_id)
    )
    if not rows:
        raise NotFound(f"{entity_id} is not a channel of this community.")
    return Scope(community_id, entity_id)
