"""py-cord, made fit for a collector. Imported at first use only: it loads aiohttp and a hundred modules of its own.

What its own ways do not suit (2.8): a dispatch that it cannot read ends the whole client, and `is_closed` may not say
so; it waits 5 s to identify, not knowing of other containers; it resumes where sessions begin; its default handler of
interactions registers commands anew for each shard; and a request that is cancelled while it sleeps through a global
rate limit blocks every later one.
"""

from __future__ import annotations

import asyncio
import contextvars
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import aiohttp
import discord
import discord.shard
from discord.gateway import DiscordWebSocket, ReconnectWebSocket
from discord.http import Route
from discord.state import AutoShardedConnectionState
from waddlebot.base.contracts import discord_badges
from waddlebot.base.wire import is_number
from yarl import URL

from ..dataclasses import GuildSeen, Person, Session, Sighting, VoiceState

# The gateway's session and sequence number of the dispatch at hand: tasks that it starts inherit it.
DELIVERY: contextvars.ContextVar[str] = contextvars.ContextVar("delivery", default="")

# A boost as the gateway tells it: Discord's own messages for a boost and for a level that it reached.
BOOST_MESSAGES = range(8, 12)
KICKED = 20
# A server's own, in a message.
EMOTE = re.compile(r"<a?:\w+:\d+>")
# A member that changed may have boosted long ago.
JUST_NOW = timedelta(minutes=10)
# As many people as Discord tells about at once.
MAX_ASKED_FOR = 100
# Raised before anything could reach Discord, or when nobody can know whether it did.
NOT_REACHED = (aiohttp.ClientError, OSError, TimeoutError)
Refused = discord.HTTPException

# They bring what is to be known of their server, or need nothing of it.
NEED_NO_GUILD = ("READY", "RESUMED", "GUILD_CREATE", "GUILD_DELETE", "INTERACTION_CREATE")
# A socket that is closed with this is broken: its session can be resumed, as after 1000 it could not.
BROKEN = 4000
HANDLED_WITHIN_S = 2.0

Before = Callable[[], Awaitable[None]]


class Ears(Protocol):
    """Who is told what a shard hears. All of it is called in the gateway's loop and returns at once."""

    def saw(self, sighting: Sighting, delivery_id: str) -> None: ...
    def saw_voice(self, state: VoiceState) -> None: ...
    def saw_guild(self, guild: GuildSeen) -> None: ...
    def saw_roles(self, guild_id: str, user_id: str, role_ids: frozenset[str]) -> None: ...
    def lost_guild(self, guild_id: str, *, gone: bool) -> None: ...
    def saw_own(self) -> None: ...
    def connected(self, *, resumed: bool) -> None: ...
    def saw_nonsense(self, event: str, error: Exception) -> None: ...
    async def interacted(self, interaction: discord.Interaction, payload: dict[str, Any]) -> None: ...


