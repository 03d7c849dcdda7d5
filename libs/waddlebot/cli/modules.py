"""What `waddlebot module` does: begin a module, look it through, publish it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from ..base.errors import ConfigError, Conflict
from ..fleet.home import Home
from ..module.package import MANIFEST, Package, pack_folder, read_manifest, read_package
from ..web.http import HTTPClient

TIMEOUT_S = 60.0
# What a new module is, a test of it included. `{name}` and `{title}` are put in.
FILES = {
    MANIFEST: """\
name = "{name}"
title = "{title}"
version = "0.1.0"
description = "Rolls dice"
license = "MIT"
category = "minigames"
changelog = "The first version."
permissions = []    # overlays, forms, private, state, reply_later
hosts = []          # what it calls, such as "api.example.org"

[runtime]
type = "local"
entry = "handler.handler"

[limits]
memory_mb = 64
cpu_s = 1
timeout_s = 5

[[commands]]
command = "{name}"
usage = "[2d6]"
description = "Roll some dice"
examples = ["#{name} 2d6"]
""",
    "handler.py": '''\
"""{title}: rolls dice."""

import random
import re

DICE = re.compile(r"([1-9][0-9]?)?d([1-9][0-9]{{0,2}})")


def handler(event, context):
    """Called for each command. `event` is a ModuleCall; what is returned is said."""
    words = event["trigger"]["args"]
    found = DICE.fullmatch(words[0].lower() if words else "d6")
    if found is None:
        return "Say how many dice with how many sides, such as 2d6."
    rolls = [random.randint(1, int(found[2])) for _ in range(int(found[1] or 1))]
    return f"{{' + '.join(map(str, rolls))}} = {{sum(rolls)}}" if len(rolls) > 1 else f"{{rolls[0]}}"
''',
    "tests/test_handler.py": '''\
"""Run it with: python -m pytest"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from handler import handler


def said(*words):
    return handler({{"trigger": {{"type": "command", "command": "{name}", "args": list(words)}}}}, None)


def test_one_die_has_six_sides():
    assert int(said()) in range(1, 7)


def test_several_dice_are_added_up():
    rolls, total = said("3d6").split(" = ")
    assert sum(map(int, rolls.split(" + "))) == int(total)


def test_anything_else_is_explained():
    assert "such as 2d6" in said("lots")
''',
}


def init(folder: Path, name: str) -> Path:
    """Make a module that works. Raises: Conflict when there is something; BadManifest for a name that cannot be."""
    files = {path: text.format(name=name, title=name.replace("_", " ").title()) for path, text in FILES.items()}
    read_manifest(files[MANIFEST])
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty.")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def build(folder: Path) -> Package:
    """The package of a folder, looked through. Raises: BadPackage; BadManifest; TooLarge; ConfigError."""
    if not (folder / MANIFEST).is_file():
        raise ConfigError(f"There is no {MANIFEST} in {folder}.")
    return read_package(pack_folder(folder))


def publish(home: Home, package: Package, *, url: str | None, key: str | None) -> dict[str, Any]:
    """Send a package to a fleet: that of the home, with the console's key, unless another is named.

    Raises: NoFleet; Conflict with the fleet's own words.
    """
    running = None if url else home.get_running()
    base = url or (running.modules.get("marketplace", running.url) if running else "")
    sent = key or (home.console_key() if running else None)
    if not sent:
        raise ConfigError("Say with which key to publish: --key, or WADDLEBOT_API_KEY.")
    response = HTTPClient().request(
        "POST",
        f"{base.rstrip('/')}/marketplace/modules",
        # As JSON: the client's library takes no body with a NUL in it.
        body=json.dumps({"package": base64.b64encode(package.content).decode()}).encode(),
        headers={"Content-Type": "application/json", "X-API-Key": sent},
        timeout_s=TIMEOUT_S,
    )
    answer: dict[str, Any] = response.json()
    if response.status != 200:
        raise Conflict(answer.get("error", {}).get("message") or f"The fleet answered HTTP {response.status}.")
    return answer
