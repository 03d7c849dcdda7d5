from __future__ import annotations

import json
from dataclasses import replace

import pytest
from waddlebot.community.directory import add_server
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually

CHAT = "channel.chat.message"


def post(fleet, delivery):
    return fleet.request("POST", "/twitch/webhook", delivery.body, key=None, headers=delivery.headers)


def test_a_challenge_is_answered_with_itself(fleet, twitch):
    answer = post(fleet, twitch.challenge("pogchamp-kappa-360noscope-vohiyo"))
    assert (answer.status, answer.body) == (200, b"pogchamp-kappa-360noscope-vohiyo")
    assert answer.headers["content-type"] == "text/plain"


def test_a_command_in_chat_is_stored_forwarded_and_answered_once(channel):
    assert channel.say("!inventory list", badges=["vip", "glhf-pledge"]) == [204]
    eventually(lambda: channel.states == ["forwarded"])
    eventually(lambda: channel.heard)
    assert channel.texts == ["The inventory is empty."]
    assert channel.heard[0].sender_id == channel.twitch.bot_user_id
    assert channel.rows[0]["session_id"] == channel.replies[0]["session_id"]
    eventually(lambda: [reply["state"] for reply in channel.replies] == ["sent"])


def test_badges_give_levels_and_a_refusal_is_threaded(channel):
    channel.say('!inventory add "Blue Sword" shiny', message_id="asked-1")
    eventually(lambda: channel.heard)
    assert channel.heard[0].reply_parent_message_id == "asked-1"
    channel.say('!inventory add "Blue Sword" shiny', badges=["lead_moderator"])
    eventually(lambda: len(channel.heard) == 2)
    assert channel.texts[1] == "Added “Blue Sword”."


def test_the_invisible_tail_of_chat_clients_is_not_said(channel):
    channel.say("!inventory list \U000e0000")
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_every_delivery_three_times_is_one_row_and_one_answer(channel):
    deliveries = [channel.message("!inventory list") for _ in range(5)]
    for delivery in deliveries * 3:
        assert channel.twitch.deliver(delivery, pauses_s=[]) == [204]
    eventually(lambda: channel.states == ["forwarded"] * 5)
    eventually(lambda: [reply["state"] for reply in channel.replies] == ["sent"] * 5)
    assert len(channel.heard) == 5


def test_one_message_under_two_delivery_ids_is_answered_once(channel):
    for _ in range(2):
        assert channel.say("!inventory list", message_id="same", chatter="7") == [204]
    eventually(lambda: channel.states == ["forwarded", "ignored"])
    eventually(lambda: [reply["state"] for reply in channel.replies] == ["sent"])
    assert len(channel.heard) == 1


def _changed(delivery, name, value):
    headers = {key: each for key, each in delivery.headers.items() if key != name}
    return replace(delivery, headers=headers | ({} if value is None else {name: value}))


