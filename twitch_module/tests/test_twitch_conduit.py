"""Twitch by a conduit: no public address, many channels, sockets that replicas share; each in a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twitch_browser import Browser
from waddlebot.data.database import Database, fetch
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import Child, answers_200
from waddlebot.fleet.home import make_encryption_key
from waddlebot.testing.fleet import Stack
from waddlebot.testing.plugin import eventually
from waddlebot.web.auth import create_account
from waddlebot.web.http import HTTPClient, HTTPResponse

from simulators.twitch import TwitchSimulator
from simulators.twitch.conduits import Conduit, Shard

CHAT, FOLLOW = "channel.chat.message", "channel.follow"
MODULES = ("router", "inventory", "twitch")
numbers = itertools.count(1)


@dataclass
class Replicas:
    """Processes of one fleet, each with router, inventory and collector; for a Browser it is the fleet."""

    database: Database
    twitch: TwitchSimulator
    environment: dict[str, str]
    keys: dict[str, str]
    folder: Path
    children: list[Child] = field(default_factory=list)
    http: HTTPClient = field(default_factory=HTTPClient)

    @property
    def url(self) -> str:
        return self.children[0].environment["WADDLEBOT_OWN_URL"]

    def start(self, *, transport: str = "conduit", replicas: int = 1) -> None:
        """Start so many at the same moment, and wait until they serve."""
        made = [self._make(transport) for _ in range(replicas)]
        for each in made:
            each.start()
        self.children += made
        eventually(lambda: all(answers_200(url) for each in made for url in each.ready_urls), within_s=60)

    def stop(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Child.stop, self.children))
        self.children.clear()

    def _make(self, transport: str) -> Child:
        port, name = free_port(), f"conduit-{next(numbers)}"
        url = f"http://127.0.0.1:{port}"
        environment = {
            **self.environment,
            "TWITCH_EVENTSUB_TRANSPORT": transport,
            "CONTAINER_ID": name,
            "CORE_API_URL": url,
            "BASE_URL": url,
            "MODULE_URL": url,
            "WADDLEBOT_PORT": str(port),
            "WADDLEBOT_OWN_URL": url,
            "WADDLEBOT_RUN_DIR": str(self.folder / name),
            "LOG_DIR": str(self.folder / f"{name}-logs"),
        }
        ready = [f"{url}/twitch/ready", f"{url}/router/ready"]
        return Child(name, ["waddlebot.fleet.serve", "web"], environment, ready)

    def request(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = "console", headers: Any = None
    ) -> HTTPResponse:
        sent = dict(headers or {}) | ({"X-API-Key": self.keys[key]} if key else {})
        return self.http.request(method, self.url + path, body=body, headers=sent, keep_headers=True)

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with self.database.transaction() as db:
            return fetch(db, sql, parameters)

    # At Twitch

    @property
    def conduit(self) -> Conduit:
        ours = {row["conduit_id"] for row in self.query("SELECT conduit_id FROM twitch_conduits")}
        (found,) = [each for id_, each in self.twitch.conduits.by_id.items() if id_ in ours]
        return found

    def bound(self) -> list[Shard]:
        shards = self.conduit.shards.values() if self.query("SELECT 1 FROM twitch_conduits") else ()
        return [each for each in shards if each.status == "enabled"]

    def is_whole(self) -> bool:
        """Every shard has a session of its own."""
        return len({each.session_id for each in self.bound()}) == 2


@pytest.fixture(scope="module")
def replicas(tmp_path_factory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("conduits")
    with Stack.running(folder) as stack, TwitchSimulator(strict=True) as twitch:
        twitch.user("waddlebot", id=twitch.bot_user_id)
        twitch.user("viewer")
        database = Database(stack.postgres.owner_url)
        environment = {
            **stack.environment(),
            **twitch.settings(),
            "TWITCH_WEBHOOK_CALLBACK_URL": "https://bot.example/twitch/webhook",
            "TWITCH_CONDUIT_SHARDS": "2",
            "WADDLEBOT_MODULES": "router_module,inventory_interaction_module,twitch_module",
            "WADDLEBOT_ENCRYPTION_KEYS": make_encryption_key("test"),
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
        fleet = Replicas(database, twitch, environment, keys, folder)
        # Somebody else's, which is nobody's to adopt.
        theirs = twitch.conduits.create(3)
        try:
            fleet.start(replicas=2)
            eventually(lambda: fleet.is_whole(), within_s=20)
            Browser(fleet, twitch).consent("waddlebot", start="/twitch/auth/bot/login")
            yield fleet
            assert theirs.id in twitch.conduits.by_id
            assert theirs.shards == {}
        finally:
            fleet.stop()
            database.close()


@dataclass
class Home:
    """A streamer's channel, seen from Twitch."""

    id: str
    fleet: Replicas

    def subscribed(self) -> dict[str, set[str]]:
        """By type, the transports that deliver it."""
        found: dict[str, set[str]] = {}
        for each in self.fleet.twitch.eventsub:
            if self.id in each.condition.values() and each.is_enabled:
                found.setdefault(each.type, set()).add(each.transport["method"])
        return found

    def comes_by(self, transport: str) -> bool:
        there = self.subscribed()
        return {CHAT, FOLLOW, "stream.offline"} <= there.keys() and all(each == {transport} for each in there.values())

    @property
    def shard(self) -> str:
        chat = self.fleet.twitch.eventsub.find(CHAT, self.id)[0]
        return self.fleet.twitch.conduits.shard_of(self.fleet.conduit, sorted(chat.condition.items())[0][1])

    def say(self, text: str) -> None:
        self.fleet.twitch.say(self.id, text, chatter="viewer")

    @property
    def texts(self) -> list[str]:
        here = [each for each in self.fleet.twitch.messages if each.broadcaster_id == self.id]
        return [each.message.removeprefix("› ").removesuffix(" \U000e0000") for each in here]

    def stored(self, type_: str) -> list[Any]:
        rows = self.fleet.query("SELECT * FROM twitch_events WHERE broadcaster_id = %s ORDER BY id", self.id)
        return [row["event_data"]["event"] for row in rows if row["type"] == type_ and row["state"] != "ignored"]

    def asked(self) -> list[str]:
        return sorted(each["message"]["text"] for each in self.stored(CHAT))

    def followers(self) -> list[str]:
        return sorted(each["user_login"] for each in self.stored(FOLLOW))

    def points_for_follows(self) -> int:
        found = self.fleet.query(
            "SELECT 1 FROM twitch_activities WHERE entity_id = %s AND activity_type = 'follow'", f"twitch::{self.id}"
        )
        return len(found)


