"""What the simulated model servers share: what a model says, and the ways in which its server fails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Way = Literal[
    "hang", "drop", "html", "truncated", "empty", "no content", "refusal", "huge", "stops", "no credit", "odd shape"
]
HUGE_BYTES = 10 * 1024 * 1024
HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """A status, or one of the ways in which a server fails that answers 200 or nothing; it hangs for `pause_s`."""

    kind: int | Way
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 60.0


@dataclass(slots=True)
class Script:
    """What a simulated model says to a list of messages, how fast, and how it fails next.

    `first_s` passes before the first word and `word_s` before each further one. Whole requests are in `requests`.
    """

    say: Callable[[list[dict[str, Any]]], str] = lambda messages: f"You said: {messages[-1]['content']}"
    first_s: float = 0.0
    word_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    # Requests under way, and the most there ever were at once.
    under_way: int = 0
    most_under_way: int = 0
    _faults: deque[Fault] = field(default_factory=deque)
    _always: Fault | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail_next(self, kind: int | Way, *, times: int = 1, pause_s: float = 60.0, **headers: str) -> None:
        """Fail the next requests; headers are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.extend([Fault(kind, named, pause_s)] * times)

    def fail_always(self, kind: int | Way | None, **headers: str) -> None:
        """Fail every request from now on; None: no longer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._always = None if kind is None else Fault(kind, named)

    def take_fault(self) -> Fault | None:
        return self._faults.popleft() if self._faults else self._always

    def forget(self) -> None:
        """Be as new."""
        self.say, self.first_s, self.word_s = (lambda messages: f"You said: {messages[-1]['content']}"), 0.0, 0.0
        self.requests.clear()
        self.headers.clear()
        self._faults.clear()
        self._always = None
        self.most_under_way = self.under_way

    def note(self, headers: Any, body: dict[str, Any]) -> None:
        with self._lock:
            self.requests.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})

    def __enter__(self) -> None:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.under_way -= 1


async def answer_badly(request: web.Request, fault: Fault) -> web.StreamResponse | None:
    """The answer of a server that fails, where that is the same for all; None where it is the API's own."""
    if fault.kind == "hang":
        await asyncio.sleep(fault.pause_s)
        return web.Response(status=504)
    if fault.kind == "drop":
        assert request.transport is not None
        request.transport.close()
        return web.Response()
    if fault.kind == "html":
        return web.Response(text=HTML, content_type="text/html")
    if fault.kind == "truncated":
        return web.Response(body=b'{"id":"chatcmpl-1","choices":[{"index":0,"mess', content_type="application/json")
    if fault.kind == "huge":
        return web.Response(body=huge(), content_type="application/json")
    return None


def huge() -> bytes:
    """Valid JSON of ten megabytes."""
    message = {"role": "assistant", "content": "x" * HUGE_BYTES}
    return json.dumps({"id": "1", "choices": [{"index": 0, "message": message}], "message": message}).encode()


def count_tokens(text: str) -> int:
    """As good as any: four characters make a token."""
    return max(1, len(text) // 4)


def words_of(text: str) -> list[str]:
    """A text in the pieces in which it is streamed."""
    return [word + " " for word in text.split(" ")[:-1]] + text.split(" ")[-1:]
