"""What Slack delivers, and what becomes of it: signatures, repetitions, kinds, points."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

from simulators.slack import Delivery


def body_of(slack, **event):
    return json.dumps(slack.event({"type": "message", **event})).encode()


def test_a_command_is_answered_in_its_channel(channel):
    assert channel.say("!inventory list") == [200]
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_the_address_is_verified_by_its_challenge(slack):
    asked = {"type": "url_verification", "challenge": "3eZbrw1a", "token": "x"}
    answer = slack.deliver(slack.sign("events", asked))[0]
    assert (answer.status, json.loads(answer.body)) == (200, {"challenge": "3eZbrw1a"})


# Signatures


def signed(slack, body, timestamp):
    digest = hmac.new(slack.signing_secret, b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": f"v0={digest}"}


@pytest.mark.parametrize(
    ("what", "timestamp", "signature"),
    [
        ("not a number", "soon", None),
        ("empty", "", None),
        ("larger than any float", "9" * 400, None),
        ("more digits than Python reads", "9" * 5000, None),
        ("an exotic digit that is none", "1²", None),
        ("negative", "-5", None),
        ("not ASCII", None, "v0=gr\u00fc\u00df"),
        ("another version", None, "v1=abcdef"),
        ("too short", None, "v0="),
    ],
)
@pytest.mark.parametrize("to", ["events", "slash"])
def test_a_hostile_signature_is_refused(fleet, slack, what, timestamp, signature, to):
    body = b"{}"
    headers = signed(slack, body, timestamp if timestamp is not None else str(int(time.time())))
    if signature is not None:
        headers["X-Slack-Signature"] = signature
    answer = fleet.request("POST", f"/slack/{to}", body, key=None, headers=headers)
    assert answer.status == 401, what
    assert answer.json()["error"]["code"] == "bad_slack_signature" or answer.json()["error"]["code"] == "bad_signature"


def test_a_body_that_is_not_utf8_is_refused(fleet, slack):
    body = b'{"type": "\xff\xfe"}'
    headers = signed(slack, body, str(int(time.time())))
    assert fleet.request("POST", "/slack/events", body, key=None, headers=headers).status == 401


@pytest.mark.parametrize("age_s", [301, -301, 86_400])
def test_an_old_request_is_refused_though_it_was_slacks(slack, age_s):
    delivery = slack.sign("events", slack.event({"type": "message"}), age_s=age_s)
    assert slack.deliver(delivery, pauses_s=[])[0].status == 401


def test_a_missing_signature_and_anothers_secret_are_refused(fleet, slack):
    assert fleet.request("POST", "/slack/events", b"{}", key=None).status == 401
    delivery = slack.sign("events", slack.event({"type": "message"}), secret=b"another")
    assert slack.deliver(delivery, pauses_s=[])[0].status == 401


def test_a_changed_body_is_refused_and_stored_nowhere(channel, slack):
    delivery = slack.sign("events", slack.event(slack.message(channel.id, "hello")))
    changed = Delivery(delivery.to, delivery.headers, delivery.body.replace(b"hello", b"hullo"))
    assert slack.deliver(changed, pauses_s=[])[0].status == 401
    assert channel.rows == []


@pytest.mark.parametrize("body", [b"", b"[1]", b"not json", b'{"type": 5}', b'"x"'])
def test_a_signed_body_that_is_no_event_is_no_bug(slack, body):
    assert slack.deliver(slack.sign("events", body), pauses_s=[])[0].status in (200, 400)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message", "text": "no channel", "ts": "1.1", "user": "U1"},
        {"type": "message", "channel": "C1", "text": "no time", "user": "U1"},
        {"type": "message", "channel": "C:1", "text": "x", "ts": "1.1", "user": "U1"},
        {"type": "message", "channel": "C1", "text": "x", "ts": "now", "user": "U1"},
        {"type": "message", "channel": "C1", "text": {"x": 1}, "ts": "1.1", "user": "U1"},
        {"type": "reaction_added", "user": "U1", "reaction": "x"},
        {"type": "member_joined_channel", "user": "U1"},
    ],
)
def test_a_signed_event_that_is_not_as_documented_names_the_field(slack, event):
    answer = slack.deliver(slack.sign("events", slack.event(event)), pauses_s=[])[0]
    assert answer.status == 422
    assert json.loads(answer.body)["error"]["details"]["fields"]


# Once, and not lost


def test_one_message_under_eleven_event_ids_is_one(channel):
    event = channel.slack.message(channel.id, "!inventory list", user="U1")
    with ThreadPoolExecutor(11) as pool:
        statuses = list(pool.map(lambda n: channel.happen(event, event_id=f"Ev{channel.id}{n}"), range(11)))
    assert statuses == [[200]] * 11
    eventually(lambda: channel.texts)
    assert len([row for row in channel.rows if row["user_id"] == "U1"]) == 11
    eventually(lambda: channel.forwarded == [("message", "forwarded")])
    assert len(channel.replies) == 1
    assert channel.points == [("chatMessage", 5)]


def test_a_retry_after_a_first_try_that_failed_is_taken(channel):
    """Dropping whatever has a Retry-Num would lose it."""
    slack, post, tries = channel.slack, channel.slack.post, []

    def fail_once(delivery):
        tries.append(delivery.headers.get("X-Slack-Retry-Num"))
        if len(tries) == 1:
            return slack_answer(500)
        return post(delivery)

    slack.post = fail_once
    slack.echoes = False
    assert channel.say("!inventory list") == [500, 200]
    eventually(lambda: channel.texts == ["The inventory is empty."])
    assert tries == [None, "1"]


def slack_answer(status):
    from simulators.slack import Answered

    return Answered(status)


def test_a_retry_of_what_was_stored_changes_nothing(channel):
    delivery = channel.slack.sign("events", channel.slack.event(channel.slack.message(channel.id, "hello")))
    first, second = channel.slack.deliver(delivery)[0], channel.slack.deliver(delivery)[0]
    assert (first.status, second.status) == (200, 200)
    assert len(channel.rows) == 1


def test_while_the_database_is_away_slack_is_asked_to_come_again(channel, fleet):
    """A lock on the table makes the database as slow as one that is away; here its timeout is the statement's."""
    delivery = channel.slack.sign("events", channel.slack.event(channel.slack.message(channel.id, "!inventory list")))
    with fleet.database.transaction() as db:
        fetch(db, "ALTER TABLE slack_events RENAME TO slack_events_away")
    try:
        refused = channel.slack.deliver(delivery, pauses_s=[])[0]
    finally:
        with fleet.database.transaction() as db:
            fetch(db, "ALTER TABLE slack_events_away RENAME TO slack_events")
    assert refused.status >= 500
    assert channel.slack.deliver(delivery)[0].status == 200
    eventually(lambda: channel.texts == ["The inventory is empty."])


