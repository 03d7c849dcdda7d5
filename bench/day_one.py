"""What a streamer's first day costs: filters beside rules, thousands of timers, and variables in an alias."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Sequence

import psycopg2
from psycopg2.extras import execute_values
from waddlebot.base.ids import new_id
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, cpu_seconds, event, fleet, table
from bench.plain_chat import BATCH, Chat, add_rules, post, router_of

FILTERS = ("caps", "links", "symbols", "emotes", "length", "repeats", "mentions", "zalgo")
FILTERED_BAR, TIMERS_BAR_PERCENT, VARIABLES_BAR = 0.5, 1.0, 1.2
ROUNDS, BATCHES, COMMANDS = 3, 100, 200
TIMERS, PER_COMMUNITY = 10_000, 100
IDLE_S = 20
# Each asks somebody else: the person, the place, the router's points, chance, and what was written behind.
PLAIN, VARIED = "greet", "greetall"
TEXTS = {
    PLAIN: "Hello and welcome to all of you",
    VARIED: "{user} in {channel} has {points} and drew {random:1-100} with {arg1:nothing}",
}


def main() -> None:
    measure_filters()
    with fleet() as running:
        measure_variables(running)
        measure_timers(running)


def measure_filters() -> None:
    """By the router's own processor time, as everything else of a message is the same."""
    chat = Chat()
    costs: dict[str, list[float]] = {"rules": [], "and filters": []}
    with fleet("--per-module") as running:
        url, router = f"{running.url}/router/events/batch", router_of(running)
        add_rules(running)
        switch_filters(running, on=True)
        post(url, running.headers(), chat.batch, 20)
        for _ in range(ROUNDS):
            for name, on in (("rules", False), ("and filters", True)):
                switch_filters(running, on=on)
                time.sleep(1)  # Until the router has heard of it.
                before = cpu_seconds(router)
                post(url, running.headers(), chat.batch, BATCHES)
                costs[name].append((cpu_seconds(router) - before) / (BATCHES * BATCH) * 1000)
    rows = [(name, " ".join(f"{each:.3f}" for each in cost)) for name, cost in costs.items()]
    table("Plain chat with 1000 rules, the router's CPU s/1000", ("with", "rounds"), rows)
    ratio = statistics.median(a / b for a, b in zip(*costs.values(), strict=True))
    say_bar("messages for the same CPU, with filters of those without", ratio, FILTERED_BAR, ratio >= FILTERED_BAR)


def switch_filters(running: RunningFleet, *, on: bool) -> None:
    headers, client = running.headers(), HTTPClient()
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM stringmatch WHERE match_type = ANY(%s)", (list(FILTERS),))
    if not on:
        # A rule that never hits tells the router that the rules have changed.
        extra: Sequence[dict[str, object]] = [{"string": new_id(), "match_type": "exact"}]
    else:
        extra = [{"match_type": each, "number": 1000, "share": 100} for each in FILTERS]
    for each in extra:
        body = {"community_id": "demo", "action": "warn", "warning_message": "No.", **each}
        answer = client.request(
            "POST", f"{running.url}/router/string-rules", body=json.dumps(body).encode(), headers=headers
        )
        if answer.status != 200:
            raise SystemExit(f"A rule was refused: {answer.body!r}")


def measure_variables(running: RunningFleet) -> None:
    for name, text in TEXTS.items():
        running.say(f'!alias add !{name} "{text}"')
    client, headers, people = HTTPClient(), running.headers(), itertools.count()
    took: dict[str, list[float]] = {name: [] for name in TEXTS}
    for number in range(COMMANDS + 20):
        for name, times in took.items():
            body = event(f"!{name}", new_id(), name=f"viewer{next(people)}")
            started = time.perf_counter()
            answer = client.request("POST", f"{running.url}/router/events", body=body, headers=headers).json()
            if number >= 20:
                times.append(time.perf_counter() - started)
            if not answer["responses"]:
                raise SystemExit(f"!{name} was not answered: {answer}")
    medians = {name: statistics.median(times) * 1e3 for name, times in took.items()}
    table("An alias, p50 in ms", ("with", "ms"), [(TEXTS[name], f"{ms:.1f}") for name, ms in medians.items()])
    ratio = medians[VARIED] / medians[PLAIN]
    say_bar("five variables, times one without", ratio, VARIABLES_BAR, ratio <= VARIABLES_BAR)


def measure_timers(running: RunningFleet) -> None:
    idle = idle_cpu(running)
    with psycopg2.connect(running.environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        rows = [(f"bench{n}", f"Bench {n}") for n in range(TIMERS // PER_COMMUNITY)]
        communities = execute_values(
            cursor, "INSERT INTO communities (slug, name) VALUES %s RETURNING id", rows, fetch=True
        )
        # Nobody speaks there: each is due again and again, and waits for lines.
        timers = [
            (community, f"timer{n}", "Hello", 1 + n % 30, 5, False, f"{n % 60} s")
            for (community,) in communities
            for n in range(PER_COMMUNITY)
        ]
        execute_values(
            cursor,
            "INSERT INTO timers (community_id, name, message, minutes, min_lines, only_live, due_at) VALUES %s",
            timers,
            template="(%s, %s, %s, %s, %s, %s, now() + %s::interval)",
        )
    more = idle_cpu(running) - idle
    table("Idle, percent of a core", ("with", "CPU"), [("no timer", f"{idle:.2f}"), (TIMERS, f"{idle + more:.2f}")])
    say_bar(f"{TIMERS} timers, percent of a core", more, TIMERS_BAR_PERCENT, more <= TIMERS_BAR_PERCENT)


def idle_cpu(running: RunningFleet) -> float:
    time.sleep(3)
    before = cpu_seconds(running.tree)
    time.sleep(IDLE_S)
    return (cpu_seconds(running.tree) - before) / IDLE_S * 100


def say_bar(what: str, figure: float, bar: float, met: bool) -> None:
    print(f"  {what}: {figure:.2f}; the bar is {bar}: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
