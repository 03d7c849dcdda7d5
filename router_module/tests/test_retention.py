"""What is forgotten, what stays, and that a large table is worked off in pieces: contracts §12."""

from __future__ import annotations

import importlib
import json

import pytest
from waddlebot.base.ids import new_id
from waddlebot.data.retention import BATCH, delete_old


@pytest.fixture
def retention(fleet, simulated):
    # As py4web loaded it: importing it by another name would start the service again.
    module = importlib.import_module("apps.router_module.services.records.retention_service")
    return module.RetentionService(simulated.database)


@pytest.fixture
def say(simulated):
    """Put chat on record, with a command's execution and reply if it was one."""

    def put(text, *, is_command=False, count=1):
        database = simulated.database
        for _ in range(count):
            session = new_id()
            event = {"message": text, "platform": "console", "data": {"color": "red"}}
            database.statement(
                "INSERT INTO router_events (platform, event_id, session_id, entity_id, community_id, user_id,"
                " message_type, event, received_at)"
                " VALUES ('console', %s, %s, 'console:demo:general', 1, 1, 'chatMessage', %s, now())",
                (session, session, json.dumps(event)),
            )
            if is_command:
                database.statement(
                    "INSERT INTO command_executions (execution_id, session_id, platform, module_name, command,"
                    " entity_id, community_id, user_id, message_content, status, created_at)"
                    " VALUES (%s, %s, 'console', 'stub', 'stub', 'console:demo:general', 1, 1, %s, 'success', now())",
                    (session, session, text),
                )
                database.statement(
                    "INSERT INTO module_responses (execution_id, module_name, success, created_at)"
                    " VALUES (%s, 'stub', true, now())",
                    (session,),
                )
                database.statement(
                    "INSERT INTO outbox (platform, event_id, execution_id, ordinal, session_id, entity_id,"
                    " community_id, module_name, response_action, response_data, state, created_at, expires_at)"
                    " VALUES ('console', %s, %s, 0, %s, 'console:demo:general', 1, 'stub', 'chat', '{}', 'sent',"
                    " now(), now())",
                    (session, session, session),
                )

    return put


def texts(simulated):
    rows = simulated.database.statement("SELECT event->>'message' AS text FROM router_events ORDER BY session_id")
    return [row["text"] for row in rows]


def count(simulated, table):
    return simulated.database.statement(f"SELECT count(*) AS n FROM {table}")[0]["n"]


def run(step):
    """Work off what there is; how many batches that were."""
    batches = 1
    while step():
        batches += 1
    return batches


def test_plain_chat_is_forgotten_after_a_week_but_not_that_there_was_some(simulated, retention, say):
    say("hello")
    say("!stub hello", is_command=True)
    simulated.advance(days=3)
    say("later")
    simulated.advance(days=4, seconds=1)

    retention.forget_plain_chat()

    assert texts(simulated) == [None, "!stub hello", "later"]
    left = simulated.database.statement("SELECT event FROM router_events ORDER BY session_id LIMIT 1")[0]["event"]
    assert left == {"platform": "console", "data": {"color": "red"}}


def test_forgetting_goes_on_where_it_was(simulated, retention, say):
    say("first")
    simulated.advance(days=8)
    retention.forget_plain_chat()
    say("second")
    simulated.advance(days=6)
    retention.forget_plain_chat()
    assert texts(simulated) == [None, "second"]
    simulated.advance(days=2)

    retention.forget_plain_chat()

    assert texts(simulated) == [None, None]


def test_an_older_event_stored_after_a_younger_one_is_not_passed_over(simulated, retention, say):
    simulated.advance(seconds=10)
    say("younger")
    simulated.advance(seconds=-10)
    say("older")
    simulated.advance(days=7, seconds=5)
    retention.forget_plain_chat()
    assert texts(simulated) == ["younger", "older"]

    simulated.advance(seconds=10)
    retention.forget_plain_chat()

    assert texts(simulated) == [None, None]


def test_much_is_forgotten_in_pieces(simulated, retention, say):
    say("x", count=BATCH + 1)
    simulated.advance(days=8)

    assert run(retention.forget_plain_chat) == 2
    assert set(texts(simulated)) == {None}


def test_records_are_deleted_after_three_months(simulated, retention, say):
    say("!stub old", is_command=True)
    simulated.advance(days=89)
    say("!stub young", is_command=True)
    simulated.advance(days=2)

    retention.delete_old_records()

    assert texts(simulated) == ["!stub young"]
    for table in ("command_executions", "module_responses", "outbox"):
        assert count(simulated, table) == 1, table


def test_many_records_are_deleted_in_pieces(simulated, retention, say):
    say("x", count=BATCH + 1)
    simulated.advance(days=91)
    say("y")

    assert run(retention.delete_old_records) == 2
    assert texts(simulated) == ["y"]


def test_a_platforms_deliveries_are_deleted_after_three_months(simulated):
    insert = (
        "INSERT INTO twitch_events (delivery_id, event_id, type, broadcaster_id, event_data, state, received_at)"
        " VALUES (%s, 'e', 't', 'b', '{}', 'forwarded', now())"
    )
    simulated.database.statement(insert, ("old",))
    simulated.advance(days=90, seconds=1)
    simulated.database.statement(insert, ("young",))

    assert not delete_old(simulated.database, "twitch_events", "received_at")

    assert simulated.database.statement("SELECT delivery_id FROM twitch_events") == [{"delivery_id": "young"}]


def test_why_says_that_what_was_said_is_no_longer_kept(bot, fleet):
    session = bot.say("good evening").session_id
    fleet.database.statement(
        "UPDATE router_events SET event = (event::jsonb - 'message')::json WHERE session_id = %s", (session,)
    )

    assert bot.say("!why").chat == "You said something here, but so long ago that its text is no longer kept."