# Who and what is ignored


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"bot_id": "B1"}, "said by a bot"),
        ({"subtype": "bot_message", "bot_id": "B1"}, "subtype bot_message"),
        ({"user": "UBOTT0SIM"}, "said by a bot"),
        ({"user": "USLACKBOT"}, "said by a bot"),
        ({"user": ""}, "said by nobody"),
        ({"subtype": "message_changed", "hidden": True}, "subtype message_changed"),
        ({"subtype": "message_deleted", "hidden": True}, "subtype message_deleted"),
        ({"subtype": "channel_topic"}, "subtype channel_topic"),
        ({"subtype": "channel_join"}, "subtype channel_join"),
    ],
)
def test_bots_edits_and_notes_of_slack_are_kept_and_not_answered(channel, more, why):
    event = channel.slack.message(channel.id, "!inventory list", more=more)
    assert channel.happen(event) == [200]
    assert [(row["state"], row["detail"]) for row in channel.rows] == [("ignored", why)]


def test_emoji_are_emotes_a_workspaces_own_too(channel, fleet):
    rule = {"match_type": "emotes", "number": 2, "action": "warn", "warning_message": "Fewer emotes."}
    place = {"community_id": f"slack-{channel.id.lower()}"}
    assert fleet.request("POST", "/router/string-rules", {**rule, **place}).status == 200
    channel.say("10:30:45 :wave:", user="U78")
    channel.say(":party-cat: :wave:", user="U79")
    eventually(lambda: channel.texts)
    assert ["Fewer emotes." in each for each in channel.texts] == [True]


