"""The bot at a streamer's home: no public address, one socket for the channel, in a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from twitch_browser import Browser, text_of
from waddlebot.data.database import Database, fetch
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import Child, answers_200
from waddlebot.fleet.home import make_encryption_key
from waddlebot.testing.browser import chromium
from waddlebot.testing.fleet import Stack
from waddlebot.testing.plugin import eventually
from waddlebot.web.auth import create_account
from waddlebot.web.http import HTTPClient, HTTPResponse

from simulators.twitch import TwitchSimulator
from simulators.twitch.websocket import RECONNECT_GRACE_EXPIRED
from simulators.twitch.websocket import _about as about
from simulators.twitch.websocket import _message as message

CHAT = "channel.chat.message"
numbers = itertools.count(1)
MODULES = ("router", "inventory", "twitch")


@dataclass
class HomeFleet:
    """Router, inventory and the Twitch collector in one process; for a Browser it is the fleet."""

    url: str
    database: Database
    twitch: TwitchSimulator
    keys: dict[str, str]
    http: HTTPClient = field(default_factory=HTTPClient)

    def request(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = "console", headers: Any = None
    ) -> HTTPResponse:
        sent = dict(headers or {}) | ({"X-API-Key": self.keys[key]} if key else {})
        return self.http.request(method, self.url + path, body=body, headers=sent, keep_headers=True)

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with self.database.transaction() as db:
            return fetch(db, sql, parameters)


@pytest.fixture(scope="module")
def home_fleet(tmp_path_factory) -> Iterator[HomeFleet]:
    folder = tmp_path_factory.mktemp("home-fleet")
    with Stack.running(folder) as stack, TwitchSimulator(strict=True) as twitch:
        twitch.sockets.keepalive_s = 10
        twitch.user("waddlebot", id=twitch.bot_user_id)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        database = Database(stack.postgres.owner_url)
        settings = {name: value for name, value in twitch.settings().items() if name != "TWITCH_WEBHOOK_SECRET"}
        environment = {
            **stack.environment(),
            **settings,
            "TWITCH_EVENTSUB_TRANSPORT": "websocket",
            "TWITCH_EVENTSUB_WEBSOCKET_URL": twitch.websocket_url,
            "MAX_CLAIMS": "50",
            "CORE_API_URL": url,
            "BASE_URL": url,
            "MODULE_URL": url,
            "WADDLEBOT_MODULES": "router_module,inventory_interaction_module,twitch_module",
            "WADDLEBOT_PORT": str(port),
            "WADDLEBOT_OWN_URL": url,
            "WADDLEBOT_RUN_DIR": str(folder / "run"),
            "WADDLEBOT_ENCRYPTION_KEYS": make_encryption_key("test"),
            "LOG_DIR": str(folder / "logs"),
            "LOG_CONSOLE_LEVEL": "ERROR",
        }
        keys = {}
        with database.transaction() as db:
            made = create_account(db, name="console", groups=["collectors", "admins"], platforms=["console"])
            keys["console"] = made.api_key
            for name in MODULES:
                groups = ["collectors"] if name == "twitch" else ["services"]
                made = create_account(db, name=name, groups=groups, module_name=name)
                keys[name] = environment[f"{name.upper()}_WADDLEBOT_API_KEY"] = made.api_key
        child = Child(
            "home", ["waddlebot.fleet.serve", "web"], environment, [f"{url}/twitch/ready", f"{url}/router/ready"]
        )
        child.start()
        try:
            eventually(lambda: all(answers_200(each) for each in child.ready_urls), within_s=60)
            fleet = HomeFleet(url, database, twitch, keys)
            page = Browser(fleet, twitch).consent("waddlebot", start="/twitch/auth/bot/login")
            assert "The bot is ready" in text_of(page)
            yield fleet
        finally:
            child.stop()
            database.close()


@dataclass
class Home:
    """A streamer's channel, seen from Twitch."""

    login: str
    id: str
    fleet: HomeFleet
    twitch: TwitchSimulator

    @property
    def session(self) -> str:
        """The id of the session that hears this channel."""
        found = [each for each in self.twitch.eventsub.find(CHAT, self.id) if each.is_enabled]
        return found[0].session_id if found else ""

    @property
    def types(self) -> set[str]:
        return {each.type for each in self.twitch.eventsub if self.id in each.condition.values() and each.is_enabled}

    @property
    def texts(self) -> list[str]:
        here = [each for each in self.twitch.messages if each.broadcaster_id == self.id]
        return [each.message.removeprefix("› ").removesuffix(" \U000e0000") for each in here]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.fleet.query("SELECT * FROM twitch_events WHERE broadcaster_id = %s ORDER BY id", self.id)

    def say(self, text: str, **options: Any) -> None:
        self.twitch.say(self.id, text, chatter=options.pop("chatter", "viewer"), **options)

    def asked(self, count: int) -> list[str]:
        """The chat messages of viewers that have been stored to be forwarded, in order."""
        return [
            row["event_data"]["event"]["message"]["text"]
            for row in self.rows
            if row["type"] == CHAT and row["state"] != "ignored"
        ][:count]

    @property
    def gaps(self) -> list[str]:
        found = self.fleet.query("SELECT why FROM channel_gaps WHERE entity_id = %s", f"twitch::{self.id}")
        return [row["why"] for row in found]


