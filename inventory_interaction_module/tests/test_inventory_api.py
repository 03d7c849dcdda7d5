"""The inventory over HTTP: what the portal and a community's programs may do, and what they may not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from waddlebot.base.ids import new_id, new_traceparent
from waddlebot.testing.fleet import Bot, Fleet
from waddlebot.web.http import HTTPResponse


@pytest.fixture
def key(fleet: Fleet, bot: Bot) -> str:
    """An api-users key of the bot's community, which owns a lamp."""
    made = fleet.make_key(new_id(), "api-users", community_id=bot.community_id)
    assert change(bot, made, "add", "Lamp", description="bright", labels=["Light", "old"]).status == 200
    return made


@pytest.fixture
def stranger(fleet: Fleet) -> str:
    """An api-users key of another community."""
    return fleet.make_key(new_id(), "api-users", community_id=fleet.bot().community_id)


def change(bot: Bot, key: str | None, action: str, item_name: str, **more: Any) -> HTTPResponse:
    body = {"action": action, "item_name": item_name, **more}
    return bot.fleet.request("POST", "/inventory", body, key=key)


def read(bot: Bot, key: str | None, **query: Any) -> HTTPResponse:
    return bot.fleet.request("GET", "/inventory", key=key, query=query)


def code_of(response: HTTPResponse) -> str:
    assert response.json()["success"] is False
    return response.json()["error"]["code"]


def test_an_item_goes_round_over_http_and_chat_sees_it(bot, key):
    item = read(bot, key, action="status", item_name="LAMP").json()["item"]
    assert (item["item_name"], item["description"], item["labels"]) == ("Lamp", "bright", ["light", "old"])
    assert item["is_checked_out"] is False
    lent = change(bot, key, "checkout", "lamp", checked_out_to="@Bob").json()
    assert (lent["success"], lent["action"]) == (True, "checkout")
    assert (lent["item"]["checked_out_to"], lent["item"]["is_checked_out"]) == ("Bob", True)
    assert lent["item"]["checked_out_at"]
    assert bot.say("!inventory list").chat == "1 item: Lamp (with Bob)"
    back = change(bot, key, "checkin", "Lamp").json()["item"]
    assert (back["checked_out_to"], back["is_checked_out"]) == (None, False)
    assert back["checked_in_at"]
    labelled = change(bot, key, "labels", "Lamp", label_action="add", label="NEW").json()["item"]
    assert labelled["labels"] == ["light", "old", "new"]
    assert change(bot, key, "labels", "Lamp", label_action="remove", label="new").json()["item"]["labels"] == [
        "light",
        "old",
    ]
    assert change(bot, key, "delete", "Lamp").json()["item"]["item_name"] == "Lamp"
    assert bot.say("!inventory list").chat == "The inventory is empty."


def test_lists_are_filtered_and_come_in_pages(bot, key):
    for name in ("Axe", "Bow", "Cup"):
        change(bot, key, "add", name)
    change(bot, key, "checkout", "Bow", checked_out_to="Bob")

    def names(**query: Any) -> list[str]:
        return [item["item_name"] for item in read(bot, key, **query).json()["items"]]

    assert names() == names(action="list", filter="all") == ["Axe", "Bow", "Cup", "Lamp"]
    assert names(filter="available") == ["Axe", "Cup", "Lamp"]
    assert names(filter="checked_out") == names(filter="checkedout") == ["Bow"]
    assert names(limit=2, offset=1) == ["Bow", "Cup"]
    assert names(offset=9) == []
    page = read(bot, key, limit=2, offset=1).json()
    assert (page["success"], page["total"], page["limit"], page["offset"]) == (True, 4, 2, 1)
    assert names(action="search", query="BRIGHT") == names(action="search", query="light") == ["Lamp"]