def test_an_edited_text_is_judged_and_is_no_command_and_no_points(channel, fleet):
    rule = {"string": "🖕", "match_type": "contains", "action": "warn", "warning_message": "No such signs."}
    place = {"community_id": f"slack-{channel.id.lower()}"}
    assert fleet.request("POST", "/router/string-rules", {**rule, **place}).status == 200
    channel.say("hello", user="U77")
    for n, text in enumerate(("!inventory list", "take :middle_finger::skin-tone-4:", "take :middle_finger:"), 1):
        said = {"type": "message", "user": "U77", "ts": "1700000000.000100", "edited": {"user": "U77", "ts": f"{n}.0"}}
        event = {
            "type": "message",
            "subtype": "message_changed",
            "channel": channel.id,
            "ts": f"1700000001.00020{n}",
            "message": {**said, "text": text},
            "previous_message": {**said, "text": "hello"},
        }
        assert channel.happen(event) == [200]
    eventually(lambda: channel.texts == ["No such signs."])
    eventually(lambda: channel.points == [("chatMessage", 5)])
    # A link's preview changes no words.
    assert channel.happen({**event, "previous_message": event["message"]}) == [200]
    assert channel.rows[-1]["state"] == "ignored"


def test_an_edited_message_without_user_or_ts_of_its_own_is_no_error(channel):
    event = {
        "type": "message",
        "subtype": "message_changed",
        "hidden": True,
        "channel": channel.id,
        "ts": "1700000000.000200",
        "message": {"type": "message", "user": "U1", "text": "!inventory list", "edited": {"user": "U1", "ts": "1.0"}},
        "previous_message": {"type": "message", "user": "U1", "text": "hi"},
    }
    assert channel.happen(event) == [200]
    assert [row["state"] for row in channel.rows] == ["ignored"]


def test_what_the_bot_says_comes_back_and_is_ignored(channel, fleet):
    channel.say("!inventory list")
    eventually(lambda: [row["detail"] for row in channel.rows] == ["", "said by a bot"])
    eventually(
        lambda: fleet.database.statement(
            "SELECT 1 FROM channel_liveness WHERE entity_id = %s AND heard_at >= said_at", (f"slack:{channel.team}:",)
        )
    )


def test_a_channel_that_is_not_served_is_kept_and_not_answered(unserved):
    assert unserved.say("!inventory list") == [200]
    assert [(row["state"], row["detail"]) for row in unserved.rows] == [("ignored", "channel not served")]


def test_an_event_that_nobody_handles_is_acknowledged(channel):
    assert channel.happen({"type": "pin_added", "channel_id": channel.id, "user": "U1"}) == [200]
    assert channel.happen({"type": "emoji_changed", "subtype": "add"}) == [200]
    assert channel.happen({"type": "channel_created", "channel": {"id": "CNEW", "name": "new"}}) == [200]


# Kinds and their points


def test_each_kind_earns_what_the_specification_says(channel):
    slack, user = channel.slack, f"U{channel.id}"
    channel.say("hello", user=user)
    channel.happen({"type": "member_joined_channel", "user": user, "channel": channel.id, "channel_type": "C"})
    item = {"type": "message", "channel": channel.id, "ts": "1700000000.000100"}
    channel.happen({"type": "reaction_added", "user": user, "reaction": "wave", "item": item, "item_user": "U2"})
    only_a_file = {"subtype": "file_share", "files": [{"id": "F1", "name": "cat.png", "mimetype": "image/png"}]}
    channel.happen(slack.message(channel.id, "", user=user, more=only_a_file))
    eventually(
        lambda: channel.points == [("chatMessage", 5), ("file_share", 15), ("member_join", 10), ("reaction", 3)],
        what="points",
    )


