"""Files of other bots: JSON as their APIs answer, or CSV. What is wrong is named by file, entry or line, and field."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ...base.chat import shorten
from ...base.errors import UserError
from ...base.wire import clean

MAX_FILES = 20
MAX_FILE_BYTES = 4_000_000
MAX_ENTRIES = 5_000
# A reason is cut where somebody's text is in it.
MAX_SHOWN_CHARS = 60

Row = TypeVar("Row", bound="Entry")


class BadFile(UserError):
    """That file cannot be read."""

    code = "bad_file"


class Entry(BaseModel):
    """One thing in a file, with what of it is needed here; there may be more."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)


@dataclass(frozen=True, slots=True)
class File:
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Remark:
    """Something of the other bot's, and what becomes of it."""

    what: str
    why: str


@dataclass(slots=True)
class Translation:
    """Items by module, what is not carried, and what will be otherwise."""

    source: str
    items: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left: list[Remark] = field(default_factory=list)
    differs: list[Remark] = field(default_factory=list)
    # Texts for the quote module, whose pages only it and the importer know.
    quotes: list[str] = field(default_factory=list)

    def add(self, module: str, kind: str, **fields: Any) -> None:
        self.items.setdefault(module, []).append({"kind": kind, **fields})

    def leave(self, what: str, why: str) -> None:
        self.left.append(Remark(shorten(what, MAX_SHOWN_CHARS), why))

    def differ(self, what: str, why: str) -> None:
        self.differs.append(Remark(shorten(what, MAX_SHOWN_CHARS), why))


@dataclass(frozen=True, slots=True)
class Found:
    """A list of entries in a file, and how each of them is called when something is wrong with it."""

    kind: str
    file: str
    rows: Sequence[Mapping[str, Any]]
    places: Sequence[str]

    def read(self, model: type[Row]) -> Iterator[Row]:
        """Raises: BadFile, naming the entry and the field."""
        for row, place in zip(self.rows, self.places, strict=True):
            try:
                yield model.model_validate(row)
            except ValidationError as err:
                first = err.errors(include_url=False, include_context=False, include_input=False)[0]
                name = ".".join(map(str, first["loc"])) or "it"
                problem = first["msg"].removeprefix("Value error, ")
                raise BadFile(f"{self.file}: {place}, {name}: {problem}. Nothing was imported.") from err


def check_size(files: Sequence[File]) -> None:
    """Raises: BadFile."""
    if not files:
        raise BadFile("Choose a file first.")
    if len(files) > MAX_FILES:
        raise BadFile(f"At most {MAX_FILES} files are imported at once.")
    for file in files:
        if len(file.content) > MAX_FILE_BYTES:
            raise BadFile(f"{file.name}: a file has at most {MAX_FILE_BYTES // 1_000_000} MB.")


def check_count(found: Sequence[Found]) -> None:
    """Raises: BadFile."""
    count = sum(len(each.rows) for each in found)
    if count > MAX_ENTRIES:
        raise BadFile(f"These are {count:,} entries; at most {MAX_ENTRIES:,} are imported at once.")


def read_text(file: File) -> str:
    """Raises: BadFile."""
    try:
        text = file.content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = file.content[: err.start].count(b"\n") + 1
        raise BadFile(f"{file.name}: line {line} is not UTF-8 text. Nothing was imported.") from err
    if not text.strip():
        raise BadFile(f"{file.name} is empty.")
    return text


def is_json(file: File, text: str) -> bool:
    return not file.name.lower().endswith(".csv") and text.lstrip()[:1] in ("{", "[")


def read_json(file: File, text: str) -> Any:
    """Raises: BadFile, with the line."""
    try:
        return clean(json.loads(text))
    except json.JSONDecodeError as err:
        raise BadFile(
            f"{file.name}: line {err.lineno}, character {err.colno}: {err.msg}. Nothing was imported."
        ) from err
    except RecursionError as err:
        raise BadFile(f"{file.name}: that is nested too deeply. Nothing was imported.") from err


def read_csv(file: File, text: str) -> tuple[list[str], list[dict[str, str]], list[str]]:
    """The header, the rows by its names, and each row's place. Raises: BadFile, with the line."""
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows, places = [], []
    try:
        header = [each.strip() for each in next(reader)]
        for row in reader:
            if not any(each.strip() for each in row):
                continue
            if len(row) != len(header):
                raise BadFile(
                    f"{file.name}: line {reader.line_num} has {len(row)} fields, the header {len(header)}."
                    " Nothing was imported."
                )
            rows.append({name: value for name, value in zip(header, map(clean, row), strict=True) if value.strip()})
            places.append(f"line {reader.line_num}")
    except csv.Error as err:
        raise BadFile(f"{file.name}: line {reader.line_num}: {err}. Nothing was imported.") from err
    return header, rows, places


def places_of(kind: str, rows: Sequence[Any], *, by: Sequence[str]) -> list[str]:
    """What the entries of a list of JSON are called: by their number, and their name where they have one."""
    places = []
    for number, row in enumerate(rows, 1):
        named = [row[each] for each in by if isinstance(row, Mapping) and isinstance(row.get(each), str) and row[each]]
        places.append(f"{kind} {number}" + (f" ({shorten(named[0], 40)})" if named else ""))
    return places


def one_name(text: str, taken: set[str], *, most: int) -> str:
    """A name of one word that is not taken yet."""
    name = re.sub(r'[\s"]+', "-", text.strip()).strip("-")[:most] or "timer"
    number, wanted = 1, name
    while wanted.casefold() in taken:
        number += 1
        wanted = f"{name[: most - 5]}-{number}"
    taken.add(wanted.casefold())
    return wanted
