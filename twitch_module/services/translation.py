"""From Twitch's words to the fleet's: each kind of notification as documented, and the event that it is here.

Source: https://dev.twitch.tv/docs/eventsub/eventsub-reference/
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, Field, StringConstraints
from waddlebot.base.contracts import (
    WITHOUT_NULLS,
    Event,
    EventUser,
    IdPart,
    MessageText,
    MessageType,
    Name,
    OpaqueId,
    Wire,
)
from waddlebot.collecting.event_store import StoredEvent

MAX_BADGES = 64
# Stands beside what Twitch told of a message in a shared chat that is answered in the channel where it was said.
COPY = "waddlebot_copy"
BOT_BADGE = "bot-badge"
# Chat clients, and we, append these so that Twitch lets the same line through twice; they are no part of what was said.
INVISIBLE_TAIL = " \U000e0000\u034f"
# Who gave or cheered and does not want to be known: the accounts that Twitch itself shows for them.
ANONYMOUS_GIFTER = ("274598607", "ananonymousgifter", "AnAnonymousGifter")
ANONYMOUS_CHEERER = ("407665396", "ananonymouscheerer", "AnAnonymousCheerer")

ChannelId = Annotated[IdPart, StringConstraints(min_length=1)]


class Happening(Wire):
    """What one notification tells, as an event takes it: what is read as one of these can be translated. Its event_id
    is the delivery's where Twitch gives it none of its own."""

    message_type: ClassVar[MessageType]

    broadcaster_user_id: ChannelId

    @property
    def event_id(self) -> str:
        return ""

    @property
    def user(self) -> EventUser:
        raise NotImplementedError

    @property
    def person_id(self) -> str:
        return self.user.platform_user_id

    @property
    def kind(self) -> MessageType:
        return self.message_type

    @property
    def text(self) -> str:
        return ""

    @property
    def details(self) -> dict[str, Any]:
        return {}


class Person(Happening):
    """Something that one person did, or that was done to them."""

    user_id: OpaqueId
    user_login: Name = ""
    user_name: Name = ""

    @property
    def user(self) -> EventUser:
        return EventUser(platform_user_id=self.user_id, name=self.user_login, display_name=self.user_name)


class Giver(Happening):
    """Something that somebody gave, perhaps without a name."""

    nobody: ClassVar[tuple[str, str, str]]

    is_anonymous: bool = False
    user_id: OpaqueId | None = None
    user_login: Name | None = None
    user_name: Name | None = None

    @property
    def user(self) -> EventUser:
        known = (self.user_id, self.user_login or "", self.user_name or "")
        id_, login, name = self.nobody if self.is_anonymous or self.user_id is None else known
        return EventUser(platform_user_id=str(id_), name=login, display_name=name)


class Badge(Wire):
    set_id: Annotated[str, StringConstraints(max_length=64)] = ""


class Message(Wire):
    text: MessageText = ""
    fragments: Annotated[list[dict[str, Any]] | None, WITHOUT_NULLS] = None

    def mentions(self, user_id: str) -> bool:
        """Whether somebody is called by name in it."""
        named = (each.get("mention") for each in self.fragments or ())
        return any(isinstance(each, dict) and each.get("user_id") == user_id for each in named)

    @property
    def emotes(self) -> list[str]:
        """The words that Twitch shows as pictures."""
        texts = (each.get("text") for each in self.fragments or () if each.get("type") == "emote")
        return [text for text in texts if isinstance(text, str)]

    def typed(self, *, is_reply: bool) -> str:
        """What somebody typed: Twitch puts the other's name before an answer, and a cheer may stand before a text."""
        said = self.text
        for at, fragment in enumerate(self.fragments or ()):
            kind, text = fragment.get("type"), fragment.get("text")
            is_decoration = kind == "cheermote" or (kind == "mention" and is_reply and at == 0)
            if not isinstance(text, str) or not (is_decoration or not text.strip()) or not said.startswith(text):
                break
            said = said.removeprefix(text)
        return said.lstrip(" ") or self.text


class Cheermotes(Wire):
    bits: int = 0


class Reply(Wire):
    parent_message_id: str = ""
    parent_user_id: str = ""
    thread_message_id: str = ""