@pytest.fixture
def home(replicas: Replicas) -> Home:
    account = replicas.twitch.user(f"conduit{next(numbers)}")
    page = Browser(replicas, replicas.twitch).consent(account.login)
    assert page.status == 200, page.body
    made = Home(account.id, replicas)
    eventually(lambda: made.comes_by("conduit"), within_s=20)
    return made


def health(replicas: Replicas) -> dict[str, Any]:
    answer: dict[str, Any] = replicas.request("GET", "/twitch/health").json()
    return answer


def test_two_replicas_that_create_at_once_make_one_conduit_and_share_its_shards(replicas):
    assert len(replicas.twitch.conduits.by_id) == 2, "ours, and the one that is not"
    assert replicas.conduit.count == 2
    held = "SELECT DISTINCT container_id FROM twitch_conduit_shards WHERE state = 'bound'"
    eventually(lambda: len(replicas.query(held)) == 2, within_s=20)


def test_a_message_is_answered_by_conduit_and_nothing_that_comes_twice_counts_twice(home):
    home.fleet.twitch.conduits.repeats = True
    try:
        home.say("!help")
        home.fleet.twitch.follow(home.id, home.fleet.twitch.user(f"fan{next(numbers)}").id)
        eventually(lambda: len(home.texts) == 1, within_s=20)
        eventually(lambda: home.points_for_follows() == 1)
        assert home.asked() == ["!help"]
    finally:
        home.fleet.twitch.conduits.repeats = False


