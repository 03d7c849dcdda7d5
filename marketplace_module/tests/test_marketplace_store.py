"""The shelves, what people think, and how much modules are used."""

from __future__ import annotations

import importlib

import pytest
from market import error, new_name
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually
from waddlebot.web.actor import HEADER, sign_actor


def get(market, path, key="admin", **query):
    answer = market.fleet.request("GET", f"/marketplace{path}", key=key, query=query)
    assert answer.status == 200, answer.body
    return answer.json()


def as_person(market, method, path, body, *, login_id, own_id=None):
    """A request of the portal's, for somebody with a number."""
    actor = sign_actor(
        market.fleet.actor_key,
        login_id=login_id,
        own_id=own_id,
        community_id=market.bot.community_id,
        right="editor",
        area="bot",
        method=method,
        path=path,
    )
    return market.fleet.request(method, path, body, key="portal", headers={HEADER: actor})


def number_of(market, name):
    with market.fleet.database.transaction() as db:
        (row,) = fetch(db, "SELECT user_id FROM platform_identities WHERE platform_user_id = %s", (name,))
    return row["user_id"]


def test_the_store_is_browsed_searched_and_filtered(market):
    word = new_name()
    names = [f"{word}{each}" for each in ("aa", "bb", "cc")]
    for each, tag in zip(names, ("red", "red", "blue"), strict=True):
        more = f'price = {5 if tag == "blue" else 0}\nlong_description = "Long."'
        assert market.publish(each, command=new_name(), more=more + f'\nauthor = "{tag} {word}"').status == 200
    found = get(market, "/browse", search=word, sort="name", per_page=2)
    assert [each["module_id"] for each in found["modules"]] == names[:2]
    assert found["pagination"] == {
        "page": 1,
        "per_page": 2,
        "total_count": 3,
        "total_pages": 2,
        "has_prev": False,
        "has_next": True,
    }
    second = get(market, "/browse", search=word, sort="name", per_page=2, page=2)
    assert [each["module_id"] for each in second["modules"]] == names[2:]
    assert [
        each["module_id"] for each in get(market, "/browse", search=f"red {word}", sort="name")["modules"]
    ] == names[:2]
    paid = get(market, "/browse", search=word, free="false", community_id=market.bot.slug)
    assert [each["module_id"] for each in paid["modules"]] == names[2:]
    assert paid["modules"][0]["can_install"] is False
    assert get(market, "/browse", search=word, category="games")["total"] == 3
    assert get(market, "/browse", search=word, category="music")["total"] == 0
    assert get(market, "/browse", search="'); DROP TABLE module_reviews; --")["total"] == 0
    assert get(market, "/browse", search="!&|:*()")["modules"] == []
    games = next(each for each in get(market, "/categories")["categories"] if each["name"] == "games")
    assert {each["name"] for each in games["categories"]} == {"minigames", "giveaways"}
    assert games["module_count"] >= games["categories"][0]["module_count"] > 0
    front = get(market, "")
    assert {each["module_id"] for each in front["recent_modules"]} >= set(names)
    assert set(front) >= {"featured_modules", "popular_modules", "recent_modules", "categories"}
    for query in ({"sort": "best"}, {"per_page": 51}, {"page": 0}, {"unknown": 1}):
        assert market.fleet.request("GET", "/marketplace/browse", key="admin", query=query).status == 422
    assert market.fleet.request("GET", "/marketplace/search", key="admin", query={"q": "a"}).status == 422


def test_a_page_says_in_words_what_a_module_may_do(market):
    name = market.have(more='permissions = ["private"]\nhosts = ["api.example.org:8443"]')
    page = get(market, f"/module/{name}")
    (version,) = page["versions"]
    assert version["asks_in_words"][:2] == ["write to people privately", "connect to api.example.org:8443"]
    assert version["asks_in_words"][2].startswith("be run at 127.0.0.1")
    assert (version["permissions"], version["hosts"]) == (["private"], ["api.example.org:8443"])
    assert version["limits"] == {"memory_mb": 64, "cpu_s": 1.0, "timeout_s": 5.0}
    assert page["commands"][0]["command"] == f"#{name}"
    assert page["installation_count"] == 1
    assert page["module"]["download_count"] == 1


