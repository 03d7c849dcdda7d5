"""Starting with and without credentials, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from waddlebot.base.manifest import CHECKOUT

START = """
import sys
from pathlib import Path
from waddlebot.web.clients import call_wsgi
from waddlebot.base.errors import ConfigError
from waddlebot.web.app import create_app
try:
    app = create_app("shoutout_interaction_module", apps_folder=Path(sys.argv[1]))
except ConfigError as err:
    sys.exit(err.message)
print("twitchAPI" in sys.modules, "aiohttp" in sys.modules)
print(call_wsgi(app, "GET", "http://shoutout.test/shoutout/health").body.decode())
"""
ID, SECRET = {"TWITCH_APP_ID": "some-app"}, {"TWITCH_APP_SECRET": "a-secret-of-its-own"}


@pytest.fixture
def start(stack, tmp_path):
    """Start the module by itself with these settings."""

    def run(**settings):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TWITCH_")}
        environment |= {**stack.environment(), "LOG_DIR": str(tmp_path / "logs"), **settings}
        command = [sys.executable, "-c", START, str(tmp_path)]
        return subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)

    return run


def test_without_credentials_it_starts_unconfigured_and_says_what_to_set(start):
    loaded, health = start().stdout.splitlines()
    assert '"status":"unconfigured"' in health
    assert "Set TWITCH_APP_ID and TWITCH_APP_SECRET" in health
    assert loaded == "False False"


def test_with_them_the_sdk_waits_for_its_first_use(start):
    loaded, health = start(**ID, **SECRET).stdout.splitlines()
    assert '"unconfigured"' not in health
    assert loaded == "False False"


@pytest.mark.parametrize(("half", "missing"), [(ID, "TWITCH_APP_SECRET"), (SECRET, "TWITCH_APP_ID")])
def test_half_of_them_end_the_process_with_one_line(start, half, missing):
    done = start(**half)
    assert done.returncode == 1
    assert missing in done.stderr
    assert "Traceback" not in done.stderr
