"""StreamElements: what its API answers to GET /kappa/v2/bot/commands/<channel>, /bot/timers/<channel> and
/bot/filters/<channel>, each a file, and the loyalty leaderboard as CSV or as /points/<channel>/top answers.
Source: https://dev.streamelements.com
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, Field, StringConstraints

from .parts import EVERYBODY, REGULARS, Commands, Filters, Level, Timers
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
from .variables import STREAMELEMENTS_

SOURCE = "streamelements"
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
AccessLevel = Annotated[int, Field(ge=0, le=10_000)]
# From which number on somebody is what. Source: https://docs.streamelements.com/chatbot/user-levels
LEVELS: tuple[tuple[int, Level], ...] = (
    (100, EVERYBODY),
    (250, Level("subscriber")),
    (300, REGULARS),
    (400, Level("vip")),
    (500, Level("moderator")),
    (1000, Level("admin")),
)
WHERE = ("username", "user", "name", "viewer")


class Cooldown(Entry):
    user: int = Field(0, ge=0, le=86_400)
    everybody: int = Field(0, ge=0, le=86_400, alias="global")


class Command(Entry):
    command: Name
    reply: Annotated[str, StringConstraints(max_length=2000)]
    aliases: list[Name] = Field(default_factory=list, max_length=50)
    keywords: list[str] = Field(default_factory=list)
    regex: str | None = None
    cooldown: Cooldown = Field(default_factory=Cooldown)
    enabled: bool = True
    enabledOnline: bool = True  # noqa: N815 - StreamElements'
    enabledOffline: bool = True  # noqa: N815 - StreamElements'
    cost: int = 0
    type: Annotated[str, StringConstraints(max_length=50)] = "say"
    hidden: bool = False
    accessLevel: AccessLevel = 100  # noqa: N815 - StreamElements'


class Window(Entry):
    enabled: bool = True
    interval: int = Field(15, ge=0, le=100_000)


class Timer(Entry):
    name: Name
    message: str = ""
    messages: list[str] = Field(default_factory=list, max_length=50)
    online: Window = Field(default_factory=Window)
    offline: Window = Field(default_factory=lambda: Window(enabled=False))
    enabled: bool = True
    chatLines: int = Field(0, ge=0, le=100_000)  # noqa: N815 - StreamElements'


class Settings(Entry):
    limit: int | None = Field(None, ge=0, le=100_000)
    min: int | None = Field(None, ge=0, le=100_000)
    percent: int | None = Field(None, ge=0, le=100)


class TimeOut(Entry):
    length: int = Field(0, ge=0)


class Filter(Entry):
    enabled: bool = False
    exclude: AccessLevel = 500
    settings: Settings = Field(default_factory=Settings)
    timeout: TimeOut = Field(default_factory=TimeOut)
    whitelist: list[str] = Field(default_factory=list)
    blacklist: list[str] = Field(default_factory=list)


class Phrases(Entry):
    name: Name = "banned phrases"
    enabled: bool = True
    excludeLevel: AccessLevel = 500  # noqa: N815 - StreamElements'
    phrases: list[str | dict[str, Any]] = Field(default_factory=list)


class Standing(Entry):
    username: Name = Field(validation_alias=AliasChoices(*WHERE))
    points: int = Field(ge=0, le=10**12)


def translate(files: Sequence[File]) -> Translation:
    """Raises: BadFile."""
    check_size(files)
    found = [each for file in files for each in _lists_in(file)]
    check_count(found)
    made = Translation(SOURCE)
    commands, timers, filters = Commands(made, STREAMELEMENTS_), Timers(made, STREAMELEMENTS_), Filters(made)
    doing: Mapping[str, Callable[[Found], None]] = {
        "command": lambda each: _commands(each, commands),
        "timer": lambda each: _timers(each, timers),
        "filter": lambda each: _filters(each, filters),
        "phrases": lambda each: _phrases(each, filters),
        "standing": lambda each: _points(each, made),
    }
    for each in found:
        doing[each.kind](each)
    return made


def _lists_in(file: File) -> list[Found]:
    text = read_text(file)
    if not is_json(file, text):
        return [_sheet(file, text)]
    document = read_json(file, text)
    if isinstance(document, Mapping) and isinstance(document.get("botFilters"), Mapping):
        return _filters_in(file, document)
    lists = {"": document} if isinstance(document, list) else document
    found = []
    for name, rows in lists.items():
        if isinstance(rows, Mapping) and isinstance(rows.get("botFilters"), Mapping):
            found += _filters_in(file, rows)
        elif isinstance(rows, list) and rows and name in ("", "commands", "timers", "users"):
            kind = {"commands": "command", "timers": "timer", "users": "standing"}.get(name) or _kind_of(rows[0])
            if kind:
                found.append(Found(kind, file.name, rows, places_of(kind, rows, by=("command", "name", "username"))))
    if not found and document != []:
        raise BadFile(f"{file.name} has nothing of StreamElements': commands, timers, filters or points.")
    return found


def _sheet(file: File, text: str) -> Found:
    header, rows, places = read_csv(file, text)
    low = [each.lower() for each in header]
    rows = [{name.lower(): value for name, value in row.items()} for row in rows]
    if "points" in low and set(low) & set(WHERE):
        return Found("standing", file.name, rows, places)
    # A leaderboard may come without a header: a name and a number on each line.
    if len(header) >= 2 and header[1].isdecimal():
        lines = [dict(zip(("username", "points"), header, strict=False))]
        lines += [dict(zip(("username", "points"), row.values(), strict=False)) for row in rows]
        return Found("standing", file.name, lines, ["line 1", *places])
    raise BadFile(f"{file.name}: line 1 has to name the columns, username and points among them.")


def _filters_in(file: File, document: Mapping[str, Any]) -> list[Found]:
    rows = [{"type": name, **value} for name, value in document["botFilters"].items() if isinstance(value, Mapping)]
    found = [Found("filter", file.name, rows, places_of("filter", rows, by=("type",)))]
    groups = [each for each in document.get("banphrases") or [] if isinstance(each, Mapping)]
    return [*found, Found("phrases", file.name, groups, places_of("banned phrases", groups, by=("name",)))]


def _kind_of(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return None
    if "command" in entry or "reply" in entry:
        return "command"
    if "chatLines" in entry or "online" in entry:
        return "timer"
    return "standing" if "points" in entry else None


def level_of(number: int) -> Level:
    return next((level for most, level in LEVELS if number <= most), Level("owner"))


def _commands(found: Found, commands: Commands) -> None:
    made = commands.made
    for each in found.read(Command):
        name = each.command if each.command[:1] in "!#" else f"!{each.command}"
        if not each.enabled:
            made.leave(name, "It is switched off there.")
            continue
        level = level_of(each.accessLevel)
        is_carried = commands.add(
            name,
            each.reply,
            level,
            cooldown_s=each.cooldown.everybody,
            person_s=each.cooldown.user,
            only_live=not each.enabledOffline,
        )
        if not is_carried:
            continue
        if each.regex or each.keywords:
            made.differ(name, "It is called by its name only; a string rule can listen for words.")
        if each.cost:
            made.differ(name, f"It costs nothing here; there it cost {each.cost:,} points.")
        if each.type != "say":
            made.differ(name, f"It is said in the channel; there its answer was a {each.type}.")
        if each.hidden:
            made.differ(name, "It is in the list of commands; there it was hidden.")
        if not each.enabledOnline:
            made.differ(name, "It works while the stream is live, too.")
        for other in each.aliases:
            also = other if other[:1] in "!#" else f"!{other}"
            commands.add(also, "$(query)", level, target=name)


def _timers(found: Found, timers: Timers) -> None:
    for each in found.read(Timer):
        texts = [text for text in (each.messages or [each.message]) if text.strip()]
        if not each.online.enabled:
            timers.made.leave(f"timer {each.name}", "It is said only while nobody streams, which timers cannot here.")
            continue
        for text in texts:
            timers.add(
                each.name,
                text,
                minutes=each.online.interval * len(texts),
                lines=each.chatLines,
                only_live=not each.offline.enabled,
                is_on=each.enabled,
            )
        if each.offline.enabled and each.offline.interval != each.online.interval:
            why = f"It is said every {each.online.interval} minutes, live or not; there every"
            timers.made.differ(f"timer {each.name}", f"{why} {each.offline.interval} while nobody streamed.")


class NamedFilter(Filter):
    type: str


def _filters(found: Found, filters: Filters) -> None:
    for each in found.read(NamedFilter):
        name = f"filter {each.type}"
        if each.type == "banphrases":
            continue
        if not each.enabled:
            filters.made.leave(name, "It is switched off there.")
            continue
        exempt, settings = level_of(each.exclude), each.settings
        punished_s = each.timeout.length
        if each.type in ("caps", "symbols"):
            number = settings.min or settings.limit
            filters.add(
                name,
                each.type,
                exempt,
                string=each.type,
                number=number,
                share=settings.percent or 0,
                timeout_s=punished_s,
            )
        elif each.type == "emotes":
            filters.add(name, "emotes", exempt, string="emotes", number=settings.limit, share=0, timeout_s=punished_s)
        elif each.type == "paragraph":
            filters.add(name, "length", exempt, string="length", number=settings.limit, share=0, timeout_s=punished_s)
        elif each.type == "links":
            allowed = filters.addresses(name, "\n".join(each.whitelist))
            filters.add(name, "links", exempt, string=allowed, timeout_s=punished_s)
        else:
            filters.made.leave(name, "There is no such filter here.")
            continue


def _phrases(found: Found, filters: Filters) -> None:
    for each in found.read(Phrases):
        if not each.enabled:
            filters.made.leave(each.name, "It is switched off there.")
            continue
        for phrase in each.phrases:
            text = phrase if isinstance(phrase, str) else str(phrase.get("phrase") or phrase.get("text") or "")
            is_pattern = isinstance(phrase, Mapping) and bool(phrase.get("regex"))
            if text.strip():
                wanted = f"~/{text.strip()}/i" if is_pattern else text.strip()
                filters.phrase(f"{each.name}: {text}", wanted, level_of(each.excludeLevel))


def _points(found: Found, made: Translation) -> None:
    for each in found.read(Standing):
        person = f"twitch:@{each.username.lstrip('@')}"
        made.add("router", "points_from", origin=SOURCE, person=person, points=each.points)
