"""Libraries that were not written for the simulators, driven as their users would: discord.py, discord.js, bolt,
TwitchIO and twurple. `make interop` installs them, beside the fleet's own, into folders of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from waddlebot.testing.plugin import eventually

from simulators.discord import DiscordSimulator
from simulators.slack import SlackSimulator
from simulators.twitch import TwitchSimulator

HERE = Path(__file__).parent / "libraries"
# Where `make interop` puts them.
PLACE = Path(os.environ.get("INTEROP", ".interop"))
PYTHON, NODE = PLACE / "python" / "bin" / "python", PLACE / "node"
BOT_SCOPES = ("user:read:chat", "user:write:chat", "user:bot")
pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


class Program:
    """A program on such a library, and what it tells, a line of JSON each."""

    def __init__(self, name: str, **environment: str) -> None:
        command = ["node", HERE / name] if name.endswith(".mjs") else [PYTHON, HERE / name]
        self.told: dict[str, Any] = {}
        self.output: list[str] = []
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "NODE_LIBRARIES": str(NODE.absolute()), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        sys.stdout.writelines(self.output)  # Pytest shows it where something failed.

    def wait_for(self, name: str) -> Any:
        eventually(lambda: name in self.told or self._process.poll() is not None, within_s=60)
        self._reader.join(0 if name in self.told else 5)
        assert name in self.told, "".join(self.output)
        return self.told[name]

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.output.append(line)
            if line.startswith("{"):
                self.told |= json.loads(line)


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not PYTHON.exists() or not NODE.exists() or shutil.which("node") is None:
        pytest.skip("make interop installs what this needs")


@pytest.fixture
def discord() -> Iterator[DiscordSimulator]:
    with DiscordSimulator(hurried=True) as simulator:
        yield simulator


@pytest.mark.parametrize("name", ["discord_py.py", "discord_js.mjs"])
def test_bots_on_discords_libraries_read_write_and_answer(discord, name):
    guild = discord.add_guild("Interop")
    channel = discord.add_channel(guild)
    discord.world.user(guild.owner_id, "Owner")
    where = {"DISCORD_API": f"{discord.url}/api", "DISCORD_GATEWAY": discord.gateway.url}
    with Program(name, DISCORD_TOKEN=discord.token, **where) as program:
        assert program.wait_for("attachment") == "picture.png"
        assert program.told["embed"] == "A card"
        assert "look again" in program.told["edited"]
        assert program.told["thread"][:2] == ["About it", True]
        discord.slash(channel, "echo", {"text": "hi"}, user="77")
        assert program.wait_for("slash") == "hi"

    assert [said.content for said in discord.messages] == ["look", "below", "you said hi"]


def test_an_app_on_bolt_hears_writes_and_answers():
    with SlackSimulator() as slack:
        slack.transport = "socket"
        tokens = {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_APP_TOKEN": slack.app_token}
        with Program("bolt.py", SLACK_API=f"{slack.url}/api/", **tokens) as program:
            assert program.wait_for("ready")
            slack.say("C1", "ping", user="U1")
            assert program.wait_for("heard") == "ping"
            slack.slash("hi", channel="C1", command="/echo")
            assert program.wait_for("slash") == "hi"
        said = [(each.text, each.channel) for each in slack.said]

    assert said == [("pong again", "C1"), ("for you alone", "DU1"), ("you said hi", "C1")]


def test_twitchio_reads_and_writes():
    with TwitchSimulator() as twitch, Program("twitchio_app.py", **twitch.settings()) as program:
        assert program.wait_for("channel").lower() == "streamer"
        assert program.told["sent"] is True
        assert [each.message for each in twitch.messages] == ["hello from TwitchIO"]


def test_a_bot_on_twurple_renews_its_token_hears_by_socket_and_answers():
    with TwitchSimulator() as twitch:
        granted = twitch.oauth.token_for(twitch.user("waddlebot", id=twitch.bot_user_id), BOT_SCOPES)
        token = {"accessToken": "ended", "refreshToken": granted["refresh_token"], "scope": list(BOT_SCOPES)}
        with Program("twurple.mjs", BOT_TOKEN=json.dumps(token), **twitch.settings()) as program:
            assert program.wait_for("channel").lower() == "streamer"
            assert program.wait_for("listening"), program.told
            assert program.told["refreshed"] == twitch.bot_user_id
            twitch.say("streamer", "hello Kappa", chatter="42")
            assert program.wait_for("heard") == "hello Kappa"
            assert (program.told["name"], program.told["sent"]) == ("alice", True)
        assert [each.message for each in twitch.messages] == ["you said hello Kappa"]
