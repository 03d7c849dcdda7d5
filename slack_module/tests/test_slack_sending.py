"""What the bot says: where, how, how fast, and what becomes of it when Slack does not take it."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest
from waddlebot.collecting.streams import StreamNews, Streams
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


def states(channel):
    return [reply["state"] for reply in channel.replies]


def say(channel, stub, message, *, reply=False, **options):
    answer = {**chat(message), "response_data": {"message": message, "reply": reply}}
    stub.behaviour = lambda call: reply_to(call, answer)
    channel.say("!stub", **options)


def test_a_reply_is_threaded_to_what_it_answers(channel, stub):
    say(channel, stub, "hello", reply=True, ts="1700000000.000123")
    eventually(lambda: states(channel) == ["sent"])
    assert [(said.text, said.thread_ts) for said in channel.heard] == [("hello", "1700000000.000123")]
    assert channel.replies[0]["detail"] == channel.heard[0].ts


def test_what_is_no_reply_is_said_in_the_channel(channel, stub):
    say(channel, stub, "hello")
    eventually(lambda: [said.thread_ts for said in channel.heard] == [""])


def test_a_question_in_a_thread_is_answered_in_that_thread(channel, stub):
    """Slack wants the thread's first message, not the one in it that is answered."""
    say(channel, stub, "hello", reply=True, ts="1700000005.000001", thread_ts="1700000000.000001")
    say(channel, stub, "hello", ts="1700000006.000001", thread_ts="1700000000.000001")
    eventually(lambda: [said.thread_ts for said in channel.heard] == ["1700000000.000001"] * 2)


def test_outside_text_means_nothing_to_slack_and_calls_nobody(channel, stub):
    say(channel, stub, "<b> R&D <!channel> <!here|here> <!everyone> <!subteam^S1|@devs> @channel <https://evil|bank>")
    eventually(lambda: channel.heard)
    text = channel.heard[0].text
    assert "<" not in text
    assert "&lt;b&gt; R&amp;D" in text
    assert "&lt;https://evil|bank&gt;" in text
    assert "@channel" not in text
    assert "@here" not in text
    assert "@everyone" not in text
    assert "subteam" not in text
    assert "devs" in text


def test_no_reply_begins_with_a_command(channel, stub):
    say(channel, stub, "!ban everybody")
    eventually(lambda: [said.text for said in channel.heard] == ["› !ban everybody"])


def test_a_long_reply_is_said_in_parts_one_a_second(channel, stub):
    channel.slack.channel_pause_s = 1.0
    words = [f"word{n}" for n in range(900)]
    say(channel, stub, " ".join(words), reply=True, ts="1700000000.000123")
    eventually(lambda: states(channel) == ["sent"], within_s=20)
    assert len(channel.heard) == 3
    assert all(len(said.text) <= 3000 for said in channel.heard)
    assert " ".join(said.text for said in channel.heard).split() == words
    assert {said.thread_ts for said in channel.heard} == {"1700000000.000123"}


def test_a_channel_is_spoken_in_once_a_second_and_others_do_not_wait(channel, stub):
    channel.slack.channel_pause_s = 1.0
    for n in range(3):
        say(channel, stub, "hello", user=f"U{channel.id}{n}")
    eventually(lambda: states(channel) == ["sent"] * 3, within_s=20)
    at = [said.at for said in channel.heard]
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(at))


@pytest.mark.parametrize("kind", [429, 503, "ratelimited", "service_unavailable"])
def test_what_did_not_leave_is_said_later(channel, stub, kind):
    channel.slack.fail_next(kind)
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["sent"], within_s=15)
    assert channel.texts == ["hello"]


@pytest.mark.parametrize("kind", [500, 502, "internal_error", "fatal_error"])
def test_what_may_have_been_said_is_unknown_and_never_repeated(channel, stub, kind):
    channel.slack.fail_next(kind)
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["unknown"])
    assert channel.texts == []


def test_a_connection_that_breaks_after_slack_has_done_it_says_nothing_twice(channel, stub):
    """The SDK's own retry would."""
    channel.slack.fail_next("cut")
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["unknown"])
    assert channel.texts == ["hello"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("is_archived", "that channel is archived"),
        ("not_in_channel", "/invite"),
        ("channel_not_found", "no such channel"),
        ("something_new", "Slack says something_new"),
    ],
)
def test_what_slack_refuses_is_dropped_in_words(channel, stub, error, words):
    channel.slack.state.team(channel.team).closed[channel.id] = error
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["dropped"])
    assert words in channel.replies[0]["detail"]


def test_a_token_that_slack_refuses_is_told_in_words_and_the_next_one_works(channel, stub, fleet):
    slack = channel.slack
    slack.state.end_tokens(channel.team, "token_revoked")
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["dropped"])
    assert "token_revoked" in channel.replies[0]["detail"]
    team = fleet.database.statement("SELECT state, reason FROM slack_teams WHERE team_id = %s", (channel.team,))[0]
    assert team["state"] == "gone"
    assert "token_revoked" in team["reason"]
    slack.reset()  # It works again.
    fleet.database.statement("UPDATE slack_teams SET state = 'installed', reason = ''")
    say(channel, stub, "hello again")
    eventually(lambda: channel.texts == ["hello again"])


