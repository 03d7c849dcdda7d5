"""Aliases over HTTP: what the portal and a community's programs may do, and what they may not."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.testing.fleet import Bot, Fleet
from waddlebot.web.http import HTTPResponse


@pytest.fixture
def key(fleet: Fleet, bot: Bot) -> str:
    """An api-users key of the bot's community."""
    return fleet.make_key(new_id(), "api-users", community_id=bot.community_id)


@pytest.fixture
def stranger(fleet: Fleet) -> str:
    """An api-users key of another community."""
    return fleet.make_key(new_id(), "api-users", community_id=fleet.bot().community_id)


def create(bot: Bot, key: str | None, alias: str = "hi", command: str = "hello", **more: Any) -> HTTPResponse:
    body = {"alias": alias, "command": command, **more}
    return bot.fleet.request("POST", "/alias/create", body, key=key)


def made(bot: Bot, key: str, alias: str = "hi", command: str = "hello", **more: Any) -> dict[str, Any]:
    response = create(bot, key, alias, command, **more)
    assert response.status == 200, response.body
    return response.json()["alias"]


def listed(bot: Bot, key: str, **query: Any) -> dict[str, Any]:
    response = bot.fleet.request("GET", "/alias/list", key=key, query=query)
    assert response.status == 200, response.body
    return response.json()


def code_of(response: HTTPResponse) -> str:
    assert response.json()["success"] is False
    return response.json()["error"]["code"]


def test_an_alias_made_over_http_works_in_chat_at_once(bot, key):
    assert bot.say("!hi").statuses == []
    alias = made(bot, key, "Hi", "hello {user}", created_by="Zoë")
    assert alias["alias"] == "hi"
    assert alias["prefix"] == "!"
    assert alias["command"] == "hello {user}"
    assert alias["command_type"] == "text"
    assert alias["created_by"] not in ("", "Zoë"), "the key says whose it is, whatever the body says"
    assert (alias["usage_count"], alias["last_used"], alias["average_time_ms"]) == (0, None, None)
    assert bot.say("!hi").chat == "hello Alice"


def test_the_list_tells_how_aliases_are_used(bot, key):
    made(bot, key, "b")
    made(bot, key, "#a", "!help {args}")
    bot.say("!b")
    page = listed(bot, key)
    assert (page["total"], page["limit"], page["offset"]) == (2, 100, 0)
    first, second = page["aliases"]
    assert (first["prefix"], first["alias"], first["command_type"]) == ("#", "a", "command")
    assert (second["usage_count"], second["is_active"]) == (1, True)
    assert second["last_used"]
    assert second["average_time_ms"] > 0
    page = listed(bot, key, limit=1, offset=1)
    assert [each["alias"] for each in page["aliases"]] == ["b"]
    assert page["total"] == 2


def test_a_change_works_in_chat_at_once(bot, key):
    alias = made(bot, key)
    body = {"alias_id": alias["id"], "command": "bye"}
    assert bot.fleet.request("PUT", "/alias/update", body, key=key).json()["alias"]["command"] == "bye"
    assert bot.say("!hi").chat == "bye"
    body = {"alias_id": alias["id"], "alias": "#yo"}
    assert bot.fleet.request("PUT", "/alias/update", body, key=key).status == 200
    assert bot.say("!hi").statuses == []
    assert bot.say("#yo").chat == "bye"
    body = {"alias_id": alias["id"], "is_active": False}
    assert bot.fleet.request("PUT", "/alias/update", body, key=key).json()["alias"]["is_active"] is False
    assert bot.say("#yo").statuses == []
    body = {"alias_id": alias["id"], "is_active": True}
    assert bot.fleet.request("PUT", "/alias/update", body, key=key).status == 200
    assert bot.say("#yo").chat == "bye"


