"""What owners set for modules and commands: on or off, replaced, settings, who may, how often (contracts §6, §7)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from psycopg2.extras import execute_values
from pydal import DAL
from waddlebot.base.chat import parse_command
from waddlebot.base.contracts import Level
from waddlebot.base.errors import Invalid, NotFound
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.module_settings import HIDDEN, SettingSpec, check_config, fitting
from waddlebot.base.text import fold
from waddlebot.base.wire import is_number
from waddlebot.community.credentials import Credentials
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, Prepared, fetch, fetch_one

from ..catalogue.cache_manager import COMMANDS
from ..catalogue.catalogue import ALL_COMMANDS
from ..catalogue.module_specs import load_chosen_specs, load_module_specs, load_version_specs, read_settings
from ..rules import listeners
from ..rules.rule_book import RuleBook
from .registry import UnknownModule
from .version_service import check_version

MAX_LABEL_CHARS = 100

MAX_SUBJECTS = 1000

CONFIGS = frozenset({"here", "everywhere", "specs"})
# On many pages, and planning it takes longer than running it.
MODULES = Prepared(
    "router_modules",
    """
SELECT m.module_name,
    CASE WHEN coalesce(here.version, everywhere.version) IS NOT NULL THEN 'community'
        ELSE coalesce(c.module_type, 'core') END AS module_type,
    coalesce(here.version, everywhere.version, c.version, r.module_version, '') AS version,
    coalesce(c.commands, ARRAY(SELECT prefix || command FROM commands v WHERE v.module_name = m.module_name
        AND v.for_version = coalesce(here.version, everywhere.version) ORDER BY command)) AS commands,
    coalesce(here.enabled, everywhere.enabled, coalesce(c.module_type, 'core') = 'core') AS enabled,
    coalesce(here.parked_at, everywhere.parked_at) AS parked_at,
    coalesce(nullif(here.parked_why, ''), everywhere.parked_why, '') AS parked_why,
    CASE WHEN here.enabled IS NOT NULL THEN 'entity' WHEN everywhere.enabled IS NOT NULL THEN 'community'
        ELSE 'default' END AS decided_by,
    CASE WHEN here.enabled IS NULL THEN everywhere.replaced_by ELSE here.replaced_by END AS replaced_by,
    coalesce(v.settings, r.settings, '[]') <> '[]' OR m.module_name = 'router' AS has_settings,
    CASE WHEN NOT %(brief)s::boolean THEN coalesce(v.settings, r.settings)::text END AS specs,
    coalesce(here.config, '{}') AS here, coalesce(everywhere.config, '{}') AS everywhere
FROM (SELECT module_name FROM commands WHERE is_active
    UNION SELECT module_name FROM collector_modules WHERE settings <> '[]'
    UNION SELECT module_name FROM module_switches WHERE community_id = %(community)s::bigint AND version IS NOT NULL) m
LEFT JOIN LATERAL (SELECT min(module_type) AS module_type, max(version) AS version,
    array_agg(prefix || command ORDER BY command) FILTER (WHERE trigger_type <> 'event') AS commands
    FROM commands WHERE is_active AND module_name = m.module_name HAVING count(*) > 0) c ON true
LEFT JOIN collector_modules r ON r.module_name = m.module_name
LEFT JOIN module_switches here ON here.module_name = m.module_name
    AND here.community_id = %(community)s AND here.entity_id = %(entity)s::text
LEFT JOIN module_switches everywhere ON everywhere.module_name = m.module_name
    AND everywhere.community_id = %(community)s AND everywhere.entity_id IS NULL
LEFT JOIN registered_versions v ON v.module_name = m.module_name
    AND v.version = coalesce(everywhere.version, here.version)
