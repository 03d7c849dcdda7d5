"""Modules that listen to plain chat: which lines call them, how often, and what a line costs that calls nobody."""

from __future__ import annotations

import pytest
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to


@pytest.fixture
def listens(fleet, bot, stub):
    """Have the stub listen: `listens(("word", "duck"), …, command="ask")`."""

    def listen(*wanted, command="ask", **fields):
        listeners = [{"match": match, "pattern": pattern} for match, pattern in wanted]
        stub.register(fleet, {"command": command, "trigger_type": "event", "listen": listeners, **fields})

    return listen


@pytest.fixture
def refused(fleet, stub):
    """What the router says to a registration that it does not take."""

    def register(*commands):
        body = {"module_name": "stub", "module_version": "1", "endpoint_url": stub.url, "commands": list(commands)}
        answer = fleet.request("POST", "/api/modules/register", body, key="stub")
        assert answer.status == 422, answer.body
        return answer.json()["error"]

    return register


def heard(stub):
    """What the module was called for, in order."""
    return [call["trigger"]["raw"] for call in stub.calls]


@pytest.mark.parametrize(
    ("match", "pattern", "hit", "missed"),
    [
        ("ends_with", "?", ["really?", "really? ", "wirklich?\u200b", "?"], ["? no", "really!", "?!"]),
        ("ends_with", "STRASSE", ["In dieser Straße", "strasse"], ["Straßen"]),
        ("ends_with", "e", ["cafe"], ["café", "cafe\u0301"]),
        ("ends_with", "❤", ["so ❤\ufe0f", "❤"], ["❤ so"]),
        ("contains", "duck", ["Ducks!", "a DUCK"], ["dack"]),
        ("contains", "œuf", ["les Œufs"], ["oeufs"]),
        ("word", "bot", ["hey Bot!", "bot"], ["robot", "bots", "bot_x"]),
        ("word", "юла", ["где Юла?"], ["юлах"]),
        ("regex", r"(?i)^who\s+\w+", ["Who are you", "who я"], ["say who is"]),
    ],
)
def test_each_match_hits_what_a_reader_would_say_it_hits(bot, stub, listens, match, pattern, hit, missed):
    listens((match, pattern))

    for text in [*missed, *hit]:
        bot.say(text, by=f"u{hash(text)}")

    assert heard(stub) == hit


def test_the_module_learns_what_it_heard_as_an_event(bot, stub, listens):
    listens(("word", "duck"), ("ends_with", "?"))
    stub.behaviour = lambda call: reply_to(call, chat("yes"))

    said = bot.say("where is everybody?", data={"ts": "1"})

    assert said.chat == "yes"
    trigger = stub.calls[0]["trigger"]
    assert (trigger["type"], trigger["command"], trigger["args"]) == ("event", "ask", [])
    assert trigger["raw"] == "where is everybody?"
    assert trigger["message_type"] == "chatMessage"
    assert trigger["data"] == {"ts": "1", "listen": {"match": "ends_with", "pattern": "?"}}


def test_a_line_that_hits_none_makes_no_call_and_no_row_but_its_own(bot, fleet, stub, listens):
    listens(("word", "duck"))

    sessions = [bot.say(text).session_id for text in ("good morning", "ducks", "!unknown duck", "")]

    assert stub.calls == []
    with fleet.database.transaction() as db:
        assert fetch(db, "SELECT 1 FROM command_executions WHERE session_id = ANY(%s::uuid[])", (sessions,)) == []


def test_a_line_that_hits_twice_calls_a_module_once(bot, fleet, stub):
    stub.register(
        fleet,
        {"command": "late", "listen": [{"match": "word", "pattern": "duck"}]},
        {"command": "early", "priority": 1, "listen": [{"match": "ends_with", "pattern": "?"}] * 2},
    )

    bot.say("a duck?")

    assert [call["trigger"]["command"] for call in stub.calls] == ["early"]


def test_commands_known_and_unknown_are_not_plain_chat(bot, stub, listens):
    listens(("ends_with", "?"))

    bot.say("!inventory status duck?")
    bot.say("!nobody knows this?")

    assert stub.calls == []


