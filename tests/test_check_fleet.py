"""`scripts/check_fleet.py`, with faults planted where it looks."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
from waddlebot.base.manifest import CHECKOUT, all_manifests


@pytest.fixture(scope="module")
def checker():
    spec = importlib.util.spec_from_file_location("check_fleet", CHECKOUT / "scripts" / "check_fleet.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "from ..web.http import HTTPClient",
        "from ..web import http",
        "from waddlebot.web.http import HTTPClient",
        "import waddlebot.web.http",
        "def late():\n    from ..web.http import HTTPClient\n",
    ],
)
def test_an_import_of_a_room_above_is_found(checker, tmp_path, line):
    package = write(tmp_path / "waddlebot", base__errors=line, web__http="HTTPClient = 1")
    (found,) = set(checker.check_rooms(package))
    assert "base/ imports web/" in found


def test_an_import_of_a_room_below_and_one_for_types_only_are_fine(checker, tmp_path):
    package = write(
        tmp_path / "waddlebot",
        base__errors="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..web.http import HTTPClient",
        web__http="from ..base.errors import TYPE_CHECKING\nHTTPClient = 1",
    )
    assert list(checker.check_rooms(package)) == []


def test_files_that_import_each_other_are_found(checker, tmp_path):
    package = write(tmp_path / "x", a="from .b import it", b="from . import c", c="from x.a import it", d="import x.a")
    graph = {path: {other for _, other in checker.files_imported_by(path, package)} for path in package.rglob("*.py")}
    (circle,) = checker.circles(graph)
    assert {path.stem for path in circle} == {"a", "b", "c"}


def test_a_test_that_nothing_runs_is_found(checker, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\ntestpaths = ["tests", "*_module/tests"]\n')
    write(tmp_path, tests__test_a="", x_module__tests__test_b="", x_module__test_c="", libs__test_d="")
    assert [each.split(":")[0] for each in checker.check_tests(tmp_path)] == ["libs/test_d.py", "x_module/test_c.py"]


@pytest.mark.parametrize("words", ["sides: int", "*names: int", "sides", "sides: str, more: bool = False"])
def test_a_handler_whose_words_are_not_text_is_found(checker, words):
    (function,) = ast.parse(f"def roll(self, call: Call, {words}) -> str: ...").body
    assert list(checker.wrong_words(function))


@pytest.mark.parametrize("words", ["sides: str = '6'", "*names: str", "name: str | None = None"])
def test_a_handler_whose_words_are_text_is_fine(checker, words):
    (function,) = ast.parse(f"def roll(self, call: Call, {words}) -> str: ...").body
    assert list(checker.wrong_words(function)) == []


def test_a_command_that_begins_small_in_help_and_one_of_two_modules_are_found(checker):
    inventory = next(each for each in all_manifests() if each.name == "inventory")
    (spec, *_) = inventory.commands
    small = spec.model_copy(update={"description": "what is here"})
    other = inventory.model_copy(update={"name": "other", "commands": [small]})
    found = list(checker.check_commands([inventory, other]))
    assert any("begins small" in each for each in found)
    assert any("inventory, other have command !inventory" in each for each in found)
    assert list(checker.check_commands([inventory])) == []


def test_an_argument_that_has_to_be_secret_is_found(checker):
    portal = next(each for each in all_manifests() if each.name == "portal")
    specs = [
        spec.model_copy(update={"subcommands": [each.model_copy(update={"secret": []}) for each in spec.subcommands]})
        for spec in portal.commands
    ]
    (found,) = checker.check_commands([portal.model_copy(update={"commands": specs})])
    assert found == "portal_module: !community takes <email>, which has to be `secret`"
    assert list(checker.check_commands([portal])) == []


def test_a_module_whose_types_nobody_checks_is_found(checker):
    known = all_manifests()[0]
    manifest = type(known).model_validate({**known.model_dump(), "folder": CHECKOUT / "dice_module"})
    assert any(problem.startswith("dice_module: is not in [tool.mypy]") for problem in checker.check_files([manifest]))
