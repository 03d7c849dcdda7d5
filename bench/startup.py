"""How long `waddlebot up` takes until the ready line, and how much memory the whole tree then takes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.common import fleet, pss_mb, table

FIRST_BAR_S, AGAIN_BAR_S, MEMORY_BAR_MB = 20, 10, 350
# Long enough for the first loops and connections to settle.
IDLE_S = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        rows = [
            row
            for start, bar_s in (("first start", FIRST_BAR_S), ("existing home", AGAIN_BAR_S))
            for row in measure(home, start, bar_s)
        ]
    table("waddlebot up", ("what", "measured", "bar", ""), rows)


def measure(home: Path, start: str, bar_s: int) -> list[tuple[str, str, str, str]]:
    with fleet(home=home) as running:
        running.say("!help")
        time.sleep(IDLE_S)
        memory_mb = pss_mb(running.tree)
    return [
        (f"ready, {start}", f"{running.ready_s:.1f} s", f"{bar_s} s", verdict(running.ready_s <= bar_s)),
        (
            f"memory, idle, {start}",
            f"{memory_mb:.0f} MB PSS",
            f"{MEMORY_BAR_MB} MB",
            verdict(memory_mb <= MEMORY_BAR_MB),
        ),
    ]


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
