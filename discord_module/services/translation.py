"""From what was stored of Discord to the fleet's events."""

from __future__ import annotations

from waddlebot.base.contracts import Event, EventUser, MessageType
from waddlebot.base.text import as_seen
from waddlebot.collecting.event_store import StoredEvent

FLEET_PREFIX = "!"


def translate(stored: StoredEvent) -> Event:
    """The fleet's event. Raises: pydantic.ValidationError; TooLarge."""
    person = stored.data["person"]
    return Event(
        event_id=stored.event_id,
        message_type=MessageType(stored.data["message_type"]),
        platform="discord",
        server_id=stored.data["guild_id"],
        channel_id=stored.channel_id,
        user=EventUser(
            platform_user_id=person["id"],
            name=person["name"],
            display_name=person["display_name"],
            badges=person["badges"],
        ),
        message=stored.data["text"],
        data=stored.data["details"],
        occurred_at=stored.occurred_at,
    )


def with_fleet_prefix(text: str, prefix: str) -> tuple[str, bool]:
    """What somebody wrote, with the fleet's prefix in place of the one that counts on Discord, and whether it may be a
    command.

    Where that is another prefix, ! is left to the other bot that it was given up for.
    """
    body = as_seen(text).lstrip()
    if prefix == FLEET_PREFIX or not body.startswith((prefix, FLEET_PREFIX, "！")):
        return text, True
    return (FLEET_PREFIX + body[len(prefix) :], True) if body.startswith(prefix) else (text, False)
