"""A community module as it is published: `module.toml`, `handler.py` and what that needs, in one zip whose sha256 is
its address.

    name = "dice"
    title = "Dice"
    version = "1.0.0"
    description = "Rolls dice"
    license = "MIT"
    category = "games"
    tags = ["fun"]
    changelog = "The first version."
    permissions = ["state"]            # PERMISSIONS says what there is
    hosts = ["api.example.org"]        # what it calls, by https; `:port` for another than 443

    [runtime]
    type = "local"                     # or lambda (function), openwhisk (action), webhook (url)
    entry = "handler.handler"

    [limits]
    memory_mb = 64
    cpu_s = 1
    timeout_s = 5

    [[commands]]
    command = "dice"                   # always with #
    usage = "[2d6]"
    description = "Roll some dice"
    examples = ["#dice 2d6"]

    [[settings]]
    name = "sides"
    type = "int"
    default = 6

`events = ["follow"]` on a command has it called for what happens; `listen` for plain chat (contracts §6). Limits are
ceilings that a host enforces, in megabytes and seconds.
"""

from __future__ import annotations

import ast
import hashlib
import io
import ipaddress
import re
import stat
import tomllib
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from ..base.contracts import CommandSpec, Listener, MessageType, ModuleName, Strict, SubcommandSpec, check_names
from ..base.errors import Invalid, TooLarge, UserError
from ..base.manifest import OwnSetting
from ..base.text import as_seen
from ..base.wire import NOT_IN_LOGS, problem_of, shaped

