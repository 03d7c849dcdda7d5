"""The core API: servers, who somebody is, events of modules, and activation (contracts §4)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.ids import new_id
from waddlebot.community.directory import add_server, list_servers, make_activation_key, remove_server
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot, Fleet
from waddlebot.web.http import HTTPResponse


@pytest.fixture
def module(fleet: Fleet) -> str:
    """A key of a module."""
    return fleet.make_key(new_id(), "services", module_name="reporter")


@pytest.fixture
def slack(fleet: Fleet) -> str:
    """A key of a collector for Slack."""
    return fleet.make_key(new_id(), "collectors", platforms=["slack"])


def serve(bot: Bot, platform: str = "slack", **more: Any) -> str:
    """Serve a channel that nobody else uses, and return its id."""
    channel = f"C{new_id()}"
    with bot.fleet.database.transaction() as db:
        add_server(db, platform, channel, server_id="T1", community=bot.slug, **more)
    return channel


def servers(bot: Bot, key: str, **query: Any) -> list[dict[str, Any]]:
    """The servers of the bot's community as an account sees them."""
    found: list[dict[str, Any]] = []
    while True:
        page = {"limit": 1000, "offset": len(found), **query}
        answer = bot.fleet.request("GET", "/api/servers", key=key, query=page)
        assert answer.status == 200, answer.body
        found += answer.json()["servers"]
        if len(found) >= answer.json()["total"]:
            return [each for each in found if each["community"] == bot.slug]


def context(bot: Bot, key: str, identity_name: object, **more: Any) -> HTTPResponse:
    return bot.fleet.request("POST", "/api/context", {"identity_name": identity_name, **more}, key=key)


def happened(bot: Bot, kind: str = "follow", **more: Any) -> dict[str, Any]:
    return {**bot.event("", by=new_id()), "message_type": kind, **more}


def test_a_collector_sees_the_servers_of_its_platforms(bot, fleet, slack):
    channel = serve(bot, name="general")
    serve(bot, "discord")

    [server] = servers(bot, slack, active="true")

    assert server["entity_id"] == f"slack:T1:{channel}"
    assert (server["platform"], server["channel"], server["server_id"]) == ("slack", channel, "T1")
    assert (server["name"], server["is_active"], server["community_id"]) == ("general", True, bot.community_id)
    assert "activation_key_hash" not in server
    assert servers(bot, slack, platform="discord") == []
    assert len(servers(bot, fleet.make_key(new_id(), "collectors"))) == 2


def test_servers_that_are_gone_are_told_apart(bot, fleet, slack):
    stays, goes = serve(bot), serve(bot)
    with fleet.database.transaction() as db:
        remove_server(db, "slack", goes, server_id="T1")

    assert [each["channel"] for each in servers(bot, slack, active="True")] == [stays]
    assert [each["channel"] for each in servers(bot, slack, active="false")] == [goes]
    assert len(servers(bot, slack)) == 2


def test_where_a_collector_posts_to_is_not_for_modules(bot, fleet, slack, module):
    channel = serve(bot)
    with fleet.database.transaction() as db:
        fetch(db, "UPDATE servers SET webhook_url = 'https://hooks.test/secret' WHERE channel = %s", (channel,))

    assert [each["webhook_url"] for each in servers(bot, slack)] == ["https://hooks.test/secret"]
    assert [each["webhook_url"] for each in servers(bot, module)] == [""]


def test_a_communitys_key_sees_its_own_servers(bot, fleet):
    serve(bot)
    serve(fleet.bot())
    key = fleet.make_key(new_id(), "services", module_name="bound", community_id=bot.community_id)

    page = fleet.request("GET", "/api/servers", key=key).json()

    assert (page["success"], page["total"], page["limit"], page["offset"]) == (True, 1, 100, 0)
    assert page["servers"][0]["community"] == bot.slug


def test_context_finds_people_by_id_and_by_name(bot, fleet, module):
    name = new_id()
    bot.say("hello", by=name)

    by_id = context(bot, module, f"console:{name}").json()
    by_name = context(bot, module, name.upper(), platform="console").json()

    assert by_id["success"]
    assert set(by_id["data"]) == {"identity_id", "namespace_name", "namespace_id"}
    assert by_name == by_id
    assert by_id["data"]["namespace_name"] == "global"
    entity = f"console:{bot.slug}:general"
    here = context(bot, module, f"console:{name}", entity_id=entity).json()["data"]
    assert (here["namespace_name"], here["namespace_id"]) == (bot.slug, bot.community_id)
    assert here["identity_id"] == by_id["data"]["identity_id"]


