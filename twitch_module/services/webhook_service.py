"""What becomes of a delivery of EventSub that was posted to us."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from waddlebot.base.contracts import OpaqueId, Wire
from waddlebot.base.errors import BadSignature, WaddleBotError
from waddlebot.base.wire import parse_json, validate
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Delivery
from waddlebot.web.endpoint import RawRequest

from . import eventsub
from .notification_service import NotificationService, Origin, Take

# What to answer to a challenge, None for whatever else was taken, and why another was not.
Outcome = str | None | Exception


class Challenge(Wire):
    challenge: OpaqueId


class WebhookService:
    """Takes what Twitch has signed."""

    def __init__(self, collector: Collector, notifications: NotificationService, *, secret: bytes) -> None:
        self._collector = collector
        self._notifications = notifications
        self._secret = secret

    def receive(self, requests: Sequence[RawRequest]) -> list[Outcome]:
        """Take deliveries that came at the same time; those that are to be stored are committed together."""
        outcomes: list[Outcome] = []
        taken: list[tuple[int, Delivery]] = []
        for number, request in enumerate(requests):
            found: list[Delivery] = []
            try:
                outcomes.append(self._read(request, found.append))
            except WaddleBotError as err:
                outcomes.append(err.with_traceback(None))
            taken += [(number, each) for each in found]
        stored = self._collector.take_all([each for _, each in taken])
        for (number, _), outcome in zip(taken, stored, strict=True):
            if isinstance(outcome, Exception):
                outcomes[number] = outcome
        return outcomes

    def _read(self, request: RawRequest, take: Take) -> str | None:
        """Have what a delivery brings taken. Returns what to answer to a challenge, None for everything else.

        Raises: BadSignature; BadRequest and Invalid for a signed body that is not as documented.
        """
        try:
            envelope = eventsub.open_envelope(self._secret, request.headers, request.body, now=datetime.now(UTC))
        except BadSignature:
            self._collector.count("unknown", "bad_signature")
            raise
        payload = parse_json(request.body)
        if envelope.kind == eventsub.CHALLENGE:
            self._collector.count("challenge", "answered")
            answer: str = validate(Challenge.model_validate, payload).challenge
            return answer
        origin = Origin(envelope.delivery_id, envelope.sent_at)
        if envelope.kind == eventsub.REVOCATION:
            self._notifications.revoke(payload, origin, take)
        elif envelope.kind == eventsub.NOTIFICATION:
            self._notifications.notify(payload, origin, take)
        else:
            self._collector.count("unknown", "ignored")
        return None
