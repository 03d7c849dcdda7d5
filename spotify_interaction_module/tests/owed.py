"""What the tests of all modules want to know of this one (waddlebot.testing.owed)."""

from __future__ import annotations

from typing import Any

from waddlebot.data.database import fetch

PREFIX = "/spotify"


def _here(**more: Any) -> Any:
    return lambda world: {"body": {"community_id": world.mine.slug, **more}}


def _at(world: Any) -> dict[str, Any]:
    return {"query": {"community_id": world.mine.slug}}


SAMPLES = {
    "GET /spotify/now-playing": _at,
    "GET /spotify/devices": _at,
    "GET /spotify/history": _at,
    "GET /spotify/account": _at,
    "PUT /spotify/account": _here(own_id=None),
    "POST /spotify/play": _here(query="blue"),
    "POST /spotify/pause": _here(),
    "POST /spotify/resume": _here(),
    "POST /spotify/skip": _here(),
    "POST /spotify/auth/links": lambda world: {
        "body": {"community_id": world.mine.slug, "own_id": world.found["user_id"]}
    },
}


def furnish(world: Any) -> dict[str, Any]:
    """Something that was played, for the list of it."""
    with world.fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO spotify_history (community_id, track_uri, track_name, artists, requested_by)"
            " VALUES (%s, 'spotify:track:x', 'A Song', 'Somebody', %s)",
            (world.mine.community_id, world.mine.slug),
        )
    return {}