MANIFEST = "module.toml"
MAX_MANIFEST_BYTES = 64 * 1024
MAX_PACKAGE_BYTES = 2 * 1024 * 1024
MAX_UNPACKED_BYTES = 10 * 1024 * 1024
MAX_FILES = 200
MAX_PATH_CHARS = 200
MAX_NESTING = 20
# What is never meant to be published, wherever it lies.
LEFT_OUT = {"__pycache__", ".git", ".venv", "node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
# The same files always make the same package: a zip cannot say anything earlier.
EPOCH = (1980, 1, 1, 0, 0, 0)
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What a module may ask for, and how that is put to whoever installs it. Saying something in chat needs no permission.
PERMISSIONS = {
    "overlays": "show pictures, texts and videos on your stream's overlays",
    "forms": "ask people to fill in forms",
    "private": "write to people privately",
    "state": "remember things for your community, at most 100 notes of 8 KB",
    "reply_later": "answer up to five minutes later than it should",
}
# Lines of chat that a module listens for, in words; a pattern in braces is a setting's.
HEARD = {
    "ends_with": "end with “{}”",
    "contains": "contain “{}”",
    "word": "have the word “{}”",
    "regex": "fit “{}”",
    "mention": "name the bot",
}
# What a reply may hold, by the permission that it takes.
ACTION_PERMISSIONS = {"media": "overlays", "ticker": "overlays", "general": "overlays", "form": "forms"}

# Source: https://semver.org/spec/v2.0.0.html
SEMVER = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-((?:0|[1-9]\d{0,8}|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d{0,8}|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?",
    re.ASCII,
)
HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
FUNCTION = r"^[A-Za-z0-9_-]{1,64}$"
ACTION = r"^[A-Za-z0-9_.@-]{1,64}(/[A-Za-z0-9_.@-]{1,64})?$"

Line = Annotated[str, shaped(r"^[^\x00-\x1f\x7f]*$", "one line", max_length=300)]
Prose = Annotated[str, StringConstraints(max_length=20_000)]
# Without who signs in there: https://known.example@other.example is other.example.
Link = Annotated[
    str, shaped(r"^(https://[^\s/?#@\\]+([/?#]\S*)?)?$", "an address that begins with https://", max_length=500)
]
Tag = Annotated[str, shaped(r"^[a-z0-9][a-z0-9-]{0,29}$", "small letters, digits and dashes, 30 at most")]
Category = Annotated[str, shaped(r"^[a-z][a-z0-9_-]{0,39}$", "small letters, digits, dashes and _, 40 at most")]
Permission = Literal["overlays", "forms", "private", "state", "reply_later"]
# Core commands that are ordinary words: the same with # is believed to be nobody's in particular.
ANYBODYS = frozenset({"game"})


class BadManifest(Invalid):
    """module.toml is not as it has to be."""

    code = "bad_manifest"


class BadPackage(UserError):
    """This is not the zip of a module."""

    code = "bad_package"


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version without build metadata, ordered as semver.org §11 says."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: ValueError."""
        found = SEMVER.fullmatch(text) if len(text) <= 32 else None
        if found is None:
            raise ValueError("must be a semantic version such as 1.2.0 or 2.0.0-beta.1, at most 32 characters")
        return cls(int(found[1]), int(found[2]), int(found[3]), tuple(found[4].split(".")) if found[4] else ())

    @property
    def is_stable(self) -> bool:
        return not self.pre

    @property
    def sort_key(self) -> tuple[Any, ...]:
        identifiers = tuple((0, int(each), "") if each.isdigit() else (1, 0, each) for each in self.pre)
        return self.major, self.minor, self.patch, self.is_stable, identifiers

    def __lt__(self, other: Version) -> bool:
        return bool(self.sort_key < other.sort_key)

    def __str__(self) -> str:
        pre = f"-{'.'.join(self.pre)}" if self.pre else ""
        return f"{self.major}.{self.minor}.{self.patch}{pre}"


def _check_seen(text: str) -> str:
    if not as_seen(text).strip():
        raise ValueError("has nothing that can be seen")
    return text


def _check_price(price: float) -> float:
    if round(price, 2) != price:
        raise ValueError("has two decimals at most")
    return price


def _check_version(text: str) -> str:
    return str(Version.parse(text))


def _check_host(text: str) -> str:
    """`api.example.org` or `api.example.org:8443`: names only, so that who installs it can tell whose they are."""
    name, colon, port = text.partition(":")
    if colon and not (port.isascii() and port.isdigit() and port[0] != "0" and int(port[:6]) < 65536):
        raise ValueError(f"{text[:80]} has no port that there is")
    if len(name) > 253 or not all(HOST_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"{text[:80]} is not a host name in lower case, such as api.example.org")
    if "." not in name or name.rpartition(".")[2].isdigit() or _is_address(name):
        raise ValueError(f"{text[:80]} is not a public host's name")
    return name if port in ("", "443") else f"{name}:{int(port)}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Runtime(Strict):
    """Where it runs. `local` is a package that the fleet runs itself; the others are run by whoever has them."""

    type: Literal["local", "lambda", "openwhisk", "webhook"] = "local"
    entry: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+$")] = "handler.handler"
    url: Annotated[str, StringConstraints(max_length=2048)] = ""
    function: Annotated[str, StringConstraints(pattern=FUNCTION)] | None = None
    action: Annotated[str, StringConstraints(pattern=ACTION)] | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needs = {"webhook": "url", "lambda": "function", "openwhisk": "action"}
        for kind, field in needs.items():
            if (self.type == kind) != bool(getattr(self, field)):
                raise ValueError(f"{field} is for type {kind}" if self.type != kind else f"{kind} needs {field}")
        return self


class Limits(Strict):
    memory_mb: int = Field(64, ge=16, le=256)
    cpu_s: float = Field(1, gt=0, le=10)
    timeout_s: float = Field(5, gt=0, le=30)


class ModuleCommand(Strict):
    """A command with `#`. With `events` it is called for those, too."""

    command: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    usage: Line = ""
    description: Line = ""
    examples: list[Line] = Field(default_factory=list, max_length=5)
    level: Literal["member", "subscriber", "vip", "moderator", "admin", "owner"] = "member"
    rate_limit: int | None = Field(None, ge=0, le=1000)
    timeout_s: float | None = Field(None, gt=0, le=30)
    events: list[MessageType] = Field(default_factory=list, max_length=25)
    listen: list[Listener] = Field(default_factory=list, max_length=20)
    subcommands: list[SubcommandSpec] = Field(default_factory=list, max_length=30)
    # Arguments of the usage that no record keeps.
    secret: list[str] = Field(default_factory=list, max_length=10)

    @field_validator("command")
    @classmethod
    def _is_one_word(cls, text: str) -> str:
        name = unicodedata.normalize("NFC", text).casefold()
        if not all(each.isalnum() or each in "_-" or unicodedata.combining(each) for each in name):
            raise ValueError("must be one word of letters and digits, without # in front")
        if not name[0].isalnum():
            raise ValueError("must begin with a letter or a digit")
        return name

    @field_validator("events")
    @classmethod
    def _is_no_chat(cls, events: list[MessageType]) -> list[MessageType]:
        if MessageType.CHAT_MESSAGE in events:
            raise ValueError("chatMessage is not told; say with listen which lines it is called for")
        return events

    def spec(self, kind: str, location: str, timeout_s: float) -> CommandSpec:
        """The command as the router has it."""
        is_told = bool(self.events or self.listen)
        return CommandSpec.model_validate(
            {
                "command": self.command,
                "prefix": "#",
                "description": self.description,
                "usage": self.usage,
                "level": self.level,
                "type": kind,
                "location_url": location,
                "timeout": self.timeout_s or timeout_s,
                "rate_limit": self.rate_limit,
                "trigger_type": "both" if is_told else "command",
                "event_types": self.events,
                "listen": self.listen,
                "subcommands": self.subcommands,
                "secret": self.secret,
            }
        )


class ModuleManifest(Strict):
    """What module.toml says."""

    name: ModuleName
    title: Annotated[Line, StringConstraints(max_length=60, strip_whitespace=True), AfterValidator(_check_seen)]
    version: Annotated[str, AfterValidator(_check_version)]
    description: Annotated[Line, AfterValidator(_check_seen)]
    long_description: Prose = ""
    author: Line = ""
    author_email: Annotated[str, shaped(r"^([^@\s]+@[^@\s]+)?$", "an e-mail address", max_length=254)] = ""
    website: Link = ""
    repository: Link = ""
    license: Line = ""
    category: Category = "other"
    tags: list[Tag] = Field(default_factory=list, max_length=10)
    icon_url: Link = ""
    screenshots: list[Link] = Field(default_factory=list, max_length=8)
    changelog: Prose = ""
    price: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False), AfterValidator(_check_price)] = 0
    currency: Annotated[str, shaped(r"^[A-Z]{3}$", "a currency of three letters, such as EUR")] = "USD"
    min_waddlebot_version: Annotated[str, AfterValidator(_check_version)] | None = None
    # The core module whose commands these may take the place of, if whoever installs it wants that.
    replaces: ModuleName | None = None
    permissions: list[Permission] = Field(default_factory=list, max_length=len(PERMISSIONS))
    hosts: Annotated[list[Annotated[str, AfterValidator(_check_host)]], Field(max_length=20)] = Field(
        default_factory=list
    )
    runtime: Runtime = Field(default_factory=Runtime)
    limits: Limits = Field(default_factory=Limits)
    commands: list[ModuleCommand] = Field(min_length=1, max_length=30)
    settings: Annotated[list[OwnSetting], Field(max_length=50), AfterValidator(check_names)] = Field(
        default_factory=list
    )

    @model_validator(mode="after")
    def _commands_fit(self) -> Self:
        if len({each.command for each in self.commands}) < len(self.commands):
            raise ValueError("two commands have one name")
        return self

    @property
    def asks(self) -> list[str]:
        """What whoever installs it agrees to: permissions, `host:…`, `event:…`, `listen:…`, and `elsewhere:…` where
        its code is not run by the fleet."""
        events = {each.value for command in self.commands for each in command.events}
        heard = {_heard(each) for command in self.commands for each in command.listen}
        elsewhere = [] if self.runtime.type == "local" else [f"elsewhere:{_whereabouts(self.runtime)}"]
        return [
            *(each for each in PERMISSIONS if each in self.permissions),
            *(f"host:{each}" for each in sorted(set(self.hosts))),
            *(f"event:{each}" for each in sorted(events)),
            *(f"listen:{each}" for each in sorted(heard)),
            *elsewhere,
        ]


