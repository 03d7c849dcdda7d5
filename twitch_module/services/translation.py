"""From Twitch's words to the fleet's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints
from waddlebot.contracts import Event, EventUser, IdPart, MessageType, Name, OpaqueId, Wire
from waddlebot.event_store import StoredEvent

MAX_BADGES = 64
BOT_BADGE = "bot-badge"
# Chat clients append these so that Twitch lets the same line through twice; they are not part of what was said.
INVISIBLE_TAIL = " \U000e0000\u034f"

ChannelId = Annotated[IdPart, StringConstraints(min_length=1)]


class Badge(Wire):
    set_id: Annotated[str, StringConstraints(max_length=64)]


class MessageText(Wire):
    text: str


class Cheer(Wire):
    bits: int


class Reply(Wire):
    parent_message_id: str = ""
    parent_user_id: str = ""
    thread_message_id: str = ""


class ChatMessage(Wire):
    """The event of `channel.chat.message`.

    Source: https://dev.twitch.tv/docs/eventsub/eventsub-reference/#channel-chat-message-event
    """

    broadcaster_user_id: ChannelId
    chatter_user_id: OpaqueId
    chatter_user_login: Name = ""
    chatter_user_name: Name = ""
    message_id: OpaqueId
    message: MessageText
    message_type: str = "text"
    badges: list[Badge] = Field(default_factory=list)
    cheer: Cheer | None = None
    reply: Reply | None = None
    color: str = ""
    channel_points_custom_reward_id: str | None = None
    source_broadcaster_user_id: str | None = None

    @property
    def is_by_bot(self) -> bool:
        return any(badge.set_id == BOT_BADGE for badge in self.badges)


class ChatNotification(Wire):
    event: ChatMessage


def translate(stored: StoredEvent) -> Event:
    """The fleet's event for a stored notification. Raises: pydantic.ValidationError; TooLarge."""
    message = ChatNotification.model_validate(stored.data).event
    return Event(
        event_id=message.message_id,
        message_type=MessageType.CHAT_MESSAGE,
        platform="twitch",
        server_id="",
        channel_id=message.broadcaster_user_id,
        user=EventUser(
            platform_user_id=message.chatter_user_id,
            name=message.chatter_user_login,
            display_name=message.chatter_user_name,
            badges=[badge.set_id for badge in message.badges[:MAX_BADGES]],
        ),
        message=message.message.text.rstrip(INVISIBLE_TAIL),
        data=_details(message),
        occurred_at=stored.occurred_at,
    )


def _details(message: ChatMessage) -> dict[str, Any]:
    details: dict[str, Any] = {"message_id": message.message_id, "text_type": message.message_type}
    if message.color:
        details["color"] = message.color
    if message.cheer:
        details["bits"] = message.cheer.bits
    if message.reply:
        details["reply"] = message.reply.model_dump()
    if message.channel_points_custom_reward_id:
        details["reward_id"] = message.channel_points_custom_reward_id
    return details
