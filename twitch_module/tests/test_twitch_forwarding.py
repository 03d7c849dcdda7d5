from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from waddlebot.base import watched
from waddlebot.collecting.event_store import Delivery, EventStore, EventTable, Result
from waddlebot.data.database import fetch
from waddlebot.data.redis_users import WAKE
from waddlebot.module.service import SERVICES
from waddlebot.testing.fleet import URL
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually
from waddlebot.web.clients import set_own_app


@contextmanager
def router_replaced(fleet, app):
    """Everything in this process that calls the router gets `app` instead."""
    set_own_app(app, URL)
    try:
        yield
    finally:
        set_own_app(fleet.app, URL)


def answering(status, body=b"{}"):
    def app(environ, start_response):
        start_response(f"{status} whatever", [("Content-Type", "application/json")])
        return [body]

    return app


@pytest.mark.parametrize("status", [401, 429, 503, 502], ids=str)
def test_a_router_that_is_away_delays_and_loses_nothing(fleet, channel, status):
    with router_replaced(fleet, answering(status)):
        assert [channel.say("!inventory list") for _ in range(3)] == [[204]] * 3
        eventually(lambda: all(row["attempts"] >= 2 for row in channel.rows))
        assert not channel.heard
    eventually(lambda: channel.states == ["forwarded"] * 3)
    eventually(lambda: channel.texts == ["The inventory is empty."] * 3)


def test_a_closed_port_delays_and_loses_nothing(fleet, channel):
    set_own_app(None, None)  # http://waddlebot.test leads nowhere.
    try:
        channel.say("!inventory list")
        eventually(lambda: channel.rows[0]["attempts"] >= 2)
    finally:
        set_own_app(fleet.app, URL)
    eventually(lambda: channel.texts == ["The inventory is empty."])


@pytest.mark.parametrize(("status", "state"), [(413, "failed"), (500, "pending")])
def test_an_event_that_the_router_cannot_take_is_not_in_the_others_way(fleet, channel, status, state):
    refusing = answering(status)

    def choosy(environ, start_response):
        batch = json.loads(environ["wsgi.input"].getvalue()) if environ["PATH_INFO"].endswith("/batch") else []
        environ["wsgi.input"].seek(0)
        poisoned = any(event["message"] == "poison" for event in batch)
        return (refusing if poisoned else fleet.app)(environ, start_response)

    with router_replaced(fleet, answering(503)):
        for number in range(20):
            channel.say("poison" if number == 7 else "!inventory list")
        eventually(lambda: all(row["attempts"] for row in channel.rows))
    with router_replaced(fleet, choosy):
        eventually(lambda: channel.states.count("forwarded") == 19)
        eventually(lambda: len(channel.heard) == 19)
        eventually(lambda: channel.rows[7]["state"] == state)
    channel.change_rows("state = 'failed'")


def test_what_the_router_refuses_is_recorded_with_its_reason(fleet, channel):
    with fleet.database.transaction() as db:
        fetch(db, "UPDATE entities SET is_active = false WHERE entity_id = %s", (f"twitch::{channel.id}",))
    channel.say("!inventory list")
    eventually(lambda: channel.states == ["failed"])
    assert channel.rows[0]["detail"].startswith("unknown_entity: ")


def test_events_of_a_dead_forwarder_are_retaken_and_answered_once(fleet, channel):
    with router_replaced(fleet, answering(503)):
        delivery = channel.message("!inventory list", message_id="orphan", chatter="77")
        channel.twitch.deliver(delivery)
        # The dead one had handed it over, and died before it could record or send anything.
        channel.change_rows("state = 'forwarding', holder = 'dead', lease_until = now() + interval '1 hour'")
    answer = fleet.request("POST", "/router/events", _event(channel, "orphan", "77"), key="twitch")
    assert answer.json()["responses"]
    assert channel.states == ["forwarding"]
    channel.change_rows("lease_until = now() - interval '1 second'")
    eventually(lambda: channel.states == ["forwarded"])
    eventually(lambda: [reply["state"] for reply in channel.replies] == ["sent"])
    assert len(channel.heard) == 1


