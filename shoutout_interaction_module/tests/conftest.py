from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from shoutout_places import Channel
from waddlebot.community.directory import add_server
from waddlebot.testing.fleet import Bot

from simulators.twitch import Account, TwitchSimulator

numbers = itertools.count(77_000)


@pytest.fixture
def twitch(fleet: Any, twitch_simulator: TwitchSimulator) -> TwitchSimulator:
    twitch_simulator.reset()
    return twitch_simulator


@pytest.fixture
def strict(twitch: TwitchSimulator) -> Iterator[None]:
    """Nobody exists at Twitch who was not made."""
    twitch.accounts.strict = True
    yield
    twitch.accounts.strict = False


@pytest.fixture
def streamer(twitch: TwitchSimulator) -> Account:
    """Somebody at Twitch whom nobody here has seen, who plays and has clips."""
    number = next(numbers)
    made = twitch.user(f"streamer{number}", id=str(number), name=f"Streamer{number}")
    made.game, made.picture = "Celeste", f"{twitch.url}/pictures/{made.login}.svg"
    return made


@pytest.fixture
def channel(bot: Bot, twitch: TwitchSimulator) -> Channel:
    number = str(next(numbers))
    twitch.user(f"home{number}", id=number)
    with bot.fleet.database.transaction() as db:
        add_server(db, "twitch", number, community=bot.slug)
    # Alerts would answer to events, too.
    off = bot.fleet.request("PUT", f"/router/communities/{bot.slug}/modules/browser_source_core", {"enabled": False})
    assert off.status == 200
    return Channel(number, bot)
