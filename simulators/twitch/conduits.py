"""EventSub's conduits: many subscriptions, spread over shards that are sockets or webhooks.

Source: https://dev.twitch.tv/docs/eventsub/handling-conduit-events/
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from .eventsub import ENABLED, FAILED, PENDING, UNVERIFIED, EventSub, Subscription, sign
from .oauth import Token
from .wire import Refused, encode, read_object, timestamp

MAX_CONDUITS = 5
MAX_SHARDS = 20_000
MAX_AT_ONCE = 100
PAGE = 100
MAX_HOLD_S = 30.0
DELETED_AFTER_S = 72 * 3600.0
INVALID_SHARD, INVALID_SESSION = "invalid_parameter", "websocket_session_not_found"


@dataclass(slots=True)
class Shard:
    """What one shard is bound to; `secret` only for a webhook."""

    id: str
    status: str
    transport: dict[str, str]
    secret: bytes = b""

    @property
    def session_id(self) -> str:
        return self.transport.get("session_id", "")

    def to_wire(self) -> dict[str, Any]:
        return {"id": self.id, "status": self.status, "transport": self.transport}


@dataclass(slots=True)
class Conduit:
    id: str
    count: int
    # Only those that were ever assigned: a new conduit lists none.
    shards: dict[str, Shard] = field(default_factory=dict)
    # Since when not one of them is enabled.
    deserted_at: float | None = None

    def to_wire(self) -> dict[str, Any]:
        return {"id": self.id, "shard_count": self.count}


class Conduits:
    """The app's conduits. May be called from any thread; the public attributes are what a test turns."""

    def __init__(self, eventsub: EventSub) -> None:
        self._eventsub = eventsub
        eventsub.conduits = self
        self.by_id: dict[str, Conduit] = {}
        self.deleted_after_s = DELETED_AFTER_S
        # A shard above a lowered count stays alive (twitchdev issue 914).
        self.keeps_surplus = False
        # Every notification comes again by another shard, with the same id, as at-least-once allows.
        self.repeats = False
        # Shards whose next assignment is answered with an error of their own.
        self.refuses: dict[str, int] = {}
        # By shard, or "create": what its next request waits for, then the one after it; None for those that need not.
        self.holds: dict[str, list[threading.Event | None]] = {}
        # Sessions that a shard was ever bound to.
        self._used: set[str] = set()
        # Notifications that went to another shard than their channel's, and those that went nowhere.
        self.moved = 0
        self.dropped = 0

    def clear(self) -> None:
        self.by_id.clear()
        self.refuses.clear()
        self.holds.clear()
        self.keeps_surplus = self.repeats = False
        self.deleted_after_s = DELETED_AFTER_S
        self.moved = self.dropped = 0

    def get(self, conduit_id: str) -> Conduit:
        """Raises: Refused."""
        self._forget_the_deserted()
        found = self.by_id.get(conduit_id)
        if found is None:
            raise Refused(404, "")
        return found

    def shard_of(self, conduit: Conduit, channel: str) -> str:
        """The same channel is always the same shard's, while there are as many."""
        return str(zlib.crc32(channel.encode()) % conduit.count)

    async def wait(self, what: str) -> None:
        """Hold a request up for as long as a test wants."""
        if (waiting := self.holds.get(what)) and (hold := waiting.pop(0)):
            await asyncio.to_thread(hold.wait, MAX_HOLD_S)

    # Managing

    def create(self, count: int) -> Conduit:
        """Raises: Refused."""
        self._forget_the_deserted()
        _check_count(count)
        if len(self.by_id) >= MAX_CONDUITS:
            raise Refused(429, "maximum number of conduits exceeded")
        made = Conduit(str(uuid.uuid4()), count, deserted_at=time.monotonic())
        self.by_id[made.id] = made
        return made

    def resize(self, conduit_id: str, count: int) -> Conduit:
        """Raises: Refused."""
        conduit = self.get(conduit_id)
        _check_count(count)
        conduit.count = count
        for shard in conduit.shards.values():
            if int(shard.id) >= count and not self.keeps_surplus:
                shard.status = "websocket_disconnected" if shard.session_id else FAILED
        self._note_deserted()
        return conduit

    def delete(self, conduit_id: str) -> None:
        """Raises: Refused."""
        self.get(conduit_id)
        self._end(conduit_id)

    def assign(self, conduit_id: str, asked: list[Any]) -> tuple[list[Shard], list[dict[str, str]]]:
        """Bind shards. What is wrong with one of them is told of that one, and the others are bound.

        Raises: Refused.
        """
        conduit = self.get(conduit_id)
        if not 1 <= len(asked) <= MAX_AT_ONCE:
            raise Refused(400, f"shards must be between 1 and {MAX_AT_ONCE}")
        done: list[Shard] = []
        errors: list[dict[str, str]] = []
        for each in asked:
            try:
                done.append(self._assign(conduit, each))
            except _ShardRefused as err:
                errors.append({"id": err.id, "message": err.message, "code": err.code})
        conduit.deserted_at = None if self._alive(conduit) else conduit.deserted_at
        return done, errors

    def _assign(self, conduit: Conduit, asked: Any) -> Shard:
        asked = asked if isinstance(asked, dict) else {}
        id_, transport = str(asked.get("id", "")), asked.get("transport") or {}
        if self.refuses.get(id_, 0) > 0:
            self.refuses[id_] -= 1
            raise _ShardRefused(id_, "the shard could not be updated", "internal_error")
        if not id_.isdecimal() or int(id_) >= conduit.count:
            raise _ShardRefused(id_, "the shard id is outside the conduit's range", INVALID_SHARD)
        if transport.get("method") == "webhook":
            return self._assign_webhook(conduit, id_, transport)
        session_id = str(transport.get("session_id", ""))
        sockets = self._eventsub.sockets
        connected_at = sockets.connected_at(session_id) if sockets else None
        if transport.get("method") != "websocket" or connected_at is None:
            raise _ShardRefused(id_, "the websocket session does not exist or is not connected", INVALID_SESSION)
        self._used.add(session_id)
        about = {"method": "websocket", "session_id": session_id, "connected_at": connected_at}
        conduit.shards[id_] = Shard(id_, ENABLED, about)
        return conduit.shards[id_]

    def _assign_webhook(self, conduit: Conduit, id_: str, transport: Mapping[str, str]) -> Shard:
        callback, secret = str(transport.get("callback", "")), str(transport.get("secret", ""))
        if not callback.startswith("https://") or not 10 <= len(secret) <= 100:
            raise _ShardRefused(id_, "invalid webhook transport", INVALID_SHARD)
        made = Shard(id_, PENDING, {"method": "webhook", "callback": callback}, secret.encode())
        conduit.shards[id_] = made
        self._eventsub.run_soon(lambda: self._verify(conduit, made))
        return made

    def _verify(self, conduit: Conduit, shard: Shard) -> None:
        challenge = secrets.token_urlsafe(32)
        about = {"conduit_id": conduit.id, "shard": {**shard.to_wire()}}
        body = encode({"challenge": challenge, "conduit_shard": about})
        signed = sign(shard.secret, body, kind="webhook_callback_verification", subscription_type="conduit.shard")
        answer = self._eventsub.post(replace(signed, url=shard.transport["callback"]))
        proved = answer == 200 if isinstance(answer, int) else (answer.status, answer.body) == (200, challenge.encode())
        shard.status = ENABLED if proved else UNVERIFIED
        conduit.deserted_at = None if self._alive(conduit) else conduit.deserted_at

    # Delivering

    def uses(self, session_id: str) -> bool:
        """Whether a shard is or was bound to it; what never was is closed after ten seconds."""
        return session_id in self._used

    def note_gone(self, session_id: str, status: str) -> None:
        """A socket has ended, and with it what was bound to it."""
        for conduit in self.by_id.values():
            for shard in list(conduit.shards.values()):
                if shard.session_id == session_id and shard.status == ENABLED:
                    shard.status = status
                    shard.transport["disconnected_at"] = timestamp()
        self._note_deserted()

    def notify(self, subscription: Subscription, event: Mapping[str, Any]) -> None:
        """To its channel's shard; where that is disabled to one other; where that is too, to nobody."""
        conduit = self.by_id.get(subscription.transport["conduit_id"])
        if conduit is None:
            return
        id_ = self.shard_of(conduit, _channel(subscription))
        alive = self._alive(conduit)
        own = next((each for each in alive if each.id == id_), None)
        others = [each for each in alive if each is not own]
        taker = own or (others[int(id_) % len(others)] if others else None)
        if taker is None:
            self.dropped += 1
            return
        self.moved += taker is not own
        message_id = str(uuid.uuid4())
        for shard in [taker, *(others[:1] if self.repeats else [])]:
            self._send(shard, subscription, event, message_id)

    def _send(self, shard: Shard, subscription: Subscription, event: Mapping[str, Any], message_id: str) -> None:
        if shard.session_id:
            assert self._eventsub.sockets is not None
            self._eventsub.sockets.notify(subscription, event, session_id=shard.session_id, message_id=message_id)
            return
        body = encode({"subscription": subscription.to_wire(), "event": event})
        signed = sign(
            shard.secret, body, kind="notification", subscription_type=subscription.type, delivery_id=message_id
        )
        if not 200 <= self._eventsub.post_until_taken(replace(signed, url=shard.transport["callback"]))[-1] < 300:
            shard.status = FAILED
            self.dropped += 1
            self._note_deserted()

    def tell_revoked(self, subscription: Subscription) -> None:
        conduit = self.by_id.get(subscription.transport["conduit_id"])
        alive = self._alive(conduit) if conduit else []
        if alive and alive[0].session_id and self._eventsub.sockets is not None:
            self._eventsub.sockets.tell_revoked(subscription, session_id=alive[0].session_id)

    def _alive(self, conduit: Conduit) -> list[Shard]:
        kept = {id_: each for id_, each in conduit.shards.items() if self.keeps_surplus or int(id_) < conduit.count}
        return [each for each in kept.values() if each.status == ENABLED]

    # Ending

    def _note_deserted(self) -> None:
        for conduit in self.by_id.values():
            if not self._alive(conduit) and conduit.deserted_at is None:
                conduit.deserted_at = time.monotonic()

    def _forget_the_deserted(self) -> None:
        for conduit in list(self.by_id.values()):
            if conduit.deserted_at is not None and time.monotonic() - conduit.deserted_at >= self.deleted_after_s:
                self._end(conduit.id)

    def _end(self, conduit_id: str) -> None:
        del self.by_id[conduit_id]
        for each in self._eventsub:
            if each.transport.get("conduit_id") == conduit_id:
                each.status = "conduit_deleted"