def test_context_of_nobody_or_nowhere(bot, fleet, module, slack):
    name = new_id()
    bot.say("hello", by=name)

    def code(answer: HTTPResponse) -> tuple[int, str]:
        return answer.status, answer.json()["error"]["code"]

    assert code(context(bot, module, f"console:{new_id()}")) == (404, "unknown_identity")
    assert code(context(bot, module, name, platform="discord")) == (404, "unknown_identity")
    assert code(context(bot, module, name)) == (422, "invalid")
    assert code(context(bot, slack, f"console:{name}")) == (403, "not_allowed")
    assert code(context(bot, slack, name, platform="console")) == (403, "not_allowed")
    assert code(context(bot, module, f"console:{name}", entity_id="console:nowhere:x")) == (404, "unknown_entity")
    assert code(context(bot, module, f"console:{name}", entity_id="nonsense")) == (422, "invalid")
    other = fleet.make_key(new_id(), "services", module_name="o", community_id=fleet.bot().community_id)
    entity = f"console:{bot.slug}:general"
    assert code(context(bot, other, f"console:{name}", entity_id=entity)) == (403, "not_allowed")


@pytest.mark.parametrize("wrong", [None, 5, "", "a\0b", "x" * 256, ["a"], {"a": 1}])
def test_a_name_that_cannot_be_is_refused(bot, module, wrong):
    assert context(bot, module, wrong, platform="console").status == 422


def test_a_collectors_event_is_what_router_events_takes(bot, fleet):
    event = {**bot.event("!inventory list"), "_metadata": {"source_module": "console"}}

    first = fleet.request("POST", "/api/events", event)
    again = fleet.request("POST", "/router/events", event).json()

    assert first.status == 200
    assert first.json()["responses"][0]["response_data"]["message"] == "The inventory is empty."
    assert again["duplicate"]
    assert again["session_id"] == first.json()["session_id"]


def test_a_module_reports_what_happened_and_never_speaks(bot, fleet, module):
    answer = fleet.request("POST", "/api/events", happened(bot), key=module)
    said = fleet.request("POST", "/api/events", bot.event("!inventory list", level="owner"), key=module)

    assert answer.status == 200
    assert answer.json()["success"]
    assert said.status == 403
    assert said.json()["error"]["code"] == "not_allowed"


def test_a_modules_event_carries_no_badges(bot, fleet, module):
    event = happened(bot, message="!inventory list")
    event["user"]["badges"] = ["owner"]

    session = fleet.request("POST", "/api/events", event, key=module).json()["session_id"]

    with fleet.database.transaction() as db:
        rows = fetch(db, "SELECT event FROM router_events WHERE session_id = %s", (session,))
    assert rows[0]["event"]["user"]["badges"] == []
    assert event["user"]["platform_user_id"] == rows[0]["event"]["user"]["platform_user_id"]


def test_modules_events_hide_nobody_elses(bot, fleet, module):
    other = fleet.make_key(new_id(), "services", module_name="other")
    event = happened(bot)

    answers = [
        fleet.request("POST", "/api/events", event, key=key).json() for key in (module, other, "console", module)
    ]

    assert [each["duplicate"] for each in answers] == [False, False, False, True]
    assert len({each["session_id"] for each in answers}) == 3
    assert fleet.request("POST", "/api/events", {**event, "event_id": "x" * 255}, key=module).status == 422


def test_an_event_of_another_community_or_a_simulated_one_is_refused(bot, fleet, module):
    bound = fleet.make_key(new_id(), "services", module_name="b", community_id=fleet.bot().community_id)

    assert fleet.request("POST", "/api/events", happened(bot), key=bound).status == 403
    assert fleet.request("POST", "/api/events", happened(bot, mode="simulate"), key=module).status == 403
    assert fleet.request("POST", "/api/events", happened(bot, server_id="nowhere"), key=module).status == 404
    assert fleet.request("POST", "/api/events", happened(bot, kind="dance"), key=module).status == 422


def activate(fleet: Fleet, key: str, activation_key: object) -> HTTPResponse:
    return fleet.request("POST", "/api/gateway/activate", {"activation_key": activation_key}, key=key)


def slack_event(bot: Bot, channel: str) -> dict[str, Any]:
    return {**bot.event("!help"), "platform": "slack", "server_id": "T1", "channel_id": channel}


