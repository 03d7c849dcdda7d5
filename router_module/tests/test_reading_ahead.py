"""Commands that only read are run before their event is on record, and are on record with it."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waddlebot.data.database import Database, fetch
from waddlebot.module.interaction import run_command, say
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

Handler = Callable[..., Any]


@pytest.fixture
def status() -> Iterator[Callable[[Handler], None]]:
    """Has !inventory status, which only reads, do something else; not to be slow any more afterwards."""
    app = importlib.import_module("apps.inventory_interaction_module.app")

    def does(run: Handler) -> None:
        app.module.command("inventory", "status", run=run, only_reads=True)

    yield does
    does(app.chat.status)
    importlib.import_module("apps.router_module.app").ahead._lines.clear()


def batch(fleet, events):
    answered = fleet.request("POST", "/router/events/batch", events)
    assert answered.status == 200, answered.body
    return answered.json()


def statuses(answers):
    return [[each["status"] for each in answer["executions"]] for answer in answers]


def said(answer):
    return [each["response_data"].get("message") for each in answer["responses"]]


def rows(fleet, sql, *parameters):
    with fleet.database.transaction() as db:
        return fetch(db, sql, parameters)


def was_read_ahead(fleet, execution_id: str) -> bool:
    """Whether a module was not asked to keep a reply for an execution that is over."""
    (row,) = rows(fleet, "SELECT status FROM command_executions WHERE execution_id = %s", execution_id)
    kept = rows(fleet, "SELECT 1 FROM module_replies WHERE execution_id = %s", execution_id)
    return row["status"] != "pending" and not kept


def test_what_only_reads_is_on_record_as_ever_and_kept_by_no_module(bot, fleet):
    bot.say('!inventory add "Blue Sword" "A shiny sword"', level="moderator")
    heard = bot.say('!inventory status "Blue Sword"')
    (execution,) = heard.answer["executions"]

    assert heard.statuses == ["success"]
    assert was_read_ahead(fleet, execution["execution_id"])
    (row,) = rows(fleet, "SELECT * FROM command_executions WHERE execution_id = %s", execution["execution_id"])
    assert (row["response_status"], row["completed_at"] is not None) == (200, True)
    assert row["response_data"]["module_ms"] > 0
    (replied,) = rows(fleet, "SELECT * FROM module_responses WHERE execution_id = %s", execution["execution_id"])
    assert (replied["success"], replied["chat_message"]) == (True, heard.chat)
    assert rows(fleet, "SELECT 1 FROM router_work WHERE session_id = %s", heard.session_id) == []


def test_what_the_reader_refuses_is_told_and_is_a_failure(bot, fleet):
    heard = bot.say('!inventory status "Nothing"')

    assert heard.statuses == ["failed"]
    assert "Nothing" in heard.chat
    assert was_read_ahead(fleet, heard.answer["executions"][0]["execution_id"])


def test_the_same_event_again_gets_the_answer_on_record_and_counts_no_use(bot, fleet):
    bot.say('!alias add !rules "Be kind."', level="moderator")
    event = bot.event("!rules")
    first, second = bot.submit(event), bot.submit(event)

    assert (first.chat, second.chat, second.answer["duplicate"]) == ("Be kind.", "Be kind.", True)
    assert "used once" in bot.say("!alias list").chat


def test_the_same_event_many_times_at_once_is_answered_once(bot, fleet):
    bot.say('!alias add !rules "Be kind."', level="moderator")
    event, heard = bot.event("!rules"), []
    threads = [threading.Thread(target=lambda: heard.append(bot.submit(event))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(each.answer["duplicate"] for each in heard) == [False] + [True] * 7
    assert eventually(lambda: bot.submit(event).statuses == ["success"])
    assert len(rows(fleet, "SELECT 1 FROM outbox WHERE event_id = %s", event["event_id"])) == 1
    assert "used once" in bot.say("!alias list").chat


def test_an_alias_and_what_it_runs_are_read_in_one_go(bot, fleet):
    bot.say('!inventory add "Blue Sword" x', level="moderator")
    bot.say('!alias add !hi "!inventory status {arg1}"', level="moderator")
    heard = bot.say('!hi "Blue Sword"')
    alias, status = heard.answer["executions"]

    assert heard.statuses == ["success", "success"]
    assert heard.chat.startswith("“Blue Sword” is available")
    assert was_read_ahead(fleet, alias["execution_id"])
    assert was_read_ahead(fleet, status["execution_id"])
    (row,) = rows(
        fleet, "SELECT parent_id::text, depth FROM command_executions WHERE execution_id = %s", status["execution_id"]
    )
    assert (row["parent_id"], row["depth"]) == (alias["execution_id"], 1)


def test_an_alias_that_runs_what_writes_ends_with_its_event_and_the_rest_follows(bot, fleet):
    bot.say('!alias add !get "!inventory add {arg1} x"', level="moderator")
    heard = bot.say("!get Shield", level="moderator")
    alias, added = heard.answer["executions"]

    assert heard.statuses == ["success", "success"]
    assert heard.chat == "Added “Shield”."
    assert was_read_ahead(fleet, alias["execution_id"])
    assert not was_read_ahead(fleet, added["execution_id"])
    eventually(lambda: rows(fleet, "SELECT 1 FROM router_work WHERE session_id = %s", heard.session_id) == [])


def test_an_alias_that_runs_what_one_may_not_says_so(bot, fleet):
    bot.say('!alias add !get "!inventory add {arg1} x"', level="moderator")
    heard = bot.say("!get Shield")

    assert heard.statuses == ["success", "denied"]
    assert "moderator" in heard.chat


def test_somebodys_commands_are_in_order_and_see_what_the_ones_before_did(bot, fleet):
    texts = ["!inventory stats", "!inventory add Shield x", "!inventory status Shield", "!inventory stats"]
    events = [bot.event(text, by="mod", level="moderator") for text in texts]
    batch(fleet, events)
    answers = [eventually(lambda e=each: (a := bot.submit(e)).statuses == ["success"] and a) for each in events]

    assert "no items" in answers[0].chat.lower() or "0 items" in answers[0].chat
    assert answers[1].chat == "Added “Shield”."
    assert answers[2].chat.startswith("“Shield” is available")
    assert answers[3].chat.startswith("1 item")


@pytest.mark.parametrize(
    ("bad", "status_then", "word"),
    [
        pytest.param(lambda call, *_: 1 / 0, "failed", "went wrong", id="raises"),
        pytest.param(lambda call, *_: [say(f"line {n}") for n in range(20)], "success", "line 0", id="20-responses"),
        pytest.param(lambda call, *_: [say(f"line {n}") for n in range(21)], "failed", "went wrong", id="21-responses"),
        pytest.param(lambda call, *_: say("x" * 4_000_000), "failed", "went wrong", id="4-mb"),
        pytest.param(lambda call, *_: "nul \x00 and \ud800", "failed", "", id="not-text"),
        pytest.param(lambda call, *_: run_command("!", "inventory", ["status"]), "success", "Usage", id="runs-usage"),
    ],
)
def test_one_bad_reader_in_a_batch_of_a_hundred_harms_only_itself(bot, fleet, status, bad, status_then, word):
    bot.say('!alias add !rules "Be kind."', level="moderator")
    status(lambda call, item_name: bad(call) if item_name == "bad" else f"{item_name} is fine.")
    texts = [
        "!inventory status bad" if n == 50 else ("!rules", "!inventory status good", "hello")[n % 3] for n in range(100)
    ]
    events = [bot.event(text, by=f"p{n}") for n, text in enumerate(texts)]
    batch(fleet, events)

    expected = {"!rules": ["Be kind."], "!inventory status good": ["good is fine."], "hello": []}
    for n, (text, event) in enumerate(zip(texts, events, strict=True)):
        if n != 50:
            heard = eventually(lambda e=event: (a := bot.submit(e)) and "pending" not in a.statuses and a)
            assert said(heard.answer) == expected[text], n
    heard = eventually(lambda: "pending" not in (a := bot.submit(events[50])).statuses and a)
    assert heard.statuses[0] == status_then
    assert word in (heard.chat if heard.answer["responses"] else "")


def test_a_reader_that_hangs_holds_up_neither_the_others_nor_itself(bot, fleet, status):
    go_on, begun = threading.Event(), []

    def hang(call, item_name):
        begun.append(item_name)
        if item_name == "bad" and not go_on.wait(30):
            raise AssertionError("nobody let it go on")
        return f"{item_name} is fine."

    status(hang)
    bot.say('!alias add !rules "Be kind."', level="moderator")
    texts = ["!inventory status good", "!inventory status bad", "!rules", "hello"]
    events = [bot.event(text, by=f"p{n}") for n, text in enumerate(texts)]
    try:
        answers = batch(fleet, events)
        assert statuses(answers) == [["success"], ["pending"], ["success"], []]
    finally:
        go_on.set()
    heard = eventually(lambda: (a := bot.submit(events[1])).statuses == ["success"] and a)
    assert heard.chat == "bad is fine."
    assert len(rows(fleet, "SELECT 1 FROM outbox WHERE event_id = %s", events[1]["event_id"])) == 1


def test_a_module_that_hangs_again_and_again_is_left_to_its_own_threads_for_a_while(bot, fleet, status):
    go_on = threading.Event()
    status(lambda call, item_name: go_on.wait(30) and "At last.")
    try:
        events = [bot.event("!inventory status x", by=f"p{n}") for n in range(3)]
        assert [bot.submit(each).statuses for each in events] == [["pending"]] * 3
    finally:
        go_on.set()
    for each in events:
        eventually(lambda e=each: bot.submit(e).statuses == ["success"])

    heard = bot.say("!inventory status x")
    assert (heard.statuses, heard.chat) == (["success"], "At last.")
    assert not was_read_ahead(fleet, heard.answer["executions"][0]["execution_id"])


def test_what_is_tried_out_is_not_read_ahead(bot, fleet):
    event = {**bot.event("!inventory stats"), "mode": "simulate"}

    assert bot.submit(event).statuses == ["success"]
    assert rows(fleet, "SELECT 1 FROM router_events WHERE event_id = %s", event["event_id"]) == []


@pytest.fixture
def refused_by_postgresql(stack) -> Iterator[Callable[[], None]]:
    """No module's answer may be “poison” on record, until the test says otherwise."""
    owner = Database(stack.postgres.owner_url)
    owner.statement("ALTER TABLE module_responses ADD CONSTRAINT poison CHECK (chat_message <> 'poison') NOT VALID")

    def lift() -> None:
        owner.statement("ALTER TABLE module_responses DROP CONSTRAINT IF EXISTS poison")

    yield lift
    lift()
    owner.close()