@pytest.mark.parametrize("where", ["body", "query"])
def test_an_alias_is_deleted_by_its_id(bot, key, where):
    alias = made(bot, key)
    ref = {"alias_id": alias["id"]}
    given = {"body": ref} if where == "body" else {"query": ref}
    assert bot.fleet.request("DELETE", "/alias/delete", key=key, **given).json()["alias"]["id"] == alias["id"]
    assert bot.say("!hi").statuses == []
    assert bot.fleet.request("DELETE", "/alias/delete", key=key, **given).status == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"alias": "HI", "command": "x"}, 409, "alias_exists"),
        ({"alias": "help", "command": "x"}, 409, "hides_command"),
        ({"alias": "a", "command": "!a"}, 409, "alias_loop"),
        ({"alias": "a b", "command": "x"}, 422, "bad_alias_name"),
        ({"alias": "", "command": "x"}, 422, "bad_alias_name"),
        ({"alias": "x\x00y", "command": "x"}, 422, "bad_alias_name"),
        ({"alias": "a", "command": ""}, 422, "bad_template"),
        ({"alias": "a", "command": "x" * 501}, 422, "bad_template"),
        ({"alias": "a", "command": "!{arg1}"}, 422, "bad_template"),
        ({"alias": "a", "command": '!so "x'}, 422, "unbalanced_quotes"),
        ({"alias": "a"}, 422, "invalid"),
        ({"command": "x"}, 422, "invalid"),
        ({"alias": 7, "command": "x"}, 422, "invalid"),
        ({"alias": "a", "command": "x", "surprise": 1}, 422, "invalid"),
        ({"alias": "a", "command": "x", "response_text": "y"}, 422, "invalid"),
        ({"alias": "a", "command": "!x", "command_type": "text"}, 422, "invalid"),
        ({"alias": "a", "command": "x", "entity_id": "console:nowhere:x"}, 404, "unknown_entity"),
        ({"alias": "a", "command": "x", "entity_id": "nonsense"}, 422, "invalid"),
        ({"alias": "a", "command": "x", "community_id": "no-such"}, 404, "unknown_community"),
        ([], 422, "invalid"),
        (b"{", 400, "bad_request"),
        (b"", 400, "bad_request"),
    ],
)
def test_what_is_wrong_is_named(bot, key, body, status, code):
    made(bot, key)
    response = bot.fleet.request("POST", "/alias/create", body, key=key)
    assert (response.status, code_of(response)) == (status, code)
    assert [each["alias"] for each in listed(bot, key)["aliases"]] == ["hi"]


def test_the_fields_of_the_earlier_api_say_the_same(bot, key):
    path = "/alias/create"
    text = {"alias": "t", "command_type": "text", "response_text": "hello"}
    assert bot.fleet.request("POST", path, text, key=key).json()["alias"]["command"] == "hello"
    action = {
        "alias": "a",
        "command_type": "action",
        "action_command": "!inventory status",
        "action_parameters": ["Blue Sword", "{arg1}"],
    }
    made_of = bot.fleet.request("POST", path, action, key=key).json()["alias"]["command"]
    assert made_of == '!inventory status "Blue Sword" {arg1}'


def test_remarks_say_what_may_have_been_overlooked(bot, key):
    assert create(bot, key, "a", "!nothing {target}").json()["remarks"] == [
        "{target} is said as it stands; what is filled in is {user} {touser} {channel} {count} {random:a|b|c} {uptime}"
        " {game} {title} {viewers} {points} {rank} {followage} {time:Europe/Berlin} {args} {all_args} {arg1} … {arg9}.",
        "There is no !nothing yet.",
    ]
    assert create(bot, key, "b", "!help {args}").json()["remarks"] == []


def test_updates_are_checked_as_additions_are(bot, key):
    a = made(bot, key, "a", "!b")
    b = made(bot, key, "b", "hello")
    for change, status, code in (
        ({"alias_id": b["id"], "command": "!a"}, 409, "alias_loop"),
        ({"alias_id": b["id"], "alias": "a"}, 409, "alias_exists"),
        ({"alias_id": b["id"], "alias": "help"}, 409, "hides_command"),
        ({"alias_id": b["id"], "command": "!{arg1}"}, 422, "bad_template"),
        ({"alias_id": 2**62, "command": "x"}, 404, "no_such_alias"),
        ({"alias_id": 2**63, "command": "x"}, 422, "invalid"),
        ({"command": "x"}, 422, "invalid"),
    ):
        response = bot.fleet.request("PUT", "/alias/update", change, key=key)
        assert (response.status, code_of(response)) == (status, code), change
    assert bot.say("!a").chat == "hello"
    assert a["id"] != b["id"]


def test_a_loop_cannot_be_switched_on(bot, key):
    a = made(bot, key, "a", "!b")
    bot.fleet.request("PUT", "/alias/update", {"alias_id": a["id"], "is_active": False}, key=key)
    made(bot, key, "b", "!a")
    response = bot.fleet.request("PUT", "/alias/update", {"alias_id": a["id"], "is_active": True}, key=key)
    assert (response.status, code_of(response)) == (409, "alias_loop")


def test_an_alias_of_one_channel_goes_before_the_communitys(bot, key):
    bot.say("hello", channel="one")
    bot.say("hello", channel="two")
    entity = f"console:{bot.slug}:one"
    made(bot, key, "hi", "everywhere")
    own = made(bot, key, "hi", "only here", entity_id=entity)
    assert own["entity_id"] == entity
    assert (bot.say("!hi", channel="one").chat, bot.say("!hi", channel="two").chat) == ("only here", "everywhere")
    assert listed(bot, key, entity_id=f"console:{bot.slug}:two")["total"] == 1
    assert listed(bot, key, entity_id=f"console+{bot.slug}+one")["total"] == 2
    assert create(bot, key, "hi", "again", entity_id=entity).status == 409
    elsewhere = {"alias_id": own["id"], "entity_id": f"console:{bot.slug}:two"}
    assert bot.fleet.request("DELETE", "/alias/delete", elsewhere, key=key).status == 404
    assert bot.fleet.request("DELETE", "/alias/delete", {**elsewhere, "entity_id": entity}, key=key).status == 200
    assert bot.say("!hi", channel="one").chat == "everywhere"


