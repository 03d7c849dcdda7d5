"""Hold the fleet to its own rules. `--fix` writes what is generated: the README's table of modules, who may call what
in docs/contracts.md, and what `scripts/generate` makes of the manifests.

- every module folder has a manifest and the files that each module has;
- a module imports itself relatively, and no other module;
- a command is one module's, unless all that have it share it by name, which a setting of the router decides;
- names, ports, prefixes and tables are each one module's; a module's tables are made by its own migrations;
- every endpoint that a controller declares has its callers in the manifest, once (tests/test_doors.py has the rest);
- a table with a column for a person names who forgets people in it, or why there is nobody to forget;
- simulators are for tests, demos and benchmarks: no module imports one;
- what runs for as long as its process does is watched (`libs/waddlebot/base/watched.py`), so it cannot end silently;
- a room of `libs/waddlebot` imports only those below it, and no file imports itself by way of others.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from waddlebot.base.errors import ConfigError
from waddlebot.base.manifest import Callers, Manifest, Open, Who, load_manifest
from waddlebot.base.text import fold
from waddlebot.data.migrate import FOLDER as MIGRATIONS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.generate import check_secrets, generated_files  # noqa: E402 - run by its path, this file finds its own folder only

FILES = ("__init__.py", "app.py", "config.py", "models.py", "manifest.toml", "README.md")
FOLDERS = ("controllers", "services", "tests")
BASE_PORT = 8000
PARAMETER = re.compile(r"<(\w+)(?::[^>]+)?>")
# Columns that have people in them: who somebody is, what they are called, and what came with them.
PERSON = re.compile(
    r"(.*_)?(user|own|login|owner|chatter|broadcaster|holder|subject|head)_id|(.*_)?(login|owner|user_name|display_name)"
    r"|platform_user_id|.*_by(_id)?|checked_out_to(_id)?|ip_address|user_agent"
    r"|event|event_data|request_payload|message_content|chat_message|response_data|reply|content|form|details|metadata"
    r"|(.*_)?name_hashes"
)
SECRET_ARGUMENT = re.compile(r"[<\[]([^>\]]*(?:mail|key|token|password|secret|credential)[^>\]]*)[>\]]", re.IGNORECASE)
TABLE_MADE = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+) \((.*?)^\)", re.MULTILINE | re.DOTALL)
TABLE_CHANGED = re.compile(r"^ALTER TABLE (\w+)(.*?);", re.MULTILINE | re.DOTALL)
# Whose tables have no manifest of their own are the router's to answer for.
CORE, ANSWERS_FOR_CORE = "core", "router"
# The rooms of libs/waddlebot, lowest first; `testing` stands beside them and may use all.
ROOMS = ("base", "data", "web", "community", "module", "sandbox", "collecting", "fleet", "cli")
STARTERS = ("Thread", "Timer", "start_new_thread", "create_task", "ensure_future")
NOT_WATCHED = re.compile(r"# not watched: \S")
TABLE = re.compile(r"(<!-- modules -->\n).*?(<!-- /modules -->)", re.DOTALL)
CALLERS_TABLE = re.compile(r"(<!-- callers -->\n).*?(<!-- /callers -->)", re.DOTALL)
WHO: dict[Who, str] = {
    "any": "any key but super-admins', for its module, platforms and community",
    "router": "the router's account",
    "collectors": "collectors, for their platforms and community",
    "claimers": "collectors, for their platforms; no keys of a community",
    "claim_readers": "collectors and admins, for their platforms; no keys of a community",
    "event_sources": "collectors, for their platforms and community; the portal with `mode: simulate` only",
    "services": "services, for executions of their own module",
    "announcers": "services, for their own module, platforms and community, where the module is on",
    "reporters": "collectors and services, for their platforms and community",
    "members": "collectors and services whose `module_name` it is; no keys of a community",
    "figures": "collectors and admins, for their platforms; no keys of a community",
    "community": "admins; api-users in their community",
    "switchers": "admins; api-users in their community; account `marketplace`",
    "owner": "admins; only the owner in the portal",
    "platform": "collectors of the platform; admins",
    "overlays": "account `browser_source_core`",
    "role_givers": "collectors of the platform; admins; account `labels_core`",
    "admins": "admins; no keys of a community",
    "operators": "admins; only operators in the portal; no keys of a community",
    "shoutouts": "collectors of the platform; admins; account `shoutout`",
    "super_admins": "super-admins",
    "portal": "account `portal`; for a person only an owner, in their community",
    "marketplace": "account `marketplace`",
    "module_host": "account `module_host`",
    "call": "no key; the token of a call",
}
OPEN: dict[Open, str] = {
    "webhook": "no key; the platform's signature",
    "page": "no key",
    "token": "no key; the token or link",
    "oauth": "no key; a state that works once, in the browser that it began in, within ten minutes",
    "health": "no key",
}


def main(fix: bool) -> int:
    try:
        manifests = sorted((load_manifest(folder) for folder in module_folders()), key=lambda each: each.port)
    except ConfigError as err:
        print(f"check_fleet: {err.message}")
        return 1
    problems = [*check_files(manifests), *check_unique(manifests), *check_tables(manifests), *check_imports(manifests)]
    problems += [*check_commands(manifests), *check_rooms(ROOT / "libs" / "waddlebot"), *check_circles(manifests)]
    problems += [*check_tests(ROOT), *check_handlers(manifests)]
    problems += check_watched([ROOT / "libs" / "waddlebot", *(each.folder for each in manifests)])
    problems += [*check_callers(manifests)]
    problems += check_people(manifests)
    problems += check_readme(manifests, fix=fix)
    problems += check_contracts(manifests, fix=fix)
    problems += check_secrets(manifests)
    problems += check_generated(generated_files(manifests), ROOT, fix=fix)
    for problem in problems:
        print(f"check_fleet: {problem}")
    return 1 if problems else 0


def module_folders() -> list[Path]:
    return sorted(path.parent for path in ROOT.glob("*/manifest.toml"))


def check_files(manifests: list[Manifest]) -> Iterator[str]:
    for folder in sorted(path for path in ROOT.glob("*_module") if path.is_dir()):
        if not (folder / "manifest.toml").exists():
            yield f"{folder.name}: has no manifest.toml"
    for manifest in manifests:
        for name in FILES:
            if not (manifest.folder / name).is_file():
                yield f"{manifest.package}: has no {name}"
        for name in FOLDERS:
            if not (manifest.folder / name).is_dir():
                yield f"{manifest.package}: has no folder {name}/"
    typed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["packages"]
    for missing in sorted({each.package for each in manifests} - set(typed)):
        yield f"{missing}: is not in [tool.mypy] packages of pyproject.toml, so nothing checks its types"


def check_unique(manifests: list[Manifest]) -> Iterator[str]:
    for what in ("name", "port", "prefix", "host"):
        values = Counter(str(getattr(manifest, what)) for manifest in manifests)
        yield from (f"two modules have {what} {value}" for value, count in values.items() if count > 1)
    tables = Counter(table for manifest in manifests for table in manifest.tables)
    yield from (f"two modules own table {table}" for table, count in tables.items() if count > 1)
    yield from (f"{each.package}: port {each.port} is below {BASE_PORT}" for each in manifests if each.port < BASE_PORT)


def check_tables(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        made = set(tables_made_by(manifest.name))
        yield from (f"{manifest.package}: no migration makes {name}" for name in sorted(set(manifest.tables) - made))
        yield from (f"{manifest.package}: manifest.toml lacks {name}" for name in sorted(made - set(manifest.tables)))


def tables_made_by(owner: str) -> Iterator[str]:
    for path in sorted((MIGRATIONS / owner).glob("*.sql")):
        yield from re.findall(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def check_commands(manifests: list[Manifest]) -> Iterator[str]:
    takers: dict[str, dict[str, str]] = {}
    for manifest in manifests:
        for spec in manifest.commands:
            if spec.description[:1].islower():
                yield f"{manifest.package}: the description of {spec.prefix}{spec.command} begins small in !help"
            for form in (spec, *spec.subcommands):
                for each in sorted({*SECRET_ARGUMENT.findall(form.usage)} - {*form.secret}):
                    yield f"{manifest.package}: {spec.prefix}{spec.command} takes <{each}>, which has to be `secret`"
            takers.setdefault(spec.prefix + fold(spec.command), {})[manifest.name] = spec.shared
    turns = {spec.name: spec.choices for each in manifests if each.name == "router" for spec in each.settings}
    for name, found in sorted(takers.items()):
        if len(found) > 1 and ("" in found.values() or len(set(found.values())) > 1):
            yield f"{', '.join(found)} have command {name}; name one `shared` group for it in each, or rename it"
        for module, shared in found.items():
            if shared and module not in turns.get(shared, ()):
                yield f"{module} shares {name}, but no setting {shared} of the router can name it"


def check_callers(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        listed = [name for row in [*manifest.standard_callers, *manifest.callers] for name in row.endpoints]
        yield from (f"{manifest.package}: {name} stands in two callers" for name, n in Counter(listed).items() if n > 1)
        for path in sorted((manifest.folder / "controllers").rglob("*.py")):
            for line, name in endpoints_of(path):
                if name not in listed:
                    yield f"{shown(path)}:{line}: {name} has no [[callers]] in manifest.toml"


def endpoints_of(path: Path) -> Iterator[tuple[int, str]]:
    """The endpoints that a controller declares, where method and path are written out."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "endpoint":
            method, where = node.args[:2]
            if isinstance(method, ast.Constant) and isinstance(where, ast.Constant):
                path_as_documented = PARAMETER.sub(r"{\1}", str(where.value))
                yield node.lineno, f"{method.value} {path_as_documented}"


