"""What all collectors share: intake, the order and pace of replies, and which channels can be heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import Mock

import pytest
from waddlebot.base.bridge import shared_bridge
from waddlebot.base.combine import Combiner
from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.metrics import Metrics
from waddlebot.collecting.event_store import Delivery, EventStore, EventTable, Holding, Result
from waddlebot.collecting.forwarder import MAX_BATCHES, Forwarder
from waddlebot.collecting.liveness import Liveness
from waddlebot.collecting.pace import Pace, Pacer
from waddlebot.collecting.sender import Outcome, Sender
from waddlebot.data.database import Database, DatabaseUnavailable, fetch
from waddlebot.data.outbox import Outgoing, Priority, Waiting
from waddlebot.data.ratelimit import RateLimiter
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually
from waddlebot.web.lists import Page

numbers = count(1)
AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


# Combining


def test_who_comes_while_a_batch_is_under_way_is_in_the_next_one():
    batches: list[list[int]] = []
    first_began, go_on = threading.Event(), threading.Event()

    def double(items):
        batches.append(list(items))
        first_began.set()
        assert go_on.wait(10)
        return [2 * each for each in items]

    combined = Combiner(double, max_batch=3)
    with ThreadPoolExecutor(8) as callers:
        first = callers.submit(combined, 0)
        assert first_began.wait(10)
        rest = [callers.submit(combined, n) for n in range(1, 8)]
        eventually(lambda: len(combined._waiting) == 7)
        go_on.set()
        assert [each.result(10) for each in [first, *rest]] == [2 * n for n in range(8)]
    assert [len(batch) for batch in batches] == [1, 3, 3, 1]
    assert combined(21) == 42


def test_what_fails_fails_for_its_own_batch_only():
    def run(items):
        if "bad" in items:
            raise UpstreamError("no")
        return items

    combined = Combiner(run)
    with pytest.raises(UpstreamError):
        combined("bad")
    assert combined("good") == "good"


def test_nobody_is_forgotten_when_patience_ends_in_a_crowd():
    def echo(items):
        assert len(items) <= 5
        time.sleep(0.002)
        return items

    combined = Combiner(echo, max_batch=5, patience_s=0.001)
    with ThreadPoolExecutor(40) as callers:
        assert list(callers.map(combined, range(400), timeout=30)) == list(range(400))


# Intake


@pytest.fixture
def store(fleet) -> EventStore:
    """A platform's event table, all its own."""
    name = f"probe{next(numbers)}"
    with fleet.database.transaction() as db:
        fetch(db, f"CREATE TABLE {name}_events (LIKE twitch_events INCLUDING ALL)")
        fetch(db, f"CREATE TABLE {name}_activities (LIKE twitch_activities INCLUDING ALL)")
    return EventStore(fleet.database, EventTable(f"{name}_events", "broadcaster_id", "chatter_id"), holder="me")


def delivery(id_: str, event: str, **options) -> Delivery:
    return Delivery(id_, event, "chat", "c", "p", {"text": "hi"}, **options)


def test_copies_in_one_batch_are_one_event(store):
    batch = [delivery("d1", "e1"), delivery("d1", "e1"), delivery("d2", "e1"), delivery("d3", "e3", ignored="a bot")]
    assert store.store(batch)[0] == ["stored", "repeated", "ignored", "ignored"]
    assert store.store(batch)[0] == ["repeated"] * 4
    assert store.store([delivery("d4", "e1")])[0] == ["ignored"]
    assert [row.event_id for row in store.claim()] == ["e1"]


def test_what_the_database_cannot_hold_is_replaced_and_keeps_nobody_waiting(store):
    strange = Delivery("d1", "e1", "chat", "c", "p", {"text": "a\x00b\ud800c", "more": ["\x00", 1]})
    assert store.store([delivery("d0", "e0"), strange, delivery("d2", "e2")])[0] == ["stored"] * 3
    assert [row.data for row in store.claim()][1] == {"text": "a\ufffdb\ufffdc", "more": ["\ufffd", 1]}


