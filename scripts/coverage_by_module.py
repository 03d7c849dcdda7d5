"""Say how much of each module and room of the library the tests run, branches too. Under 90 % is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

WANTED = 90.0


def main() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "coverage", "json", "-q", "-o", "-"], check=True, capture_output=True, text=True
    )
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, found in json.loads(told.stdout)["files"].items():
        summary = found["summary"]
        part = counts[_part_of(Path(path))]
        part[0] += summary["covered_lines"] + summary["covered_branches"]
        part[1] += summary["num_statements"] + summary["num_branches"]
    shares = {name: 100 * covered / total for name, (covered, total) in counts.items() if total}
    for name, share in sorted(shares.items()):
        print(f"{share:6.1f} %  {name}{'' if share >= WANTED else f'  under {WANTED:g} %'}")


def _part_of(path: Path) -> str:
    """`libs/waddlebot/web/…` is the room `waddlebot.web`, everything else its module."""
    parts = path.parts
    return f"waddlebot.{parts[2]}" if parts[:2] == ("libs", "waddlebot") and len(parts) > 3 else parts[0]


if __name__ == "__main__":
    main()
