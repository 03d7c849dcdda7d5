"""What the tests of all modules ask of this one (waddlebot.testing.owed)."""

from __future__ import annotations

from typing import Any

from waddlebot.base.ids import new_id

PREFIX = "/broker"
ROOT = "doors-root"


def furnish(world: Any) -> dict[str, Any]:
    """Somebody to look at, of whom there are always others."""
    key = world.fleet.make_key(new_id(), "super-admins")
    for username in (ROOT, "doors-admin", "doors-away"):
        made = world.fleet.request(
            "POST", "/broker/super-admins", {"username": username}, key=None, headers={"X-Broker-Key": key}
        )
        assert made.status in (201, 409), made.body
    backup = world.fleet.request("POST", "/broker/backup", key=None, headers={"X-Broker-Key": key})
    assert backup.status == 200, backup.body
    return {"username": "doors-admin", "backup": backup.json()["backup"]["content"]}


def _programs_key(world: Any) -> dict[str, Any]:
    return {"body": {"api_key": world.fleet.make_key(new_id(), "api-users", community_id=world.mine.community_id)}}


SAMPLES = {
    f"{method} {door}/{path}": sample
    for door in ("/broker", "/api/broker/v1")
    for method, path, sample in [
        ("POST", "super-admins", lambda world: {"body": {"username": f"doors-{new_id()}"}}),
        ("PUT", "super-admins/{username}", lambda world: {"body": {"notes": "hello"}}),
        ("POST", "super-admins/{username}/regenerate-key", lambda world: {"body": {"overlap_s": 0}}),
        *(
            ("POST", path, lambda world: {"body": {}})
            for path in (
                *(f"super-admins/{{username}}/{each}" for each in ("deactivate", "reactivate", "verification")),
                "reconcile",
                "backup",
            )
        ),
        ("POST", "kong/keys", _programs_key),
        ("POST", "restore", lambda world: {"body": {"content": world.found["backup"]}}),
    ]
} | {"POST /broker/programs": _programs_key}
