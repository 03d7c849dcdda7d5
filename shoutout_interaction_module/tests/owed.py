"""What the tests of all modules want to know of this one (waddlebot.testing.owed)."""

from __future__ import annotations

from typing import Any

PREFIX = "/shoutout"
CARRIED = 1


def here(**more: Any) -> Any:
    return lambda world: {"body": {"community_id": world.mine.slug, **more}}


def at(**more: Any) -> Any:
    return lambda world: {"query": {"community_id": world.mine.slug, **more}}


SAMPLES = {
    "GET /shoutout/settings": at(),
    "POST /shoutout/settings": here(user="twitch:4711", auto="always"),
    "GET /shoutout/history": at(),
    "GET /shoutout/stats": at(days=7),
    "POST /shoutout/send": here(user="twitch:4711"),
}


def carry(bot: Any) -> None:
    said = bot.say("!so set @somebody_else Say hello to {user}!", level="moderator")
    assert said.statuses == ["success"], said.chat
