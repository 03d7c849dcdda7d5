"""Modules that answer too much, too late, or more often than they were asked: each event still has one outcome."""

from __future__ import annotations

import json
import threading

from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

TOO_MUCH = 50 * 1024 * 1024


def recorded(fleet, session_id):
    """What is on record of an event: its executions' statuses, and everything that it said."""
    executions = fleet.database.statement("SELECT status FROM command_executions WHERE session_id = %s", (session_id,))
    said = fleet.database.statement("SELECT response_data FROM outbox WHERE session_id = %s ORDER BY id", (session_id,))
    return [each["status"] for each in executions], [each["response_data"]["message"] for each in said]


def post(fleet, reply):
    return fleet.request("POST", "/router/responses", reply, key="stub")


def test_fifty_megabytes_are_one_failure_and_the_next_call_is_fine(bot, fleet, stub):
    stub.behaviour = lambda call: (200, json.dumps(reply_to(call, chat("x" * TOO_MUCH))).encode())
    heard = bot.say("!stub")
    assert heard.statuses == ["failed"]
    assert "larger" in heard.answer["executions"][0]["error"]["message"]
    assert recorded(fleet, heard.session_id) == (["failed"], [heard.chat])

    stub.behaviour = lambda call: reply_to(call, chat("small"))
    assert bot.say("!stub").chat == "small"


def test_fifty_megabytes_posted_later_are_refused(fleet, bot, stub):
    stub.behaviour = lambda call: reply_to(call)
    heard = bot.say("!stub")

    refused = post(fleet, reply_to(stub.calls[0], chat("x" * TOO_MUCH)))

    assert refused.status == 413
    assert recorded(fleet, heard.session_id) == (["success"], [])


def test_a_second_response_on_the_same_connection_is_nobodys_answer(bot, fleet, stub):
    def twice(call):
        body = json.dumps(reply_to(call, chat("an old answer"))).encode()
        stub.excess = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        return reply_to(call, chat(f"answer {len(stub.calls)}"))

    stub.behaviour = twice

    heard = [bot.say("!stub") for _ in range(4)]

    assert [each.chat for each in heard] == [f"answer {n}" for n in range(1, 5)]
    assert [recorded(fleet, each.session_id) for each in heard] == [(["success"], [each.chat]) for each in heard]


def test_a_module_that_posts_what_it_also_answers_is_heard_once(bot, fleet, stub):
    heard = bot.say("!stub")
    assert heard.chat == "hello"

    again = post(fleet, reply_to(stub.calls[0], chat("hello")))

    assert again.status == 409
    assert recorded(fleet, heard.session_id) == (["success"], ["hello"])


def test_what_comes_after_the_deadline_changes_nothing(bot, fleet, stub):
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(20) and reply_to(call, chat("too late"))
    event = bot.event("!stub")
    bot.submit(event)
    eventually(lambda: bot.submit(event).statuses == ["timeout"])
    told = bot.submit(event).chat

    may_answer.set()
    refused = post(fleet, reply_to(stub.calls[0], chat("too late")))

    assert refused.status == 409
    heard = bot.submit(event)
    assert (heard.statuses, heard.chat) == (["timeout"], told)
    assert recorded(fleet, heard.session_id) == (["timeout"], [told])
