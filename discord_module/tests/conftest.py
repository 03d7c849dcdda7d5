from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from waddlebot.community.directory import add_server
from waddlebot.data.database import fetch
from waddlebot.module.service import SERVICES, Service
from waddlebot.testing.fleet import Fleet
from waddlebot.testing.module_stub import ModuleStub
from waddlebot.testing.plugin import eventually

from simulators.discord import Channel, DiscordSimulator, Guild, Post, Posted, Said

numbers = itertools.count(50_000)


@dataclass
class Server:
    """A Discord server that nobody else uses, with one text channel, seen from Discord."""

    guild: Guild
    channel: Channel
    discord: DiscordSimulator
    fleet: Fleet

    def say(self, text: str, **options: Any) -> str:
        options.setdefault("user", str(next(numbers)))
        return self.discord.say(self.channel, text, **options)

    def slash(self, command: str, options: dict[str, Any] | None = None, **more: Any) -> str:
        more.setdefault("user", str(next(numbers)))
        return self.discord.slash(self.channel, command, options, **more)

    def slash_over_http(self, command: str, options: dict[str, Any] | None = None, **more: Any) -> tuple[str, Posted]:
        more.setdefault("user", str(next(numbers)))
        return self.discord.slash_over_http(self.channel, command, options, **more)

    def answers_to(self, interaction_id: str) -> list[str]:
        return [each.removeprefix("› ") for each in self.discord.rest.interactions[interaction_id].replies]

    @property
    def heard(self) -> list[Said]:
        """What the bot said in this server."""
        return [each for each in list(self.discord.messages) if each.guild_id == self.guild.id]

    @property
    def texts(self) -> list[str]:
        return [each.content.removeprefix("› ") for each in self.heard]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.fetch("SELECT * FROM discord_events WHERE event_data->>'guild_id' = %s ORDER BY id", self.guild.id)

    def rows_of(self, message_type: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["event_data"]["message_type"] == message_type]

    def points_of(self, user: str) -> int:
        rows = self.fetch(
            "SELECT coalesce(sum(amount), 0)::int AS points FROM discord_activities"
            " WHERE platform_user_id = %s AND entity_id LIKE %s",
            user,
            f"discord:{self.guild.id}:%",
        )
        return int(rows[0]["points"])

    @property
    def replies(self) -> list[dict[str, Any]]:
        return self.fetch("SELECT * FROM outbox WHERE entity_id LIKE %s ORDER BY id", f"discord:{self.guild.id}:%")

    def fetch(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with self.fleet.database.transaction() as db:
            return fetch(db, sql, parameters)


@pytest.fixture
def discord(fleet: Fleet, discord_simulator: DiscordSimulator) -> DiscordSimulator:
    """Discord, with the fleet's collector connected to its gateway."""

    def post(signed: Post) -> Posted:
        answer = fleet.request("POST", "/discord/interactions", signed.body, key=None, headers=signed.headers)
        return Posted(answer.status, answer.json() if answer.body else None, 0.0)

    discord_simulator.reset()
    discord_simulator.post = post
    eventually(lambda: connected(discord_simulator), within_s=20, what="connected to the gateway")
    return discord_simulator


def connected(simulator: DiscordSimulator) -> bool:
    return any(session.connection is not None for session in simulator.gateway.sessions.values())


@pytest.fixture
def unserved(fleet: Fleet, discord: DiscordSimulator) -> Server:
    """A server that the bot is in and the fleet does not serve."""
    guild = discord.add_guild(f"Guild {next(numbers)}")
    server = Server(guild, discord.add_channel(guild), discord, fleet)
    eventually(lambda: server.fetch("SELECT 1 FROM discord_guilds WHERE guild_id = %s", guild.id), within_s=30)
    return server


@pytest.fixture
def elsewhere(fleet: Fleet, discord: DiscordSimulator) -> Server:
    """Another server that is not served."""
    guild = discord.add_guild(f"Guild {next(numbers)}")
    return Server(guild, discord.add_channel(guild), discord, fleet)


@pytest.fixture
def server(unserved: Server, service: Service) -> Server:
    """A server that the fleet serves, all of it, in a community of its own."""
    with unserved.fleet.database.transaction() as db:
        add_server(db, "discord", "", server_id=unserved.guild.id, community=f"discord-{unserved.guild.id}")
    # It was asked about when the gateway told of it.
    service.bus.invalidate("servers")
    return unserved


@pytest.fixture
def stub(stub: ModuleStub, server: Server) -> ModuleStub:
    """The outside module, installed in the server's community too."""
    server.fleet.bot(f"discord-{server.guild.id}").install("stub")
    return stub


@pytest.fixture
def service(fleet: Fleet) -> Service:
    """The collector's own service, in this process."""
    return next(each for each in SERVICES if each.name == "discord")