class _ShardRefused(Exception):
    def __init__(self, id_: str, message: str, code: str) -> None:
        super().__init__(message)
        self.id, self.message, self.code = id_, message, code


def _check_count(count: Any) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_SHARDS:
        raise Refused(400, f"shard_count must be between 1 and {MAX_SHARDS}")


def _channel(subscription: Subscription) -> str:
    return next(iter(sorted(subscription.condition.items())))[1]


class ConduitRoutes:
    """/helix/eventsub/conduits and its shards; whoever calls has been checked."""

    def __init__(self, conduits: Conduits) -> None:
        self._conduits = conduits

    async def get(self, _: web.Request, token: Token) -> web.Response:
        _check_app(token)
        self._conduits._forget_the_deserted()
        return web.json_response({"data": [each.to_wire() for each in self._conduits.by_id.values()]})

    async def post(self, request: web.Request, token: Token) -> web.Response:
        _check_app(token)
        await self._conduits.wait("create")
        made = self._conduits.create((await read_object(request)).get("shard_count"))
        return web.json_response({"data": [made.to_wire()]})

    async def patch(self, request: web.Request, token: Token) -> web.Response:
        _check_app(token)
        asked = await read_object(request)
        changed = self._conduits.resize(str(asked.get("id", "")), asked.get("shard_count"))
        return web.json_response({"data": [changed.to_wire()]})

    async def delete(self, request: web.Request, token: Token) -> web.Response:
        _check_app(token)
        self._conduits.delete(request.query.get("id", ""))
        return web.Response(status=204)

    async def get_shards(self, request: web.Request, token: Token) -> web.Response:
        _check_app(token)
        conduit = self._conduits.get(request.query.get("conduit_id", ""))
        status, cursor = request.query.get("status"), request.query.get("after", "0")
        after = int(cursor) if cursor.isdecimal() else 0
        found = [each for each in conduit.shards.values() if status in (None, each.status)]
        page = found[after : after + PAGE]
        more = {"cursor": str(after + PAGE)} if after + PAGE < len(found) else {}
        return web.json_response({"data": [each.to_wire() for each in page], "pagination": more})

    async def patch_shards(self, request: web.Request, token: Token) -> web.Response:
        _check_app(token)
        asked = await read_object(request)
        shards = asked.get("shards") or []
        if not isinstance(shards, list) or not all(isinstance(each, dict) for each in shards):
            raise Refused(400, 'The parameter "shards" must be a list of objects.')
        for each in shards:
            await self._conduits.wait(str(each.get("id")))
        done, errors = self._conduits.assign(str(asked.get("conduit_id", "")), shards)
        return web.json_response({"data": [each.to_wire() for each in done], "errors": errors}, status=202)


def _check_app(token: Token) -> None:
    """Raises: Refused."""
    if not token.is_app:
        raise Refused(401, "OAuth token must be an app access token")
