"""Points as people see them, and as collectors and modules report them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot, Fleet
from waddlebot.web.http import HTTPResponse


@pytest.fixture
def module(fleet: Fleet) -> str:
    """A key of a module that reports what people did."""
    return fleet.make_key(new_id(), "services", module_name="reporter")


@pytest.fixture
def fans(bot: Bot) -> dict[str, int]:
    """Three people of the console with names of their own, met but without a word in the bot's community."""
    names = [new_id() for _ in range(3)]
    elsewhere = bot.fleet.bot()
    for name in names:
        elsewhere.say("hello", by=name)
    return {name: user_of(bot, name) for name in names}


def user_of(bot: Bot, name: str) -> int:
    answer = bot.fleet.request("POST", "/api/context", {"identity_name": f"console:{name}"})
    return answer.json()["data"]["identity_id"]


def report(bot: Bot, key: str | None, userid: object, activity: str = "follow", **more: Any) -> HTTPResponse:
    body = {"userid": userid, "activity": activity, "namespaceid": bot.community_id, **more}
    return bot.fleet.request("POST", "/api/reputation", body, key=key)


def earn(bot: Bot, key: str, userid: object, activity: str = "follow", **more: Any) -> dict[str, Any]:
    answer = report(bot, key, userid, activity, **more)
    assert answer.status == 200, answer.body
    return answer.json()


def score(bot: Bot, user_id: int, community: object = None, key: str = "console") -> dict[str, Any]:
    path = f"/router/reputation/{bot.slug if community is None else community}/{user_id}"
    answer = bot.fleet.request("GET", path, key=key)
    assert answer.status == 200, answer.body
    return answer.json()


def test_points_add_up_and_are_told(bot, module, fans):
    user = next(iter(fans.values()))

    first, second = earn(bot, module, user, "follow"), earn(bot, module, user, "cheer", amount=250)

    assert first == {
        "success": True,
        "user_id": user,
        "community_id": bot.community_id,
        "event_name": "follow",
        "event_score": 10,
        "previous_score": 0,
        "new_score": 10,
        "total_events": 1,
        "duplicate": False,
    }
    assert (second["previous_score"], second["event_score"], second["new_score"]) == (10, 250, 260)
    assert score(bot, user)["current_score"] == 260


@pytest.mark.parametrize(
    ("activity", "more", "points"),
    [
        ("ban", {}, -10),
        ("sub", {}, 50),
        ("message", {"text": "hello there"}, 5),
        ("bits", {"amount": 7}, 7),
        ("donation", {"amount": 4.75}, 4),
        ("donation", {}, 0),
        ("cheer", {"amount": -5}, 0),
        ("cheer", {"amount": 1e30}, 1_000_000),
        ("voice_time", {"amount": "3"}, 3),
        ("follow", {"amount": 500}, 10),
        ("reaction", {}, 2),
        ("host", {}, 0),
    ],
)
def test_an_activity_earns_what_the_table_says(bot, module, fans, activity, more, points):
    assert earn(bot, module, next(iter(fans.values())), activity, **more)["event_score"] == points


def test_the_same_event_earns_once(bot, module, fans):
    user, event_id = next(iter(fans.values())), new_id()

    first = earn(bot, module, user, "raid", event_id=event_id, platform="console")
    again = earn(bot, module, user, "follow", event_id=event_id, platform="console")

    assert not first["duplicate"]
    assert again["duplicate"]
    assert (again["event_name"], again["event_score"], again["new_score"]) == ("raid", 30, 30)
    assert earn(bot, module, user, "raid", event_id=event_id)["new_score"] == 60
    assert earn(bot, module, user, "raid")["new_score"] == 90


def test_eight_reports_of_one_event_earn_once(bot, module, fans):
    user, event_id = next(iter(fans.values())), new_id()
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(earn(bot, module, user, "raid", event_id=event_id)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each["duplicate"] for each in answers) == [False] + [True] * 7
    assert score(bot, user)["current_score"] == 30