def test_a_mention_is_what_the_collector_says_it_is(bot, stub, listens):
    listens(("mention", ""), ("word", "duck"))

    bot.say("@waddlebot hello")
    bot.say("@waddlebot hello", data={"mentions_bot": "yes"})
    bot.say("@waddlebot duck", data={"mentions_bot": True})
    bot.say("hello there", data={"mentions_bot": True})

    assert [call["trigger"]["data"]["listen"]["match"] for call in stub.calls] == ["mention", "mention"]
    assert heard(stub) == ["@waddlebot duck", "hello there"]


def test_nobody_listens_where_the_module_is_not_installed_or_was_switched_off(bot, fleet, stub, listens):
    listens(("word", "duck"))
    elsewhere = fleet.bot()

    elsewhere.say("duck")
    assert stub.calls == []
    elsewhere.install("stub")
    elsewhere.say("duck")
    assert len(stub.calls) == 1

    off = {"enabled": False}
    assert fleet.request("PUT", f"/router/communities/{elsewhere.slug}/modules/stub", off).status == 200
    elsewhere.say("duck")
    bot.say("duck")
    assert [call["community"]["id"] for call in stub.calls] == [elsewhere.community_id, bot.community_id]


def test_one_channel_may_have_what_its_community_has_not(bot, fleet, stub, listens):
    listens(("word", "duck"))
    bot.say("hi", channel="pond")
    fleet.request("PUT", f"/router/communities/{bot.slug}/modules/stub", {"enabled": False})
    on = fleet.request("PUT", f"/router/entities/console:{bot.slug}:pond/modules/stub", {"enabled": True})
    assert on.status == 200

    bot.say("duck")
    bot.say("duck", channel="pond")

    assert [call["entity"]["channel_id"] for call in stub.calls] == ["pond"]


def test_what_a_module_no_longer_listens_for_it_is_no_longer_told(bot, stub, listens):
    listens(("word", "duck"))
    bot.say("duck")
    listens(("word", "goose"))

    bot.say("duck")
    bot.say("goose")

    assert heard(stub) == ["duck", "goose"]


def test_patterns_may_be_a_setting_of_the_community(bot, fleet, stub, listens):
    listens(("word", {"setting": "words", "default": ["duck", "teal"]}))
    bot.say("a teal")

    def choose(config):
        return fleet.request("PUT", f"/router/communities/{bot.slug}/modules/stub", {"config": config})

    assert choose({"words": "goose"}).status == 200
    bot.say("a duck")
    bot.say("a goose")
    assert choose({"words": ["swan", "heron"]}).status == 200
    bot.say("a goose")
    bot.say("a heron")
    assert choose({"words": None}).status == 200
    bot.say("a duck")
    assert heard(stub) == ["a teal", "a goose", "a heron", "a duck"]


def test_a_channels_own_setting_counts_there_and_nowhere_else(bot, fleet, stub, listens):
    listens(("word", {"setting": "word", "default": "duck"}))
    bot.say("hi", channel="pond")
    own = {"config": {"word": "frog"}}
    assert fleet.request("PUT", f"/router/entities/console:{bot.slug}:pond/modules/stub", own).status == 200

    for channel in ("general", "pond"):
        bot.say("a duck", channel=channel)
        bot.say("a frog", channel=channel)

    assert [(call["entity"]["channel_id"], call["trigger"]["raw"]) for call in stub.calls] == [
        ("general", "a duck"),
        ("pond", "a frog"),
    ]


@pytest.mark.parametrize("value", [7, ["a", 7], "", "*", "(", ["x"] * 21])
def test_a_setting_that_is_no_pattern_is_refused_by_its_name(bot, fleet, stub, listens, value):
    listens(("regex", {"setting": "pattern", "default": "duck"}))

    answer = fleet.request("PUT", f"/router/communities/{bot.slug}/modules/stub", {"config": {"pattern": value}})

    assert answer.status == 422
    assert answer.json()["error"]["details"]["field"] == "config.pattern"
    bot.say("duck")
    assert len(stub.calls) == 1


