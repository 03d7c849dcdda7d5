"""Late replies, the outbox, and who may see what: contracts §3–5."""

from __future__ import annotations

import threading

import pytest
from waddlebot.base.ids import new_id
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


@pytest.fixture
def late(bot, stub):
    """A command whose module has said nothing yet; the module's call."""
    stub.behaviour = lambda call: reply_to(call)
    heard = bot.say("!stub")
    assert heard.statuses == ["success"]
    return stub.calls[0]


def post(fleet, reply, key="stub"):
    return fleet.request("POST", "/router/responses", reply, key=key)


def test_a_module_may_answer_later(bot, fleet, late):
    accepted = post(fleet, reply_to(late, chat("later")))

    assert accepted.status == 200
    listed = fleet.request("GET", f"/router/responses/{late['execution_id']}").json()
    assert [each["response_data"]["message"] for each in listed["outbox"]] == ["later"]


def test_the_same_late_answer_twice_is_said_once(fleet, late):
    reply = reply_to(late, chat("later"))

    assert not post(fleet, reply).json()["duplicate"]
    assert post(fleet, reply).json()["duplicate"]
    assert len(fleet.request("GET", f"/router/responses/{late['execution_id']}").json()["outbox"]) == 1


def test_another_late_answer_conflicts(fleet, late):
    post(fleet, reply_to(late, chat("later")))

    assert post(fleet, reply_to(late, chat("something else"))).status == 409


def test_a_single_response_at_the_top_is_taken(fleet, late):
    reply = {**reply_to(late), "response_action": "chat", "response_data": {"message": "top"}}

    assert post(fleet, reply).status == 200
    listed = fleet.request("GET", f"/router/responses/{late['execution_id']}").json()
    assert listed["outbox"][0]["response_data"]["message"] == "top"


def test_a_module_that_answers_through_the_api_before_it_answers_the_call_is_heard_once(bot, fleet, stub):
    posted = []

    def both_ways(call):
        # The test's WSGI app keeps its request in the thread; the stub's thread is another one.
        posted.append(post(fleet, reply_to(call, chat("posted"))).status)
        return reply_to(call, chat("returned"))

    stub.behaviour = both_ways
    event = bot.event("!stub")
    bot.submit(event)

    eventually(lambda: bot.submit(event).statuses == ["success"])
    assert posted == [200]
    assert bot.submit(event).chat == "posted"


def test_a_foreign_session_is_refused(fleet, late):
    assert post(fleet, {**reply_to(late, chat("x")), "session_id": new_id()}).status == 403


def test_another_modules_key_is_refused(fleet, late):
    assert post(fleet, reply_to(late, chat("x")), key="inventory").status == 403
    assert post(fleet, reply_to(late, chat("x"), module_name="inventory"), key="inventory").status == 403
    assert post(fleet, reply_to(late, chat("x")), key="console").status == 403


@pytest.mark.parametrize("execution_id", [new_id(), "nonsense", "1"], ids=["new", "nonsense", "number"])
def test_an_unknown_execution_is_404(fleet, late, execution_id):
    assert post(fleet, reply_to({**late, "execution_id": execution_id})).status == 404
    assert fleet.request("GET", f"/router/responses/{execution_id}").status == 404


@pytest.mark.parametrize(
    ("response", "field"),
    [
        ({"response_action": "chat", "response_data": {}}, "message"),
        ({"response_action": "ticker", "response_data": {"text": "x", "priority": 10}}, "priority"),
        ({"response_action": "media", "response_data": {"media_type": "smell"}}, "media_type"),
        ({"response_action": "dance", "response_data": {}}, "responses.0.response_action"),
    ],
)
def test_bad_response_data_is_named(fleet, late, response, field):
    refused = post(fleet, reply_to(late, response))

    assert refused.status == 422
    assert refused.json()["error"]["message"].startswith(field)


def test_a_reply_is_confirmed_once(bot, fleet):
    outbox_id = bot.say("!help").answer["responses"][0]["outbox_id"]
    path = f"/router/outbox/{outbox_id}"

    assert fleet.request("POST", path, {"state": "sending"}).status == 200
    assert fleet.request("POST", path, {"state": "sending"}).status == 409
    assert fleet.request("POST", path, {"state": "sent"}).json()["state"] == "sent"
    again = fleet.request("POST", path, {"state": "sent"})
    assert again.status == 409
    assert "sent" in again.json()["error"]["message"]


def test_of_many_senders_one_gets_the_reply(bot, fleet):
    path = f"/router/outbox/{bot.say('!help').answer['responses'][0]['outbox_id']}"
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(fleet.request("POST", path, {"state": "sending"}).status))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200] + [409] * 7


