"""What is no body that a platform takes is refused by its simulator, in the platform's own words, at every door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from simulators.discord import DiscordSimulator
from simulators.slack import SlackSimulator
from simulators.twitch import TwitchSimulator

JSON = "application/json"
# What no platform takes, and what it is said to be.
ODD = [
    *((body, JSON) for body in (b"[]", b"[{}]", b"5", b'"x"', b"null", b"{", b"\xff")),
    (b'{"message": "x", "content": "x", "text": "x", "channel": "C1"}', "text/plain"),
]
TWITCH = [
    "POST moderation/bans?broadcaster_id=7&moderator_id=9",
    "POST moderation/warnings?broadcaster_id=7&moderator_id=9",
    "PATCH channels?broadcaster_id=9",
    "POST streams/markers",
    "POST chat/messages",
    "POST eventsub/subscriptions",
    "POST eventsub/conduits",
    "PATCH eventsub/conduits",
    "PATCH eventsub/conduits/shards",
]
DISCORD = [
    "POST channels/{channel}/messages",
    "PATCH channels/{channel}/messages/{message}",
    "POST channels/{channel}/threads",
    "POST channels/{channel}/messages/{message}/threads",
    "POST users/@me/channels",
    "PATCH guilds/{guild}/members/42",
    "POST interactions/{interaction}/callback",
]
SLACK = ["chat.postMessage", "chat.postEphemeral", "chat.update", "conversations.open", "usergroups.users.update"]
FIELDS: list[dict[str, Any]] = [
    {"content": []},
    {"content": "x", "embeds": 5},
    {"content": "x", "embeds": ["a"]},
    {"content": "x", "embeds": [{"image": "x"}]},
    {"content": "x", "message_reference": 5},
    {"content": "x", "nonce": {}},
]


@pytest.fixture(scope="module")
def twitch() -> Iterator[TwitchSimulator]:
    with TwitchSimulator() as simulator:
        simulator.user("bob", id="9")
        simulator.user("alice", id="7", moderators=["bob"])
        yield simulator


@pytest.fixture(scope="module")
def discord() -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    with DiscordSimulator() as simulator:
        guild = simulator.add_guild("Demo")
        channel = simulator.add_channel(guild)
        base = f"{simulator.settings()['DISCORD_API_BASE_URL']}/v10"
        headers = {"Authorization": f"Bot {simulator.settings()['DISCORD_BOT_TOKEN']}"}
        simulator.rest.message_limit = 1000
        simulator.rest.set_global_limit(1000)
        sent = requests.post(
            f"{base}/channels/{channel.id}/messages", json={"content": "x"}, headers=headers, timeout=9
        )
        used = simulator.slash(channel, "help", user="42")
        names = {"channel": channel.id, "guild": guild.id, "message": sent.json()["id"]}
        yield base, headers, {**names, "interaction": f"{used}/{simulator.rest.interactions[used].token}"}


@pytest.mark.parametrize("door", TWITCH)
def test_twitch_takes_only_objects_that_say_they_are_json(twitch, door):
    method, path = door.split()
    settings = twitch.settings()
    app = {"client_id": twitch.client_id, "client_secret": twitch.client_secret, "grant_type": "client_credentials"}
    tokens = requests.post(settings["TWITCH_AUTH_BASE_URL"] + "token", data=app, timeout=9).json()
    if not path.startswith(("chat", "eventsub")):
        scopes = ["moderator:manage:banned_users", "moderator:manage:warnings", "channel:manage:broadcast"]
        tokens = twitch.oauth.token_for(twitch.user("bob", id="9"), scopes)
    headers = {"Authorization": f"Bearer {tokens['access_token']}", "Client-Id": twitch.client_id}
    for body, kind in ODD:
        url = settings["TWITCH_API_BASE_URL"] + path
        answer = requests.request(method, url, data=body, headers={**headers, "Content-Type": kind}, timeout=9)
        assert answer.status_code == 400 and answer.json()["message"], (body, kind, answer.text)


@pytest.mark.parametrize("door", DISCORD)
def test_discord_takes_only_objects_that_say_they_are_json(discord, door):
    base, headers, names = discord
    method, path = door.format(**names).split()
    for body, kind in [*ODD, *((json.dumps(each).encode(), JSON) for each in FIELDS if path.endswith("messages"))]:
        answer = requests.request(
            method, f"{base}/{path}", data=body, headers={**headers, "Content-Type": kind}, timeout=9
        )
        assert answer.status_code == 400 and answer.json()["code"] in (50035, 50109), (body, kind, answer.text)


@pytest.mark.parametrize("method", SLACK)
def test_slack_takes_only_objects_and_forms(method):
    errors = {}
    with SlackSimulator(events_url="http://127.0.0.1:9/") as slack:
        headers = {"Authorization": f"Bearer {slack.settings()['SLACK_BOT_TOKEN']}"}
        for body, kind in ODD:
            url = f"{slack.settings()['SLACK_API_BASE_URL'].rstrip('/')}/{method}"
            answer = requests.post(url, data=body, headers={**headers, "Content-Type": kind}, timeout=9)
            errors[body] = answer.json()["error"]
    assert set(errors.values()) == {"json_not_object", "invalid_json", "invalid_post_type"}
