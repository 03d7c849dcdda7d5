"""The words that all parts of the simulated Twitch have in common."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from aiohttp import web

STATUS_WORDS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    422: "Unprocessable",
    429: "Too Many Requests",
}

# Answers that are none, from something on the way.
BROKEN = {
    "html": "<!doctype html><h1>502 Bad Gateway</h1>",
    "truncated": '{"data": [{"id": "1',
    "empty": "",
    "huge": "x" * 10_000_000,
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signed POST of EventSub. `url` is the callback of its subscription, empty for one that nobody asked for."""

    headers: Mapping[str, str]
    body: bytes
    url: str = ""


class Answer(Protocol):
    """What a callback answers; `waddlebot.web.http.HTTPResponse` is one."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


# How a delivery is posted: by default over HTTP to the callback. A bare status stands for an answer that is right.
Post = Callable[[Delivery], "int | Answer"]


@dataclass(frozen=True, slots=True)
class Said:
    """A message that the bot sent through Helix."""

    message_id: str
    broadcaster_id: str
    sender_id: str
    message: str
    reply_parent_message_id: str
    at: float


class Refused(Exception):
    """A request that Twitch refuses, in its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def answer(self) -> web.Response:
        return error(self.status, self.message)


@dataclass(slots=True)
class Fault:
    """How the next requests end: a status, `hang`, or what their route says that it knows."""

    kind: str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


class Faults:
    """What is to go wrong, route by route."""

    def __init__(self) -> None:
        self._planned: dict[str, list[Fault]] = {}

    def plan(self, route: str, fault: Fault) -> None:
        self._planned.setdefault(route, []).append(fault)

    def next(self, route: str) -> Fault | None:
        planned = self._planned.get(route)
        if not planned:
            return None
        fault = planned[0]
        fault.times -= 1
        if fault.times <= 0:
            planned.pop(0)
        return fault

    def clear(self) -> None:
        self._planned.clear()


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A refusal; a 429 tells when there is room again. A header given as "" is left out."""
    limits = {"Ratelimit-Reset": str(int(time.time()) + 1), "Ratelimit-Remaining": "0"} if status == 429 else {}
    body = {"error": STATUS_WORDS.get(status, "Internal Server Error"), "status": status, "message": message}
    sent = {name: value for name, value in {**limits, **(headers or {})}.items() if value}
    return web.json_response(body, status=status, headers=sent)


async def read_object(request: web.Request) -> dict[str, Any]:
    """A body as Helix takes it: JSON that says so, and an object."""
    if request.content_type != "application/json":
        raise Refused(400, "The Content-Type header must be set to application/json.")
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "The request body must be a JSON object.")
    return body


def encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def timestamp(at: float | None = None) -> str:
    """A time as EventSub writes it, with nanoseconds; now unless one is given."""
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"


def seconds_timestamp(at: float | None = None) -> str:
    """A time as most of Helix writes it."""
    return datetime.fromtimestamp(time.time() if at is None else at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
