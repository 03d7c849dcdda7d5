from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from waddlebot.community.directory import add_server
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Fleet
from waddlebot.testing.module_stub import ModuleStub
from waddlebot.testing.plugin import eventually

from simulators.slack import Answered, Delivery, Said, SlackSimulator

numbers = itertools.count(1000)


@dataclass
class Channel:
    """A Slack channel that nobody else uses, seen from Slack."""

    id: str
    slack: SlackSimulator
    fleet: Fleet
    team: str

    @property
    def entity_id(self) -> str:
        return f"slack:{self.team}:{self.id}"

    def say(self, text: str, **options: Any) -> list[int]:
        options.setdefault("user", f"U{next(numbers)}")
        return self.slack.say(self.id, text, team=self.team, **options)

    def slash(self, text: str, **options: Any) -> Answered:
        options.setdefault("user", f"U{next(numbers)}")
        return self.slack.slash(text, channel=self.id, team=self.team, **options)

    def happen(self, event: dict[str, Any], **options: Any) -> list[int]:
        return self.slack.happen(event, team=self.team, **options)

    @property
    def heard(self) -> list[Said]:
        """What the bot said in this channel."""
        return [each for each in self.slack.said if each.channel == self.id]

    @property
    def texts(self) -> list[str]:
        return [each.text.removeprefix("› ") for each in self.heard]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.fetch("SELECT * FROM slack_events WHERE channel_id = %s ORDER BY id", self.id)

    @property
    def forwarded(self) -> list[tuple[str, str]]:
        """Type and state of what was not ignored."""
        return [(row["type"], row["state"]) for row in self.rows if row["state"] != "ignored"]

    @property
    def replies(self) -> list[dict[str, Any]]:
        return self.fetch("SELECT * FROM outbox WHERE entity_id = %s ORDER BY id", self.entity_id)

    @property
    def points(self) -> list[tuple[str, int]]:
        rows = self.fetch(
            "SELECT activity_type, amount FROM slack_activities WHERE entity_id = %s ORDER BY 1, 2", self.entity_id
        )
        return [(row["activity_type"], row["amount"]) for row in rows]

    def fetch(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with self.fleet.database.transaction() as db:
            return fetch(db, sql, parameters)


@pytest.fixture
def slack(fleet: Fleet, slack_simulator: SlackSimulator) -> SlackSimulator:
    """Slack, delivering into the fleet's WSGI app."""

    def post(delivery: Delivery) -> Answered:
        path = f"/slack/{delivery.to}"
        answer = fleet.request("POST", path, delivery.body, key=None, headers=delivery.headers)
        return Answered(answer.status, answer.body, answer.headers)

    slack_simulator.reset()
    slack_simulator.post = post
    return slack_simulator


@pytest.fixture
def unserved(fleet: Fleet, slack: SlackSimulator) -> Channel:
    """A channel that the fleet does not serve, in the workspace of SLACK_BOT_TOKEN."""
    eventually(lambda: fleet.database.statement("SELECT 1 FROM slack_teams WHERE team_id = %s", (slack.team_id,)))
    fleet.database.statement("DELETE FROM servers WHERE platform = 'slack' AND channel = ''")
    return Channel(f"C{next(numbers)}", slack, fleet, slack.team_id)


@pytest.fixture
def channel(unserved: Channel) -> Channel:
    """A channel that the fleet serves, in a community of its own."""
    with unserved.fleet.database.transaction() as db:
        add_server(db, "slack", unserved.id, server_id=unserved.team, community=f"slack-{unserved.id.lower()}")
    return unserved


@pytest.fixture
def stub(stub: ModuleStub, channel: Channel) -> ModuleStub:
    """The outside module, installed in the channel's community too."""
    channel.fleet.bot(f"slack-{channel.id.lower()}").install("stub")
    return stub