def test_a_loop_through_one_channels_alias_is_refused(bot, key):
    bot.say("hello", channel="one")
    made(bot, key, "b", "!a", entity_id=f"console:{bot.slug}:one")
    response = create(bot, key, "a", "!b")
    assert (response.status, code_of(response)) == (409, "alias_loop")
    assert create(bot, key, "a", "!c").status == 200


def test_a_community_has_room_for_five_hundred(bot, key):
    with bot.fleet.database.transaction() as db:
        db.executesql(
            "INSERT INTO alias_commands (community_id, prefix, alias, command)"
            " SELECT %s, '!', 'n' || n, 'hello' FROM generate_series(1, 499) n",
            (bot.community_id,),
        )
    made(bot, key, "last")
    response = create(bot, key, "more")
    assert (response.status, code_of(response)) == (409, "too_many_aliases")
    assert bot.say("!alias add more x", level="moderator").chat == (
        "This community has 500 aliases already; remove one first."
    )
    assert bot.say("!n250").chat == "hello"


def test_one_of_many_at_once_gets_the_name(bot, key):
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(create(bot, key, "hi", f"text {n}").status))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7


ENDPOINTS = [
    ("POST", "/alias/create", {"alias": "x", "command": "y"}),
    ("GET", "/alias/list", None),
    ("PUT", "/alias/update", {"alias_id": 1, "command": "y"}),
    ("DELETE", "/alias/delete", {"alias_id": 1}),
]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS)
def test_who_is_not_known_or_not_meant_is_refused(fleet, method, path, body):
    nobody = "wbot_" + "x" * 8 + "_" + "y" * 50
    assert fleet.request(method, path, body, key=None).status == 401
    assert fleet.request(method, path, body, key="nonsense").status == 401
    assert fleet.request(method, path, body, key=nobody).status == 401
    for group in ("services", "collectors"):
        outsider = fleet.make_key(new_id(), group)
        response = fleet.request(method, path, body, key=outsider)
        assert (response.status, code_of(response)) == (403, "not_allowed")


def test_only_the_router_executes(fleet):
    assert fleet.request("POST", "/alias/execute", {}, key=None).status == 401
    assert fleet.request("POST", "/alias/execute", {}, key="console").status == 403
    assert fleet.request("POST", "/alias/execute", {}, key="alias").status == 403
    assert fleet.request("POST", "/alias/execute", {}, key="router").status == 422


def test_another_communitys_key_reaches_nothing(bot, key, stranger):
    alias = made(bot, key)
    bot.say("hello")
    entity = f"console:{bot.slug}:general"
    request = bot.fleet.request
    assert create(bot, stranger, "x", "y", community_id=bot.community_id).status == 403
    assert create(bot, stranger, "x", "y", community_id=bot.slug).status == 403
    assert create(bot, stranger, "x", "y", entity_id=entity).status == 403
    assert request("GET", "/alias/list", key=stranger, query={"community_id": bot.slug}).status == 403
    assert request("GET", "/alias/list", key=stranger, query={"entity_id": entity}).status == 403
    assert request("PUT", "/alias/update", {"alias_id": alias["id"], "command": "owned"}, key=stranger).status == 403
    assert request("DELETE", "/alias/delete", {"alias_id": alias["id"]}, key=stranger).status == 403
    assert listed(bot, stranger)["total"] == 0
    assert bot.say("!hi").chat == "hello"


def test_an_admin_names_the_community(bot):
    assert create(bot, "console").status == 422
    assert create(bot, "console", community_id=bot.slug).status == 200
    assert create(bot, "console", "yo", community_id=bot.community_id).status == 200
    assert listed(bot, "console", community_id=bot.slug)["total"] == 2


def test_bodies_are_json_of_a_decent_size(bot, key):
    request = bot.fleet.request
    plain = {"Content-Type": "text/plain"}
    body = b'{"alias": "x", "command": "y"}'
    assert request("POST", "/alias/create", body, key=key, headers=plain).status == 415
    assert request("DELETE", "/alias/delete", b'{"alias_id": 1}', key=key, headers=plain).status == 415
    assert request("DELETE", "/alias/delete", b"[1", key=key).status == 400
    assert request("DELETE", "/alias/delete", key=key).status == 422
    huge = b'{"alias": "' + b"x" * (17 * 1024 * 1024) + b'"}'
    assert request("POST", "/alias/create", huge, key=key).status == 413
    assert request("POST", "/alias/list", {}, key=key).status == 405
    for query in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"offset": 2**31}, {"limit": "x"}, {"what": 1}):
        assert request("GET", "/alias/list", key=key, query=query).status == 422


def test_the_api_describes_itself(fleet):
    document = fleet.request("GET", "/alias/openapi.json", key=None).json()
    assert {"/alias/create", "/alias/list", "/alias/update", "/alias/delete"} <= set(document["paths"])
    assert fleet.request("GET", "/alias/health", key=None).json()["status"] == "healthy"