def test_a_proxy_for_the_world_is_not_taken_for_loopback(channel, stub, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    say(channel, stub, "hello")
    eventually(lambda: channel.texts == ["hello"])


def test_a_slack_that_is_not_reached_gets_the_reply_later(channel, stub):
    say(channel, stub, "first")
    eventually(lambda: channel.texts == ["first"])
    channel.slack.stop()
    try:
        say(channel, stub, "second", user=f"U{channel.id}")
        eventually(lambda: states(channel) == ["sent", "pending"])
    finally:
        channel.slack.start()
    eventually(lambda: channel.texts == ["first", "second"])


# Moderation


def make_rule(channel, action):
    rule = {
        "community_id": f"slack-{channel.id.lower()}",
        "string": "badword",
        "match_type": "word",
        "action": action,
    }
    response = channel.fleet.request("POST", "/router/string-rules", rule)
    assert response.status == 200, response.body


def test_a_warning_is_told_once(channel):
    make_rule(channel, "warn")
    channel.say("this is a badword", user="UBAD")
    eventually(lambda: states(channel) == ["sent", "sent"])
    assert [said.via for said in channel.heard] == ["chat.postMessage"]


def test_a_message_that_may_not_be_deleted_is_told_in_words(channel):
    make_rule(channel, "block")
    channel.say("this is a badword", user="UBAD")
    eventually(lambda: "dropped" in states(channel))
    detail = next(each["detail"] for each in channel.replies if each["state"] == "dropped")
    assert "Slack lets a bot delete only its own messages" in detail


def moderate(fleet, channel, action, **more):
    body = {"entity_id": channel.entity_id, "action": action, "platform_user_id": "UBAD", **more}
    return fleet.request("POST", "/slack/api/moderation", body, key=fleet.keys["slack"])


def test_moderation_over_http_says_what_came_of_it(channel, fleet):
    warned = moderate(fleet, channel, "warn", reason="Please stop.").json()
    assert (warned["success"], warned["state"]) == (True, "sent")
    assert [(said.text, said.ephemeral_to) for said in channel.heard] == [("Please stop.", "UBAD")]
    for action in ("timeout", "ban", "unban"):
        answer = moderate(fleet, channel, action).json()
        assert (answer["success"], answer["state"]) == (False, "dropped")
        assert f"nothing like a {action}" in answer["detail"]


def test_moderation_over_http_is_for_served_channels_and_whoever_may(unserved, fleet):
    assert moderate(fleet, unserved, "warn").status == 404
    body = {"entity_id": unserved.entity_id, "action": "warn", "platform_user_id": "U1"}
    assert fleet.request("POST", "/slack/api/moderation", body, key=None).status == 401
    assert fleet.request("POST", "/slack/api/moderation", body, key="inventory").status == 403
    assert fleet.request("POST", "/slack/api/moderation", body, key="twitch").status == 403


def test_a_live_notice_has_a_card_and_becomes_what_tells_of_the_end(channel):
    channel.say("hi")
    eventually(lambda: channel.fetch("SELECT 1 FROM entities WHERE entity_id = %s", channel.entity_id))
    streamer = f"twitch::8{channel.id[1:]}"
    channel.fetch(
        "INSERT INTO entities (entity_id, platform, channel_id, community_id)"
        " SELECT %s, 'twitch', %s, community_id FROM entities WHERE entity_id = %s RETURNING 1 AS one",
        streamer,
        streamer.removeprefix("twitch::"),
        channel.entity_id,
    )
    place = f"/router/communities/slack-{channel.id.lower()}/live-notices"
    assert channel.fleet.request("POST", place, {"entity_id": channel.entity_id}).status == 200
    streams = Streams(channel.fleet.database)
    told = {"title": "Cats & <dogs>", "game": "Chess", "url": "https://www.twitch.tv/pip", "name": "Pip"}
    began = {"is_live": True, "started_at": datetime.now(UTC).isoformat(), "picture": "https://pics.example/pip.jpg"}
    streams.note([StreamNews(streamer, **began, **told)])
    eventually(lambda: states(channel) == ["sent"])
    (first,) = channel.heard
    assert first.text == "Pip is live: Cats &amp; &lt;dogs&gt; (Chess) https://www.twitch.tv/pip"
    (card,) = json.loads(first.attachments)
    assert (card["title"], card["title_link"]) == ("Cats &amp; &lt;dogs&gt;", "https://www.twitch.tv/pip")
    assert card["image_url"].startswith("https://pics.example/pip.jpg?at=")

    streams.note([StreamNews(streamer, is_live=False)])
    channel.fetch(
        "UPDATE streams SET updated_at = now() - interval '2 minutes' WHERE entity_id = %s RETURNING 1 AS one", streamer
    )

    eventually(lambda: states(channel) == ["sent", "sent"])
    (now,) = channel.heard
    assert (now.ts, "is off again" in now.text, "image_url" in now.attachments) == (first.ts, True, False)
