"""A community's commands as its people know them: by module, with who may, how often they are used, and aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydal import DAL
from pydantic_core import from_json
from waddlebot.base.manifest import find_manifest
from waddlebot.base.text import fold
from waddlebot.data.database import Prepared, fetch

COMMANDS = Prepared(
    "portal_commands",
    """
SELECT c.prefix || c.command AS command, c.module_name, c.module_type, c.description, c.usage, c.level,
    c.subcommands::text AS subcommands, c.rate_limit, coalesce(used.calls, 0)::bigint AS calls, p.is_enabled, p.config,
    EXISTS (SELECT FROM command_permission_subjects s WHERE s.command_permission_id = p.id) AS is_particular,
    EXISTS (SELECT FROM command_permissions o WHERE o.community_id = %(community)s::bigint AND o.entity_id IS NOT NULL
        AND o.command = c.prefix || c.command AND o.is_explicit) AS differs_somewhere,
    coalesce(m.enabled, c.module_type = 'core') AS is_on
FROM commands c
LEFT JOIN command_permissions p ON p.community_id = %(community)s AND p.entity_id IS NULL AND p.is_explicit
    AND p.command = c.prefix || c.command
LEFT JOIN module_switches m ON m.community_id = %(community)s AND m.entity_id IS NULL AND m.module_name = c.module_name
LEFT JOIN (SELECT command, module_name, sum(calls) AS calls FROM portal_command_days
    WHERE community_id = %(community)s AND day > now()::date - 30 GROUP BY 1, 2) AS used
    ON used.command = c.prefix || c.command AND used.module_name = c.module_name
WHERE c.is_active AND (c.trigger_type <> 'event' OR c.module_type <> 'core') ORDER BY c.module_name, c.prefix, c.command
""",
)
ALIASES = Prepared(
    "portal_aliases",
    """
SELECT id, prefix || alias AS alias, command, entity_id, is_active, usage_count, last_used FROM alias_commands
WHERE community_id = %(community)s::bigint ORDER BY alias, entity_id NULLS FIRST LIMIT 1000
""",
)


@dataclass(frozen=True, slots=True)
class CommandRow:
    name: str
    description: str
    usage: str
    level: str
    subcommands: Sequence[Mapping[str, Any]]
    calls: int
    # None is what the module's own switch says.
    is_enabled: bool | None
    limits: Mapping[str, Any]
    is_particular: bool
    differs_somewhere: bool


@dataclass(frozen=True, slots=True)
class ModuleCommands:
    title: str
    is_on: bool
    commands: Sequence[CommandRow]


def list_commands(db: DAL, community_id: int, *, text: str = "") -> list[ModuleCommands]:
    """By module; with a text those in whose name, words or module it is, also by what they do."""
    by_module: dict[str, list[dict[str, Any]]] = {}
    words = fold(text).split()
    for row in fetch(db, COMMANDS, {"community": community_id}):
        row["subcommands"] = from_json(row["subcommands"])  # The driver's own reader takes four times as long.
        if not words or _is_about(row, words):
            by_module.setdefault(row["module_name"], []).append(row)
    return [
        ModuleCommands(title_of(name), rows[0]["is_on"], [_command(row) for row in rows])
        for name, rows in by_module.items()
    ]


def list_aliases(db: DAL, community_id: int, *, text: str = "") -> list[dict[str, Any]]:
    wanted = fold(text)
    return [
        row
        for row in fetch(db, ALIASES, {"community": community_id})
        if wanted in fold(f"{row['alias']} {row['command']}")
    ]


def title_of(module_name: str) -> str:
    """A module as people call it."""
    if module_name == "router":
        return "The bot itself"
    ours = find_manifest(module_name)
    return ours.title if ours else module_name.replace("_", " ").capitalize()


def _is_about(row: Mapping[str, Any], words: Sequence[str]) -> bool:
    parts = [row["command"], row["description"], row["module_name"], row["usage"]]
    for each in row["subcommands"]:
        parts += [each.get("name", ""), each.get("description", "")]
    said = fold(" ".join(parts))
    return all(word in said for word in words)


def _command(row: Mapping[str, Any]) -> CommandRow:
    return CommandRow(
        row["command"],
        row["description"],
        row["usage"],
        row["level"],
        row["subcommands"],
        row["calls"],
        row["is_enabled"],
        row["config"] or {},
        row["is_particular"],
        row["differs_somewhere"],
    )
