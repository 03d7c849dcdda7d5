"""POST /router/playback: whose track it is hears of it, once, whatever happens in between; its answer is announced."""

from __future__ import annotations

import pytest
from waddlebot.base.ids import new_id
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


@pytest.fixture
def track(fleet, bot, stub):
    """A song of an outside module's, which has no command for what becomes of it; and what is told of it."""
    track_id = new_id()
    song = {
        "media_type": "music",
        "track_id": track_id,
        "player": "youtube",
        "media_url": "https://youtu.be/abcdefghijk",
    }

    def play(call):
        if call["trigger"]["type"] == "event":
            return reply_to(call, chat(f"{call['trigger']['data']['state']} it is"))
        return reply_to(call, chat("here it comes"), {"response_action": "media", "response_data": song})

    stub.behaviour = play
    heard = bot.say("!stub")
    item = next(each for each in heard.answer["responses"] if each["response_action"] == "media")
    return {"item_id": f"outbox-{item['outbox_id']}", "track_id": track_id}


def tell(fleet, track, state, **more):
    answer = fleet.request("POST", "/router/playback", {**track, "state": state, **more}, key="browser_source_core")
    assert answer.status == 200, answer.body
    return answer.json()["duplicate"]


def events(stub):
    return [each for each in stub.calls if each["trigger"]["type"] == "event"]


def announced(fleet, bot):
    sql = "SELECT response_data->>'message' AS said FROM outbox WHERE community_id = %s AND execution_id IS NULL"
    return [row["said"] for row in fleet.database.statement(sql, (bot.community_id,))]


def test_its_module_is_called_once_for_each_state_and_what_it_answers_is_announced(fleet, bot, stub, track):
    assert tell(fleet, track, "started", position_ms=5) is False
    assert tell(fleet, track, "started", position_ms=9) is True
    eventually(lambda: len(events(stub)) == 1)
    (call,) = events(stub)
    trigger = call["trigger"]
    assert (trigger["command"], trigger["args"]) == ("playback", [])
    assert trigger["data"] == {**track, "state": "started", "position_ms": 5, "code": 0}
    assert (call["community"]["id"], call["user"]["id"], call["user"]["level"]) == (bot.community_id, 0, "member")
    eventually(lambda: announced(fleet, bot) == ["started it is"])
    assert tell(fleet, track, "ended") is False
    eventually(lambda: announced(fleet, bot) == ["started it is", "ended it is"])
    # It is nobody's deed: no event, no points, no member.
    sql = "SELECT count(*) AS n FROM router_events WHERE community_id = %s"
    assert fleet.database.statement(sql, (bot.community_id,))[0]["n"] == 1


def test_a_module_that_is_away_hears_of_it_later_under_the_same_execution(fleet, bot, stub, track):
    plays, calls = stub.behaviour, []

    def fail_twice(call):
        calls.append(call["execution_id"])
        return (500, b"") if len(calls) < 3 else plays(call)

    stub.behaviour = fail_twice
    tell(fleet, track, "ended")
    eventually(lambda: announced(fleet, bot) == ["ended it is"], within_s=30)
    assert len(calls) == 3 and len(set(calls)) == 1


def test_what_it_says_while_it_fails_is_not_said_and_one_that_is_off_is_not_called(fleet, bot, stub, track):
    stub.behaviour = lambda call: reply_to(call, chat("oops"), success=False, error_message="no")
    tell(fleet, track, "failed", code=150)
    eventually(lambda: statuses(fleet, track) == ["failed"])
    bot.fleet.request("PUT", f"/router/communities/{bot.slug}/modules/stub", {"enabled": False})
    calls = len(events(stub))
    tell(fleet, track, "ended")
    eventually(lambda: statuses(fleet, track) == ["failed", "off"])
    assert len(events(stub)) == calls and announced(fleet, bot) == []


def statuses(fleet, track):
    sql = "SELECT status FROM playbacks WHERE track_id = %s ORDER BY id"
    return [row["status"] for row in fleet.database.statement(sql, (track["track_id"],))]
