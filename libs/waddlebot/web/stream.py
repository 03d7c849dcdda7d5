"""Answers that go on: what a streaming endpoint yields, and how it gets from the app to the edge.

The app authenticates and validates in a thread, as for any endpoint, and then hands the generator over to the edge by
way of the environ. Without an edge (in tests, and in calls within the process) what it yields is gathered instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, MutableMapping
from dataclasses import dataclass
from typing import Any

from ..base.wire import to_json

SSE_TYPE = "text/event-stream; charset=utf-8"
SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HANDED_OVER = "waddlebot.stream"
# How long a stream without an edge is listened to.
GATHER_S = 5.0


@dataclass(frozen=True, slots=True)
class Stream:
    """A generator that has not begun, and whose it is: streams are counted for each key, or address without one."""

    pieces: AsyncGenerator[str, None]
    owner: str


def sse(data: Any, *, event: str = "", event_id: str = "") -> str:
    """One server-sent event. Data that is not text is sent as JSON.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    text = data if isinstance(data, str) else to_json(data)
    lines = [f"event: {event}"] if event else []
    lines += [f"id: {event_id}"] if event_id else []
    lines += [f"data: {line}" for line in text.splitlines() or [""]]
    return "\n".join(lines) + "\n\n"


def at_the_edge() -> dict[str, Any]:
    """What an environ holds when whoever made it can take a stream."""
    return {HANDED_OVER: None}


def hand_over(environ: MutableMapping[str, Any], stream: Stream) -> str:
    """Give a stream to the edge and return ""; where there is none, return what it yields within 5 s."""
    if HANDED_OVER in environ:
        environ[HANDED_OVER] = stream
        return ""
    return asyncio.run(_gather(stream.pieces))


async def _gather(pieces: AsyncGenerator[str, None]) -> str:
    heard: list[str] = []
    async with contextlib.aclosing(pieces):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                async for piece in pieces:
                    heard.append(piece)
    return "".join(heard)