def test_an_answer_that_cannot_be_kept_harms_nobody_elses_event(bot, fleet, status, refused_by_postgresql):
    status(lambda call, item_name: item_name)
    events = [bot.event(f"!inventory status {word}", by=f"p{n}") for n, word in enumerate(("good", "poison", "fine"))]
    answers = batch(fleet, events)

    assert statuses(answers) == [["success"], ["pending"], ["success"]]
    assert (said(answers[0]), said(answers[2])) == (["good"], ["fine"])
    # Whoever takes it over finishes it.
    refused_by_postgresql()
    heard = eventually(lambda: (a := bot.submit(events[1])).statuses == ["success"] and a, within_s=20)
    assert heard.chat == "poison"


# Modules that are called over HTTP


@pytest.fixture
def readers(fleet, stub):
    """Module stub with !stub, which it says only reads, and !other, which writes."""
    commands = [{"command": name, "description": "x"} for name in ("stub", "other")]
    stub.register(fleet, *commands, more={"reads": ["stub"]})
    yield stub
    importlib.import_module("apps.router_module.app").ahead._lines.clear()


def is_batch(stub, n: int) -> bool:
    return stub.paths[n].endswith("/batch")


def test_what_only_reads_of_a_module_elsewhere_goes_there_in_one_call(bot, fleet, readers):
    readers.behaviour = lambda calls: [reply_to(each, chat(each["user"]["name"])) for each in calls]
    events = [bot.event("!stub", by=f"p{n}") for n in range(10)]
    answers = batch(fleet, events)

    assert [said(each) for each in answers] == [[f"p{n}"] for n in range(10)]
    assert [len(readers.calls), len(readers.calls[0]), is_batch(readers, 0)] == [1, 10, True]
    assert readers.headers[0]["X-API-Key"]
    (row,) = rows(
        fleet,
        "SELECT status, response_status FROM command_executions WHERE execution_id = %s",
        answers[0]["executions"][0]["execution_id"],
    )
    assert row == {"status": "success", "response_status": 200}