@pytest.mark.parametrize("how", ["drop", "close"])
def test_a_shard_whose_socket_dies_in_mid_burst_is_bound_anew_and_nothing_is_lost_or_doubled(home, how):
    fleet, conduits = home.fleet, home.fleet.twitch.conduits
    eventually(fleet.is_whole, within_s=20)
    before, dropped = fleet.conduit.shards[home.shard].session_id, conduits.dropped
    for n in range(20):
        home.say(f"before {n:03}")
    eventually(lambda: len(home.asked()) == 20, within_s=20)
    getattr(fleet.twitch.sockets, how)(before)
    eventually(lambda: fleet.conduit.shards[home.shard].status != "enabled" or conduits.moved)
    for n in range(60):
        home.say(f"during {n:03}")
    wanted = [f"before {n:03}" for n in range(20)] + [f"during {n:03}" for n in range(60)]
    eventually(lambda: home.asked() == wanted, within_s=20)
    eventually(lambda: fleet.is_whole() and fleet.conduit.shards[home.shard].session_id != before, within_s=20)
    assert conduits.dropped == dropped


def test_a_session_that_moves_to_another_id_is_bound_under_it(home):
    fleet, sockets = home.fleet, home.fleet.twitch.sockets
    eventually(fleet.is_whole, within_s=20)
    session = fleet.conduit.shards[home.shard].session_id
    sockets.renames = True
    try:
        sockets.reconnect(session)
        for n in range(60):
            home.say(f"moving {n:02}")
        eventually(lambda: fleet.conduit.shards[home.shard].session_id != session, within_s=10)
        eventually(lambda: home.asked() == [f"moving {n:02}" for n in range(60)], within_s=20)
    finally:
        sockets.renames = False


def test_a_late_binding_by_who_lost_the_claim_is_taken_back_by_who_holds_it(home):
    """The PATCH that races a lost claim, and one that Twitch refuses for one shard only."""
    fleet = home.fleet
    eventually(fleet.is_whole, within_s=20)
    own, other = fleet.conduit.shards["0"].session_id, fleet.conduit.shards["1"].session_id
    fleet.twitch.conduits.assign(
        fleet.conduit.id, [{"id": "0", "transport": {"method": "websocket", "session_id": other}}]
    )
    fleet.twitch.conduits.refuses["0"] = 1
    eventually(lambda: fleet.conduit.shards["0"].session_id not in ("", other), within_s=30)
    eventually(fleet.is_whole, within_s=30)
    assert own
    home.say("!help")
    eventually(lambda: len(home.texts) == 1, within_s=20)


def test_a_conduit_that_twitch_has_deleted_is_made_anew_with_all_subscriptions(home):
    fleet = home.fleet
    gone = fleet.conduit.id
    fleet.twitch.conduits.delete(gone)
    eventually(lambda: fleet.query("SELECT 1 FROM twitch_conduits WHERE conduit_id <> %s", gone), within_s=20)
    eventually(lambda: fleet.is_whole() and home.comes_by("conduit"), within_s=30)
    home.say("!help")
    eventually(lambda: len(home.texts) == 1, within_s=20)
    eventually(lambda: health(fleet)["checks"]["conduit"]["ok"], within_s=20)


def test_to_webhooks_and_back_without_a_doubled_follow(home):
    """In the same database, one process after the other; the conduit outlives both."""
    fleet, twitch, conduit = home.fleet, home.fleet.twitch, home.fleet.conduit.id
    fans = [twitch.user(f"fan{next(numbers)}") for _ in range(4)]
    twitch.follow(home.id, fans[0].id)
    eventually(lambda: home.points_for_follows() == 1)
    for n, transport in ((1, "webhook"), (2, "conduit")):
        fleet.stop()
        fleet.start(transport=transport)
        twitch.callbacks["https://bot.example/"] = f"{fleet.url}/"
        fleet.query("UPDATE twitch_channels SET checked_at = NULL RETURNING 1")
        eventually(lambda transport=transport: home.comes_by(transport), within_s=30)
        if transport == "conduit":
            eventually(fleet.is_whole, within_s=30)
        twitch.follow(home.id, fans[n].id)
        wanted = sorted(each.login for each in fans[: n + 1])
        eventually(lambda wanted=wanted: home.followers() == wanted, within_s=20)
        eventually(lambda n=n: home.points_for_follows() == n + 1)
        home.say("!help")
        eventually(lambda n=n: len(home.texts) == n, within_s=20)
    assert fleet.conduit.id == conduit