@pytest.fixture
def home(home_fleet: HomeFleet) -> Home:
    """A channel whose streamer has let the bot in, and that is heard."""
    twitch = home_fleet.twitch
    account = twitch.user(f"home{next(numbers)}")
    page = Browser(home_fleet, twitch).consent(account.login)
    assert page.status == 200, page.body
    made = Home(account.login, account.id, home_fleet, twitch)
    twitch.user("viewer")
    eventually(lambda: "stream.offline" in made.types, within_s=20)
    return made


def test_a_streamer_at_home_gets_from_a_button_to_a_channel_that_answers(home_fleet):
    twitch = home_fleet.twitch
    account = twitch.user("impatient")
    twitch.user("viewer")
    page = Browser(home_fleet, twitch).consent(account.login)
    assert "The bot is in your channel" in text_of(page)
    made = Home(account.login, account.id, home_fleet, twitch)
    eventually(lambda: made.session, within_s=20)
    made.say("!inventory list")
    eventually(lambda: made.texts == ["The inventory is empty."], within_s=20)


def test_a_streamer_clicks_through_in_a_real_browser(home_fleet):
    """With the pages' own policy for styles and forms, without any script."""
    refused: list[str] = []
    with chromium() as browser:
        page = browser.new_context(java_script_enabled=False).new_page()
        page.on("console", lambda each: refused.append(each.text))
        page.goto(f"{home_fleet.url}/twitch/auth")
        assert page.locator("main > .card").bounding_box()["width"] <= 640, "the style was refused"
        page.get_by_role("button", name="Continue to Twitch").click()
        page.fill("#login", "clicker")
        page.get_by_role("button", name="Authorize").click()
        page.get_by_role("heading", name="The bot is in your channel").wait_for()
        page.get_by_role("link", name="leave").click()
        page.get_by_role("link", name="Continue to Twitch").click()
        page.get_by_role("button", name="Yes, leave my channel").click()
        page.get_by_role("heading", name="The bot has left").wait_for()
    assert [each for each in refused if "Content Security Policy" in each] == []


def test_a_socket_hears_all_that_was_consented_to(home):
    assert home.types >= {CHAT, "channel.follow", "channel.cheer", "channel.raid", "stream.online"}
    home.twitch.follow(home.id, home.twitch.user("fan").id)
    eventually(lambda: [row["type"] for row in home.rows if row["state"] == "forwarded"] == ["channel.follow"])


