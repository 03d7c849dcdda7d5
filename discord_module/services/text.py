"""How a reply is said on Discord: in parts of 2000 characters, cut where a reader would, code blocks kept whole."""

from __future__ import annotations

import re

from waddlebot.base.chat import NEUTRAL, neutralise

MAX_CHARS = 2000
# More of one reply than this would be a flood.
MAX_PARTS = 10
FENCE = re.compile(r"^\s*```(\w*)", re.MULTILINE)
CLOSE = "\n```"
MORE = "…"


def split_message(text: str, limit: int = MAX_CHARS) -> list[str]:
    """The parts in which Discord takes a text. A code block that has to be cut is closed and opened again.

    No part begins with what another bot would take for a command to it.
    """
    parts: list[str] = []
    rest = text.strip()
    fence = ""
    while rest and len(parts) < MAX_PARTS:
        opening = f"```{fence[1:]}\n" if fence else ""
        part, rest = _cut(rest, limit - len(opening) - len(NEUTRAL))
        part, fence = opening + part, _open_fence(opening + part)
        parts.append(part + CLOSE if fence else part)
    if rest:
        parts[-1] = _shortened(parts[-1], limit)
    # The first part is as the router made it, which has seen to that already.
    return [part if n == 0 else neutralise(part) for n, part in enumerate(parts)]


def _cut(text: str, room: int) -> tuple[str, str]:
    """As much of a text as there is room for, and the rest. What stands in a code block also needs its end."""
    if len(text) <= room:
        return text, ""
    room -= len(CLOSE)
    at = _before_a_block(text, room) or _after_a_line(text, room) or text.rfind(" ", 1, room + 1)
    at = at if at > 0 else room
    return text[:at].rstrip(), text[at:].lstrip("\n" if _open_fence(text[:at]) else "\n ")


def _before_a_block(text: str, room: int) -> int:
    """Where a code block begins that would be cut in two although it fits into a part of its own."""
    fences = [match.start() for match in FENCE.finditer(text)]
    for start, end in zip(fences[::2], fences[1::2], strict=False):
        if 0 < start <= room < end + 3:
            return start if end + 3 - start <= room else 0
    return 0


def _after_a_line(text: str, room: int) -> int:
    """The end of the last line that fits, unless that would leave most of the part empty."""
    at = text.rfind("\n", 1, room + 1)
    return at if at > room // 2 else 0


def _open_fence(text: str) -> str:
    """ "`" and the language of the code block that a text ends in; empty outside of one."""
    fences = FENCE.findall(text)
    return "`" + str(fences[-1]) if len(fences) % 2 else ""


def _shortened(part: str, limit: int) -> str:
    end = CLOSE if part.endswith(CLOSE) else ""
    body = part[: len(part) - len(end)]
    return body[: limit - len(end) - len(MORE) - 1] + MORE + end
