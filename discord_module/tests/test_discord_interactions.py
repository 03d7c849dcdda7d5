"""Slash commands: acknowledged within moments by either way, run once, answered where they were used."""

from __future__ import annotations

import json
import threading

import pytest
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

from simulators.discord import Post
from simulators.discord.rest import Fault

DEFERRED, MESSAGE, PONG = 5, 4, 1


def ack_of(server, interaction_id):
    return server.discord.rest.interactions[interaction_id]


def test_a_slash_command_is_deferred_and_answered_in_place(server):
    used = server.slash("help")

    eventually(lambda: server.answers_to(used))
    assert ack_of(server, used).ack_type == DEFERRED
    assert "!help" in server.answers_to(used)[0]
    assert [said.kind for said in server.heard] == ["original"]
    assert server.heard[0].allowed_mentions == {"parse": []}


def test_a_second_answer_follows_below(server, stub):
    stub.behaviour = lambda call: reply_to(call, chat("one"), chat("two"))
    used = server.slash("stub")

    eventually(lambda: len(server.answers_to(used)) == 2)
    assert [said.kind for said in server.heard] == ["original", "followup"]
    assert server.answers_to(used) == ["one", "two"]


def test_options_reach_the_module_as_words(server, stub):
    server.slash("stub", {"item_name": "Blue Sword", "labels": "rare"}, path=["add"])

    eventually(lambda: stub.calls)
    assert stub.calls[0]["trigger"]["args"] == ["add", "Blue Sword", "rare"]


def test_free_text_is_taken_as_it_was_typed(server, stub):
    server.slash("stub", {"args": 'add "Blue Sword" rare'})

    eventually(lambda: stub.calls)
    assert stub.calls[0]["trigger"]["args"] == ["add", "Blue Sword", "rare"]


def test_rights_on_discord_count_for_slash_commands_too(server, stub):
    server.slash("stub", user=server.guild.owner_id)

    eventually(lambda: stub.calls)
    assert stub.calls[0]["user"]["level"] == "owner"


def test_the_same_interaction_by_gateway_and_http_runs_once(server, stub):
    payload = server.discord.interaction(server.channel, "stub")
    server.discord.deliver(payload)
    server.discord.dispatch(server.guild.id, "INTERACTION_CREATE", payload)
    server.discord.deliver(payload)

    eventually(lambda: server.answers_to(payload["id"]))
    server.slash("help")
    eventually(lambda: len(server.heard) == 2)
    assert len(stub.calls) == 1


def test_over_http_it_is_deferred_in_the_answer(server):
    used, posted = server.slash_over_http("help")

    assert (posted.status, posted.body) == (200, {"type": DEFERRED})
    eventually(lambda: server.answers_to(used))
    assert "!help" in server.answers_to(used)[0]


def test_a_command_is_run_though_the_answer_to_its_acknowledgement_was_lost(server):
    server.discord.rest.faults.append(Fault("lost", on="/callback"))
    used = server.slash("help")
    eventually(lambda: server.answers_to(used))


def test_autocomplete_has_no_choices(server):
    asked = {**server.discord.interaction(server.channel, "help"), "type": 4}
    posted = server.discord.post(server.discord.sign(json.dumps(asked).encode()))
    assert (posted.status, posted.body) == (200, {"type": 8, "data": {"choices": []}})


def test_a_ping_is_answered(server):
    posted = server.discord.post(server.discord.sign(b'{"id": "1", "type": 1, "version": 1}'))

    assert (posted.status, posted.body) == (200, {"type": PONG})