class ChatMessage(Happening):
    message_type: ClassVar[MessageType] = MessageType.CHAT_MESSAGE

    chatter_user_id: OpaqueId
    chatter_user_login: Name = ""
    chatter_user_name: Name = ""
    message_id: OpaqueId
    message: Message
    text_type: str = Field("text", validation_alias=AliasChoices("message_type", "text_type"))
    badges: Annotated[list[Badge], WITHOUT_NULLS] = Field(default_factory=list)
    cheer: Cheermotes | None = None
    reply: Reply | None = None
    color: str = ""
    channel_points_custom_reward_id: str | None = None
    source_broadcaster_user_id: str | None = None

    @property
    def event_id(self) -> str:
        return self.message_id

    @property
    def person_id(self) -> str:
        return self.chatter_user_id

    def mentions(self, user_id: str) -> bool:
        """Whether somebody is called by name, or answered."""
        return self.message.mentions(user_id) or (self.reply is not None and self.reply.parent_user_id == user_id)

    @property
    def is_by_bot(self) -> bool:
        return any(badge.set_id == BOT_BADGE for badge in self.badges)

    @property
    def user(self) -> EventUser:
        return EventUser(
            platform_user_id=self.chatter_user_id,
            name=self.chatter_user_login,
            display_name=self.chatter_user_name,
            badges=[badge.set_id for badge in self.badges[:MAX_BADGES] if badge.set_id],
        )

    @property
    def text(self) -> str:
        return self.message.typed(is_reply=self.reply is not None).rstrip(INVISIBLE_TAIL)

    @property
    def details(self) -> dict[str, Any]:
        details: dict[str, Any] = {"message_id": self.message_id, "text_type": self.text_type}
        if self.color:
            details["color"] = self.color
        if self.message.emotes:
            details["emotes"] = self.message.emotes
        if self.cheer:
            details["bits"] = self.cheer.bits
        if self.reply:
            details["reply"] = self.reply.model_dump()
        if self.source_broadcaster_user_id not in (None, self.broadcaster_user_id):
            details["shared_from"] = self.source_broadcaster_user_id
        if self.channel_points_custom_reward_id:
            details["reward_id"] = self.channel_points_custom_reward_id
        return details


class Follow(Person):
    message_type = MessageType.FOLLOW

    followed_at: str = ""

    @property
    def event_id(self) -> str:
        """Who follows, leaves and follows again within days is told once."""
        return f"follow:{self.broadcaster_user_id}:{self.user_id}"

    @property
    def details(self) -> dict[str, Any]:
        return {"followed_at": self.followed_at}


class Subscribe(Person):
    """A first subscription, or one that somebody was given: then the giver's `Gift` is what counts."""

    message_type = MessageType.SUBSCRIPTION

    tier: str = ""
    is_gift: bool = False

    @property
    def details(self) -> dict[str, Any]:
        return {"tier": self.tier, "is_gift": self.is_gift}


class Resub(Person):
    message_type = MessageType.RESUB

    tier: str = ""
    message: Message | None = None
    cumulative_months: int = 0
    streak_months: int | None = None
    duration_months: int = 0

    @property
    def text(self) -> str:
        return self.message.text if self.message else ""

    @property
    def details(self) -> dict[str, Any]:
        return {
            "tier": self.tier,
            "months": self.cumulative_months,
            "streak_months": self.streak_months,
            "duration_months": self.duration_months,
        }


class Gift(Giver):
    """Any number of subscriptions given at once; each of them also arrives as a `Subscribe` with is_gift."""

    message_type = MessageType.SUBGIFT
    nobody = ANONYMOUS_GIFTER

    tier: str = ""
    total: int = 1
    cumulative_total: int | None = None

    @property
    def details(self) -> dict[str, Any]:
        return {
            "tier": self.tier,
            "total": self.total,
            "cumulative_total": self.cumulative_total,
            "is_anonymous": self.is_anonymous,
        }


class Cheer(Giver):
    message_type = MessageType.CHEER
    nobody = ANONYMOUS_CHEERER

    message: MessageText = ""
    bits: int

    @property
    def text(self) -> str:
        return self.message

    @property
    def details(self) -> dict[str, Any]:
        return {"bits": self.bits, "is_anonymous": self.is_anonymous}


class Raid(Happening):
    """Happens in the channel that is raided, and is done by who raids it."""

    message_type = MessageType.RAID

    broadcaster_user_id: ChannelId = Field(validation_alias="to_broadcaster_user_id")
    from_broadcaster_user_id: OpaqueId
    from_broadcaster_user_login: Name = ""
    from_broadcaster_user_name: Name = ""
    viewers: int = 0

    @property
    def user(self) -> EventUser:
        return EventUser(
            platform_user_id=self.from_broadcaster_user_id,
            name=self.from_broadcaster_user_login,
            display_name=self.from_broadcaster_user_name,
        )

    @property
    def details(self) -> dict[str, Any]:
        return {"viewers": self.viewers, "from_channel_id": self.from_broadcaster_user_id}


