"""The fleet's commands as Discord's slash commands, and back: pure translation.

Source: https://discord.com/developers/docs/interactions/application-commands
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field
from waddlebot.base.chat import join_words, shorten
from waddlebot.base.contracts import SubcommandSpec, Wire

from ..dataclasses import CommandUsed

MAX_COMMANDS = 100
MAX_NAME = 32
MAX_DESCRIPTION = 100
MAX_OPTIONS = 25
MAX_CHOICES = 25
SUB_COMMAND, STRING = 1, 3
# What has no better options takes whatever one would type after the command.
FREE_TEXT = "args"
NOT_IN_NAMES = re.compile(r"[^-_'\w]+")
USAGE = re.compile(r"\s*(?:<([^<>\[\]]+)>|\[([^<>\[\]]+)\])")


class FleetCommand(Wire):
    """A command as GET /router/commands lists it. `command` has its prefix."""

    command: str
    prefix: str = "!"
    description: str = ""
    usage: str = ""
    module_name: str = ""
    module_type: str = "core"
    trigger_type: str = "command"
    subcommands: list[SubcommandSpec] = Field(default_factory=list)


class SlashCommands(Wire):
    """What a server's slash commands are to be, and what each stands for: {name: "!command"}."""

    payload: list[dict[str, Any]]
    names: dict[str, str]

    @property
    def hash(self) -> str:
        """Empty for no commands, which is what a server begins with."""
        if not self.payload:
            return ""
        return hashlib.sha256(json.dumps(self.payload, sort_keys=True).encode()).hexdigest()


def mirror(commands: Sequence[FleetCommand]) -> SlashCommands:
    """Slash commands for these, the first hundred that Discord has room for; of two with one name both get in."""
    payload: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for command in commands:
        name = _free_name(command, names)
        if command.trigger_type == "event" or not name or len(payload) == MAX_COMMANDS:
            continue
        names[name] = command.command
        payload.append(
            {
                "type": 1,
                "name": name,
                "description": _description(command.description, command.command),
                "options": _subcommands(command.subcommands) or _options(command.usage),
                # In servers only: what would a command in a direct message belong to?
                "contexts": [0],
                "integration_types": [0],
            }
        )
    return SlashCommands(payload=payload, names=names)


def as_text(used: CommandUsed, names: Mapping[str, str]) -> str:
    """What somebody would have typed in chat in place of a slash command."""
    command = names.get(used.name, f"!{used.name}")
    words = [command, *used.path]
    given = dict(used.options)
    if set(given) == {FREE_TEXT}:
        return " ".join([*words, given[FREE_TEXT]]).strip()
    # Discord sends what was filled in, in the order of the command's own options.
    return " ".join([*words, join_words([value for _, value in used.options])]).strip()


def slash_name(text: str) -> str:
    """A name as Discord takes it: lower case, letters and digits of any script, - _ '; empty if nothing is left."""
    return NOT_IN_NAMES.sub("", text.lower())[:MAX_NAME]


def _free_name(command: FleetCommand, taken: Mapping[str, str]) -> str:
    name = slash_name(command.command[len(command.prefix) :])
    if not name:
        return ""
    wishes = [name, f"community-{name}"[:MAX_NAME]]
    wishes += [f"{name[: MAX_NAME - 3]}-{number}" for number in range(2, 10)]
    return next((wish for wish in wishes if wish not in taken), "")


def _description(text: str, otherwise: str) -> str:
    return shorten(" ".join(text.split()) or otherwise, MAX_DESCRIPTION)


def _subcommands(specs: Iterable[SubcommandSpec]) -> list[dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for spec in specs:
        name = slash_name(spec.name)
        if name != spec.name or name in made:
            return []  # Discord could not say which one was meant.
        description = _description(spec.description, spec.name)
        made[name] = {
            "type": SUB_COMMAND,
            "name": name,
            "description": description,
            "options": _options(spec.usage),
        }
    return list(made.values())[:MAX_OPTIONS]


def _options(usage: str) -> list[dict[str, Any]]:
    """An option for each <word> and [word] of a usage, free text where it is anything else."""
    if not usage.strip():
        return [_option(FREE_TEXT, "what you would type after the command", required=False)]
    words = _words_of(usage)
    required = [is_required for _, is_required in words]
    if not words or len(words) > MAX_OPTIONS or required != sorted(required, reverse=True):
        return [_option(FREE_TEXT, usage, required="<" in usage)]
    if len(words) == 1 and words[0][0].endswith(("...", "…")):
        return [_option(FREE_TEXT, words[0][0].rstrip(".…"), required=words[0][1])]
    options: list[dict[str, Any]] = []
    for word, is_required in words:
        choices = word.split("|") if "|" in word else []
        name = slash_name("choice" if choices else word.replace(" ", "_"))
        if not name or name == FREE_TEXT or any(each["name"] == name for each in options):
            return [_option(FREE_TEXT, usage, required=required[0])]
        options.append(_option(name, word.replace("_", " "), required=is_required, choices=choices))
    return options


def _words_of(usage: str) -> list[tuple[str, bool]]:
    """The words of a usage that is nothing but <words> and [words]."""
    words: list[tuple[str, bool]] = []
    at = 0
    while match := USAGE.match(usage, at):
        words.append(((match[1] or match[2]).strip(), match[1] is not None))
        at = match.end()
    return words if not usage[at:].strip() else []


def _option(name: str, description: str, *, required: bool, choices: Sequence[str] = ()) -> dict[str, Any]:
    option: dict[str, Any] = {
        "type": STRING,
        "name": name,
        "description": _description(description, name),
        "required": required,
    }
    if 0 < len(choices) <= MAX_CHOICES:
        option["choices"] = [{"name": each, "value": each} for each in choices]
    return option
