"""Twitch by a conduit: no public address, many channels, sockets that replicas share; each in a process of its own."""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twitch_browser import Browser
from waddlebot.data.database import Database, fetch
from waddlebot.fleet.embedded import free_port, stop_process
from waddlebot.fleet.fleet import Child, answers_200
from waddlebot.fleet.home import make_encryption_key
from waddlebot.testing.fleet import Stack
from waddlebot.testing.plugin import eventually
from waddlebot.web.auth import create_account
from waddlebot.web.http import HTTPClient, HTTPResponse

from simulators.twitch import TwitchSimulator
from simulators.twitch.conduits import Conduit, Shard

pytestmark = pytest.mark.timeout(300)
CHAT, FOLLOW = "channel.chat.message", "channel.follow"
ASKED, ANSWER = "!inventory list", "The inventory is empty."
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
        return f"http://127.0.0.1:{self.children[0].environment['WADDLEBOT_PORT']}"

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

    def kill(self, name: str) -> None:
        (child,) = [each for each in self.children if each.name == name]
        stop_process(child.process, signal.SIGKILL)
        self.children.remove(child)

    def _make(self, transport: str) -> Child:
        port, name = free_port(), f"conduit-{next(numbers)}"
        url = f"http://127.0.0.1:{port}"
        environment = {
            **self.environment,
            "TWITCH_EVENTSUB_TRANSPORT": transport,
            "CONTAINER_ID": name,
            "WADDLEBOT_PORT": str(port),
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

    def is_shared(self) -> bool:
        """Each of two replicas has bound one of them."""
        return self.is_whole() and len(set(self.holders().values())) == 2

    def holders(self) -> dict[str, str]:
        """By shard, which replica has bound it."""
        rows = self.query("SELECT shard_id, container_id FROM twitch_conduit_shards WHERE state = 'bound'")
        return {str(row["shard_id"]): row["container_id"].removesuffix("/shards") for row in rows}

    def gaps(self, shard: str) -> list[dict[str, Any]]:
        """What a shard may have missed, newest first."""
        listed = self.request("GET", "/twitch/channels", key="admin").json()["gaps"]
        return [each for each in listed if each["entity_id"] == f"twitch:shard:{shard}"]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("conduits")
    with Stack.running(folder) as stack, TwitchSimulator(strict=True) as twitch:
        twitch.user("waddlebot", id=twitch.bot_user_id)
        twitch.user("viewer")
        database = Database(stack.postgres.owner_url)
        # All have one address, as replicas behind whatever shares out their requests; each answers itself there.
        shared = f"http://127.0.0.1:{free_port()}"
        environment = {
            **stack.environment(),
            **twitch.settings(),
            **dict.fromkeys(("CORE_API_URL", "BASE_URL", "MODULE_URL", "WADDLEBOT_OWN_URL"), shared),
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
            keys["admin"] = create_account(db, name="admin", groups=["admins"]).api_key
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
def shared(replicas: Replicas) -> Replicas:
    """Two replicas, a shard for each."""
    if missing := 2 - len(replicas.children):
        replicas.start(replicas=missing)
    eventually(replicas.is_shared, within_s=40)
    return replicas


@pytest.fixture
def home(shared: Replicas) -> Home:
    return a_home(shared)


def a_home(replicas: Replicas) -> Home:
    """A channel that everything comes from by conduit."""
    account = replicas.twitch.user(f"conduit{next(numbers)}")
    page = Browser(replicas, replicas.twitch).consent(account.login)
    assert page.status == 200, page.body
    made = Home(account.id, replicas)
    eventually(lambda: made.comes_by("conduit"), within_s=20)
    return made


def check(replicas: Replicas, name: str) -> dict[str, Any]:
    """One of the checks that `waddlebot doctor` shows."""
    found: dict[str, Any] = replicas.request("GET", "/twitch/health", key="admin").json()["checks"][name]
    return found


def metric(replicas: Replicas, name: str) -> float:
    text = replicas.request("GET", "/twitch/metrics", key="admin", headers={"Accept": "text/plain"}).body.decode()
    (found,) = re.findall(rf"^waddlebot_twitch_{name} (.+)$", text, re.MULTILINE)
    return float(found)


def test_replicas_that_start_at_once_use_one_conduit_and_leave_anothers_alone(shared):
    assert len(shared.twitch.conduits.by_id) == 2, "ours, and the one that is not"
    assert shared.conduit.count == 2
    assert sorted(shared.holders()) == ["0", "1"]


def test_a_message_is_answered_by_conduit_and_nothing_that_comes_twice_counts_twice(home):
    home.fleet.twitch.conduits.repeats = True
    try:
        home.say(ASKED)
        home.fleet.twitch.follow(home.id, home.fleet.twitch.user(f"fan{next(numbers)}").id)
        eventually(lambda: home.texts == [ANSWER], within_s=20)
        eventually(lambda: home.points_for_follows() == 1)
        assert home.asked() == [ASKED]
    finally:
        home.fleet.twitch.conduits.repeats = False


def test_health_and_metrics_tell_how_many_shards_are_bound_and_what_subscriptions_may_cost(home):
    fleet = home.fleet
    eventually(lambda: check(fleet, "conduit")["ok"], within_s=20)
    assert check(fleet, "conduit")["detail"] == "2 shards, all bound"
    assert (metric(fleet, "conduit_shards"), metric(fleet, "conduit_shards_bound")) == (2, 2)
    eventually(lambda: metric(fleet, "eventsub_max_total_cost") == 10_000)


def test_doctor_warns_before_subscriptions_cost_all_that_they_may(shared):
    """A channel whose streamer has not consented costs something."""
    eventsub, stranger = shared.twitch.eventsub, shared.twitch.user(f"conduit{next(numbers)}")
    body = json.dumps({"type": "stream.online", "broadcaster_id": stranger.id}).encode()
    sent = {"Content-Type": "application/json"}
    made = shared.request("POST", "/twitch/api/subscriptions", body, key="admin", headers=sent)
    assert made.status == 200, made.body
    eventsub.max_webhook_cost = 1
    try:
        a_home(shared)  # With its subscriptions Twitch says what all of them cost.
        eventually(lambda: not check(shared, "subscription-costs")["ok"], within_s=20)
        assert "subscriptions cost 1 of 1" in check(shared, "subscription-costs")["detail"]
        assert (metric(shared, "eventsub_total_cost"), metric(shared, "eventsub_max_total_cost")) == (1, 1)
    finally:
        eventsub.max_webhook_cost = 10_000


@pytest.mark.parametrize("how", ["drop", "close"])
def test_a_shard_whose_socket_dies_in_mid_burst_is_bound_anew_and_nothing_is_lost_or_doubled(home, how):
    fleet, conduits = home.fleet, home.fleet.twitch.conduits
    before, dropped = fleet.conduit.shards[home.shard].session_id, conduits.dropped
    wanted = [f"before {n:03}" for n in range(20)]
    for text in wanted:
        home.say(text)
    eventually(lambda: home.asked() == wanted, within_s=20)
    getattr(fleet.twitch.sockets, how)(before)
    eventually(lambda: before not in fleet.twitch.sockets.sessions)
    during = [f"during {n:03}" for n in range(60)]
    for text in during:
        home.say(text)
    wanted += during
    eventually(lambda: home.asked() == wanted, within_s=20)
    eventually(lambda: fleet.is_whole() and fleet.conduit.shards[home.shard].session_id != before, within_s=20)
    assert conduits.dropped == dropped
    (gap,) = fleet.gaps(home.shard)[:1]
    assert gap["since"] < gap["until"]


def test_a_session_that_moves_to_another_id_is_bound_under_it(home):
    fleet, sockets = home.fleet, home.fleet.twitch.sockets
    session = fleet.conduit.shards[home.shard].session_id
    wanted = [f"moving {n:02}" for n in range(60)]
    sockets.renames = True
    try:
        sockets.reconnect(session)
        for text in wanted:
            home.say(text)
        eventually(lambda: fleet.conduit.shards[home.shard].session_id != session, within_s=20)
        eventually(lambda: home.asked() == wanted, within_s=20)
    finally:
        sockets.renames = False
    eventually(fleet.is_whole, within_s=20)


def test_while_both_shards_are_down_health_names_them_and_then_they_are_bound_and_the_gap_is_told(home):
    fleet, conduits = home.fleet, home.fleet.twitch.conduits
    holds = {shard: threading.Event() for shard in ("0", "1")}
    gaps = {shard: len(fleet.gaps(shard)) for shard in holds}
    conduits.holds.update({shard: [hold] for shard, hold in holds.items()})
    dropped = conduits.dropped
    try:
        fleet.twitch.sockets.drop()
        eventually(lambda: not fleet.bound())
        home.say("nobody hears this")
        assert conduits.dropped == dropped + 1
        eventually(lambda: not check(fleet, "conduit")["ok"], within_s=20)
        eventually(lambda: check(fleet, "conduit")["detail"].startswith("2 of 2 shards are not bound; shard 0: closed"))
    finally:
        for hold in holds.values():
            hold.set()
    eventually(fleet.is_whole, within_s=40)
    home.say(ASKED)
    eventually(lambda: home.texts == [ANSWER], within_s=20)
    assert home.asked() == [ASKED]
    eventually(lambda: all(len(fleet.gaps(shard)) == count + 1 for shard, count in gaps.items()))
    eventually(lambda: check(fleet, "conduit")["ok"], within_s=20)


def test_what_twitch_refuses_for_one_shard_is_tried_again(home):
    fleet = home.fleet
    fleet.twitch.conduits.refuses["0"] = 2
    before = fleet.conduit.shards["0"].session_id
    fleet.twitch.sockets.drop(before)
    eventually(lambda: fleet.twitch.conduits.refuses["0"] == 0, within_s=20)
    eventually(lambda: fleet.is_whole() and fleet.conduit.shards["0"].session_id != before, within_s=40)


def test_a_binding_that_comes_after_its_claim_was_lost_is_taken_back_and_loses_nothing(home):
    """The router fences who may bind; what the late session brings is kept all the same."""
    fleet, conduits, shard = home.fleet, home.fleet.twitch.conduits, home.shard
    hold, before = threading.Event(), fleet.conduit.shards[shard].session_id
    conduits.holds[shard] = [hold]
    try:
        fleet.twitch.sockets.drop(before)
        eventually(lambda: conduits.holds[shard] == [], within_s=20, what="the PATCH is on its way")
        fleet.query(
            "UPDATE coordination SET claimed_by = NULL, epoch = nextval('coordination_epochs')"
            " WHERE entity_id = %s RETURNING 1",
            f"twitch:shard:{shard}",
        )
        eventually(fleet.is_whole, within_s=20, what="it is claimed anew and bound")
        rightful = fleet.conduit.shards[shard].session_id
    finally:
        hold.set()
    eventually(lambda: fleet.conduit.shards[shard].session_id != rightful, what="the late PATCH has come")
    late = [f"late {n:02}" for n in range(20)]
    for text in late:
        home.say(text)
    eventually(lambda: home.asked() == late, within_s=20)
    eventually(lambda: fleet.conduit.shards[shard].session_id == rightful, within_s=30)
    home.say(ASKED)
    eventually(lambda: home.texts == [ANSWER], within_s=20)
    assert home.asked() == sorted([ASKED, *late])


def test_a_conduit_that_twitch_has_deleted_is_made_anew_once_by_two_replicas_with_all_subscriptions(home):
    fleet, conduits, hold = home.fleet, home.fleet.twitch.conduits, threading.Event()
    gone = fleet.conduit.id
    conduits.holds["create"] = [hold]
    try:
        conduits.delete(gone)
        fleet.twitch.sockets.drop()  # Both find out at once.
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: conduits.holds["create"] == [] and fleet.query(waiting))
    finally:
        hold.set()
    eventually(lambda: fleet.query("SELECT 1 FROM twitch_conduits WHERE conduit_id <> %s", gone), within_s=20)
    eventually(lambda: fleet.is_whole() and home.comes_by("conduit"), within_s=40)
    home.say(ASKED)
    eventually(lambda: home.texts == [ANSWER], within_s=20)
    assert len(conduits.by_id) == 2, "ours, and the one that is not"


def test_a_replica_that_is_killed_in_a_raid_is_followed_by_the_other_and_nothing_is_lost_or_doubled(home):
    fleet, twitch, dropped = home.fleet, home.fleet.twitch, home.fleet.twitch.conduits.dropped
    holder = fleet.holders()[home.shard]
    raider = twitch.user(f"raider{next(numbers)}")
    before = [f"before {n:02}" for n in range(20)]
    for text in before:
        home.say(text)
    eventually(lambda: home.asked() == before, within_s=20)
    fleet.kill(holder)
    eventually(lambda: fleet.conduit.shards[home.shard].status != "enabled")
    twitch.raid(home.id, raider.id)
    during = [ASKED, *(f"during {n:02}" for n in range(20))]
    for text in during:
        home.say(text)
    eventually(lambda: home.asked() == sorted([*before, *during]), within_s=20)
    eventually(lambda: home.texts == [ANSWER], within_s=30)
    assert len(home.stored("channel.raid")) == 1
    eventually(fleet.is_whole, within_s=30)
    eventually(lambda: set(fleet.holders().values()) == {each.name for each in fleet.children})
    assert twitch.conduits.dropped == dropped
    (gap,) = fleet.gaps(home.shard)[:1]
    assert gap["since"] < gap["until"]


def test_a_replica_that_is_stopped_hands_its_shard_over_and_nothing_is_lost_or_doubled(home):
    fleet, dropped = home.fleet, home.fleet.twitch.conduits.dropped
    (child,) = [each for each in fleet.children if each.name == fleet.holders()[home.shard]]
    fleet.children.remove(child)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(child.stop)
        said = []
        while not wait([stopping], timeout=0.02).done:
            said.append(f"meanwhile {len(said):04}")
            home.say(said[-1])
    home.say(ASKED)
    eventually(lambda: home.texts == [ANSWER], within_s=20)
    eventually(lambda: home.asked() == sorted([ASKED, *said]), within_s=20)
    eventually(fleet.is_whole, within_s=30)
    assert fleet.twitch.conduits.dropped == dropped


def test_a_shard_whose_session_has_died_comes_by_anothers_until_it_has_one(replicas):
    """Where one replica has several."""
    replicas.stop()
    replicas.start()
    eventually(replicas.is_whole, within_s=40)
    home, conduits, hold = a_home(replicas), replicas.twitch.conduits, threading.Event()
    before = replicas.conduit.shards[home.shard].session_id
    conduits.holds[home.shard] = [None, hold]
    try:
        replicas.twitch.sockets.drop(before)
        eventually(lambda: len(replicas.bound()) == 2 and not replicas.is_whole(), within_s=20)
        moved_before = conduits.moved
        wanted = [f"lent {n:02}" for n in range(20)]
        for text in wanted:
            home.say(text)
        eventually(lambda: home.asked() == wanted, within_s=20)
        assert conduits.moved == moved_before, "the shard is bound, so nothing is left to chance"
    finally:
        hold.set()
    eventually(replicas.is_whole, within_s=20)
    assert replicas.conduit.shards[home.shard].session_id != before


def test_to_webhooks_and_back_without_a_doubled_follow(home):
    """In the same database, one process after the other; the conduit outlives both."""
    fleet, twitch, conduit = home.fleet, home.fleet.twitch, home.fleet.conduit.id
    fans = [twitch.user(f"fan{next(numbers)}") for _ in range(4)]
    twitch.follow(home.id, fans[0].id)
    eventually(lambda: home.points_for_follows() == 1)
    gaps = len(fleet.gaps(home.shard))
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
        home.say(ASKED)
        eventually(lambda n=n: home.texts == [ANSWER] * n, within_s=20)
    assert fleet.conduit.id == conduit
    eventually(lambda: len(fleet.gaps(home.shard)) == gaps + 1, what="nobody had the shard meanwhile")