class Ban(Person):
    """A ban, or one for a time: a timeout."""

    message_type = MessageType.BAN

    moderator_user_id: str = ""
    moderator_user_name: Name = ""
    reason: str = ""
    banned_at: datetime | None = None
    ends_at: datetime | None = None
    is_permanent: bool = True

    @property
    def kind(self) -> MessageType:
        return MessageType.BAN if self.is_permanent else MessageType.TIMEOUT

    @property
    def details(self) -> dict[str, Any]:
        details: dict[str, Any] = {
            "reason": self.reason,
            "moderator_id": self.moderator_user_id,
            "moderator_name": self.moderator_user_name,
        }
        if self.ends_at and self.banned_at:
            details["duration_s"] = round((self.ends_at - self.banned_at).total_seconds())
        return details


class StreamChange(Happening):
    """A stream that begins or ends, as its broadcaster does it."""

    is_live: ClassVar[bool]

    broadcaster_user_login: Name = ""
    broadcaster_user_name: Name = ""

    @property
    def user(self) -> EventUser:
        return EventUser(
            platform_user_id=self.broadcaster_user_id,
            name=self.broadcaster_user_login,
            display_name=self.broadcaster_user_name,
            badges=["broadcaster"],
        )


class StreamOnline(StreamChange):
    message_type = MessageType.STREAM_ONLINE
    is_live = True

    id: Annotated[str, StringConstraints(max_length=200)] = ""
    type: str = ""
    started_at: str = ""

    @property
    def event_id(self) -> str:
        return f"stream:{self.id}" if self.id else ""

    @property
    def details(self) -> dict[str, Any]:
        return {"stream_id": self.id, "stream_type": self.type, "started_at": self.started_at}


class StreamOffline(StreamChange):
    message_type = MessageType.STREAM_OFFLINE
    is_live = False


class Authorization(Wire):
    """The event of `user.authorization.revoke`."""

    user_id: OpaqueId


class ChannelUpdate(Wire):
    """The event of `channel.update`: what a stream is about, whether it is on or not."""

    broadcaster_user_id: ChannelId
    title: Annotated[str, StringConstraints(max_length=1000)] = ""
    category_name: Annotated[str, StringConstraints(max_length=1000)] = ""


CHANNEL_UPDATE = "channel.update"
CHAT_MESSAGE = "channel.chat.message"
STREAM_ONLINE = "stream.online"
STREAM_OFFLINE = "stream.offline"
AUTHORIZATION_REVOKED = "user.authorization.revoke"

# What becomes an event of the fleet, by type and version.
HAPPENINGS: dict[tuple[str, str], type[Happening]] = {
    (CHAT_MESSAGE, "1"): ChatMessage,
    ("channel.follow", "2"): Follow,
    ("channel.subscribe", "1"): Subscribe,
    ("channel.subscription.message", "1"): Resub,
    ("channel.subscription.gift", "1"): Gift,
    ("channel.cheer", "1"): Cheer,
    ("channel.raid", "1"): Raid,
    ("channel.ban", "1"): Ban,
    (STREAM_ONLINE, "1"): StreamOnline,
    (STREAM_OFFLINE, "1"): StreamOffline,
}
KNOWN_TYPES = frozenset(type_ for type_, _ in HAPPENINGS)
BY_TYPE = {type_: kind for (type_, _), kind in HAPPENINGS.items()}


class Translator:
    """Makes the fleet's events of stored notifications, and knows who the bot is among those whom people mention."""

    def __init__(self, bot_user_id: str) -> None:
        self._bot_user_id = bot_user_id

    def __call__(self, stored: StoredEvent) -> Event:
        """Raises: pydantic.ValidationError; TooLarge."""
        happening = BY_TYPE[stored.type].model_validate(stored.data["event"])
        mentions_bot = isinstance(happening, ChatMessage) and happening.mentions(self._bot_user_id)
        return Event(
            event_id=stored.event_id,
            message_type=happening.kind,
            platform="twitch",
            server_id="",
            channel_id=happening.broadcaster_user_id,
            user=happening.user,
            message=happening.text,
            data={
                **happening.details,
                **({"mentions_bot": True} if mentions_bot else {}),
                **({"copy": True} if stored.data.get(COPY) else {}),
            },
            occurred_at=stored.occurred_at,
        )
