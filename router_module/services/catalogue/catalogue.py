"""What can be called in one community: commands, event-triggered modules, aliases, and what was set for them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, overload

from pydal import DAL
from waddlebot.base.chat import parse_command
from waddlebot.base.contracts import CommandSpec, Level, MessageType
from waddlebot.base.module_settings import SettingSpec, defaults_of, fitting
from waddlebot.base.secret_words import Secrets
from waddlebot.base.terms import EVENT_LABELS, USUAL
from waddlebot.base.terms import NAMES as TERMS
from waddlebot.base.text import fold
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.interaction import ANY, find_subcommand

from .module_specs import ROUTER, ModuleSpecs, load_module_specs

ALIAS_MODULE = "alias"
# Whom a cooldown exempts where it exempts nobody.
NOBODY = "nobody"
ALL_COMMANDS = "*"
# How many aliases lead to one another (contracts §3).
MAX_STEPS = 3
OTHER_PREFIX = {"!": "#", "#": "!"}
# A module that was not heard for so long, three heartbeats, is at work nowhere.
ACTIVE_FOR = "90 seconds"


@dataclass(frozen=True, slots=True)
class Terms:
    """Who may use a command here, when, and how long it rests then."""

    cooldown_s: int
    cooldown_person_s: int
    # None: cooldowns exempt nobody.
    cooldown_exempt: Level | None
    # None: as its module says.
    level: Level | None
    label: str | None
    only_live: bool
    # Whose events its module is told of; none: everybody's.
    event_labels: Sequence[str] = ()

    @property
    def rests(self) -> bool:
        return self.cooldown_s > 0 or self.cooldown_person_s > 0


@dataclass(frozen=True, slots=True)
class Command:
    """Something that can be called here: a module's command, or an alias."""

    id: int | None
    module_name: str
    is_core: bool
    spec: CommandSpec
    # Of a version that communities choose; empty for what a module registered itself.
    version: str = ""
    # What it may answer with; None: anything.
    permissions: frozenset[str] | None = None
    # Of an alias: what its author said of who may use it, as `waddlebot.base.terms` has it.
    terms: Mapping[str, Any] | None = None
    is_alias: bool = False

    @property
    def name(self) -> str:
        return self.spec.prefix + self.spec.command


@dataclass(frozen=True, slots=True)
class Alias:
    prefix: str
    name: str
    entity_id: str | None
    # The command that it stands for, and its first word: `!inventory add`. Empty where it only says something.
    runs: str
    terms: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Otherwise the command that it stands for is what is limited."""
        return not self.runs


@dataclass(frozen=True, slots=True)
class Switch:
    """A module turned on or off, or replaced by another."""

    enabled: bool
    replaced_by: str | None
    # Of a module of the marketplace.
    version: str | None = None
    # Why it is left alone here until somebody switches it on again.
    parked: str = ""
    # Why the marketplace has it answer nobody anywhere.
    taken_down: str = ""


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
    # What of `waddlebot.base.terms` was set.
    terms: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commands:
    """Every module's commands, in the order in which they run; the same for all communities."""

    by_name: dict[tuple[str, str], list[Command]] = field(default_factory=dict)
    by_event: dict[MessageType, list[Command]] = field(default_factory=dict)
    modules: dict[str, ModuleSpecs] = field(default_factory=dict)
    listeners: dict[int, Command] = field(default_factory=dict)
    by_module: dict[str, list[Command]] = field(default_factory=dict)

    def add(self, command: Command) -> None:
        spec = command.spec
        self.by_module.setdefault(command.module_name, []).append(command)
        if spec.trigger_type != "event":
            self.by_name.setdefault((spec.prefix, spec.command), []).append(command)
        if spec.trigger_type != "command":
            # Of plain chat a module hears what it listens for and nothing else (contracts §6).
            for message_type in set(spec.event_types) - {MessageType.CHAT_MESSAGE}:
                self.by_event.setdefault(message_type, []).append(command)
        if spec.listen and command.id is not None:
            self.listeners[command.id] = command

    @property
    def alias_command(self) -> Command | None:
        own = (each for each in self.by_name.get(("!", "alias"), ()) if each.module_name == ALIAS_MODULE)
        return next(own, None)


