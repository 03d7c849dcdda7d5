"""What other bots' texts have filled in, as ours says it. The tables are all there is to know about it; which of our
names are filled in is the modules' to say, when they are asked for the plan.

Sources: https://docs.nightbot.tv/variables, https://docs.streamelements.com/chatbot/variables
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...base.chat import shorten

# Of both: a name, and what ours is. None: there is nothing like it, which is why.
COMMON: Mapping[str, str] = {
    "user": "{user}",
    "touser": "{touser}",
    "channel": "{channel}",
    "count": "{count}",
    "query": "{args}",
    **{str(number): f"{{arg{number}}}" for number in range(1, 10)},
}
NIGHTBOT: Mapping[str, str] = COMMON
STREAMELEMENTS: Mapping[str, str] = {
    **COMMON,
    "sender": "{user}",
    "source": "{user}",
    "user.name": "{user}",
    "sender.name": "{user}",
    "channel.display_name": "{channel}",
    "channel.viewers": "{viewers}",
    "uptime": "{uptime}",
    "title": "{title}",
    "status": "{title}",
    "game": "{game}",
    "user.points": "{points}",
    "sender.points": "{points}",
    "user.points_rank": "{rank}",
    "sender.points_rank": "{rank}",
    "pointsname": "points",
    "1:": "{args}",
}
# Fields of Nightbot's $(twitch $(channel) "…{{field}}…"), which are of the channel itself.
TWITCH_FIELDS: Mapping[str, str] = {
    "name": "{channel}",
    "displayName": "{channel}",
    "title": "{title}",
    "game": "{game}",
    "viewers": "{viewers}",
    "uptimeLength": "{uptime}",
}
# What most channels ask elsewhere for, because their bot does not know it.
ASKED_ELSEWHERE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"https?://(?:api\.)?(?:beta\.)?decapi\.(?:me|net)/twitch/{path}(?:[/?].*)?", re.IGNORECASE), ours)
    for path, ours in (
        ("followage", "{followage}"),
        ("uptime", "{uptime}"),
        ("title", "{title}"),
        ("status", "{title}"),
        ("game", "{game}"),
        ("viewercount", "{viewers}"),
    )
)
CODE = ("eval", "customapi", "urlfetch", "readapi")
OPENINGS = {"$(": ")", "${": "}"}
ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
NUMBERS = re.compile(r"(\d{1,9})\s*-\s*(\d{1,9})")
PICKED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\S+)""")
MUSTACHE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
MAX_DEPTH = 8


class NotCarried(Exception):
    """Something in a text that has nothing like it here. The message says what, and why."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A bot's way to write what is filled in."""

    names: Mapping[str, str]
    openings: tuple[str, ...]


NIGHTBOTS = Dialect(NIGHTBOT, ("$(",))
STREAMELEMENTS_ = Dialect(STREAMELEMENTS, ("$(", "${"))


def translate(text: str, dialect: Dialect) -> str:
    """A text with our names in it. Raises: NotCarried."""
    made, at = [], 0
    while (found := _next(text, at, dialect)) is not None:
        start, opening = found
        end = _end(text, start, opening)
        made += [text[at:start], _ours(text[start + 2 : end].strip(), dialect)]
        at = end + 1
    return "".join([*made, text[at:]])


def _next(text: str, at: int, dialect: Dialect) -> tuple[int, str] | None:
    places = [(place, each) for each in dialect.openings if (place := text.find(each, at)) >= 0]
    return min(places, default=None)


def _end(text: str, start: int, opening: str) -> int:
    """Where it is closed, whatever is nested or quoted in it."""
    closers = [OPENINGS[opening]]
    place = start + 2
    while place < len(text):
        pair = text[place : place + 2]
        if pair in OPENINGS:
            closers.append(OPENINGS[pair])
            place += 1
        elif text[place] == closers[-1] and not (pair == "}}" and text.count("{{", start, place)):
            closers.pop()
            if not closers:
                return place
        if len(closers) > MAX_DEPTH:
            break
        place += 1
    raise NotCarried(f"{shorten(text[start:], 30)} is not closed.")


def _ours(inside: str, dialect: Dialect) -> str:
    if inside in dialect.names:
        return dialect.names[inside]
    name, _, rest = inside.partition(" ")
    if name.startswith("customapi."):
        name, rest = "customapi", inside.removeprefix("customapi.")
    rest = rest.strip()
    if name in CODE:
        return _asked(name, rest)
    if name == "time" and rest:
        return _time(rest)
    if name.startswith("time.") and not rest and ZONE.fullmatch(name[5:]):
        return f"{{time:{name[5:]}}}"
    if name == "twitch":
        return _twitch(rest)
    if name == "random.pick":
        return _pick(rest)
    if name.startswith("random.") and (numbers := NUMBERS.fullmatch(name.removeprefix("random."))):
        return f"{{random:{numbers[1]}-{numbers[2]}}}"
    return _word(inside)


def _word(inside: str) -> str:
    """A word by its number, with what stands for it where nothing is said: `1|everybody`."""
    number, bar, default = inside.partition("|")
    number = number.strip()
    if bar and number.isascii() and number.isdecimal() and 1 <= int(number) <= 9:
        default = default.strip().strip("'\"")
        if not set(default) & set("{}"):
            return f"{{arg{int(number)}:{default}}}"
    raise NotCarried(f"$({shorten(inside, 30)}) has nothing like it here.")


def _asked(name: str, rest: str) -> str:
    address = rest.split()[-1] if rest else ""
    for pattern, ours in ASKED_ELSEWHERE:
        if pattern.fullmatch(address):
            return ours
    if name == "eval":
        raise NotCarried("$(eval) runs JavaScript, which a module from the marketplace can do instead.")
    raise NotCarried(f"$({name}) asks another server, which a rule with a webhook can do instead.")


def _time(rest: str) -> str:
    zone, _, form = rest.partition(" ")
    if not ZONE.fullmatch(zone):
        raise NotCarried(f"$(time {shorten(rest, 30)}) names no zone.")
    if form.strip():
        raise NotCarried("$(time) with a format of its own has nothing like it here.")
    return f"{{time:{zone}}}"


def _twitch(rest: str) -> str:
    whose, _, form = rest.partition(" ")
    form = form.strip()
    if whose not in ("$(channel)", "") or len(form) < 2 or form[0] not in "\"'" or form[-1] != form[0]:
        raise NotCarried(f"$(twitch {shorten(rest, 30)}) tells of another channel, or of all that there is.")

    def filled(found: re.Match[str]) -> str:
        if found[1] not in TWITCH_FIELDS:
            raise NotCarried(f"{found[0]} of $(twitch) has nothing like it here.")
        return TWITCH_FIELDS[found[1]]

    return MUSTACHE.sub(filled, form[1:-1])


def _pick(rest: str) -> str:
    choices = [next(filter(None, found.groups()), "") for found in PICKED.finditer(rest)]
    if not choices or any(set(each) & set("{}|$") for each in choices):
        raise NotCarried("A $(random.pick) of that kind has nothing like it here.")
    return f"{{random:{'|'.join(choices)}}}"
