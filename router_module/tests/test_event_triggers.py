"""Everything that is not a command: all message types, the modules that they trigger, and the points that they earn."""

from __future__ import annotations

import threading

import pytest
from waddlebot.base.contracts import MessageType
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


@pytest.fixture
def bot(bot):
    """A community without the alerts and shoutouts that every other one has, which would answer too."""
    for name in ("browser_source_core", "shoutout"):
        off = bot.fleet.request("PUT", f"/router/communities/{bot.slug}/modules/{name}", {"enabled": False})
        assert off.status == 200, off.body
    return bot


def score(fleet, bot, by="alice"):
    with fleet.database.transaction() as db:
        rows = fetch(
            db,
            "SELECT current_score, total_events FROM user_reputation r JOIN platform_identities i USING (user_id)"
            " WHERE community_id = %s AND platform = 'console' AND platform_user_id = %s",
            (bot.community_id, by),
        )
    return (rows[0]["current_score"], rows[0]["total_events"]) if rows else (0, 0)


def happen(bot, message_type, *, by="alice", **data):
    return bot.submit({**bot.event("", by=by), "message_type": message_type, "data": data})


@pytest.mark.parametrize("message_type", [each.value for each in MessageType])
def test_every_type_of_event_is_taken(bot, message_type):
    heard = happen(bot, message_type)

    assert heard.answer["success"]
    assert heard.answer["executions"] == heard.answer["responses"] == []


def test_a_module_hears_of_the_events_that_it_asked_for(bot, fleet, stub):
    stub.register(fleet, {"command": "welcome", "trigger_type": "event", "event_types": ["follow", "raid"]})
    stub.behaviour = lambda call: reply_to(call, chat(f"welcome {call['user']['display_name']}"))

    heard = happen(bot, "follow", tier=1)

    assert heard.chat == "welcome Alice"
    assert heard.answer["executions"][0]["command"] == "!welcome"
    trigger = stub.calls[0]["trigger"]
    assert (trigger["type"], trigger["message_type"], trigger["data"]) == ("event", "follow", {"tier": 1})
    assert happen(bot, "cheer", bits=1).answer["executions"] == []
    assert bot.say("!welcome").answer["executions"] == []


def test_a_module_may_be_triggered_by_both(bot, fleet, stub):
    listen = [{"match": "word", "pattern": "plain"}]
    stub.register(fleet, {"command": "both", "trigger_type": "both", "event_types": ["follow"], "listen": listen})
    seen = []
    stub.behaviour = lambda call: seen.append(call["trigger"]["type"]) or reply_to(call)

    bot.say("!both")
    bot.say("plain chat")
    happen(bot, "follow")

    assert seen == ["command", "event", "event"]


def test_sequential_modules_come_in_their_order_and_one_that_fails_stops_nobody(bot, fleet, stub):
    stub.register(
        fleet,
        {"command": "third", "trigger_type": "event", "event_types": ["raid"], "execution_mode": "parallel"},
        {"command": "second", "trigger_type": "event", "event_types": ["raid"], "priority": 2},
        {"command": "first", "trigger_type": "event", "event_types": ["raid"], "priority": 1},
    )
    names = []

    def answer(call):
        names.append(call["trigger"]["command"])
        return (500, b"") if names[-1] == "first" else reply_to(call, chat(names[-1]))

    stub.behaviour = answer

    heard = happen(bot, "raid", viewers=12)

    assert names == ["first", "second", "third"]
    assert heard.statuses == ["failed", "success", "success"]
    assert heard.chat == "second\nthird"


def test_nobody_is_told_that_a_module_failed_which_nobody_called(bot, fleet, stub):
    stub.register(fleet, {"command": "welcome", "trigger_type": "event", "event_types": ["follow"]})
    stub.behaviour = lambda call: (500, b"")

    heard = happen(bot, "follow")

    assert heard.statuses == ["failed"]
    assert heard.answer["responses"] == []


def test_events_trigger_nothing_where_the_module_is_not_installed(fleet, stub):
    stub.register(fleet, {"command": "welcome", "trigger_type": "event", "event_types": ["follow"]})

    names = [each["module_name"] for each in happen(fleet.bot(), "follow").answer["executions"]]
    assert "stub" not in names
    assert stub.calls == []


def test_a_level_holds_for_who_calls_not_for_what_happens(bot, fleet, stub):
    stub.register(fleet, {"command": "both", "trigger_type": "both", "event_types": ["follow"], "level": "moderator"})

    assert happen(bot, "follow").statuses == ["success"]
    assert bot.say("!both").statuses == ["denied"]


