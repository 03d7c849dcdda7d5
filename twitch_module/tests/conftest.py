from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from twitch_browser import Browser
from waddlebot.community.directory import add_server
from waddlebot.data.database import fetch
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

    @property
    def login(self) -> str:
        return self.twitch.accounts.get(self.id).login

    @property
    def subscribed(self) -> set[str]:
        """The types of the subscriptions that deliver this channel's events at Twitch."""
        return {each.type for each in self.twitch.eventsub if self.id in each.condition.values() and each.is_enabled}

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
        return [each.message.removeprefix("› ").removesuffix(" \U000e0000") for each in self.heard]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self._fetch("SELECT * FROM twitch_events WHERE broadcaster_id = %s ORDER BY id", self.id)

    @property
    def states(self) -> list[str]:
        return [row["state"] for row in self.rows]

    @property
    def replies(self) -> list[dict[str, Any]]:
        return self._fetch("SELECT * FROM outbox WHERE entity_id = %s ORDER BY id", f"twitch::{self.id}")

    @property
    def activities(self) -> list[tuple[str, str, int]]:
        """What was done here that earned points: what, by whom, how many."""
        rows = self._fetch("SELECT * FROM twitch_activities WHERE entity_id = %s ORDER BY id", f"twitch::{self.id}")
        return [(row["activity_type"], row["platform_user_id"], row["amount"]) for row in rows]

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


@pytest.fixture
def streamer(twitch: TwitchSimulator, fleet: Fleet) -> Channel:
    """Somebody with a channel who has consented to nothing yet."""
    number = str(next(numbers))
    twitch.user(f"streamer{number}", id=number)
    return Channel(number, twitch, fleet)


@pytest.fixture
def browser(fleet: Fleet, twitch: TwitchSimulator) -> Browser:
    return Browser(fleet, twitch)


@pytest.fixture
def joined(browser: Browser, streamer: Channel) -> Channel:
    """A channel whose streamer has let the bot in, with everything that it asks for."""
    assert browser.consent(streamer.login).status == 200
    return streamer
