"""/waddlebot: acknowledged at once, answered by response_url, and in the channel when that is used up."""

from __future__ import annotations

import json

import pytest
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


def shown(answer):
    return json.loads(answer.body) if answer.body else None


def test_help_lists_the_communitys_commands_for_slack_and_only_who_asked_sees_it(channel):
    answer = channel.slash("help", user="UASK")
    assert (answer.status, shown(answer)) == (200, None)
    eventually(lambda: channel.heard)
    said = channel.heard[0]
    assert (said.via, said.ephemeral_to) == ("response_url", "UASK")
    assert "• `/waddlebot inventory" in said.text
    assert "*You can use here:*" in said.text


def test_alone_it_is_a_cry_for_help(channel):
    channel.slash("  ")
    eventually(lambda: "*You can use here:*" in "".join(channel.texts))


def test_points_are_told_to_who_asked(channel):
    user = f"U{channel.id}"
    channel.say("hello", user=user)
    eventually(lambda: channel.points)
    channel.slash("points", user=user)
    eventually(lambda: channel.heard)
    assert channel.texts[0].startswith("You have 10 points here")  # The command is a message too.
    assert channel.heard[0].ephemeral_to == user


def test_status_is_answered_at_once(channel):
    answer = shown(channel.slash("status"))
    assert answer["response_type"] == "ephemeral"
    assert f"slack-{channel.id.lower()}" in answer["text"]
    assert channel.rows == []


@pytest.mark.parametrize("text", ["inventory list", "!inventory list", "  INVENTORY   list "])
def test_every_command_works_and_the_channel_sees_the_answer(channel, text):
    channel.slash(text)
    eventually(lambda: channel.texts == ["The inventory is empty."])
    assert (channel.heard[0].via, channel.heard[0].ephemeral_to) == ("response_url", "")


def test_a_command_that_does_not_exist_is_told(channel):
    channel.slash("nonsense <x>")
    eventually(lambda: channel.heard)
    assert "There is no `nonsense` here" in channel.texts[0]
    assert channel.heard[0].ephemeral_to


def test_a_communitys_own_command_is_found_without_its_prefix(channel, stub, fleet):
    stub.register(fleet, {"command": "stub", "prefix": "#"})
    stub.behaviour = lambda call: reply_to(call, chat("sunny"))
    channel.slash("stub Berlin")
    eventually(lambda: channel.texts == ["sunny"])
    assert (stub.calls[-1]["trigger"]["prefix"], stub.calls[-1]["trigger"]["args"]) == ("#", ["Berlin"])


def test_plain_chat_that_is_no_command_stays_unanswered(channel):
    channel.say("!nonsense")
    eventually(lambda: channel.forwarded == [("message", "forwarded")])
    assert channel.heard == []


def test_a_channel_that_is_not_served_says_how_to_add_it(unserved):
    answer = shown(unserved.slash("help"))
    assert f"--server {unserved.team} --channel {unserved.id}" in answer["text"]


def test_the_same_command_twice_is_one(channel):
    slack = channel.slack
    form = slack.slash_form("inventory list", channel=channel.id, user="U5", team=channel.team, command="/waddlebot")
    for _ in range(3):
        assert slack.deliver(slack.sign("slash", form))[0].status == 200
    eventually(lambda: channel.texts == ["The inventory is empty."])
    assert len(channel.replies) == 1


def test_an_address_that_is_used_up_is_followed_by_the_channel(channel, stub):
    many = [chat(f"answer {n}") for n in range(7)]
    stub.behaviour = lambda call: reply_to(call, *many)
    channel.slash("stub")
    eventually(lambda: len(channel.heard) == 7, within_s=20)
    assert [said.text for said in channel.heard] == [f"answer {n}" for n in range(7)]
    assert [said.via for said in channel.heard] == ["response_url"] * 5 + ["chat.postMessage"] * 2


def test_an_address_that_slack_has_forgotten_is_followed_by_a_message_only_they_see(channel):
    channel.slack.fail_next(404, method="response_url", times=3)
    channel.slash("points", user="U7")
    eventually(lambda: channel.heard)
    assert (channel.heard[0].via, channel.heard[0].ephemeral_to) == ("chat.postEphemeral", "U7")


def test_an_address_that_is_not_slacks_is_never_called(channel):
    slack = channel.slack
    form = slack.slash_form("inventory list", channel=channel.id, user="U5", team=channel.team, command="/waddlebot")
    form["response_url"] = "http://169.254.169.254/latest/meta-data/"
    slack.deliver(slack.sign("slash", form))
    eventually(lambda: channel.texts == ["The inventory is empty."])
    assert channel.heard[0].via == "chat.postMessage"


def test_where_answers_go_is_kept_sealed(channel):
    channel.slash("inventory list")
    eventually(lambda: channel.texts)
    kept = channel.fetch("SELECT response_url FROM slack_commands WHERE channel_id = %s", channel.id)
    assert kept[0]["response_url"].startswith("test:")
    assert "/commands/" not in json.dumps([row["event_data"] for row in channel.rows])


def test_slacks_check_of_our_certificate_is_acknowledged(slack):
    assert slack.deliver(slack.sign("slash", {"ssl_check": "1", "token": "x"}))[0].status == 200


@pytest.mark.parametrize("body", [b"", b"text=help", b"team_id=T%201&channel_id=C1&user_id=U1&trigger_id=1"])
def test_a_signed_form_without_what_it_needs_names_the_field(slack, body):
    answer = slack.deliver(slack.sign("slash", body), pauses_s=[])[0]
    assert answer.status == 422


def test_when_the_router_is_behind_who_asked_is_told(channel, fleet):
    channel.say("hello")
    fleet.database.statement(
        "UPDATE slack_events SET state = 'pending', received_at = now() - interval '1 minute',"
        " available_at = now() + interval '1 hour' WHERE channel_id = %s",
        (channel.id,),
    )
    try:
        assert "a little behind" in shown(channel.slash("inventory list"))["text"]
    finally:
        fleet.database.statement("UPDATE slack_events SET available_at = now() WHERE channel_id = %s", (channel.id,))
    eventually(lambda: channel.texts == ["The inventory is empty."])
