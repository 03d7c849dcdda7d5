from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from spotify_studio import Studio
from waddlebot.base.ids import new_id
from waddlebot.testing.fleet import Bot


@pytest.fixture
def stranger(bot: Bot, spotify_simulator: Any) -> Iterator[Studio]:
    """A community of which nobody has connected anything yet."""
    spotify_simulator.heal()
    name = f"u{new_id()[-12:]}"
    spotify_simulator.user(name, devices=["Studio"])
    bot.install("spotify")
    # Where YouTube plays too.
    chosen = {"config": {"music": "spotify"}}
    assert bot.fleet.request("PUT", f"/router/communities/{bot.slug}/modules/router", chosen).status == 200
    yield Studio(bot, spotify_simulator, name)
    spotify_simulator.heal()


@pytest.fixture
def studio(stranger: Studio) -> Studio:
    """One whose owner has connected their account."""
    answer = stranger.connect()
    assert answer.status == 200, answer.body
    return stranger