def test_who_has_used_a_module_reviews_it_once(market):
    name, person = market.have(), f"rita-{market.bot.slug}"
    market.bot.say("hello", by=person)
    path = f"/marketplace/module/{name}/reviews"
    rita = {"login_id": 4711, "own_id": number_of(market, person)}
    refused = as_person(market, "POST", path, {"rating": 5}, **rita)
    assert (refused.status, error(refused)["code"]) == (403, "not_used")
    # Somebody else's use is not hers.
    market.bot.say(f"#{name}", by="another")
    assert as_person(market, "POST", path, {"rating": 5}, **rita).status == 403
    market.bot.say(f"#{name}", by=person)
    first = as_person(market, "POST", path, {"rating": 5, "title": "Great", "user_id": 1}, **rita)
    assert first.status == 200, first.body
    assert first.json()["review"]["user_name"] == person.title()
    again = as_person(market, "POST", path, {"rating": 2, "review_text": "It broke."}, **rita)
    assert again.json()["review"]["review_id"] == first.json()["review"]["review_id"]
    page = get(market, f"/module/{name}")
    assert (page["module"]["rating_average"], page["module"]["rating_count"]) == (2, 1)
    assert [each["review_text"] for each in page["reviews"]] == ["It broke."]
    for body in ({"rating": 0}, {"rating": 6}, {"rating": "5"}, {"rating": 4.5}, {}):
        assert as_person(market, "POST", path, body, **rita).status == 422
    own = market.fleet.request("POST", path, {"rating": 5, "community_id": market.bot.slug}, key="admin")
    assert error(own)["code"] == "own_module"
    # Taken back by whoever wrote it, and by no other owner.
    review = f"{path}/{again.json()['review']['review_id']}"
    assert as_person(market, "DELETE", review, None, login_id=4712).status == 404
    assert as_person(market, "DELETE", review, None, **rita).status == 200
    assert get(market, f"/module/{name}")["module"]["rating_count"] == 0
    assert as_person(market, "POST", path, {"rating": 2}, **rita).status == 200
    # Forgotten, and the average with it.
    market.fleet.request(
        "POST",
        "/marketplace/people/erase",
        {"request_id": new_name(), "identities": [f"console:{person}"]},
        key="portal",
    )
    assert get(market, f"/module/{name}")["module"]["rating_count"] == 0


def test_what_is_reported_is_taken_down_everywhere_at_once(market):
    name, elsewhere = market.have(), market.fleet.bot()
    body = {"module_id": name, "community_id": elsewhere.slug}
    assert market.fleet.request("POST", "/marketplace/install", body, key="admin").status == 200
    path = f"/marketplace/module/{name}"
    key = market.fleet.make_key(new_name(), "api-users", community_id=market.bot.community_id)
    send = lambda what, body=None, key="admin": market.fleet.request("POST", f"{path}/{what}", body, key=key)  # noqa: E731
    assert send("reports", {"reason": "malicious", "details": "It spams."}, key).status == 200
    assert send("reports", {"reason": "dislike"}, key).status == 422
    assert market.fleet.request("GET", f"{path}/reports", key=key).status == 403
    (report,) = [each for each in get(market, "/reports", state="open")["reports"] if each["module_id"] == name]
    assert (report["reason"], report["community_id"]) == ("malicious", market.bot.community_id)

    assert send("takedown", {"reason": "It spams."}, key).status == 403
    assert send("takedown", {"reason": " "}).status == 422
    assert send("takedown", {"reason": "It spams."}).json()["taken_down"] is True
    for bot in (market.bot, elsewhere):
        (execution,) = bot.say(f"#{name}").answer["executions"]
        assert (execution["status"], execution["error"]["code"]) == ("denied", "taken_down")
    assert error(market.install(name))["code"] == "taken_down"
    assert get(market, "/browse", search=name)["total"] == 0
    assert market.installed()[name]["taken_down_why"] == "It spams."
    assert get(market, f"/module/{name}")["module"]["taken_down_why"] == "It spams."
    eventually(lambda: [each for each in market.notices() if "has taken down" in each], within_s=10)
    resolved = market.fleet.request(
        "POST", f"/marketplace/reports/{report['report_id']}/resolve", {"resolution": "Taken down."}, key="admin"
    )
    assert resolved.json()["report"]["state"] == "resolved"
    assert not [each for each in get(market, "/reports", state="open")["reports"] if each["module_id"] == name]

    assert send("restore").json()["taken_down"] is False
    assert market.bot.say(f"#{name}").statuses == ["success"]
    assert get(market, "/browse", search=name)["total"] == 1
    assert len([each for each in market.notices() if "has taken down" in each]) == 1


def test_use_is_counted_for_each_community(market):
    name = market.have()
    for _ in range(3):
        market.bot.say(f"#{name}")
    with market.fleet.database.transaction() as db:
        move = "UPDATE command_executions SET created_at = created_at - interval '2 minutes' WHERE module_name = %s"
        fetch(db, move, (name,))
        fetch(db, "UPDATE module_usage_mark SET until = now() - interval '5 minutes'")
    usage = importlib.import_module("apps.marketplace_module.services.usage")
    while usage.count_usage(market.fleet.database):
        pass
    stats = get(market, f"/module/{name}/stats", days=2)
    assert (stats["usage_count"], stats["failure_count"], stats["installation_count"]) == (3, 0, 1)
    assert [each["command"] for each in stats["by_day"]] == [f"#{name}"]
    assert market.installed()[name]["usage_count"] == 3
    # Another community is told of its own.
    other = market.fleet.bot()
    key = market.fleet.make_key(new_name(), "api-users", community_id=other.community_id)
    assert get(market, f"/module/{name}/stats", key=key)["usage_count"] == 0
    # And counting goes on where it ended.
    usage.count_usage(market.fleet.database)
    assert get(market, f"/module/{name}/stats", days=2)["usage_count"] == 3


@pytest.mark.parametrize("days", [0, 366, "x"])
def test_stats_are_of_a_year_at_most(market, days):
    name = market.have()
    path = f"/marketplace/module/{name}/stats"
    assert market.fleet.request("GET", path, key="admin", query={"days": days}).status == 422