def test_what_need_not_wait_for_anything_is_claimed_as_it_is_stored(store):
    def of(person: str, number: int) -> Delivery:
        return Delivery(f"d{number}", f"e{number}", "chat", "c", person, {"n": number}, occurred_at=AT)

    first = [of("ann", 0), of("ann", 1), of("bob", 2), delivery("d3", "e3", ignored="a bot")]
    outcomes, claimed = store.store(first, goes_on=True)
    assert outcomes == ["stored"] * 3 + ["ignored"]
    ann = claimed[:2]
    assert [(row.event_id, row.data, row.occurred_at) for row in claimed] == [(f"e{n}", {"n": n}, AT) for n in range(3)]
    # Ann has something under way, and Cy's line cannot be kept as it came.
    strange = Delivery("d6", "e6", "chat", "c", "cy", {"text": "\x00"})
    outcomes, claimed = store.store([*first, of("ann", 4), of("dot", 5)], goes_on=True)
    assert outcomes == ["repeated"] * 4 + ["stored"] * 2
    assert [row.event_id for row in claimed] == ["e5"]
    assert store.store([strange], goes_on=True) == (["stored"], [])
    assert [row.event_id for row in store.claim()] == ["e6"]
    store.finish([Result(row.id, "forwarded") for row in ann])
    assert [row.event_id for row in store.claim()] == ["e4"]


@pytest.fixture
def forwarder(store) -> Forwarder:
    """One whose batches never come to an end."""
    return Forwarder(
        store,
        router=Mock(),
        ask=Mock(),
        ring=Mock(),
        translate=Mock(),
        pools=Mock(),
        moderates=False,
        log=AAALog("tests", "1"),
        metrics=Metrics("tests"),
    )


def lines(*numbers: int) -> list[Delivery]:
    return [Delivery(f"d{n}", f"e{n}", "chat", "c", f"p{n}", {"n": n}) for n in numbers]


def test_the_database_is_the_queue_where_there_is_no_room(store, forwarder):
    for n in range(2 * MAX_BATCHES):
        forwarder.take(lines(n))
        forwarder.step()
    assert [row.data["n"] for row in store.claim()] == list(range(MAX_BATCHES, 2 * MAX_BATCHES))
    assert forwarder._ring.call_count == MAX_BATCHES


def test_what_a_process_leaves_in_memory_is_anybodys(store, forwarder):
    forwarder.take(lines(1, 2))
    forwarder.take(lines(3))
    assert store.claim() == []
    forwarder.finish()
    forwarder.take(lines(4))
    left: list[int] = []
    eventually(lambda: left.extend(row.data["n"] for row in store.claim()) or sorted(left) == [1, 2, 3, 4])
    forwarder._pools.submit.assert_not_called()


def test_a_former_holder_of_a_socket_feeds_nothing(store, fleet):
    entity = f"discord:shard:{new_id()}"
    insert = "INSERT INTO coordination (platform, entity_id, claimed_by, epoch) VALUES ('discord', %s, %s, %s)"
    with fleet.database.transaction() as db:
        fetch(db, insert, (entity, "new holder", 8))
    former, now = Holding(entity, 7), Holding(entity, 8)
    assert store.store([delivery("d1", "e1", holding=former)])[0] == ["ignored"]
    assert store.store([delivery("d2", "e1", holding=now)])[0] == ["stored"]
    with fleet.database.transaction() as db:
        fetch(db, "UPDATE coordination SET claimed_by = NULL WHERE entity_id = %s", (entity,))
    assert store.store([delivery("d3", "e3", holding=now)])[0] == ["ignored"]


# What is said first


class Mouth:
    """A sender of a platform of its own, the replies that wait for it, and what it said."""

    def __init__(self, database: Database, client, *, limit: int, platform: str = "", **options) -> None:
        self.platform = platform or f"mouth{next(numbers)}"
        self.said: list[str] = []
        self.outcomes: list[Outcome] = []
        self._db = database
        log, metrics = AAALog(self.platform, "1"), Metrics(f"{self.platform}_{next(numbers)}")
        self.metrics = metrics
        pace = Pace(key=lambda _: "account", limit=lambda _: limit, per_s=1.0)
        limiter = RateLimiter(client, log, metrics, window_s=1.0)
        self.sender = Sender(
            database,
            shared_bridge(),
            self._send,
            pacer=Pacer(pace, limiter, platform=self.platform),
            said=lambda *_: None,
            platform=self.platform,
            holder=f"mouth {next(numbers)}",
            log=log,
            metrics=metrics,
            **options,
        )

    def wants(self, priority: Priority, times: int) -> list[Waiting]:
        """Put replies into the outbox, each for a channel of its own."""
        with self._db.transaction() as db:
            rows = fetch(
                db,
                "INSERT INTO outbox (platform, event_id, ordinal, session_id, entity_id, community_id, module_name,"
                " response_action, response_data, expires_at, available_at)"
                " SELECT %(platform)s, %(event)s, n, %(session)s, %(platform)s || '::' || %(event)s || n, id, 'probe',"
                " 'chat', %(data)s, now() + interval '5 minutes', now() + interval '1 minute'"
                " FROM communities, generate_series(1, %(times)s) AS n WHERE is_global RETURNING id, entity_id",
                {
                    "platform": self.platform,
                    "event": new_id(),
                    "session": new_id(),
                    "data": f'{{"message": "{priority.name}"}}',
                    "times": times,
                },
            )
        return [Waiting(row["id"], row["entity_id"], priority) for row in rows]

    def run_until(self, done: Callable[[], bool]) -> None:
        def step_and_see() -> bool:
            self.sender.step()
            return done()

        eventually(step_and_see)

    def states(self) -> list[str]:
        rows = self._db.statement("SELECT state FROM outbox WHERE platform = %s ORDER BY id", (self.platform,))
        return [row["state"] for row in rows]

    async def _send(self, reply: Outgoing) -> Outcome:
        self.said.append(reply.response_data["message"])
        return self.outcomes.pop(0) if self.outcomes else Outcome(OutboxState.SENT)