def test_a_collector_of_another_platform_does_not_see_the_reply(bot, fleet):
    other = fleet.make_key("a discord collector " + new_id(), "collectors", platforms=["discord"])
    heard = bot.say("!help")
    outbox_id = heard.answer["responses"][0]["outbox_id"]

    assert fleet.request("POST", f"/router/outbox/{outbox_id}", {"state": "sent"}, key=other).status == 404
    assert fleet.request("GET", f"/router/explain/{heard.session_id}", key=other).status == 404
    assert fleet.request("GET", "/router/outbox", key=other, query={"platform": "console"}).json()["replies"] == []


def test_a_service_sees_its_own_responses_only(bot, fleet, stub):
    bot.say("!stub")
    execution_id = stub.calls[0]["execution_id"]

    assert fleet.request("GET", f"/router/responses/{execution_id}", key="stub").status == 200
    assert fleet.request("GET", f"/router/responses/{execution_id}", key="inventory").status == 404
    recent = fleet.request("GET", "/router/responses/recent", key="stub").json()
    assert {each["module_name"] for each in recent["responses"]} == {"stub"}


def test_recent_responses_can_be_filtered(bot, fleet, stub):
    bot.say("!stub")

    query = {"module_name": "stub", "response_action": "chat", "limit": 1}
    found = fleet.request("GET", "/router/responses/recent", query=query).json()["responses"]

    assert [each["response_action"] for each in found] == ["chat"]
    assert fleet.request("GET", "/router/responses/recent", query={"limit": 0}).status == 422
    assert fleet.request("GET", "/router/responses/recent", query={"lmit": 5}).status == 422


def later(call, seconds):
    """A module's "not yet"."""
    return reply_to(call, later_s=seconds)


def test_what_is_put_off_stays_pending_until_the_reply_is_posted_and_is_said_once(bot, fleet, stub):
    stub.behaviour = lambda call: later(call, 30)
    event = bot.event("!stub")
    assert bot.submit(event).statuses == ["pending"]
    call = stub.calls[0]

    reply = reply_to(call, chat("at last"))
    assert not post(fleet, reply).json()["duplicate"]
    assert post(fleet, reply).json()["duplicate"]
    assert post(fleet, reply_to(call, chat("other"))).status == 409
    again = bot.submit(event)
    assert (again.statuses, again.chat) == (["success"], "at last")
    assert len(stub.calls) == 1


def test_what_the_same_person_asks_next_follows_the_late_reply(bot, fleet, stub):
    stub.behaviour = lambda call: later(call, 30)
    bot.say("!stub")
    first = stub.calls[0]
    stub.behaviour = lambda call: reply_to(call, chat("second"))
    assert post(fleet, reply_to(first, chat("first"))).status == 200

    assert bot.say("!stub", by="bob").chat == "second"


def test_what_is_put_off_holds_up_nothing_that_is_asked_next(bot, stub):
    stub.behaviour = lambda call: later(call, 30)
    assert bot.submit(bot.event("!stub")).statuses == ["pending"]
    stub.behaviour = lambda call: reply_to(call, chat("at once"))

    assert bot.submit(bot.event("!stub")).chat == "at once"


def test_a_reply_that_is_posted_before_it_was_put_off_counts(bot, fleet, stub):
    def both(call):
        assert post(fleet, reply_to(call, chat("posted"))).status == 200
        return later(call, 30)

    stub.behaviour = both
    event = bot.event("!stub")
    bot.submit(event)

    eventually(lambda: bot.submit(event).statuses == ["success"])
    assert bot.submit(event).chat == "posted"


def test_a_module_that_puts_off_and_dies_is_asked_again_under_the_same_id(bot, stub):
    stub.behaviour = lambda call: later(call, 0.1) if len(stub.calls) == 1 else reply_to(call, chat("once more"))
    event = bot.event("!stub")
    bot.submit(event)

    eventually(lambda: bot.submit(event).statuses == ["success"])
    assert bot.submit(event).chat == "once more"
    assert len({call["execution_id"] for call in stub.calls}) == 1


def test_a_reply_that_never_comes_is_a_timeout_and_said(bot, fleet, stub):
    stub.behaviour = lambda call: later(call, 0.1)
    event = bot.event("!stub")
    bot.submit(event)

    eventually(lambda: bot.submit(event).statuses == ["timeout"])
    assert "did not answer in time" in bot.submit(event).chat
    assert len(stub.calls) == 2
    assert post(fleet, reply_to(stub.calls[0], chat("too late"))).status == 409


def test_an_effect_that_nobody_knows_the_end_of_is_unknown(bot, stub):
    stub.behaviour = lambda call: reply_to(call, chat("who knows"), success=False, is_unknown=True)

    heard = bot.say("!stub")
    assert (heard.statuses, heard.chat) == (["unknown"], "who knows")
