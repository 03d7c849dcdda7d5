"""A command from POST /router/events to its Answer, --per-module, 16 in flight, beside its floor in the same run."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

import psutil
import psycopg2
from waddlebot.base.contracts import CallCommunity, CallEntity, CallUser, ModuleCall, ModuleReply, Trigger
from waddlebot.base.ids import new_id, new_traceparent
from waddlebot.fleet.embedded import free_port
from waddlebot.web.http import HTTPClient

from bench.common import Load, RunningFleet, event, fleet, run_load, server, table

BAR = 0.5
# At half of what the fleet can do, of the floor's p99 at the same pace.
P99_BAR = 4
ROUNDS = 3
REQUESTS = 1500
IN_FLIGHT = 16
COMMAND = '!inventory status "Blue Sword"'
# Enough people that nobody asks more often than once a second, which is the default limit.
PEOPLE = 200


class Both(psutil.Process):
    """The floor's two servers as one."""

    def __init__(self, first: psutil.Process, second: psutil.Process) -> None:
        super().__init__(first.pid)
        self._second = second

    def children(self, recursive: bool = False) -> list[psutil.Process]:
        return [*super().children(recursive), self._second, *self._second.children(recursive)]


def sizes(running: RunningFleet) -> tuple[int, int, int]:
    """How many bytes of JSON the fleet's call, reply and answer have."""
    body = event(COMMAND, new_id())
    answer = HTTPClient().request("POST", f"{running.url}/router/events", body=body, headers=running.headers())
    uuid, response = new_id(), answer.json()["responses"][0]
    call = ModuleCall(
        session_id=uuid,
        execution_id=uuid,
        community=CallCommunity(id=1, name="Demo"),
        entity=CallEntity(entity_id="console:demo:general", platform="console", server_id="demo", channel_id="general"),
        user=CallUser(
            id=1, platform_user_id="alice", name="alice", display_name="alice", level="owner", roles=["member"]
        ),
        trigger=Trigger(type="command", command="inventory", prefix="!", args=["status", "Blue Sword"], raw=COMMAND),
        deadline=datetime.now(UTC),
        timeout_ms=30_000,
        traceparent=new_traceparent(),
    )
    said = {"response_action": response["response_action"], "response_data": response["response_data"]}
    reply = ModuleReply(
        session_id=uuid,
        execution_id=uuid,
        module_name="inventory",
        success=True,
        responses=[said],
        processing_time_ms=1.234,
    )
    return len(call.model_dump_json()), len(reply.model_dump_json()), len(answer.body)


def main() -> None:
    with fleet("--per-module") as running, contextlib.ExitStack() as stack:
        running.say('!inventory add "Blue Sword" "A shiny sword" weapons,rare')
        url = running.environment["DATABASE_URL"]
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE floor_rows (id bigserial PRIMARY KEY, body text)")
        ports = free_port(), free_port()
        common = {"DATABASE_URL": url, "FLOOR_BYTES": ",".join(str(size) for size in sizes(running))}
        second = stack.enter_context(server("bench.floor:app", ports[1], common))
        environment = {**common, "FLOOR_NEXT": f"http://127.0.0.1:{ports[1]}/"}
        first = stack.enter_context(server("bench.floor:app", ports[0], environment))

        def measure_floor(requests: int, per_s: float | None = None) -> Load:
            return run_load(
                f"http://127.0.0.1:{ports[0]}/",
                lambda _: event(COMMAND, new_id()),
                requests=requests,
                in_flight=IN_FLIGHT,
                headers={"Content-Type": "application/json"},
                check=lambda answer: "answer" in answer,
                process=Both(first, second),
                per_s=per_s,
            )

        def measure_fleet(requests: int, per_s: float | None = None) -> Load:
            return run_load(
                f"{running.url}/router/events",
                lambda number: event(COMMAND, new_id(), name=f"viewer{number % PEOPLE}"),
                requests=requests,
                in_flight=IN_FLIGHT,
                headers=running.headers(),
                check=lambda answer: answer["executions"][0]["status"] == "success" and bool(answer["responses"]),
                process=running.tree,
                per_s=per_s,
            )

        measure_floor(300), measure_fleet(300)
        pairs = [(measure_floor(REQUESTS), measure_fleet(REQUESTS)) for _ in range(ROUNDS)]
        pace = statistics.median(ours.per_second for _, ours in pairs) / 2
        paced = [(measure_floor(REQUESTS, pace), measure_fleet(REQUESTS, pace)) for _ in range(ROUNDS)]
    print_rounds(f"Command round trip, {IN_FLIGHT} in flight", pairs)
    ratio = statistics.median(ours.per_second / floor.per_second for floor, ours in pairs)
    print(f"  median {ratio:.2f} of the floor; the bar is {BAR}: {'met' if ratio >= BAR else 'MISSED'}")
    print_rounds(f"At half of that, {pace:.0f} a second", paced)
    slower = statistics.median(ours.p99_ms / floor.p99_ms for floor, ours in paced)
    print(
        f"  median p99 {slower:.1f} times the floor's; the bar is {P99_BAR}: {'met' if slower <= P99_BAR else 'MISSED'}"
    )


def print_rounds(title: str, pairs: Sequence[tuple[Load, Load]]) -> None:
    rows = []
    for n, (floor, ours) in enumerate(pairs, 1):
        for name, load in (("floor", floor), ("fleet", ours)):
            ratio = f"{ours.per_second / floor.per_second:.2f}" if name == "fleet" else ""
            times = f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", f"{load.cpu_s_per_1000:.2f}"
            rows.append((f"{n} {name}", f"{load.per_second:.0f}", *times, ratio))
    table(title, ("round", "per s", "p50 ms", "p99 ms", "CPU s/1000", "ratio"), rows)


if __name__ == "__main__":
    main()
