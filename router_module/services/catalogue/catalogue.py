"""What can be called in one community: commands, event-triggered modules, aliases, and what was set for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import CommandSpec, MessageType
from waddlebot.base.module_settings import defaults_of, fitting
from waddlebot.data.database import fetch, fetch_one

from .module_specs import ROUTER, ModuleSpecs, load_module_specs

ALIAS_MODULE = "alias"
ALL_COMMANDS = "*"
OTHER_PREFIX = {"!": "#", "#": "!"}
# A module that was not heard for so long, three heartbeats, is at work nowhere.
ACTIVE_FOR = "90 seconds"


@dataclass(frozen=True, slots=True)
class Command:
    """Something that can be called here: a module's command, or an alias."""

    id: int | None
    module_name: str
    is_core: bool
    spec: CommandSpec

    @property
    def name(self) -> str:
        return self.spec.prefix + self.spec.command


@dataclass(frozen=True, slots=True)
class Alias:
    prefix: str
    name: str
    entity_id: str | None
    # It only says something; otherwise the command that it stands for is what is limited.
    is_text: bool


@dataclass(frozen=True, slots=True)
class Switch:
    """A module turned on or off, or replaced by another."""

    enabled: bool
    replaced_by: str | None


@dataclass(frozen=True, slots=True)
class Permission:
    """What was set for a command, or for all of them, in a community or one of its entities."""

    # None: nothing was said about it.
    is_enabled: bool | None = None
    # `user:<id>` and `role:<level>`.
    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    # A minute: of everybody together, and of each person.
    rate_limit: int | None = None
    user_rate_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Commands:
    """Every module's commands, in the order in which they run; the same for all communities."""

    by_name: dict[tuple[str, str], list[Command]] = field(default_factory=dict)
    by_event: dict[MessageType, list[Command]] = field(default_factory=dict)
    modules: dict[str, ModuleSpecs] = field(default_factory=dict)
    listeners: dict[int, Command] = field(default_factory=dict)
    by_module: dict[str, list[Command]] = field(default_factory=dict)

    @property
    def alias_command(self) -> Command | None:
        own = (each for each in self.by_name.get(("!", "alias"), ()) if each.module_name == ALIAS_MODULE)
        return next(own, None)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A command hides an alias of the same name; what is said for an entity hides what is said for its community."""

    commands: Commands
    aliases: dict[tuple[str, str], list[Alias]]
    switches: dict[tuple[str | None, str], Switch]
    permissions: dict[tuple[str | None, str], Permission]
    # What was set for modules, secrets left out.
    configs: dict[tuple[str | None, str], dict[str, Any]] = field(default_factory=dict)
    # Whose secrets or tokens the community gave, and which modules are at work in it.
    providers: frozenset[str] = frozenset()
    active: frozenset[str] = frozenset()
    _merged: dict[tuple[str | None, str], dict[str, Any]] = field(default_factory=dict)

    def find(self, prefix: str, name: str, entity_id: str) -> list[Command]:
        """Every command of that name in the order in which they run, or the alias.

        What is switched off is left out, unless nothing else is left to say so; of those that share it one is left.
        """
        found = [self._in_place_of(each, entity_id) for each in self.commands.by_name.get((prefix, name), ())]
        if found:
            by_id = {each.id: each for each in found}  # One module may stand in for several.
            switched_on = [each for each in by_id.values() if self.is_on(each, entity_id)]
            return self._taking_turns(switched_on, entity_id) or found[:1]
        alias = self._alias_at(prefix, name, entity_id)
        alias_command = self.commands.alias_command
        return [_alias_as_command(alias_command, alias)] if alias and alias_command else []

    def triggered_by(self, message_type: MessageType, entity_id: str) -> list[Command]:
        """The modules that want to know of an event here."""
        return [each for each in self.commands.by_event.get(message_type, ()) if self.is_on(each, entity_id)]

    def listener(self, command_id: int, place: str | None, entity_id: str) -> Command | None:
        """A command that listens, if it is on at this entity and what is set for it here was said for `place`."""
        command = self.commands.listeners.get(command_id)
        if command is None or not self.is_on(command, entity_id):
            return None
        here = (entity_id, command.module_name)
        decides = entity_id if here in self.switches or here in self.configs else None
        return command if place == decides else None

    def switch(self, module_name: str, entity_id: str | None) -> Switch | None:
        return self.switches.get((entity_id, module_name)) or self.switches.get((None, module_name))

    def is_on(self, command: Command, entity_id: str) -> bool:
        return self.is_module_on(command.module_name, entity_id, is_core=command.is_core)

    def is_module_on(self, module_name: str, entity_id: str | None, *, is_core: bool) -> bool:
        """Core modules are on, those of the marketplace off, until somebody says otherwise (design §7).

        Without an entity: in the community as a whole.
        """
        switch = self.switch(module_name, entity_id)
        if switch is None:
            return is_core or self._replaces_another(module_name, entity_id)
        return switch.enabled

    def config_of(self, module_name: str, entity_id: str | None) -> Mapping[str, Any]:
        """What is set for a module: its defaults, over them what the community set, over that what was set for the
        entity. No secrets. Merged once, because it is asked for with every message."""
        merged = self._merged.get((entity_id, module_name))
        if merged is None:
            specs = self.commands.modules.get(module_name)
            merged = defaults_of(specs.settings or ()) if specs else {}
            for place in (None, entity_id):
                merged |= self.configs.get((place, module_name), {})
            self._merged[entity_id, module_name] = merged
        return merged

    def settings_for(self, name: str, entity_id: str) -> list[Permission]:
        """What was set for a command, or for ALL_COMMANDS: at this entity, then in its community."""
        found = (self.permissions.get((place, name)) for place in (entity_id, None))
        return [each for each in found if each is not None]

    def is_enabled(self, command: Command, entity_id: str) -> bool:
        """Whether neither this command nor all commands were turned off here."""
        for name in (command.name, ALL_COMMANDS):
            said = (each.is_enabled for each in self.settings_for(name, entity_id) if each.is_enabled is not None)
            if not next(said, True):
                return False
        return True

    def names(self, entity_id: str) -> list[str]:
        """Every name that could be typed at this entity, with its prefix."""
        return sorted({each.name for each in self.usable(entity_id)}.union(self.alias_names(entity_id)))

    def alias_names(self, entity_id: str) -> list[str]:
        """The aliases at this entity that no command hides, with their prefixes."""
        commands = {each.name for each in self.usable(entity_id)}
        aliases = {prefix + name for prefix, name in self.aliases if self._alias_at(prefix, name, entity_id)}
        return sorted(aliases - commands)

    def usable(self, entity_id: str) -> Iterator[Command]:
        """The modules' commands that are switched on at this entity."""
        for commands in self.commands.by_name.values():
            yield from self._taking_turns([each for each in commands if self.is_on(each, entity_id)], entity_id)

    def _taking_turns(self, commands: list[Command], entity_id: str) -> list[Command]:
        """Of the commands that share a group only the one whose turn it is here."""
        groups: dict[str, list[Command]] = {}
        for each in commands:
            groups.setdefault(each.spec.shared, []).append(each)
        chosen = {self._choose(name, sharing, entity_id).id for name, sharing in groups.items() if name}
        return [each for each in commands if not each.spec.shared or each.id in chosen]

    def _choose(self, group: str, sharing: list[Command], entity_id: str) -> Command:
        """The module that the router's setting of that name names; else the first that has credentials and is at work,
        else the first that has credentials, else the first."""
        if len(sharing) == 1:
            return sharing[0]
        wanted = self.config_of(ROUTER, entity_id).get(group)
        named = [each for each in sharing if each.module_name == wanted]
        ready = [each for each in sharing if self._has_credentials(each.module_name)]
        at_work = [each for each in ready if each.module_name in self.active]
        return [*named, *at_work, *ready, *sharing][0]

    def _has_credentials(self, module_name: str) -> bool:
        """Whether a module can do its work for this community: what needs none of it only needs the operator's."""
        specs = self.commands.modules.get(module_name)
        if specs is None or not specs.credentials:
            return specs is None or specs.is_configured
        return specs.is_configured and any(each.provider in self.providers for each in specs.credentials)

    def _in_place_of(self, command: Command, entity_id: str) -> Command:
        """The command of the module that replaces this one's here, if it has one of that name."""
        switch = self.switch(command.module_name, entity_id)
        if switch is None or switch.replaced_by is None:
            return command
        names = [(prefix, command.spec.command) for prefix in (command.spec.prefix, OTHER_PREFIX[command.spec.prefix])]
        candidates = (each for key in names for each in self.commands.by_name.get(key, ()))
        return next((each for each in candidates if each.module_name == switch.replaced_by), command)

    def _replaces_another(self, module_name: str, entity_id: str | None) -> bool:
        return any(
            switch.replaced_by == module_name
            for (place, _), switch in self.switches.items()
            if place in (None, entity_id)
        )

    def _alias_at(self, prefix: str, name: str, entity_id: str) -> Alias | None:
        here = (alias for alias in self.aliases.get((prefix, name), ()) if alias.entity_id in (None, entity_id))
        return next(here, None)