def test_a_mention_is_one_command_and_pays_for_itself_and_for_the_message(channel):
    bot = channel.slack.state.team(channel.team).bot_user_id
    channel.say(f"<@{bot}> !inventory list", user=f"U{channel.id}")
    eventually(lambda: channel.points == [("app_mention", 8), ("chatMessage", 5)], what="points")
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_a_mention_alone_is_a_command_where_messages_are_not_subscribed_to(channel):
    bot = channel.slack.state.team(channel.team).bot_user_id
    event = channel.slack.message(channel.id, f"<@{bot}> !inventory list", user=f"U{channel.id}")
    channel.happen({**event, "type": "app_mention"})
    eventually(lambda: channel.texts == ["The inventory is empty."])
    eventually(lambda: channel.points == [("app_mention", 8), ("chatMessage", 5)])


def test_a_file_with_words_is_both_and_its_words_are_a_command(channel):
    more = {"subtype": "file_share", "files": [{"id": "F1", "name": "cat.png"}]}
    channel.say("!inventory list", user=f"U{channel.id}", more=more)
    eventually(lambda: channel.points == [("chatMessage", 5), ("file_share", 15)])
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_a_reaction_given_twice_and_a_channel_joined_twice_pay_once(channel):
    item = {"type": "message", "channel": channel.id, "ts": "1700000000.000100"}
    for _ in range(3):
        channel.happen({"type": "reaction_added", "user": "U9", "reaction": "wave", "item": item})
        channel.happen({"type": "member_joined_channel", "user": "U9", "channel": channel.id})
    eventually(lambda: channel.points == [("member_join", 10), ("reaction", 3)])
    assert [state for _, state in channel.forwarded] == ["forwarded"] * 2


def test_the_bots_own_joining_is_no_event(channel):
    bot = channel.slack.state.team(channel.team).bot_user_id
    channel.happen({"type": "member_joined_channel", "user": bot, "channel": channel.id})
    assert [(row["state"], row["detail"]) for row in channel.rows] == [("ignored", "done by a bot")]


# What the router and modules get


def test_a_module_sees_what_people_see(channel, stub):
    channel.slack.change_user("UBOB", name="bob", display_name="Bob")
    stub.behaviour = lambda call: reply_to(call, chat("ok"))
    channel.say("!stub &lt;b&gt; R&amp;D <@UBOB> <#C5|general> <http://example.com|example.com> <!here>", user="UBOB")
    eventually(lambda: channel.texts == ["ok"])
    call = stub.calls[-1]
    assert call["trigger"]["args"] == ["<b>", "R&D", "@bob", "#general", "example.com", "@here"]
    assert (call["user"]["name"], call["user"]["display_name"]) == ("bob", "Bob")
    assert call["entity"]["entity_id"] == channel.entity_id


@pytest.mark.parametrize(
    ("fields", "level"), [({"is_owner": True}, "owner"), ({"is_admin": True}, "admin"), ({}, "member")]
)
def test_who_owns_or_administers_the_workspace_does_so_here(channel, stub, fields, level):
    user = f"U{channel.id}"
    channel.slack.change_user(user, name="carla", **fields)
    stub.behaviour = lambda call: reply_to(call, chat("ok"))
    channel.say("!stub", user=user)
    eventually(lambda: channel.texts == ["ok"])
    assert stub.calls[-1]["user"]["level"] == level


def test_somebody_who_changes_is_known_anew_and_asked_after_once_until_then(channel, stub):
    user, slack = f"U{channel.id}", channel.slack
    stub.behaviour = lambda call: reply_to(call, chat(call["user"]["level"]))
    slack.change_user(user, name="dora")
    for _ in range(2):
        channel.say("!stub", user=user)
    eventually(lambda: len(channel.texts) == 2)
    assert slack.state.requests.count("users.info") == 1
    slack.change_user(user, is_admin=True)
    channel.say("!stub", user=user)
    eventually(lambda: channel.texts[-1] == "admin")


