"""What every endpoint does, whatever it is for."""

from __future__ import annotations

import gc
import io

import pytest
from waddlebot.base.errors import UpstreamError
from waddlebot.base.logs import AAAFormatter
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually


@pytest.mark.parametrize("message_type", ["nonsense", "chatMessage"])
def test_a_request_leaves_nothing_for_the_garbage_collector(fleet, message_type):
    marker = "nobody keeps this"
    event = {"event_id": "e", "message_type": message_type, "platform": "twitch", "channel_id": "not-ours", "user": {}}
    event["user"] = {"platform_user_id": "p", "name": "p", "display_name": marker}
    fleet.request("POST", "/router/events/batch", [event])
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            answer = fleet.request("POST", "/router/events/batch", [event])
            assert [each["success"] for each in answer.json()] == [False]
        # What this thread served last is still at hand, and on a busy machine the writer of the log may be behind; but
        # garbage would stay for as long as nobody collects it.
        eventually(lambda: len(bodies(marker)) <= 2)
    finally:
        gc.enable()


def bodies(marker):
    files = [each for each in gc.get_objects() if isinstance(each, io.BytesIO) and not each.closed]
    return [each for each in files if marker in str(each.getvalue())]


def test_each_change_that_somebody_asks_for_is_audited_and_a_question_is_not(fleet, bot, caplog):
    timers = f"/router/communities/{bot.slug}/timers"
    fields = {"name": "audited", "message": "Hello", "minutes": 30}
    with caplog.at_level("INFO", logger="waddlebot.router"):
        fleet.request("POST", f"{timers}/preview", {"message": "Hello"})
        made = fleet.request_for("POST", timers, fields, community_id=bot.community_id).json()["timer"]["id"]
        fleet.request("DELETE", f"{timers}/{made}")
        fleet.request("DELETE", f"{timers}/{made}")

    lines = [AAAFormatter().format(each) for each in caplog.records]
    told = [line.partition(" action=")[2] for line in lines if " AUDIT " in line and "_timer " in line]
    assert [each.split()[:2] for each in told] == [
        ["create_timer", "result=SUCCESS"],
        ["delete_timer", "result=SUCCESS"],
        ["delete_timer", "result=UNKNOWN_TIMER"],
    ]
    assert "actor=portal" in told[0]
    assert f"timer_id={made}" in told[2]


def test_a_change_of_health_is_told_once(fleet, caplog):
    router = next(each for each in SERVICES if each.name == "router")
    found = iter(["well", UpstreamError("planted"), UpstreamError("planted"), "well again"])

    def look() -> str:
        answer = next(found)
        if isinstance(answer, Exception):
            raise answer
        return answer

    router.checks["planted"] = look
    with caplog.at_level("INFO", logger="waddlebot.router"):
        for _ in range(4):
            router._run_checks()
    del router.checks["planted"]

    lines = [AAAFormatter().format(each) for each in caplog.records]
    told = [line for line in lines if "action=health_changed" in line and "check=planted" in line]
    assert [" result=FAILED " in line for line in told] == [True, False]
    assert all(" SYSTEM " in line for line in told)


def test_debug_lines_tell_how_an_event_was_read_and_each_request(fleet, bot, caplog):
    with caplog.at_level("DEBUG", logger="waddlebot.router"):
        heard = bot.say("!help")
        fleet.request("GET", "/router/commands")

    lines = [AAAFormatter().format(each) for each in caplog.records]
    [planned] = [line for line in lines if "action=event_planned" in line and heard.session_id in line]
    assert " DEBUG " in planned
    assert "!help: may run" in planned
    served = [line for line in lines if "action=request_served" in line and "path=/router/commands" in line]
    assert "method=GET" in served[0]
    assert " status=200 " in served[0]
    assert all(key not in line for line in lines for key in fleet.keys.values())
