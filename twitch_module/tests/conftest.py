from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from waddlebot.database import fetch
from waddlebot.directory import add_server
from waddlebot.testing.fleet import Fleet
from waddlebot.testing.module_stub import ModuleStub

from simulators.twitch import Delivery, Said, TwitchSimulator

numbers = itertools.count(1000)


@dataclass
class Channel:
    """A Twitch channel that nobody else uses, seen from Twitch."""

    id: str
    twitch: TwitchSimulator
    fleet: Fleet

    def message(self, text: str, **options: Any) -> Delivery:
        options.setdefault("chatter", f"c{next(numbers)}")
        return self.twitch.chat_message(self.id, text, **options)

    def say(self, text: str, **options: Any) -> list[int]:
        return self.twitch.deliver(self.message(text, **options), pauses_s=[])

    @property
    def heard(self) -> list[Said]:
        """What the bot said in this channel."""
        return [each for each in self.twitch.messages if each.broadcaster_id == self.id]

    @property
    def texts(self) -> list[str]:
        return [each.message.lstrip("\u200b") for each in self.heard]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self._fetch("SELECT * FROM twitch_events WHERE broadcaster_id = %s ORDER BY id", self.id)

    @property
    def states(self) -> list[str]:
        return [row["state"] for row in self.rows]

    @property
    def replies(self) -> list[dict[str, Any]]:
        return self._fetch("SELECT * FROM outbox WHERE entity_id = %s ORDER BY id", f"twitch::{self.id}")

    def change_rows(self, assignments: str) -> None:
        self._fetch(f"UPDATE twitch_events SET {assignments} WHERE broadcaster_id = %s", self.id)

    def _fetch(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with self.fleet.database.transaction() as db:
            return fetch(db, sql, parameters)


@pytest.fixture
def twitch(fleet: Fleet, twitch_simulator: TwitchSimulator) -> TwitchSimulator:
    """Twitch, delivering into the fleet's WSGI app."""

    def post(delivery: Delivery) -> int:
        return fleet.request("POST", "/twitch/webhook", delivery.body, key=None, headers=delivery.headers).status

    twitch_simulator.reset()
    twitch_simulator.post = post
    return twitch_simulator


@pytest.fixture
def unserved(fleet: Fleet, twitch: TwitchSimulator) -> Channel:
    """A channel that the fleet does not serve."""
    return Channel(str(next(numbers)), twitch, fleet)


@pytest.fixture
def channel(unserved: Channel) -> Channel:
    """A channel that the fleet serves, in a community of its own."""
    with unserved.fleet.database.transaction() as db:
        add_server(db, "twitch", unserved.id, community=f"twitch-{unserved.id}")
    return unserved


@pytest.fixture
def stub(stub: ModuleStub, channel: Channel) -> ModuleStub:
    """The outside module, installed in the channel's community too."""
    channel.fleet.bot(f"twitch-{channel.id}").install("stub")
    return stub
