"""Three router processes on one database, its replica and one Valkey give every result that one gives."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from waddlebot.base.ids import new_id
from waddlebot.fleet.embedded import free_port
from waddlebot.testing.fleet import FAST, Bot, Heard, Stack
from waddlebot.testing.module_stub import ModuleStub, chat, reply_to
from waddlebot.testing.plugin import eventually
from waddlebot.testing.routers import Routers
from waddlebot.testing.streaming_replica import StreamingReplica
from waddlebot.web.auth import create_account

pytestmark = pytest.mark.timeout(180)
PEOPLE = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("three")


@pytest.fixture(scope="module")
def servers(folder) -> Iterator[Stack]:
    with Stack.running(folder / "stack") as running:
        yield running


@pytest.fixture(scope="module")
def replica(servers, folder) -> Iterator[StreamingReplica]:
    primary = servers.postgres
    server = StreamingReplica(
        folder / "replica",
        primary.password,
        FAST,
        owner_password=primary.owner_password,
        port=free_port(),
        primary_port=primary.port,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stub_server() -> Iterator[ModuleStub]:
    server = ModuleStub()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def routers(servers, replica, stub_server, folder) -> Iterator[Routers]:
    settings = {
        "READ_REPLICA_URL": replica.owner_url,
        "REPLICA_MAX_LAG_S": "1",
        "MODULE_URLS": f"stub=http://{stub_server.address}",
        "ROUTER_LEASE": "0.5",
        "ROUTER_DEFAULT_RATE_LIMIT": "0",
    }
    with Routers.running(servers, folder, settings) as running:
        with running.database.transaction() as db:
            made = create_account(db, name="stub", groups=["services"], module_name="stub")
        running.keys["stub"] = made.api_key
        yield running


@pytest.fixture
def bots(routers) -> list[Bot]:
    """Somebody to talk to at each of the routers, in one community."""
    return routers.bots()


@pytest.fixture
def stub(routers, bots, stub_server) -> ModuleStub:
    """An outside module with the command !stub, installed in the community; it was registered at the first router."""
    stub_server.reset(lambda call: reply_to(call, chat("hello")))
    stub_server.register(routers[0])
    bots[0].install("stub")
    # The other routers hear of it when Redis tells them.
    eventually(lambda: all(bot.say("!stub", mode="simulate").statuses == ["success"] for bot in bots))
    stub_server.reset(stub_server.behaviour)
    return stub_server


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of calls that are made by many threads, in the calls' order."""
    with ThreadPoolExecutor(12) as threads:
        return [each.result() for each in [threads.submit(call) for call in calls]]


def outcome(bot: Bot, event: dict[str, Any]) -> Heard:
    """How an event ended, asked for by handing it over again."""
    heard: list[Heard] = []

    def is_done() -> bool:
        heard.append(bot.submit(event))
        return "pending" not in heard[-1].statuses

    eventually(is_done, within_s=30, what=f"the end of {event['message']}")
    return heard[-1]


def nothing_is_left(routers: Routers) -> bool:
    return routers.database.statement("SELECT 1 FROM router_work") == []


def count_by_event(routers: Routers, table: str, events: Sequence[dict[str, Any]]) -> Counter[str]:
    """How many rows of a table each event has."""
    key = {"command_executions": "session_id", "reputation_events": "source_id"}.get(table)
    joined = f"JOIN {table} t ON t.{key} = e.session_id" if key else f"JOIN {table} t USING (platform, event_id)"
    rows = routers.database.statement(
        f"SELECT e.event_id FROM router_events e {joined} WHERE e.event_id = ANY(%s)",
        ([event["event_id"] for event in events],),
    )
    return Counter(row["event_id"] for row in rows)


def mixed_events(bot: Bot, count: int) -> list[dict[str, Any]]:
    """Plain chat and commands of a dozen people: some only look, others add an item of their own each."""
    texts = ("good evening {n}", "!inventory add item{n} x", "!inventory stats", "!inventory add item{n} x")
    return [bot.event(texts[n % 4].format(n=n), by=f"person{n % PEOPLE}", level="moderator") for n in range(count)]


