"""Names that look like others. A command that reads as another one is how a stranger's module would be believed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from pydal import DAL
from waddlebot.base.errors import Conflict
from waddlebot.base.manifest import all_manifests
from waddlebot.base.text import at_a_glance, fold
from waddlebot.data.database import fetch
from waddlebot.module.package import ANYBODYS, ModuleManifest

# One letter off is a mistyped name from so many letters on; shorter names are other words.
CLOSE_FROM_CHARS = 5
# Digits that are written for letters, i, which is read as l, and Cyrillic letters that look like a small Latin one or a
# small capital. 0 and 1 are read as letters everywhere.
WRITTEN_FOR = str.maketrans("i3456789квмнт", "leasbtbgkbmht")
# Letters of their own that are read as the plain one: ł and ø, which are no letter with a mark to Unicode, and ʜ.
NEARLY = re.compile(r"LATIN (?:SMALL LETTER|LETTER SMALL CAPITAL) ([A-Z])(?: WITH .*)?")


class NameTaken(Conflict):
    """That name is somebody else's."""

    code = "name_taken"


class Imitates(Conflict):
    """That name looks like another one. Choose one that nobody can mistake."""

    code = "name_imitates"


def look_of(name: str) -> str:
    """A name as it looks at a glance, whatever stands between its letters: names with one look may be taken for each
    other."""
    plain = name if name.isascii() else "".join(map(_plain, fold(name)))
    read = re.sub(r"[\W_]+", "", at_a_glance(plain)).translate(WRITTEN_FOR)
    return read.replace("cl", "d")


def _plain(letter: str) -> str:
    found = NEARLY.fullmatch(unicodedata.name(letter, ""))
    return found[1].lower() if found else letter


def is_close(name: str, other: str) -> bool:
    """Whether two names look alike, or are one letter apart: one more, one less, another one, or two swapped."""
    ours, theirs = look_of(name), look_of(other)
    if ours == theirs:
        return True
    if min(len(ours), len(theirs)) < CLOSE_FROM_CHARS or abs(len(ours) - len(theirs)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    rest, other_rest = ours[start:], theirs[start:]
    return (
        rest[1:] == other_rest[1:]
        or rest == other_rest[1:]
        or rest[1:] == other_rest
        or (rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:])
    )


def mixes_scripts(name: str) -> bool:
    """Whether Latin letters stand among others: no language does that, but whoever imitates."""
    scripts = {unicodedata.name(each, "?").split()[0] for each in name if each.isalpha()}
    return "LATIN" in scripts and len(scripts) > 1


def check_names(db: DAL, manifest: ModuleManifest, publisher: str) -> None:
    """Raises: NameTaken; Imitates, naming what is imitated."""
    core = {name for each in all_manifests() for name in (each.name, each.package)}
    if manifest.name in core:
        raise NameTaken(f"{manifest.name} is the name of a core module.")
    _check_core(manifest.name, core, "module")
    _check_replaces(manifest)
    _check_title(manifest)
    known = fetch(
        db,
        "SELECT module_id FROM marketplace_modules WHERE skeleton = %s AND module_id <> %s",
        (look_of(manifest.name), manifest.name),
    )
    if known:
        imitated = known[0]["module_id"]
        raise Imitates(f"{manifest.name} looks like the module {imitated}.", imitates=imitated)
    for command in manifest.commands:
        _check_command(db, command.command, manifest, publisher)


def core_commands() -> dict[str, str]:
    """The commands of this checkout's modules, each with its module, but for those that are anybody's."""
    named = {fold(spec.command): each.name for each in all_manifests() for spec in each.commands}
    return {command: module for command, module in named.items() if command not in ANYBODYS}


def _check_replaces(manifest: ModuleManifest) -> None:
    if manifest.replaces is not None and manifest.replaces not in core_commands().values():
        raise Conflict(f"replaces: {manifest.replaces} is no core module with commands.", field="replaces")


def _check_title(manifest: ModuleManifest) -> None:
    """What people read in the store is no core module's, either, but for one that stands in for it."""
    look = look_of(manifest.title)
    for each in all_manifests():
        if look in (look_of(each.title), look_of(each.name)) and each.name != manifest.replaces:
            raise Imitates(f"“{manifest.title}” is read as the core module {each.title}.", imitates=each.name)


def _check_command(db: DAL, command: str, manifest: ModuleManifest, publisher: str) -> None:
    if mixes_scripts(command):
        raise Imitates(f"#{command} mixes letters of several alphabets.")
    core = core_commands()
    if command in core:
        if core[command] != manifest.replaces:
            module = core[command]
            raise Imitates(
                f'#{command} is a command of the core module {module}. To take its place say replaces = "{module}".',
                imitates=module,
            )
        return
    _check_core(command, core, "command")
    known = fetch(
        db,
        "SELECT c.command, c.module_id FROM module_commands c JOIN marketplace_modules m USING (module_id)"
        " WHERE c.skeleton = %s AND c.command <> %s AND m.publisher <> %s LIMIT 1",
        (look_of(command), command, publisher),
    )
    if known:
        row = known[0]
        raise Imitates(f"#{command} looks like #{row['command']} of {row['module_id']}.", imitates=row["module_id"])


def _check_core(name: str, core: Iterable[str], what: str) -> None:
    imitated = next((each for each in sorted(core) if is_close(name, each)), None)
    if imitated is not None:
        raise Imitates(f"{name} looks like the core {what} {imitated}.", imitates=imitated)
