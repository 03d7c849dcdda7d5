"""Socket mode: what Slack would post goes down WebSockets instead, each envelope down one of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from .state import Answered
from .web_api import SlackError

if TYPE_CHECKING:
    from .simulator import SlackSimulator

MAX_CONNECTIONS = 10
PATIENCE_S = 10.0


@dataclass(slots=True)
class Acked:
    """An envelope that was acknowledged, how soon and after how many tries."""

    envelope_id: str
    payload: Any
    tries: int
    took_s: float


@dataclass(slots=True, eq=False)
class Connection:
    socket: web.WebSocketResponse
    envelopes: list[str] = field(default_factory=list)


class Sockets:
    def __init__(self, slack: SlackSimulator) -> None:
        self._slack = slack
        self._tickets: set[str] = set()
        self._turns = itertools.count()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self.connections: list[Connection] = []
        # Slack waits three seconds for an acknowledgement.
        self.ack_within_s = 3.0

    def open(self, app_token: str) -> dict[str, Any]:
        if app_token != self._slack.app_token:
            raise SlackError("invalid_auth" if app_token else "not_authed")
        if not self._slack.socket_mode_is_on:
            raise SlackError("socket_mode_not_enabled")
        ticket = secrets.token_urlsafe(16)
        self._tickets.add(ticket)
        return {"ok": True, "url": f"{self._slack.url.replace('http', 'ws', 1)}/link/?ticket={ticket}&app_id=1"}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.Response(status=404)
        self._tickets.remove(ticket)
        if len(self.connections) >= MAX_CONNECTIONS:
            return web.Response(status=408, text="too_many_websockets")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(socket)
        self.connections.append(connection)
        try:
            await socket.send_json(
                {
                    "type": "hello",
                    "num_connections": len(self.connections),
                    "debug_info": {"host": "simulated", "build_number": 1, "approximate_connection_time": 18060},
                    "connection_info": {"app_id": self._slack.app_id},
                }
            )
            async for message in socket:
                if message.type is WSMsgType.TEXT and message.data.startswith("{"):
                    self._acknowledge(json.loads(message.data))
        finally:
            self.connections.remove(connection)
        return socket

    def _acknowledge(self, ack: dict[str, Any]) -> None:
        waiting = self._waiting.get(ack.get("envelope_id", ""))
        if waiting is not None and not waiting.done():
            waiting.set_result(ack.get("payload"))

    async def deliver(self, type_: str, payload: dict[str, Any], *, tries: int = 4) -> Answered:
        """Send an envelope until one of the connections acknowledges it. Status 0: none did."""
        started = time.monotonic()
        reason = ""
        for attempt in range(tries):
            connection = await self._next_connection()
            if connection is None:
                return Answered(0)
            envelope_id = str(uuid.uuid4())
            envelope = {
                "type": type_,
                "envelope_id": envelope_id,
                "payload": payload,
                "accepts_response_payload": type_ != "events_api",
            }
            if type_ == "events_api":
                envelope |= {"retry_attempt": attempt, "retry_reason": reason}
            waiting = self._waiting[envelope_id] = asyncio.get_running_loop().create_future()
            try:
                await connection.socket.send_json(envelope)
                connection.envelopes.append(envelope_id)
                answer = await asyncio.wait_for(waiting, self.ack_within_s)
            except (TimeoutError, ConnectionError):
                reason = "timeout"
                continue
            finally:
                del self._waiting[envelope_id]
            self._slack.acks.append(Acked(envelope_id, answer, attempt + 1, time.monotonic() - started))
            return Answered(200, json.dumps(answer).encode() if answer is not None else b"")
        return Answered(0)

    async def _next_connection(self) -> Connection | None:
        """Each in its turn; an app without a connection has a while to come back."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            usable = [each for each in self.connections if not each.socket.closed]
            if usable:
                return usable[next(self._turns) % len(usable)]
            await asyncio.sleep(0.02)
        return None

    async def disconnect(self, reason: str) -> None:
        """Tell every connection that its time is up, and close all of them unless it is only a warning."""
        for connection in list(self.connections):
            await connection.socket.send_json({"type": "disconnect", "reason": reason, "debug_info": {"host": "sim"}})
            if reason != "warning":
                await connection.socket.close()
