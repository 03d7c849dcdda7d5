"""What exists in the simulated Discord: servers, channels, people, roles, messages; and its payloads for them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

EPOCH_MS = 1_420_070_400_000
MAX_CONTENT_CHARS = 2000
MAX_MESSAGES = 10_000

KICK_MEMBERS = 1 << 1
ADMINISTRATOR = 1 << 3
MANAGE_MESSAGES = 1 << 13
EVERYBODYS = (1 << 10) | (1 << 11) | (1 << 16) | (1 << 20) | (1 << 21)

TEXT, VOICE, PUBLIC_THREAD = 0, 2, 11
DEFAULT_MESSAGE, BOOST, REPLY = 0, 8, 19

_numbers = itertools.count(1)
_lock = threading.Lock()


def snowflake() -> str:
    """An id that grows with time, as Discord's do."""
    with _lock:
        number = next(_numbers)
    return str((int(time.time() * 1000) - EPOCH_MS) << 22 | (number & 0x3FFFFF))


def iso(at: float | None = None) -> str:
    return datetime.fromtimestamp(time.time() if at is None else at, UTC).isoformat()


@dataclass(slots=True)
class User:
    id: str
    name: str
    display_name: str = ""
    bot: bool = False

    def payload(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "username": self.name,
            "global_name": self.display_name or None,
            "discriminator": "0",
            "avatar": None,
            "bot": self.bot,
            "public_flags": 0,
        }


@dataclass(slots=True)
class Member:
    user: User
    roles: list[str] = field(default_factory=list)
    nick: str | None = None
    premium_since: str | None = None
    timed_out_until: str | None = None
    joined_at: str = field(default_factory=iso)

    def payload(self, *, with_user: bool = True) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "roles": list(self.roles),
            "nick": self.nick,
            "avatar": None,
            "premium_since": self.premium_since,
            "joined_at": self.joined_at,
            "deaf": False,
            "mute": False,
            "flags": 0,
            "pending": False,
            "communication_disabled_until": self.timed_out_until,
        }
        return {**payload, "user": self.user.payload()} if with_user else payload


@dataclass(slots=True)
class Channel:
    id: str
    guild_id: str
    name: str
    type: int = TEXT
    # Whether the bot may write here.
    writable: bool = True
    # Of a thread: the channel that it is below, and who began it.
    parent_id: str | None = None
    owner_id: str | None = None

    def payload(self) -> dict[str, Any]:
        return self._thread() if self.type == PUBLIC_THREAD else self._channel()

    def _thread(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "guild_id": self.guild_id,
            "parent_id": self.parent_id,
            "owner_id": self.owner_id,
            "name": self.name,
            "type": self.type,
            "last_message_id": None,
            "message_count": 0,
            "member_count": 1,
            "total_message_sent": 0,
            "rate_limit_per_user": 0,
            "flags": 0,
            "thread_metadata": {
                "archived": False,
                "auto_archive_duration": 1440,
                "archive_timestamp": iso(),
                "locked": False,
                "create_timestamp": iso(),
            },
        }

    def _channel(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "guild_id": self.guild_id,
            "name": self.name,
            "type": self.type,
            "position": 0,
            "permission_overwrites": [],
            "nsfw": False,
            "parent_id": None,
            "topic": None,
            "rate_limit_per_user": 0,
            "last_message_id": None,
            **({"bitrate": 64000, "user_limit": 0, "rtc_region": None} if self.type == VOICE else {}),
        }


@dataclass(slots=True)
class Guild:
    id: str
    name: str
    owner_id: str
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    threads: dict[str, Channel] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    voice: dict[str, str] = field(default_factory=dict)
    bans: dict[str, str | None] = field(default_factory=dict)
    commands: list[dict[str, Any]] = field(default_factory=list)
    system_channel_id: str | None = None
    afk_channel_id: str | None = None
    unavailable: bool = False
    # Rights that the bot lacks here: an action that needs one is answered 403.
    lacks: set[str] = field(default_factory=set)

    def add_role(self, name: str, permissions: int = 0, role_id: str = "") -> str:
        role_id = role_id or snowflake()
        self.roles[role_id] = {
            "id": role_id,
            "name": name,
            "color": 0,
            "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
            "hoist": False,
            "icon": None,
            "unicode_emoji": None,
            "position": len(self.roles),
            "permissions": str(permissions),
            "managed": False,
            "mentionable": False,
            "flags": 0,
        }
        return role_id

    def permissions_of(self, user_id: str) -> int:
        if user_id == self.owner_id:
            return (1 << 50) - 1
        member = self.members.get(user_id)
        held = [self.id, *(member.roles if member else [])]
        bits = 0
        for role_id in held:
            bits |= int(self.roles[role_id]["permissions"]) if role_id in self.roles else 0
        return (1 << 50) - 1 if bits & ADMINISTRATOR else bits

    def voice_states(self) -> list[dict[str, Any]]:
        return [self.voice_state(user_id) for user_id in self.voice]

    def voice_state(self, user_id: str) -> dict[str, Any]:
        member = self.members[user_id]
        return {
            "guild_id": self.id,
            "channel_id": self.voice.get(user_id),
            "user_id": user_id,
            "member": member.payload(),
            "session_id": f"voice-{user_id}",
            "deaf": False,
            "mute": False,
            "self_deaf": False,
            "self_mute": False,
            "self_video": False,
            "suppress": False,
            "request_to_speak_timestamp": None,
        }

    def summary(self) -> dict[str, Any]:
        """What REST says of a server."""
        return {
            "id": self.id,
            "name": self.name,
            "icon": None,
            "splash": None,
            "discovery_splash": None,
            "owner_id": self.owner_id,
            "afk_channel_id": self.afk_channel_id,
            "afk_timeout": 300,
            "verification_level": 1,
            "default_message_notifications": 0,
            "explicit_content_filter": 0,
            "roles": list(self.roles.values()),
            "emojis": [],
            "stickers": [],
            "features": [],
            "mfa_level": 0,
            "application_id": None,
            "system_channel_id": self.system_channel_id,
            "system_channel_flags": 0,
            "rules_channel_id": None,
            "vanity_url_code": None,
            "description": None,
            "banner": None,
            "premium_tier": 0,
            "premium_subscription_count": 0,
            "preferred_locale": "en-US",
            "public_updates_channel_id": None,
            "nsfw_level": 0,
            "premium_progress_bar_enabled": False,
        }

    def payload(self, bot_id: str) -> dict[str, Any]:
        """What GUILD_CREATE carries. Without presences, a large server's other members are not in it."""
        return {
            **self.summary(),
            "joined_at": iso(),
            "large": False,
            "unavailable": False,
            "member_count": len(self.members),
            "voice_states": self.voice_states(),
            "members": [self.members[bot_id].payload()],
            "channels": [each.payload() for each in self.channels.values()],
            "threads": [each.payload() for each in self.threads.values()],
            "presences": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
            "soundboard_sounds": [],
        }


