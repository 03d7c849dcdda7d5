"""Starting with and without credentials, and a router that is away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from waddlebot.base.errors import UpstreamUnreachable
from waddlebot.base.manifest import CHECKOUT
from waddlebot.testing.plugin import eventually

START = """
import sys
from pathlib import Path
from waddlebot.web.clients import call_wsgi
from waddlebot.base.errors import ConfigError
from waddlebot.web.app import create_app
try:
    app = create_app("slack_module", apps_folder=Path(sys.argv[1]))
except ConfigError as err:
    sys.exit(err.message)
print("slack_sdk" in sys.modules, "aiohttp" in sys.modules)
for method, path in [("POST", "/slack/events"), ("GET", "/slack/install"), ("GET", "/slack/health")]:
    answer = call_wsgi(app, method, "http://slack.test" + path, body=b"{}" if method == "POST" else None)
    print(answer.status, answer.body.decode().replace("\\n", " "))
"""

BOT = {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_SIGNING_SECRET": "0123456789"}
OAUTH = {"SLACK_CLIENT_ID": "1.2", "SLACK_CLIENT_SECRET": "abc", "SLACK_SIGNING_SECRET": "0123456789"}
SOCKET = {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1", "SLACK_SOCKET_MODE": "true"}


@pytest.fixture
def start(stack, tmp_path):
    """Start a Slack collector of its own with these settings."""

    def run(**settings):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLACK_")}
        environment |= {**stack.environment(), "LOG_DIR": str(tmp_path / "logs"), **settings}
        command = [sys.executable, "-c", START, str(tmp_path)]
        return subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)

    return run


def test_without_credentials_it_starts_unconfigured_and_loads_no_sdk(start):
    loaded, events, install, health = start().stdout.splitlines()
    assert events.startswith("503 ")
    assert '"not_configured"' in events
    assert '"not_configured"' in install
    assert '"status":"unconfigured"' in health
    assert loaded == "False False"


@pytest.mark.parametrize(
    ("settings", "events_status", "install_status"),
    [(BOT, "401", "503"), (OAUTH, "401", "200"), (SOCKET, "503", "503")],
)
def test_each_way_of_being_configured_serves_what_it_needs(start, settings, events_status, install_status):
    done = start(**settings)
    loaded, events, install, health = done.stdout.splitlines()
    assert (events[:3], install[:3]) == (events_status, install_status)
    assert '"unconfigured"' not in health
    assert loaded == "False False"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"SLACK_SIGNING_SECRET": "0123456789"},
            "SLACK_BOT_TOKEN, or SLACK_CLIENT_ID and SLACK_CLIENT_SECRET, missing",
        ),
        ({"SLACK_BOT_TOKEN": "xoxb-1"}, "SLACK_SIGNING_SECRET missing"),
        ({**BOT, "SLACK_SOCKET_MODE": "true"}, "SLACK_APP_TOKEN missing"),
        ({**OAUTH, "SLACK_CLIENT_SECRET": ""}, "SLACK_CLIENT_SECRET missing"),
        ({**BOT, "SLACK_BOT_TOKEN": "xoxb-your-bot-token"}, "SLACK_BOT_TOKEN"),
        ({**BOT, "SLACK_BOT_TOKEN": "xoxp-1"}, "must begin with xoxb-"),
        ({**SOCKET, "SLACK_APP_TOKEN": "xoxb-1"}, "must begin with xapp-"),
        ({**OAUTH, "SLACK_CLIENT_ID": "your_client_id"}, "SLACK_CLIENT_ID"),
        ({**BOT, "SLACK_SIGNING_SECRET": "your_signing_secret"}, "SLACK_SIGNING_SECRET"),
        ({**OAUTH, "SLACK_OAUTH_REDIRECT_URI": "https://domain.com/slack/oauth/callback"}, "SLACK_OAUTH_REDIRECT_URI"),
        ({**BOT, "SLACK_API_BASE_URL": "slack.com/api"}, "SLACK_API_BASE_URL"),
        ({"WADDLEBOT_REQUIRE": "slack"}, "WADDLEBOT_REQUIRE names slack"),
    ],
)
def test_half_placeholder_or_missing_credentials_end_the_process_with_a_line(start, settings, told):
    done = start(**settings)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


class RouterAway:
    """What a collector calls the router with while nobody is there."""

    def __init__(self, router):
        self.router = router
        self.is_away = True

    def submit_batch(self, events):
        if self.is_away:
            raise UpstreamUnreachable("Not reached: connection refused")
        return self.router.submit_batch(events)


@pytest.fixture
def router(channel):
    """The router, which is away until the test says otherwise."""
    import apps.slack_module.app as app

    forwarder = app.collector._forwarder
    away = forwarder._router = RouterAway(forwarder._router)
    yield away
    forwarder._router = away.router


def test_while_the_router_is_away_everything_is_acknowledged_and_answered_later_once(channel, router):
    users = [f"U{channel.id}{n}" for n in range(5)]
    for user in users:
        assert channel.say("!inventory list", user=user) == [200]
        assert channel.slash("inventory list", user=f"{user}S").status == 200
    eventually(lambda: {row["state"] for row in channel.rows} <= {"pending", "forwarding"})
    assert channel.texts == []
    router.is_away = False
    eventually(lambda: len(channel.texts) == 10, within_s=30)
    assert channel.texts == ["The inventory is empty."] * 10
    assert len(channel.replies) == 10
