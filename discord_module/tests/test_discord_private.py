"""What is for one person alone is below their slash command, where only they see it, or in a direct message."""

from __future__ import annotations

import pytest
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

SECRET = "your code is 4711"
FOR_YOU = "The answer is below, for you alone."


@pytest.fixture
def secretive(stub):
    """The module, telling everybody a secret of their own."""
    stub.behaviour = lambda call: reply_to(call, chat(SECRET, private=True))
    return stub


def told(server, user):
    """What somebody was written alone."""
    dms = {each.id for each in server.discord.rest.dm_channels.values() if each.name == user}
    return [each.content for each in list(server.discord.messages) if each.channel_id in dms]


def ended(server):
    eventually(lambda: server.replies and server.replies[-1]["state"] in ("sent", "dropped", "unknown"), within_s=30)
    return server.replies[-1]["state"]


def overheard(server):
    """What of the secret others could read."""
    return [each for each in server.heard if SECRET in each.content and not each.ephemeral]


def test_a_message_is_answered_in_a_direct_message(server, secretive):
    server.say("!stub", user="7001")

    eventually(lambda: told(server, "7001") == [SECRET])
    assert ended(server) == "sent"
    assert server.heard == []


def test_who_takes_no_direct_messages_is_told_nothing_in_public(server, secretive):
    server.discord.rest.closed_dms = frozenset({"7002"})
    server.say("!stub", user="7002")

    assert ended(server) == "dropped"
    assert "direct messages" in server.replies[0]["detail"]
    assert server.heard == told(server, "7002") == []


@pytest.mark.parametrize("failure", [503, "lost", "drop", 429])
def test_a_direct_message_that_fails_is_tried_again_and_stays_one(server, secretive, failure):
    server.discord.fail_next(failure, on="/messages")
    server.say("!stub", user="7003")

    eventually(lambda: told(server, "7003") == [SECRET], within_s=30)
    assert ended(server) == "sent"
    assert server.heard == []


def test_a_slash_command_is_answered_below_for_its_user_alone(server, secretive):
    used = server.slash("stub")

    eventually(lambda: server.answers_to(used) == [FOR_YOU, SECRET])
    assert [(each.kind, each.ephemeral) for each in server.heard] == [("original", False), ("followup", True)]
    assert server.heard[1].allowed_mentions == {"parse": []}
    assert ended(server) == "sent"


def test_public_and_private_answers_go_where_they_belong(server, stub):
    stub.behaviour = lambda call: reply_to(call, chat("one"), chat(SECRET, private=True), chat("three"))
    used = server.slash("stub")

    eventually(lambda: server.answers_to(used) == ["one", SECRET, "three"])
    assert [each.ephemeral for each in server.heard] == [False, True, False]


@pytest.mark.parametrize(
    ("failure", "on"), [(503, "@original"), ("lost", "@original"), (500, "/webhooks/"), (404, "@original")]
)
def test_whatever_fails_the_secret_is_never_where_others_read_it(server, secretive, failure, on):
    server.discord.fail_next(failure, on=on)
    server.slash("stub")

    ended(server)
    assert overheard(server) == []


def test_an_answer_that_has_not_begun_is_waited_for(server, stub, fleet):
    """Below "is thinking…" everything is as public as that; so nothing private may come there first."""
    stub.behaviour = lambda call: reply_to(call)
    used = server.slash("stub")
    eventually(lambda: stub.calls)
    taken = server.fetch(
        "UPDATE discord_interactions SET first_reply = 999999999 WHERE interaction_id = %s RETURNING 1 AS one", used
    )
    assert taken
    late = reply_to(stub.calls[0], chat(SECRET, private=True))
    assert fleet.request("POST", "/router/responses", late, key="stub").status == 200

    eventually(lambda: server.replies and server.replies[0]["detail"] == "another answer comes first", within_s=20)
    assert server.answers_to(used) == []
    assert overheard(server) == []


def test_when_discord_takes_no_answers_any_more_it_is_written(server, stub, fleet):
    stub.behaviour = lambda call: reply_to(call)
    used = server.slash("stub", user="7004")
    eventually(lambda: stub.calls)
    server.fetch(
        "UPDATE discord_interactions SET created_at = now() - interval '15 min' WHERE interaction_id = %s"
        " RETURNING 1 AS one",
        used,
    )
    fleet.request("POST", "/router/responses", reply_to(stub.calls[0], chat(SECRET, private=True)), key="stub")

    eventually(lambda: told(server, "7004") == [SECRET], within_s=20)
    assert overheard(server) == []


def test_who_does_something_without_words_is_written_too(server, secretive):
    secretive.register(server.fleet, {"command": "hi", "trigger_type": "event", "event_types": ["member_join"]})
    server.discord.join(server.guild, "7005", name="Newcomer")

    eventually(lambda: told(server, "7005") == [SECRET])
    assert server.heard == []


def test_an_announcement_is_said_in_a_channel_that_its_owner_chose(server, stub, fleet):
    server.say("hi")
    entity_id = f"discord:{server.guild.id}:{server.channel.id}"
    eventually(lambda: server.fetch("SELECT 1 FROM entities WHERE entity_id = %s", entity_id))

    def announce(id_):
        body = {"announcement_id": f"{id_}-{server.guild.id}", "entity_id": entity_id, "responses": [chat("News!")]}
        return fleet.request("POST", "/router/announcements", body, key="stub").json()["outbox_ids"]

    assert announce("one") == []
    chosen = {"config": {"announce": True}}
    assert fleet.request("PUT", f"/router/entities/{entity_id}/modules/router", chosen, key="admin").status == 200
    assert len(announce("two")) == 1
    eventually(lambda: server.texts == ["News!"])
