"""EventSub's WebSocket.

Source: https://dev.twitch.tv/docs/eventsub/handling-websocket-events/
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from .eventsub import EventSub, Subscription
from .wire import timestamp

CLIENT_SENT_TRAFFIC = 4001
CONNECTION_UNUSED = 4003
RECONNECT_GRACE_EXPIRED = 4004
NETWORK_TIMEOUT = 4005
NETWORK_ERROR = 4006
INVALID_RECONNECT = 4007
WHY_CLOSED = {
    CLIENT_SENT_TRAFFIC: ("client sent inbound traffic", "websocket_received_inbound_traffic"),
    CONNECTION_UNUSED: ("connection unused", "websocket_connection_unused"),
    RECONNECT_GRACE_EXPIRED: ("reconnect grace time expired", "websocket_failed_to_reconnect"),
    NETWORK_TIMEOUT: ("network timeout", "websocket_network_timeout"),
    NETWORK_ERROR: ("network error", "websocket_network_error"),
    INVALID_RECONNECT: ("invalid reconnect", "websocket_disconnected"),
}
MIN_KEEPALIVE_S, MAX_KEEPALIVE_S = 10, 600


@dataclass(eq=False)
class Session:
    id: str
    socket: web.WebSocketResponse
    keepalive_s: int
    connected_at: str = field(default_factory=timestamp)
    outgoing: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    # Connected, and neither keepalives nor notifications.
    is_deaf: bool = False
    reconnect_key: str = ""
    # Set when a new connection has taken over; it is the old one's sign to go.
    replaced: asyncio.Event = field(default_factory=asyncio.Event)


class Sockets:
    """The open sessions. Everything public may be called from any thread."""

    def __init__(self, eventsub: EventSub) -> None:
        self._eventsub = eventsub
        eventsub.sockets = self
        self._sessions: dict[str, Session] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        # What a client gets that asks for no other; Twitch allows 10 to 600.
        self.keepalive_s = 10
        self.unused_after_s = 10.0
        self.grace_s = 30.0
        # Sessions that have moved to a new connection so far.
        self.reconnects = 0
        # Whether a session that moves gets another id, which shards have to be bound to anew.
        self.renames = False

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/ws", self._serve)]

    def run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def sessions(self) -> list[str]:
        """The ids of those that are connected."""
        return list(self._sessions)

    def connected_at(self, session_id: str) -> str | None:
        session = self._sessions.get(session_id)
        return session.connected_at if session else None

    # What Twitch does of itself

    def deafen(self, session_id: str = "") -> None:
        """Keep a session, or all, connected and say nothing any more, not even a keepalive."""
        for session in self._chosen(session_id):
            session.is_deaf = True

    def close(self, session_id: str = "", *, code: int = NETWORK_ERROR) -> None:
        """Close a session, or all, as Twitch does."""
        for session in self._chosen(session_id):
            self._run(self._end(session, code))

    def drop(self, session_id: str = "") -> None:
        """Cut the connection without a word."""
        for session in self._chosen(session_id):
            self._run(self._abort(session))

    def reconnect(self, session_id: str = "") -> None:
        """Ask a session, or all, to connect anew elsewhere and take its subscriptions along."""
        for session in self._chosen(session_id):
            self._run(self._ask_to_reconnect(session))

    def notify(
        self, subscription: Subscription, event: Mapping[str, Any], *, session_id: str = "", message_id: str = ""
    ) -> None:
        """By the subscription's own session, or by that of a conduit's shard."""
        payload = {"subscription": subscription.to_wire(), "event": event}
        self._send(subscription, "notification", payload, session_id=session_id, message_id=message_id)

    def tell_revoked(self, subscription: Subscription, *, session_id: str = "") -> None:
        self._send(subscription, "revocation", {"subscription": subscription.to_wire()}, session_id=session_id)

    def _chosen(self, session_id: str) -> list[Session]:
        return [each for each in list(self._sessions.values()) if not session_id or each.id == session_id]

    def _run(self, work: Any) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def _send(
        self,
        subscription: Subscription,
        type_: str,
        payload: Mapping[str, Any],
        *,
        session_id: str = "",
        message_id: str = "",
    ) -> None:
        session = self._sessions.get(session_id or subscription.session_id)
        if session is None or session.is_deaf or self._loop is None:
            return
        about = {"subscription_type": subscription.type, "subscription_version": subscription.version}
        text = _message(type_, payload, {**about, **({"message_id": message_id} if message_id else {})})
        with contextlib.suppress(RuntimeError):  # The loop has ended.
            self._loop.call_soon_threadsafe(session.outgoing.put_nowait, text)

    # A connection

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        # Twitch pings, and a client that does not answer is cut off; aiohttp does both.
        socket = web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)
        key = request.query.get("reconnect_key", "")
        old = next((each for each in self._sessions.values() if key and each.reconnect_key == key), None)
        if key and old is None:
            await socket.close(code=INVALID_RECONNECT, message=WHY_CLOSED[INVALID_RECONNECT][0].encode())
            return socket
        session = self._open(socket, request.query.get("keepalive_timeout_seconds", ""), old)
        writer = asyncio.create_task(self._write(session))
        watcher = asyncio.create_task(self._watch_use(session))
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._end(session, CLIENT_SENT_TRAFFIC)
        finally:
            writer.cancel()
            watcher.cancel()
            self._note_gone(session, "websocket_disconnected")
        return socket

    def _open(self, socket: web.WebSocketResponse, wanted_s: str, old: Session | None) -> Session:
        keepalive_s = self.keepalive_s
        if wanted_s.isdecimal():
            keepalive_s = min(max(int(wanted_s), MIN_KEEPALIVE_S), MAX_KEEPALIVE_S)
        session_id = old.id if old and not self.renames else secrets.token_urlsafe(20)
        session = Session(session_id, socket, keepalive_s)
        session.outgoing.put_nowait(_message("session_welcome", {"session": _about(session, "connected")}))
        # From here on everything goes to the new connection.
        self._sessions[session.id] = session
        if old is not None:
            old.replaced.set()
            self.reconnects += 1
        return session

    async def _write(self, session: Session) -> None:
        while True:
            try:
                async with asyncio.timeout(session.keepalive_s):
                    text = await session.outgoing.get()
            except TimeoutError:
                text = _message("session_keepalive", {})
            if not session.is_deaf:
                await session.socket.send_str(text)

    async def _watch_use(self, session: Session) -> None:
        await asyncio.sleep(self.unused_after_s)
        conduits = self._eventsub.conduits
        is_used = any(each.session_id == session.id for each in self._eventsub)
        if not is_used and not (conduits and conduits.uses(session.id)):
            await self._end(session, CONNECTION_UNUSED)

    async def _end(self, session: Session, code: int) -> None:
        words, status = WHY_CLOSED.get(code, ("internal server error", "websocket_internal_error"))
        self._note_gone(session, status)
        await session.socket.close(code=code, message=words.encode())

    async def _abort(self, session: Session) -> None:
        self._note_gone(session, "websocket_network_error")
        request = session.socket._req
        if request is not None and request.transport is not None:
            request.transport.abort()

    async def _ask_to_reconnect(self, session: Session) -> None:
        session.reconnect_key = secrets.token_urlsafe(16)
        about = _about(session, "reconnecting") | {"keepalive_timeout_seconds": None}
        host = session.socket._req.host if session.socket._req else ""
        about["reconnect_url"] = f"ws://{host}/ws?reconnect_key={session.reconnect_key}"
        session.outgoing.put_nowait(_message("session_reconnect", {"session": about}))
        try:
            async with asyncio.timeout(self.grace_s):
                await session.replaced.wait()
        except TimeoutError:
            await self._end(session, RECONNECT_GRACE_EXPIRED)

    def _note_gone(self, session: Session, status: str) -> None:
        """Subscriptions end with their session, unless another connection has taken it over."""
        if self._sessions.get(session.id) is not session:
            return
        del self._sessions[session.id]
        if self._eventsub.conduits is not None:
            self._eventsub.conduits.note_gone(session.id, status)
        for each in self._eventsub:
            if each.session_id == session.id and each.is_enabled:
                each.status = status
                each.transport["disconnected_at"] = timestamp()


def _about(session: Session, status: str) -> dict[str, Any]:
    return {
        "id": session.id,
        "status": status,
        "connected_at": session.connected_at,
        "keepalive_timeout_seconds": session.keepalive_s,
        "reconnect_url": None,
        "recovery_url": None,
    }


def _message(type_: str, payload: Mapping[str, Any], more: Mapping[str, str] | None = None) -> str:
    metadata = {
        "message_id": str(uuid.uuid4()),
        "message_type": type_,
        "message_timestamp": timestamp(),
        **(more or {}),
    }
    return json.dumps({"metadata": metadata, "payload": payload}, ensure_ascii=False)
