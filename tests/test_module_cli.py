"""`waddlebot module init|validate|publish`, as a new author uses it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner
from waddlebot.cli import modules
from waddlebot.cli.cli import cli
from waddlebot.module.package import read_package


def run(*words):
    return CliRunner().invoke(cli, ["module", *map(str, words)])


@pytest.fixture
def dice(tmp_path):
    assert run("init", "dice", "--into", tmp_path).exit_code == 0
    return tmp_path / "dice"


def test_a_new_module_is_valid_and_its_own_test_passes(dice):
    checked = run("validate", dice)
    assert checked.exit_code == 0, checked.output
    assert "dice 0.1.0: 2 files" in checked.output
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    tested = subprocess.run(command, cwd=dice, capture_output=True, text=True, check=False)
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr
    # What tests leave behind is not packed.
    assert set(modules.build(dice).files) == {"module.toml", "handler.py"}
    assert modules.build(dice).sha256 == modules.build(dice).sha256


def test_what_is_wrong_is_said_with_its_line(dice):
    manifest = dice / "module.toml"
    manifest.write_text(manifest.read_text().replace('version = "0.1.0"', 'version = "one"'))
    checked = run("validate", dice)
    assert checked.exit_code == 1
    assert "module.toml:3: version: must be a semantic version" in checked.output
    (dice / "handler.py").write_text("def handler(:\n")
    manifest.write_text(manifest.read_text().replace("one", "0.1.0"))
    assert "handler.py:1: this is not Python" in run("validate", dice).output
    (dice / "handler.py").unlink()
    (dice / "handler.py").symlink_to("/etc/passwd")
    assert "is a link" in run("validate", dice).output
    assert run("validate", dice.parent).exit_code == 1


def test_init_overwrites_nothing_and_takes_no_name_that_cannot_be(dice):
    before = (dice / "handler.py").read_text()
    again = run("init", "dice", "--into", dice.parent)
    assert (again.exit_code, (dice / "handler.py").read_text()) == (1, before)
    refused = run("init", "not-a-name", "--into", dice.parent)
    assert refused.exit_code == 1
    assert "module.toml:1: name: Has to be a name of small letters, digits and _" in refused.output
    assert run("init", "Not A Name", "--into", dice.parent).exit_code == 1
    assert not (dice.parent / "Not A Name").exists()


def test_init_takes_a_path_as_well(tmp_path):
    assert run("init", f"{tmp_path}/below/cards/").exit_code == 0
    assert modules.build(tmp_path / "below" / "cards").manifest.name == "cards"


def test_publishing_says_what_is_missing(dice, tmp_path):
    published = run("publish", dice, "--home", tmp_path / "none")
    assert published.exit_code == 2
    assert "No fleet is running" in published.output
    assert run("publish", dice, "--url", "http://127.0.0.1:9").exit_code == 1


def test_the_package_of_a_folder_is_the_package_that_is_read(dice):
    package = modules.build(dice)
    assert read_package(package.content).manifest == package.manifest
