"""Roles and memberships in bulk: what they change in chat, who may hand them out, and what many at once do."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAAFormatter
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot, Fleet
from waddlebot.testing.plugin import eventually
from waddlebot.web.http import HTTPResponse

ADD = '!inventory add "{0}" "x"'
NOBODY = 2**62


@pytest.fixture
def key(fleet: Fleet, bot: Bot) -> str:
    """An api-users key of the bot's community."""
    return fleet.make_key(f"program {bot.slug}", "api-users", community_id=bot.community_id)


@pytest.fixture
def stranger(fleet: Fleet) -> str:
    """An api-users key of another community."""
    return fleet.make_key(new_id(), "api-users", community_id=fleet.bot().community_id)


def make_people(fleet: Fleet, count: int) -> list[int]:
    with fleet.database.transaction() as db:
        rows = fetch(db, "INSERT INTO users SELECT FROM generate_series(1, %s) RETURNING id", (count,))
    return [row["id"] for row in rows]


def user_of(bot: Bot, name: str) -> int:
    """Somebody's number, after they have said something."""
    bot.say("hello", by=name)
    body = {"identity_name": f"console:{name}"}
    return bot.fleet.request("POST", "/api/context", body).json()["data"]["identity_id"]


def assign(bot: Bot, key: str, *pairs: tuple[Any, Any], **more: Any) -> HTTPResponse:
    body = {"assignments": [{"user_id": user, "role": role} for user, role in pairs], **more}
    return bot.fleet.request("POST", "/router/roles/assign", body, key=key)


def results(response: HTTPResponse) -> list[dict[str, Any]]:
    assert response.status == 200, response.body
    return response.json()["results"]


def codes(response: HTTPResponse) -> list[str | None]:
    return [each["error"] and each["error"]["code"] for each in results(response)]


def roles(bot: Bot, key: str, *users: int) -> list[str | None]:
    query = {"user_id": ",".join(map(str, users)), "community_id": bot.slug}
    answer = bot.fleet.request("GET", "/router/roles", key=key, query=query)
    assert answer.status == 200, answer.body
    return [each["role"] for each in answer.json()["roles"]]


def test_a_role_counts_in_chat_at_once_and_ends_at_once(bot, key):
    name = new_id()
    carol = user_of(bot, name)
    assert bot.say(ADD.format("A"), by=name).statuses == ["denied"]

    given = results(assign(bot, key, (carol, "moderator")))
    assert given == [{"user_id": carol, "success": True, "role": "moderator", "error": None}]
    assert bot.say(ADD.format("A"), by=name).statuses == ["success"]
    assert bot.say(ADD.format("B"), by=name, channel="another").statuses == ["success"]

    assign(bot, key, (carol, "member"))
    assert bot.say(ADD.format("C"), by=name).statuses == ["denied"]


def test_a_role_in_one_community_is_none_in_another(bot, key, fleet):
    name = new_id()
    user = user_of(bot, name)
    assign(bot, key, (user, "admin"))

    elsewhere = fleet.bot()

    assert elsewhere.say(ADD.format("A"), by=name).statuses == ["denied"]
    assert roles(elsewhere, "console", user) == ["member"]


def test_each_person_is_answered_in_order(bot, key, fleet):
    anna, bert = make_people(fleet, 2)

    answer = assign(bot, key, (bert, "VIP"), (NOBODY, "vip"), (anna, "king"), (bert, "admin"), (anna, "subscriber"))

    assert answer.json()["community_id"] == bot.community_id
    assert codes(answer) == [None, "unknown_user", "unknown_role", "named_twice", None]
    assert [each["user_id"] for each in results(answer)] == [bert, NOBODY, anna, bert, anna]
    assert [each["success"] for each in results(answer)] == [True, False, False, False, True]
    assert roles(bot, key, anna, bert, NOBODY) == ["subscriber", "vip", None]


def test_nobody_hands_out_more_than_they_may(bot, key, fleet):
    anna, bert = make_people(fleet, 2)
    assert codes(assign(bot, "console", (anna, "owner"), community_id=bot.slug)) == [None]

    refused = assign(bot, key, (bert, "owner"), (anna, "member"))

    assert codes(refused) == ["not_allowed", "not_allowed"]
    assert roles(bot, key, anna, bert) == ["owner", "member"]
    assert codes(assign(bot, key, (bert, "admin"))) == [None]
    assert codes(assign(bot, "console", (anna, "member"), community_id=bot.community_id)) == [None]


