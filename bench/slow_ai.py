"""50 people ask an AI that takes 8 s: what other commands of the same process notice of it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from waddlebot.testing.fleet import Bot, Stack, load_fleet

from bench.common import table
from simulators.openai import OpenAISimulator

BAR = 1.5
SLOW_CALLS, SLOW_S = 50, 8.0
# Rounds without and with slow calls take turns, so that whatever else the machine does comes to both.
ROUNDS, PER_ROUND = 2, 200
COMMAND = "!inventory list"


def p95_ms(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)] * 1e3


def measure(bot: Bot) -> list[float]:
    times = []
    for n in range(PER_ROUND):
        event = bot.event(COMMAND, by=f"p{n}")
        began = time.perf_counter()
        heard = bot.submit(event)
        times.append(time.perf_counter() - began)
        if heard.statuses != ["success"]:
            raise SystemExit(f"not answered: {heard.answer}")
    return times


def main() -> None:
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as folder, Stack.running(Path(folder) / "stack") as stack:
        with OpenAISimulator() as openai, ThreadPoolExecutor(SLOW_CALLS) as askers:
            os.environ.update(openai.settings(), AI_PROVIDER="openai")
            names = ["router_module", "inventory_interaction_module", "ai_interaction_module"]
            fleet = load_fleet(stack, Path(folder), names)
            bots = [fleet.bot(f"slow{n}") for n in range(SLOW_CALLS)]
            bot = fleet.bot("bench")
            openai.script.first_s = SLOW_S
            measure(bot)
            alone: list[float] = []
            beside: list[float] = []
            waiting = []
            for _ in range(ROUNDS):
                alone += measure(bot)
                waiting = [askers.submit(each.submit, each.event("!ai hello")) for each in bots]
                time.sleep(1)  # Each has been told that its answer comes later.
                beside += measure(bot)
                time.sleep(SLOW_S)
            pending = sum(each.result().statuses == ["pending"] for each in waiting)
        ratio = p95_ms(beside) / p95_ms(alone)
        table(
            "Slow AI",
            ["", "measured", "bar"],
            [
                [f"{COMMAND}, p95 ms", f"{p95_ms(alone):.1f}", ""],
                [f"beside {pending} calls of {SLOW_S:.0f} s, p95 ms", f"{p95_ms(beside):.1f}", ""],
                ["of that alone", f"{ratio:.2f}", f"<= {BAR}"],
            ],
        )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