def test_an_event_is_told_only_of_those_whom_the_labels_name(bot, fleet, stub):
    listen = [{"match": "word", "pattern": "plain"}]
    stub.register(
        fleet,
        {"command": "both", "trigger_type": "both", "event_types": ["follow"], "listen": listen},
        {"command": "told", "trigger_type": "event", "event_types": ["raid"]},
    )
    bot.say("hello")
    given = {"label": "regular", "subject_type": "user", "subject_id": "console:alice", "community_id": bot.slug}
    assert fleet.request("POST", "/labels/apply", given).status == 200
    place = f"/router/communities/{bot.slug}/permissions"
    body = {"command": "!both", "config": {"event_labels": ["Fan", " Regular"]}}
    assert fleet.request("PUT", place, body).status == 200
    assert happen(bot, "follow").statuses == ["success"]
    heard = happen(bot, "follow", by="bob")
    assert (heard.statuses, heard.answer["responses"]) == (["denied"], [])
    assert heard.answer["executions"][0]["error"]["code"] == "label"
    # What somebody says to it is not what happens.
    assert bot.say("!both", by="bob").statuses == bot.say("plain", by="bob").statuses == ["success"]

    said = bot.say("!cooldown !told events=fan", level="moderator").chat
    assert said == "Set for !told: told only of what those do who are labelled fan."
    assert happen(bot, "raid", viewers=5).statuses == ["denied"]
    assert bot.say("!cooldown told events=fan,regular", level="moderator").chat.endswith("labelled fan or regular.")
    assert happen(bot, "raid", viewers=5).statuses == ["success"]
    assert happen(bot, "raid", by="bob", viewers=5).statuses == ["denied"]
    assert bot.say("!cooldown told events=none", level="moderator").chat == "Set for !told: nothing particular."
    assert happen(bot, "raid", by="bob", viewers=5).statuses == ["success"]
    assert "20 labels" in bot.say(f"!cooldown told events={','.join(map(str, range(21)))}", level="moderator").chat
    assert "1 to 50" in bot.say("!cooldown told events=fan,,", level="moderator").chat
    assert fleet.request("PUT", place, {"command": "!both", "config": {"event_labels": ["x"] * 21}}).status == 422


def test_a_blocked_message_triggers_and_earns_nothing(bot, rule, fleet, stub):
    listen = [{"match": "ends_with", "pattern": "am"}]
    stub.register(fleet, {"command": "logger", "trigger_type": "event", "listen": listen})
    rule("spam", "block")

    assert bot.say("spam").answer["executions"] == stub.calls == []
    assert score(fleet, bot) == (0, 0)
    assert bot.say("ham").statuses == ["success"]


@pytest.mark.parametrize(
    ("message_type", "data", "points"),
    [
        ("chatMessage", {}, 5),
        ("follow", {}, 10),
        ("subscription", {}, 50),
        ("subscription", {"is_gift": True}, 0),
        ("subgift", {"total": 5}, 60),
        ("cheer", {"bits": 250}, 250),
        ("cheer", {"bits": "lots"}, 0),
        ("cheer", {"bits": -5}, 0),
        ("donation", {"amount": 12.75, "currency": "EUR"}, 12),
        ("raid", {"viewers": 100}, 30),
        ("ban", {}, -10),
        ("voice_time", {"minutes": 7}, 7),
        ("boost", {}, 100),
        ("host", {}, 0),
        ("kick", {}, 0),
    ],
)
def test_an_event_earns_what_the_table_says(bot, fleet, message_type, data, points):
    happen(bot, message_type, **data)

    assert score(fleet, bot) == (points, 1 if points else 0)


def test_the_same_event_again_earns_nothing_more(bot, fleet):
    event = bot.event("hello")
    for _ in range(3):
        bot.submit(event)
    fleet.request("POST", "/router/events/batch", [event, event])

    assert score(fleet, bot) == (5, 1)


def test_a_rehearsal_earns_nothing(bot, fleet):
    bot.say("hello", mode="simulate")

    assert score(fleet, bot) == (0, 0)


def test_commands_earn_like_any_other_message_also_when_they_wait_for_their_turn(bot, fleet):
    events = [bot.event("!inventory list") for _ in range(3)] + [bot.event("hi")]

    fleet.request("POST", "/router/events/batch", events)

    eventually(lambda: score(fleet, bot) == (20, 4))


def test_two_batches_with_the_same_people_do_not_wait_for_each_other_for_ever(bot, fleet):
    def talk(names):
        for _ in range(10):
            answers = fleet.request("POST", "/router/events/batch", [bot.event("hi", by=name) for name in names])
            assert answers.status == 200

    people = [f"p{n}" for n in range(20)]
    threads = [threading.Thread(target=talk, args=(order,)) for order in (people, people[::-1], people, people[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {score(fleet, bot, name) for name in people} == {(200, 40)}


def test_why_tells_what_was_earned(bot, fleet):
    heard = bot.say("hello")

    found = fleet.request("GET", f"/router/explain/{heard.session_id}").json()

    assert found["points"] == {"event_name": "chatMessage", "event_score": 5, "amount": None}
