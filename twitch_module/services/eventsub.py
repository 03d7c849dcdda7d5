"""EventSub's envelope: who signed it, when, and what kind of delivery it is.

Source: https://dev.twitch.tv/docs/eventsub/handling-webhook-events/
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from waddlebot.base.errors import BadSignature

# Twitch asks to refuse older ones: what was recorded may be played back later.
FRESH_FOR = timedelta(minutes=10)
PREFIX = "twitch-eventsub-"
NOTIFICATION = "notification"
CHALLENGE = "webhook_callback_verification"
REVOCATION = "revocation"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The headers of a delivery that Twitch certainly signed, a moment ago."""

    delivery_id: str
    kind: str
    sent_at: datetime


def sign(secret: bytes, delivery_id: str, timestamp: str, body: bytes) -> str:
    signed = (delivery_id + timestamp).encode("utf-8", "replace") + body
    return "sha256=" + hmac.digest(secret, signed, "sha256").hex()


def open_envelope(secret: bytes, headers: Mapping[str, str], body: bytes, *, now: datetime) -> Envelope:
    """Check a delivery's signature over its raw body, and its age. Header names are in lower case.

    Raises: BadSignature, also when a header is missing.
    """
    delivery_id = headers.get(PREFIX + "message-id", "")
    timestamp = headers.get(PREFIX + "message-timestamp", "")
    signature = headers.get(PREFIX + "message-signature", "")
    kind = headers.get(PREFIX + "message-type", "")
    if not (delivery_id and timestamp and signature and kind):
        raise BadSignature("A header of EventSub is missing.")
    expected = sign(secret, delivery_id, timestamp, body)
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise BadSignature()
    sent_at = parse_timestamp(timestamp)
    if abs(now - sent_at) > FRESH_FOR:
        raise BadSignature("The delivery is too old, or a clock is wrong.")
    return Envelope(delivery_id, kind, sent_at)


def parse_timestamp(text: str) -> datetime:
    """Read RFC 3339 with up to nine digits of a second, of which six are kept. Raises: BadSignature."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as err:
        raise BadSignature("The timestamp is not RFC 3339.") from err
    if parsed.tzinfo is None:
        raise BadSignature("The timestamp has no offset.")
    return parsed.astimezone(UTC)
