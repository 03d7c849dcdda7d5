"""What owners set for modules and commands: on or off, replaced, who may, how often (contracts §6, §7)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from psycopg2.extras import execute_values
from pydal import DAL
from waddlebot.base.chat import fold, parse_command
from waddlebot.base.contracts import Level
from waddlebot.base.errors import Invalid, NotFound
from waddlebot.base.ids import parse_entity_id
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one

from ..catalogue.cache_manager import COMMANDS
from ..catalogue.catalogue import ALL_COMMANDS
from .registry import UnknownModule

MAX_SUBJECTS = 1000


@dataclass(frozen=True, slots=True)
class Scope:
    """A whole community, or one of its entities."""

    community_id: int
    entity_id: str | None = None

    @property
    def path(self) -> str:
        """What the endpoints about it begin with."""
        if self.entity_id is None:
            return f"/router/communities/{self.community_id}"
        return f"/router/entities/{quote(self.entity_id, safe=':')}"

    @property
    def suffix(self) -> str:
        return f"@{self.entity_id}" if self.entity_id else ""


class SwitchService:
    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus

    def scope_of_entity(self, text: str) -> Scope:
        """Raises: Invalid; NotFound."""
        entity_id = str(parse_entity_id(text))
        with self._db.transaction() as db:
            row = fetch_one(db, "SELECT community_id FROM entities WHERE entity_id = %s AND is_active", (entity_id,))
        if row is None:
            raise NotFound(f"{entity_id} is not a channel of this fleet.")
        return Scope(row["community_id"], entity_id)

    def list_modules(self, scope: Scope) -> list[dict[str, Any]]:
        """Every module with commands, and whether it is on here, by whose word."""
        with self._db.transaction() as db:
            return fetch(
                db,
                "SELECT m.module_name, m.module_type, m.version, m.commands,"
                " coalesce(here.enabled, everywhere.enabled, m.module_type = 'core') AS enabled,"
                " CASE WHEN here.id IS NOT NULL THEN 'entity' WHEN everywhere.id IS NOT NULL THEN 'community'"
                "  ELSE 'default' END AS decided_by,"
                " coalesce(here.replaced_by, everywhere.replaced_by) AS replaced_by,"
                " coalesce(here.config, everywhere.config, '{}') AS config"
                " FROM (SELECT module_name, min(module_type) AS module_type, max(version) AS version,"
                "  array_agg(prefix || command ORDER BY command) AS commands"
                "  FROM commands WHERE is_active GROUP BY 1) m"
                " LEFT JOIN module_switches here ON here.module_name = m.module_name"
                "  AND here.community_id = %(community)s AND here.entity_id = %(entity)s"
                " LEFT JOIN module_switches everywhere ON everywhere.module_name = m.module_name"
                "  AND everywhere.community_id = %(community)s AND everywhere.entity_id IS NULL ORDER BY 1",
                {"community": scope.community_id, "entity": scope.entity_id},
            )

    def set_module(
        self,
        scope: Scope,
        module_name: str,
        *,
        enabled: bool,
        replaced_by: str | None,
        config: Mapping[str, Any],
        by: str,
    ) -> dict[str, Any]:
        """Turn a module on or off here, or put another in its place. Raises: UnknownModule; Invalid."""
        with self._db.transaction() as db:
            row = self.set_module_in(
                db, scope, module_name, enabled=enabled, replaced_by=replaced_by, config=config, by=by
            )
        self.changed(scope.community_id)
        return row

    @staticmethod
    def set_module_in(
        db: DAL,
        scope: Scope,
        module_name: str,
        *,
        enabled: bool,
        replaced_by: str | None,
        config: Mapping[str, Any],
        by: str,
    ) -> dict[str, Any]:
        """The same, in a transaction that is followed by `changed`."""
        if replaced_by == module_name:
            raise Invalid("A module cannot replace itself.", field="replaced_by")
        _check_modules(db, [module_name, *([replaced_by] if replaced_by else [])])
        before = _find_switch(db, scope, module_name)
        row = fetch_one(
            db,
            "INSERT INTO module_switches (community_id, entity_id, module_name, enabled, replaced_by, config,"
            " updated_by) VALUES (%s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (community_id, entity_id, module_name) DO UPDATE SET enabled = excluded.enabled,"
            " replaced_by = excluded.replaced_by, config = excluded.config, updated_by = excluded.updated_by,"
            " updated_at = now() RETURNING community_id, entity_id, module_name, enabled, replaced_by, config",
            (
                scope.community_id,
                scope.entity_id,
                module_name,
                enabled and not replaced_by,
                replaced_by,
                json.dumps(config),
                by,
            ),
        )
        assert row is not None
        _record_switch(db, "module_switched", scope, module_name, before)
        return row

    def unset_module(self, scope: Scope, module_name: str) -> None:
        """Let the default hold again. Raises: NotFound."""
        with self._db.transaction() as db:
            before = _find_switch(db, scope, module_name)
            if before is None:
                raise NotFound(f"Nothing is set for {module_name} here.")
            fetch(
                db,
                "DELETE FROM module_switches WHERE community_id = %s AND entity_id IS NOT DISTINCT FROM %s"
                " AND module_name = %s",
                (scope.community_id, scope.entity_id, module_name),
            )
            _record_switch(db, "module_switch_removed", scope, module_name, before)
        self.changed(scope.community_id)

    def list_permissions(self, scope: Scope) -> list[dict[str, Any]]:
        """What is set for commands in a community, its entities included, or at one entity."""
        with self._db.transaction() as db:
            rows = fetch(
                db,
                f"{SELECT_PERMISSION} WHERE p.community_id = %(community)s AND p.is_explicit"
                " AND (%(entity)s::text IS NULL OR p.entity_id = %(entity)s) GROUP BY p.id ORDER BY command, entity_id",
                {"community": scope.community_id, "entity": scope.entity_id},
            )
        return [_permission(row) for row in rows]

    def set_permission(
        self,
        scope: Scope,
        command: str,
        *,
        is_enabled: bool | None,
        allow: Sequence[str],
        deny: Sequence[str],
        config: Mapping[str, Any],
        by: str,
    ) -> dict[str, Any]:
        """Say who may use a command here and how often; replaces what was said before.

        Raises: Invalid for a command or a subject that cannot be; NotFound for an unknown user.
        """
        with self._db.transaction() as db:
            made = self.set_permission_in(
                db, scope, command, is_enabled=is_enabled, allow=allow, deny=deny, config=config, by=by
            )
        self.changed(scope.community_id)
        return made

    @staticmethod
    def set_permission_in(
        db: DAL,
        scope: Scope,
        command: str,
        *,
        is_enabled: bool | None,
        allow: Sequence[str],
        deny: Sequence[str],
        config: Mapping[str, Any],
        by: str,
    ) -> dict[str, Any]:
        """The same, in a transaction that is followed by `changed`."""
        name = command_name(command)
        before = _find_permission(db, scope, name)
        subjects = [("allow", each) for each in _subjects(db, allow)] + [("deny", each) for each in _subjects(db, deny)]
        row = fetch_one(
            db,
            "INSERT INTO command_permissions (community_id, entity_id, command, is_enabled, config, is_explicit,"
            " updated_by) VALUES (%s, %s, %s, %s, %s, true, %s)"
            " ON CONFLICT (community_id, entity_id, command) DO UPDATE SET is_enabled = excluded.is_enabled,"
            " config = excluded.config, is_explicit = true, updated_by = excluded.updated_by, updated_at = now()"
            " RETURNING id",
            (scope.community_id, scope.entity_id, name, is_enabled, json.dumps(config), by),
        )
        assert row is not None
        fetch(db, "DELETE FROM command_permission_subjects WHERE command_permission_id = %s", (row["id"],))
        if subjects:
            execute_values(
                db._adapter.cursor,
                "INSERT INTO command_permission_subjects (command_permission_id, effect, kind, subject) VALUES %s"
                " ON CONFLICT DO NOTHING",
                [(row["id"], effect, *subject.split(":", 1)) for effect, subject in subjects],
            )
        made = fetch_one(db, f"{SELECT_PERMISSION} WHERE p.id = %s GROUP BY p.id", (row["id"],))
        assert made is not None
        _record_permission(db, "permission_set", scope, name, before)
        return _permission(made)

    def unset_permission(self, scope: Scope, command: str) -> None:
        """Forget what was said about a command here; how often it is used stays. Raises: NotFound."""
        with self._db.transaction() as db:
            before = _find_permission(db, scope, command_name(command))
            row = fetch_one(
                db,
                "UPDATE command_permissions SET is_explicit = false, is_enabled = NULL, config = '{}'"
                " WHERE community_id = %s AND entity_id IS NOT DISTINCT FROM %s AND command = %s AND is_explicit"
                " RETURNING id",
                (scope.community_id, scope.entity_id, command_name(command)),
            )
            if row is None:
                raise NotFound(f"Nothing is set for {command[:80]} here.")
            fetch(db, "DELETE FROM command_permission_subjects WHERE command_permission_id = %s", (row["id"],))
            _record_permission(db, "permission_removed", scope, command_name(command), before)
        self.changed(scope.community_id)

    def changed(self, community_id: int) -> None:
        """Have every process look anew at what is set in a community."""
        self._bus.invalidate(COMMANDS, community_id)


SELECT_PERMISSION = (
    "SELECT p.id, p.community_id, p.entity_id, p.command, p.is_enabled, p.config, p.usage_count, p.last_used,"
    " coalesce(array_agg(who ORDER BY who) FILTER (WHERE effect = 'allow'), '{}') AS allow,"
    " coalesce(array_agg(who ORDER BY who) FILTER (WHERE effect = 'deny'), '{}') AS deny FROM command_permissions p"
    " LEFT JOIN (SELECT *, kind || ':' || subject AS who FROM command_permission_subjects) s"
    " ON s.command_permission_id = p.id"
)


def _permission(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "community_id": row["community_id"],
        "entity_id": row["entity_id"],
        "command": row["command"],
        "is_enabled": row["is_enabled"],
        "permissions": {"allow": row["allow"], "deny": row["deny"]},
        "config": row["config"],
        "usage_count": row["usage_count"],
        "last_used": row["last_used"],
    }


def _find_switch(db: DAL, scope: Scope, module_name: str) -> dict[str, Any] | None:
    """What is set for a module here; a change of it waits for the end of this one."""
    return fetch_one(
        db,
        "SELECT enabled, replaced_by, config FROM module_switches WHERE community_id = %s"
        " AND entity_id IS NOT DISTINCT FROM %s AND module_name = %s FOR UPDATE",
        (scope.community_id, scope.entity_id, module_name),
    )


def _record_switch(db: DAL, action: str, scope: Scope, module_name: str, before: dict[str, Any] | None) -> None:
    path = f"{scope.path}/modules/{module_name}"
    audit.record(
        db,
        "router",
        action,
        f"module/{module_name}{scope.suffix}",
        community_id=scope.community_id,
        before=before,
        after=_find_switch(db, scope, module_name),
        undo=Undo("PUT", path, before) if before else Undo("DELETE", path),
    )


def _find_permission(db: DAL, scope: Scope, name: str) -> dict[str, Any] | None:
    """What is set for a command here; a change of it waits for the end of this one."""
    where = (scope.community_id, scope.entity_id, name)
    sql = "p.community_id = %s AND p.entity_id IS NOT DISTINCT FROM %s AND p.command = %s AND p.is_explicit"
    fetch(db, f"SELECT id FROM command_permissions p WHERE {sql} FOR UPDATE", where)
    row = fetch_one(db, f"{SELECT_PERMISSION} WHERE {sql} GROUP BY p.id", where)
    if row is None:
        return None
    set_here = _permission(row)
    return {each: set_here[each] for each in ("command", "is_enabled", "permissions", "config")}


def _record_permission(db: DAL, action: str, scope: Scope, name: str, before: dict[str, Any] | None) -> None:
    path = f"{scope.path}/permissions"
    audit.record(
        db,
        "router",
        action,
        f"permission/{name}{scope.suffix}",
        community_id=scope.community_id,
        before=before,
        after=_find_permission(db, scope, name),
        undo=Undo("PUT", path, before) if before else Undo("DELETE", f"{path}?{urlencode({'command': name})}"),
    )


def command_name(text: str) -> str:
    """A command as it is compared, `!inventory`, or `*` for all of them. Raises: Invalid."""
    if text == ALL_COMMANDS:
        return text
    line = parse_command(text)
    if line is None or line.rest:
        raise Invalid(f"{text[:80]!r} is not a command such as !inventory, nor *.", field="command")
    return line.prefix + fold(line.command)


def _check_modules(db: DAL, names: Sequence[str]) -> None:
    """Raises: UnknownModule."""
    rows = fetch(db, "SELECT DISTINCT module_name FROM commands WHERE module_name = ANY(%s)", (list(names),))
    unknown = sorted(set(names) - {row["module_name"] for row in rows})
    if unknown:
        raise UnknownModule(f"There is no module {unknown[0][:64]} with commands here.")


def _subjects(db: DAL, texts: Sequence[str]) -> list[str]:
    """`role:vip`, `user:12` and `twitch:4711` as they are compared: people by their number.

    Raises: Invalid; NotFound.
    """
    return [_subject(db, text) for text in texts]


def _subject(db: DAL, text: str) -> str:
    kind, _, name = text.partition(":")
    if kind == "role" and name.upper() in Level.__members__:
        return f"role:{name.lower()}"
    if kind == "user" and name.isascii() and name.isdigit() and len(name) < 19:
        row = fetch_one(db, "SELECT id AS user_id FROM users WHERE id = %s", (int(name),))
    elif name and kind not in ("role", "user"):
        row = fetch_one(
            db,
            "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s",
            (kind, name),
        )
    else:
        raise Invalid(f"{text[:80]!r} is not role:<level>, user:<number> or <platform>:<user id>.", field="permissions")
    if row is None:
        raise NotFound(f"There is nobody known as {text[:80]}.")
    return f"user:{row['user_id']}"
