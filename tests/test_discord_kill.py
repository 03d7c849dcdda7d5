"""The collectors' process dies while Discord talks: who comes next goes on with its session, and nothing is lost."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator

import psutil
import psycopg2
import pytest
from test_fleet import CLI, Up
from waddlebot.fleet.home import Home
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED

from simulators.discord import Channel, DiscordSimulator

pytestmark = pytest.mark.timeout(300)
MESSAGES, KILLED_AFTER = 60, 20


@pytest.fixture(scope="module")
def discord() -> Iterator[DiscordSimulator]:
    with DiscordSimulator(hurried=True) as simulator:
        simulator.rest.message_limit = 1000
        yield simulator


@pytest.fixture(scope="module")
def channel(discord) -> Channel:
    return discord.add_channel(discord.add_guild("Killed"))


@pytest.fixture(scope="module")
def up(discord, channel, tmp_path_factory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("kill") / "home", **discord.settings()).wait_until_ready()
    try:
        options = ["--platform", "discord", "--server", channel.guild_id, "--community", "demo", "--home", str(up.home)]
        add = [*CLI, "servers", "add", *options]
        subprocess.run(add, check=True, capture_output=True, env=AS_STARTED)
        assert up.say('!alias add !echo "heard {args}"', "--level", "moderator").returncode == 0
        eventually(lambda: _heard(discord, channel, "first"), within_s=60)
        yield up
        assert up.refused_by_valkey() == []
    finally:
        up.stop()


def _heard(discord: DiscordSimulator, channel: Channel, word: str) -> bool:
    discord.say(channel, f"!echo {word}", user=str(5000 + len(discord.rest.requests)))
    return any(word in said.content for said in list(discord.messages))


def kill_collectors(up: Up) -> None:
    collectors = up.find(lambda each: each.cmdline()[-1:] == ["collectors"])
    assert collectors is not None
    collectors.kill()
    psutil.wait_procs([collectors], timeout=10)


def test_what_is_said_around_a_kill_is_answered_once(up, discord, channel):
    begun, resumed = len(discord.gateway.identifies), len(discord.gateway.resumes)
    eventually(lambda: _marked(up), within_s=30)

    for number in range(MESSAGES):
        if number == KILLED_AFTER:
            kill_collectors(up)
        discord.say(channel, f"!echo number-{number}", user=str(1000 + number))

    def answers() -> Counter[str]:
        return Counter(re.findall(r"heard (number-\d+)", "\n".join(said.content for said in list(discord.messages))))

    eventually(lambda: len(answers()) == MESSAGES, within_s=120)
    assert discord.gateway.resumes[resumed:] == [True]
    assert len(discord.gateway.identifies) == begun
    assert set(answers().values()) == {1}


def test_a_session_that_discord_has_ended_begins_anew(up, discord, channel):
    begun = len(discord.gateway.identifies)
    eventually(lambda: _marked(up), within_s=30)
    discord.gateway.refuses_resumes = True

    kill_collectors(up)

    eventually(lambda: len(discord.gateway.identifies) > begun, within_s=120)
    assert discord.gateway.resumes[-1] is False
    eventually(lambda: _heard(discord, channel, "again"), within_s=60)


def _marked(up: Up) -> bool:
    """Whether it is put down from where to go on."""
    running = Home(up.home).find_running()
    assert running is not None
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT session_id FROM discord_shards WHERE session_id IS NOT NULL")
        return cursor.fetchone() is not None
