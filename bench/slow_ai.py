"""50 people ask an AI that takes 8 s: what other commands of the same process notice of it.

Beside an AI that answers the same 50 questions at once: what is compared is that answers are slow, not that somebody
asks. A window is as long as the slow answers take and has both ends, the 50 questions and their 50 answers, and over a
thousand commands, so that some of the machine's own hiccups are no twentieth of it. Windows with and without go
pairwise, each pair the other way round than the last, and the median of three pairs' ratios counts: whatever else the
machine does for some seconds then spoils one pair and no verdict. Where two pairs say the same there is no third.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from waddlebot.testing.fleet import Bot, Stack, load_fleet
from waddlebot.testing.plugin import eventually

from bench.common import table
from simulators.openai import OpenAISimulator

BAR = 1.5
SLOW_CALLS, SLOW_S = 50, 8.0
PAIRS, WINDOW_S = 3, SLOW_S + 0.5
PEOPLE = 200
COMMAND = "!inventory list"


def p95_ms(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)] * 1e3


class Bench:
    def __init__(self, bot: Bot, askers: Sequence[Bot], openai: OpenAISimulator) -> None:
        self._bot = bot
        self._askers = askers
        self._openai = openai
        self._threads = ThreadPoolExecutor(len(askers))
        self._numbers = itertools.count()

    def window(self, slow_s: float) -> list[float]:
        """How long commands took from when all ask until all have their answers, which take so long."""
        script = self._openai.script
        script.first_s, script.most_under_way = slow_s, 0
        asked = [self._threads.submit(each.submit, each.event("!ai hello")) for each in self._askers]
        times = self.measure(WINDOW_S)
        eventually(lambda: script.under_way == 0, within_s=30)
        answers = [each.result() for each in asked]
        if slow_s and (script.most_under_way, *{each.statuses[0] for each in answers}) != (SLOW_CALLS, "pending"):
            raise SystemExit(f"{script.most_under_way} waited at once, and were told {answers[0].answer}")
        return times

    def measure(self, for_s: float) -> list[float]:
        times, until = [], time.perf_counter() + for_s
        while time.perf_counter() < until:
            event = self._bot.event(COMMAND, by=f"p{next(self._numbers) % PEOPLE}")
            began = time.perf_counter()
            heard = self._bot.submit(event)
            times.append(time.perf_counter() - began)
            if heard.statuses not in (["success"], ["pending"]):  # One that is put off has taken a second.
                raise SystemExit(f"not answered: {heard.answer}")
        return times


def main() -> None:
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as folder, Stack.running(Path(folder) / "stack") as stack:
        with OpenAISimulator() as openai:
            os.environ.update(openai.settings(), AI_PROVIDER="openai", MAX_CONCURRENT_REQUESTS=str(SLOW_CALLS))
            os.environ["ROUTER_DEFAULT_RATE_LIMIT"] = "0"
            names = ["router_module", "inventory_interaction_module", "ai_interaction_module"]
            fleet = load_fleet(stack, Path(folder), names)
            asking = [fleet.bot(f"slow{n}") for n in range(SLOW_CALLS)]
            bench = Bench(fleet.bot("bench"), asking, openai)
            asking[0].say("!ai hello")  # Its library is loaded by that.
            bench.measure(1)
            pairs = []
            for n in range(PAIRS):
                if len({slow / quick <= BAR for quick, slow in pairs}) == 1 < len(pairs):
                    break
                order = (0.0, SLOW_S) if n % 2 == 0 else (SLOW_S, 0.0)
                took = {slow_s: p95_ms(bench.window(slow_s)) for slow_s in order}
                pairs.append((took[0.0], took[SLOW_S]))
        ratio = statistics.median(slow / quick for quick, slow in pairs)
        rows = [
            [f"pair {n}", f"{quick:.1f}", f"{slow:.1f}", f"{slow / quick:.2f}", ""]
            for n, (quick, slow) in enumerate(pairs, 1)
        ]
        rows.append(["median", "", "", f"{ratio:.2f}", f"<= {BAR}"])
        columns = ["", "quick AI, ms", f"{SLOW_S:.0f} s AI, ms", "ratio", "bar"]
        table(f"p95 of {COMMAND} beside {SLOW_CALLS} questions", columns, rows)
        print(f"  {'met' if ratio <= BAR else 'MISSED'}")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