def check_each_was_done_once(routers: Routers, bots: Sequence[Bot], events: Sequence[dict[str, Any]]) -> None:
    for event in events:
        heard = outcome(random.choice(bots), event)
        assert set(heard.statuses) <= {"success"}, heard
    commands = [event for event in events if event["message"].startswith("!")]
    everything, each_command = ({each["event_id"]: 1 for each in some} for some in (events, commands))
    assert count_by_event(routers, "router_events", events) == everything
    assert count_by_event(routers, "reputation_events", events) == everything
    assert count_by_event(routers, "command_executions", events) == each_command
    assert count_by_event(routers, "outbox", events) == each_command
    items = routers.database.statement(
        "SELECT item_name FROM inventory_items WHERE community_id = %s", (bots[0].community_id,)
    )
    added = [each["message"].split()[2] for each in commands if " add " in each["message"]]
    assert Counter(row["item_name"] for row in items) == dict.fromkeys(added, 1)
    balances = routers.database.statement(
        "SELECT sum(current_score) AS points, sum(total_events) AS events FROM user_reputation WHERE community_id = %s",
        (bots[0].community_id,),
    )
    assert (balances[0]["points"], balances[0]["events"]) == (5 * len(events), len(events))
    eventually(lambda: nothing_is_left(routers))


def test_an_event_that_comes_to_every_router_is_done_once(routers, bots):
    events = mixed_events(bots[0], 60)
    deliveries = [(bot, event) for event in events for bot in bots]
    random.shuffle(deliveries)

    heard = at_once([lambda bot=bot, event=event: bot.submit(event) for bot, event in deliveries])

    by_event: dict[str, list[Heard]] = {}
    for (_, event), each in zip(deliveries, heard, strict=True):
        by_event.setdefault(event["event_id"], []).append(each)
    for answers in by_event.values():
        assert len({each.session_id for each in answers}) == 1
        assert [each.answer["duplicate"] for each in answers].count(False) == 1
    check_each_was_done_once(routers, bots, events)


def test_batches_that_overlap_in_any_order_are_done_once(routers, bots):
    events = mixed_events(bots[0], 200)
    batches = [random.sample(events, 100) for _ in range(48)]
    batches += [events[:100], events[100:]]

    def post(n: int, batch: list[dict[str, Any]]) -> Any:
        return routers[n % 3].request("POST", "/router/events/batch", batch)

    answers = at_once([lambda n=n, batch=batch: post(n, batch) for n, batch in enumerate(batches)])

    assert [each.status for each in answers] == [200] * len(batches)
    check_each_was_done_once(routers, bots, events)


def test_what_one_person_does_at_one_router_is_there_at_the_next(bots):
    texts = ['!inventory add "A" x', '!inventory checkout "A" bob', '!inventory checkin "A"', "!inventory list"]

    said = [bots[n % 3].say(text, level="moderator").chat for n, text in enumerate(texts)]

    assert said == ["Added “A”.", "“A” is now with bob.", "“A” is back from bob.", "1 item: A"]


def test_one_persons_commands_in_a_batch_run_in_order_wherever_the_batch_goes(routers, bots):
    texts = ['!inventory add "A" x', '!inventory checkout "A" bob', '!inventory checkin "A"', "!inventory list"]
    batch = [bots[0].event(text, level="moderator") for text in texts]

    at_once([lambda router=router: router.request("POST", "/router/events/batch", batch) for router in routers.routers])

    said = [outcome(bots[n % 3], event).chat for n, event in enumerate(batch)]
    assert said == ["Added “A”.", "“A” is now with bob.", "“A” is back from bob.", "1 item: A"]


