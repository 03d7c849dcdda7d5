"""How long somebody says that something lasts: 30m, 12h, 7d, 2w."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from waddlebot.base.text import fold

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
LASTING = re.compile(r"([1-9][0-9]{0,4})([mhdw])")
DEFAULT_TIMEOUT_S = 600
LONGEST = timedelta(days=3660)


def find_lasting(word: str) -> timedelta | None:
    """The time that a word names, at most ten years; None for another word."""
    found = LASTING.fullmatch(fold(word))
    return min(int(found[1]) * UNITS[found[2]], LONGEST) if found else None


def lasting_s(data: Mapping[str, Any]) -> int:
    """How many seconds a timeout lasts, as Twitch or Discord told it; ten minutes where it did not say."""
    if isinstance(data.get("duration_s"), int | float):
        return max(1, int(data["duration_s"]))
    try:
        until = datetime.fromisoformat(str(data.get("until")))
        return max(1, round((until - datetime.now(UTC)).total_seconds()))
    except (ValueError, TypeError):
        return DEFAULT_TIMEOUT_S


def say_until(at: datetime | None) -> str:
    """` (until 3 Dec 2026 14:05 UTC)`, or nothing for what does not end."""
    return f" (until {at.astimezone(UTC):%-d %b %Y %H:%M} UTC)" if at else ""