def _alias_as_command(alias_command: Command, alias: Alias) -> Command:
    changes: dict[str, Any] = {
        "command": alias.name,
        "prefix": alias.prefix,
        "subcommands": [],
        "level": "member",
        "description": "alias",
        "trigger_type": "command",
        "rate_limit": None if alias.is_text else 0,
    }
    return Command(None, alias_command.module_name, True, alias_command.spec.model_copy(update=changes))


def load_commands(db: DAL) -> Commands:
    commands = Commands(modules=load_module_specs(db))
    for row in fetch(db, "SELECT * FROM commands WHERE is_active ORDER BY priority, id"):
        command = _command(row)
        commands.by_module.setdefault(command.module_name, []).append(command)
        if command.spec.trigger_type != "event":
            commands.by_name.setdefault((row["prefix"], row["command"]), []).append(command)
        if command.spec.trigger_type != "command":
            # Of plain chat a module hears what it listens for and nothing else (contracts §6).
            for message_type in set(command.spec.event_types) - {MessageType.CHAT_MESSAGE}:
                commands.by_event.setdefault(message_type, []).append(command)
        if command.spec.listen:
            commands.listeners[row["id"]] = command
    return commands


def find_command(db: DAL, command_id: int) -> Command | None:
    """A module's command, also one that it no longer has."""
    row = fetch_one(db, "SELECT * FROM commands WHERE id = %s", (command_id,))
    return _command(row) if row else None