def test_a_late_reply_may_come_to_a_router_that_does_not_run_the_event(routers, bots, stub):
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(20) and reply_to(call, chat("late"))
    event = bots[0].event("!stub")
    assert bots[0].submit(event).statuses == ["pending"]
    reply = reply_to(stub.calls[0], chat("late"))

    answers = at_once(
        [lambda n=n: routers[1 + n % 2].request("POST", "/router/responses", reply, key="stub") for n in range(6)]
    )
    may_answer.set()

    assert [each.status for each in answers] == [200] * 6
    assert sorted(each.json()["duplicate"] for each in answers) == [False] + [True] * 5
    for bot in bots:
        heard = outcome(bot, event)
        assert (heard.statuses, heard.chat) == (["success"], "late")
    eventually(lambda: nothing_is_left(routers))
    assert bots[0].submit(event).chat == "late"


def test_of_two_different_late_replies_to_two_routers_one_counts(routers, bots, stub):
    stub.behaviour = lambda call: reply_to(call)
    event = bots[0].event("!stub")
    assert bots[0].submit(event).statuses == ["success"]
    replies = [reply_to(stub.calls[0], chat(f"number {n}")) for n in range(6)]

    answers = at_once(
        [
            lambda n=n, reply=reply: routers[n % 3].request("POST", "/router/responses", reply, key="stub")
            for n, reply in enumerate(replies)
        ]
    )

    assert sorted(each.status for each in answers) == [200] + [409] * 5
    winner = next(n for n, each in enumerate(answers) if each.status == 200)
    assert {bot.submit(event).chat for bot in bots} == {f"number {winner}"}


@contextlib.contextmanager
def paused(replica: StreamingReplica) -> Iterator[None]:
    connection = psycopg2.connect(replica.url)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_wal_replay_resume()")


def change(bot: Bot, method: str, path: str, body: dict[str, Any]) -> None:
    done = bot.fleet.request(method, path, body)
    assert done.status == 200, done.body


def test_what_is_set_at_one_router_holds_at_the_others_though_the_replica_does_not_know(bots, stub, replica):
    here, *others = bots
    for bot in others:
        assert bot.say("!stub").statuses == ["success"]
        assert bot.say("buy followers").answer["moderation"] is None
        assert bot.say("!inventory list").statuses == ["success"]
    with paused(replica):
        community = f"/router/communities/{here.slug}"
        rule = {"community_id": here.slug, "match_type": "contains", "string": "followers", "action": "warn"}
        change(here, "POST", "/router/string-rules", rule)
        change(here, "PUT", f"{community}/permissions", {"command": "!stub", "is_enabled": False})
        change(here, "PUT", f"{community}/modules/inventory", {"enabled": False})

        def holds(bot: Bot) -> bool:
            return (
                bot.say("buy followers").answer["moderation"] is not None
                and bot.say("!stub").statuses == ["denied"]
                and bot.say("!inventory list").statuses == ["denied"]
            )

        assert holds(here)
        eventually(lambda: all(holds(bot) for bot in others), within_s=5)
        # And from then on, also when the replica has been found to be behind.
        for _ in range(20):
            assert all(holds(bot) for bot in bots)


def test_a_limit_holds_over_all_routers(routers, bots, stub):
    stub.register(routers[0], {"command": "stub", "rate_limit": 5})
    limited = [bot.event("!stub", by="frank") for bot in bots for _ in range(10)]
    eventually(lambda: all(is_limited(bot) for bot in bots))
    stub.reset(stub.behaviour)

    heard = at_once([lambda n=n, event=event: bots[n % 3].submit(event) for n, event in enumerate(limited)])

    assert Counter(status for each in heard for status in each.statuses) == {"success": 5, "rate_limited": 25}
    assert len(stub.calls) == 5
    # The same once more, elsewhere, is the same answer and no use of it.
    again = at_once([lambda n=n, event=event: bots[(n + 1) % 3].submit(event) for n, event in enumerate(limited)])
    assert [each.statuses for each in again] == [each.statuses for each in heard]
    assert len(stub.calls) == 5