def test_a_channel_is_served_once_its_key_was_posted(bot, fleet, slack):
    secret = make_activation_key()
    channel = serve(bot, activation_key=secret)
    say = lambda: fleet.request("POST", "/router/events", slack_event(bot, channel), key=slack)  # noqa: E731
    assert say().status == 404
    assert servers(bot, slack, active="true") == []

    first, again = activate(fleet, slack, secret), activate(fleet, slack, secret)

    assert first.status == 200
    assert first.json() == again.json()
    assert first.json()["entity_id"] == f"slack:T1:{channel}"
    assert [each["channel"] for each in servers(bot, slack, active="true")] == [channel]
    assert say().json()["executions"][0]["status"] == "success"


def test_a_channels_key_dies_with_it(bot, fleet, slack):
    secret = make_activation_key()
    channel = serve(bot, activation_key=secret)
    activate(fleet, slack, secret)

    with fleet.database.transaction() as db:
        remove_server(db, "slack", channel, server_id="T1")

    assert activate(fleet, slack, secret).status == 404
    assert servers(bot, slack, active="true") == []


def test_a_channel_that_waits_can_be_seen_renewed_and_given_up(bot, fleet, slack):
    lost, found = make_activation_key(), make_activation_key()
    channel = serve(bot, activation_key=lost)

    def in_list() -> list[bool]:
        with fleet.database.transaction() as db:
            return [each["is_active"] for each in list_servers(db) if each["channel"] == channel]

    def add(**more: Any) -> None:
        with fleet.database.transaction() as db:
            add_server(db, "slack", channel, server_id="T1", community=bot.slug, **more)

    add(activation_key=found)
    assert in_list() == [False]
    assert activate(fleet, slack, lost).status == 404
    assert activate(fleet, slack, found).status == 200
    assert in_list() == [True]
    with pytest.raises(Conflict, match="served already"):
        add(activation_key=lost)
    with fleet.database.transaction() as db:
        remove_server(db, "slack", channel, server_id="T1")
    assert in_list() == []
    add(activation_key=lost)
    with fleet.database.transaction() as db:
        remove_server(db, "slack", channel, server_id="T1")
    with pytest.raises(NotFound), fleet.database.transaction() as db:
        remove_server(db, "slack", channel, server_id="T1")


def test_only_who_serves_the_platform_and_the_community_activates(bot, fleet, slack, module):
    secret = make_activation_key()
    serve(bot, activation_key=secret)
    other = fleet.make_key(new_id(), "services", module_name="o", community_id=fleet.bot().community_id)

    assert [activate(fleet, key, secret).status for key in ("twitch", other)] == [404, 404]
    assert [activate(fleet, key, secret).status for key in (module, slack)] == [200, 200]


@pytest.mark.parametrize("wrong", [None, 5, "", "x" * 256, ["x"], True])
def test_an_activation_key_is_text(fleet, slack, wrong):
    assert activate(fleet, slack, wrong).status == 422


@pytest.mark.parametrize("wrong", ["nonsense", "a\0b", "é", "x" * 255])
def test_an_unknown_activation_key_is_unknown(fleet, slack, wrong):
    answer = activate(fleet, slack, wrong)

    assert (answer.status, answer.json()["error"]["code"]) == (404, "unknown_activation_key")


def test_a_key_posted_eight_times_at_once_activates(bot, fleet, slack):
    secret = make_activation_key()
    serve(bot, activation_key=secret)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(activate(fleet, slack, secret).status)) for _ in "12345678"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 8


ENDPOINTS = [
    ("GET", "/api/servers", None),
    ("POST", "/api/context", {"identity_name": "console:alice"}),
    ("POST", "/api/events", {}),
    ("POST", "/api/gateway/activate", {"activation_key": "x"}),
]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS)
def test_only_collectors_and_modules_reach_the_core_api(bot, fleet, method, path, body):
    own = fleet.make_key(new_id(), "api-users", community_id=bot.community_id)
    admin = fleet.make_key(new_id(), "admins")

    assert fleet.request(method, path, body, key=None).status == 401
    assert [fleet.request(method, path, body, key=key).status for key in (own, admin)] == [403, 403]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS[1:])
def test_bodies_are_json(fleet, module, method, path, body):
    plain = {"Content-Type": "text/plain"}

    assert fleet.request(method, path, b"{}", key=module, headers=plain).status == 415
    assert fleet.request(method, path, b"{", key=module).status == 400
    assert fleet.request(method, path, [], key=module).status == 422
    assert fleet.request(method, path, b"[" * 100_000, key=module).status == 400
    assert fleet.request("PUT", path, body, key=module).status == 405


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"offset": -1}, {"active": "maybe"}, {"platform": "A B"}, {"what": 1}]
)
def test_a_list_of_servers_has_bounds(fleet, module, query):
    assert fleet.request("GET", "/api/servers", key=module, query=query).status == 422
