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
        with fleet(home=home) as first:
            first_s = first.ready_s
        with fleet(home=home) as again:
            again_s = again.ready_s
            again.say("!help")
            time.sleep(IDLE_S)
            memory_mb = pss_mb(again.tree)
    rows = [
        ("ready, first start", f"{first_s:.1f} s", f"{FIRST_BAR_S} s", verdict(first_s <= FIRST_BAR_S)),
        ("ready, existing home", f"{again_s:.1f} s", f"{AGAIN_BAR_S} s", verdict(again_s <= AGAIN_BAR_S)),
        ("memory, idle", f"{memory_mb:.0f} MB PSS", f"{MEMORY_BAR_MB} MB", verdict(memory_mb <= MEMORY_BAR_MB)),
    ]
    table("waddlebot up", ("what", "measured", "bar", ""), rows)


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
