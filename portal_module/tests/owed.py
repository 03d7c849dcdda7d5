"""What the portal owes the tests of all modules."""

from __future__ import annotations

from typing import Any

PREFIX = "/portal"
HELLO = {"name": "commands.csv", "content": "name,message\n!doors,hello\n"}


def _import(world: Any, *, apply: bool = False) -> dict[str, Any]:
    return {"source": "nightbot", "files": [HELLO], "community_id": world.mine.slug, "apply": apply}


def furnish(world: Any) -> dict[str, Any]:
    """An import to take back."""
    made = world.fleet.request("POST", "/portal/imports", _import(world, apply=True), key="admin")
    assert made.status == 200, made.body
    return {"import_id": made.json()["import_id"]}


SAMPLES: dict[str, Any] = {
    "POST /portal/links": lambda world: {"body": {"email": "pip@example.org"}},
    "POST /portal/imports": lambda world: {"body": _import(world)},
    "POST /portal/imports/undo": lambda world: {"body": {"import_id": world.found["import_id"]}},
}
CARRIED = 0
