"""What goes wrong at Spotify, as it was seen to go wrong there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

# `after 500`, `after drop`: what was asked for is done, and then the answer fails.
Kind = Literal[
    "hang", "drop", "html", "truncated", "huge", "string error", "not listed", "after 500", "after drop", "status"
]
HUGE = 10 * 1024 * 1024
PAGE = "<html><body><h1>Whoops!</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    reason: str = ""

    @property
    def is_after(self) -> bool:
        return self.kind.startswith("after")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.kind == "hang":
            await asyncio.sleep(30)
        if self.kind in ("drop", "after drop"):
            assert request.transport is not None
            request.transport.close()
            return web.Response(status=500)
        if self.kind == "html":
            return web.Response(status=self.status, text=PAGE, content_type="text/html")
        if self.kind == "truncated":
            return web.Response(text='{"tracks": {"items": [{"na', content_type="application/json")
        if self.kind == "huge":
            return web.Response(body=b'{"x": "' + b"x" * HUGE + b'"}', content_type="application/json")
        if self.kind == "string error":
            return web.json_response({"error": "server_error"}, status=self.status)
        if self.kind == "not listed":
            return not_listed()
        return refusal(self.status, self.message or "simulated", self.reason, headers=self.headers)


class Faults:
    def __init__(self) -> None:
        self._waiting: list[tuple[str, Fault]] = []

    def add(self, fault: Fault, *, at: str, times: int) -> None:
        self._waiting += [(at, fault)] * times

    def clear(self) -> None:
        self._waiting.clear()

    def next(self, path: str) -> Fault | None:
        for number, (at, fault) in enumerate(self._waiting):
            if not at or at == path:
                del self._waiting[number]
                return fault
        return None


def refusal(
    status: int, message: str, reason: str = "", *, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    error: dict[str, Any] = {"status": status, "message": message, **({"reason": reason} if reason else {})}
    return web.Response(
        status=status, text=json.dumps({"error": error}), content_type="application/json", headers=headers
    )


def not_listed() -> web.StreamResponse:
    """Of an app in development mode: plain text, not JSON."""
    text = "User not registered in the Developer Dashboard"
    return web.Response(status=403, text=text, content_type="text/plain")
