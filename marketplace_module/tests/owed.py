"""What the tests of all modules have to know of the marketplace."""

from __future__ import annotations

import os
from typing import Any

from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch

PREFIX = "/marketplace"
# One installation.
CARRIED = 1
LETTERS = str.maketrans("0123456789abcdef", "bcdfghjkmnpqstvx")


def _name() -> str:
    return "o" + new_id().replace("-", "")[-14:].translate(LETTERS)


def _manifest(name: str, version: str = "1.0.0") -> str:
    url = f"http://{os.environ['EGRESS_ALLOW'].split(',')[0]}/run"
    return f"""name = "{name}"
title = "Owed"
version = "{version}"
description = "What tests of all modules want"
runtime = {{ type = "webhook", url = "{url}" }}
commands = [{{ command = "{name}" }}]
"""


def _publish(fleet: Any, name: str, version: str = "1.0.0") -> str:
    answer = fleet.request("POST", "/marketplace/modules", {"manifest": _manifest(name, version)}, key="admin")
    assert answer.status == 200, answer.body
    return str(answer.json()["sha256"])


def _install(bot: Any, name: str) -> None:
    body = {"module_id": name, "community_id": bot.slug}
    answer = bot.fleet.request("POST", "/marketplace/install", body, key="admin")
    assert answer.status == 200, answer.body


def furnish(world: Any) -> dict[str, Any]:
    """A module in two versions that was used here, and one to take away."""
    name, other = _name(), _name()
    _publish(world.fleet, name, "0.9.0")
    sha256 = _publish(world.fleet, name)
    _publish(world.fleet, other)
    for each in (name, other):
        _install(world.mine, each)
    with world.fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO command_executions (execution_id, session_id, platform, module_name, command, entity_id,"
            " community_id, user_id, status) VALUES (%s, %s, 'console', %s, %s, %s, %s, 1, 'success')",
            (new_id(), new_id(), name, f"#{name}", world.entity_id, world.mine.community_id),
        )
    with world.fleet.database.transaction() as db:
        (review,) = fetch(
            db,
            "INSERT INTO module_reviews (module_id, reviewer, rating) VALUES (%s, 'nobody', 3) RETURNING id",
            (name,),
        )
        (report,) = fetch(
            db,
            "INSERT INTO module_reports (module_id, reporter, reason) VALUES (%s, 'nobody', 'spam') RETURNING id",
            (name,),
        )
    things = {"module_id": name, "module_to_end": other, "sha256": sha256, "version": "1.0.0", "key": "count"}
    return {**things, "review_id": review["id"], "report_id": report["id"]}


def carry(bot: Any) -> None:
    name = _name()
    _publish(bot.fleet, name)
    _install(bot, name)


def _here(**more: Any) -> Any:
    return lambda world: {"body": {"community_id": world.mine.slug, **more}}


def _at() -> Any:
    return lambda world: {"query": {"community_id": world.mine.slug}}


def _module(field: str = "module_id", **more: Any) -> Any:
    return lambda world: {"body": {"community_id": world.mine.slug, "module_id": world.found[field], **more}}


SAMPLES: dict[str, Any] = {
    "GET /marketplace/browse": _at(),
    "GET /marketplace/search": lambda _: {"query": {"q": "ow"}},
    "GET /marketplace/subscriptions": _at(),
    "GET /marketplace/module/{module_id}/stats": _at(),
    "POST /marketplace/module/{module_id}/reviews": _here(rating=4, title="Fine"),
    "POST /marketplace/module/{module_id}/reports": _here(reason="spam"),
    "POST /marketplace/modules": lambda world: {
        "body": {"community_id": world.mine.slug, "manifest": _manifest(_name())}
    },
    "POST /marketplace/install": _module(),
    "POST /marketplace/uninstall": _module("module_to_end"),
    "POST /marketplace/entity/{entity_id}/toggle": lambda world: {
        "body": {"module_id": world.found["module_id"], "enabled": True}
    },
    "POST /marketplace/module/{module_id}/approve": lambda _: {"body": {"version": "1.0.0"}},
    "POST /marketplace/module/{module_id}/reject": lambda _: {"body": {"version": "0.9.0"}},
    "POST /marketplace/module/{module_id}/takedown": lambda _: {"body": {"reason": "It spams"}},
    "POST /marketplace/reports/{report_id}/resolve": lambda _: {"body": {"resolution": "Seen to"}},
    "POST /marketplace/module/{module_id}/verify": lambda _: {"body": {"verified": True}},
    "PUT /marketplace/state/{key}": lambda _: {"body": {"value": 1}},
    "PUT /router/modules/{name}/versions/{version}": lambda _: {"body": {"commands": []}},
}