@dataclass(frozen=True)
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
    # The channels that threads belong to.
    parents: dict[str, str] = field(default_factory=dict)
    # The versions that this community chose, here or there, and until when those are paid for that cost something.
    installed: Commands = field(default_factory=Commands)
    paid_until: Mapping[tuple[str, str], datetime | None] = field(default_factory=dict)
    # The modules of the marketplace that answer to `!` too where nothing else does, here or there.
    answer_to_both: frozenset[tuple[str | None, str]] = frozenset()
    _merged: dict[tuple[str | None, str], dict[str, Any]] = field(default_factory=dict)

    def find(self, prefix: str, name: str, entity_id: str) -> list[Command]:
        """Every command of that name in the order in which they run, or the alias.

        What is switched off is left out, unless nothing else is left to say so; of those that share it one is left.
        """
        found = [self._in_place_of(each, entity_id) for each in self._named(prefix, name)]
        if found:
            by_id = {each.id: each for each in found}  # One module may stand in for several.
            switched_on = [each for each in by_id.values() if self.is_on(each, entity_id)]
            return self._taking_turns(switched_on, entity_id) or found[:1]
        alias = self._alias_at(prefix, name, entity_id)
        alias_command = self.commands.alias_command
        if alias and alias_command:
            return [_alias_as_command(alias_command, alias)]
        return [each for each in self._of_both(prefix, name, entity_id) if self.is_on(each, entity_id)]

    def _of_both(self, prefix: str, name: str, entity_id: str) -> Iterator[Command]:
        """The `#` commands whose modules a community let answer to `!` too."""
        if prefix != "!" or not self.answer_to_both:
            return
        for each in self.installed.by_name.get(("#", name), ()):
            if {(None, each.module_name), (self._decides(entity_id), each.module_name)} & self.answer_to_both:
                yield each

    def told_only(self, prefix: str, name: str, entity_id: str) -> list[Command]:
        """Those of that name that nobody calls: they are told of events only."""
        by_event = (*self.commands.by_event.values(), *self.installed.by_event.values())
        found = {each.id: each for commands in by_event for each in commands if each.spec.trigger_type == "event"}
        return [
            each
            for each in found.values()
            if (each.spec.prefix, each.spec.command) == (prefix, name) and self.is_on(each, entity_id)
        ]

    def triggered_by(self, message_type: MessageType, entity_id: str) -> list[Command]:
        """The modules that want to know of an event here."""
        waiting = (*self.commands.by_event.get(message_type, ()), *self.installed.by_event.get(message_type, ()))
        return [
            each
            for each in waiting
            if self.is_on(each, entity_id)
            and (each.spec.events is None or each.spec.events.wants(message_type, self._config_at(each, entity_id)))
        ]

    def _config_at(self, command: Command, entity_id: str) -> Mapping[str, Any]:
        return self.config_of(command.module_name, entity_id)

    def listener(self, command_id: int, place: str | None, entity_id: str) -> Command | None:
        """A command that listens, if it is on at this entity and what is set for it here was said for `place`."""
        command = self.commands.listeners.get(command_id) or self.installed.listeners.get(command_id)
        if command is None or not self.is_on(command, entity_id):
            return None
        entity_id = self._decides(entity_id)
        here = (entity_id, command.module_name)
        decides = entity_id if here in self.switches or here in self.configs else None
        return command if place == decides else None

    def switch(self, module_name: str, entity_id: str | None) -> Switch | None:
        return self.switches.get((self._decides(entity_id), module_name)) or self.switches.get((None, module_name))

    def is_on(self, command: Command, entity_id: str) -> bool:
        is_on = self.is_module_on(command.module_name, entity_id, is_core=command.is_core)
        return is_on and command.version in ("", self.version_of(command.module_name, entity_id))

    def version_of(self, module_name: str, entity_id: str | None) -> str | None:
        """Which version of a module of the marketplace was chosen: for this entity, else for the community."""
        chosen = (self.switches.get((place, module_name)) for place in (self._decides(entity_id), None))
        return next((each.version for each in chosen if each and each.version), None)

    def is_unpaid(self, command: Command) -> bool:
        """Whether a command costs something that nobody has paid for, or not any more."""
        place = command.module_name, command.version
        if place not in self.paid_until:
            return False
        until = self.paid_until[place]
        return until is None or until <= datetime.now(UTC)

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
        entity_id = self._decides(entity_id)
        merged = self._merged.get((entity_id, module_name))
        if merged is None:
            specs = self._specs_of(module_name, entity_id)
            merged = defaults_of(specs.settings or ()) if specs else {}
            for place in (None, entity_id):
                merged |= self.configs.get((place, module_name), {})
            self._merged[entity_id, module_name] = merged
        return merged

    def only_reads(self, command: Command, args: Sequence[str]) -> bool:
        """Whether a call of a command writes nothing, as its module has said; one that ends with the usage does not."""
        specs = self.commands.modules.get(command.module_name)
        if specs is None or not specs.reads or command.version:
            return False
        if command.is_alias:
            return ANY in specs.reads
        if not command.spec.subcommands:
            return command.spec.command in specs.reads
        subcommand = find_subcommand(command.spec, args[0]) if args else None
        return subcommand is None or f"{command.spec.command} {subcommand.name}" in specs.reads

    def settings_for(self, name: str, entity_id: str) -> list[Permission]:
        """What was set for a command, or for ALL_COMMANDS: at this entity, then in its community."""
        if name not in self._with_permissions:
            return []
        found = (self.permissions.get((place, name)) for place in (self._decides(entity_id), None))
        return [each for each in found if each is not None]

    def terms_of(self, command: Command, entity_id: str) -> Terms | None:
        """Who may use a command here and how long it rests then; None where nobody has said anything of that."""
        set_here = [each.terms for each in reversed(self.settings_for(command.name, entity_id)) if each.terms]
        if not set_here and not command.terms:
            return None
        merged: dict[str, Any] = {**USUAL, "level": None, **(command.terms or {})}
        for each in set_here:
            merged |= each
        levels = {name: _level(merged[name]) for name in ("level", "cooldown_exempt")}
        return Terms(**{**merged, **levels})

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

    def runs(self, alias: str, entity_id: str) -> list[str]:
        """The command at the end of an alias and its first word, through the aliases between; nothing of a text."""
        words = [alias]
        for _ in range(MAX_STEPS):
            found = self._alias_at(words[0][0], fold(words[0][1:]), entity_id)
            if found is None or self.commands.by_name.get((found.prefix, found.name)):
                break
            words = found.runs.split()
            if not words:
                return []
        return words

    def secrets_in(self, message: str, entity_id: str) -> tuple[str, ...]:
        """The words of a message that are for a module alone, and for no record (contracts §6)."""
        if not self._secrets:
            return ()
        line = parse_command(message)
        runs: list[str] = []
        if line is not None:
            typed = line.prefix + line.command
            runs = self.runs(typed, entity_id)
            if runs == [typed] and not self.find(line.prefix, line.command, entity_id):
                runs = []
        return self._secrets.find(message, line, runs)

    def usable(self, entity_id: str) -> Iterator[Command]:
        """The modules' commands that are switched on at this entity."""
        for commands in [*self.commands.by_name.values(), *self.installed.by_name.values()]:
            yield from self._taking_turns([each for each in commands if self.is_on(each, entity_id)], entity_id)

    def _taking_turns(self, commands: list[Command], entity_id: str) -> list[Command]:
        """Of the commands that share a group only the one whose turn it is here."""
        groups: dict[str, list[Command]] = {}
        for each in commands:
            groups.setdefault(each.spec.shared, []).append(each)
        chosen = {self._choose(name, sharing, entity_id).id for name, sharing in groups.items() if name}
        return [each for each in commands if not each.spec.shared or each.id in chosen]

    def _choose(self, group: str, sharing: list[Command], entity_id: str) -> Command:
        """The module that the router's setting of that name names; else the first that is at work and can be, else one
        that this community has connected, else one that needs no more than the operator's key, else the first."""
        if len(sharing) == 1:
            return sharing[0]
        wanted = self.config_of(ROUTER, entity_id).get(group)
        named = [each for each in sharing if each.module_name == wanted]
        ready = [each for each in sharing if self._has_credentials(each.module_name)]
        at_work = [each for each in ready if each.module_name in self.active]
        connected = [each for each in ready if self._is_connected(each.module_name)]
        return [*named, *at_work, *connected, *ready, *sharing][0]

    def _is_connected(self, module_name: str) -> bool:
        """Whether a module has credentials of this community's own."""
        specs = self.commands.modules.get(module_name)
        return specs is not None and any(each.provider in self.providers for each in specs.credentials)

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
        candidates = [each for key in names for each in self._named(*key) if each.module_name == switch.replaced_by]
        on = (each for each in candidates if self.is_on(each, entity_id))
        return next(on, candidates[0] if candidates else command)

    def _named(self, prefix: str, name: str) -> Iterator[Command]:
        """Every command of that name, in the order in which they run."""
        known, installed = (each.by_name.get((prefix, name), []) for each in (self.commands, self.installed))
        return heapq.merge(known, installed, key=lambda each: each.spec.priority) if installed else iter(known)

    def _specs_of(self, module_name: str, entity_id: str | None) -> ModuleSpecs | None:
        version = self.version_of(module_name, entity_id)
        if version is not None:
            return self.installed.modules.get(f"{module_name} {version}")
        return self.commands.modules.get(module_name)

    def _replaces_another(self, module_name: str, entity_id: str | None) -> bool:
        return any(
            switch.replaced_by == module_name
            for (place, _), switch in self.switches.items()
            if place in (None, self._decides(entity_id))
        )

    def _alias_at(self, prefix: str, name: str, entity_id: str) -> Alias | None:
        at = (None, self._decides(entity_id))
        return next((alias for alias in self.aliases.get((prefix, name), ()) if alias.entity_id in at), None)

    @cached_property
    def _with_permissions(self) -> frozenset[str]:
        return frozenset(name for _, name in self.permissions)

    @cached_property
    def _secrets(self) -> Secrets:
        known = (self.commands.by_name, self.installed.by_name)
        return Secrets(each.spec for by_name in known for several in by_name.values() for each in several)

    @cached_property
    def _with_settings(self) -> frozenset[str]:
        keys = (*self.switches, *self.configs, *self.permissions)
        aliases = (alias.entity_id for several in self.aliases.values() for alias in several)
        return frozenset(place for place in (*(place for place, _ in keys), *aliases) if place)

    @overload
    def _decides(self, entity_id: str) -> str: ...
    @overload
    def _decides(self, entity_id: str | None) -> str | None: ...
    def _decides(self, entity_id: str | None) -> str | None:
        """Where it is said what holds at an entity: a thread has what is set for its channel, unless it has its own."""
        parent = self.parents.get(entity_id) if entity_id and self.parents else None
        return entity_id if parent is None or entity_id in self._with_settings else parent