WHERE %(name)s::text IS NULL OR m.module_name = %(name)s
ORDER BY 1
""",
)


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


@dataclass(frozen=True, slots=True)
class ModuleState:
    """A module on or off, or replaced by another."""

    enabled: bool = True
    replaced_by: str | None = None
    # Of a community module; None: as it is.
    version: str | None = None
    # Whom it takes the place of.
    replaces: Sequence[str] = ()


class SwitchService:
    def __init__(self, db: Database, bus: Bus, credentials: Credentials, book: RuleBook) -> None:
        self._db = db
        self._book = book
        self._bus = bus
        self._credentials = credentials

    def scope_of_entity(self, text: str) -> Scope:
        """Raises: Invalid; NotFound."""
        entity_id = str(parse_entity_id(text))
        with self._db.reading() as db:
            row = fetch_one(db, "SELECT community_id FROM entities WHERE entity_id = %s AND is_active", (entity_id,))
        if row is None:
            raise NotFound(f"{entity_id} is not a channel of this fleet.")
        return Scope(row["community_id"], entity_id)

    def list_modules(self, scope: Scope, name: str | None = None, *, brief: bool = False) -> list[dict[str, Any]]:
        """Every module with commands or settings, or the one of that name: whether it is on here, by whose word, and
        what is set for it.

        `config` is what was set at this very place; `settings` is what holds, None for a module without specs. The
        brief list has neither.
        """
        with self._db.reading() as db:
            values = {"community": scope.community_id, "entity": scope.entity_id, "name": name, "brief": brief}
            rows = fetch(db, MODULES, values)
            if brief:
                return [{name: value for name, value in row.items() if name not in CONFIGS} for row in rows]
            secrets = self._credentials.setting_names(db, scope.community_id)
        return [_module(row, secrets, scope) for row in rows]

    def set_module(
        self,
        scope: Scope,
        module_name: str,
        *,
        switch: ModuleState | None,
        config: Mapping[str, Any] | None,
        by: str,
    ) -> dict[str, Any]:
        """Turn a module on or off here, put another in its place, or set its config; None stays as it is.

        Raises: UnknownModule; Invalid, naming the setting; NotConfigured for a secret that nobody could seal.
        """
        with self._db.transaction() as db:
            row = self.set_module_in(db, scope, module_name, switch=switch, config=config, by=by)
            secrets = self._credentials.setting_names(db, scope.community_id)
        self.changed(scope.community_id, module_name)
        return {**row, "config": row["config"] | _hidden(secrets, module_name, scope)}

    def change_settings(self, scope: Scope, module_name: str, changes: Mapping[str, Any], *, by: str) -> dict[str, Any]:
        """Set what is named and leave the rest; null lets the default hold again. Raises: as set_module."""
        with self._db.transaction() as db:
            # Two changes at once are made one after the other, the first ones too.
            key = f"{module_name}:{scope.community_id}"
            fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))
            before = _find_switch(db, scope, module_name)
            config = {**(before["config"] if before else {}), **changes}
            row = self.set_module_in(db, scope, module_name, switch=None, config=config, by=by)
            secrets = self._credentials.setting_names(db, scope.community_id)
        self.changed(scope.community_id, module_name)
        return {**row, "config": row["config"] | _hidden(secrets, module_name, scope)}

    def set_module_in(
        self,
        db: DAL,
        scope: Scope,
        module_name: str,
        *,
        switch: ModuleState | None,
        config: Mapping[str, Any] | None,
        by: str,
    ) -> dict[str, Any]:
        """The same, in a transaction that is followed by `changed`."""
        if switch and switch.replaced_by == module_name:
            raise Invalid("A module cannot replace itself.", field="replaced_by")
        modules = load_module_specs(db) | load_chosen_specs(db, scope.community_id)
        if switch and switch.version:
            where = scope.community_id, scope.entity_id
            check_version(db, *where, module_name, switch.version, switch.replaces)
            modules[module_name] = load_version_specs(db, module_name, switch.version)
        _check_module(db, module_name, {name for name, specs in modules.items() if specs.settings})
        if switch and switch.replaced_by:
            _check_module(db, switch.replaced_by)
        if config is not None:
            listeners.check_config(db, module_name, config)
        specs = modules[module_name].settings if module_name in modules else None
        before = _find_switch(db, scope, module_name)
        plain = None if config is None else self._keep_secrets(db, scope, module_name, specs, config)
        row = fetch_one(
            db,
            "INSERT INTO module_switches AS s (community_id, entity_id, module_name, enabled, replaced_by, config,"
            " version, updated_by) VALUES (%(community)s, %(entity)s, %(module)s, %(enabled)s, %(replaced_by)s,"
            " coalesce(%(config)s::jsonb, '{}'), %(version)s, %(by)s)"
            " ON CONFLICT (community_id, entity_id, module_name) DO UPDATE SET"
            " enabled = CASE WHEN %(switches)s THEN excluded.enabled ELSE s.enabled END,"
            " replaced_by = CASE WHEN %(switches)s THEN excluded.replaced_by ELSE s.replaced_by END,"
            " version = coalesce(excluded.version, s.version),"
            " parked_at = CASE WHEN %(switches)s THEN NULL ELSE s.parked_at END,"
            " parked_why = CASE WHEN %(switches)s THEN '' ELSE s.parked_why END,"
            " config = coalesce(%(config)s::jsonb, s.config), updated_by = excluded.updated_by, updated_at = now()"
            " RETURNING community_id, entity_id, module_name, enabled, replaced_by, version, config",
            {
                "community": scope.community_id,
                "entity": scope.entity_id,
                "module": module_name,
                "switches": switch is not None,
                "enabled": switch.enabled and not switch.replaced_by if switch else None,
                "replaced_by": switch.replaced_by if switch else None,
                "config": None if plain is None else json.dumps(plain),
                "version": switch.version if switch else None,
                "by": by,
            },
        )
        assert row is not None
        _record_switch(db, "module_switched", scope, module_name, before)
        for each in switch.replaces if switch else ():
            stands_in = ModuleState(enabled=False, replaced_by=module_name)
            self.set_module_in(db, scope, each, switch=stands_in, config=None, by=by)
        if switch and switch.enabled and not switch.version:
            _unpark(db, scope.community_id, module_name)
        return row

    def _keep_secrets(
        self,
        db: DAL,
        scope: Scope,
        module_name: str,
        specs: Sequence[SettingSpec] | None,
        config: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Seal what of a config is secret, and return the rest."""
        checked = check_config(specs, config)
        secret = {spec.name for spec in specs or () if spec.type == "secret"}
        given = {name: value for name, value in checked.items() if name in secret and value != HIDDEN}
        if given and scope.entity_id:
            name = f"config.{min(given)}"
            raise Invalid(f"{name} is a secret; set it for the whole community.", field=name)
        if given:
            self._credentials.keep_settings(db, scope.community_id, module_name, given)
        return {name: value for name, value in checked.items() if name not in secret}

    def unset_module(self, scope: Scope, module_name: str) -> None:
        """Let the default hold again. Raises: NotFound."""
        with self._db.transaction() as db:
            if scope.entity_id is None:
                self._credentials.forget_settings(db, scope.community_id, module_name)
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
            if before.get("version"):
                self._put_back(db, scope, module_name)
        self.changed(scope.community_id, module_name)

    def _put_back(self, db: DAL, scope: Scope, module_name: str) -> None:
        """Let the modules in whose place this one was do their own work again."""
        rows = fetch(
            db,
            "SELECT module_name FROM module_switches WHERE community_id = %s AND entity_id IS NOT DISTINCT FROM %s"
            " AND replaced_by = %s",
            (scope.community_id, scope.entity_id, module_name),
        )
        for row in rows:
            self.set_module_in(db, scope, row["module_name"], switch=ModuleState(), config=None, by=module_name)

    def list_permissions(self, scope: Scope) -> list[dict[str, Any]]:
        """What is set for commands in a community, its entities included, or at one entity."""
        with self._db.reading() as db:
            rows = fetch(db, PERMISSIONS, {"community": scope.community_id, "entity": scope.entity_id})
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
        before = find_permission(db, scope, name)
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
            before = find_permission(db, scope, command_name(command))
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

    def changed(self, community_id: int, module_name: str | None = None) -> None:
        """Have every process look anew at what is set in a community."""
        self._bus.invalidate(COMMANDS, community_id)
        self._book.changed(community_id)  # What modules listen for is compiled with the rules.
        if module_name:
            self._credentials.tell(community_id, module_name)