@dataclass(frozen=True, slots=True)
class Said:
    """A message or a followup that the bot sent. `kind`: message, original, followup or callback."""

    number: int
    message_id: str
    channel_id: str
    guild_id: str
    content: str
    reply_to: str
    allowed_mentions: Any
    at: float
    kind: str = "message"
    interaction_id: str = ""
    ephemeral: bool = False
    embeds: Sequence[Mapping[str, Any]] = ()
    attachments: Sequence[Mapping[str, Any]] = ()
    edited_at: str | None = None


class World:
    """The servers and people. All of it may be changed from any thread; the simulator tells the gateway."""

    def __init__(self, *, application_id: str, bot_name: str = "WaddleBot") -> None:
        self.application_id = application_id
        self.bot = User(application_id, bot_name.lower(), bot_name, bot=True)
        self.users: dict[str, User] = {self.bot.id: self.bot}
        self.guilds: dict[str, Guild] = {}
        self.channels: dict[str, Channel] = {}
        # What was said, by anybody, as it is now.
        self.messages: dict[str, dict[str, Any]] = {}
        self.global_commands: list[dict[str, Any]] = []
        self._next_guild = int(snowflake()) >> 22

    def add_guild(self, name: str = "", *, guild_id: str = "", owner: str = "", shard: int = 0, of: int = 1) -> Guild:
        """A new server, of that shard if there are `of` of them."""
        if not guild_id:
            self._next_guild += 1
            while self._next_guild % of != shard:
                self._next_guild += 1
            guild_id = str(self._next_guild << 22)
        guild = Guild(guild_id, name or f"Server {len(self.guilds) + 1}", "")
        guild.owner_id = self.user(owner or f"{int(guild_id) + 1}", "owner").id
        guild.add_role("@everyone", EVERYBODYS, guild_id)
        self.guilds[guild_id] = guild
        self.join(guild, self.bot)
        self.join(guild, self.users[guild.owner_id])
        return guild

    def add_channel(self, guild: Guild, name: str = "general", *, channel_id: str = "", type_: int = TEXT) -> Channel:
        channel = Channel(channel_id or snowflake(), guild.id, name, type_)
        guild.channels[channel.id] = self.channels[channel.id] = channel
        return channel

    def add_thread(self, channel: Channel, name: str, *, owner: str = "", thread_id: str = "") -> Channel:
        """One begun at a message has the message's id."""
        guild = self.guilds[channel.guild_id]
        thread = Channel(
            thread_id or snowflake(),
            guild.id,
            name,
            PUBLIC_THREAD,
            parent_id=channel.id,
            owner_id=owner or self.bot.id,
            writable=channel.writable,
        )
        guild.threads[thread.id] = self.channels[thread.id] = thread
        return thread

    def note(self, event: str, data: Mapping[str, Any]) -> None:
        """Remember what the gateway tells of messages."""
        if event in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):
            self.messages[data["id"]] = {**self.messages.get(data["id"], {}), **data}
            while len(self.messages) > MAX_MESSAGES:
                del self.messages[next(iter(self.messages))]
        elif event == "MESSAGE_DELETE":
            self.messages.pop(data["id"], None)

    def user(self, user_id: str, name: str = "", *, bot: bool = False) -> User:
        """Somebody, new if need be."""
        if user_id not in self.users:
            shown = name or f"user{user_id}"
            self.users[user_id] = User(user_id, shown.lower(), shown, bot)
        return self.users[user_id]

    def join(self, guild: Guild, user: User, roles: Iterable[str] = ()) -> Member:
        if user.id not in guild.members:
            guild.members[user.id] = Member(user, list(roles))
        return guild.members[user.id]

    def message(
        self,
        channel: Channel,
        content: str,
        author: User,
        *,
        message_id: str = "",
        type_: int = DEFAULT_MESSAGE,
        reply_to: str = "",
        mentions: Iterable[User] = (),
        webhook_id: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What MESSAGE_CREATE carries, but for what the gateway adds."""
        payload: dict[str, Any] = {
            "id": message_id or snowflake(),
            "channel_id": channel.id,
            "author": author.payload(),
            "content": content,
            "timestamp": iso(),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [user.payload() for user in mentions],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "pinned": False,
            "type": REPLY if reply_to else type_,
            "flags": 0,
            "components": [],
        }
        if reply_to:
            payload["message_reference"] = {"message_id": reply_to, "channel_id": channel.id}
        if webhook_id:
            payload["webhook_id"] = webhook_id
        return {**payload, **(more or {})}