def _level(name: str | None) -> Level | None:
    return Level.named(name) if name and name != NOBODY else None


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
    spec = alias_command.spec.model_copy(update=changes)
    return Command(None, alias_command.module_name, True, spec, terms=alias.terms or None, is_alias=True)


def load_commands(db: DAL) -> Commands:
    commands = Commands(modules=load_module_specs(db))
    for row in fetch(db, "SELECT * FROM commands WHERE is_active ORDER BY priority, id"):
        commands.add(_command(row))
    return commands


def _load_installed(db: DAL, community_id: int) -> tuple[Commands, dict[tuple[str, str], datetime | None]]:
    """The versions that a community chose: their commands, and until when they are paid for."""
    chosen = fetch(
        db,
        "SELECT v.module_name, v.version, v.permissions, v.settings, m.price > 0 AS is_paid, (SELECT max(paid_until)"
        "  FROM community_subscriptions s WHERE s.community_id = %(community)s"
        "  AND coalesce(s.module_id, v.module_name) = v.module_name) AS paid_until"
        " FROM registered_versions v"
        " LEFT JOIN module_versions m ON m.module_id = v.module_name AND m.version = v.version"
        " WHERE (v.module_name, v.version) IN (SELECT module_name, version FROM module_switches"
        "  WHERE community_id = %(community)s AND version IS NOT NULL)",
        {"community": community_id},
    )
    installed = Commands()
    if not chosen:
        return installed, {}
    permissions = {(row["module_name"], row["version"]): frozenset(row["permissions"]) for row in chosen}
    for row in chosen:
        specs = ModuleSpecs(tuple(map(SettingSpec.model_validate, row["settings"])))
        installed.modules[f"{row['module_name']} {row['version']}"] = specs
    rows = fetch(
        db,
        "SELECT * FROM commands WHERE (module_name, for_version) IN %s ORDER BY priority, id",
        (tuple(permissions),),
    )
    for row in rows:
        version = row["for_version"]
        installed.add(replace(_command(row), permissions=permissions[row["module_name"], version]))
    paid = {(row["module_name"], row["version"]): row["paid_until"] for row in chosen if row["is_paid"]}
    return installed, paid


