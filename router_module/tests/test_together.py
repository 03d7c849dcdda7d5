"""Events that come at the same moment share a statement and a commit, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

AT_ONCE = 12
WAITS = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
def refusing(fleet) -> Iterator[None]:
    """A database that refuses to store the word poison, in an event and in a reply."""
    database = fleet.database
    database.statement(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no poison here'; END $$;"
        " CREATE TRIGGER refuse BEFORE INSERT ON router_events FOR EACH ROW"
        "  WHEN (NEW.event->>'message' LIKE '%poison%') EXECUTE FUNCTION refuse();"
        " CREATE TRIGGER refuse BEFORE INSERT ON module_responses FOR EACH ROW"
        "  WHEN (NEW.chat_message = 'poison') EXECUTE FUNCTION refuse()"
    )
    yield
    database.statement("DROP FUNCTION refuse CASCADE")


def say_at_once(bot, fleet, table, texts):
    """The HTTP statuses and answers to messages that all come while nothing can be stored in a table."""
    events = [bot.event(text, by=f"viewer{n}") for n, text in enumerate(texts)]
    with ThreadPoolExecutor(len(events)) as threads:
        with fleet.database.transaction() as db:
            db.executesql(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            asked = [threads.submit(fleet.request, "POST", "/router/events", event) for event in events]
            eventually(lambda: fleet.database.statement(WAITS))
        return [each.result() for each in asked]


@pytest.mark.usefixtures("refusing")
def test_an_event_that_cannot_be_stored_fails_alone(bot, fleet, stub):
    texts = ["!stub"] * AT_ONCE + ["poison"]

    *good, bad = say_at_once(bot, fleet, "router_events", texts)

    assert [each.json()["executions"][0]["status"] for each in good] == ["success"] * AT_ONCE
    assert len({each.json()["responses"][0]["outbox_id"] for each in good}) == AT_ONCE
    assert bad.status == 500


@pytest.mark.usefixtures("refusing")
def test_a_result_that_cannot_be_stored_fails_alone(bot, fleet, stub):
    texts = ["!stub"] * AT_ONCE + ["!stub bad"]
    stub.behaviour = lambda call: reply_to(call, chat("poison" if call["trigger"]["args"] else "fine"))

    *good, bad = say_at_once(bot, fleet, "module_responses", texts)

    sessions = [each.json()["session_id"] for each in good]
    said = "SELECT response_data->>'message' AS text FROM outbox WHERE session_id = ANY(%s::uuid[])"
    eventually(lambda: len(fleet.database.statement(said, (sessions,))) == AT_ONCE)
    assert {row["text"] for row in fleet.database.statement(said, (sessions,))} == {"fine"}
    assert bad.json()["executions"][0]["status"] == "pending"


def test_an_event_that_waits_for_a_lock_holds_up_nobody_else(bot, fleet):
    slow, *others = [bot.event("good evening", by=f"viewer{n}") for n in range(AT_ONCE)]
    bot.submit({**slow, "event_id": f"{slow['event_id']}-before"})
    score = (
        "SELECT 1 FROM user_reputation WHERE user_id = (SELECT user_id FROM platform_identities WHERE {}) FOR UPDATE"
    )
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with fleet.database.transaction() as db:
            db.executesql(score.format("platform = 'console' AND platform_user_id = 'viewer0'"))
            waiting = threads.submit(bot.submit, slow)
            eventually(lambda: fleet.database.statement(WAITS))
            assert all(each.answer["success"] for each in threads.map(bot.submit, others))
            assert not waiting.done()
        assert waiting.result().answer["success"]
