"""What the module is to its process: loaded when it is needed, in a thread of its own, sharing turns with others."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from waddlebot.testing.plugin import eventually

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import sys
from pathlib import Path
from tempfile import mkdtemp
from waddlebot.web.app import create_app
create_app("discord_module", apps_folder=Path(mkdtemp()))
print(sorted(name for name in sys.modules if name in ("discord", "aiohttp")), sys.modules["dataclasses"].__file__)
"""


def load_module(fleet, cwd=ROOT, **environment):
    """Load the module alone in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISCORD_")}
    return subprocess.run(
        [sys.executable, "-c", LOAD],
        env={**kept, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CREDENTIALS = {
    "DISCORD_BOT_TOKEN": "a.real.one",
    "DISCORD_APPLICATION_ID": "900000000000000001",
    "DISCORD_PUBLIC_KEY": "ab" * 32,
}


@pytest.mark.parametrize("credentials", [{}, CREDENTIALS])
def test_py_cord_is_not_loaded_before_it_is_used(fleet, credentials):
    done = load_module(fleet, **credentials)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[]")


def test_dataclasses_stays_the_standard_librarys_when_the_module_is_loaded_from_inside(fleet):
    done = load_module(fleet, cwd=ROOT / "discord_module", **CREDENTIALS)

    assert done.returncode == 0, done.stderr
    assert "discord_module" not in done.stdout


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"DISCORD_BOT_TOKEN": "a.real.one"}, "DISCORD_PUBLIC_KEY missing"),
        ({**CREDENTIALS, "DISCORD_BOT_TOKEN": "your_bot_token"}, "placeholder"),
        ({**CREDENTIALS, "DISCORD_PUBLIC_KEY": "abc"}, "64 hexadecimal digits"),
        ({**CREDENTIALS, "DISCORD_APPLICATION_ID": "abc"}, "must be the number"),
        ({**CREDENTIALS, "DISCORD_COMMAND_PREFIX": "a b"}, "DISCORD_COMMAND_PREFIX"),
        ({"WADDLEBOT_REQUIRE": "discord"}, "WADDLEBOT_REQUIRE names discord"),
    ],
)
def test_half_or_placeholder_credentials_end_the_process_in_one_line(fleet, environment, word):
    done = load_module(fleet, **environment)

    assert done.returncode != 0
    assert word in done.stderr.strip().splitlines()[-1]


def test_the_gateway_runs_in_a_thread_of_its_own_and_leaves_signals_alone(server):
    server.say("!help")
    eventually(lambda: server.texts)

    assert any(thread.name.startswith("keep-alive-handler:shard-0") for thread in threading.enumerate())
    assert signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.default_int_handler)


def test_two_containers_take_turns_to_identify(service):
    kind = type(service_pace(service))
    one, other = (kind(service.bus.client, spacing_s=0.4, log=service.log) for _ in range(2))
    bucket = 7000 + os.getpid()

    async def take(pace):
        await pace.turn(bucket)
        return time.monotonic()

    async def both():
        return sorted(await asyncio.gather(take(one), take(other), take(one)))

    first, second, third = asyncio.run(both())
    assert second - first >= 0.4
    assert third - second >= 0.4


def service_pace(service):
    """The pace that the running collector has."""
    app = sys.modules["apps.discord_module"].app
    assert app.service is service
    return app.gateway.pace


def test_discord_says_how_many_shards_it_wants(discord, service):
    app = sys.modules["apps.discord_module"].app
    discord.rest.recommended_shards = 3

    assert app.shared_bridge().submit(app.bot.recommended_shards()).result(20) == 3