def test_the_balance_is_the_sum_of_the_ledger(bot, module, fans, fleet):
    user = next(iter(fans.values()))
    threads = [threading.Thread(target=earn, args=(bot, module, user, kind)) for kind in ["follow", "ban", "raid"] * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with fleet.database.transaction() as db:
        ledger = fetch(
            db,
            "SELECT sum(event_score)::int AS score, count(*) AS events FROM reputation_events"
            " WHERE user_id = %s AND community_id = %s",
            (user, bot.community_id),
        )
    assert ledger == [{"score": 150, "events": 15}]
    found = score(bot, user)
    assert (found["current_score"], found["total_events"]) == (150, 15)


def test_a_collector_names_people_by_the_platforms_ids(bot, fleet):
    collector = fleet.make_key(new_id(), "collectors", platforms=["slack"])
    nameless = f"U{new_id()}"

    first = earn(bot, collector, nameless, "reaction", platform="slack")
    again = earn(bot, collector, first["user_id"], "reaction", platform="slack")

    assert (first["event_score"], again["new_score"]) == (3, 6)
    assert again["user_id"] == first["user_id"]
    assert report(bot, collector, nameless, platform="twitch").status == 403
    assert report(bot, collector, nameless).json()["error"]["message"].startswith("platform is missing")
    assert report(bot, "twitch", first["user_id"]).status == 404


def test_a_platforms_key_names_its_own_people_by_our_numbers(bot, fleet):
    everywhere = fleet.make_key(new_id(), "collectors")
    slack = fleet.make_key(new_id(), "collectors", platforms=["slack"])
    here = earn(bot, everywhere, f"U{new_id()}", "reaction", platform="slack")["user_id"]
    there = earn(bot, everywhere, f"D{new_id()}", "reaction", platform="discord")["user_id"]

    assert report(bot, slack, there).status == 404
    # As of its platform, where a reaction earns 3, also where that is not said.
    assert earn(bot, slack, here, "reaction")["event_score"] == 3


def test_what_another_community_reported_is_not_told(bot, fleet):
    module = fleet.make_key(new_id(), "services", module_name="bound")
    other = fleet.bot()
    stranger = fleet.make_key(new_id(), "services", module_name="bound", community_id=other.community_id)
    collector = fleet.make_key(new_id(), "collectors", platforms=["slack"])
    user_id = earn(bot, collector, f"U{new_id()}", "reaction", platform="slack")["user_id"]
    event_id = new_id()

    assert not earn(bot, module, user_id, event_id=event_id)["duplicate"]
    assert report(other, stranger, user_id, event_id=event_id).status == 403


def test_a_module_only_names_people_who_are_known(bot, module, fans):
    name = next(iter(fans))

    assert earn(bot, module, name, platform="console")["user_id"] == fans[name]
    assert report(bot, module, new_id(), platform="console").status == 404
    assert report(bot, module, 2**62).status == 404


def test_points_go_to_the_community_that_is_named_and_the_global_one_is_the_sum(bot, module, fans, fleet):
    user, other = next(iter(fans.values())), fleet.bot()
    before = score(bot, user, "global")["current_score"]

    earn(bot, module, user, "follow")
    earn(other, module, user, "raid", namespaceid=other.slug)
    earn(bot, module, user, "boost", namespaceid=None, namespace="global")
    earn(bot, module, user, "subgift", namespaceid=None)

    assert score(bot, user)["current_score"] == 10
    assert score(other, user)["current_score"] == 30
    assert score(bot, user, "global")["current_score"] - before == 10 + 30 + 100 + 60


def test_the_place_that_context_tells_is_one_that_reputation_takes(bot, fleet, module):
    name = new_id()
    bot.say("hello", by=name)
    body = {"identity_name": f"console:{name}", "entity_id": f"console:{bot.slug}:general"}
    said = fleet.request("POST", "/api/context", body, key=module).json()["data"]

    for place in ({"namespaceid": said["namespace_id"]}, {"namespace": said["namespace_name"]}):
        body = {"userid": said["identity_id"], "activity": "raid", **place}
        earned = fleet.request("POST", "/api/reputation", body, key=module).json()
        assert (earned["community_id"], earned["event_score"]) == (bot.community_id, 30)


def test_who_has_more_is_first_and_equals_share_a_rank(bot, module, fans, fleet):
    first, (a, b, c) = next(iter(fans)), fans.values()
    for user, activity in ((a, "boost"), (b, "raid"), (c, "raid")):
        earn(bot, module, user, activity)

    page = fleet.request("GET", f"/router/reputation/{bot.community_id}/leaderboard").json()

    assert [(each["rank"], each["user_id"], each["current_score"]) for each in page["leaderboard"]] == [
        (1, a, 100),
        (2, min(b, c), 30),
        (2, max(b, c), 30),
    ]
    assert page["leaderboard"][0]["display_name"] == first.title()
    assert page["leaderboard"][0]["last_activity"]
    assert (page["total"], page["limit"], page["offset"]) == (3, 10, 0)
    path = f"/router/reputation/{bot.slug}/leaderboard"
    page = fleet.request("GET", path, query={"limit": 1, "offset": 1}).json()
    assert [(each["rank"], each["user_id"]) for each in page["leaderboard"]] == [(2, min(b, c))]
    assert page["total"] == 3
    page = fleet.request("GET", path, query={"limit": 1, "offset": 2}).json()
    assert [(each["rank"], each["user_id"]) for each in page["leaderboard"]] == [(2, max(b, c))]
    assert fleet.request("GET", path, query={"offset": 3}).json()["leaderboard"] == []
    assert score(bot, c)["rank"] == 2


def test_who_has_no_points_has_no_rank(bot, fans):
    found = score(bot, next(iter(fans.values())))

    assert (found["rank"], found["current_score"], found["last_activity"]) == (None, 0, None)
    for user in (2**62, 10**30, -1, "9" * 5000):
        assert bot.fleet.request("GET", f"/router/reputation/{bot.slug}/{user}").status == 404


def test_points_in_chat(bot, module, fans):
    (first, a), (second, b), _ = fans.items()
    earn(bot, module, a, "cheer", amount=1001)
    earn(bot, module, b, "boost", amount=1)

    assert bot.say("!points", by=first).chat.startswith("You have 10")
    assert f"{first.title()} has 10" in bot.say(f"!points @{first}").chat
    assert f"{second.title()} has 100 points here, place 2 of " in bot.say(f"!points {second.upper()}").chat
    leaders = bot.say("!leaderboard").chat
    assert leaders.startswith(f"Most points here: 1. {first.title()} (10")
    assert f"2. {second.title()} (10" in leaders
    only = bot.say("!leaderboard 1").chat
    assert first.title() in only
    assert second.title() not in only


def test_people_of_other_communities_are_not_found_by_name(bot, module, fans, fleet):
    (name, user), *_ = fans.items()
    earn(bot, module, user)
    other = fleet.bot()

    heard = other.say(f"!points @{name}")

    assert heard.statuses == ["failed"]
    assert heard.chat == f"Nobody called {name[:36]} has points here."


@pytest.mark.parametrize("words", ["0", "21", "-1", "x", "5 5", "²", "99999999999999999999"])
def test_a_leaderboard_of_no_length_is_explained(bot, words):
    assert bot.say(f"!leaderboard {words}").chat == "Say !leaderboard, or add a number up to 20."


def test_points_of_an_endless_or_odd_name_are_nobodys(bot):
    for name in ("x" * 5000, "%", "'; DROP TABLE users; --", "\\", "@@@@ x"):
        assert "has points here." in bot.say(f"!points {name}").chat


def test_keys_see_their_own_community_and_platform(bot, module, fans, fleet):
    user = next(iter(fans.values()))
    earn(bot, module, user)
    own = fleet.make_key(new_id(), "api-users", community_id=bot.community_id)
    stranger = fleet.make_key(new_id(), "api-users", community_id=fleet.bot().community_id)
    slack = fleet.make_key(new_id(), "collectors", platforms=["slack"])
    paths = [f"/router/reputation/{bot.slug}/leaderboard", f"/router/reputation/{bot.slug}/{user}"]

    def statuses(key: str | None) -> list[int]:
        return [fleet.request("GET", path, key=key).status for path in paths]

    assert statuses(None) == [401, 401]
    assert statuses(own) == statuses(module) == [200, 200]
    assert statuses(stranger) == [403, 403]
    assert statuses(slack) == [200, 404]
    assert fleet.request("GET", paths[0], key=slack).json()["leaderboard"] == []
    assert fleet.request("GET", "/router/reputation/global/leaderboard", key=own).status == 403
    bound = fleet.make_key(new_id(), "services", module_name="bound", community_id=bot.community_id)
    assert earn(bot, bound, user, namespaceid=None)["community_id"] == bot.community_id
    assert report(fleet.bot(), bound, user).status == 403
    admin = fleet.make_key(new_id(), "admins")
    assert [report(bot, key, user).status for key in (own, admin, None)] == [403, 403, 401]


@pytest.mark.parametrize(
    "wrong",
    [
        {"userid": None},
        {"userid": True},
        {"userid": 0},
        {"userid": -7},
        {"userid": 2**63},
        {"userid": 1.5},
        {"userid": ""},
        {"userid": "a\0b"},
        {"userid": ["x"]},
        {"activity": "dance"},
        {"activity": None},
        {"activity": 5},
        {"activity": ["follow"]},
        {"activity": {"a": 1}},
        {"amount": "lots"},
        {"amount": [1]},
        {"amount": "nan"},
        {"amount": 10**400},
        {"text": 5},
        {"text": "x" * 40_001},
        {"platform": "No Platform"},
        {"event_id": ""},
        {"event_id": "a\0b"},
        {"event_id": "x" * 256},
        {"namespaceid": True},
        {"namespaceid": 1.5},
        {"namespace": 5},
    ],
)
def test_what_cannot_be_is_refused(bot, module, wrong):
    body = {"userid": 1, "activity": "follow", **wrong}

    answer = bot.fleet.request("POST", "/api/reputation", body, key=module)

    assert answer.status == 422, answer.body
    assert answer.json()["error"]["message"].startswith(next(iter(wrong)))


@pytest.mark.parametrize("community", ["nowhere", "a%00b", "'", "9" * 30, "9" * 5000, "-1"])
def test_unknown_communities_are_unknown(bot, fleet, module, community):
    assert fleet.request("GET", f"/router/reputation/{community}/leaderboard").status == 404
    assert fleet.request("GET", f"/router/reputation/{community}/1").status == 404
    assert report(bot, module, 1, namespaceid=community[:255]).status == 404


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"offset": -1}, {"limit": "x"}, {"page": 1}])
def test_a_leaderboards_page_has_bounds(bot, fleet, query):
    assert fleet.request("GET", f"/router/reputation/{bot.slug}/leaderboard", query=query).status == 422
