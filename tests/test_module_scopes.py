"""What a module of the checkout needs of a platform is asked for at consent, and the page says what for."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from discord import Permissions
from waddlebot.base.manifest import CHECKOUT

MANIFEST = """
name = "clips"
title = "Clips & more"
kind = "interaction"
version = "1"
port = 8099
host = "clips"
prefix = "/clips"
"""
SCOPES = [
    ("twitch", "clips:edit", "channel", "Clips are made with <!clip>"),
    ("twitch", "user:manage:whispers", "bot", "Winners are told in a whisper"),
    ("slack", "usergroups:write", "bot", "Groups follow labels"),
    ("slack", "search:read", "channel", "!find searches your messages"),
    ("discord", "manage_webhooks", "bot", "Clips are posted by webhook"),
    ("discord", "guilds.members.read", "channel", "Roles are read"),
]


@pytest.fixture
def collectors(fleet, tmp_path, monkeypatch) -> None:
    """A checkout of nothing but collectors, as far as manifests go."""
    for name in ("twitch_module", "discord_module", "slack_module"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    monkeypatch.setenv("WADDLEBOT_MODULES_DIR", str(tmp_path))


@pytest.fixture
def clips(collectors, tmp_path) -> None:
    """One more module in it."""
    folder = tmp_path / "clips_module"
    folder.mkdir()
    entries = (
        f'\n[[scopes]]\nplatform = "{platform}"\nscope = "{scope}"\non = "{on}"\nwhy = "{why}"\n'
        for platform, scope, on, why in SCOPES
    )
    (folder / "manifest.toml").write_text(MANIFEST + "".join(entries))


def page(fleet, path: str) -> str:
    answer = fleet.request("GET", path, key=None)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def asked(fleet, path: str) -> dict[str, str]:
    """What the platform's own page is opened with."""
    answer = fleet.request("GET", path, key=None)
    assert answer.status == 303, answer.body
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def test_twitch_asks_the_streamer_and_the_bot_each_for_theirs(fleet, clips):
    streamer = asked(fleet, "/twitch/auth/login")["scope"].split()
    assert "clips:edit" in streamer
    assert "channel:bot" in streamer
    assert "user:manage:whispers" not in streamer
    bot = asked(fleet, "/twitch/auth/bot/login")["scope"].split()
    assert {"user:bot", "user:manage:whispers"} <= set(bot)
    assert "clips:edit" not in bot

    shown = page(fleet, "/twitch/auth")
    for text in ("Clips &amp; more", "Clips are made with &lt;!clip&gt;", "<code>clips:edit</code>"):
        assert text in shown
    assert "Winners are told in a whisper" not in shown
    assert "Winners are told in a whisper" in page(fleet, "/twitch/auth/bot")


def test_slack_asks_for_the_bot_and_for_whoever_installs_it(fleet, clips):
    plain, moderating = asked(fleet, "/slack/oauth/start"), asked(fleet, "/slack/oauth/start?moderate=1")
    assert {"chat:write", "usergroups:write"} <= set(plain["scope"].split(","))
    assert plain["user_scope"].split(",") == ["search:read"]
    assert moderating["user_scope"].split(",") == ["chat:write", "search:read"]
    shown = page(fleet, "/slack/install")
    for text in ("Groups follow labels", "usergroups:write", "!find searches your messages"):
        assert text in shown


def test_discord_asks_for_permissions_and_scopes(fleet, clips):
    found = asked(fleet, "/discord/auth/login")
    granted = Permissions(int(found["permissions"]))
    assert (granted.manage_webhooks, granted.send_messages) == (True, True)
    assert found["scope"].split() == ["bot", "applications.commands", "identify", "guilds.members.read"]
    shown = page(fleet, "/discord/auth")
    assert "Clips are posted by webhook (manage_webhooks)" in shown


def test_without_such_modules_nothing_more_is_asked(fleet, collectors):
    assert "user_scope" not in asked(fleet, "/slack/oauth/start")
    assert not Permissions(int(asked(fleet, "/discord/auth/login")["permissions"])).manage_webhooks
    assert "also ask for" not in page(fleet, "/slack/install")
