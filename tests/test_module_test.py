"""`waddlebot module test`, as an author types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "community_modules"
MANIFEST = """
name = "dice"
title = "Dice"
version = "1.0.0"
description = "Rolls dice"
[limits]
timeout_s = 1
[[commands]]
command = "dice"
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waddlebot.cli.cli", "module", "test", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def dice(tmp_path):
    def write(body: str, **files: str) -> Path:
        (tmp_path / "module.toml").write_text(files.get("manifest", MANIFEST))
        (tmp_path / "handler.py").write_text(f"def handler(event, context):\n    {body}\n")
        return tmp_path

    return write


def test_the_examples_of_a_manifest_are_tried_in_one_community():
    tried = run(EXAMPLES / "quote")

    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert tried.stdout.splitlines() == [
        "#quote",
        "  There are none yet. Try: #quote add TEXT",
        "#quote 3",
        "  There is no quote 3.",
        "#quote add It works on my machine",
        "  Kept as quote 1.",
    ]
    assert "behind Landlock" in tried.stderr


def test_lines_of_ones_own_are_tried_and_state_lasts():
    tried = run(EXAMPLES / "quote", "#quote add Ship it", "#QUOTE 1")

    assert tried.stdout.splitlines()[1::2] == ["  Kept as quote 1.", "  Quote 1: Ship it"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no dice')", "ValueError: no dice"),
        ("return 6", "This is no reply"),
        ("open('/etc/passwd')", "PermissionError"),
        ("import time; time.sleep(60)", "Task timed out after 1.00 seconds"),
        ("import no_such_thing", "ModuleNotFoundError"),
        ("import socket; socket.create_connection(('example.org', 443))", "not let through to example.org:443"),
    ],
)
def test_what_would_fail_in_a_community_fails_here(dice, body, said):
    tried = run(dice(body), "#dice 2d6")

    assert tried.returncode == 1
    assert said in tried.stdout


def test_what_it_prints_is_shown(dice):
    assert "printed: ['2d6']" in run(dice("print(event['trigger']['args'])"), "#dice 2d6").stdout


@pytest.mark.parametrize(
    ("manifest", "lines", "said"),
    [
        (MANIFEST, ["#cards"], "calls none of this module's commands: #dice"),
        (MANIFEST, [], "There is nothing to try"),
        (MANIFEST.replace("Dice", ""), ["#dice"], "module.toml:3"),
    ],
)
def test_what_cannot_be_tried_says_why(dice, manifest, lines, said):
    tried = run(dice("return 'x'", manifest=manifest), *lines)

    assert tried.returncode == 1
    assert said in tried.stderr