def test_permissions_are_checked_by_role(bot, key, fleet):
    anna, bert = make_people(fleet, 2)
    assign(bot, key, (anna, "moderator"))
    asked = [(anna, "vip"), (anna, "moderator"), (anna, "admin"), (bert, "member"), (NOBODY, "member"), (anna, "king")]
    body = {"checks": [{"user_id": user, "level": level} for user, level in asked]}

    answer = fleet.request("POST", "/router/roles/check", body, key=key)

    assert [each["allowed"] for each in results(answer)] == [True, True, False, True, False, False]
    assert [each["level"] for each in results(answer)] == ["moderator"] * 3 + ["member", None, None]
    assert codes(answer) == [None] * 4 + ["unknown_user", "unknown_role"]


def test_roles_are_read_for_one_or_many(bot, key, fleet):
    users = make_people(fleet, 3)
    assign(bot, key, (users[1], "admin"))

    one = fleet.request("GET", "/router/roles", key=key, query={"user_id": users[1]}).json()
    repeated = f"/router/roles?user_id={users[1]}&user_id={users[0]}"

    assert one["roles"] == [{"user_id": users[1], "success": True, "role": "admin", "error": None}]
    assert (one["total"], one["offset"]) == (1, 0)
    assert roles(bot, key, *users) == ["member", "admin", "member"]
    assert [each["role"] for each in fleet.request("GET", repeated, key=key).json()["roles"]] == ["admin", "member"]


def test_people_join_the_global_community_and_the_one_that_is_named(bot, key, fleet):
    users = make_people(fleet, 2)

    def ensure(who: str, **more: Any) -> list[dict[str, Any]]:
        body = {"user_ids": [*users, NOBODY], **more}
        return results(fleet.request("POST", "/router/members/ensure", body, key=who))

    def memberships() -> set[tuple[int, str]]:
        with fleet.database.transaction() as db:
            rows = fetch(
                db,
                "SELECT user_id, slug FROM community_memberships m JOIN communities c ON c.id = m.community_id"
                " WHERE user_id = ANY(%s) AND m.is_active",
                (users,),
            )
        return {(row["user_id"], row["slug"]) for row in rows}

    assert [(each["success"], each["joined"]) for each in ensure("console")] == [(True, True)] * 2 + [(False, False)]
    assert memberships() == {(user, "global") for user in users}
    assert [each["joined"] for each in ensure("console")] == [False] * 3

    assert [each["joined"] for each in ensure(key)] == [True, True, False]
    assert memberships() == {(user, slug) for user in users for slug in ("global", bot.slug)}

    with fleet.database.transaction() as db:
        fetch(db, "UPDATE community_memberships SET is_active = false WHERE user_id = %s", (users[0],))
    assert [each["joined"] for each in ensure(key, community_id=bot.slug)] == [True, False, False]


def test_ten_thousand_people_in_one_call(bot, key, fleet):
    users = make_people(fleet, 10_000)

    given = results(assign(bot, key, *((user, "vip") for user in users)))
    body = {"checks": [{"user_id": user, "level": "vip"} for user in users]}
    checked = results(fleet.request("POST", "/router/roles/check", body, key=key))

    assert all(each["success"] for each in given)
    assert [each["user_id"] for each in checked] == users
    assert all(each["allowed"] for each in checked)
    assert len(results(fleet.request("POST", "/router/members/ensure", {"user_ids": users}, key=key))) == 10_000


def test_a_crowd_with_new_roles_is_known_in_chat_at_once(bot, key, fleet):
    name = new_id()
    user = user_of(bot, name)
    others = make_people(fleet, 2_000)
    with fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO platform_identities (user_id, platform, platform_user_id)"
            " SELECT id, 'console', 'crowd' || id FROM users WHERE id = ANY(%s)",
            (others,),
        )

    assign(bot, key, *((each, "moderator") for each in [*others, user]))

    assert bot.say(ADD.format("A"), by=name).statuses == ["success"]


