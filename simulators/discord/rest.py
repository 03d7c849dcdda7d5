"""Discord's REST, as far as a bot needs it: the same paths, checks, error codes and limits.

Source: https://discord.com/developers/docs/reference
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from .gateway import Gateway
from .world import MAX_CONTENT_CHARS, Channel, Guild, Said, World, iso, snowflake

NONCE_FOR_S = 300.0
MAX_NONCE_CHARS, MAX_EMBEDS = 25, 10
INTERACTION_FOR_S = 15 * 60.0
ACK_WITHIN_S = 3.0
# The kinds of answers: one that says something, one that says "is thinking…", and all; and flags of messages.
ANSWERED, DEFERRED = 4, 5
ANSWER_TYPES = (1, 4, 5, 6, 7, 8, 9, 10, 12)
EPHEMERAL, LOADING = 64, 128
# What fields of a message and an answer are, and what Discord says where one is not.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "content": ((str, int, float), "STRING_TYPE_CONVERT"),
    "embeds": ((list,), "LIST_TYPE_CONVERT"),
    "nonce": ((str, int), "STRING_TYPE_CONVERT"),
    "message_reference": ((dict,), "MODEL_TYPE_CONVERT"),
    "allowed_mentions": ((dict,), "MODEL_TYPE_CONVERT"),
    "data": ((dict,), "MODEL_TYPE_CONVERT"),
}
FAST_METHODS = frozenset({"GET", "HEAD"})


@dataclass(slots=True)
class Fault:
    """How the next requests to a path that contains `on` end: a status, `hang`, `drop` (nothing done, no answer) or
    `lost` (done, no answer)."""

    kind: str
    times: int = 1
    on: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(slots=True)
class Interaction:
    """A slash command that somebody used, and how it was answered."""

    id: str
    token: str
    guild_id: str
    channel_id: str
    user_id: str
    at: float
    acked_at: float = 0.0
    ack_type: int = 0
    ephemeral: bool = False
    original: str = ""
    replies: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    """One request as it was made."""

    method: str
    path: str
    body: Any
    at: float
    status: int = 0


class Refusal(Exception):
    """Discord says no."""

    def __init__(self, status: int, code: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "code": code, **more}


class Bucket:
    """A rate limit: so many requests in so many seconds."""

    def __init__(self, limit: int, per_s: float) -> None:
        self.limit = limit
        self.per_s = per_s
        self._at: deque[float] = deque()

    def take(self) -> float:
        """Zero, or how long to wait."""
        now = time.monotonic()
        while self._at and now - self._at[0] >= self.per_s:
            self._at.popleft()
        if len(self._at) >= self.limit:
            return self.per_s - (now - self._at[0])
        self._at.append(now)
        return 0.0

    @property
    def remaining(self) -> int:
        return self.limit - len(self._at)

    @property
    def reset_after_s(self) -> float:
        return self.per_s - (time.monotonic() - self._at[0]) if self._at else self.per_s


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is, and what they agreed to."""

    user_id: str
    scopes: tuple[str, ...]


class _Created(dict[str, Any]):
    """An answer that something was made: 201."""


Handler = Callable[[web.Request], Awaitable[Any]]
# What a person's own token opens, and the scope that it needs.
# Source: https://discord.com/developers/docs/topics/oauth2#shared-resources-oauth2-scopes
PERSONS_OWN = {"/api/v10/users/@me": "identify", "/api/v10/users/@me/guilds": "guilds"}
MAX_GUILDS = 200


