"""What happens on Twitch, as the fleet hears it: who did it, where, and what it earns."""

from __future__ import annotations

import json

import pytest
from waddlebot.testing.plugin import eventually

from simulators.twitch import BOT_USER_ID

FOLLOWER, GIVER = "71001", "71002"


def forwarded(channel):
    return [row for row in channel.rows if row["state"] == "forwarded"]


def test_following_again_and_again_earns_once(channel):
    for _ in range(3):
        channel.twitch.follow(channel.id, "556")
    channel.twitch.follow(channel.id, "557")
    eventually(lambda: len(channel.activities) == 2)
    assert sorted(channel.activities) == [("follow", "556", 10), ("follow", "557", 10)]


def test_a_follow_earns_its_follower_ten_points(channel):
    channel.twitch.follow(channel.id, FOLLOWER)
    eventually(lambda: channel.activities == [("follow", FOLLOWER, 10)])


def test_a_subscription_is_fifty_and_a_renewal_is_thanked_for(channel):
    channel.twitch.subscribe(channel.id, FOLLOWER)
    channel.twitch.resub(channel.id, FOLLOWER, "a year!", months=12)
    eventually(lambda: len(forwarded(channel)) == 2)
    eventually(lambda: channel.activities == [("subscription", FOLLOWER, 50)])


def test_ten_gifts_are_one_gift_to_the_giver_and_nothing_to_anybody_else(channel):
    channel.twitch.gift(channel.id, GIVER, 10)
    eventually(lambda: len(forwarded(channel)) == 11)
    eventually(lambda: channel.activities == [("subgift", GIVER, 60)])


def test_gifts_and_cheers_without_a_name_are_nobodys(channel):
    channel.twitch.gift(channel.id, None, 2)
    channel.twitch.cheer(channel.id, None, 100)
    eventually(lambda: len(forwarded(channel)) == 4)
    people = {row["chatter_id"] for row in forwarded(channel)}
    assert {"274598607", "407665396"} <= people
    assert "None" not in people


def test_a_cheer_is_a_point_for_each_bit_and_its_message_is_chat(channel):
    channel.twitch.cheer(channel.id, FOLLOWER, 250, "take this")
    eventually(lambda: set(channel.activities) == {("cheer", FOLLOWER, 250), ("chatMessage", FOLLOWER, 5)})


def test_a_raid_earns_who_raids_in_the_channel_that_is_raided(channel):
    channel.twitch.raid(channel.id, GIVER, 42)
    eventually(lambda: channel.activities == [("raid", GIVER, 30)])


def test_a_ban_costs_ten_points_and_a_timeout_none(channel):
    channel.twitch.ban(channel.id, FOLLOWER, reason="spam")
    channel.twitch.ban(channel.id, GIVER, duration_s=600)
    eventually(lambda: len(forwarded(channel)) == 2)
    eventually(lambda: channel.activities == [("ban", FOLLOWER, -10)])


def test_every_delivery_three_times_counts_once(channel):
    twitch = channel.twitch
    event = {
        "broadcaster_user_id": channel.id,
        "user_id": FOLLOWER,
        "user_login": "f",
        "user_name": "F",
        "followed_at": "2026-11-22T10:00:00.123456789Z",
    }
    delivery = twitch.notification("channel.follow", event)
    for _ in range(3):
        assert twitch.deliver(delivery, pauses_s=[]) == [204]
    eventually(lambda: channel.activities == [("follow", FOLLOWER, 10)])
    assert len(channel.rows) == 1


@pytest.mark.parametrize("version", ["2", "beta"])
def test_another_version_of_a_known_type_is_acknowledged_and_counted(channel, fleet, version):
    subscription = {"type": "channel.chat.message", "version": version}
    body = json.dumps({"subscription": subscription, "event": {"broadcaster_user_id": channel.id}}).encode()
    delivery = channel.twitch.sign(body, kind="notification", subscription_type="channel.chat.message")
    assert channel.twitch.deliver(delivery, pauses_s=[]) == [204]
    assert [(row["state"], row["detail"]) for row in channel.rows] == [("ignored", "version not handled")]


@pytest.mark.parametrize(
    ("type_", "event"),
    [
        ("channel.follow", {}),
        ("channel.follow", {"user_id": ""}),
        ("channel.cheer", {"user_id": "5", "bits": "many"}),
        ("channel.raid", {"to_broadcaster_user_id": ""}),
        ("channel.ban", {"user_id": "5", "ends_at": "soon"}),
        ("stream.online", {"broadcaster_user_id": "a b"}),
        ("user.authorization.revoke", {"client_id": "x"}),
    ],
)
def test_a_known_type_that_is_not_as_documented_is_refused(channel, fleet, type_, event):
    delivery = channel.twitch.notification(type_, {"broadcaster_user_id": channel.id, **event})
    answer = fleet.request("POST", "/twitch/webhook", delivery.body, key=None, headers=delivery.headers)
    assert answer.status == 422
    assert channel.rows == []


