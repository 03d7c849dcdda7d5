"""Twitch's own shoutouts: each in its turn, as the bot where it may, and never twice for one request."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually

PATH = "/twitch/api/shoutout"


@pytest.fixture
def live(twitch, browser, joined):
    """A channel that is live, in which the bot is a moderator who may send shoutouts."""
    assert browser.consent(twitch.bot_user_id, start="/twitch/auth/bot/login").status == 200
    twitch.add_moderator(joined.id, twitch.bot_user_id)
    twitch.online(joined.id)
    twitch.actions.clear()
    return joined


def ask(channel, to, key="shoutout", **more):
    return channel.fleet.request("POST", PATH, {"channel_id": channel.id, "to_user_id": to, **more}, key=key)


def sent(channel):
    return [
        (each.user_id, each.moderator_id)
        for each in channel.twitch.actions
        if each.kind == "shoutout" and each.broadcaster_id == channel.id
    ]


def rows(channel, sql="SELECT * FROM twitch_shoutouts WHERE broadcaster_id = %s ORDER BY id"):
    with channel.fleet.database.transaction() as db:
        return fetch(db, sql, (channel.id,))


def pass_time(channel, minutes):
    """For Twitch and for us."""
    helix = channel.twitch.helix
    for place in list(helix._shoutouts):
        helix._shoutouts[place] -= minutes * 60
    rows(
        channel,
        f"UPDATE twitch_shoutouts SET sent_at = sent_at - interval '{minutes} minutes',"
        f" not_before = not_before - interval '{minutes} minutes' WHERE broadcaster_id = %s RETURNING 1",
    )


def test_it_is_sent_at_once_as_the_bot(live, twitch):
    answer = ask(live, "4711")
    assert answer.status == 200, answer.body
    assert answer.json() == {"success": True, "changed": True, "state": "sent", "due_at": None}
    assert sent(live) == [("4711", twitch.bot_user_id)]


def test_one_in_two_minutes_and_the_rest_in_their_order(live):
    assert [ask(live, each).json()["state"] for each in ("1", "2", "3")] == ["sent", "waiting", "waiting"]
    second, third = ask(live, "2").json(), ask(live, "3").json()
    assert not second["changed"]
    assert second["due_at"] < third["due_at"]
    assert [row["state"] for row in rows(live)] == ["sent", "waiting", "waiting"], "who waits is not added again"
    pass_time(live, 2)
    eventually(lambda: len(sent(live)) == 2, within_s=15)
    pass_time(live, 2)
    eventually(lambda: [to for to, _ in sent(live)] == ["1", "2", "3"], within_s=15)


def test_one_an_hour_for_the_same_target_and_others_pass(live):
    ask(live, "1")
    pass_time(live, 3)
    assert ask(live, "1").json()["state"] == "waiting"
    assert ask(live, "2").json()["state"] == "sent"
    pass_time(live, 58)
    eventually(lambda: [to for to, _ in sent(live)] == ["1", "2", "1"], within_s=15)


def test_what_would_come_too_late_does_not_come(live):
    ask(live, "1")
    assert ask(live, "1", max_wait_s=1).json()["state"] == "waiting"
    eventually(lambda: [row["state"] for row in rows(live)] == ["sent", "dropped"], within_s=15)
    assert ask(live, "1", max_wait_s=0).status == 422


def test_many_at_once_take_one_turn(live):
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda n: ask(live, str(n)).json()["state"], range(1, 6)))
    eventually(lambda: len(sent(live)) == 1)
    assert answers.count("sent") <= 1, "one may be sent by who asks for another"
    assert sorted(row["state"] for row in rows(live)) == ["sent", *["waiting"] * 4]


def test_one_by_hand_makes_ours_wait(live, twitch):
    twitch.helix._shoutouts[live.id, ""] = time.monotonic()
    assert ask(live, "1").json()["state"] == "waiting"
    assert sent(live) == []


@pytest.mark.parametrize(("fault", "state"), [(503, "waiting"), (429, "waiting")])
def test_a_twitch_that_asks_to_wait_is_asked_again(live, twitch, fault, state):
    twitch.fail_next(fault, at="chat/shoutouts")
    assert ask(live, "1").json()["state"] == state
    pass_time(live, 3)
    eventually(lambda: sent(live) == [("1", twitch.bot_user_id)], within_s=15)


def test_what_broke_off_is_not_sent_again(live, twitch):
    twitch.fail_next(500, at="chat/shoutouts")
    answer = ask(live, "1")
    assert (answer.status, answer.json()["error"]["code"]) == (409, "unknown")
    assert [row["state"] for row in rows(live)] == ["unknown"]


def test_one_that_was_begun_before_a_crash_is_not_sent_again(live):
    rows(
        live,
        "INSERT INTO twitch_shoutouts (broadcaster_id, to_user_id, state, sent_at, expires_at)"
        " VALUES (%s, '1', 'sending', now() - interval '2 minutes', now()) RETURNING 1",
    )
    eventually(lambda: [row["state"] for row in rows(live)] == ["unknown"], within_s=15)
    assert sent(live) == []


def test_why_not_is_a_code(live, twitch):
    twitch.offline(live.id)
    assert ask(live, "1").json()["error"]["code"] == "not_live"
    twitch.online(live.id)
    assert ask(live, live.id).json()["error"]["code"] == "not_there"
    twitch.remove_moderator(live.id, twitch.bot_user_id)
    answer = ask(live, "2")
    assert (answer.status, answer.json()["error"]["code"]) == (409, "missing_scope")
    assert "/mod" in answer.json()["error"]["message"]
    assert ask(live, "").status == 422


def test_who_may_ask(live):
    assert ask(live, "1", key=None).status == 401
    assert ask(live, "1", key="inventory").status == 403
    assert ask(live, "1", key="labels_core").status == 403
    assert ask(live, "1", key="admin").status == 200


def test_a_shoutout_in_chat_sends_twitchs_own_too(live, twitch):
    twitch.user("guest4711", id="4711", name="Guest4711")
    live.say("!so @guest4711", chatter=live.id, badges=["broadcaster"])
    eventually(lambda: live.texts == ["Go and follow Guest4711 at https://twitch.tv/guest4711"])
    eventually(lambda: sent(live) == [("4711", twitch.bot_user_id)])


def test_without_the_right_to_send_it_the_chat_line_comes_alone(joined, twitch):
    twitch.user("guest4712", id="4712", name="Guest4712")
    twitch.online(joined.id)
    joined.say("!so @guest4712", chatter=joined.id, badges=["broadcaster"])
    eventually(lambda: joined.texts == ["Go and follow Guest4712 at https://twitch.tv/guest4712"])
    assert sent(joined) == []