FORGERIES = {
    "another body": lambda d, t: replace(d, body=d.body.replace(b"list", b"lost")),
    "truncated": lambda d, t: replace(d, body=d.body[:-20]),
    "no body": lambda d, t: replace(d, body=b""),
    "another secret": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Signature", "sha256=" + "0" * 64),
    "no hash name": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Signature", "0" * 64),
    "not ASCII": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Signature", "sha256=é\xff"),
    "another id": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Id", "other"),
    "another time": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Timestamp", "2026-11-22T10:00:00Z"),
    "no signature": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Signature", None),
    "no id": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Id", None),
    "no time": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Timestamp", None),
    "no kind": lambda d, t: _changed(d, "Twitch-Eventsub-Message-Type", None),
    "stale": lambda d, t: t.sign(d.body, kind="notification", subscription_type=CHAT, age_s=601),
    "from the future": lambda d, t: t.sign(d.body, kind="notification", subscription_type=CHAT, age_s=-601),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_twitch_did_not_just_sign_is_refused(fleet, channel, forgery):
    delivery = channel.message("!inventory list")
    answer = post(fleet, FORGERIES[forgery](delivery, channel.twitch))
    assert (answer.status, answer.json()["error"]["code"]) == (403, "bad_signature")
    assert channel.rows == []
    assert post(fleet, delivery).status == 204


def test_ten_minutes_are_still_fresh(channel):
    assert channel.say("hello", age_s=590) == [204]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b'{"subscription": {"type": "channel.chat.message"}, "event": {', 400),
        (b'{"subscription": "\xff\xfe"}', 400),
        (b'{"subscription": {"type": "x"}, "event": {"n": NaN}}', 400),
        (b'{"subscription": {"type": "x"}, "event": {"n": 1e999}}', 400),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"subscription": {}}', 422),
        (b'{"subscription": {"type": 7}, "event": {}}', 422),
        (b'{"subscription": {"type": "channel.chat.message"}}', 422),
        (b'{"subscription": {"type": "channel.chat.message"}, "event": null}', 422),
        (b'{"subscription": {"type": "channel.chat.message"}, "event": {"message": "text"}}', 422),
    ],
)
def test_a_signed_body_that_is_wrong_is_told_so(fleet, twitch, body, status):
    answer = post(fleet, twitch.sign(body, kind="notification", subscription_type=CHAT))
    assert answer.status == status
    assert answer.json()["success"] is False


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("broadcaster_user_id", "", 422),
        ("broadcaster_user_id", "1:2", 422),
        ("broadcaster_user_id", None, 422),
        ("chatter_user_id", "", 422),
        ("message_id", "a\x00b", 422),
        ("message_id", "x" * 256, 422),
        ("badges", "moderator", 422),
        ("message", {"text": "x" * 40_001}, 413),
    ],
)
def test_a_field_that_is_wrong_is_named(fleet, channel, field, value, status):
    answer = post(fleet, channel.message("hello", more={field: value}))
    assert answer.status == status
    assert field.split("_")[0] in answer.json()["error"]["message"]
    assert channel.rows == []


def test_nul_and_lone_surrogates_are_replaced_in_what_was_said(fleet, channel):
    delivery = channel.message("hello NUL")
    body = delivery.body.replace(b"NUL", rb"\u0000 \ud800")
    signed = channel.twitch.sign(body, kind="notification", subscription_type=CHAT)
    assert post(fleet, signed).status == 204
    assert channel.rows[0]["event_data"]["event"]["message"]["text"] == "hello \ufffd \ufffd"


def test_an_oversized_body_is_refused_before_it_is_read(fleet, twitch):
    answer = post(fleet, twitch.sign(b" " * (256 * 1024 + 1), kind="notification", subscription_type=CHAT))
    assert (answer.status, answer.json()["error"]["code"]) == (413, "too_large")


def test_an_unserved_channel_is_acknowledged_counted_and_not_forwarded(fleet, unserved):
    before = _counted(fleet, "channel not served")
    assert unserved.say("!inventory list") == [204]
    assert unserved.states == ["ignored"]
    assert _counted(fleet, "channel not served") == before + 1
    with fleet.database.transaction() as db:
        add_server(db, "twitch", unserved.id, community="late")
    SERVICES[0].bus.invalidate("servers")
    assert unserved.say("!inventory list") == [204]
    eventually(lambda: unserved.heard)
    eventually(lambda: unserved.states == ["ignored", "forwarded"])


@pytest.mark.parametrize(
    "options",
    [{"chatter": "900"}, {"badges": ["bot-badge"]}],
    ids=["the bot itself", "another bot"],
)
def test_bots_are_ignored(channel, options):
    channel.say("!inventory list", **options)
    channel.say("!inventory list", chatter="901")
    eventually(lambda: channel.heard)
    eventually(lambda: channel.states == ["ignored", "forwarded"])