SELECT_PERMISSION = (
    "SELECT p.id, p.community_id, p.entity_id, p.command, p.is_enabled, p.config, p.usage_count, p.last_used,"
    " coalesce(array_agg(who ORDER BY who) FILTER (WHERE effect = 'allow'), '{}') AS allow,"
    " coalesce(array_agg(who ORDER BY who) FILTER (WHERE effect = 'deny'), '{}') AS deny FROM command_permissions p"
    " LEFT JOIN (SELECT *, kind || ':' || subject AS who FROM command_permission_subjects) s"
    " ON s.command_permission_id = p.id"
)
PERMISSIONS = Prepared(
    "router_permissions",
    f"{SELECT_PERMISSION} WHERE p.community_id = %(community)s AND p.is_explicit"
    " AND (%(entity)s::text IS NULL OR p.entity_id = %(entity)s) GROUP BY p.id ORDER BY command, entity_id",
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
    row = fetch_one(
        db,
        "SELECT enabled, replaced_by, config, version FROM module_switches WHERE community_id = %s"
        " AND entity_id IS NOT DISTINCT FROM %s AND module_name = %s FOR UPDATE",
        (scope.community_id, scope.entity_id, module_name),
    )
    return row and {name: value for name, value in row.items() if name != "version" or value is not None}


def _record_switch(db: DAL, action: str, scope: Scope, module_name: str, before: dict[str, Any] | None) -> None:
    after = _find_switch(db, scope, module_name)
    audit.record(
        db,
        "router",
        action,
        f"module/{module_name}{scope.suffix}",
        community_id=scope.community_id,
        before=before,
        after=after,
        undo=_undo_switch(f"{scope.path}/modules/{module_name}", before, after),
    )


def _undo_switch(path: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Undo | None:
    """Another version is the marketplace's to take back."""
    version = (before or {}).get("version")
    if version != (after or {}).get("version"):
        return None
    body = {name: value for name, value in (before or {}).items() if name != "version"}
    return Undo("PUT", path, body) if before else Undo("DELETE", path)


def find_permission(db: DAL, scope: Scope, name: str) -> dict[str, Any] | None:
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
        after=find_permission(db, scope, name),
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


def _unpark(db: DAL, community_id: int, module_name: str) -> None:
    """Whoever switches a module on anywhere wants to hear of it again."""
    fetch(
        db,
        "UPDATE module_switches SET parked_at = NULL, parked_why = '' WHERE community_id = %s AND module_name = %s"
        " AND parked_why <> ''",
        (community_id, module_name),
    )


def _check_module(db: DAL, name: str, with_settings: Collection[str] = ()) -> None:
    """Raises: UnknownModule unless it has settings, or ever had a command."""
    if name in with_settings or fetch(db, "SELECT FROM commands WHERE module_name = %s LIMIT 1", (name,)):
        return
    raise UnknownModule(f"There is no module {name[:64]} with commands here.")


def _module(row: dict[str, Any], secrets: Mapping[str, Sequence[str]], scope: Scope) -> dict[str, Any]:
    here, everywhere, name = row.pop("here"), row.pop("everywhere"), row["module_name"]
    if scope.entity_id is None:
        here = everywhere
    row["config"] = here | _hidden(secrets, name, scope)
    specs = read_settings(name, row.pop("specs"))
    if specs is None:
        return {**row, "settings": None}
    held = fitting(specs, here if scope.entity_id else {}), fitting(specs, everywhere)
    return {**row, "settings": [_setting(spec, *held, secrets.get(name, ())) for spec in specs]}


def _setting(
    spec: SettingSpec, here: Mapping[str, Any], everywhere: Mapping[str, Any], secrets: Sequence[str]
) -> dict[str, Any]:
    """A setting, its value here, and by whose word it has that."""
    if spec.type == "secret":
        value, decided_by = (HIDDEN, "community") if spec.name in secrets else (None, "default")
    elif spec.name in here:
        value, decided_by = here[spec.name], "entity"
    elif spec.name in everywhere:
        value, decided_by = everywhere[spec.name], "community"
    else:
        value, decided_by = spec.default, "default"
    return {**vars(spec), "value": value, "decided_by": decided_by}


def _hidden(secrets: Mapping[str, Sequence[str]], module_name: str, scope: Scope) -> dict[str, str]:
    return {} if scope.entity_id else dict.fromkeys(secrets.get(module_name, ()), HIDDEN)


def _subjects(db: DAL, texts: Sequence[str]) -> list[str]:
    """`role:vip`, `label:regular`, `user:12` and `twitch:4711` as they are compared: people by their number.

    Raises: Invalid; NotFound.
    """
    return [_subject(db, text) for text in texts]


def _subject(db: DAL, text: str) -> str:
    kind, _, name = text.partition(":")
    if kind == "label" and 0 < len(name) <= MAX_LABEL_CHARS and name == name.strip():
        return f"label:{fold(name)}"
    if kind == "role" and name.upper() in Level.__members__:
        return f"role:{name.lower()}"
    if kind == "user" and is_number(name):
        row = fetch_one(db, "SELECT id AS user_id FROM users WHERE id = %s", (int(name),))
    elif name and kind not in ("role", "user", "label"):
        row = fetch_one(
            db,
            "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s",
            (kind, name),
        )
    else:
        raise Invalid(
            f"{text[:80]!r} is not role:<level>, label:<name>, user:<number> or <platform>:<user id>.",
            field="permissions",
        )
    if row is None:
        raise NotFound(f"There is nobody known as {text[:80]}.")
    return f"user:{row['user_id']}"
