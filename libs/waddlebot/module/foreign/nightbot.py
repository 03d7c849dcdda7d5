"""Nightbot: what its API answers to GET /1/commands, /1/commands/default, /1/timers, /1/spam_protection and
/1/regulars, each a file, or the same lists as CSV. Source: https://api-docs.nightbot.tv
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from .parts import EVERYBODY, PLATFORMS, REGULAR, REGULARS, Commands, Filters, Level, Timers
from .reading import (
    BadFile,
    Entry,
    File,
    Found,
    Translation,
    check_count,
    check_size,
    is_json,
    places_of,
    read_csv,
    read_json,
    read_text,
)
from .variables import NIGHTBOTS

SOURCE = "nightbot"
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
UserLevel = Literal["everyone", "subscriber", "regular", "soop_vip", "twitch_vip", "moderator", "owner", "admin"]
LEVELS: Mapping[str, Level] = {
    "everyone": EVERYBODY,
    "subscriber": Level("subscriber"),
    "regular": REGULARS,
    "soop_vip": Level("vip"),
    "twitch_vip": Level("vip"),
    "moderator": Level("moderator"),
    "owner": Level("admin"),
    "admin": Level("owner"),
}
# How its own commands are called here. Not carried: they are there already, or there is nothing like them.
BUILT_IN: Mapping[str, str] = {
    "commands": "Here it is !help, and !alias to make more.",
    "filters": "Here rules are on the portal's page Rules, and !permit lets somebody post a link.",
    "regulars": "Here it is !label add @who regular.",
    "songs": "Here it is !sr, !song and !skip, where music is connected.",
}
FILTERS: Mapping[str, str] = {
    "caps": "caps",
    "emotes": "emotes",
    "links": "links",
    "symbols": "symbols",
    "repetitions": "repeats",
}
EVERY = re.compile(r"\*/(\d{1,2})")


class Command(Entry):
    name: Name
    message: Annotated[str, StringConstraints(max_length=2000)]
    coolDown: int = Field(0, ge=0, le=86_400)  # noqa: N815 - Nightbot's
    count: int = Field(0, ge=0, lt=2**31)
    userLevel: UserLevel = "everyone"  # noqa: N815 - Nightbot's
    alias: str | None = None


class DefaultCommand(Entry):
    name: Name
    enabled: bool = True
    own_name: str = Field("", alias="_name")


class Timer(Entry):
    name: Name
    message: Annotated[str, StringConstraints(max_length=2000)]
    interval: Annotated[str, StringConstraints(max_length=100)]
    lines: int = Field(0, ge=0, le=100_000)
    enabled: bool = True
    alias: str | None = None


class Filter(Entry):
    type: Annotated[str, StringConstraints(min_length=1, max_length=50)] = Field(alias="_type")
    enabled: bool
    length: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=0, le=100_000)
    blacklist: Annotated[str, StringConstraints(max_length=100_000)] = ""
    whitelist: Annotated[str, StringConstraints(max_length=100_000)] = ""
    message: Annotated[str, StringConstraints(max_length=2000)] = ""
    silent: bool = False
    exemptUserLevel: UserLevel = "moderator"  # noqa: N815 - Nightbot's


class Regular(Entry):
    provider: Annotated[str, StringConstraints(max_length=30)] = "twitch"
    providerId: Annotated[str, StringConstraints(max_length=100)] = ""  # noqa: N815 - Nightbot's
    name: Name
    displayName: str = ""  # noqa: N815 - Nightbot's


def translate(files: Sequence[File]) -> Translation:
    """Raises: BadFile."""
    check_size(files)
    found = [each for file in files for each in _lists_in(file)]
    check_count(found)
    made = Translation(SOURCE)
    commands, timers, filters = Commands(made, NIGHTBOTS), Timers(made, NIGHTBOTS), Filters(made)
    doing: Mapping[str, Callable[[Found], None]] = {
        "command": lambda each: _commands(each, commands),
        "default command": lambda each: _default_commands(each, made),
        "timer": lambda each: _timers(each, timers),
        "filter": lambda each: _filters(each, filters),
        "regular": lambda each: _regulars(each, made),
    }
    for each in found:
        doing[each.kind](each)
    return made


def _lists_in(file: File) -> list[Found]:
    text = read_text(file)
    if not is_json(file, text):
        header, rows, places = read_csv(file, text)
        kind = _kind_of(header)
        if kind is None:
            raise BadFile(f"{file.name}: line 1 is no header of Nightbot's: {', '.join(header)[:100]}.")
        return [Found(kind, file.name, rows, places)]
    document = read_json(file, text)
    lists = {"entries": document} if isinstance(document, list) else document
    found = []
    for name, rows in lists.items():
        if not isinstance(rows, list) or name not in ("entries", "commands", "timers", "filters", "regulars"):
            continue
        if not rows:
            continue
        kind = _kind_of(rows[0]) if isinstance(rows[0], dict) else None
        # What is broken is told of as what it would have been.
        kind = kind or {"entries": None}.get(name, name.removesuffix("s"))
        if kind is not None:
            found.append(Found(kind, file.name, rows, places_of(kind, rows, by=("name", "_type"))))
    if not found and not any(isinstance(rows, list) for rows in lists.values()):
        raise BadFile(f"{file.name} has none of Nightbot's lists: commands, timers, filters, regulars.")
    return found


def _kind_of(names: Any) -> str | None:
    """What an entry is, by the names of its fields."""
    if "_type" in names:
        return "filter"
    if "_name" in names:
        return "default command"
    if "interval" in names:
        return "timer"
    if "providerId" in names:
        return "regular"
    return "command" if "message" in names else None


def _commands(found: Found, commands: Commands) -> None:
    for each in found.read(Command):
        level = LEVELS[each.userLevel]
        target = each.alias or ""
        commands.add(each.name, each.message, level, cooldown_s=each.coolDown, used_before=each.count, target=target)


def _default_commands(found: Found, made: Translation) -> None:
    for each in found.read(DefaultCommand):
        if each.enabled:
            made.leave(each.name, BUILT_IN.get(each.own_name, "It is one of Nightbot's own."))


def _timers(found: Found, timers: Timers) -> None:
    for each in found.read(Timer):
        minutes = minutes_between(each.interval)
        if each.alias:
            timers.made.leave(f"timer {each.name}", "It runs a command; timers say a text here.")
        elif minutes is None:
            timers.made.leave(f"timer {each.name}", f"It is said at certain times: {each.interval}.")
        else:
            timers.add(each.name, each.message, minutes=minutes, lines=each.lines, only_live=False, is_on=each.enabled)


def minutes_between(interval: str) -> int | None:
    """How often a line of cron comes round, where that is always the same; up to once a day."""
    parts = interval.split()
    if len(parts) != 5 or parts[2:] != ["*", "*", "*"]:
        return None
    minute, hour = parts[:2]
    if minute == "*" and hour == "*":
        return 1
    if (every := EVERY.fullmatch(minute)) and hour == "*":
        return _divides(int(every[1]), 60)
    minutes = sorted(map(int, minute.split(","))) if re.fullmatch(r"\d{1,2}(,\d{1,2})*", minute) else []
    if not minutes:
        return None
    if len(minutes) > 1 and hour == "*":
        gaps = {(later - sooner) % 60 for sooner, later in zip(minutes, [*minutes[1:], minutes[0]], strict=True)}
        return gaps.pop() if len(gaps) == 1 else None
    if len(minutes) > 1:
        return None
    if hour == "*":
        return 60
    if every := EVERY.fullmatch(hour):
        hours = _divides(int(every[1]), 24)
        return hours * 60 if hours else None
    return 1440 if hour.isdecimal() else None


def _divides(step: int, whole: int) -> int | None:
    return step if step and whole % step == 0 else None


def _filters(found: Found, filters: Filters) -> None:
    for each in found.read(Filter):
        name = f"filter {each.type}"
        if not each.enabled:
            filters.made.leave(name, "It is switched off there.")
            continue
        exempt = LEVELS[each.exemptUserLevel]
        if each.type == "blacklist":
            for phrase in dict.fromkeys(filter(None, map(str.strip, each.blacklist.splitlines()))):
                filters.phrase(f"{name}: {phrase}", phrase, exempt, message=each.message, **_punished(each))
        elif each.type in FILTERS:
            _measured(each, name, exempt, filters)
        else:
            filters.made.leave(name, "There is no such filter here.")
            continue
        if each.silent:
            filters.made.differ(name, "Nightbot was silent about it; here it is said why.")


def _punished(each: Filter) -> dict[str, int]:
    """Nightbot lets everybody off the first time. Source: https://docs.nightbot.tv/spam-protection"""
    return {"timeout_s": each.length, "timeout_after": 2}


def _measured(each: Filter, name: str, exempt: Level, filters: Filters) -> None:
    if each.type == "links":
        allowed = filters.addresses(name, each.whitelist)
        filters.add(name, "links", exempt, string=allowed, message=each.message, **_punished(each))
        return
    number, share = (None, each.limit) if each.type == "repetitions" else (each.limit or None, 0)
    if share is not None and share > 100:
        share = 100
    filters.add(
        name,
        FILTERS[each.type],
        exempt,
        string=each.type,
        message=each.message,
        number=number,
        share=share,
        **_punished(each),
    )


def _regulars(found: Found, made: Translation) -> None:
    for each in found.read(Regular):
        if each.provider not in PLATFORMS:
            made.leave(f"regular {each.name}", f"There is no {each.provider} here.")
            continue
        person = f"{each.provider}:{each.providerId or '@' + each.name}"
        made.add("labels_core", "given", label=REGULAR, person=person)
