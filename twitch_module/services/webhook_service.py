"""What becomes of a delivery of EventSub that was posted to us."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from waddlebot.base.contracts import OpaqueId, Wire
from waddlebot.base.errors import BadSignature
from waddlebot.base.wire import parse_json, validate
from waddlebot.collecting.collector import Collector

from . import eventsub
from .notification_service import NotificationService, Origin


class Challenge(Wire):
    challenge: OpaqueId


class WebhookService:
    """Takes what Twitch has signed."""

    def __init__(self, collector: Collector, notifications: NotificationService, *, secret: bytes) -> None:
        self._collector = collector
        self._notifications = notifications
        self._secret = secret

    def receive(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Take a delivery. Returns what to answer to a challenge, None for everything else, once it is stored.

        Raises: BadSignature; BadRequest and Invalid for a signed body that is not as documented.
        """
        try:
            envelope = eventsub.open_envelope(self._secret, headers, body, now=datetime.now(UTC))
        except BadSignature:
            self._collector.count("unknown", "bad_signature")
            raise
        payload = parse_json(body)
        if envelope.kind == eventsub.CHALLENGE:
            self._collector.count("challenge", "answered")
            answer: str = validate(Challenge.model_validate, payload).challenge
            return answer
        origin = Origin(envelope.delivery_id, envelope.sent_at)
        if envelope.kind == eventsub.REVOCATION:
            self._notifications.revoke(payload, origin, self._collector.take)
        elif envelope.kind == eventsub.NOTIFICATION:
            self._notifications.notify(payload, origin, self._collector.take)
        else:
            self._collector.count("unknown", "ignored")
        return None
