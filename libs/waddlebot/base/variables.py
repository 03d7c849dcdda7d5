"""Variables in texts: `{user}`, `{random:1-100}`, `{time:Europe/Berlin}`. One engine for aliases, alerts, timers and
the texts of rules (contracts §7).

A text is read once, into what is said as it stands and its variables. A value that is put in is never read again, so
nothing loops; and nothing in here asks anybody, so nothing is called.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .markup import as_written

# What each stands for, in words for whoever writes a text.
MEANINGS: Final[Mapping[str, str]] = {
    "user": "who called, or whom it is about",
    "touser": "whom they name, else themselves",
    "channel": "the channel's name",
    "count": "how often it was said, this time included",
    "random": "one of {random:a|b|c}, or a number of {random:1-100}",
    "uptime": "how long the stream has been on",
    "game": "its category",
    "title": "its title",
    "viewers": "how many watch",
    "points": "their points",
    "rank": "their place by points",
    "followage": "how long they have followed",
    "time": "the time in UTC, or of a zone as {time:Europe/Berlin}",
    "args": "all words after the command",
    "all_args": "the same",
    **{f"arg{n}": f"word {n} after the command, or {{arg{n}:what stands for it}}" for n in range(1, 10)},
}
# What the caller's words are put into, what is about a person, and what is known of a stream.
WORDS: Final = frozenset({"args", "all_args", *(f"arg{n}" for n in range(1, 10))})
OF_WORDS: Final = WORDS | {"touser"}
OF_A_PERSON: Final = frozenset({"user", "points", "rank", "followage"})
OF_A_STREAM: Final = frozenset({"channel", "uptime", "game", "title", "viewers"})
# What people write as they like.
BY_PEOPLE: Final = frozenset({"user", "touser", "channel", "title", "game", "message"})
# What is looked up, and only where a text names it.
LOOKED_UP: Final = (OF_A_STREAM | OF_A_PERSON) - {"user"}
SHOWN_AS: Final = {"random": "random:a|b|c", "time": "time:Europe/Berlin"}
# What anything that says a text knows.
ANYWHERE: Final = frozenset({"random", "time"})

VARIABLE = re.compile(r"\{([a-z_]{1,20}[0-9]?)(?::([^{}]*))?\}")
# What was most likely meant as one: `{game`, `{random:{user}|b}`, `{whatever}`.
LOOKS_LIKE_ONE = re.compile(r"\{\w{1,20}(?:\}|:[^{}]*(?:\}|(?=\{|$))|(?=\{|$))")
RANGE = re.compile(r"\s*(-?\d{1,9})\s*-\s*(-?\d{1,9})\s*")
ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,30}(?:/[A-Za-z0-9_+\-]{1,30}){0,2}")
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
MONTH_DAYS, YEAR_DAYS = 30.44, 365.25


class MissingWord(LookupError):
    """A text wants more of the caller's words than there are. `name` is arg1 to arg9."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    # What stands after the colon; None without one.
    parameter: str | None
    written: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text that was read: what is said as it stands, and what is put in between."""

    pieces: tuple[str | Variable, ...]
    names: frozenset[str]

    @property
    def looked_up(self) -> frozenset[str]:
        """Those of its variables whose values somebody has to look up."""
        return self.names & LOOKED_UP

    def fill(self, values: Mapping[str, str], *, args: Sequence[str] | None = None) -> str:
        """Put values in. What has none is said as it was written.

        args: the caller's words; None where nobody called.
        Raises: MissingWord.
        """
        return "".join(each if isinstance(each, str) else _value(each, values, args) for each in self.pieces)


@lru_cache(maxsize=4_000)
def read(text: str) -> Text:
    """Read a text. What is no variable, or one with a parameter that means nothing, is said as it stands."""
    pieces: list[str | Variable] = []
    at = 0
    for found in VARIABLE.finditer(text):
        variable = Variable(found[1], found[2], found[0])
        pieces += [text[at : found.start()], variable]
        at = found.end()
    pieces.append(text[at:])
    return Text(
        tuple(each for each in pieces if each),
        frozenset(each.name for each in pieces if isinstance(each, Variable)),
    )


def plain(values: Mapping[str, str], platform: str) -> dict[str, str]:
    """Values in which what people wrote is no markup on the platform where they are said."""
    return {name: as_written(value, platform) if name in BY_PEOPLE else value for name, value in values.items()}


def names() -> list[str]:
    """The names of all variables, for whoever brings texts from another bot."""
    return list(MEANINGS)


def unknown_in(text: str, known: Collection[str] = MEANINGS.keys(), *, also: Collection[str] = ()) -> list[str]:
    """What in a text looks like a variable and is none where `known` and `also` are: each once, as it is written."""
    good = {
        found.start()
        for found in VARIABLE.finditer(text)
        if (found[1] in also and found[2] is None)
        or (found[1] in known and found[1] in MEANINGS and _means_something(found[1], found[2]))
    }
    return list(dict.fromkeys(found[0] for found in LOOKS_LIKE_ONE.finditer(text) if found.start() not in good))


def remarks_on(text: str, known: Collection[str], *, also: Collection[str] = ()) -> list[str]:
    """A sentence for whoever made a text that names variables which are none there."""
    return remark(unknown_in(text, known, also=also), known, also=also)


def remark(unknown: Sequence[str], known: Collection[str], *, also: Collection[str] = ()) -> list[str]:
    if not unknown:
        return []
    named = ", ".join(each[:60] for each in unknown[:5])
    return [f"{named} is said as it stands; what is filled in is {listed([*also, *known])}."]


def listed(known: Collection[str]) -> str:
    """Variables as people write them: `{user} {count} {random:a|b|c} … {arg1} … {arg9}`."""
    others = [name for name in known if name not in MEANINGS]
    ordered = [name for name in MEANINGS if name in known and not (name in WORDS and name[3:].isdecimal())]
    words = ["{arg1} … {arg9}"] if "arg1" in known else []
    return " ".join([*(f"{{{SHOWN_AS.get(name, name)}}}" for name in (*others, *ordered)), *words])


def lasted(time: timedelta) -> str:
    """A time in words, of two units at most: `2 hours, 5 minutes`, `1 year, 3 months`."""
    seconds = max(int(time.total_seconds()), 0)
    days = seconds // DAY_S
    if days >= YEAR_DAYS:
        return _two(int(days // YEAR_DAYS), "year", int(days % YEAR_DAYS // MONTH_DAYS), "month")
    if days >= MONTH_DAYS:
        return _two(int(days // MONTH_DAYS), "month", int(days % MONTH_DAYS), "day")
    if days:
        return _two(days, "day", seconds % DAY_S // HOUR_S, "hour")
    if seconds >= HOUR_S:
        return _two(seconds // HOUR_S, "hour", seconds % HOUR_S // MINUTE_S, "minute")
    return _some(seconds // MINUTE_S, "minute") if seconds >= MINUTE_S else _some(seconds, "second")


def _two(many: int, unit: str, few: int, smaller: str) -> str:
    return f"{_some(many, unit)}, {_some(few, smaller)}" if few else _some(many, unit)


def _some(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _means_something(name: str, parameter: str | None) -> bool:
    if name == "random":
        return bool(parameter)
    if name == "time":
        return parameter is None or _zone(parameter) is not None
    return parameter is None or (name in WORDS and name not in ("args", "all_args"))


def _value(variable: Variable, values: Mapping[str, str], args: Sequence[str] | None) -> str:
    name, parameter = variable.name, variable.parameter
    if parameter is None and name in values:
        return values[name]
    if name not in MEANINGS or not _means_something(name, parameter):
        return variable.written
    if name == "random":
        return _chance(parameter or "")
    if name == "time":
        return _time(parameter)
    return variable.written if args is None or name not in WORDS else _word(name, parameter, args)


def _word(name: str, parameter: str | None, args: Sequence[str]) -> str:
    if name in ("args", "all_args"):
        return " ".join(args)
    number = int(name[3:])
    if number <= len(args):
        return args[number - 1]
    if parameter is None:
        raise MissingWord(name)
    return parameter


def _chance(choices: str) -> str:
    """One of a|b|c, which may be nothing, or of the numbers from n to m."""
    if numbers := RANGE.fullmatch(choices):
        first, last = sorted(map(int, numbers.groups()))
        return str(random.randint(first, last))  # noqa: S311 - for fun, no secret
    return random.choice(choices.split("|"))  # noqa: S311


def _time(zone: str | None) -> str:
    return datetime.now(_zone(zone or "UTC")).strftime("%H:%M")


@lru_cache(maxsize=1_000)
def _zone(name: str) -> ZoneInfo | None:
    """A zone of the IANA's list. The pattern keeps names from being paths out of that list."""
    if not ZONE.fullmatch(name.strip()):
        return None
    try:
        return ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
