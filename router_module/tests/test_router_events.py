"""Events in, answers out: contracts §2."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from typing import Any

import pytest
from waddlebot.base.contracts import MAX_MESSAGE_CHARS
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


def rows(fleet, sql, *parameters):
    with fleet.database.transaction() as db:
        return fetch(db, sql, parameters)


def test_plain_chat_gets_a_session_and_nothing_else(bot):
    heard = bot.say("good evening everybody")

    assert heard.answer["success"]
    assert heard.answer["executions"] == heard.answer["responses"] == []
    assert heard.session_id
    assert not heard.answer["duplicate"]


@pytest.mark.parametrize("text", ["!", "! help", "!!!", "# heading", "#", "?help", "a !help", "!_x", '!"x"'])
def test_what_only_looks_like_a_command_is_plain_chat(bot, text):
    assert bot.say(text).answer["executions"] == []
    assert bot.say(text).chat == ""


def test_names_ignore_case_and_spaces_around(bot):
    assert bot.say("   !InVENTory   LIST  ").chat == "The inventory is empty."


def test_the_same_event_again_is_answered_the_same_and_done_once(bot, fleet):
    event = bot.event('!inventory add "Red Hat" "A hat"', level="moderator")

    first, second = bot.submit(event), bot.submit(event)

    assert second.answer["duplicate"]
    assert second.session_id == first.session_id
    assert second.answer["executions"] == first.answer["executions"]
    assert second.answer["responses"] == first.answer["responses"]
    assert bot.say("!inventory list").chat == "1 item: Red Hat"


def test_eight_collectors_with_one_event_get_one_outcome(bot, fleet):
    event = bot.event('!inventory add "Red Hat" "A hat"', level="moderator")
    heard = []
    threads = [threading.Thread(target=lambda: heard.append(bot.submit(event))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({each.session_id for each in heard}) == 1
    assert sum(not each.answer["duplicate"] for each in heard) == 1
    assert len(rows(fleet, "SELECT 1 FROM outbox WHERE event_id = %s", event["event_id"])) == 1


def test_an_event_for_an_unknown_place_is_refused_by_name(bot, fleet):
    event = {**bot.event("!help"), "server_id": "nowhere"}

    refused = fleet.request("POST", "/router/events", event)

    assert refused.status == 404
    assert refused.json()["error"]["code"] == "unknown_entity"
    assert "console:nowhere:general" in refused.json()["error"]["message"]


def test_a_collector_only_speaks_for_its_platform(bot, fleet):
    event = {**bot.event("!help"), "platform": "discord"}

    refused = fleet.request("POST", "/router/events", event)

    assert refused.status == 403
    assert "discord" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"event_id": "a\u0000b"}, "event_id"),
        ({"event_id": "a\ud800b"}, "event_id"),
        ({"event_id": None}, "event_id"),
        ({"event_id": "x" * 256}, "event_id"),
        ({"message_type": "shout"}, "message_type"),
        ({"platform": "Not A Platform"}, "platform"),
        ({"channel_id": "a:b"}, "channel_id"),
        ({"channel_id": "a\u0000"}, "channel_id"),
        ({"user": {}}, "user.platform_user_id"),
        ({"user": "alice"}, "user"),
        ({"message": 7}, "message"),
        ({"message": ["x"]}, "message"),
        ({"data": "x"}, "data"),
        ({"mode": "dry"}, "mode"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
    ],
)
def test_a_wrong_field_is_named(bot, fleet, change, field):
    refused = fleet.request("POST", "/router/events", {**bot.event("!help"), **change})

    assert refused.status == 422
    assert refused.json()["error"]["message"].startswith(field)
    assert "Value error" not in refused.json()["error"]["message"]


def test_unknown_fields_are_ignored_for_rolling_upgrades(bot):
    assert bot.submit({**bot.event("hello"), "brand_new": {"x": 1}}).answer["success"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b"", 400, "bad_request"),
        (b"\xff\xfe", 400, "bad_request"),
        (b"[" * 100_000, 400, "bad_request"),
        (b'{"a": NaN}', 400, "bad_request"),
        (b'{"a": ' + b"9" * 5000 + b"}", 400, "bad_request"),
        (b"[]", 422, "invalid"),
        (b'"x"', 422, "invalid"),
        (b"null", 422, "invalid"),
    ],
)
def test_what_is_not_an_event_is_refused_in_json(fleet, body, status, code):
    refused = fleet.request("POST", "/router/events", body)

    assert refused.status == status
    assert refused.headers["content-type"] == "application/json"
    assert refused.json()["error"]["code"] == code
    assert not refused.json()["success"]


def test_another_content_type_is_refused(bot, fleet):
    refused = fleet.request("POST", "/router/events", b"event_id=1", headers={"Content-Type": "text/plain"})

    assert refused.status == 415


def test_a_body_that_is_encoded_is_415_and_not_taken_for_bad_json(fleet):
    body = gzip.compress(b"{}")
    refused = fleet.request("POST", "/router/events", body, headers={"Content-Encoding": "gzip"})
    assert (refused.status, "Content-Encoding" in refused.json()["error"]["message"]) == (415, True)
    plain = fleet.request("POST", "/router/events", b"{}", headers={"Content-Encoding": "identity"})
    assert plain.status == 422


def test_a_message_of_a_megabyte_is_too_large_and_the_longest_is_not(bot, fleet):
    refused = fleet.request("POST", "/router/events", bot.event("x" * 1_000_000))

    assert refused.status == 413
    assert str(MAX_MESSAGE_CHARS) in refused.json()["error"]["message"]
    assert bot.say("x" * MAX_MESSAGE_CHARS).answer["success"]


def test_nul_and_lone_surrogates_in_chat_become_replacement_characters(bot):
    bot.say('!inventory add "a\u0000b\ud800c" "x"', level="moderator")

    assert bot.say("!inventory list").chat == "1 item: a\ufffdb\ufffdc"


@pytest.mark.parametrize("key", [None, "", "wbot_x", "wbot_aaaaaaaa_" + "b" * 50, "é"])
def test_no_key_or_a_wrong_one_is_401(bot, fleet, key):
    headers = {} if key is None else {"X-API-Key": key}

    refused = fleet.request("POST", "/router/events", bot.event("!help"), key=None, headers=headers)

    assert refused.status == 401
    assert refused.json()["error"]["code"] == "not_authenticated"


def test_a_service_may_not_submit_events(bot, fleet):
    assert fleet.request("POST", "/router/events", bot.event("!help"), key="inventory").status == 403


def test_unknown_routes_and_methods_speak_json(fleet):
    missing, wrong = fleet.request("GET", "/router/nothing"), fleet.request("GET", "/router/events")

    assert (missing.status, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def test_a_batch_answers_each_event_in_order(bot, fleet):
    good, plain = bot.event("!inventory list"), bot.event("hello")
    bad, foreign = {**bot.event("x"), "message_type": "?"}, {**bot.event("x"), "platform": "slack"}
    large = bot.event("x" * (MAX_MESSAGE_CHARS + 1))

    answers = fleet.request("POST", "/router/events/batch", [good, bad, plain, foreign, large, "x"]).json()

    assert [each["success"] for each in answers] == [True, False, True, False, False, False]
    assert answers[0]["executions"][0]["command"] == "!inventory"
    assert [each["error"]["code"] for each in answers if each["error"]] == [
        "invalid",
        "not_allowed",
        "too_large",
        "invalid",
    ]


def test_one_persons_commands_in_a_batch_run_in_order(bot, fleet):
    texts = ['!inventory add "A" "x"', '!inventory checkout "A" bob', '!inventory checkin "A"', "!inventory list"]
    events = [bot.event(text, level="moderator") for text in texts]

    answers = fleet.request("POST", "/router/events/batch", {"events": events}).json()

    said = [each["responses"][0]["response_data"]["message"] for each in answers]
    assert said == ["Added “A”.", "“A” is now with bob.", "“A” is back from bob.", "1 item: A"]


def test_an_event_twice_in_one_batch_is_done_once(bot, fleet):
    event = bot.event('!inventory add "A" "x"', level="moderator")

    answers = fleet.request("POST", "/router/events/batch", [event, event]).json()

    assert [each["duplicate"] for each in answers] == [False, True]
    assert answers[0]["session_id"] == answers[1]["session_id"]


@pytest.mark.parametrize("batch", [[], {"events": []}, {}, {"events": "x"}, "x", 7])
def test_a_batch_needs_1_to_100_events(fleet, batch):
    refused = fleet.request("POST", "/router/events/batch", batch)

    assert (refused.status, refused.json()["error"]["code"]) == (422, "batch_size")


def test_a_batch_of_101_is_refused_and_one_of_100_taken(bot, fleet):
    events = [bot.event(f"line {n}") for n in range(101)]

    assert fleet.request("POST", "/router/events/batch", events).status == 422
    assert len(fleet.request("POST", "/router/events/batch", events[:100]).json()) == 100


def test_a_simulated_command_answers_and_leaves_nothing(bot, fleet):
    heard = bot.say('!inventory add "Ghost" "boo"', level="moderator", mode="simulate")

    assert heard.chat == "Added “Ghost”."
    assert heard.statuses == ["success"]
    assert heard.answer["responses"][0]["outbox_id"] is None
    assert bot.say("!inventory list").chat == "The inventory is empty."
    assert not rows(fleet, "SELECT 1 FROM command_executions WHERE session_id = %s", heard.session_id)
    trace = fleet.request("GET", f"/router/explain/{heard.session_id}").json()
    assert trace["simulated"]


def test_only_admins_and_the_console_may_simulate(bot, fleet):
    collector = fleet.make_key("outside console " + new_id(), "collectors", platforms=["console"])
    event = {**bot.event("!help"), "mode": "simulate"}

    assert fleet.request("POST", "/router/events", event, key=collector).status == 403
    assert fleet.request("POST", "/router/events", event).status == 200


def test_a_slow_command_is_pending_and_its_answer_comes_through_the_outbox(bot, fleet, stub):
    may_answer = threading.Event()

    def slow(call):
        may_answer.wait(10)
        return reply_to(call, chat("at last"))

    stub.behaviour = slow
    event = bot.event("!stub")
    heard = bot.submit(event)
    assert heard.statuses == ["pending"]
    assert heard.answer["responses"] == []

    may_answer.set()
    eventually(lambda: bot.submit(event).statuses == ["success"])
    assert bot.submit(event).chat == "at last"
    query = {"entity_id": f"console:{bot.slug}:general"}
    waiting = fleet.request("GET", "/router/outbox", query=query).json()["replies"]
    assert [each["response_data"]["message"] for each in waiting] == ["at last"]
    assert len(stub.calls) == 1


def test_a_hanging_module_does_not_delay_others(bot, stub):
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(10) and reply_to(call, chat("late"))

    assert bot.submit(bot.event("!stub")).statuses == ["pending"]
    assert bot.say("!inventory list").statuses == ["success"]
    may_answer.set()


def test_what_a_person_asks_of_a_module_that_is_late_is_asked_in_order(bot, fleet, stub):
    stub.register(fleet, timeout=30)
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(10) and reply_to(call, chat("at last"))

    def asked() -> list[str]:
        return [each["trigger"]["args"][0] for each in stub.calls]

    late = [bot.event(f"!stub {n}", by="alice") for n in (1, 2, 3)]
    took_s = []
    for each in late:
        began = time.monotonic()
        assert bot.submit(each).statuses == ["pending"]
        took_s.append(time.monotonic() - began)
    # Nobody waits for what cannot be answered in time.
    assert took_s[0] >= 1 > max(took_s[1:])
    assert bot.submit(bot.event("!stub 4", by="bob")).statuses == ["pending"]
    assert asked() == ["1", "4"]
    may_answer.set()

    eventually(lambda: all(bot.submit(each).statuses == ["success"] for each in late))
    assert asked() == ["1", "4", "2", "3"]


@pytest.fixture
def slow_hat(fleet):
    """It takes longer than an answer is waited for to add a hat."""
    fleet.database.statement(
        "CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS"
        "  $$ BEGIN PERFORM pg_sleep(2); RETURN NEW; END $$;"
        " CREATE TRIGGER take_time BEFORE INSERT ON inventory_items FOR EACH ROW"
        "  WHEN (NEW.item_name = 'Hat') EXECUTE FUNCTION take_time()"
    )
    yield
    fleet.database.statement("DROP FUNCTION take_time CASCADE")


@pytest.mark.usefixtures("slow_hat")
def test_what_a_person_looks_up_shows_what_they_changed_before_however_late_that_is(bot):
    assert bot.submit(bot.event('!inventory add Hat "A hat"', level="moderator")).statuses == ["pending"]
    # Nobody else waits for it, and neither does what they ask of others.
    assert bot.submit(bot.event("!inventory list", by="bob")).chat == "The inventory is empty."
    assert bot.submit(bot.event("!help", level="moderator")).statuses == ["success"]
    looked_up = bot.event("!inventory list", level="moderator")
    eventually(lambda: bot.submit(looked_up).chat)

    assert bot.submit(looked_up).chat == "1 item: Hat"


def test_a_module_with_too_much_to_do_turns_away_what_is_more(bot, fleet, stub):
    # So long that none of them is given up, and makes room, before all have been handed over.
    stub.register(fleet, timeout=30)
    may_answer = threading.Event()

    def slow(call):
        may_answer.wait(60)
        return reply_to(call, chat("at last"))

    stub.behaviour = slow
    batches = [[bot.event("!stub", by=f"p{n}{m}") for m in range(100)] for n in range(4)]

    def executions() -> list[dict[str, Any]]:
        answers = [fleet.request("POST", "/router/events/batch", batch).json() for batch in batches]
        return [each["executions"][0] for batch in answers for each in batch]

    executions()
    elsewhere = bot.say("!inventory list")
    # Twenty are at it, and ten times as many may wait. On a busy machine the others are told so after the answer.
    eventually(lambda: Counter(each["status"] for each in executions()) == {"pending": 220, "failed": 180}, within_s=20)
    assert {each["error"]["code"] for each in executions() if each["status"] == "failed"} == {"busy"}
    may_answer.set()

    assert elsewhere.statuses == ["success"]
    eventually(lambda: len(stub.calls) == 220, within_s=20)


def test_a_command_that_was_taken_away_meanwhile_is_finished_where_it_was_begun(bot, fleet, stub):
    stub.register(fleet, {"command": "stub", "type": "webhook", "location_url": stub.url, "timeout": 30})
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(60) and reply_to(call, chat("at last"))
    event = bot.event("!stub")
    begun = bot.submit(event)
    (execution,) = begun.answer["executions"]

    def shown() -> list[Any]:
        return [each for each in stub.headers if each.get("Idempotency-Key") == execution["execution_id"]]

    eventually(lambda: len(shown()) == 1, within_s=25)
    stub.register(fleet, {"command": "other"})

    fleet.database.statement(
        "UPDATE router_work SET holder = 'dead', lease_until = now() - interval '1 minute' WHERE session_id = %s",
        (begun.session_id,),
    )
    assert bot.submit(event).answer["executions"][0]["execution_id"] == execution["execution_id"]
    eventually(lambda: len(shown()) == 2, within_s=25)
    may_answer.set()

    eventually(lambda: bot.submit(event).statuses == ["success"], within_s=25)
    # A webhook is never shown the router's own key.
    assert not [headers for headers in shown() if "X-API-Key" in headers]


@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        ((200, b"<html>oops</html>"), "failed", "JSON"),
        ((500, b"{}"), "failed", "500"),
        ((404, b"{}"), "failed", "404"),
        ((200, b"x" * 5_000_000), "failed", "larger"),
        ((200, b'{"success": true}'), "failed", "session_id"),
    ],
)
def test_a_module_that_answers_nonsense_fails_and_the_user_is_told(bot, fleet, stub, answer, status, word):
    stub.behaviour = lambda call: answer

    heard = bot.say("!stub")

    assert heard.statuses == [status]
    assert word in heard.answer["executions"][0]["error"]["message"]
    assert "went wrong with !stub" in heard.chat


def test_what_the_database_cannot_hold_is_replaced_in_a_modules_reply(bot, stub):
    stub.behaviour = lambda call: reply_to(call, chat("a\u0000b\ud800c"))

    heard = bot.say("!stub")

    assert heard.statuses == ["success"]
    assert heard.chat == "a\ufffdb\ufffdc"


def test_a_reply_with_an_endless_time_fails_and_ends(bot, stub):
    def endless(call):
        reply = json.dumps(reply_to(call, processing_time_ms=12345))
        return 200, reply.replace('"processing_time_ms": 12345', '"processing_time_ms": 1e400').encode()

    stub.behaviour = endless

    heard = bot.say("!stub")
    assert heard.statuses == ["failed"]
    assert "processing_time_ms" in heard.answer["executions"][0]["error"]["message"]


@pytest.mark.parametrize("forged", [{"session_id": new_id()}, {"execution_id": new_id()}, {"module_name": "inventory"}])
def test_a_reply_that_is_not_to_this_call_is_refused(bot, stub, forged):
    stub.behaviour = lambda call: reply_to(call, chat("hi"), **forged)

    heard = bot.say("!stub")

    assert heard.statuses == ["failed"]
    assert heard.answer["executions"][0]["error"]["code"] == "bad_reply"
    assert "hi" not in heard.chat.splitlines()


def test_a_module_that_does_not_answer_in_time_times_out(bot, fleet, stub):
    never = threading.Event()
    stub.behaviour = lambda call: never.wait(6) or (500, b"")
    event = bot.event("!stub")
    bot.submit(event)

    eventually(lambda: bot.submit(event).statuses == ["timeout"])
    assert "did not answer in time" in bot.submit(event).chat
    never.set()


def test_a_module_that_is_down_for_a_moment_is_called_again(bot, stub):
    answers = iter([(503, b"{}"), (502, b"{}")])
    stub.behaviour = lambda call: next(answers, None) or reply_to(call, chat("back"))

    heard = bot.say("!stub")

    assert heard.chat == "back"
    assert len(stub.calls) == 3
    assert len({call["execution_id"] for call in stub.calls}) == 1


def test_the_call_tells_a_module_everything(bot, stub):
    bot.say('!stub one "two three"', by="zoë", level="vip")

    call = stub.calls[0]
    assert call["community"]["id"] == bot.community_id
    assert call["entity"]["entity_id"] == f"console:{bot.slug}:general"
    assert (call["user"]["platform_user_id"], call["user"]["level"]) == ("zoë", "vip")
    assert call["trigger"]["args"] == ["one", "two three"]
    assert call["trigger"]["raw"] == '!stub one "two three"'
    assert call["timeout_ms"] == 2000
    assert call["traceparent"].startswith("00-")
    assert "X-Api-Key" in stub.headers[0] or "X-API-Key" in stub.headers[0]


def test_overlay_responses_are_summarised_for_the_collector(bot, stub):
    ticker = {"response_action": "ticker", "response_data": {"text": "hello"}}
    stub.behaviour = lambda call: reply_to(call, ticker, chat("and hello"))

    responses = bot.say("!stub").answer["responses"]

    assert [each["response_data"] for each in responses] == [
        {"delivered_to": "ticker"},
        {"message": "and hello", "reply": False, "private": False},
    ]


def test_only_core_modules_may_run_other_commands(bot, stub):
    command = {"response_action": "command", "response_data": {"command": "help"}}
    stub.behaviour = lambda call: reply_to(call, command)

    heard = bot.say("!stub")

    assert heard.statuses == ["success", "denied"]


def test_what_a_viewer_says_cannot_become_another_bots_command(bot, stub):
    stub.behaviour = lambda call: reply_to(call, chat(call["trigger"]["args"][0]))

    message = bot.say('!stub "/ban everybody"').answer["responses"][0]["response_data"]["message"]

    assert message.endswith("/ban everybody")
    assert not message.startswith("/")


@pytest.fixture
def poison(fleet):
    """An id that cannot be put on record until `poison.heal()`."""
    with fleet.database.transaction() as db:
        fetch(db, "ALTER TABLE router_events ADD CONSTRAINT poison CHECK (event_id NOT LIKE 'poison%%') NOT VALID")
    yield f"poison-{new_id()}"
    _heal(fleet)


def _heal(fleet):
    with fleet.database.transaction() as db:
        fetch(db, "ALTER TABLE router_events DROP CONSTRAINT IF EXISTS poison")


def test_an_event_that_cannot_be_handled_holds_up_no_other(bot, fleet, poison):
    events = [bot.event("!inventory list", by=f"p{n}") for n in range(3)]
    events[1]["event_id"] = poison
    answers = fleet.request("POST", "/router/events/batch", events).json()
    assert [each["success"] for each in answers] == [True, False, True]
    assert answers[1]["error"]["code"] == "internal_error"


def test_what_could_not_be_put_on_record_cost_nothing(bot, fleet, poison):
    allowed = {"command": "!inventory", "config": {"user_rate_limit": 1}}
    assert fleet.request("PUT", f"/router/communities/{bot.slug}/permissions", allowed).status == 200
    event = {**bot.event("!inventory list"), "event_id": poison}
    assert fleet.request("POST", "/router/events", event).status == 500
    _heal(fleet)
    assert bot.submit(event).statuses == ["success"]
    assert bot.say("!inventory list").statuses == ["rate_limited"]