@pytest.fixture
def redis_client(fleet):
    return SERVICES[0].bus.client


def test_what_matters_most_is_said_first_and_chatter_leaves_room(fleet, redis_client):
    mouth = Mouth(fleet.database, redis_client, limit=4)
    chatter, events, replies = (mouth.wants(each, 3) for each in (Priority.CHATTER, Priority.EVENT, Priority.REPLY))
    mouth.sender.ask([*chatter, *events, *replies])
    mouth.run_until(lambda: len(mouth.said) == 9)
    assert mouth.said[:3] == ["REPLY"] * 3
    assert mouth.said.index("EVENT") < mouth.said.index("CHATTER")
    mouth.run_until(lambda: mouth.states() == ["sent"] * 9)


def test_two_replicas_keep_one_accounts_limit(fleet, redis_client):
    one = Mouth(fleet.database, redis_client, limit=5)
    two = Mouth(fleet.database, redis_client, limit=5, platform=one.platform)
    began = time.monotonic()
    one.sender.ask(one.wants(Priority.REPLY, 8))
    two.sender.ask(two.wants(Priority.REPLY, 8))
    one.run_until(lambda: two.sender.step() or len(one.said) + len(two.said) == 16)
    # 16 messages at 5 a second: the last of them cannot be said in the first three seconds.
    assert time.monotonic() - began >= 3.0


def test_chatter_that_had_no_room_in_time_is_dropped_and_counted(fleet, redis_client):
    mouth = Mouth(fleet.database, redis_client, limit=2, chatter_useful_for=timedelta(seconds=0.5))
    mouth.sender.ask(mouth.wants(Priority.CHATTER, 4))
    mouth.run_until(lambda: "pending" not in mouth.states() and "sending" not in mouth.states())
    assert mouth.states().count("dropped") >= 2
    counted = mouth.metrics.as_json()[f"waddlebot_{mouth.metrics.module}_replies_total"]
    assert {each["value"] for each in counted if each["reason"] == "pace"} == {float(mouth.states().count("dropped"))}


def test_each_of_many_replies_ends_by_itself(fleet, redis_client):
    mouth = Mouth(fleet.database, redis_client, limit=100)
    mouth.outcomes = [
        Outcome(OutboxState.DROPPED, "their words: \x00 \ud800"),
        Outcome(OutboxState.PENDING, "later", timedelta(minutes=1)),
        Outcome(OutboxState.UNKNOWN, "x" * 2000),
    ]
    mouth.sender.ask(mouth.wants(Priority.REPLY, 4))
    mouth.run_until(lambda: len(mouth.said) == 4 and "sending" not in mouth.states())
    assert sorted(mouth.states()) == ["dropped", "pending", "sent", "unknown"]
    rows = fleet.database.statement(
        "SELECT state, detail, finished_at IS NOT NULL AS ended, available_at > now() + interval '50 seconds' AS later"
        " FROM outbox WHERE platform = %s AND state <> 'sent' ORDER BY state",
        (mouth.platform,),
    )
    assert [tuple(row.values()) for row in rows] == [
        ("dropped", "their words: \ufffd \ufffd", True, True),
        ("pending", "later", False, True),
        ("unknown", "x" * 500, True, True),
    ]


