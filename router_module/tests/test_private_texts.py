"""What is for one person alone: never said where others read it, whoever the collector is."""

from __future__ import annotations

import json

import pytest
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

SECRET = "your code is 4711"


@pytest.fixture
def hear(bot, fleet, stub):
    """Have somebody say !stub on a platform, to a collector of somebody else's: `hear("kick")`."""

    def say(platform, *responses, text="!stub", **event):
        server = "" if platform == "twitch" else f"S{bot.community_id}"
        channel = f"{bot.community_id}77"
        with fleet.database.transaction() as db:
            fetch(
                db,
                "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (f"{platform}:{server}:{channel}", platform, server, channel, bot.community_id),
            )
        key = f"outside-{platform}"
        if key not in fleet.keys:
            fleet.keys[key] = fleet.make_key(key, "collectors", platforms=[platform])
        stub.behaviour = lambda call: reply_to(call, *(responses or [chat(SECRET, private=True)]))
        said = {**bot.event(text), "platform": platform, "server_id": server, "channel_id": channel, **event}
        answer = fleet.request("POST", "/router/events", said, key=key)
        assert answer.status == 200, answer.body
        return answer.json()

    return say


def outbox(fleet, bot):
    with fleet.database.transaction() as db:
        return fetch(db, "SELECT * FROM outbox WHERE community_id = %s ORDER BY id", (bot.community_id,))


def texts(answer):
    return [each["response_data"].get("message") for each in answer["responses"] if each["response_action"] == "chat"]


def test_on_the_console_it_is_said_as_ever(bot, fleet, stub):
    stub.behaviour = lambda call: reply_to(call, chat(SECRET, private=True))

    said = bot.say("!stub")

    assert said.chat == SECRET
    assert said.answer["responses"][0]["response_data"]["private"] is True


def test_once_it_is_said_no_record_has_it(bot, fleet, stub):
    ticket = f"your ticket is {new_id()}"
    stub.behaviour = lambda call: reply_to(call, chat(ticket, private=True), chat("and this to all"))
    [private, public] = bot.say("!stub").answer["responses"]
    assert "module_responses" not in fleet.tables_with(ticket)

    for each in (private, public):
        done = fleet.request("POST", f"/router/outbox/{each['outbox_id']}", {"state": "sent"})
        assert done.status == 200, done.body

    assert fleet.tables_with(ticket) == []
    assert [row["response_data"]["message"] for row in outbox(fleet, bot)] == ["•", "and this to all"]


def test_no_list_of_responses_shows_it(bot, fleet, stub):
    stub.behaviour = lambda call: reply_to(call, chat(SECRET, private=True), chat("and this to all"))
    execution = bot.say("!stub").answer["executions"][0]["execution_id"]

    for path in (f"/router/responses/{execution}", "/router/responses/recent"):
        listed = fleet.request("GET", path)
        assert listed.status == 200
        assert "and this to all" in listed.body.decode()
        assert SECRET not in listed.body.decode()


@pytest.mark.parametrize("platform", ["twitch", "kick"])
def test_where_nothing_is_private_it_is_refused_and_the_rest_is_said(hear, bot, fleet, stub, platform):
    answer = hear(platform, chat("Look into your messages."), chat(SECRET, private=True))

    assert answer["executions"][0]["status"] == "failed"
    assert answer["executions"][0]["error"]["code"] == "not_private_here"
    assert texts(answer) == ["Look into your messages."]
    assert SECRET not in json.dumps(answer)
    assert SECRET not in str(outbox(fleet, bot))
    kept = fleet.request("GET", f"/router/responses/{answer['executions'][0]['execution_id']}").json()
    assert SECRET not in json.dumps(kept)


def test_who_asked_is_told_that_there_is_an_answer(hear):
    answer = hear("twitch")

    assert texts(answer) == ["The answer to !stub is for you alone, and I cannot say it so here."]


def test_nobody_is_told_of_what_nobody_asked_for(hear, fleet, stub):
    stub.register(fleet, {"command": "ask", "listen": [{"match": "word", "pattern": "duck"}]})

    answer = hear("twitch", text="a duck")

    assert answer["executions"][0]["error"]["code"] == "not_private_here"
    assert answer["responses"] == []


@pytest.mark.parametrize("platform", ["discord", "slack"])
def test_a_collector_that_does_not_know_what_private_is_has_nothing_to_say(hear, fleet, platform):
    event = {"event_id": new_id()}
    first = hear(platform, **event)
    # On a busy machine it may be late, and the same event tells of it.
    again = eventually(lambda: (answer := hear(platform, **event))["responses"] and answer)

    assert again["duplicate"]
    for answer in [again, *([first] if first["responses"] else [])]:
        (response,) = answer["responses"]
        assert (response["response_action"], response["response_data"]) == ("private", {"private": True})
        assert SECRET not in json.dumps(answer)
    for query in ({}, {"private": "false"}, {"state": "sent"}, {"state": "sending"}):
        listed = fleet.request("GET", "/router/outbox", key=f"outside-{platform}", query=query)
        assert SECRET not in listed.body.decode()


def test_a_collector_that_knows_it_learns_what_to_say_to_whom(hear, fleet, bot):
    answer = hear("discord")
    id_ = answer["responses"][0]["outbox_id"]

    with fleet.database.transaction() as db:  # Its own sender leaves it to us, and we need not be in a hurry.
        fetch(
            db,
            "UPDATE outbox SET available_at = now(), expires_at = now() + interval '1 h', state = 'unknown'"
            " WHERE id = %s",
            (id_,),
        )
    query = {"private": "true", "state": "unknown", "entity_id": f"discord:S{bot.community_id}:{bot.community_id}77"}
    (reply,) = fleet.request("GET", "/router/outbox", key="outside-discord", query=query).json()["replies"]

    assert reply["outbox_id"] == id_
    assert reply["response_data"]["message"] == SECRET
    assert reply["response_data"]["to"] == "alice"


def test_a_private_reply_is_taken_as_any_other(hear, fleet):
    id_ = hear("slack")["responses"][0]["outbox_id"]

    assert fleet.request("POST", f"/router/outbox/{id_}", {"state": "sending"}, key="outside-slack").status == 200
    assert fleet.request("POST", f"/router/outbox/{id_}", {"state": "sent"}, key="outside-slack").status == 200


def test_a_late_private_text_is_refused_and_the_module_may_say_something_else(hear, fleet, bot, stub):
    answer = hear("twitch", text="!stub")  # Registers the place; what follows answers late.
    stub.behaviour = lambda call: reply_to(call)
    event = {**bot.event("!stub"), "platform": "twitch", "server_id": "", "channel_id": f"{bot.community_id}77"}
    answer = fleet.request("POST", "/router/events", event, key="outside-twitch").json()
    assert answer["executions"][0]["status"] == "success"
    call = stub.calls[-1]

    refused = fleet.request("POST", "/router/responses", reply_to(call, chat(SECRET, private=True)), key="stub")
    assert (refused.status, refused.json()["error"]["code"]) == (409, "not_private_here")
    accepted = fleet.request("POST", "/router/responses", reply_to(call, chat("Come to Discord.")), key="stub")

    assert accepted.status == 200
    assert SECRET not in str(outbox(fleet, bot))


def test_a_rehearsal_says_it_where_it_is_rehearsed(bot, stub):
    stub.behaviour = lambda call: reply_to(call, chat(SECRET, private=True))

    assert bot.say("!stub", mode="simulate").chat == SECRET