def test_calls_that_overlap_in_any_order_all_end(bot, key, fleet):
    users = make_people(fleet, 1_500)
    answers: list[HTTPResponse] = []

    def give(role: str, order: list[int]) -> None:
        answers.append(assign(bot, key, *((user, role) for user in order)))

    orders = [("vip", users), ("moderator", users[::-1]), ("admin", users[700:] + users[:700])]
    threads = [threading.Thread(target=give, args=order) for order in orders * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(each["success"] for answer in answers for each in results(answer))
    assert set(roles(bot, key, *users)) <= {"vip", "moderator", "admin"}


def test_a_chunk_that_fails_is_nobody_elses_failure(bot, key, fleet):
    """One person's row is held and the statement that waits for it is cancelled."""
    users = make_people(fleet, 1_000)
    answers: list[HTTPResponse] = []
    caller = threading.Thread(target=lambda: answers.append(assign(bot, key, *((user, "vip") for user in users))))
    with fleet.database.transaction() as db:
        fetch(db, "SELECT 1 FROM users WHERE id = %s FOR UPDATE", (users[700],))
        caller.start()
        eventually(lambda: cancel_who_waits(fleet, "WITH known AS"))
        caller.join()

    given = results(answers[0])
    assert [each["success"] for each in given] == [True] * 500 + [False] * 500
    assert {each["error"]["code"] for each in given[500:]} == {"database_unavailable"}
    assert roles(bot, key, *users) == ["vip"] * 500 + ["member"] * 500
    assert all(each["success"] for each in results(assign(bot, key, *((user, "vip") for user in users))))


def cancel_who_waits(fleet: Fleet, beginning: str) -> bool:
    rows = fleet.database.statement(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s",
        (f"%{beginning}%",),
    )
    return bool(rows)


def test_who_was_given_what_is_in_the_audit_log(bot, key, fleet, caplog):
    users = make_people(fleet, 2)

    with caplog.at_level("INFO", logger="waddlebot.router"):
        assign(bot, key, (users[0], "vip"), (users[1], "owner"))

    lines = [AAAFormatter().format(record) for record in caplog.records]
    [given] = [line for line in lines if "action=roles_assigned" in line]
    [refused] = [line for line in lines if "action=roles_refused" in line]
    assert f" AUDIT community={bot.community_id} " in given
    assert f'role=vip users={users[0]} by="program {bot.slug}"' in given
    assert " result=FAILED " in refused
    assert f" users={users[1]} " in refused


ENDPOINTS = [
    ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1, "role": "vip"}]}),
    ("POST", "/router/roles/check", {"checks": [{"user_id": 1, "level": "vip"}]}),
    ("POST", "/router/members/ensure", {"user_ids": [1]}),
    ("GET", "/router/roles?user_id=1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS)
def test_other_keys_reach_nothing(bot, fleet, key, stranger, method, path, body):
    def ask(who: str | None, community: object) -> int:
        named = body and {**body, "community_id": community}
        query = "" if body else f"&community_id={community}"
        return fleet.request(method, path + query, named, key=who).status

    assert ask(None, bot.slug) == 401
    assert [ask(fleet.make_key(new_id(), group), bot.slug) for group in ("services", "collectors")] == [403, 403]
    assert [ask(stranger, bot.slug), ask(stranger, bot.community_id), ask(stranger, "global")] == [403, 403, 403]
    assert [ask(key, "no-such-community"), ask("console", "a\0b"), ask("console", 10**40)] == [404, 404, 404]
    assert [ask(key, bot.slug), ask(key, bot.community_id), ask("console", bot.slug)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/router/roles/assign", {}),
        ("POST", "/router/roles/assign", []),
        ("POST", "/router/roles/assign", {"assignments": []}),
        ("POST", "/router/roles/assign", {"assignments": {"1": "vip"}}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": "1", "role": "vip"}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": True, "role": "vip"}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1.5, "role": "vip"}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 0, "role": "vip"}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 2**63, "role": "vip"}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1, "role": 5}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1, "role": "v" * 65}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1, "role": "vip", "rôle": "x"}]}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1, "role": "vip"}] * 10_001}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1, "role": "vip"}], "community_id": True}),
        ("POST", "/router/roles/assign", {"assignments": [{"user_id": 1, "role": "vip"}], "community_id": ["x"]}),
        ("POST", "/router/roles/check", {"checks": [{"user_id": 1}]}),
        ("POST", "/router/roles/check", {"checks": [{"user_id": 1, "level": "vip"}] * 10_001}),
        ("POST", "/router/members/ensure", {"user_ids": []}),
        ("POST", "/router/members/ensure", {"user_ids": [None]}),
        ("POST", "/router/members/ensure", {"user_ids": list(range(1, 10_002))}),
        ("GET", "/router/roles", None),
        ("GET", "/router/roles?user_id=", None),
        ("GET", "/router/roles?user_id=x", None),
        ("GET", "/router/roles?user_id=1,,2", None),
        ("GET", "/router/roles?user_id=-1", None),
        ("GET", "/router/roles?user_id=" + "9" * 5000, None),
        ("GET", "/router/roles?user_id=1&what=2", None),
    ],
)
def test_what_cannot_be_is_refused(fleet, key, method, path, body):
    response = fleet.request(method, path, body, key=key)

    assert response.status == 422, response.body
    assert response.json()["error"]["code"] == "invalid"


@pytest.mark.parametrize("role", ["vıp", "v\0ip", "admin ", "", "user", "5"])
def test_only_the_six_roles_are_roles(bot, key, fleet, role):
    [user] = make_people(fleet, 1)

    assert codes(assign(bot, key, (user, role))) == ["unknown_role"]
    assert codes(assign(bot, key, (user, "Admin"))) == [None]


def test_an_admin_names_the_community(bot, fleet):
    [user] = make_people(fleet, 1)

    assert assign(bot, "console", (user, "vip")).status == 422
    assert codes(assign(bot, "console", (user, "vip"), community_id="global")) == [None]