def test_a_cooldown_holds_over_all_routers_and_over_a_restart(routers, bots, stub):
    # The level shows which router knows of it, without a use.
    config = {"cooldown_s": 3600, "cooldown_exempt": "nobody", "level": "vip"}
    change(bots[0], "PUT", f"/router/communities/{bots[0].slug}/permissions", {"command": "!stub", "config": config})
    eventually(lambda: all(bot.say("!stub", mode="simulate").statuses == ["denied"] for bot in bots))
    events = [bot.event("!stub", by=f"vip{n}", level="vip") for n, bot in enumerate(bots * 8)]

    heard = at_once([lambda n=n, event=event: bots[n % 3].submit(event) for n, event in enumerate(events)])

    ended = Counter((each.statuses[0], _code(each)) for each in heard)
    assert ended == {("success", None): 1, ("rate_limited", "cooldown"): len(events) - 1}
    assert len(stub.calls) == 1
    routers[1].kill()
    routers[1].start()
    after = bots[1].say("!stub", by="somebody", level="vip")
    assert (after.statuses, _code(after)) == (["rate_limited"], "cooldown")
    assert len(stub.calls) == 1


def _code(heard: Heard) -> str | None:
    (execution,) = heard.answer["executions"]
    return (execution["error"] or {}).get("code")


def is_limited(bot: Bot) -> bool:
    """Whether this router knows of the limit of five: somebody's sixth !stub is refused."""
    somebody = new_id()
    return [bot.say("!stub", by=somebody).statuses for _ in range(6)][-1] == ["rate_limited"]


def test_a_limit_that_is_changed_at_one_router_holds_at_the_others(bots, stub):
    here, *others = bots
    change(
        here,
        "PUT",
        f"/router/communities/{here.slug}/permissions",
        {"command": "!stub", "config": {"user_rate_limit": 5}},
    )

    eventually(lambda: all(is_limited(bot) for bot in others))


def test_what_a_killed_router_had_not_finished_is_finished_by_the_others(routers, bots, stub):
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(30) and reply_to(call, chat(f"done for {call['user']['name']}"))
    events = [bots[0].event("!stub", by=f"p{n}") for n in range(10)]
    heard = at_once([lambda event=event: bots[0].submit(event) for event in events])
    assert [each.statuses for each in heard] == [["pending"]] * 10

    routers[0].kill()
    try:
        may_answer.set()
        for n, event in enumerate(events):
            ended = outcome(bots[1 + n % 2], event)
            assert (ended.statuses, ended.chat) == (["success"], f"done for p{n}")
    finally:
        routers[0].start()

    assert len({call["execution_id"] for call in stub.calls}) == 10
    assert count_by_event(routers, "outbox", events) == {event["event_id"]: 1 for event in events}
    assert count_by_event(routers, "reputation_events", events) == {event["event_id"]: 1 for event in events}
    assert [bots[0].submit(event).chat for event in events] == [f"done for p{n}" for n in range(10)]
    eventually(lambda: nothing_is_left(routers))


def test_what_one_person_asked_of_a_killed_router_is_still_done_in_order(routers, bots, stub):
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(30) and reply_to(call, chat("go"))
    texts = [
        "!stub",
        '!inventory add "A" x',
        '!inventory checkout "A" bob',
        '!inventory checkin "A"',
        "!inventory list",
    ]
    batch = [bots[0].event(text, level="moderator") for text in texts]
    answers = routers[0].request("POST", "/router/events/batch", batch).json()
    assert [[each["status"] for each in answer["executions"]] for answer in answers] == [["pending"], [], [], [], []]

    routers[0].kill()
    try:
        # Somebody has taken the first one over.
        eventually(lambda: len(stub.calls) > 1)
        may_answer.set()
        said = [done_outcome(bots[1 + n % 2], event) for n, event in enumerate(batch)]
    finally:
        routers[0].start()

    assert said == ["go", "Added “A”.", "“A” is now with bob.", "“A” is back from bob.", "1 item: A"]
    eventually(lambda: nothing_is_left(routers))