def load_catalogue(db: DAL, community_id: int, commands: Commands) -> Catalogue:
    """Read what a community set for its commands, and its aliases."""
    aliases = fetch(
        db,
        "SELECT prefix, alias AS name, entity_id, left(ltrim(command), 1) NOT IN ('!', '#') AS is_text"
        " FROM alias_commands WHERE community_id = %s AND is_active",
        (community_id,),
    )
    switches = fetch(
        db,
        "SELECT entity_id, module_name, enabled, replaced_by, config FROM module_switches WHERE community_id = %s",
        (community_id,),
    )
    providers, active = _load_readiness(db, community_id)
    return Catalogue(
        commands,
        _grouped(Alias(**row) for row in aliases),
        {_place(row): Switch(row["enabled"], row["replaced_by"]) for row in switches if row["enabled"] is not None},
        _load_permissions(db, community_id),
        {_place(row): _config(commands, row) for row in switches if row["config"]},
        providers,
        active,
    )


def _grouped(aliases: Iterable[Alias]) -> dict[tuple[str, str], list[Alias]]:
    by_name: dict[tuple[str, str], list[Alias]] = {}
    for alias in aliases:
        by_name.setdefault((alias.prefix, alias.name), []).append(alias)
    return by_name


def _place(row: dict[str, Any]) -> tuple[str | None, str]:
    return row["entity_id"], row["module_name"]


def _config(commands: Commands, row: dict[str, Any]) -> dict[str, Any]:
    specs = commands.modules.get(row["module_name"])
    return fitting(specs.settings if specs else None, row["config"])


def _load_readiness(db: DAL, community_id: int) -> tuple[frozenset[str], frozenset[str]]:
    row = fetch_one(
        db,
        "SELECT ARRAY(SELECT provider FROM community_credentials"
        "  WHERE community_id = %(community)s AND state = 'ok') AS providers,"
        " ARRAY(SELECT module_name FROM collector_modules WHERE %(community)s = ANY(active_in)"
        f"  AND last_heartbeat > now() - interval '{ACTIVE_FOR}') AS active",
        {"community": community_id},
    )
    assert row is not None
    return frozenset(row["providers"]), frozenset(row["active"])


def _load_permissions(db: DAL, community_id: int) -> dict[tuple[str | None, str], Permission]:
    rows = fetch(
        db,
        "SELECT entity_id, command, is_enabled, config,"
        " array_agg(kind || ':' || subject) FILTER (WHERE effect = 'allow') AS allowed,"
        " array_agg(kind || ':' || subject) FILTER (WHERE effect = 'deny') AS denied"
        " FROM command_permissions p LEFT JOIN command_permission_subjects s ON s.command_permission_id = p.id"
        " WHERE community_id = %s AND is_explicit GROUP BY p.id",
        (community_id,),
    )
    return {
        (row["entity_id"], row["command"]): Permission(
            row["is_enabled"],
            frozenset(row["allowed"] or ()),
            frozenset(row["denied"] or ()),
            row["config"].get("rate_limit"),
            row["config"].get("user_rate_limit"),
        )
        for row in rows
    }


def _command(row: dict[str, Any]) -> Command:
    spec = CommandSpec.model_validate({name: row[name] for name in CommandSpec.model_fields})
    return Command(row["id"], row["module_name"], row["module_type"] == "core", spec)