def test_stats_count(bot, key):
    change(bot, key, "checkout", "Lamp", checked_out_to="Bob")
    assert read(bot, key, action="stats").json()["stats"] == {
        "total": 1,
        "available": 0,
        "checked_out": 1,
        "labels": [{"label": "light", "items": 1}, {"label": "old", "items": 1}],
        "most_lent": "Lamp",
    }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"action": "add", "item_name": "LAMP"}, 409, "conflict"),
        ({"action": "add", "item_name": " "}, 422, "bad_item"),
        ({"action": "add", "item_name": "x" * 256}, 422, "bad_item"),
        ({"action": "add", "item_name": "x" * 20_001}, 422, "invalid"),
        ({"action": "add", "item_name": "x", "description": "d" * 2001}, 422, "bad_item"),
        ({"action": "add", "item_name": "x", "labels": list("abcdef")}, 422, "bad_item"),
        ({"action": "add", "item_name": "x", "labels": "a,b"}, 422, "invalid"),
        ({"action": "add", "item_name": "x", "labels": ["l" * 51]}, 422, "bad_item"),
        ({"action": "add", "item_name": 7}, 422, "invalid"),
        ({"action": "add"}, 422, "invalid"),
        ({"action": "paint", "item_name": "Lamp"}, 422, "invalid"),
        ({"action": "add", "item_name": "x", "surprise": 1}, 422, "invalid"),
        ({"action": "checkout", "item_name": "Lamp"}, 422, "invalid"),
        ({"action": "checkout", "item_name": "nope", "checked_out_to": "Bob"}, 404, "no_such_item"),
        ({"action": "checkin", "item_name": "Lamp"}, 409, "conflict"),
        ({"action": "delete", "item_name": "nope"}, 404, "no_such_item"),
        ({"action": "labels", "item_name": "Lamp"}, 422, "invalid"),
        ({"action": "labels", "item_name": "Lamp", "label_action": "add"}, 422, "invalid"),
        ({"action": "labels", "item_name": "Lamp", "label_action": "add", "label": "OLD"}, 409, "conflict"),
        ({"action": "labels", "item_name": "Lamp", "label_action": "remove", "label": "new"}, 404, "not_found"),
        ({"action": "add", "item_name": "x", "community_id": "no-such"}, 404, "unknown_community"),
        ({"action": "add", "item_name": "x", "community_id": 10**30}, 404, "unknown_community"),
        ([], 422, "invalid"),
        ("text", 422, "invalid"),
        (b"{", 400, "bad_request"),
        (b"\xff", 400, "bad_request"),
        (b"", 400, "bad_request"),
        (b"[" * 100_000, 400, "bad_request"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(bot, key, body, status, code):
    before = read(bot, key).json()
    response = bot.fleet.request("POST", "/inventory", body, key=key)
    assert (response.status, code_of(response)) == (status, code)
    assert read(bot, key).json() == before


@pytest.mark.parametrize(
    "query",
    [
        {"action": "paint"},
        {"filter": "lost"},
        {"limit": 0},
        {"limit": 1001},
        {"limit": "ten"},
        {"offset": -1},
        {"offset": 10**30},
        {"surprise": 1},
        {"action": "status"},
        {"action": "search"},
        {"action": "search", "query": ""},
        {"action": "status", "item_name": "x" * 256},
    ],
)
def test_a_query_that_makes_no_sense_is_refused(bot, key, query):
    assert read(bot, key, **query).status == 422
    assert read(bot, key).status == 200


def test_markup_sql_and_control_characters_stay_data(bot, key):
    text = "'; DROP TABLE inventory_items; -- <img src=x onerror=alert(1)> %s {0} 😀"
    change(bot, key, "add", text, description=text, labels=["<b>&"])
    item = read(bot, key, action="status", item_name=text).json()["item"]
    assert (item["item_name"], item["description"], item["labels"]) == (text, text, ["<b>&"])
    assert change(bot, key, "add", "a\x00b").json()["item"]["item_name"] == "a\ufffdb"
    lone = b'{"action": "add", "item_name": "c\\ud800d"}'
    assert bot.fleet.request("POST", "/inventory", lone, key=key).json()["item"]["item_name"] == "c\ufffdd"


def test_who_is_not_known_or_not_meant_is_refused(fleet, bot):
    nobody = "wbot_" + "x" * 8 + "_" + "y" * 50
    for bad in (None, "nonsense", nobody, ""):
        assert read(bot, bad).status == 401
        assert change(bot, bad, "add", "x").status == 401
    for group in ("services", "collectors", "super-admins"):
        outsider = fleet.make_key(new_id(), group)
        assert (read(bot, outsider).status, code_of(read(bot, outsider))) == (403, "not_allowed")
        assert change(bot, outsider, "add", "x", community_id=bot.slug).status == 403


def test_only_the_router_executes(fleet):
    assert fleet.request("POST", "/inventory/execute", {}, key=None).status == 401
    for key in ("console", "inventory"):
        assert fleet.request("POST", "/inventory/execute", {}, key=key).status == 403
    assert fleet.request("POST", "/inventory/execute", {}, key="router").status == 422


def test_a_repeated_question_is_answered_as_it_was_the_first_time(bot, fleet, key):
    words, place = ["status", "Lamp"], {"server_id": bot.slug, "channel_id": "general"}
    call = {
        "session_id": new_id(),
        "execution_id": new_id(),
        "community": {"id": bot.community_id, "name": bot.slug},
        "entity": {"entity_id": f"console:{bot.slug}:general", "platform": "console", **place},
        "user": {"id": 1, "platform_user_id": "alice", "name": "alice", "display_name": "Alice", "level": "member"},
        "trigger": {"type": "command", "command": "inventory", "prefix": "!", "args": words, "raw": "!inventory …"},
        "deadline": datetime.now(UTC).isoformat(),
        "timeout_ms": 30_000,
        "traceparent": new_traceparent(),
    }

    first = fleet.request("POST", "/inventory/execute", call, key="router").json()
    assert change(bot, key, "checkout", "Lamp", checked_out_to="bob").status == 200
    again = fleet.request("POST", "/inventory/execute", call, key="router").json()
    anew = fleet.request("POST", "/inventory/execute", {**call, "execution_id": new_id()}, key="router").json()

    assert again == first
    assert "available" in first["responses"][0]["response_data"]["message"]
    assert "with bob" in anew["responses"][0]["response_data"]["message"]


def test_another_communitys_key_reaches_nothing(bot, key, stranger):
    for community in (bot.community_id, bot.slug, str(bot.community_id)):
        assert read(bot, stranger, community_id=community).status == 403
        assert change(bot, stranger, "add", "x", community_id=community).status == 403
        assert change(bot, stranger, "delete", "Lamp", community_id=community).status == 403
    assert read(bot, stranger).json()["total"] == 0
    assert change(bot, stranger, "delete", "Lamp").status == 404
    assert read(bot, key).json()["total"] == 1


def test_an_admin_names_the_community(bot, key):
    assert read(bot, "console").status == 422
    for community in (bot.community_id, bot.slug):
        assert read(bot, "console", community_id=community).json()["total"] == 1
    assert read(bot, "console", community_id="no-such").status == 404


def test_bodies_are_json_of_a_decent_size(bot, key):
    request = bot.fleet.request
    body = b'{"action": "add", "item_name": "x"}'
    assert request("POST", "/inventory", body, key=key, headers={"Content-Type": "text/plain"}).status == 415
    assert request("POST", "/inventory", b"x" * (17 * 1024 * 1024), key=key).status == 413
    assert request("PUT", "/inventory", {}, key=key).status == 405
    assert request("GET", "/inventory/nothing", key=key).status == 404
    charset = {"Content-Type": "application/json; charset=utf-8"}
    assert request("POST", "/inventory", body, key=key, headers=charset).status == 200


def test_the_api_describes_itself(fleet):
    document = fleet.request("GET", "/inventory/openapi.json", key=None).json()
    assert set(document["paths"]["/inventory"]) == {"get", "post"}
    assert fleet.request("GET", "/inventory/health", key=None).json()["status"] == "healthy"


def bulk(bot: Bot, key: str | None, **body: Any) -> HTTPResponse:
    return bot.fleet.request("POST", "/inventory/bulk", body, key=key)


def test_many_items_are_changed_in_one_call_each_for_itself(bot, key):
    changes = [
        *({"action": "add", "item_name": f"Chair {n}", "labels": ["seat"]} for n in range(40)),
        {"action": "add", "item_name": "lamp"},
        {"action": "labels", "item_name": "Chair 0", "label_action": "add", "label": "old"},
        {"action": "checkout", "item_name": "Chair 1", "checked_out_to": "pip"},
        {"action": "checkin", "item_name": "Chair 1"},
    ]

    answer = bulk(bot, key, changes=changes).json()

    assert (answer["success"], answer["done"], answer["failed"]) == (False, 43, 1)
    assert [each["success"] for each in answer["results"]] == [True] * 40 + [False, True, True, True]
    assert answer["results"][40]["item_name"] == "lamp"
    assert answer["results"][40]["error"]["message"]
    assert answer["results"][41]["item"]["labels"] == ["seat", "old"]
    assert answer["results"][43]["item"]["is_checked_out"] is False
    assert read(bot, key, action="stats").json()["stats"]["total"] == 41


def test_items_come_from_csv(bot, key):
    text = '\ufeffitem_name,description,labels\nBall,"round, red","toy, red"\nCup,,\n'

    answer = bulk(bot, key, csv=text).json()

    assert (answer["success"], answer["done"]) == (True, 2)
    ball, cup = (each["item"] for each in answer["results"])
    assert (ball["item_name"], ball["description"], ball["labels"]) == ("Ball", "round, red", ["toy", "red"])
    assert (cup["item_name"], cup["labels"]) == ("Cup", [])
    taken = bulk(bot, key, csv="action,item_name\ndelete,Ball\ndelete,Cup\n").json()
    assert taken["done"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"csv": "name\nBall\n"},
        {"csv": "action,item_name\nburn,Ball\n"},
        {"changes": [{"action": "add", "item_name": "x"}] * 501},
        {"csv": "item_name\n" + "x\n" * 501},
    ],
    ids=["nothing", "no name", "no such action", "too many", "too many lines"],
)
def test_what_is_wrong_with_many_changes_nothing(bot, key, body):
    assert bulk(bot, key, **body).status == 422
    assert read(bot, key, action="stats").json()["stats"]["total"] == 1


def test_many_changes_reach_no_other_community(bot, key, stranger):
    body = {"changes": [{"action": "delete", "item_name": "Lamp"}], "community_id": bot.slug}

    assert bulk(bot, stranger, **body).status == 403
    assert bulk(bot, None, **body).status == 401
    assert read(bot, key, action="status", item_name="Lamp").status == 200