def done_outcome(bot: Bot, event: dict[str, Any]) -> str:
    """What is said to a command in the end, which may not even be planned yet."""
    eventually(lambda: bot.submit(event).statuses == ["success"], within_s=30, what=event["message"])
    return bot.submit(event).chat


def test_a_router_that_was_stopped_for_a_while_and_wakes_up_says_nothing_twice(routers, bots, stub):
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(30) and reply_to(call, chat("once"))
    events = [bots[0].event("!stub", by=f"p{n}") for n in range(5)]
    at_once([lambda event=event: bots[0].submit(event) for event in events])

    routers[0].signal(signal.SIGSTOP)
    try:
        eventually(lambda: len(stub.calls) == 10, within_s=20)  # The others have taken all five over.
        may_answer.set()
        for event in events:
            assert outcome(bots[1], event).chat == "once"
    finally:
        routers[0].signal(signal.SIGCONT)

    for event in events:
        assert outcome(bots[0], event).chat == "once"
    assert count_by_event(routers, "outbox", events) == {event["event_id"]: 1 for event in events}
    eventually(lambda: nothing_is_left(routers))


def test_a_router_that_slept_does_not_plan_what_another_has_planned_meanwhile(routers, bots, stub):
    may_answer = threading.Event()
    stub.behaviour = lambda call: may_answer.wait(30) and reply_to(call, chat("go"))
    texts = ["!stub", '!inventory add "A" x', "!inventory list"]
    batch = [bots[0].event(text, level="moderator") for text in texts]
    routers[0].request("POST", "/router/events/batch", batch)

    routers[0].signal(signal.SIGSTOP)
    try:
        eventually(lambda: len(stub.calls) == 2, within_s=20)
        may_answer.set()
        assert [done_outcome(bots[1], event) for event in batch] == ["go", "Added “A”.", "1 item: A"]
    finally:
        routers[0].signal(signal.SIGCONT)

    # It goes on with what it had in mind, and is there for what comes next.
    assert [bots[0].say("!inventory list").chat for _ in range(5)] == ["1 item: A"] * 5
    time.sleep(1)
    once = {event["event_id"]: 1 for event in batch}
    assert count_by_event(routers, "command_executions", batch) == once
    assert count_by_event(routers, "outbox", batch) == once
    assert [done_outcome(bots[0], event) for event in batch] == ["go", "Added “A”.", "1 item: A"]
    eventually(lambda: nothing_is_left(routers))


def replica_check(routers: Routers) -> dict[str, Any]:
    return routers[1].request("GET", "/router/health").json()["checks"]["replica"]


def lookups(routers: Routers) -> dict[str, float]:
    metrics = routers[1].request("GET", "/router/metrics").json()["metrics"]
    return {each["server"]: each["value"] for each in metrics["waddlebot_lookups_total"]}


def test_a_replica_that_is_away_is_said_in_health_metrics_and_the_log(routers, bots, replica, folder):
    eventually(lambda: replica_check(routers)["ok"])
    log = folder / "logs" / "router.1.log"
    eventually(lambda: "action=replica_used" in log.read_text())
    before = log.read_text().count("action=replica_not_used")

    replica.stop()
    try:
        eventually(lambda: not replica_check(routers)["ok"])
        assert "does not answer" in replica_check(routers)["detail"]
        assert routers[1].request("GET", "/router/health").json()["status"] == "degraded"
        assert routers[1].request("GET", "/router/ready").status == 200
        counted = lookups(routers)["primary"]
        assert routers[1].request("GET", "/router/commands").status == 200
        assert lookups(routers)["primary"] > counted
        eventually(lambda: log.read_text().count("action=replica_not_used") == before + 1)
    finally:
        replica.start()

    eventually(lambda: replica_check(routers)["ok"])
    counted = lookups(routers)["replica"]
    eventually(
        lambda: routers[1].request("GET", "/router/commands").status == 200 and lookups(routers)["replica"] > counted
    )