@pytest.mark.parametrize(
    "change",
    [
        {"X-Signature-Ed25519": "00" * 64},
        {"X-Signature-Ed25519": "not hexadecimal"},
        {"X-Signature-Ed25519": ""},
        {"X-Signature-Ed25519": "ab"},
        {"X-Signature-Timestamp": "1"},
        {"X-Signature-Timestamp": ""},
        {"X-Signature-Timestamp": "ten o'clock"},
    ],
)
def test_a_bad_signature_is_answered_401(server, change):
    signed = server.discord.sign(b'{"id": "1", "type": 1}')
    posted = server.discord.post(Post({**signed.headers, **change}, signed.body))

    assert posted.status == 401
    assert posted.body["error"]["code"] == "bad_signature"


def test_an_old_interaction_is_not_played_back(server):
    posted = server.discord.post(server.discord.sign(b'{"id": "1", "type": 1}', timestamp="1600000000"))

    assert posted.status == 401


@pytest.mark.parametrize("body", [b"[]", b"{}", b"nonsense", b'{"id": "1", "type": "x"}', b'{"id": {}, "type": 2}'])
def test_a_signed_body_that_is_no_interaction_is_refused(server, body):
    assert server.discord.post(server.discord.sign(body)).status in (400, 422)


@pytest.mark.parametrize("permissions", ["²", "٣", "9" * 5000, "", "-1", "8.5"])
def test_permissions_that_are_no_number_give_no_right(server, permissions):
    payload = server.discord.interaction(server.channel, "help")
    payload["member"]["permissions"] = permissions
    posted = server.discord.deliver(payload)

    assert (posted.status, posted.body) == (200, {"type": DEFERRED})
    eventually(lambda: server.answers_to(payload["id"]))


def test_where_nothing_is_served_that_is_said_to_who_asked(unserved):
    _, posted = unserved.slash_over_http("help")
    by_gateway = unserved.slash("help")

    assert posted.body["type"] == MESSAGE
    assert posted.body["data"]["flags"] == 64
    assert "/discord/auth" in posted.body["data"]["content"]
    eventually(lambda: unserved.answers_to(by_gateway))
    assert ack_of(unserved, by_gateway).ephemeral


def test_a_command_that_says_nothing_does_not_think_for_ever(server, stub):
    stub.behaviour = lambda call: reply_to(call)
    used = server.slash("stub")

    eventually(lambda: server.answers_to(used) == ["Done."], within_s=20)


def test_a_command_that_is_gone_is_said_to_be(server):
    used = server.slash("no-such-command")

    eventually(lambda: server.answers_to(used) == ["This command does not exist here any more."], within_s=20)


def test_after_fifteen_minutes_an_answer_is_an_ordinary_message(server, stub):
    answer = threading.Event()
    stub.behaviour = lambda call: answer.wait(1) and reply_to(call, chat("late"))
    used = server.slash("stub")
    eventually(lambda: stub.calls)
    server.fetch(
        "UPDATE discord_interactions SET created_at = now() - interval '16 minutes' WHERE interaction_id = %s", used
    )
    answer.set()

    eventually(lambda: server.texts)
    assert [(said.kind, said.content) for said in server.heard] == [("message", "late")]


def test_an_answer_that_is_lost_on_the_way_is_not_doubled(server):
    server.discord.fail_next("lost", on="@original")
    used = server.slash("help")

    eventually(lambda: server.replies and server.replies[0]["state"] == "sent", within_s=20)
    assert len(server.answers_to(used)) == 1


def test_what_discord_refuses_to_take_any_more_is_dropped_in_words(server):
    server.discord.rest.interaction_for_s = 0.0
    used = server.slash_over_http("help")[0]

    eventually(lambda: server.replies and server.replies[0]["state"] == "dropped")
    assert "no longer takes answers" in server.replies[0]["detail"]
    assert server.answers_to(used) == []


def test_tokens_of_interactions_are_sealed(server):
    used = server.slash("help")
    eventually(lambda: server.answers_to(used))

    row = server.fetch("SELECT * FROM discord_interactions WHERE interaction_id = %s", used)[0]
    token = ack_of(server, used).token
    assert token not in str(row)
    assert token not in str(server.rows)