def test_plain_chat_does_not_wait_for_a_name_and_gets_it_later(channel, fleet):
    user = f"U{channel.id}"
    channel.say("hello", user=user)
    named = "SELECT name FROM platform_identities WHERE platform = 'slack' AND platform_user_id = %s"
    eventually(lambda: fleet.database.statement(named, (user,)) == [{"name": f"name-{user.lower()}"}])


def test_a_command_is_answered_though_slack_does_not_say_who_gave_it(channel):
    channel.slack.fail_next("429", times=5, method="users.info")
    channel.say("!inventory list")
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_a_workspace_that_is_served_whole_serves_channels_on_sight(unserved):
    from waddlebot.community.directory import add_server

    with unserved.fleet.database.transaction() as db:
        add_server(db, "slack", "", server_id="TWHOLE", community="whole")
    unserved.slack.state.tokens[unserved.slack.bot_token].team = "T0SIM"
    unserved.slack.say("CWHOLE", "hello", team="TWHOLE", user="U1")
    rows = unserved.fetch("SELECT state FROM slack_events WHERE channel_id = 'CWHOLE'")
    assert [row["state"] for row in rows] != ["ignored"]


def test_held_back_events_are_counted_told_and_noted(channel, fleet):
    limited = {
        "token": "x",
        "type": "app_rate_limited",
        "team_id": channel.team,
        "minute_rate_limited": 1518467820,
        "api_app_id": "A1",
    }
    assert channel.slack.deliver(channel.slack.sign("events", limited))[0].status == 200
    gaps = fleet.database.statement("SELECT * FROM channel_gaps WHERE entity_id = %s", (f"slack:{channel.team}:",))
    assert gaps[0]["since"].timestamp() == 1518467820
    assert "30 000" in gaps[0]["why"]


def test_what_was_taken_in_can_be_listed(channel, fleet):
    channel.say("hello", user=f"U{channel.id}")
    eventually(lambda: channel.points)
    key = fleet.keys["slack"]
    events = fleet.request("GET", "/slack/events/list", key=key, query={"limit": 5}).json()
    assert events["events"][0]["channel_id"] == channel.id
    assert events["total"] >= 1
    activities = fleet.request("GET", "/slack/activities/list", key=key).json()
    assert (activities["activities"][0]["activity_type"], activities["activities"][0]["amount"]) == ("chatMessage", 5)
    info = fleet.request("GET", "/slack/info", key=key).json()
    assert channel.team in [each["team_id"] for each in info["workspaces"]]
    for path in ("/slack/info", "/slack/events/list", "/slack/activities/list"):
        assert fleet.request("GET", path, key=None).status == 401
        assert fleet.request("GET", path, key="inventory").status == 403


def test_the_bots_name_in_a_message_calls_who_listens_for_it(channel, stub):
    stub.register(channel.fleet, {"command": "ask", "listen": [{"match": "mention"}]})
    bot = channel.slack.state.team(channel.team).bot_user_id

    channel.say("hello <@U999> there")
    channel.say(f"hello <@{bot}|wbot> there")

    eventually(lambda: stub.calls)
    eventually(lambda: {row["state"] for row in channel.rows} <= {"forwarded", "ignored"})
    assert [call["trigger"]["data"]["mentions_bot"] for call in stub.calls] == [True]


def test_a_null_among_the_files_loses_no_message(channel):
    said = {"type": "message", "user": "U78", "ts": "1700000000.000900", "channel": channel.id, "text": "look"}
    channel.happen({**said, "files": [None, {"id": "F1", "name": "a.png"}]})
    eventually(lambda: [state for _, state in channel.forwarded] == ["forwarded"] * 2)


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
    eventually(lambda: [state for _, state in channel.forwarded] == ["forwarded"] * len(LOGINS))
    assert channel.fleet.tables_with(address) == []
    assert channel.fleet.tables_with(address.replace("&", "&amp;")) == []