@pytest.mark.parametrize("trigger_type", ["event", "both"])
def test_chat_as_an_event_without_listen_is_refused(refused, trigger_type):
    error = refused({"command": "all", "trigger_type": trigger_type, "event_types": ["chatMessage", "follow"]})

    assert error["details"]["field"] == "listen"


@pytest.mark.parametrize(
    "listener",
    [
        {"match": "word"},
        {"match": "word", "pattern": "  "},
        {"match": "contains", "pattern": "*"},
        {"match": "ends_with", "pattern": "\u200b"},
        {"match": "regex", "pattern": "a("},
        {"match": "regex", "pattern": "(?=a)"},
        {"match": "regex", "pattern": "[ab]*a[ab]{900}" * 8},
        {"match": "contains", "pattern": "x" * 2001},
        {"match": "begins", "pattern": "x"},
        {"match": "word", "pattern": 7},
        {"match": "word", "pattern": {"default": "x"}},
        {"pattern": "x"},
    ],
)
def test_what_could_never_or_always_be_heard_is_refused(refused, listener):
    assert "listen" in str(refused({"command": "ask", "listen": [listener]})["details"])


def test_a_module_may_not_listen_for_more_than_lines_are_looked_at_for(refused):
    many = [{"match": "word", "pattern": f"w{n}"} for n in range(21)]
    costly = [{"match": "regex", "pattern": "[ab]*a[ab]{600}"}] * 10

    refused({"command": "ask", "listen": many})
    refused({"command": "ask", "listen": costly})


def test_a_channel_is_listened_to_so_often_a_minute(bot, fleet, stub, listens):
    listens(("word", "duck"))

    statuses = [bot.say("duck", by=f"u{n}").statuses for n in range(22)]

    assert statuses == [["success"]] * 20 + [["rate_limited"]] * 2
    assert len(stub.calls) == 20
    assert bot.say("duck").chat == ""
    assert bot.say("duck", channel="pond").statuses == ["success"]


def test_a_blocked_line_is_heard_by_nobody(bot, rule, stub, listens):
    listens(("word", "duck"))
    rule("spam", "block")
    rule("hm", "warn")

    bot.say("spam duck")
    bot.say("hm duck")

    assert heard(stub) == ["hm duck"]


def test_rules_and_listeners_are_found_in_one_text(bot, rule, stub, listens):
    rule("duck", "warn", warning_message="Mind the ducks.")
    rule("goose", "warn", warning_message="Mind the geese.")
    listens(("word", "duck"), ("ends_with", "?"))

    assert bot.say("duck").answer["moderation"]["message"] == "Mind the ducks."
    assert bot.say("a goose").answer["moderation"]["message"] == "Mind the geese."
    assert bot.say("what?").answer["moderation"] is None
    assert heard(stub) == ["duck", "what?"]


def test_a_rehearsed_line_is_heard_and_takes_no_room(bot, stub, listens):
    listens(("word", "duck"))

    said = [bot.say("duck", by=f"u{n}", mode="simulate") for n in range(21)]

    assert {status for each in said for status in each.statuses} == {"success"}
    assert stub.calls[0]["mode"] == "simulate"


def test_the_same_line_again_is_heard_once(bot, stub, listens):
    listens(("word", "duck"))
    event = bot.event("duck")

    bot.submit(event)
    again = bot.submit(event)

    assert again.answer["duplicate"]
    assert len(stub.calls) == 1


def test_the_list_of_commands_says_who_listens_for_what(fleet, stub, listens):
    listens(("word", "duck"))

    found = fleet.request("GET", "/router/commands", query={"module_name": "stub"}).json()["commands"]

    assert found[0]["listen"] == [{"match": "word", "pattern": "duck"}]


def test_why_says_what_was_heard(bot, fleet, stub, listens):
    listens(("word", "duck"))
    bot.say("duck")

    assert "it listens for “duck”" in bot.say("!why").chat