def find_command(db: DAL, command_id: int) -> Command | None:
    """A module's command, also one that it no longer has."""
    row = fetch_one(db, "SELECT * FROM commands WHERE id = %s", (command_id,))
    return _command(row) if row else None


def load_catalogue(db: DAL, community_id: int, commands: Commands) -> Catalogue:
    """Read what a community set for its commands, and its aliases."""
    aliases = fetch(
        db,
        "SELECT prefix, alias AS name, entity_id,"
        " coalesce(substring(command from '^\\s*([!#]\\S+(\\s+\\S+)?)'), '') AS runs,"
        f" {', '.join(TERMS)}"
        " FROM alias_commands WHERE community_id = %s AND is_active",
        (community_id,),
    )
    switches = fetch(
        db,
        "SELECT s.entity_id, s.module_name, s.enabled, s.replaced_by, s.config, s.version, s.parked_why,"
        " CASE WHEN m.taken_down_at IS NOT NULL THEN m.taken_down_why ELSE '' END AS taken_down"
        " FROM module_switches s LEFT JOIN marketplace_modules m"
        "  ON m.module_id = s.module_name AND s.version IS NOT NULL WHERE s.community_id = %s",
        (community_id,),
    )
    installed, paid_until = _load_installed(db, community_id)
    both = fetch(
        db,
        "SELECT entity_id, module_id AS module_name FROM module_installations"
        " WHERE community_id = %s AND module_id = ANY(replaces)",
        (community_id,),
    )
    providers, active = _load_readiness(db, community_id)
    threads = fetch(
        db,
        "SELECT entity_id, parent_entity_id FROM entities WHERE community_id = %s AND parent_entity_id IS NOT NULL",
        (community_id,),
    )
    return Catalogue(
        commands,
        _grouped(_alias(row) for row in aliases),
        {_place(row): _switch(row) for row in switches if row["enabled"] is not None},
        _load_permissions(db, community_id),
        {_place(row): _config(commands, installed, row) for row in switches if row["config"]},
        providers,
        active,
        parents={row["entity_id"]: row["parent_entity_id"] for row in threads},
        installed=installed,
        paid_until=paid_until,
        answer_to_both=frozenset(_place(row) for row in both),
    )