def test_a_stream_that_begins_is_known_to_coordination(channel, fleet):
    def claimed():
        asked = {"platform": "twitch", "limit": 1000}
        status = fleet.request("GET", "/router/coordination/entities", query=asked, key="twitch")
        found = [each for each in status.json()["entities"] if each["entity_id"] == f"twitch::{channel.id}"]
        return found[0] if found else {}

    fleet.request("POST", "/router/coordination/populate", {"platform": "twitch"}, key="twitch")
    eventually(lambda: claimed().get("claimed_by"), within_s=30)
    eventually(
        lambda: fleet.database.statement("SELECT 1 FROM twitch_channels WHERE broadcaster_id = %s", (channel.id,)),
        within_s=30,
    )
    eventually(lambda: {"stream.online", "stream.offline"} <= channel.subscribed, within_s=30)
    channel.twitch.online(channel.id, viewers=321)
    eventually(lambda: claimed()["is_live"], within_s=20)
    channel.twitch.offline(channel.id)
    eventually(lambda: not claimed()["is_live"], within_s=20)


def test_a_stream_that_begins_and_ends_is_told_to_modules_and_earns_nothing(channel, fleet, stub):
    kinds = ["stream_online", "stream_offline"]
    stub.register(fleet, {"command": "live", "trigger_type": "event", "event_types": kinds})

    channel.twitch.online(channel.id)
    channel.twitch.offline(channel.id)

    eventually(lambda: len(stub.calls) == 2)
    began, ended = sorted(stub.calls, key=lambda call: kinds.index(call["trigger"]["message_type"]))
    assert began["trigger"]["data"]["stream_type"] == "live"
    assert ended["trigger"]["message_type"] == "stream_offline"
    assert (began["user"]["platform_user_id"], began["user"]["level"]) == (channel.id, "owner")
    assert began["user"]["name"] == channel.login
    assert channel.activities == []


def test_a_stream_of_a_channel_that_is_not_served_is_no_event(unserved):
    unserved.twitch.online(unserved.id)

    assert [(row["state"], row["detail"]) for row in unserved.rows] == [("ignored", "channel not served")]


def test_the_bots_name_in_a_message_calls_who_listens_for_it(channel, fleet, stub):
    stub.register(fleet, {"command": "ask", "listen": [{"match": "mention"}]})
    bot = channel.twitch.accounts.get(BOT_USER_ID).name
    parent = {"parent_message_id": "m1", "parent_user_id": BOT_USER_ID}

    channel.say(f"hello @nobody and {bot}")
    channel.say(f"hello @{bot}, how are you")
    channel.say("I am fine", more={"reply": parent})

    eventually(lambda: len(stub.calls) == 2)
    eventually(lambda: channel.states == ["forwarded"] * 3)
    assert {call["trigger"]["raw"] for call in stub.calls} == {f"hello @{bot}, how are you", "I am fine"}
    assert all(call["trigger"]["data"]["mentions_bot"] is True for call in stub.calls)


def test_a_reply_is_what_was_typed_without_the_name_before_it(channel):
    """Twitch sends "@Bob !help" for the reply "!help" to a line of Bob's."""
    asked = json.loads(channel.message("anybody here?", name="Bob").body)["event"]

    channel.say("!help inventory", answers=asked)
    channel.say("@Bob !help")

    eventually(lambda: len(channel.heard) == 1)
    eventually(lambda: channel.states == ["forwarded"] * 2)
    assert "!inventory" in channel.texts[0]


def test_null_is_an_absent_field(channel):
    nulls = dict.fromkeys(("color", "badges", "cheer", "reply", "chatter_user_login", "chatter_user_name"))

    assert channel.say("!help inventory", more=nulls) == [204]
    assert channel.say("!help inventory", more={"reply": {"parent_message_id": "m1", "thread_message_id": None}}) == [
        204
    ]

    for more in ({"badges": [None, {"set_id": None}, {"set_id": "vip"}]}, {"cheer": {"bits": None}}):
        assert channel.say("!help inventory", more=more) == [204]

    eventually(lambda: len(channel.heard) == 4)


LOGINS = [
    "!community portal login add {}",
    "!community portal login ad {}",
    "!comunity portal login add {}",
    "community portal login add {}",
    "!community portal {}",
]


def test_an_address_that_a_command_takes_is_on_no_record_here_or_there(channel):
    address = f"pip&bob-{channel.id.lower()}@example.org"
    for each in LOGINS:
        channel.say(each.format(address))
    eventually(lambda: [row["state"] for row in channel.rows] == ["forwarded"] * len(LOGINS))
    assert channel.fleet.tables_with(address) == []
    assert channel.fleet.tables_with(address.replace("&", "&amp;")) == []


def test_what_a_reply_quotes_is_on_no_record_either(channel):
    address = f"pip-{channel.id.lower()}@example.org"
    asked = json.loads(channel.message(LOGINS[0].format(address), name="Bob").body)["event"]

    channel.say("what was that?", answers=asked)

    eventually(lambda: channel.states == ["forwarded"])
    assert channel.rows[0]["event_data"]["event"]["reply"]["parent_message_id"] == asked["message_id"]
    assert channel.fleet.tables_with(address) == []