def test_a_session_that_moves_in_mid_burst_loses_and_doubles_nothing(home):
    session = home.session
    for n in range(30):
        home.say(f"before {n}")
    home.twitch.sockets.reconnect(session)
    for n in range(200):
        home.say(f"during {n}")
    wanted = [f"before {n}" for n in range(30)] + [f"during {n}" for n in range(200)]
    eventually(lambda: sorted(home.asked(1000)) == sorted(wanted), within_s=30)
    assert home.session == session
    assert home.gaps == []
    home.say("!inventory list")
    eventually(lambda: home.texts == ["The inventory is empty."])


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_connection_that_ends_is_made_anew_and_the_gap_is_noted(home, how):
    session = home.session
    getattr(home.twitch.sockets, how)(session)
    eventually(lambda: home.session not in ("", session), within_s=20)
    eventually(lambda: home.gaps, within_s=20)
    home.say("!inventory list")
    eventually(lambda: home.texts == ["The inventory is empty."], within_s=20)


def test_a_refused_move_goes_on_where_it_was_and_then_is_a_new_session(home):
    sockets, session = home.twitch.sockets, home.session
    elsewhere = {"reconnect_url": f"{home.twitch.websocket_url}?reconnect_key=refused"}
    asked = message("session_reconnect", {"session": about(sockets._sessions[session], "reconnecting") | elsewhere})
    sockets._loop.call_soon_threadsafe(sockets._sessions[session].outgoing.put_nowait, asked)
    home.say("!inventory list")
    eventually(lambda: home.texts == ["The inventory is empty."], within_s=20)
    assert home.session == session
    sockets.close(session, code=RECONNECT_GRACE_EXPIRED)
    eventually(lambda: home.session not in ("", session), within_s=20)
    home.say("!inventory list")
    eventually(lambda: home.texts == ["The inventory is empty."] * 2, within_s=20)


def test_a_connected_but_deaf_socket_is_replaced(home):
    session = home.session
    home.twitch.sockets.deafen(session)
    eventually(lambda: home.session not in ("", session), within_s=70)
    home.say("!inventory list")
    eventually(lambda: home.texts == ["The inventory is empty."], within_s=20)


def test_a_revoked_subscription_is_made_again(home):
    home.twitch.revoke(CHAT, home.id, status="version_removed")
    eventually(lambda: home.session, within_s=30)
    home.say("!inventory list")
    eventually(lambda: home.texts == ["The inventory is empty."], within_s=20)


def test_who_disconnects_is_told_of_and_consents_again(home):
    home.twitch.disconnect(home.login)
    states = "SELECT state FROM twitch_tokens WHERE owner_id = %s"
    eventually(lambda: home.fleet.query(states, home.id) == [{"state": "needs_reauth"}], within_s=20)
    Browser(home.fleet, home.twitch).consent(home.login)
    eventually(lambda: home.session, within_s=60)
    home.say("!inventory list")
    eventually(lambda: home.texts == ["The inventory is empty."], within_s=20)


def test_without_the_right_to_read_chat_it_is_said(home_fleet):
    account = home_fleet.twitch.user("shy")
    page = Browser(home_fleet, home_fleet.twitch).consent(account.login, grant=["channel:bot"])
    assert "The bot cannot hear your chat" in text_of(page)

    def trouble():
        rows = home_fleet.query("SELECT trouble FROM twitch_channels WHERE broadcaster_id = %s", account.id)
        return rows[0]["trouble"] if rows else ""

    eventually(lambda: "user:read:chat" in trouble(), within_s=20)


def test_leaving_closes_the_socket(home):
    Browser(home.fleet, home.twitch).leave(home.login)
    eventually(lambda: home.types == set(), within_s=20)


def test_the_webhook_is_not_there(home_fleet):
    assert home_fleet.request("POST", "/twitch/webhook", b"{}", key=None).status == 404
