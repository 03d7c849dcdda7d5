"""What is for one person alone, only they see: in the channel, or where their slash command is answered."""

from __future__ import annotations

import pytest
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

SECRET = "your code is 4711"


@pytest.fixture
def secretive(stub):
    """The module, telling everybody a secret of their own."""
    stub.behaviour = lambda call: reply_to(call, chat(SECRET, private=True))
    return stub


def ended(channel):
    eventually(lambda: channel.replies and channel.replies[-1]["state"] in ("sent", "dropped", "unknown"), within_s=30)
    return channel.replies[-1]["state"]


def overheard(channel):
    """What of the secret others could read."""
    return [each for each in channel.heard if SECRET in each.text and not each.ephemeral_to]


def test_a_message_is_answered_so_that_only_its_writer_sees_it(channel, secretive):
    channel.say("!stub", user="UASK")

    eventually(lambda: channel.texts == [SECRET])
    assert (channel.heard[0].via, channel.heard[0].ephemeral_to) == ("chat.postEphemeral", "UASK")
    assert ended(channel) == "sent"


def test_a_slash_command_is_answered_so_that_only_its_user_sees_it(channel, secretive):
    channel.slash("stub", user="UASK")

    eventually(lambda: channel.texts == [SECRET])
    assert (channel.heard[0].via, channel.heard[0].ephemeral_to) == ("response_url", "UASK")


def test_public_and_private_answers_go_where_they_belong(channel, stub):
    stub.behaviour = lambda call: reply_to(call, chat("one"), chat(SECRET, private=True), chat("three"))
    channel.say("!stub", user="UASK")

    eventually(lambda: channel.texts == ["one", SECRET, "three"], within_s=20)
    assert [each.ephemeral_to for each in channel.heard] == ["", "UASK", ""]


def test_an_address_that_is_used_up_is_followed_by_what_only_they_see(channel, stub):
    stub.behaviour = lambda call: reply_to(call, *[chat(f"{SECRET} {n}", private=True) for n in range(7)])
    channel.slash("stub", user="UASK")

    eventually(lambda: len(channel.heard) == 7, within_s=30)
    assert [each.via for each in channel.heard] == ["response_url"] * 5 + ["chat.postEphemeral"] * 2
    assert {each.ephemeral_to for each in channel.heard} == {"UASK"}


def test_where_slack_refuses_it_is_dropped_and_not_said_in_public(channel, secretive):
    channel.slack.state.team(channel.team).closed[channel.id] = "user_not_in_channel"
    channel.say("!stub", user="UASK")

    assert ended(channel) == "dropped"
    assert "not in the channel" in channel.replies[0]["detail"]
    assert channel.heard == []


@pytest.mark.parametrize("kind", [429, 503, 500, "cut"])
def test_whatever_fails_the_secret_is_never_where_others_read_it(channel, secretive, kind):
    channel.slack.fail_next(kind)
    channel.say("!stub", user="UASK")
    channel.slack.fail_next(404, method="response_url")
    channel.slash("stub", user="UASK")

    ended(channel)
    eventually(lambda: len(channel.replies) == 2)
    ended(channel)
    assert overheard(channel) == []


def test_an_announcement_is_said_in_a_channel_that_its_owner_chose(channel, stub, fleet):
    channel.say("hi")
    eventually(lambda: channel.fetch("SELECT 1 FROM entities WHERE entity_id = %s", channel.entity_id))

    def announce(id_):
        body = {"announcement_id": f"{id_}-{channel.id}", "entity_id": channel.entity_id, "responses": [chat("News!")]}
        return fleet.request("POST", "/router/announcements", body, key="stub").json()["outbox_ids"]

    assert announce("one") == []
    chosen = {"config": {"announce": True}}
    assert (
        fleet.request("PUT", f"/router/entities/{channel.entity_id}/modules/router", chosen, key="admin").status == 200
    )
    assert len(announce("two")) == 1
    eventually(lambda: channel.texts == ["News!"])