def test_a_shared_chat_is_answered_where_it_was_said_and_judged_where_it_is_read(channel, fleet):
    delivery = channel.message("!inventory list", more={"source_broadcaster_user_id": channel.id})
    assert channel.twitch.deliver(delivery, pauses_s=[]) == [204]
    with fleet.database.transaction() as db:
        add_server(db, "twitch", "other-channel", community="other")
    rule = {"string": "spam", "match_type": "contains", "action": "warn", "warning_message": "No spam here."}
    assert fleet.request("POST", "/router/string-rules", {**rule, "community_id": f"twitch-{channel.id}"}).status == 200
    eventually(lambda: channel.heard)
    copy = {"source_broadcaster_user_id": "other-channel"}
    assert channel.say("!inventory list", more=copy) == [204]
    assert channel.say("buy spam", more=copy) == [204]
    eventually(lambda: [each for each in channel.texts if "No spam here." in each])
    assert len(channel.texts) == 2


def test_twitch_says_what_is_an_emote(channel, fleet):
    rule = {"match_type": "emotes", "number": 2, "action": "warn", "warning_message": "Fewer emotes."}
    assert fleet.request("POST", "/router/string-rules", {**rule, "community_id": f"twitch-{channel.id}"}).status == 200
    channel.say("Kappa Kappa", chatter="901")
    channel.say("Kappa LUL hello", chatter="902", emotes=["Kappa", "LUL"])
    eventually(lambda: channel.texts)
    eventually(lambda: channel.states == ["forwarded"] * 2)
    assert ["Fewer emotes." in each for each in channel.texts] == [True]


@pytest.mark.parametrize("is_on", [False, True])
def test_a_channel_that_is_not_served_gives_commands_only_where_a_community_wants_them(channel, fleet, is_on):
    config = {"config": {"shared_chat": is_on}}
    assert fleet.request("PUT", f"/router/communities/twitch-{channel.id}/modules/router", config).status == 200
    channel.say("!inventory list", more={"source_broadcaster_user_id": "elsewhere"})
    channel.say("!inventory stats")
    eventually(lambda: len(channel.texts) == 1 + is_on)


def test_other_types_are_kept_and_not_forwarded(fleet, channel):
    event = {"broadcaster_user_id": channel.id, "user_id": "5"}
    assert post(fleet, channel.twitch.notification("channel.hype_train.begin", event)).status == 204
    assert [(row["type"], row["state"]) for row in channel.rows] == [("channel.hype_train.begin", "ignored")]


def test_an_unknown_kind_of_delivery_is_acknowledged(fleet, twitch):
    assert post(fleet, twitch.sign(b"{}", kind="telegram", subscription_type=CHAT)).status == 204


def test_a_revocation_is_recorded_once(fleet, channel):
    delivery = channel.twitch.revocation("authorization_revoked", broadcaster=channel.id)
    for _ in range(2):
        assert post(fleet, delivery).status == 204
    assert [(row["type"], row["detail"]) for row in channel.rows] == [
        ("revocation channel.chat.message", "revoked authorization_revoked")
    ]


def test_twitch_retries_until_it_is_stored(fleet, channel):
    tries = []

    def post_third_time_lucky(delivery):
        tries.append(delivery.headers)
        return 503 if len(tries) < 3 else post(fleet, delivery).status

    channel.twitch.post = post_third_time_lucky
    assert channel.twitch.say(channel.id, "hello", chatter="1") == [503, 503, 204]
    assert [each["Twitch-Eventsub-Message-Retry"] for each in tries] == ["0", "1", "2"]
    assert len({each["Twitch-Eventsub-Message-Id"] for each in tries}) == 1


def test_health_knows_the_backlog(fleet, channel):
    health = fleet.request("GET", "/twitch/health", key=None).json()
    assert health["checks"]["backlog"]["ok"]
    assert "waiting" in json.dumps(health["checks"]["backlog"])


def _counted(fleet, outcome):
    metrics = fleet.request("GET", "/twitch/metrics", key="twitch").json()["metrics"]
    rows = metrics.get("waddlebot_twitch_deliveries_total", [])
    return sum(row["value"] for row in rows if row["outcome"] == outcome)