def _grouped(aliases: Iterable[Alias]) -> dict[tuple[str, str], list[Alias]]:
    by_name: dict[tuple[str, str], list[Alias]] = {}
    for alias in aliases:
        by_name.setdefault((alias.prefix, alias.name), []).append(alias)
    return by_name


def _alias(row: dict[str, Any]) -> Alias:
    terms = {name: row.pop(name) for name in TERMS}
    return Alias(**row, terms={} if terms == USUAL else terms)


def _place(row: dict[str, Any]) -> tuple[str | None, str]:
    return row["entity_id"], row["module_name"]


def _switch(row: dict[str, Any]) -> Switch:
    return Switch(row["enabled"], row["replaced_by"], row["version"], row["parked_why"], row["taken_down"])


def _config(commands: Commands, installed: Commands, row: dict[str, Any]) -> dict[str, Any]:
    key = f"{row['module_name']} {row['version']}"
    specs = installed.modules.get(key) or commands.modules.get(row["module_name"])
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
            {name: row["config"][name] for name in (*TERMS, EVENT_LABELS) if name in row["config"]},
        )
        for row in rows
    }


def _command(row: dict[str, Any]) -> Command:
    spec = CommandSpec.model_validate({name: row[name] for name in CommandSpec.model_fields})
    return Command(row["id"], row["module_name"], row["module_type"] == "core", spec, row["for_version"])