def in_words(asked: Iterable[str]) -> list[str]:
    """What `asks` says, for people."""
    phrases = {
        "host": "connect to {}",
        "event": "be told of each {} here",
        "listen": "read lines of chat that {}",
        "elsewhere": "be run at {}, which is told what people ask it",
    }
    words = []
    for each in asked:
        kind, colon, what = each.partition(":")
        if kind == "listen":
            match, _, pattern = what.partition(":")
            what = HEARD[match].format(pattern)
        words.append(phrases[kind].format(what) if colon else PERMISSIONS[each])
    return words


def _heard(listener: Listener) -> str:
    pattern = listener.pattern if isinstance(listener.pattern, str) else f"{{{listener.pattern.setting}}}"
    return f"{listener.match}:{pattern}"


def _whereabouts(runtime: Runtime) -> str:
    if runtime.type == "webhook":
        host = re.match(r"https?://([^/?#]*)", runtime.url)
        return host[1] if host else runtime.url
    return {"lambda": "AWS Lambda", "openwhisk": "OpenWhisk"}[runtime.type]


# Reading a manifest


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a manifest, and where; a line of 0 is the whole file."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{MANIFEST}:{self.line}" if self.line else MANIFEST
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


def read_manifest(text: str | bytes) -> ModuleManifest:
    """Raises: BadManifest, whose details have each of the `problems` with its line."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if len(text) > MAX_MANIFEST_BYTES:
            raise _bad([Problem(0, "", f"It has more than {MAX_MANIFEST_BYTES // 1024} KB.")])
        text = text.replace("\r\n", "\n")
        if _nesting(text) > MAX_NESTING:
            raise _bad([Problem(0, "", f"Brackets are nested more than {MAX_NESTING} deep.")])
        told = tomllib.loads(text)
        if unreadable := list(_unreadable(told, ())):
            lines = find_lines(text)
            raise _bad([_problem(each, lines) for each in unreadable[:20]])
        return ModuleManifest.model_validate(told)
    except UnicodeDecodeError as err:
        raise _bad([Problem(0, "", "It is not UTF-8.")]) from err
    except tomllib.TOMLDecodeError as err:
        said = str(err)
        at = re.search(r"\(at line (\d+)", said)
        end = text.count("\n") + 1 if isinstance(text, str) else 0
        raise _bad([Problem(int(at[1]) if at else end, "", said)]) from err
    except ValidationError as err:
        assert isinstance(text, str)
        lines = find_lines(text)
        raise _bad([_problem(each, lines) for each in err.errors(include_url=False)[:20]]) from err


def _unreadable(told: Any, place: tuple[str | int, ...]) -> Iterator[dict[str, Any]]:
    """Texts that a database or a terminal cannot be given, or that are read as something else than what they are."""
    if isinstance(told, str) and NOT_IN_LOGS.search(told.replace("\t", " ")):
        yield {
            "loc": place,
            "type": "unreadable",
            "msg": "has what cannot be shown, or turns its order around",
        }
    elif isinstance(told, dict | list):
        for at, each in told.items() if isinstance(told, dict) else enumerate(told):
            yield from _unreadable(each, (*place, at))


def _bad(problems: list[Problem]) -> BadManifest:
    problems = sorted(problems, key=lambda each: each.line)
    return BadManifest(
        "\n".join(map(str, problems)),
        field=problems[0].field,
        line=problems[0].line,
        problems=[{"line": each.line, "field": each.field, "problem": each.message} for each in problems],
    )


def _problem(error: Mapping[str, Any], lines: Mapping[tuple[str | int, ...], int]) -> Problem:
    place = tuple(error["loc"])
    known = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 0)
    message = "There is no such field." if error["type"] == "extra_forbidden" else problem_of(cast(ErrorDetails, error))
    return Problem(known, ".".join(map(str, place)), message)


# Strings and comments, which may hold anything; what is left of a text has its brackets and line ends only.
OPAQUE = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*',
    re.DOTALL,
)
HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\- ]+?)\s*\]\]?\s*")
KEY = re.compile(r"\s*([A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=")


def _masked(text: str) -> str:
    return OPAQUE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _nesting(text: str) -> int:
    depth = deepest = 0
    for each in re.findall(r"[\[{}\]]", _masked(text)):
        depth += 1 if each in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def find_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Where each table and key of a TOML text stands, by the place that it has in what the text says."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    here: tuple[str | int, ...] = ()
    depth = 0
    for number, line in enumerate(_masked(text).split("\n"), 1):
        if depth == 0 and (header := HEADER.fullmatch(line)):
            here = _table(tuple(part.strip() for part in header[2].split(".")), header[1] == "[[", counts)
            lines[here] = number
            lines.setdefault(here[:1], number)
            continue
        if depth == 0 and (key := KEY.match(line)):
            lines[here + tuple(part.strip() for part in key[1].split("."))] = number
        depth = max(0, depth + sum(line.count(each) for each in "[{") - sum(line.count(each) for each in "]}"))
    return lines


def _table(names: tuple[str, ...], is_array: bool, counts: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """Where a header's table is: below the newest entry of each array that its name goes through."""
    place: tuple[str | int, ...] = ()
    for number, name in enumerate(names, 1):
        place = (*place, name)
        if is_array and number == len(names):
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


