"""What owners set for modules and commands: on or off, replaced, who may, how often (contracts §6, §7)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import execute_values
from pydal import DAL
from waddlebot.base.chat import fold, parse_command
from waddlebot.base.contracts import Level
from waddlebot.base.errors import Invalid, NotFound
from waddlebot.base.ids import parse_entity_id
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one

from ..catalogue.cache_manager import COMMANDS
from ..catalogue.catalogue import ALL_COMMANDS
from ..rules.listeners import check_config
from ..rules.rule_book import RuleBook
from .registry import UnknownModule

MAX_SUBJECTS = 1000


@dataclass(frozen=True, slots=True)
class Scope:
    """A whole community, or one of its entities."""

    community_id: int
    entity_id: str | None = None


class SwitchService:
    def __init__(self, db: Database, bus: Bus, book: RuleBook) -> None:
        self._db = db
        self._book = book
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
        if replaced_by == module_name:
            raise Invalid("A module cannot replace itself.", field="replaced_by")
        with self._db.transaction() as db:
            _check_modules(db, [module_name, *([replaced_by] if replaced_by else [])])
            check_config(db, module_name, config)
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
        self._module_changed(scope)
        assert row is not None
        return row

    def unset_module(self, scope: Scope, module_name: str) -> None:
        """Let the default hold again. Raises: NotFound."""
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "DELETE FROM module_switches WHERE community_id = %s AND entity_id IS NOT DISTINCT FROM %s"
                " AND module_name = %s RETURNING id",
                (scope.community_id, scope.entity_id, module_name),
            )
        if row is None:
            raise NotFound(f"Nothing is set for {module_name} here.")
        self._module_changed(scope)

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
        name = command_name(command)
        with self._db.transaction() as db:
            subjects = [("allow", each) for each in _subjects(db, allow)] + [
                ("deny", each) for each in _subjects(db, deny)
            ]
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
        self._changed(scope)
        assert made is not None
        return _permission(made)

    def unset_permission(self, scope: Scope, command: str) -> None:
        """Forget what was said about a command here; how often it is used stays. Raises: NotFound."""
        with self._db.transaction() as db:
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
        self._changed(scope)

    def _module_changed(self, scope: Scope) -> None:
        self._changed(scope)
        self._book.changed(scope.community_id)  # What it listens for is compiled with the rules.

    def _changed(self, scope: Scope) -> None:
        self._bus.invalidate(COMMANDS, scope.community_id)


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
