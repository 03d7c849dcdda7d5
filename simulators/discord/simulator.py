"""A local Discord on loopback: gateway, REST, interactions and the page that adds a bot, with Discord's own words.

with DiscordSimulator() as discord:
    guild = discord.add_guild("Demo")
    channel = discord.add_channel(guild)
    discord.say(channel, "!inventory list", user="42")
    discord.messages
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..server import AsyncLoopbackServer
from .gateway import PRIVILEGED, Gateway
from .rest import Fault, Interaction, Rest
from .world import BOOST, VOICE, Channel, Guild, Said, User, World, iso, snowflake

T = TypeVar("T")

APPLICATION_ID = "900000000000000001"
BOT_TOKEN = "simulated.bot.key"
CLIENT_SECRET = "simulated-client-key"
MAX_SAID = 1_000_000
# In servers that nobody has boosted.
ATTACHMENT_BYTES = 10 * 1024 * 1024
EVENTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Post:
    """One signed interaction, as it is posted to the fleet."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """What the fleet answered to it; status 0 is no answer."""

    status: int
    body: Any
    took_s: float


class DiscordSimulator(AsyncLoopbackServer):
    """Everything is recorded in `messages`, `rest` and `gateway`; `fail_next` and the switches break things."""

    def __init__(
        self,
        *,
        port: int = 0,
        token: str = BOT_TOKEN,
        application_id: str = APPLICATION_ID,
        client_secret: str = CLIENT_SECRET,
        private_key: Ed25519PrivateKey | None = None,
        interactions_url: str | None = None,
        hurried: bool = False,
    ) -> None:
        super().__init__(port=port)
        self.token = token
        self.client_secret = client_secret
        self.interactions_url = interactions_url
        self.key = private_key or Ed25519PrivateKey.generate()
        self.world = World(application_id=application_id)
        self.gateway = Gateway(self.world, token)
        if hurried:  # As strict as Discord, in less time.
            self.gateway.identify_spacing_s, self.gateway.heartbeat_interval_s = 0.2, 0.4
        self.messages: deque[Said] = deque(maxlen=MAX_SAID)
        self.rest = Rest(self.world, self.gateway, token=token, client_secret=client_secret, said=self._note)
        # How an interaction reaches the fleet over HTTP: by default to `interactions_url`.
        self.post: Callable[[Post], Posted] | None = None
        self.load_report: dict[str, Any] = {}
        self._listeners: set[asyncio.Queue[Said]] = set()
        self._session: ClientSession | None = None

    @property
    def public_key(self) -> str:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def settings(self) -> dict[str, str]:
        """The environment that points a Discord collector here."""
        return {
            "DISCORD_BOT_TOKEN": self.token,
            "DISCORD_APPLICATION_ID": self.world.application_id,
            "DISCORD_PUBLIC_KEY": self.public_key,
            "DISCORD_CLIENT_SECRET": self.client_secret,
            "DISCORD_API_BASE_URL": f"{self.url}/api",
            "DISCORD_AUTHORIZE_URL": f"{self.url}/oauth2/authorize",
            "DISCORD_IDENTIFY_SPACING": str(self.gateway.identify_spacing_s),
        }

    # Running

    def start(self) -> Self:
        super().start()
        self.gateway.url = f"ws://127.0.0.1:{self.port}/gateway"
        return self

    def make_app(self) -> web.Application:
        self._session = ClientSession(timeout=ClientTimeout(total=10))
        app = web.Application(client_max_size=4 * 1024 * 1024, middlewares=self.middlewares)
        app.add_routes([web.get("/gateway", self.gateway.serve), web.get("/gateway/", self.gateway.serve)])
        app.add_routes([web.get("/gateway/{session}", self.gateway.serve)])
        app.add_routes([*_control_routes(self), *self.rest.routes()])
        return app

    async def closing(self) -> None:
        assert self._session is not None
        await self._session.close()

    def _note(self, said: Said) -> None:
        self.messages.append(said)
        for queue in self._listeners:
            queue.put_nowait(said)

    def reset(self) -> None:
        """Forget what was recorded and mend what was broken; servers and people stay."""

        async def do() -> None:
            self.messages.clear()
            self.rest.reset()
            self.gateway.reset()
            self.gateway.set_deaf(False)

        self.run(do())

    # The world

    def add_guild(self, name: str = "", **options: Any) -> Guild:
        """A new server. The bot is in it; a connected bot is told."""
        guild = self.world.add_guild(name, **options)
        if self._loop is not None:
            self.announce(guild)
        return guild

    def add_channel(self, guild: Guild, name: str = "general", **options: Any) -> Channel:
        channel = self.world.add_channel(guild, name, **options)
        if self._loop is not None:
            self.run(self.gateway.dispatch(guild.id, "CHANNEL_CREATE", channel.payload()))
        return channel

    def add_thread(self, channel: Channel, name: str = "A thread", **options: Any) -> Channel:
        thread = self.world.add_thread(channel, name, **options)
        if self._loop is not None:
            created = {**thread.payload(), "newly_created": True}
            self.run(self.gateway.dispatch(thread.guild_id, "THREAD_CREATE", created))
        return thread

    def add_voice_channel(self, guild: Guild, name: str = "Lounge") -> Channel:
        return self.add_channel(guild, name, type_=VOICE)

    def announce(self, guild: Guild) -> None:
        """The bot joins a server, or a server is there again."""
        self.run(self.gateway.dispatch(guild.id, "GUILD_CREATE", guild.payload(self.world.bot.id)))

    def person(self, guild: Guild, user: str, *, name: str = "", roles: Sequence[str] = (), bot: bool = False) -> User:
        found = self.world.user(user, name, bot=bot)
        member = self.world.join(guild, found)
        member.roles = [*dict.fromkeys([*member.roles, *roles])]
        return found

    # What people do

    def message(
        self,
        channel: Channel,
        text: str,
        *,
        user: str = "42",
        name: str = "",
        roles: Sequence[str] = (),
        bot: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """What MESSAGE_CREATE says of a message by somebody, who becomes a member if they were none."""
        guild = self.world.guilds[channel.guild_id]
        author = self.person(guild, user, name=name, roles=roles, bot=bot)
        payload = self.world.message(channel, text, author, **options)
        payload["guild_id"] = guild.id
        if not options.get("webhook_id"):
            payload["member"] = guild.members[user].payload(with_user=False)
        return payload

    def say(self, channel: Channel, text: str, **options: Any) -> str:
        """Somebody writes in a channel. Returns the message's id."""
        payload = self.message(channel, text, **options)
        self.dispatch(channel.guild_id, "MESSAGE_CREATE", payload)
        return str(payload["id"])

    def edit(self, channel: Channel, message_id: str, text: str, **options: Any) -> None:
        payload = self.message(channel, text, message_id=message_id, more={"edited_timestamp": iso()}, **options)
        self.dispatch(channel.guild_id, "MESSAGE_UPDATE", payload)

    def delete(self, channel: Channel, message_id: str) -> None:
        gone = {"id": message_id, "channel_id": channel.id, "guild_id": channel.guild_id}
        self.dispatch(channel.guild_id, "MESSAGE_DELETE", gone)

    def react(self, channel: Channel, message_id: str, *, user: str = "42", emoji: str = "👍") -> None:
        guild = self.world.guilds[channel.guild_id]
        self.person(guild, user)
        payload = {
            "user_id": user,
            "channel_id": channel.id,
            "message_id": message_id,
            "guild_id": guild.id,
            "member": guild.members[user].payload(),
            "emoji": {"id": None, "name": emoji},
            "message_author_id": self.world.bot.id,
            "burst": False,
            "type": 0,
        }
        self.dispatch(guild.id, "MESSAGE_REACTION_ADD", payload)

    def join(self, guild: Guild, user: str, *, name: str = "", bot: bool = False) -> None:
        self.person(guild, user, name=name, bot=bot)
        payload = {"guild_id": guild.id, **guild.members[user].payload()}
        self.dispatch(guild.id, "GUILD_MEMBER_ADD", payload)

    def leave(self, guild: Guild, user: str) -> None:
        guild.members.pop(user, None)
        guild.voice.pop(user, None)
        self.dispatch(guild.id, "GUILD_MEMBER_REMOVE", {"guild_id": guild.id, "user": self.world.user(user).payload()})

    def kick(self, guild: Guild, user: str, *, by: str, reason: str = "") -> None:
        self._audit(guild, 20, user, by=by, reason=reason)
        self.leave(guild, user)

    def ban(self, guild: Guild, user: str, *, by: str, reason: str = "") -> None:
        guild.bans[user] = reason
        self._audit(guild, 22, user, by=by, reason=reason)
        told = {"guild_id": guild.id, "user": self.world.user(user).payload()}
        self.dispatch(guild.id, "GUILD_BAN_ADD", told)
        self.leave(guild, user)

    def time_out(self, guild: Guild, user: str, *, for_s: float = 60) -> None:
        self.person(guild, user)
        guild.members[user].timed_out_until = iso(time.time() + for_s)
        self.update_member(guild, user)

    def update_member(self, guild: Guild, user: str) -> None:
        self.dispatch(guild.id, "GUILD_MEMBER_UPDATE", {"guild_id": guild.id, **guild.members[user].payload()})

    def boost(self, guild: Guild, user: str, *, type_: int = BOOST, with_message: bool = True) -> None:
        """Somebody boosts the server: Discord's own message in the system channel, and a member that changed."""
        self.person(guild, user)
        guild.members[user].premium_since = guild.members[user].premium_since or iso()
        if with_message and guild.system_channel_id:
            channel = guild.channels[guild.system_channel_id]
            self.say(channel, "", user=user, type_=type_)
        self.update_member(guild, user)

    def voice(self, guild: Guild, user: str, channel: Channel | None, *, bot: bool = False) -> None:
        """Somebody joins a voice channel, moves to another, or leaves with None."""
        self.person(guild, user, bot=bot)
        if channel is None:
            guild.voice.pop(user, None)
        else:
            guild.voice[user] = channel.id
        self.dispatch(guild.id, "VOICE_STATE_UPDATE", guild.voice_state(user))

    def remove_bot(self, guild: Guild) -> None:
        """Somebody takes the bot out of a server."""
        guild.members.pop(self.world.bot.id, None)
        self.dispatch(guild.id, "GUILD_DELETE", {"id": guild.id})

    def _audit(self, guild: Guild, action: int, target: str, *, by: str, reason: str) -> None:
        entry = {
            "guild_id": guild.id,
            "id": snowflake(),
            "user_id": by,
            "target_id": target,
            "action_type": action,
            "changes": [],
            "options": {},
            "reason": reason or None,
        }
        self.dispatch(guild.id, "GUILD_AUDIT_LOG_ENTRY_CREATE", entry)

    def dispatch(self, guild_id: str, event: str, data: Any) -> int:
        return self.run(self.gateway.dispatch(guild_id, event, data))

    def malformed(self, event: str = "MESSAGE_CREATE", data: Any = None) -> None:
        """Every session gets a dispatch that no client can read."""
        broken = {"id": "not a number", "channel_id": None} if data is None else data
        self.run(self.gateway.raw({"op": 0, "t": event, "d": broken}))

    # Interactions

    def interaction(
        self,
        channel: Channel,
        command: str,
        options: Mapping[str, Any] | None = None,
        *,
        user: str = "42",
        name: str = "",
        roles: Sequence[str] = (),
        path: Sequence[str] = (),
        interaction_id: str = "",
    ) -> dict[str, Any]:
        """What INTERACTION_CREATE says of somebody's /command; `path` names a subcommand."""
        guild = self.world.guilds[channel.guild_id]
        self.person(guild, user, name=name, roles=roles)
        found = Interaction(
            interaction_id or snowflake(), secrets.token_urlsafe(90), guild.id, channel.id, user, time.time()
        )
        self.rest.interactions[found.id] = found
        values: list[dict[str, Any]] = [
            {"name": each, "type": 3 if isinstance(value, str) else 4, "value": value}
            for each, value in (options or {}).items()
        ]
        for word in reversed(path):
            values = [{"name": word, "type": 1 if word == path[-1] else 2, "options": values}]
        known = [*guild.commands, *self.world.global_commands]
        command_id = next((each["id"] for each in known if each["name"] == command), snowflake())
        return {
            "id": found.id,
            "application_id": self.world.application_id,
            "type": 2,
            "token": found.token,
            "version": 1,
            "guild_id": guild.id,
            "guild": {"id": guild.id, "locale": "en-US", "features": []},
            "channel_id": channel.id,
            "channel": channel.payload(),
            "member": {**guild.members[user].payload(), "permissions": str(guild.permissions_of(user))},
            "locale": "en-US",
            "guild_locale": "en-US",
            "app_permissions": str(1 << 3),
            "attachment_size_limit": ATTACHMENT_BYTES,
            "entitlements": [],
            "authorizing_integration_owners": {"0": guild.id},
            "context": 0,
            "data": {"id": command_id, "name": command, "type": 1, "guild_id": guild.id, "options": values},
        }

    def slash(self, channel: Channel, command: str, options: Mapping[str, Any] | None = None, **more: Any) -> str:
        """Somebody uses a slash command, and the gateway tells the bot. Returns the interaction's id."""
        payload = self.interaction(channel, command, options, **more)
        self.dispatch(channel.guild_id, "INTERACTION_CREATE", payload)
        return str(payload["id"])

    def slash_over_http(
        self, channel: Channel, command: str, options: Mapping[str, Any] | None = None, **more: Any
    ) -> tuple[str, Posted]:
        """The same, posted to the fleet and signed. Returns the interaction's id and the answer."""
        payload = self.interaction(channel, command, options, **more)
        return str(payload["id"]), self.deliver(payload)

    def sign(self, body: bytes, *, timestamp: str = "") -> Post:
        timestamp = timestamp or str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Signature-Ed25519": self.key.sign(timestamp.encode() + body).hex(),
            "X-Signature-Timestamp": timestamp,
        }
        return Post(headers, body)

    def deliver(self, payload: Mapping[str, Any]) -> Posted:
        """Post an interaction to the fleet, and take what it answers as Discord does."""
        post = self.sign(json.dumps(payload).encode())
        posted = self.post(post) if self.post else self.run(self.post_over_http(post))
        self._take_answer(str(payload["id"]), posted)
        return posted

    def deliver_later(self, payload: Mapping[str, Any]) -> None:
        """Post an interaction without waiting for the answer, which is taken when it comes."""

        async def deliver() -> None:
            post = self.sign(json.dumps(payload).encode())
            self._take_answer(str(payload["id"]), await self.post_over_http(post))

        assert self._loop is not None, "start the simulator first"
        asyncio.run_coroutine_threadsafe(deliver(), self._loop)

    def _take_answer(self, interaction_id: str, posted: Posted) -> None:
        found = self.rest.interactions.get(interaction_id)
        is_answer = posted.status == 200 and isinstance(posted.body, dict) and posted.body.get("type") in (4, 5)
        if found is not None and is_answer and not found.acked_at:
            self.rest.acknowledge(found, posted.body)

    async def post_over_http(self, post: Post) -> Posted:
        assert self._session is not None
        assert self.interactions_url is not None, "where to? give the simulator an interactions_url"
        started = time.perf_counter()
        try:
            async with self._session.post(self.interactions_url, data=post.body, headers=post.headers) as answer:
                text = await answer.text()
                with contextlib.suppress(ValueError):
                    return Posted(answer.status, json.loads(text), time.perf_counter() - started)
                return Posted(answer.status, text, time.perf_counter() - started)
        except (ClientError, TimeoutError, OSError):
            return Posted(0, None, time.perf_counter() - started)

    # Faults

    def fail_next(self, kind: str | int, times: int = 1, *, on: str = "", body: Any = None, **headers: str) -> None:
        """Let the next requests to paths that contain `on` end so: see `Fault`. An empty header is left out."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.rest.faults.append(Fault(str(kind), times, on, named, body))

    def forbid_intents(self, intents: int = PRIVILEGED) -> None:
        """Behave as if these had not been switched on for the application: 4014."""
        self.gateway.allowed_intents = PRIVILEGED & ~intents

    def reconnect(self) -> None:
        self.run(self.gateway.reconnect_all())

    def invalidate(self, *, resumable: bool = False) -> None:
        self.run(self.gateway.invalidate_all(resumable=resumable))

    def drop(self, code: int = 4000) -> None:
        self.run(self.gateway.drop_all(code))

    def go_deaf(self) -> None:
        """The sockets that are open now stay so, and nothing passes through them any more."""

        async def do() -> None:
            self.gateway.set_deaf(True)

        self.run(do())

    def set_available(self, guild: Guild, available: bool) -> None:
        self.run(self.gateway.set_available(guild, available))

    # Load

    async def load(
        self,
        *,
        rate: float = 200,
        seconds: float = 10,
        channels: Sequence[str] = (),
        commands: float = 0.05,
        command: str = "!echo {id}",
        people: int = 500,
    ) -> dict[str, Any]:
        """So many messages a second over these channels (all by default); a share of them are commands.

        Replies are matched by `{id}`, the message's own id, which the command has to repeat.
        """
        chosen = [self.world.channels[each] for each in channels] or list(self.world.channels.values())
        every = round(1 / commands) if commands else 0
        asked: dict[str, float] = {}
        heard_before = len(self.messages)
        started = time.monotonic()
        total = int(rate * seconds)
        for n in range(total):
            wait_s = started + n / rate - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            channel = chosen[n % len(chosen)]
            message_id = snowflake()
            is_command = bool(every) and n % every == 0
            text = command.format(id=message_id) if is_command else f"plain chat number {n}"
            payload = self.message(channel, text, user=str(10_000 + n % people), message_id=message_id)
            if is_command:
                asked[message_id] = time.time()
            await self.gateway.dispatch(channel.guild_id, "MESSAGE_CREATE", payload)
        took_s = time.monotonic() - started
        return await self._report(asked, heard_before, total, took_s)

    async def _report(self, asked: dict[str, float], heard_before: int, total: int, took_s: float) -> dict[str, Any]:
        until = time.monotonic() + 30
        answers: dict[str, list[float]] = {}
        while time.monotonic() < until:
            answers = {}
            for said in list(self.messages)[heard_before:]:
                for word in said.content.split():
                    if word in asked:
                        answers.setdefault(word, []).append(said.at - asked[word])
            if len(answers) == len(asked):
                break
            await asyncio.sleep(0.2)
        # What comes a second time comes late.
        await asyncio.sleep(1.0)
        delays = sorted(times[0] for times in answers.values())
        doubled = sum(len(times) - 1 for times in answers.values())
        return {
            "messages": total,
            "seconds": round(took_s, 2),
            "commands": len(asked),
            "lost": len(asked) - len(answers),
            "doubled": doubled,
            "p50_ms": round(delays[len(delays) // 2] * 1e3, 1) if delays else 0.0,
            "p99_ms": round(delays[int(len(delays) * 0.99)] * 1e3, 1) if delays else 0.0,
            "max_ms": round(delays[-1] * 1e3, 1) if delays else 0.0,
        }


def _control_routes(simulator: DiscordSimulator) -> list[web.RouteDef]:
    """Control from outside, for benchmarks, demos and pages in another process."""
    world = simulator.world

    async def in_thread(work: Callable[[], Any]) -> web.Response:
        return web.json_response({"success": True, "result": await asyncio.to_thread(work)})

    async def state(_: web.Request) -> web.Response:
        guilds = {guild.id: [*guild.channels] for guild in world.guilds.values()}
        return web.json_response(
            {
                "guilds": guilds,
                "sessions": [asdict_session(each) for each in simulator.gateway.sessions.values()],
                "identifies": len(simulator.gateway.identifies),
                "identified_too_soon": len(simulator.gateway.identified_too_soon),
                "messages": len(simulator.messages),
            }
        )

    async def guild(request: web.Request) -> web.Response:
        """`{name, channels: [names], id?}` → ids."""
        asked = await request.json()

        def make() -> dict[str, Any]:
            made = simulator.world.add_guild(asked.get("name", ""), guild_id=asked.get("id", ""))
            names = asked.get("channels", ["general"])
            ids = asked.get("channel_ids", [""] * len(names))
            made_channels = [
                world.add_channel(made, each, channel_id=id_) for each, id_ in zip(names, ids, strict=True)
            ]
            simulator.announce(made)
            return {"guild_id": made.id, "channel_ids": [each.id for each in made_channels]}

        return await in_thread(make)

    async def chat(request: web.Request) -> web.Response:
        """`{channel, text, user?, name?}` → the message's id."""
        asked = await request.json()
        channel = world.channels[asked.pop("channel")]
        return await in_thread(lambda: simulator.say(channel, asked.pop("text"), **asked))

    async def slash(request: web.Request) -> web.Response:
        """`{channel, command, options?, path?, user?, over_http?}`."""
        asked = await request.json()
        channel, command = world.channels[asked.pop("channel")], asked.pop("command")
        if asked.pop("over_http", False):
            found, posted = await asyncio.to_thread(
                lambda: simulator.slash_over_http(channel, command, asked.pop("options", None), **asked)
            )
            return web.json_response({"success": True, "result": found, "answer": asdict(posted)})
        return await in_thread(lambda: simulator.slash(channel, command, asked.pop("options", None), **asked))

    async def event(request: web.Request) -> web.Response:
        """`{guild, type, data}`: any dispatch."""
        asked = await request.json()
        return await in_thread(lambda: simulator.dispatch(asked["guild"], asked["type"], asked["data"]))

    async def fail(request: web.Request) -> web.Response:
        asked = await request.json()
        simulator.fail_next(asked["kind"], asked.get("times", 1), on=asked.get("on", ""))
        return web.json_response({"success": True})

    async def switch(request: web.Request) -> web.Response:
        """`{acks?, deaf?, refuses_resumes?, drop?, reconnect?, invalidate?}`."""
        asked = await request.json()
        gateway = simulator.gateway
        gateway.acks = asked.get("acks", gateway.acks)
        gateway.refuses_resumes = asked.get("refuses_resumes", gateway.refuses_resumes)
        if "deaf" in asked:
            gateway.set_deaf(bool(asked["deaf"]))
        if asked.get("drop"):
            await gateway.drop_all()
        if asked.get("reconnect"):
            await gateway.reconnect_all()
        if asked.get("invalidate"):
            await gateway.invalidate_all(resumable=False)
        return web.json_response({"success": True})

    async def reset(_: web.Request) -> web.Response:
        return await in_thread(simulator.reset)

    async def messages(request: web.Request) -> web.Response:
        since = int(request.query.get("since", 0))
        found = list(simulator.messages)
        return web.json_response({"total": len(found), "messages": [asdict(each) for each in found[since:]]})

    async def stream(request: web.Request) -> web.StreamResponse:
        """What the bot says, as server-sent events."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        response.headers["Access-Control-Allow-Origin"] = "*"
        await response.prepare(request)
        queue: asyncio.Queue[Said] = asyncio.Queue(EVENTS_AT_ONCE)
        simulator._listeners.add(queue)
        try:
            while True:
                said = await queue.get()
                await response.write(f"data: {json.dumps(asdict(said))}\n\n".encode())
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            simulator._listeners.discard(queue)

    async def load(request: web.Request) -> web.Response:
        return web.json_response(await simulator.load(**(await request.json())))

    async def commands(request: web.Request) -> web.Response:
        """The slash commands of a server."""
        return web.json_response(world.guilds[request.match_info["guild"]].commands)

    return [
        web.get("/_control/state", state),
        web.post("/_control/guild", guild),
        web.post("/_control/chat", chat),
        web.post("/_control/slash", slash),
        web.post("/_control/event", event),
        web.post("/_control/fail", fail),
        web.post("/_control/switch", switch),
        web.post("/_control/reset", reset),
        web.post("/_control/load", load),
        web.get("/_control/messages", messages),
        web.get("/_control/stream", stream),
        web.get("/_control/commands/{guild}", commands),
    ]


def asdict_session(session: Any) -> dict[str, Any]:
    return {
        "shard": session.shard,
        "shard_count": session.shard_count,
        "connected": session.connection is not None,
        "sequence": session.sequence,
    }