def check_people(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        owners = [manifest.name, *([CORE] if manifest.name == ANSWERS_FOR_CORE else [])]
        columns: dict[str, set[str]] = {}
        for owner in owners:
            columns |= columns_made_by(owner)
        for table, names in sorted(columns.items()):
            people = sorted(name for name in names if PERSON.fullmatch(name))
            if people and table not in manifest.people:
                yield (
                    f"{manifest.package}: {table} has people in it ({', '.join(people)}); say in [people] of"
                    ' manifest.toml whether it is "erased", "kept: <why>" or "none: <why>"'
                )
        for table in sorted(set(manifest.people) - set(columns)):
            yield f"{manifest.package}: [people] of manifest.toml names {table}, which is not there"


def columns_made_by(owner: str) -> dict[str, set[str]]:
    """The columns of each table that an owner's migrations make, and have not dropped again."""
    columns: dict[str, set[str]] = {}
    for path in sorted((MIGRATIONS / owner).glob("*.sql")):
        sql = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
        for table, body in TABLE_MADE.findall(sql):
            columns[table] = set(re.findall(r"^    ([a-z]\w*) ", body, re.MULTILINE))
        for table, changes in TABLE_CHANGED.findall(sql):
            columns.setdefault(table, set()).update(re.findall(r"ADD COLUMN (?:IF NOT EXISTS )?(\w+)", changes))
            columns[table].difference_update(re.findall(r"DROP COLUMN (?:IF EXISTS )?(\w+)", changes))
    return columns


def check_imports(manifests: list[Manifest]) -> Iterator[str]:
    modules = {manifest.package for manifest in manifests}
    for manifest in manifests:
        for path in sorted(manifest.folder.rglob("*.py")):
            if "tests" in path.relative_to(manifest.folder).parts:
                continue
            for line, name in imports_of(path):
                head = name.split(".")[0]
                where = f"{path.relative_to(ROOT)}:{line}"
                if head == manifest.package or head == "apps":
                    yield f"{where}: imports itself as {name}; use a relative import"
                elif head in modules:
                    yield f"{where}: imports another module, {head}; modules talk HTTP"
                elif head in ("simulators", "tests", "bench"):
                    yield f"{where}: imports {head}, which is no part of a module"


def check_rooms(package: Path) -> Iterator[str]:
    known = [*ROOMS, "testing"]
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        if parts[0] not in known:
            if path.name != "__init__.py":
                yield f"{shown(path)}: is in no room; the rooms are {', '.join(known)}"
            continue
        for line, other in sorted(files_imported_by(path, package)):
            room = other.relative_to(package).parts[0]
            if room in known and known.index(room) > known.index(parts[0]):
                yield f"{shown(path)}:{line}: {parts[0]}/ imports {room}/, which stands above it"


def check_watched(folders: list[Path]) -> Iterator[str]:
    """What starts a thread or a task by itself says on its line, or on the one above, why nobody need watch it."""
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        if {"tests", "testing"} & set(path.parts) or path.name == "watched.py":
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(parse(text, str(path))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] not in STARTERS:
                continue
            if not any(NOT_WATCHED.search(line) for line in lines[max(0, node.lineno - 2) : node.lineno]):
                yield f"{shown(path)}:{node.lineno}: starts what nobody watches; use Watched, or say why not"


def check_circles(manifests: list[Manifest]) -> Iterator[str]:
    packages = [ROOT / "libs" / "waddlebot", *(each.folder for each in manifests), ROOT / "simulators"]
    for package in packages:
        graph = {
            path: {other for _, other in files_imported_by(path, package) if other != path}
            for path in package.rglob("*.py")
            if "tests" not in path.relative_to(package).parts
        }
        for circle in circles(graph):
            yield f"{shown(package)}: these import each other: {', '.join(sorted(shown(path) for path in circle))}"


def circles(graph: dict[Path, set[Path]]) -> list[set[Path]]:
    """The groups of files that import each other, directly or not."""
    reached: dict[Path, set[Path]] = {}
    for start in graph:
        seen: set[Path] = set()
        waiting = [start]
        while waiting:
            for other in graph.get(waiting.pop(), set()) - seen:
                seen.add(other)
                waiting.append(other)
        reached[start] = seen
    found: list[set[Path]] = []
    for path, others in reached.items():
        if path in others and not any(path in circle for circle in found):
            found.append({other for other in others if path in reached.get(other, set())})
    return found


def files_imported_by(path: Path, package: Path) -> Iterator[tuple[int, Path]]:
    """The files of a package that one of its files imports, however it spells that; what only types need is not."""
    for node in runtime_imports(tree_of(path)):
        for name in names_of(node, path, package):
            for found in (name.with_suffix(".py"), name / "__init__.py"):
                if found.is_file():
                    yield node.lineno, found


def tree_of(path: Path) -> ast.Module:
    return parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def parse(text: str, name: str) -> ast.Module:
    return ast.parse(text, name)


@functools.cache
def runtime_imports(tree: ast.AST) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(_runtime_imports(tree))


def _runtime_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.expr):
            yield from _runtime_imports(node)