def test_what_writes_of_a_module_elsewhere_is_called_alone_and_after_its_event_is_on_record(bot, fleet, readers):
    pending = []

    def answer(call):
        pending.append(
            rows(fleet, "SELECT status FROM command_executions WHERE execution_id = %s", call["execution_id"])
        )
        return reply_to(call, chat("written"))

    readers.behaviour = answer
    assert bot.say("!other").chat == "written"
    assert [is_batch(readers, 0), pending] == [False, [[{"status": "pending"}]]]


def test_a_module_that_knows_of_no_batches_is_called_one_by_one(bot, fleet, stub):
    events = [bot.event("!stub", by=f"p{n}") for n in range(10)]

    # On a busy machine some are answered late, and the same events tell of it.
    eventually(lambda: [said(each) for each in batch(fleet, events)] == [["hello"]] * 10)
    assert [is_batch(stub, n) for n in range(10)] == [False] * 10


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda calls: [None] * len(calls), id="null"),
        pytest.param(lambda calls: [], id="nothing"),
        pytest.param(lambda calls: {"success": True}, id="no-list"),
        pytest.param(lambda calls: (404, b"{}"), id="404"),
        pytest.param(lambda calls: (500, b"{}"), id="500"),
        pytest.param(lambda calls: (200, b"[nonsense"), id="no-json"),
        pytest.param(lambda calls: (200, b"x" * 5_000_000), id="5-mb"),
        pytest.param(lambda calls: [reply_to(calls[0], chat("wrong"))] * len(calls), id="the-same-for-all"),
        pytest.param(lambda calls: [reply_to(each, later_s=5) for each in calls], id="later"),
        pytest.param(lambda calls: [reply_to(each, *[chat("x")] * 21) for each in calls], id="21-responses"),
        pytest.param(lambda calls: [reply_to(each, chat("x" * 100_000)) for each in calls], id="too-long"),
        pytest.param(lambda calls: [[], 1, "x"], id="no-replies"),
        pytest.param(lambda calls: time.sleep(0.5) or [], id="late"),
        pytest.param(lambda calls: 1 / 0, id="breaks-the-connection"),
    ],
)
def test_what_a_batch_does_not_answer_is_called_by_itself(bot, fleet, readers, answer):
    readers.behaviour = lambda body: answer(body) if isinstance(body, list) else reply_to(body, chat("alone"))
    first, second, third = (bot.event("!stub", by=f"p{n}") for n in range(3))
    batch(fleet, [first, second, third])

    for event in (second, third):
        heard = eventually(lambda e=event: (a := bot.submit(e)).statuses == ["success"] and a)
        assert heard.chat == "alone"
        assert len(rows(fleet, "SELECT 1 FROM outbox WHERE event_id = %s", event["event_id"])) == 1


def test_a_module_that_never_answers_batches_is_left_out_of_them(bot, fleet, readers):
    readers.behaviour = lambda body: (404, b"{}") if isinstance(body, list) else reply_to(body, chat("alone"))

    assert [bot.say("!stub", by=f"p{n}").chat for n in range(5)] == ["alone"] * 5
    assert [is_batch(readers, n) for n in range(len(readers.paths))] == [True, False] * 3 + [False] * 2


def test_those_who_ask_at_the_same_time_are_answered_together(bot, fleet, readers):
    """Single events that come while a module is at work go there in one call."""

    def answer(body):
        if not isinstance(body, list):
            return reply_to(body, chat("alone"))
        time.sleep(0.1)
        return [reply_to(each, chat("together")) for each in body]

    readers.behaviour = answer
    heard = []
    threads = [threading.Thread(target=lambda n=n: heard.append(bot.say("!stub", by=f"p{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [each.statuses for each in heard] == [["success"]] * 8
    calls = [body for body in readers.calls if isinstance(body, list)]
    assert len(calls) < sum(len(body) for body in calls) == 8