class TolerantState(AutoShardedConnectionState):
    """Reads dispatches; one that cannot be read is told and left out, and the connection goes on."""

    def __init__(self, *args: Any, nonsense: Callable[[str, Exception], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.session: Session | None = None
        self._nonsense = nonsense
        # Servers of which a session that another process began has told that process, not us.
        self._untold: set[int] = set()
        # What came of such a server, until Discord has been asked about it.
        self._held: dict[int, list[Callable[[], None]]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self.parsers = {name: self._guarded(name, parse, nonsense) for name, parse in self.parsers.items()}

    def _guarded(
        self, name: str, parse: Callable[[Any], None], nonsense: Callable[[str, Exception], None]
    ) -> Callable[[Any], None]:
        def parse_or_hold(data: Any) -> None:
            socket = self._get_websocket(shard_id=self.shard_ids[0])
            parse_now = partial(parse_or_tell, f"{socket.session_id}:{socket.sequence}", data)
            guild_id = self._find_untold(name, data)
            if guild_id is None:
                parse_now()
            else:
                self._hold(guild_id, parse_now)

        def parse_or_tell(delivery: str, data: Any) -> None:
            DELIVERY.set(delivery)
            try:
                parse(data)
            except Exception as err:
                if name in ("READY", "RESUMED"):
                    raise  # Nothing works after a session that did not begin.
                nonsense(name, err)

        return parse_or_hold

    # A session that another process began

    def go_on_with(self, session: Session, guild_ids: Iterable[str]) -> None:
        """Resume it. Discord tells no more of its servers, so each is asked about when something comes of it."""
        self.session = session
        for guild_id in guild_ids:
            self._add_untold(int(guild_id))

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def _add_untold(self, guild_id: int) -> discord.Guild:
        self._untold.add(guild_id)
        return self._add_guild_from_data({"id": str(guild_id), "unavailable": True})  # type: ignore[typeddict-item]

    def _find_untold(self, name: str, data: Any) -> int | None:
        if not self._untold or not isinstance(data, dict):
            return None
        guild_id = data.get("id" if name.startswith("GUILD_") and "guild_id" not in data else "guild_id")
        if not isinstance(guild_id, str) or not is_number(guild_id, digits=20) or int(guild_id) not in self._untold:
            return None
        if name in NEED_NO_GUILD and int(guild_id) not in self._held:
            self._untold.discard(int(guild_id))
            return None
        return int(guild_id)

    def _hold(self, guild_id: int, parse: Callable[[], None]) -> None:
        if guild_id not in self._held:
            self._held[guild_id] = []
            task = asyncio.ensure_future(self._ask_about(guild_id))  # not watched: it ends in what it has to tell
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        self._held[guild_id].append(parse)

    async def _ask_about(self, guild_id: int) -> None:
        """Fill in a server, then read what came of it, in its order."""
        try:
            told: dict[str, Any] = {
                **await self.http.get_guild(guild_id),
                "channels": await self.http.get_all_guild_channels(guild_id),
                "threads": (await self.http.get_active_threads(guild_id))["threads"],
            }
            guild = self._get_guild(guild_id) or self._add_untold(guild_id)
            guild._from_data({**told, "member_count": told.get("approximate_member_count")})  # type: ignore[typeddict-item]
            self.dispatch("guild_told", guild)
        except (discord.HTTPException, *NOT_REACHED) as err:
            self._nonsense("GUILD", err)
        finally:
            self._untold.discard(guild_id)
            for parse in self._held.pop(guild_id, []):
                parse()

    def parse_ready(self, data: Any) -> None:
        self._untold.clear()
        super().parse_ready(data)

    def parse_guild_create(self, data: dict[str, Any]) -> None:
        guild = self._get_guild(int(data["id"]))
        if guild is not None:
            # py-cord would keep whoever was in voice before an outage beside those who are now (2.8).
            guild._voice_states.clear()
        super().parse_guild_create(data)

    def parse_interaction_create(self, data: Any) -> None:
        self.dispatch("interaction_payload", discord.Interaction(data=data, state=self), data)


class ResumingSocket(DiscordWebSocket):
    """Resumes where Discord wants it, for as long as Discord has not ended the session.

    py-cord (2.8) resumes where sessions begin, and identifies anew when the way there broke off once.
    Source: https://discord.com/developers/docs/events/gateway#resuming
    """

    @classmethod
    async def from_client(cls, client: discord.Client, **options: Any) -> DiscordWebSocket:  # type: ignore[override]
        if not isinstance(client, ShardBot):
            return await DiscordWebSocket.from_client(client, **options)
        session = _state_of(client).session
        if session is None:
            made: ResumingSocket = await super().from_client(
                client, shard_id=options["shard_id"], initial=options.get("initial", False)
            )
            return made
        try:
            made = await super().from_client(
                client,
                shard_id=options["shard_id"],
                gateway=_with_query(session.resume_url) if session.resume_url else None,
                session=session.id,
                sequence=session.sequence,
                resume=True,
            )
        except NOT_REACHED:
            session.resume_url = ""
            raise
        made.resume_gateway_url = session.resume_url
        return made

    async def close(self, code: int = BROKEN) -> None:
        """As broken, as long as there is a session that somebody may go on with."""
        goes_on = self.session_id and _state_of(self).session is not None
        await super().close(BROKEN if goes_on else code)

    async def received_message(self, msg: Any, /) -> None:
        state = _state_of(self)
        try:
            await super().received_message(msg)
        except ReconnectWebSocket as err:
            if not err.resume:
                state.session = None
            raise
        if self.session_id and self.sequence is not None:
            state.session = Session(self.session_id, self.sequence, self.resume_gateway_url or "")


def _state_of(owner: ShardBot | ResumingSocket) -> TolerantState:
    state = owner._connection
    assert isinstance(state, TolerantState)
    return state


def _with_query(url: str) -> str:
    return str(URL(url).with_query(encoding="json", v="10", compress="zlib-stream"))


# py-cord makes its sockets of whatever stands here.
discord.shard.DiscordWebSocket = ResumingSocket  # type: ignore[misc]


class ShardBot(discord.AutoShardedBot):
    """One shard's connection, which tells `ears` what it hears. Make it in the loop that it is to run in."""

    def __init__(
        self,
        shard_id: int,
        shard_count: int,
        *,
        ears: Ears,
        privileged: bool,
        before_identify: Before,
        session: Session | None = None,
        guild_ids: Iterable[str] = (),
    ) -> None:
        """With a `session` that is to be resumed come the servers that it told about."""
        self._ears = ears
        self._before_identify = before_identify
        self.shard = shard_id
        super().__init__(  # type: ignore[no-untyped-call]
            loop=asyncio.get_running_loop(),
            intents=make_intents(privileged=privileged),
            shard_ids=[shard_id],
            shard_count=shard_count,
            auto_sync_commands=False,
            cache_default_sounds=False,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            max_messages=None,
            allowed_mentions=discord.AllowedMentions.none(),
            guild_ready_timeout=0.5,
        )
        if session is not None:
            _state_of(self).go_on_with(session, guild_ids)

    @property
    def session(self) -> Session | None:
        """What can be resumed."""
        found = _state_of(self).session
        return replace(found) if found is not None else None

    def forget_session(self) -> None:
        _state_of(self).session = None

    async def mark(self) -> Session | None:
        """The session as it is now, once all that it has told is handed on; None while that takes longer."""
        session, tasks = self.session, set(self._tasks)
        if session is None or _state_of(self).is_holding:
            return None
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=HANDLED_WITHIN_S)
            if late:
                return None
        return session

    def _get_state(self, **options: Any) -> TolerantState:
        return TolerantState(
            dispatch=self.dispatch,
            handlers=self._handlers,
            hooks=self._hooks,
            http=self.http,
            loop=self.loop,
            nonsense=self._ears.saw_nonsense,
            **options,
        )

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:  # noqa: ARG002
        await self._before_identify()

    async def on_connect(self) -> None:
        """Nothing: py-cord would register the application's commands here, once per shard."""

    async def on_error(self, event_method: str, *_: Any, **__: Any) -> None:
        """A handler of ours failed; py-cord would print it."""
        err = sys.exc_info()[1]
        if isinstance(err, Exception):
            self._ears.saw_nonsense(event_method, err)

    # Heartbeats

    def heartbeat(self) -> tuple[float, float] | None:
        """How often Discord wants a heartbeat and how long ago it acknowledged one, s; None between connections.

        py-cord tells the latency only, which stays as it was when the acknowledgements end.
        """
        info = self.get_shard(self.shard)
        keeper = info._parent.ws._keep_alive if info is not None else None
        if keeper is None or keeper.interval is None:
            return None
        return keeper.interval, time.perf_counter() - keeper._last_ack

    async def break_connection(self) -> None:
        """Close the socket as broken, so that py-cord connects anew and resumes."""
        info = self.get_shard(self.shard)
        if info is not None:
            await info._parent.ws.socket.close(code=BROKEN)

    # What happens

    @property
    def _own_id(self) -> int:
        assert self.user is not None, "READY comes before everything else, and says who the bot is"
        return self.user.id

    async def on_message(self, message: discord.Message) -> None:
        if message.author.id == self._own_id:
            self._ears.saw_own()
        if message.guild is None or message.webhook_id or message.author.bot:
            return
        if message.type.value in BOOST_MESSAGES:
            self._tell(_boost_of(message))
        elif message.type in (discord.MessageType.default, discord.MessageType.reply):
            self._tell(_message(message, bot_id=self._own_id))

    async def on_raw_message_edit(self, raw: discord.RawMessageUpdateEvent) -> None:
        """A changed text is judged again. Of a link's preview Discord tells so too, with no time of editing."""
        message = raw.new_message
        if message.guild is None or message.webhook_id or message.author.bot or message.edited_at is None:
            return
        if message.type in (discord.MessageType.default, discord.MessageType.reply):
            self._tell(_edited(_message(message, bot_id=self._own_id), message.edited_at))

    async def on_raw_reaction_add(self, raw: discord.RawReactionActionEvent) -> None:
        if raw.guild_id is not None and raw.member is not None and not raw.member.bot:
            self._tell(_reaction(raw))

    async def on_member_join(self, member: discord.Member) -> None:
        if not member.bot:
            joined = member.joined_at.isoformat() if member.joined_at else ""
            event_id = f"join:{member.guild.id}:{member.id}:{joined}"
            self._tell(_about(member, "member_join", "GUILD_MEMBER_ADD", event_id))

    async def on_raw_member_remove(self, raw: discord.RawMemberRemoveEvent) -> None:
        if not raw.user.bot and raw.user.id != self._own_id:
            self._tell(_about(raw.user, "member_leave", "GUILD_MEMBER_REMOVE", guild_id=raw.guild_id))

    async def on_member_ban(self, guild: discord.Guild, user: discord.User) -> None:
        if not user.bot:
            self._tell(_about(user, "ban", "GUILD_BAN_ADD", guild_id=guild.id))

    async def on_raw_audit_log_entry(self, raw: discord.RawAuditLogEntryEvent) -> None:
        if raw.action_type.value == KICKED and raw.target_id is not None:
            person = Person(str(raw.target_id), "")
            details = {"by": str(raw.user_id), "reason": raw.reason or ""}
            guild_id, dispatch = str(raw.guild_id), "GUILD_AUDIT_LOG_ENTRY_CREATE"
            self._tell(Sighting("kick", dispatch, guild_id, "", person, f"audit:{raw.id}", details=details))

    async def on_raw_member_update(self, raw: discord.RawMemberUpdateEvent) -> None:
        member = raw.member
        if member.bot:
            return
        # As Discord sent them: a member's own list leaves out roles that py-cord has not heard of yet.
        self._ears.saw_roles(str(raw.guild_id), str(raw.user_id), frozenset(map(str, raw.data["roles"])))
        until = member.communication_disabled_until
        if until is not None and until > discord.utils.utcnow():
            event_id = f"timeout:{member.guild.id}:{member.id}:{until.isoformat()}"
            self._tell(_about(member, "timeout", "GUILD_MEMBER_UPDATE", event_id, until=until.isoformat()))
        if member.premium_since is not None and _boosts_are_silent(member.guild):
            event_id = f"boost:{member.guild.id}:{member.id}:{member.premium_since.isoformat()}"
            if discord.utils.utcnow() - member.premium_since < JUST_NOW:
                self._tell(_about(member, "boost", "GUILD_MEMBER_UPDATE", event_id))

    async def on_voice_state_update(
        self,
        member: discord.Member,
        _before: discord.VoiceState,
        after: discord.VoiceState,
    ) -> None:
        if not member.bot:
            self._ears.saw_voice(_voice_state(member.guild, member, after))

    async def on_guild_available(self, guild: discord.Guild) -> None:
        self._ears.saw_guild(_guild_seen(guild, await self._people_in_voice(guild)))

    async def on_guild_told(self, guild: discord.Guild) -> None:
        self._ears.saw_guild(_guild_seen(guild, None))

    async def on_guild_join(self, guild: discord.Guild) -> None:
        await self.on_guild_available(guild)

    async def on_guild_update(self, _before: discord.Guild, after: discord.Guild) -> None:
        self._ears.saw_guild(_guild_seen(after, None))

    async def on_guild_unavailable(self, guild: discord.Guild) -> None:
        self._ears.lost_guild(str(guild.id), gone=False)

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        self._ears.lost_guild(str(guild.id), gone=True)

    async def on_interaction_payload(self, interaction: discord.Interaction, payload: dict[str, Any]) -> None:
        await self._ears.interacted(interaction, payload)

    async def on_shard_connect(self, _shard_id: int) -> None:
        self._ears.connected(resumed=False)

    async def on_shard_resumed(self, _shard_id: int) -> None:
        self._ears.connected(resumed=True)

    async def _people_in_voice(self, guild: discord.Guild) -> tuple[VoiceState, ...] | None:
        """Who is in voice when a server is first seen: it names ids only, and a bot must not earn points there.

        None when Discord does not say who they are.
        """
        away = guild.afk_channel.id if guild.afk_channel is not None else None
        channels = {
            user_id: str(channel.id)
            for channel in [*guild.voice_channels, *guild.stage_channels]
            for user_id in channel.voice_states
            if channel.id != away
        }
        if not channels:
            return ()
        try:
            members = await guild.query_members(user_ids=list(channels)[:MAX_ASKED_FOR], cache=False)
        except (TimeoutError, discord.DiscordException):
            return None
        where = str(guild.id)
        return tuple(
            VoiceState(where, _person(each), channels[each.id])
            for each in members
            if not each.bot and each.id in channels
        )

    def _tell(self, sighting: Sighting) -> None:
        self._ears.saw(sighting, DELIVERY.get())


def point_at(api_base_url: str) -> None:
    """Where py-cord finds Discord. It is one place for the whole process."""
    Route.API_BASE_URL = api_base_url + "/v{API_VERSION}"


def make_intents(*, privileged: bool) -> discord.Intents:
    """What a collector wants to hear. The privileged ones have to be switched on in the Developer Portal."""
    return discord.Intents(
        guilds=True,
        guild_messages=True,
        guild_reactions=True,
        voice_states=True,
        moderation=True,
        members=privileged,
        message_content=privileged,
    )


def _person(user: discord.User | discord.Member, badges: tuple[str, ...] = ()) -> Person:
    return Person(str(user.id), user.name or "", user.display_name or "", badges)


def _about(
    user: discord.User | discord.Member,
    message_type: str,
    dispatch: str,
    event_id: str = "",
    *,
    guild_id: int | None = None,
    **details: Any,
) -> Sighting:
    """Something about somebody in a whole server."""
    if guild_id is None:
        assert isinstance(user, discord.Member)
        guild_id = user.guild.id
    where = str(guild_id)
    return Sighting(message_type, dispatch, where, "", _person(user), event_id, details=details)


def _message(message: discord.Message, *, bot_id: int) -> Sighting:
    assert message.guild is not None, "private messages are left out before"
    details: dict[str, Any] = {"message_id": str(message.id)}
    if message.mentions:
        details["mentions"] = [{"id": str(user.id), "name": user.name} for user in message.mentions]
    if emotes := EMOTE.findall(message.content):
        details["emotes"] = emotes
    if any(user.id == bot_id for user in message.mentions):
        details["mentions_bot"] = True
    if message.reference is not None and message.reference.message_id:
        details["reply_to"] = str(message.reference.message_id)
    if message.attachments:
        details["attachments"] = len(message.attachments)
    if parent := getattr(message.channel, "parent_id", None):
        details["parent_channel_id"] = str(parent)
    return Sighting(
        "chatMessage",
        "MESSAGE_CREATE",
        str(message.guild.id),
        str(message.channel.id),
        _person(message.author, _badges_in(message)),
        str(message.id),
        text=_with_names(message),
        details=details,
        occurred_at=message.created_at,
    )


def _edited(sighting: Sighting, at: datetime) -> Sighting:
    event_id = f"edit:{sighting.event_id}:{at.isoformat()}"
    details = {**sighting.details, "edited": True}
    return replace(sighting, dispatch="MESSAGE_UPDATE", event_id=event_id, details=details, occurred_at=at)


def _boost_of(message: discord.Message) -> Sighting:
    """Discord says in a channel that somebody boosted; it is the server that they did it for."""
    assert message.guild is not None, "private messages are left out before"
    person, details = _person(message.author), {"message_id": str(message.id)}
    where = str(message.guild.id)
    return Sighting(
        "boost", "MESSAGE_CREATE", where, "", person, str(message.id), details=details, occurred_at=message.created_at
    )


def _reaction(raw: discord.RawReactionActionEvent) -> Sighting:
    emoji = str(raw.emoji.id or raw.emoji.name)
    # Taking a reaction away and giving it again is still one reaction.
    event_id = f"reaction:{raw.message_id}:{raw.user_id}:{emoji}"
    assert raw.member is not None, "private reactions are left out before"
    person, details = _person(raw.member), {"emoji": str(raw.emoji.name), "message_id": str(raw.message_id)}
    where = str(raw.guild_id)
    return Sighting("reaction", "MESSAGE_REACTION_ADD", where, str(raw.channel_id), person, event_id, details=details)


def _badges_in(message: discord.Message) -> tuple[str, ...]:
    author, guild = message.author, message.guild
    if not isinstance(author, discord.Member) or guild is None:
        return ()
    try:
        permissions = message.channel.permissions_for(author).value  # type: ignore[union-attr]
    except (AttributeError, discord.ClientException):  # A channel or a thread's parent that is not known here.
        permissions = author.guild_permissions.value
    is_owner = author.id == guild.owner_id
    return discord_badges(permissions, is_owner=is_owner, is_premium=author.premium_since is not None)


def _with_names(message: discord.Message) -> str:
    """The text with @name where Discord writes <@id>, as a person would read and type it."""
    text: str = message.content
    for user in message.mentions:
        text = text.replace(f"<@{user.id}>", f"@{user.name}").replace(f"<@!{user.id}>", f"@{user.name}")
    return text


def _voice_state(guild: discord.Guild, member: discord.Member, state: discord.VoiceState) -> VoiceState:
    """Whoever was sent to the AFK channel is nowhere."""
    channel = state.channel
    if channel is None or (guild.afk_channel is not None and channel.id == guild.afk_channel.id):
        return VoiceState(str(guild.id), _person(member), "")
    return VoiceState(str(guild.id), _person(member), str(channel.id))


def _guild_seen(guild: discord.Guild, voices: tuple[VoiceState, ...] | None) -> GuildSeen:
    system = str(guild.system_channel.id) if guild.system_channel is not None else ""
    return GuildSeen(str(guild.id), guild.name, str(guild.owner_id or ""), guild.member_count, system, voices)


def _boosts_are_silent(guild: discord.Guild) -> bool:
    """Whether Discord says nothing in this server when somebody boosts it."""
    return guild.system_channel is None or not guild.system_channel_flags.premium_subscriptions
