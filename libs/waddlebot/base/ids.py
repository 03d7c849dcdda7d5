"""Identifiers: time-ordered UUIDs, entity ids and W3C trace contexts (contracts §1)."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime

import uuid_utils

from .errors import Invalid

ID_PART = re.compile(r"[^\x00-\x20\x7f:+\ud800-\udfff\ufffd]{0,255}")
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
PLATFORM = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def new_id() -> str:
    """A UUIDv7 as text: unique, and later ids sort after earlier ones."""
    return str(uuid_utils.uuid7())


def first_id_at(moment: datetime) -> str:
    """Sorts before every `new_id` that was made from then on."""
    milliseconds = f"{int(moment.timestamp() * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-0000-0000-000000000000"


def new_traceparent() -> str:
    """A fresh W3C trace context. Source: https://www.w3.org/TR/trace-context/#traceparent-header"""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def as_traceparent(text: str | None) -> str | None:
    """A trace context that somebody sent, None if it is none."""
    return text if text and TRACEPARENT.fullmatch(text) else None


def traceparent_of(session_id: str) -> str:
    """The trace context of an event that brought none: the same for all that comes of it."""
    digits = session_id.replace("-", "").lower()
    return f"00-{digits}-{digits[16:]}-01"


@dataclass(frozen=True, slots=True)
class EntityId:
    """One place people talk: a Twitch channel, a Discord channel, a console channel."""

    platform: str
    server_id: str
    channel_id: str

    def __str__(self) -> str:
        return f"{self.platform}:{self.server_id}:{self.channel_id}"


def parse_entity_id(text: str) -> EntityId:
    """Read `platform:server:channel`; `+` works for `:`, and two parts name a channel on Twitch and the console
    (whose server is `demo`), the whole server elsewhere.

    Raises: Invalid, naming the text.
    """
    parts = re.split(r"[:+]", text)
    if len(parts) == 2:
        platform, rest = parts
        by_platform = {"twitch": ["", rest], "console": ["demo", rest]}
        parts = [platform, *by_platform.get(platform, [rest, ""])]
    if len(parts) != 3 or not PLATFORM.fullmatch(parts[0]) or not all(ID_PART.fullmatch(part) for part in parts[1:]):
        raise Invalid(f"{text[:80]!r} is not an entity id such as twitch::12826.", field="entity_id")
    return EntityId(*parts)


def is_uuid(text: str) -> bool:
    return bool(UUID.fullmatch(text))