class Rest:
    """Everything below /api/v10, and the page where people add a bot to a server."""

    def __init__(
        self, world: World, gateway: Gateway, *, token: str, client_secret: str, said: Callable[[Said], None]
    ) -> None:
        self.world = world
        self.gateway = gateway
        self.token = token
        self.client_secret = client_secret
        self.requests: deque[Request] = deque(maxlen=100_000)
        self.interactions: dict[str, Interaction] = {}
        self.reactions: list[tuple[str, str, str]] = []
        self.messages: dict[str, Said] = {}
        self.deleted: list[str] = []
        self.dm_channels: dict[str, Channel] = {}
        self.faults: list[Fault] = []
        self.delay_s = 0.0
        self.message_limit, self.message_per_s = 5, 5.0
        self.global_limit = 50
        self.has_soundboard = True
        self.recommended_shards = 1
        self.identifies_left = 1000
        self.interaction_for_s = INTERACTION_FOR_S
        self.codes: dict[str, dict[str, str]] = {}
        self.bearers: dict[str, Bearer] = {}
        self._said = said
        self._nonces: dict[tuple[str, str], tuple[float, str]] = {}
        self._buckets: dict[str, Bucket] = {}
        self._global = Bucket(self.global_limit, 1.0)

    def reset(self) -> None:
        for records in (self.requests, self.reactions, self.deleted, self.faults):
            records.clear()
        for tables in (self.messages, self._nonces, self._buckets, self.interactions):
            tables.clear()
        self.delay_s, self.has_soundboard, self.recommended_shards = 0.0, True, 1
        self.identifies_left, self.interaction_for_s = 1000, INTERACTION_FOR_S
        self.message_limit, self.message_per_s = 5, 5.0
        self.set_global_limit(50)

    def set_global_limit(self, limit: int) -> None:
        self.global_limit, self._global = limit, Bucket(limit, 1.0)

    def routes(self) -> list[web.RouteDef]:
        api = "/api/v10"
        bot: list[tuple[str, str, Handler]] = [
            ("GET", "/gateway", self._gateway),
            ("GET", "/gateway/bot", self._gateway_bot),
            ("GET", "/users/@me", self._me),
            ("GET", "/users/{user}", self._user),
            ("POST", "/users/@me/channels", self._open_dm),
            ("GET", "/users/@me/guilds", self._my_guilds),
            ("GET", "/oauth2/applications/@me", self._application),
            ("GET", "/applications/@me", self._application),
            ("GET", "/soundboard-default-sounds", self._sounds),
            ("GET", "/guilds/{guild}", self._guild),
            ("GET", "/guilds/{guild}/channels", self._channels),
            ("GET", "/guilds/{guild}/threads/active", self._active_threads),
            ("GET", "/guilds/{guild}/roles", self._roles),
            ("GET", "/guilds/{guild}/members/{user}", self._member),
            ("PATCH", "/guilds/{guild}/members/{user}", self._change_member),
            ("DELETE", "/guilds/{guild}/members/{user}", self._kick),
            ("PUT", "/guilds/{guild}/members/{user}/roles/{role}", self._add_role),
            ("DELETE", "/guilds/{guild}/members/{user}/roles/{role}", self._remove_role),
            ("PUT", "/guilds/{guild}/bans/{user}", self._ban),
            ("DELETE", "/guilds/{guild}/bans/{user}", self._unban),
            ("GET", "/guilds/{guild}/bans/{user}", self._get_ban),
            ("GET", "/channels/{channel}", self._channel),
            ("GET", "/channels/{channel}/messages", self._history),
            ("POST", "/channels/{channel}/messages", self._send_message),
            ("GET", "/channels/{channel}/messages/{message}", self._message),
            ("PATCH", "/channels/{channel}/messages/{message}", self._edit_message),
            ("DELETE", "/channels/{channel}/messages/{message}", self._delete_message),
            ("POST", "/channels/{channel}/messages/{message}/threads", self._begin_thread),
            ("POST", "/channels/{channel}/threads", self._begin_thread),
            ("PUT", "/channels/{channel}/messages/{message}/reactions/{emoji}/@me", self._react),
            ("GET", "/applications/{application}/commands", self._list_commands),
            ("PUT", "/applications/{application}/commands", self._put_commands),
            ("GET", "/applications/{application}/guilds/{guild}/commands", self._list_commands),
            ("PUT", "/applications/{application}/guilds/{guild}/commands", self._put_commands),
        ]
        open_: list[tuple[str, str, Handler]] = [
            ("POST", "/interactions/{interaction}/{token}/callback", self._callback),
            ("POST", "/webhooks/{application}/{token}", self._followup),
            ("GET", "/webhooks/{application}/{token}/messages/{message}", self._get_original),
            ("PATCH", "/webhooks/{application}/{token}/messages/{message}", self._edit_original),
            ("DELETE", "/webhooks/{application}/{token}/messages/{message}", self._delete_original),
            ("POST", "/oauth2/token", self._exchange),
            ("POST", "/oauth2/token/revoke", self._revoke),
        ]
        made = [web.route(method, api + path, self._guarded(handler, bot=True)) for method, path, handler in bot]
        made += [web.route(method, api + path, self._guarded(handler, bot=False)) for method, path, handler in open_]
        made.append(web.route("*", "/api/{rest:.*}", self._guarded(self._nothing, bot=False)))
        made += [web.get("/oauth2/authorize", self._consent_page), web.post("/oauth2/authorize", self._consent)]
        return made

    # Around every request

    def _guarded(self, handler: Handler, *, bot: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            seen = Request(request.method, request.path, await _body(request), time.time())
            self.requests.append(seen)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            fault = self._next_fault(request.path)
            if fault is not None and fault.kind != "lost":
                return await self._break(request, fault, seen)
            response = await self._answer(request, handler, bot=bot)
            if fault is not None:
                return await self._hang_up(request)
            seen.status = response.status
            return response

        return serve

    async def _answer(self, request: web.Request, handler: Handler, *, bot: bool) -> web.Response:
        headers: dict[str, str] = {}
        try:
            if bot:
                self._check_token(request)
                headers = self._check_limits(request)
            answer = await handler(request)
            if isinstance(answer, web.Response):
                return answer
            status = 201 if isinstance(answer, _Created) else 200
            return _json(status, answer, headers) if answer is not None else web.Response(status=204, headers=headers)
        except RateLimited as limited:
            return _json(429, limited.body, limited.headers)
        except Refusal as refusal:
            return _json(refusal.status, refusal.body, headers)

    def _check_token(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        bearer = self.bearers.get(token) if scheme == "Bearer" else None
        if bearer is not None and PERSONS_OWN.get(request.path) in bearer.scopes:
            return
        if scheme != "Bot" or not secrets.compare_digest(token, self.token):
            raise Refusal(401, 0, "401: Unauthorized")

    def _check_limits(self, request: web.Request) -> dict[str, str]:
        wait_s = self._global.take()
        if wait_s:
            raise RateLimited(wait_s, scope="global", headers={"X-RateLimit-Global": "true"})
        channel = request.match_info.get("channel")
        if request.method in FAST_METHODS or channel is None or not request.path.endswith("/messages"):
            return {}
        bucket = self._buckets.setdefault(f"messages:{channel}", Bucket(self.message_limit, self.message_per_s))
        wait_s = bucket.take()
        headers = {
            "X-RateLimit-Limit": str(bucket.limit),
            "X-RateLimit-Remaining": str(bucket.remaining),
            "X-RateLimit-Reset": f"{time.time() + bucket.reset_after_s:.3f}",
            "X-RateLimit-Reset-After": f"{bucket.reset_after_s:.3f}",
            "X-RateLimit-Bucket": "80c17d2f203122d936070c88c8d10f33",
        }
        if wait_s:
            raise RateLimited(wait_s, scope="user", headers=headers)
        return headers

    def _next_fault(self, path: str) -> Fault | None:
        fault = next((each for each in self.faults if each.on in path), None)
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
        return fault

    async def _break(self, request: web.Request, fault: Fault, seen: Request) -> web.StreamResponse:
        if fault.kind == "hang":
            await asyncio.sleep(120)
        if fault.kind in ("drop", "hang"):
            return await self._hang_up(request)
        status = seen.status = int(fault.kind)
        if status == 429:
            limited = RateLimited(float(fault.headers.get("Retry-After", 1)), scope="user", headers=fault.headers)
            return _json(429, limited.body, limited.headers)
        return _json(status, fault.body or {"message": "simulated", "code": 0}, fault.headers)

    async def _hang_up(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)

    async def _nothing(self, _: web.Request) -> Any:
        raise Refusal(404, 0, "404: Not Found")

    # The bot and its application

    async def _gateway(self, _: web.Request) -> Any:
        return {"url": self.gateway.url}

    async def _gateway_bot(self, _: web.Request) -> Any:
        limit = {
            "total": 1000,
            "remaining": self.identifies_left,
            "reset_after": 60_000,
            "max_concurrency": self.gateway.max_concurrency,
        }
        return {"url": self.gateway.url, "shards": self.recommended_shards, "session_start_limit": limit}

    async def _me(self, request: web.Request) -> Any:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            return self.world.users[self.bearers[token].user_id].payload()
        return {**self.world.bot.payload(), "verified": True, "email": None}

    async def _user(self, request: web.Request) -> Any:
        user = self.world.users.get(request.match_info["user"])
        if user is None:
            raise Refusal(404, 10013, "Unknown User")
        return user.payload()

    async def _my_guilds(self, request: web.Request) -> Any:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user_id = self.bearers[token].user_id if scheme == "Bearer" else self.world.bot.id
        limit, after = request.query.get("limit", str(MAX_GUILDS)), request.query.get("after", "0")
        if not limit.isdecimal() or not 1 <= int(limit) <= MAX_GUILDS or not after.isdecimal():
            raise Refusal(400, 50035, "Invalid Form Body")
        mine = sorted(
            (guild for guild in self.world.guilds.values() if user_id in guild.members and int(guild.id) > int(after)),
            key=lambda guild: int(guild.id),
        )
        return [
            {
                "id": guild.id,
                "name": guild.name,
                "icon": None,
                "banner": None,
                "features": [],
                "owner": guild.owner_id == user_id,
                "permissions": str(guild.permissions_of(user_id)),
            }
            for guild in mine[: int(limit)]
        ]

    async def _application(self, _: web.Request) -> Any:
        flags = 0
        if self.gateway.allowed_intents & (1 << 15):
            flags |= 1 << 19
        if self.gateway.allowed_intents & (1 << 1):
            flags |= 1 << 15
        return {
            "id": self.world.application_id,
            "name": self.world.bot.display_name,
            "icon": None,
            "description": "",
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "",
            "flags": flags,
            "summary": "",
            "team": None,
            "owner": self.world.bot.payload(),
        }

    async def _sounds(self, _: web.Request) -> Any:
        if not self.has_soundboard:
            raise Refusal(404, 0, "404: Not Found")
        return []

    # Servers and people

    def _guild_of(self, request: web.Request, right: str = "") -> Guild:
        guild = self.world.guilds.get(request.match_info["guild"])
        if guild is None or self.world.bot.id not in guild.members:
            raise Refusal(404, 10004, "Unknown Guild")
        if right and right in guild.lacks:
            raise Refusal(403, 50013, "Missing Permissions")
        return guild

    def _member_of(self, guild: Guild, request: web.Request) -> Any:
        member = guild.members.get(request.match_info["user"])
        if member is None:
            raise Refusal(404, 10007, "Unknown Member")
        return member

    async def _guild(self, request: web.Request) -> Any:
        return self._guild_of(request).summary()

    async def _active_threads(self, request: web.Request) -> Any:
        guild = self._guild_of(request)
        return {"threads": [each.payload() for each in guild.threads.values()], "members": []}

    async def _channels(self, request: web.Request) -> Any:
        return [each.payload() for each in self._guild_of(request).channels.values()]

    async def _roles(self, request: web.Request) -> Any:
        return list(self._guild_of(request).roles.values())

    async def _member(self, request: web.Request) -> Any:
        return self._member_of(self._guild_of(request), request).payload()

    async def _change_member(self, request: web.Request) -> Any:
        guild = self._guild_of(request, "moderate_members")
        member = self._member_of(guild, request)
        if guild.owner_id == member.user.id:
            raise Refusal(403, 50013, "Missing Permissions")
        asked = await _object(request)
        if "communication_disabled_until" in asked:
            member.timed_out_until = asked["communication_disabled_until"]
        if "nick" in asked:
            member.nick = asked["nick"]
        await self.gateway.dispatch(guild.id, "GUILD_MEMBER_UPDATE", {"guild_id": guild.id, **member.payload()})
        return member.payload()

    async def _kick(self, request: web.Request) -> Any:
        guild = self._guild_of(request, "kick_members")
        member = self._member_of(guild, request)
        del guild.members[member.user.id]
        await self._audit(guild, 20, member.user.id, request)
        gone = {"guild_id": guild.id, "user": member.user.payload()}
        await self.gateway.dispatch(guild.id, "GUILD_MEMBER_REMOVE", gone)

    async def _audit(self, guild: Guild, action: int, target: str, request: web.Request) -> None:
        reason = request.headers.get("X-Audit-Log-Reason")
        entry = {
            "guild_id": guild.id,
            "id": snowflake(),
            "user_id": self.world.bot.id,
            "target_id": target,
            "action_type": action,
            "changes": [],
            "options": {},
            "reason": reason,
        }
        await self.gateway.dispatch(guild.id, "GUILD_AUDIT_LOG_ENTRY_CREATE", entry)

    def _check_below_bot(self, guild: Guild, role: str) -> None:
        """Only roles below one's own highest may be given; a bot that a test gave none may give all."""
        if role not in guild.roles:
            raise Refusal(404, 10011, "Unknown Role")
        own = [guild.roles[each]["position"] for each in guild.members[self.world.bot.id].roles if each in guild.roles]
        if guild.roles[role]["managed"] or (own and guild.roles[role]["position"] >= max(own)):
            raise Refusal(403, 50013, "Missing Permissions")

    async def _add_role(self, request: web.Request) -> Any:
        guild = self._guild_of(request, "manage_roles")
        member, role = self._member_of(guild, request), request.match_info["role"]
        self._check_below_bot(guild, role)
        if role not in member.roles:
            member.roles.append(role)
        await self.gateway.dispatch(guild.id, "GUILD_MEMBER_UPDATE", {"guild_id": guild.id, **member.payload()})

    async def _remove_role(self, request: web.Request) -> Any:
        guild = self._guild_of(request, "manage_roles")
        member, role = self._member_of(guild, request), request.match_info["role"]
        self._check_below_bot(guild, role)
        if role in member.roles:
            member.roles.remove(role)

    async def _ban(self, request: web.Request) -> Any:
        guild = self._guild_of(request, "ban_members")
        user = self.world.users.get(request.match_info["user"])
        if user is None:
            raise Refusal(404, 10013, "Unknown User")
        guild.bans[user.id] = request.headers.get("X-Audit-Log-Reason")
        guild.members.pop(user.id, None)
        told = {"guild_id": guild.id, "user": user.payload()}
        await self.gateway.dispatch(guild.id, "GUILD_BAN_ADD", told)
        await self.gateway.dispatch(guild.id, "GUILD_MEMBER_REMOVE", told)

    async def _unban(self, request: web.Request) -> Any:
        guild = self._guild_of(request, "ban_members")
        if guild.bans.pop(request.match_info["user"], "none") == "none":
            raise Refusal(404, 10026, "Unknown Ban")

    async def _get_ban(self, request: web.Request) -> Any:
        guild = self._guild_of(request)
        user_id = request.match_info["user"]
        if user_id not in guild.bans:
            raise Refusal(404, 10026, "Unknown Ban")
        return {"reason": guild.bans[user_id], "user": self.world.users[user_id].payload()}

    # Channels and messages

    def _channel_of(self, request: web.Request, *, writing: bool = False) -> Channel:
        wanted = request.match_info["channel"]
        channel = self.world.channels.get(wanted) or self.dm_channels.get(wanted)
        if channel is None:
            raise Refusal(404, 10003, "Unknown Channel")
        if writing and not channel.writable:
            raise Refusal(403, 50013, "Missing Permissions")
        return channel

    async def _channel(self, request: web.Request) -> Any:
        return self._channel_of(request).payload()

    async def _history(self, request: web.Request) -> Any:
        """The newest first."""
        channel = self._channel_of(request)
        limit, before, after = (request.query.get(name) for name in ("limit", "before", "after"))
        return [
            each
            for each in reversed(list(self.world.messages.values()))
            if each["channel_id"] == channel.id
            and (before is None or int(each["id"]) < int(before))
            and (after is None or int(each["id"]) > int(after))
        ][: int(limit or 50)]

    async def _message(self, request: web.Request) -> Any:
        return self._found_message(self._channel_of(request), request.match_info["message"])

    def _found_message(self, channel: Channel, message_id: str) -> dict[str, Any]:
        found = self.world.messages.get(message_id)
        if found is None or found["channel_id"] != channel.id or message_id in self.deleted:
            raise Refusal(404, 10008, "Unknown Message")
        return found

    async def _edit_message(self, request: web.Request) -> Any:
        channel = self._channel_of(request, writing=True)
        message_id = request.match_info["message"]
        self._found_message(channel, message_id)
        if message_id not in self.messages:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        asked, _ = await _asked(request)
        old = self.messages[message_id]
        changed = {"content": old.content, "embeds": old.embeds, **asked}
        self.messages[message_id] = replace(
            old, content=_checked_content(changed), embeds=_checked_embeds(changed), edited_at=iso()
        )
        payload = self._payload_of(self.messages[message_id])
        if channel.guild_id:
            await self.gateway.dispatch(channel.guild_id, "MESSAGE_UPDATE", {**payload, "guild_id": channel.guild_id})
        return payload

    async def _begin_thread(self, request: web.Request) -> Any:
        channel = self._channel_of(request, writing=True)
        asked, _ = await _asked(request)
        name = str(asked.get("name") or "")
        if not 1 <= len(name) <= 100:
            raise _invalid("name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
        message_id = request.match_info.get("message", "")
        if message_id:
            self._found_message(channel, message_id)
            if message_id in self.world.channels:
                raise Refusal(400, 160004, "A thread has already been created for this message")
        thread = self.world.add_thread(channel, name, thread_id=message_id)
        await self.gateway.dispatch(channel.guild_id, "THREAD_CREATE", {**thread.payload(), "newly_created": True})
        return _Created(thread.payload())

    async def _open_dm(self, request: web.Request) -> Any:
        recipient = str((await _object(request)).get("recipient_id"))
        user = self.world.users.get(recipient)
        if user is None:
            raise Refusal(400, 50033, "Invalid Recipient(s)")
        channel = next((each for each in self.dm_channels.values() if each.name == recipient), None)
        if channel is None:
            channel = Channel(snowflake(), "", recipient, 1)
            self.dm_channels[channel.id] = channel
        return {"id": channel.id, "type": 1, "last_message_id": None, "recipients": [user.payload()]}

    async def _send_message(self, request: web.Request) -> Any:
        channel = self._channel_of(request, writing=True)
        if channel.type == 1 and channel.name in self.closed_dms:
            raise Refusal(403, 50007, "Cannot send messages to this user")
        asked, files = await _asked(request)
        content = _checked_content(asked, files)
        key = (channel.id, _checked_nonce(asked))
        if asked.get("enforce_nonce") and (known := self._known_nonce(key)):
            return self._payload_of(self.messages[known])
        reference = asked.get("message_reference") or {}
        reply_to = str(reference.get("message_id") or "")
        said = self._say(
            channel,
            content,
            reply_to=reply_to,
            allowed_mentions=asked.get("allowed_mentions"),
            embeds=_checked_embeds(asked),
            attachments=files,
        )
        if asked.get("nonce"):
            self._nonces[key] = (time.monotonic(), said.message_id)
        payload = self._payload_of(said)
        if channel.guild_id:
            more = {"guild_id": channel.guild_id, "nonce": asked.get("nonce")}
            await self.gateway.dispatch(channel.guild_id, "MESSAGE_CREATE", {**payload, **more})
        return payload

    # People who take no direct messages.
    closed_dms: frozenset[str] = frozenset()

    def _known_nonce(self, key: tuple[str, str]) -> str | None:
        at, message_id = self._nonces.get(key, (0.0, ""))
        return message_id if message_id and time.monotonic() - at < NONCE_FOR_S else None

    def _say(self, channel: Channel, content: str, *, kind: str = "message", **more: Any) -> Said:
        said = Said(
            number=len(self.messages) + 1,
            message_id=snowflake(),
            channel_id=channel.id,
            guild_id=channel.guild_id,
            content=content,
            reply_to=more.pop("reply_to", ""),
            allowed_mentions=more.pop("allowed_mentions", None),
            at=time.time(),
            kind=kind,
            **more,
        )
        self.messages[said.message_id] = said
        self._said(said)
        return said

    def _payload_of(self, said: Said) -> dict[str, Any]:
        channel = self.world.channels.get(said.channel_id) or self.dm_channels[said.channel_id]
        more = {"embeds": list(said.embeds), "attachments": list(said.attachments), "edited_timestamp": said.edited_at}
        message = self.world.message(channel, said.content, self.world.bot, message_id=said.message_id, more=more)
        if said.reply_to:
            message["message_reference"] = {"message_id": said.reply_to, "channel_id": said.channel_id}
        return message

    async def _delete_message(self, request: web.Request) -> Any:
        channel = self._channel_of(request)
        message_id = request.match_info["message"]
        guild = self.world.guilds.get(channel.guild_id)
        if guild is not None and "manage_messages" in guild.lacks and message_id not in self.messages:
            raise Refusal(403, 50013, "Missing Permissions")
        if message_id in self.deleted:
            raise Refusal(404, 10008, "Unknown Message")
        self.deleted.append(message_id)
        gone = {"id": message_id, "channel_id": channel.id, "guild_id": channel.guild_id}
        await self.gateway.dispatch(channel.guild_id or "0", "MESSAGE_DELETE", gone)

    async def _react(self, request: web.Request) -> Any:
        self._channel_of(request)
        found = request.match_info
        self.reactions.append((found["channel"], found["message"], found["emoji"]))

    # Commands

    async def _list_commands(self, request: web.Request) -> Any:
        return self._commands_of(request)[0]

    async def _put_commands(self, request: web.Request) -> Any:
        asked = await _json_of(request)
        problems = check_commands(asked)
        if problems:
            raise Refusal(400, 50035, "Invalid Form Body", errors=problems)
        current, replace_by = self._commands_of(request)
        known = {each["name"]: each["id"] for each in current}
        made = [
            {"type": 1, "version": snowflake(), **each, "id": known.get(each["name"]) or snowflake()} for each in asked
        ]
        for each in made:
            each["application_id"] = self.world.application_id
            each.setdefault("default_member_permissions", None)
        replace_by(made)
        return made

    def _commands_of(self, request: web.Request) -> tuple[list[dict[str, Any]], Callable[[list[dict[str, Any]]], None]]:
        if request.match_info["application"] != self.world.application_id:
            raise Refusal(403, 20012, "You are not authorized to perform this action on this application")
        if "guild" not in request.match_info:
            return self.world.global_commands, lambda made: setattr(self.world, "global_commands", made)
        guild = self.world.guilds.get(request.match_info["guild"])
        if guild is None or "applications.commands" in guild.lacks:
            raise Refusal(403, 50001, "Missing Access")
        return guild.commands, lambda made: setattr(guild, "commands", made)

    # Interactions

    def _interaction(self, request: web.Request, *, acked: bool = True) -> Interaction:
        token = request.match_info["token"]
        found = next((each for each in self.interactions.values() if each.token == token), None)
        if found is None or time.time() - found.at > self.interaction_for_s:
            raise Refusal(404, 10015, "Unknown Webhook") if acked else Refusal(404, 10062, "Unknown interaction")
        if acked and not found.acked_at:
            raise Refusal(404, 10015, "Unknown Webhook")
        return found

    async def _callback(self, request: web.Request) -> Any:
        found = self._interaction(request, acked=False)
        if request.match_info["interaction"] != found.id or time.time() - found.at > ACK_WITHIN_S:
            raise Refusal(404, 10062, "Unknown interaction")
        if found.acked_at:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        asked = await _multipart_or_json(request)
        if asked.get("type") not in ANSWER_TYPES:
            raise _invalid("type", "BASE_TYPE_CHOICES", f"Value must be one of {set(ANSWER_TYPES)}.")
        if asked["type"] == ANSWERED:
            _checked_content(_checked_object(asked.get("data") or {}))
        self.acknowledge(found, asked)
        if request.query.get("with_response") in ("true", "1", "True"):
            resource: dict[str, Any] = {"type": found.ack_type}
            if found.original:
                resource["message"] = self._payload_of(self.messages[found.original])
            shown = {"id": found.id, "type": 2, "response_message_id": found.original or None}
            return {"interaction": shown, "resource": resource}
        return None

    def acknowledge(self, found: Interaction, asked: Mapping[str, Any]) -> None:
        """Take the first answer to an interaction, from the callback or from the answer over HTTP."""
        data = asked.get("data") or {}
        found.acked_at, found.ack_type = time.time(), int(asked["type"])
        found.ephemeral = bool(int(data.get("flags") or 0) & EPHEMERAL)
        if found.ack_type == ANSWERED:
            found.original = self._reply(found, _checked_content(data), "callback", data).message_id

    def _reply(
        self, found: Interaction, content: str, kind: str, data: Mapping[str, Any], *, ephemeral: bool = False
    ) -> Said:
        said = self._say(
            self.world.channels[found.channel_id],
            content,
            kind=kind,
            interaction_id=found.id,
            ephemeral=found.ephemeral or ephemeral,
            allowed_mentions=data.get("allowed_mentions"),
            embeds=data.get("embeds") or (),
        )
        found.replies.append(content)
        return said

    async def _followup(self, request: web.Request) -> Any:
        found = self._interaction(request)
        asked = await _multipart_or_json(request)
        if found.ack_type == DEFERRED and not found.original:
            # The first followup takes the place of "is thinking…" and is as public as that was, whatever its flags.
            said = self._reply(found, _checked_content(asked), "original", asked)
            found.original = said.message_id
            return await self._told(found, said)
        ephemeral = bool(int(asked.get("flags") or 0) & EPHEMERAL)
        said = self._reply(found, _checked_content(asked), "followup", asked, ephemeral=ephemeral)
        return await self._told(found, said)

    async def _edit_original(self, request: web.Request) -> Any:
        found = self._interaction(request)
        if request.match_info["message"] != "@original":
            raise Refusal(404, 10008, "Unknown Message")
        asked = await _multipart_or_json(request)
        content = _checked_content(asked)
        if found.original:
            old = self.messages[found.original]
            found.replies[found.replies.index(old.content)] = content
            self.messages[found.original] = replace(old, content=content)
            return self._payload_of(self.messages[found.original])
        said = self._reply(found, content, "original", asked)
        found.original = said.message_id
        return await self._told(found, said)

    async def _told(self, found: Interaction, said: Said) -> dict[str, Any]:
        payload = {**self._payload_of(said), "webhook_id": self.world.application_id}
        payload["application_id"] = self.world.application_id
        if not said.ephemeral:
            await self.gateway.dispatch(found.guild_id, "MESSAGE_CREATE", {**payload, "guild_id": found.guild_id})
        return payload

    async def _get_original(self, request: web.Request) -> Any:
        found = self._interaction(request)
        if found.original:
            return self._payload_of(self.messages[found.original])
        if found.ack_type != DEFERRED:
            raise Refusal(404, 10008, "Unknown Message")
        thinking = self.world.message(self.world.channels[found.channel_id], "", self.world.bot)
        return {**thinking, "flags": LOADING | (EPHEMERAL if found.ephemeral else 0)}

    async def _delete_original(self, request: web.Request) -> Any:
        found = self._interaction(request)
        found.replies.clear()

    # OAuth: somebody adds the bot to a server

    async def _consent_page(self, request: web.Request) -> web.Response:
        asked = request.query
        if asked.get("client_id") != self.world.application_id:
            return web.Response(status=400, text="Unknown Application")
        adds_bot = "bot" in asked.get("scope", "").split()
        bot = html.escape(self.world.bot.display_name)
        if adds_bot:
            options = "".join(_option(guild.id, guild.name) for guild in self.world.guilds.values())
            question = f"<select name='chosen'>{options}</select>"
        else:
            names = "".join(_option(user.name, "") for user in self.world.users.values() if not user.bot)
            question = (
                "<label>Who are you? <input name='who' list='people' autofocus autocomplete='off'></label>"
                f"<datalist id='people'>{names}</datalist>"
            )
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in asked.items()
        )
        page = (
            "<!doctype html><title>Authorise</title><body style='font:16px sans-serif;max-width:28em;margin:4em auto'>"
            f"<h1>{f'Add {bot} to a server' if adds_bot else f'{bot} wants to know who you are'}</h1>"
            f"<p>Scopes: {html.escape(asked.get('scope', ''))}</p><form method='post'>{hidden}"
            f"{question} <button name='do' value='yes'>Authorise</button> "
            "<button name='do' value='no'>Cancel</button></form>"
        )
        return web.Response(text=page, content_type="text/html")

    async def _consent(self, request: web.Request) -> web.Response:
        asked = await request.post()
        back = str(asked["redirect_uri"])
        state = str(asked.get("state", ""))
        if asked.get("do") != "yes":
            refused = {"error": "access_denied", "error_description": "The resource owner denied the request"}
            raise web.HTTPFound(f"{back}?{urlencode({**refused, 'state': state})}")
        if "who" in asked:
            name = str(asked["who"]).strip()
            known = next((user for user in self.world.users.values() if user.name == name.lower()), None)
            user = known or self.world.user(snowflake(), name)
            raise web.HTTPFound(
                self.identify(user.id, state=state, redirect_uri=back, scope=str(asked.get("scope", "")))
            )
        guild = self.world.guilds[str(asked["chosen"])]
        raise web.HTTPFound(self.consent(guild, state=state, redirect_uri=back))

    def identify(self, user_id: str, *, state: str, redirect_uri: str, scope: str) -> str:
        """Somebody says who they are, and lets nobody in; returns where Discord sends their browser."""
        code = secrets.token_hex(15)
        self.codes[code] = {"user": user_id, "guild": "", "redirect_uri": redirect_uri, "scope": scope}
        return f"{redirect_uri}?{urlencode({'code': code, 'state': state})}"

    def consent(self, guild: Guild, *, state: str, redirect_uri: str, user_id: str = "") -> str:
        """Somebody (the owner by default) adds the bot; returns where Discord sends their browser."""
        self.world.join(guild, self.world.bot)
        code = secrets.token_hex(15)
        self.codes[code] = {
            "user": user_id or guild.owner_id,
            "guild": guild.id,
            "redirect_uri": redirect_uri,
            "scope": "bot applications.commands identify",
        }
        asked = {"code": code, "state": state, "guild_id": guild.id, "permissions": "8"}
        return f"{redirect_uri}?{urlencode(asked)}"

    async def _exchange(self, request: web.Request) -> Any:
        asked = dict(await request.post())
        given = request.headers.get("Authorization", "")
        if given.startswith("Basic "):
            client, _, secret = base64.b64decode(given[6:]).decode().partition(":")
        else:
            client, secret = str(asked.get("client_id", "")), str(asked.get("client_secret", ""))
        if client != self.world.application_id or secret != self.client_secret:
            return _json(401, {"error": "invalid_client"})
        found = self.codes.pop(str(asked.get("code", "")), None)
        if asked.get("grant_type") != "authorization_code" or found is None:
            return _json(400, {"error": "invalid_grant", "error_description": 'Invalid "code" in request.'})
        if found["redirect_uri"] != asked.get("redirect_uri"):
            return _json(400, {"error": "invalid_request", "error_description": 'Invalid "redirect_uri" in request.'})
        token = secrets.token_urlsafe(20)
        self.bearers[token] = Bearer(found["user"], tuple(found["scope"].split()))
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 604800,
            "refresh_token": secrets.token_urlsafe(20),
            "scope": found["scope"],
            **({"guild": self.world.guilds[found["guild"]].summary()} if found["guild"] else {}),
        }

    async def _revoke(self, request: web.Request) -> Any:
        self.bearers.pop(str((await request.post()).get("token", "")), None)
        return {}


def _option(value: str, label: str) -> str:
    return f'<option value="{html.escape(value)}">{html.escape(label)}</option>'


class RateLimited(Exception):
    """429, with what a client needs to know when it may try again. Only Discord's own proxies add Via."""

    def __init__(self, retry_after_s: float, *, scope: str, headers: Mapping[str, str]) -> None:
        super().__init__(scope)
        retry_after_s = round(max(retry_after_s, 0.001), 3)
        self.body = {
            "message": "You are being rate limited.",
            "retry_after": retry_after_s,
            "global": scope == "global",
        }
        shown = {"Retry-After": str(retry_after_s), "X-RateLimit-Scope": scope, "Via": "1.1 google", **headers}
        # An empty value takes a header away: a ban by the proxy in front of Discord has no Via.
        self.headers = {name: value for name, value in shown.items() if value}


def _json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    # Not web.json_response, which adds a charset: Discord does not, and its clients rely on it.
    content = json.dumps(body).encode()
    return web.Response(status=status, body=content, headers={"Content-Type": "application/json", **(headers or {})})


async def _body(request: web.Request) -> Any:
    if request.content_type != "application/json":
        return None  # A form can only be read once.
    try:
        return json.loads(await request.read() or b"null")
    except ValueError:
        return None


async def _json_of(request: web.Request) -> Any:
    if request.content_type != "application/json":
        said = "Expected \"Content-Type\" header to be one of {'application/json'}."
        problem = {"code": "CONTENT_TYPE_INVALID", "message": said}
        raise Refusal(400, 50035, "Invalid Form Body", errors={"_errors": [problem]})
    try:
        return await request.json()
    except ValueError as err:
        raise Refusal(400, 50109, "The request body contains invalid JSON.") from err


async def _object(request: web.Request) -> dict[str, Any]:
    return _checked_object(await _json_of(request))


def _checked_object(body: Any) -> dict[str, Any]:
    """A body that may be read by its fields' names, each of the kind that Discord takes."""
    if not isinstance(body, dict):
        problem = {"code": "DICT_TYPE_CONVERT", "message": "Only dictionaries may be used in a DictType"}
        raise Refusal(400, 50035, "Invalid Form Body", errors={"_errors": [problem]})
    for name, (kind, code) in KINDS.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise _invalid(name, code, f"{name} is of another kind.")
    for each in body.get("embeds") or []:
        if not isinstance(each, dict):
            raise _invalid("embeds", "MODEL_TYPE_CONVERT", "Only dictionaries may be used in a ModelType")
    return body


async def _multipart_or_json(request: web.Request) -> dict[str, Any]:
    return (await _asked(request))[0]


async def _asked(request: web.Request) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a request says, and the files that came with it as attachments."""
    if request.content_type not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _object(request), []
    parts = await request.post()
    files = [each for name, each in parts.items() if name.startswith("files[") and isinstance(each, web.FileField)]
    try:
        said = json.loads(str(parts.get("payload_json") or "{}"))
    except ValueError as err:
        raise Refusal(400, 50109, "The request body contains invalid JSON.") from err
    return _checked_object(said), [_attachment(each) for each in files]


def _attachment(file: web.FileField) -> dict[str, Any]:
    id_ = snowflake()
    url = f"https://cdn.discordapp.com/attachments/{id_}/{file.filename}"
    size = file.file.seek(0, 2)
    return {
        "id": id_,
        "filename": file.filename,
        "content_type": file.content_type,
        "size": size,
        "url": url,
        "proxy_url": url,
    }


def _invalid(field: str, code: str, message: str) -> Refusal:
    problem = {"code": code, "message": message}
    return Refusal(400, 50035, "Invalid Form Body", errors={field: {"_errors": [problem]}})


def _checked_nonce(asked: Mapping[str, Any]) -> str:
    nonce = str(asked.get("nonce") or "")
    if len(nonce) > MAX_NONCE_CHARS:
        raise _invalid("nonce", "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_NONCE_CHARS} or fewer in length.")
    return nonce


def _checked_content(asked: Mapping[str, Any], files: Sequence[Mapping[str, Any]] = ()) -> str:
    content = str(asked.get("content") or "")
    if len(content) > MAX_CONTENT_CHARS:
        raise _invalid("content", "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_CONTENT_CHARS} or fewer in length.")
    embeds = asked.get("embeds") or []
    if len(embeds) > MAX_EMBEDS:
        raise _invalid("embeds", "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_EMBEDS} or fewer in length.")
    if not embeds and not files and not content.strip("\u200b \n\t"):
        raise Refusal(400, 50006, "Cannot send an empty message")
    return content


def _checked_embeds(asked: Mapping[str, Any]) -> tuple[Any, ...]:
    embeds = tuple(asked.get("embeds") or ())
    for each in embeds:
        image = each.get("image") or {}
        links = [each.get("url"), image.get("url") if isinstance(image, dict) else "?"]
        if len(str(each.get("title") or "")) > 256 or any(link and not str(link).startswith("http") for link in links):
            raise Refusal(400, 50035, "Invalid Form Body", errors={"embeds": {"_errors": []}})
    return embeds


def check_commands(commands: Any) -> dict[str, Any]:
    """What is wrong with a list of commands, by Discord's rules; empty if nothing is.

    Source: https://discord.com/developers/docs/interactions/application-commands
    """
    if not isinstance(commands, list):
        return {"_errors": [{"code": "LIST_TYPE_CONVERT", "message": "Only iterables may be used"}]}
    problems: dict[str, Any] = {}
    if len(commands) > 100:
        problems["_errors"] = [{"code": "APPLICATION_COMMANDS_MAX", "message": "Maximum number reached (100)"}]
    names = [each.get("name") for each in commands]
    for number, command in enumerate(commands):
        found = _command_problem(command, depth=0)
        if found or names.count(command.get("name")) > 1:
            problems[str(number)] = found or {"code": "APPLICATION_COMMANDS_DUPLICATE_NAME", "name": command["name"]}
    return problems


def _command_problem(command: Mapping[str, Any], *, depth: int) -> Any:
    name, description = str(command.get("name", "")), command.get("description")
    bare = name.replace("-", "").replace("_", "").replace("'", "")
    if not 1 <= len(name) <= 32 or name != name.lower() or not all(_is_name_character(each) for each in bare):
        return {"code": "APPLICATION_COMMAND_INVALID_NAME", "name": name}
    if not isinstance(description, str) or not 1 <= len(description) <= 100:
        return {"code": "BASE_TYPE_BAD_LENGTH", "description": description}
    options = command.get("options") or []
    if len(options) > 25 or depth > 2:
        return {"code": "BASE_TYPE_MAX_LENGTH", "options": len(options)}
    option_names = [each.get("name") for each in options]
    if len(set(option_names)) != len(option_names):
        return {"code": "APPLICATION_COMMAND_OPTIONS_NAME_INVALID", "options": option_names}
    groups = [each.get("type") in (1, 2) for each in options]
    if any(groups) and not all(groups):
        return {"code": "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID", "options": option_names}
    required = [bool(each.get("required")) for each in options]
    if required != sorted(required, reverse=True):
        return {"code": "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID", "options": option_names}
    return next((found for each in options if (found := _command_problem(each, depth=depth + 1))), None)


def _is_name_character(character: str) -> bool:
    # Devanagari and Thai also have signs that are no letters.
    return character.isalpha() or character.isnumeric() or "\u0900" <= character <= "\u0e7f"


__all__ = ["Fault", "Interaction", "RateLimited", "Refusal", "Rest", "check_commands", "iso"]
