"""The gateway: sessions over WebSocket, with identify, heartbeats, resume and everything that can go wrong with them.

Source: https://discord.com/developers/docs/events/gateway
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from .world import Guild, World

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, REQUEST_MEMBERS = 0, 1, 2, 6, 7, 8
INVALID_SESSION, HELLO, HEARTBEAT_ACK = 9, 10, 11
NOT_AUTHENTICATED, BAD_TOKEN, BAD_SHARD, DISALLOWED_INTENTS = 4003, 4004, 4010, 4014

GUILDS, MEMBERS, MODERATION, VOICE_STATES, PRESENCES, MESSAGES, REACTIONS = (1 << n for n in (0, 1, 2, 7, 8, 9, 10))
MESSAGE_CONTENT = 1 << 15
PRIVILEGED = MEMBERS | PRESENCES | MESSAGE_CONTENT
NEEDS = {
    "MESSAGE_": MESSAGES,
    "MESSAGE_REACTION": REACTIONS,
    "GUILD_MEMBER": MEMBERS,
    "GUILD_BAN": MODERATION,
    "GUILD_AUDIT_LOG": MODERATION,
    "VOICE_STATE": VOICE_STATES,
    "GUILD_": GUILDS,
}
MAX_REPLAY = 20_000
MAX_ASKED_FOR, MAX_CHUNK = 100, 1000


@dataclass(slots=True)
class Session:
    """What RESUME finds again."""

    id: str
    shard: int
    shard_count: int
    intents: int
    sequence: int = 0
    sent: deque[tuple[int, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=MAX_REPLAY))
    connection: Connection | None = None

    def has(self, guild_id: str) -> bool:
        return (int(guild_id) >> 22) % self.shard_count == self.shard

    def wants(self, event: str) -> bool:
        needed = next((bit for name, bit in NEEDS.items() if event.startswith(name) and name != "MESSAGE_"), None)
        if event.startswith("MESSAGE_") and needed is None:
            needed = MESSAGES
        return needed is None or bool(self.intents & needed)


class Connection:
    """One socket."""

    def __init__(self, socket: web.WebSocketResponse, *, compressed: bool, resumes: str = "") -> None:
        self.socket = socket
        # The session whose address this is.
        self.resumes = resumes
        self.session: Session | None = None
        self.deaf = False
        # By us, so that its session can be resumed whatever code the other side answers with.
        self.dropped = False
        self._zlib = zlib.compressobj() if compressed else None

    async def send(self, payload: dict[str, Any]) -> None:
        if self.deaf or self.socket.closed:
            return
        text = json.dumps(payload, separators=(",", ":"))
        with contextlib.suppress(ConnectionError):
            if self._zlib is None:
                await self.socket.send_str(text)
            else:
                packed = self._zlib.compress(text.encode()) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
                await self.socket.send_bytes(packed)


class Gateway:
    """Every session and what is broken. All of it belongs to the simulator's loop."""

    def __init__(self, world: World, token: str) -> None:
        self.world = world
        self.token = token
        self.url = ""
        self.heartbeat_interval_s = 41.25
        self.identify_spacing_s = 5.0
        self.max_concurrency = 1
        self.allowed_intents = PRIVILEGED
        self.acks = True
        self.refuses_resumes = False
        self.sessions: dict[str, Session] = {}
        self.connections: set[Connection] = set()
        # (time, shard) of every IDENTIFY, and those that came too soon after another.
        self.identifies: list[tuple[float, int]] = []
        self.identified_too_soon: list[int] = []
        self.resumes: list[bool] = []
        # Those that came to another address than their READY named.
        self.resumed_elsewhere = 0
        self.close_codes: list[int] = []
        self._identified_at: dict[int, float] = {}

    def reset(self) -> None:
        self.acks, self.refuses_resumes = True, False
        self.resumed_elsewhere = 0
        self.allowed_intents = PRIVILEGED
        for records in (self.identifies, self.identified_too_soon, self.resumes, self.close_codes):
            records.clear()

    # Sockets

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=4096 * 4, compress=False)
        await socket.prepare(request)
        compressed = request.query.get("compress") == "zlib-stream"
        connection = Connection(socket, compressed=compressed, resumes=request.match_info.get("session", ""))
        self.connections.add(connection)
        try:
            await connection.send({"op": HELLO, "d": {"heartbeat_interval": int(self.heartbeat_interval_s * 1000)}})
            async for message in socket:
                if message.type is WSMsgType.TEXT and not connection.deaf:
                    await self._receive(connection, json.loads(message.data))
        finally:
            self.connections.discard(connection)
            if socket.close_code:
                self.close_codes.append(socket.close_code)
            session = connection.session
            if session is not None and session.connection is connection:
                session.connection = None
                # The client that closes with these is done with its session.
                if socket.close_code in (1000, 1001) and not connection.dropped:
                    self.sessions.pop(session.id, None)
        return socket

    async def _receive(self, connection: Connection, payload: dict[str, Any]) -> None:
        op, data = payload.get("op"), payload.get("d")
        if op == HEARTBEAT:
            if self.acks:
                await connection.send({"op": HEARTBEAT_ACK, "d": None, "s": None, "t": None})
        elif op == IDENTIFY and isinstance(data, dict):
            await self._identify(connection, data)
        elif op == RESUME and isinstance(data, dict):
            await self._resume(connection, data)
        elif op == REQUEST_MEMBERS and isinstance(data, dict) and connection.session:
            await self._members(connection.session, data)
        elif connection.session is None:
            await connection.socket.close(code=NOT_AUTHENTICATED)

    async def _identify(self, connection: Connection, data: dict[str, Any]) -> None:
        shard, count = data.get("shard") or (0, 1)
        if data.get("token") != self.token:
            await connection.socket.close(code=BAD_TOKEN, message=b"Authentication failed.")
            return
        if not 0 <= shard < count:
            await connection.socket.close(code=BAD_SHARD, message=b"Invalid shard.")
            return
        self.identifies.append((time.monotonic(), shard))
        if self._is_too_soon(shard):
            self.identified_too_soon.append(shard)
            await connection.send({"op": INVALID_SESSION, "d": False, "s": None, "t": None})
            return
        if data["intents"] & PRIVILEGED & ~self.allowed_intents:
            await connection.socket.close(code=DISALLOWED_INTENTS, message=b"Disallowed intent(s).")
            return
        session = Session(secrets.token_hex(16), shard, count, data["intents"], connection=connection)
        connection.session = self.sessions[session.id] = session
        await self._greet(session)

    def _is_too_soon(self, shard: int) -> bool:
        bucket, now = shard % self.max_concurrency, time.monotonic()
        # Discord measures the same five seconds, give or take what the network adds.
        too_soon = now - self._identified_at.get(bucket, -1e9) < self.identify_spacing_s * 0.98
        if not too_soon:
            self._identified_at[bucket] = now
        return too_soon

    async def _greet(self, session: Session) -> None:
        world = self.world
        guilds = [each for each in world.guilds.values() if session.has(each.id) and world.bot.id in each.members]
        await self._send(
            session,
            "READY",
            {
                "v": 10,
                "user": {**world.bot.payload(), "verified": True, "mfa_enabled": False, "email": None},
                "guilds": [{"id": guild.id, "unavailable": True} for guild in guilds],
                "session_id": session.id,
                "resume_gateway_url": f"{self.url}/{session.id}",
                "application": {"id": world.application_id, "flags": 0},
                "shard": [session.shard, session.shard_count],
                "_trace": ["simulated"],
            },
        )
        for guild in guilds:
            if not guild.unavailable:
                await self._send(session, "GUILD_CREATE", guild.payload(world.bot.id))

    async def _resume(self, connection: Connection, data: dict[str, Any]) -> None:
        session = self.sessions.get(data.get("session_id") or "")
        accepted = session is not None and not self.refuses_resumes and data.get("token") == self.token
        self.resumes.append(accepted)
        self.resumed_elsewhere += connection.resumes != data.get("session_id")
        if session is None or not accepted:
            if session is not None:
                self.sessions.pop(session.id, None)
            await connection.send({"op": INVALID_SESSION, "d": False, "s": None, "t": None})
            return
        session.connection, connection.session = connection, session
        missed = [payload for sequence, payload in list(session.sent) if sequence > int(data.get("seq") or 0)]
        for payload in missed:
            await connection.send(payload)
        await self._send(session, "RESUMED", {"_trace": ["simulated"]})

    async def _members(self, session: Session, data: dict[str, Any]) -> None:
        """Those who were asked for by number, by what their names begin with, or all; in chunks of a thousand."""
        guild = self.world.guilds[str(data["guild_id"])]
        members, missing = list(guild.members.values()), []
        if "user_ids" in data:
            asked = data["user_ids"] if isinstance(data["user_ids"], list) else [data["user_ids"]]
            wanted = [str(each) for each in asked][:MAX_ASKED_FOR]
            members = [guild.members[each] for each in wanted if each in guild.members]
            missing = [each for each in wanted if each not in guild.members]
        elif query := str(data.get("query") or "").lower():
            members = [each for each in members if (each.nick or each.user.name).lower().startswith(query)]
        members = members[: int(data.get("limit") or 0) or None]
        chunks = [members[at : at + MAX_CHUNK] for at in range(0, len(members), MAX_CHUNK)] or [[]]
        for index, chunk in enumerate(chunks):
            told = {
                "guild_id": guild.id,
                "members": [each.payload() for each in chunk],
                "chunk_index": index,
                "chunk_count": len(chunks),
                "not_found": missing,
                "nonce": data.get("nonce"),
            }
            await self._send(session, "GUILD_MEMBERS_CHUNK", told)

    async def _send(self, session: Session, event: str, data: Any) -> None:
        session.sequence += 1
        payload = {"op": DISPATCH, "s": session.sequence, "t": event, "d": data}
        session.sent.append((session.sequence, payload))
        if session.connection is not None:
            await session.connection.send(payload)

    # What happens

    async def dispatch(self, guild_id: str, event: str, data: Any) -> int:
        """Tell every session that has this server and asked for such events. Returns how many those were."""
        if isinstance(data, dict) and "id" in data:
            self.world.note(event, data)
        told = 0
        for session in list(self.sessions.values()):
            if session.has(guild_id) and session.wants(event):
                await self._send(session, event, self._as_seen(session, event, data))
                told += 1
        return told

    def _as_seen(self, session: Session, event: str, data: Any) -> Any:
        """Without the intent for it a message has no content, unless it mentions the bot or is the bot's own."""
        if event not in ("MESSAGE_CREATE", "MESSAGE_UPDATE") or session.intents & MESSAGE_CONTENT:
            return data
        bot_id = self.world.bot.id
        if data["author"]["id"] == bot_id or any(user["id"] == bot_id for user in data["mentions"]):
            return data
        return {**data, "content": "", "attachments": [], "embeds": [], "components": []}

    async def raw(self, payload: dict[str, Any], *, sequenced: bool = True) -> None:
        """Send something as it is to every session: a malformed dispatch, say."""
        for session in list(self.sessions.values()):
            if sequenced and payload.get("op") == DISPATCH:
                await self._send(session, payload["t"], payload["d"])
            elif session.connection is not None:
                await session.connection.send(payload)

    async def reconnect_all(self) -> None:
        """Ask every client to connect again and resume, as Discord does when it moves a session."""
        await self.raw({"op": RECONNECT, "d": None, "s": None, "t": None})

    async def invalidate_all(self, *, resumable: bool) -> None:
        if not resumable:
            gone, self.sessions = list(self.sessions.values()), {}
        else:
            gone = list(self.sessions.values())
        for session in gone:
            if session.connection is not None:
                await session.connection.send({"op": INVALID_SESSION, "d": resumable, "s": None, "t": None})

    async def drop_all(self, code: int = 4000) -> None:
        """Close every socket."""
        for connection in list(self.connections):
            connection.dropped = True
            await connection.socket.close(code=code)

    def set_deaf(self, deaf: bool) -> None:
        """Let the sockets stay open on which nothing is heard or said any more. New ones are not deaf."""
        for connection in self.connections:
            connection.deaf = deaf

    async def set_available(self, guild: Guild, available: bool) -> None:
        guild.unavailable = not available
        if available:
            await self.dispatch(guild.id, "GUILD_CREATE", guild.payload(self.world.bot.id))
        else:
            await self.dispatch(guild.id, "GUILD_DELETE", {"id": guild.id, "unavailable": True})