def names_of(node: ast.Import | ast.ImportFrom, path: Path, package: Path) -> Iterator[Path]:
    """Where the modules that an import names would be, without `.py`."""
    if isinstance(node, ast.ImportFrom) and node.level:
        base = path.parents[node.level - 1]
    elif isinstance(node, ast.ImportFrom):
        base = package.parent
    else:
        yield from (package.parent.joinpath(*alias.name.split(".")) for alias in node.names)
        return
    base = base.joinpath(*node.module.split(".")) if node.module else base
    inside = [base / alias.name for alias in node.names]
    parts = [each for each in inside if each.is_dir() or each.with_suffix(".py").is_file()]
    # A package itself is only used by what takes a name that its __init__.py defines.
    yield from parts if len(parts) == len(inside) else [base, *parts]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def check_tests(root: Path) -> Iterator[str]:
    """Tests that nothing runs."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    run = {folder for pattern in settings["testpaths"] for folder in root.glob(pattern)}
    for path in sorted(root.rglob("test_*.py")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and not run & set(path.parents):
            yield f"{path.relative_to(root)}: no test run finds it; see testpaths in pyproject.toml"


def check_handlers(manifests: list[Manifest]) -> Iterator[str]:
    """Words of chat are text: a handler that asks for anything else would get text all the same."""
    for manifest in manifests:
        for path in sorted((manifest.folder / "controllers").glob("*.py")):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    yield from (f"{shown(path)}:{node.lineno}: {problem}" for problem in wrong_words(node))


def wrong_words(function: ast.FunctionDef) -> Iterator[str]:
    arguments = [each for each in function.args.args if each.arg != "self"]
    if not arguments or shown_type(arguments[0]) not in ("Call", "OutsideCall"):
        return
    for each in [*arguments[1:], *([function.args.vararg] if function.args.vararg else [])]:
        if shown_type(each) not in ("str", "str | None"):
            yield f"{function.name} takes {each.arg} as {shown_type(each)}; words are str"


def shown_type(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation else "nothing"


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


def check_contracts(manifests: list[Manifest], *, fix: bool) -> list[str]:
    rows = ["| endpoint | who | portal |", "|---|---|---|", *standard_rows(manifests)]
    rows += [row_of(each) for manifest in manifests for each in manifest.callers]
    return write_table(ROOT / "docs" / "contracts.md", CALLERS_TABLE, rows, fix=fix)


def standard_rows(manifests: list[Manifest]) -> Iterator[str]:
    """What the library serves for every module that has it, once."""
    written = set()
    for manifest in manifests:
        for each in manifest.standard_callers:
            names = [name.replace(f" {manifest.prefix}/", " <prefix>/") for name in each.endpoints]
            row = row_of(each, names)
            if row not in written:
                written.add(row)
                yield row


def row_of(each: Callers, names: list[str] | None = None) -> str:
    who = WHO[each.who] if each.who else OPEN[each.open] if each.open else ""
    return f"| {', '.join(f'`{name}`' for name in names or each.endpoints)} | {who} | {each.area or ''} |"


def check_readme(manifests: list[Manifest], *, fix: bool) -> list[str]:
    rows = ["| module | what it is | port | routes |", "|---|---|---|---|"]
    rows += [f"| [{m.package}]({m.package}) | {m.title} | {m.port} | `{m.prefix}` |" for m in manifests]
    return write_table(ROOT / "README.md", TABLE, rows, fix=fix)


def check_generated(wanted: dict[str, str], root: Path, *, fix: bool) -> Iterator[str]:
    """Files that are made of the manifests as a whole, by their place in the checkout."""
    for name, text in wanted.items():
        path = root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if fix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        else:
            yield f"{name}: is out of date; run make fmt"


def write_table(path: Path, table: re.Pattern[str], rows: list[str], *, fix: bool) -> list[str]:
    text = path.read_text(encoding="utf-8")
    wanted = table.sub(lambda found: found[1] + "\n".join(rows) + "\n" + found[2], text)
    if wanted == text:
        return []
    if fix:
        path.write_text(wanted, encoding="utf-8")
        return []
    return [f"{shown(path)}: a generated table is out of date; run make fmt"]


if __name__ == "__main__":
    sys.exit(main(fix="--fix" in sys.argv[1:]))