TOLD = [
    "not json",
    "[" * 100_000,
    "{}",
    "[1]",
    '[["x", "y", 1]]',
    "[[Infinity, 1, 1]]",
    f'[[{10**30}, "twitch::1", 1]]',
]


@pytest.mark.parametrize("told", TOLD, ids=range(len(TOLD)))
def test_no_message_about_replies_keeps_any_from_being_said(channel, told):
    SERVICES[0].bus.client.publish(WAKE + "twitch_replies", told)
    channel.say("!inventory list")
    eventually(lambda: channel.texts == ["The inventory is empty."])
    assert [each for each in watched.states() if each.name == "wakeup-listen" and each.ended] == []


def test_a_late_answer_comes_through_the_outbox(channel, stub):
    answering_now = threading.Event()

    def late(call):
        answering_now.wait(5)
        return reply_to(call, chat("at last"))

    stub.behaviour = late
    channel.say("!stub")
    eventually(lambda: channel.states == ["forwarded"])
    assert not channel.heard
    answering_now.set()
    eventually(lambda: channel.texts == ["at last"], within_s=2)


def test_a_slow_command_does_not_stall_the_others(channel, stub):
    go_on = threading.Event()

    def slow(call):
        go_on.wait(5)
        return reply_to(call, chat("slow"))

    stub.behaviour = slow
    channel.say("!stub")
    eventually(lambda: stub.calls)
    channel.say("!inventory list")
    eventually(lambda: channel.texts == ["The inventory is empty."], within_s=0.9)
    go_on.set()
    eventually(lambda: "slow" in channel.texts)


def test_a_person_is_heard_in_order(channel, stub):
    stub.behaviour = lambda call: reply_to(
        call, chat(f"{call['user']['platform_user_id']} {call['trigger']['args'][0]}")
    )
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda who: [channel.say(f"!stub {n}", chatter=f"p{who}") for n in range(12)], range(4)))
    eventually(lambda: len(channel.heard) == 48)
    for who in range(4):
        asked = [call["trigger"]["args"][0] for call in stub.calls if call["user"]["platform_user_id"] == f"p{who}"]
        assert asked == [str(n) for n in range(12)]
        # On a busy machine an answer may be late, and then it is said when the outbox tells of it.
        assert {text.split()[1] for text in channel.texts if text.startswith(f"p{who} ")} == set(asked)


def test_forwarders_at_once_never_reorder_a_person_nor_take_twice(fleet):
    with fleet.database.transaction() as db:
        fetch(db, "CREATE TABLE race_events (LIKE twitch_events INCLUDING ALL)")
        fetch(db, "CREATE TABLE race_activities (LIKE twitch_activities INCLUDING ALL)")
    table = EventTable("race_events", channel="broadcaster_id", person="chatter_id")
    intake = EventStore(fleet.database, table, holder="intake")
    people = {n: f"person {n % 7}" for n in range(400)}
    for n, person in people.items():
        assert intake.store([Delivery(f"d{n}", f"e{n}", "chat", "c", person, {"n": n})])[0] == ["stored"]
    seen: list[int] = []
    under_way: set[str] = set()
    lock = threading.Lock()

    def forward(holder: str) -> None:
        store = EventStore(fleet.database, table, holder=holder)
        dice = random.Random(holder)
        while len(seen) < len(people):
            claimed = store.claim(limit=dice.randint(1, 30))
            mine = {people[row.data["n"]] for row in claimed}
            with lock:
                assert not mine & under_way
                under_way.update(mine)
                seen.extend(row.data["n"] for row in claimed)
            with lock:
                under_way.difference_update(mine)
            if claimed:
                store.finish([Result(row.id, "forwarded") for row in claimed])

    with ThreadPoolExecutor(6) as forwarders:
        list(forwarders.map(forward, "abcdef"))
    assert sorted(seen) == sorted(people)
    for person in set(people.values()):
        mine = [n for n in seen if people[n] == person]
        assert mine == sorted(mine)


def _event(channel, event_id, chatter):
    return {
        "event_id": event_id,
        "message_type": "chatMessage",
        "platform": "twitch",
        "channel_id": channel.id,
        "user": {"platform_user_id": chatter},
        "message": "!inventory list",
    }