def test_a_reply_is_said_once_although_nobody_heard_that_it_was_taken(fleet, redis_client):
    mouth = Mouth(fleet.database, redis_client, limit=100)
    replies = mouth.wants(Priority.REPLY, 5)
    mouth.sender.ask(replies)
    cut_off = Mock(wraps=fleet.database)

    def commit_and_break(*arguments: Any) -> list[dict[str, Any]]:
        cut_off.statement.side_effect = None
        fleet.database.statement(*arguments)
        raise DatabaseUnavailable()

    cut_off.statement.side_effect = commit_and_break
    mouth.sender._db = cut_off
    with pytest.raises(DatabaseUnavailable):
        mouth.sender.step()
    assert (mouth.states(), mouth.said) == (["sending"] * 5, [])

    def ask_again_and_see() -> bool:
        mouth.sender.ask(replies)
        return mouth.states() == ["sent"] * 5

    mouth.run_until(ask_again_and_see)
    for _ in range(3):
        mouth.sender.step()
    assert len(mouth.said) == 5


def test_moderation_waits_for_no_pace(fleet, redis_client):
    mouth = Mouth(fleet.database, redis_client, limit=1)
    mouth.sender.ask([*mouth.wants(Priority.REPLY, 5), *mouth.wants(Priority.MODERATION, 5)])
    mouth.run_until(lambda: mouth.said.count("MODERATION") == 5)
    assert mouth.said.count("REPLY") <= 1


# Who can be heard


@pytest.fixture
def ears(simulated):
    heard_deaf: list[str] = []
    liveness = Liveness(simulated.database, f"ears{next(numbers)}", AAALog("ears", "1"))
    liveness.on_deaf = heard_deaf.append
    liveness.deaf = heard_deaf  # type: ignore[attr-defined]
    return liveness


def entity() -> str:
    return f"ears::{new_id()}"


def state_of(ears: Liveness, entity_id: str) -> str:
    return next(each["state"] for each in ears.list_channels(Page()).rows if each["entity_id"] == entity_id)


def test_people_who_have_nothing_to_say_are_not_deafness(ears, simulated):
    quiet = entity()
    ears.heard(quiet)
    ears.save()
    simulated.advance(hours=5)
    ears.judge()
    assert (state_of(ears, quiet), ears.deaf) == ("hearing", [])
    assert ears.check() == "1 channel, none deaf"


def test_who_hears_itself_before_the_platform_has_answered_is_not_deaf(ears, simulated):
    quick = entity()
    began_at = time.monotonic()
    ears.heard(quick)
    ears.said(quick, began_at=began_at)
    ears.save()
    simulated.advance(minutes=5)
    ears.judge()
    assert (state_of(ears, quick), ears.deaf) == ("hearing", [])


def test_a_source_that_breaks_its_promise_is_deaf_and_is_told_once(ears, simulated):
    socket = entity()
    ears.expect(socket, silent_after=timedelta(seconds=30))
    ears.save()
    simulated.advance(seconds=20)
    ears.judge()
    assert ears.deaf == []
    simulated.advance(seconds=20)
    ears.judge()
    ears.judge()
    assert ears.deaf == [socket]
    assert "no sign of life" in ears.list_channels(Page()).rows[0]["detail"]
    with pytest.raises(UpstreamError, match="1 deaf") as found:
        ears.check()
    assert socket in found.value.details["names"]
    ears.heard(socket)
    ears.save()
    ears.judge()
    assert state_of(ears, socket) == "hearing"
    assert ears.count()["deaf"] == 0


def test_a_channel_in_which_the_bot_does_not_hear_itself_is_deaf(ears, simulated):
    well, deaf = entity(), entity()
    for each in (well, deaf):
        ears.heard(each)
    ears.save()
    simulated.advance(minutes=10)
    for each in (well, deaf):
        ears.said(each, began_at=time.monotonic())
    ears.save()
    ears.heard(well)
    ears.save()
    simulated.advance(seconds=50)
    ears.judge()
    assert ears.deaf == []
    ears.said(deaf, began_at=time.monotonic())  # Saying more does not make it wait longer.
    ears.save()
    simulated.advance(seconds=20)
    ears.judge()
    assert ears.deaf == [deaf]
    assert state_of(ears, well) == "hearing"


def test_an_intake_that_was_closed_is_a_gap(ears, simulated):
    ears.open_intake()
    simulated.advance(seconds=30)
    ears.open_intake()
    assert ears.list_gaps() == []
    simulated.advance(minutes=9)
    ears.open_intake()
    (gap,) = ears.list_gaps()
    assert 500 < (gap["until"] - gap["since"]).total_seconds() < 580
    assert "does not deliver again" in gap["why"]