# Packages


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was looked through: nothing in it is a link or lies outside of its folder."""

    content: bytes
    files: dict[str, bytes]
    manifest: ModuleManifest

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def read_package(content: bytes) -> Package:
    """Look through a package and read its manifest.

    Raises: TooLarge; BadPackage; BadManifest.
    """
    if len(content) > MAX_PACKAGE_BYTES:
        raise TooLarge(f"A package has at most {MAX_PACKAGE_BYTES // 1024**2} MB; this has {len(content)} bytes.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = _unpack(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as err:
        raise BadPackage(f"This is not a zip that can be read: {err}.") from err
    if MANIFEST not in files:
        raise BadPackage(f"There is no {MANIFEST} at the top of the zip.")
    manifest = read_manifest(files[MANIFEST])
    if manifest.runtime.type == "local":
        _check_entry(manifest.runtime.entry, files)
    return Package(content, files, manifest)


def _unpack(archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise BadPackage(f"A package has at most {MAX_FILES} files; this has {len(entries)}.")
    files: dict[str, bytes] = {}
    seen: set[str] = set()
    left = MAX_UNPACKED_BYTES
    for entry in entries:
        name = _check_entry_name(entry)
        if name.casefold() in seen:
            raise BadPackage(f"{name[:80]} is in the zip twice.")
        seen.add(name.casefold())
        if entry.is_dir():
            continue
        # What the zip says of a file's size may be a lie; no more than is left is ever unpacked.
        with archive.open(entry) as packed:
            data = packed.read(left + 1)
        left -= len(data)
        if left < 0:
            raise TooLarge(f"A package has at most {MAX_UNPACKED_BYTES // 1024**2} MB when it is unpacked.")
        files[name] = data
    _check_no_file_is_folder(files)
    return files


def _check_entry_name(entry: zipfile.ZipInfo) -> str:
    # As it is written: the library changes what is in front of it.
    name = entry.orig_filename
    path = PurePosixPath(name)
    if (
        not name
        or len(name) > MAX_PATH_CHARS
        or not all(each.isprintable() for each in name)
        or path.is_absolute()
        or any(part in ("..", ".") for part in name.split("/"))
        or "//" in name
        or re.search(r"[\\:]", name)
    ):
        raise BadPackage(f"{name[:80]!r} is not a path in the module's own folder.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadPackage(f"{name[:80]} is a link or a device; only files are taken.")
    if entry.flag_bits & 0x1:
        raise BadPackage(f"{name[:80]} is encrypted.")
    if entry.compress_type not in COMPRESSIONS:
        raise BadPackage(f"{name[:80]} is compressed in another way than deflate.")
    return name


def _check_no_file_is_folder(files: Mapping[str, bytes]) -> None:
    for name in files:
        if any(str(parent) in files for parent in PurePosixPath(name).parents):
            raise BadPackage(f"{name[:80]} lies below a file.")


def _check_entry(entry: str, files: Mapping[str, bytes]) -> None:
    """The entry point is a function that is there, and its file is Python. Raises: BadPackage, naming the line."""
    module, _, function = entry.rpartition(".")
    path = module.replace(".", "/") + ".py"
    if path not in files:
        raise BadPackage(f"There is no {path}, where runtime.entry = {entry!r} says that it begins.")
    if b"\0" in files[path]:
        raise BadPackage(f"{path}: this is not Python: it has a null byte.")
    try:
        tree = ast.parse(files[path], filename=path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
        line = getattr(err, "lineno", None)
        why = str(err) or "it is nested too deep"
        raise BadPackage(f"{path}{f':{line}' if line else ''}: this is not Python: {why}.") from err
    if not any(function in _defines(each) for each in tree.body):
        raise BadPackage(f"{path} has no {function}(event, context).")


def _defines(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    return {each.id for each in ast.walk(statement) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


def pack(files: Mapping[str, bytes]) -> bytes:
    """The zip of these files, always the same for the same files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name], compress_type=zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def pack_folder(folder: Path) -> bytes:
    """The package of a module's folder: all that is in it but tests, hidden files and what tools leave behind.

    Raises: BadPackage for a link, or more than a package may hold.
    """
    files: dict[str, bytes] = {}
    left = MAX_UNPACKED_BYTES
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part in LEFT_OUT or part.startswith(".") for part in name.parts) or name.parts[0] == "tests":
            continue
        if path.is_symlink():
            raise BadPackage(f"{name} is a link; only files are taken.")
        if not path.is_file():
            continue
        left -= path.stat().st_size
        if left < 0 or len(files) >= MAX_FILES:
            raise BadPackage(f"A package has at most {MAX_FILES} files and {MAX_UNPACKED_BYTES // 1024**2} MB.")
        files[name.as_posix()] = path.read_bytes()
    return pack(files)
