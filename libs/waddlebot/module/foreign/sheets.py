"""Plain CSV, a kind of thing a file, told by its header: `alias,command`, `person,points`, `item,description,labels` or
`quote`. A person is `twitch:12826`, or a name on Twitch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from .reading import BadFile, Entry, File, Found, Translation, check_count, check_size, read_csv, read_text

SOURCE = "csv"
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
HEADERS = "alias,command; person,points; item,description,labels; or quote"


class Alias(Entry):
    alias: Text
    command: Text
    cooldown_s: int = Field(0, ge=0, le=86_400)


class Standing(Entry):
    person: Text
    points: int = Field(ge=-(10**12), le=10**12)


class Thing(Entry):
    item: Text
    description: str = ""
    # With | between them.
    labels: str = ""


class Quote(Entry):
    quote: Annotated[str, StringConstraints(min_length=1, max_length=200)]


def translate(files: Sequence[File]) -> Translation:
    """Raises: BadFile."""
    check_size(files)
    found = [_read(file) for file in files]
    check_count(found)
    made = Translation(SOURCE)
    doing: Mapping[str, Callable[[Found], None]] = {
        "alias": lambda each: _aliases(each, made),
        "points": lambda each: _points(each, made),
        "item": lambda each: _items(each, made),
        "quote": lambda each: made.quotes.extend(row.quote for row in each.read(Quote)),
    }
    for each in found:
        doing[each.kind](each)
    return made


def _read(file: File) -> Found:
    header, rows, places = read_csv(file, read_text(file))
    names = [each.lower() for each in header]
    rows = [{name.lower(): value for name, value in row.items()} for row in rows]
    for kind in ("alias", "points", "item", "quote"):
        if kind in names:
            return Found(kind, file.name, rows, places)
    raise BadFile(f"{file.name}: line 1 has to name the columns: {HEADERS}.")


def _aliases(found: Found, made: Translation) -> None:
    for each in found.read(Alias):
        cooldown = {"cooldown_s": each.cooldown_s} if each.cooldown_s else {}
        name = each.alias if each.alias[:1] in "!#" else f"!{each.alias}"
        made.add("alias", "alias", alias=name, command=each.command, **cooldown)


def _points(found: Found, made: Translation) -> None:
    for each in found.read(Standing):
        person = each.person if ":" in each.person else f"twitch:@{each.person.lstrip('@')}"
        made.add("router", "points_from", origin=SOURCE, person=person, points=each.points)


def _items(found: Found, made: Translation) -> None:
    for each in found.read(Thing):
        labels = [label for label in map(str.strip, each.labels.split("|")) if label]
        made.add("inventory", "item", item_name=each.item, description=each.description, labels=labels)
