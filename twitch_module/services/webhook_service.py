"""What becomes of a delivery of EventSub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from waddlebot.aaa import AAALog
from waddlebot.collector import Collector
from waddlebot.contracts import OpaqueId, Wire
from waddlebot.errors import BadRequest, BadSignature
from waddlebot.event_store import Delivery, StoredEvent
from waddlebot.web import parse_json, validate

from . import eventsub
from .eventsub import Envelope
from .translation import ChatMessage, ChatNotification, translate

MAX_ID_CHARS = 255


class Challenge(Wire):
    challenge: OpaqueId


class Subscription(Wire):
    type: str
    status: str = ""


class Notice(Wire):
    """What every other delivery has."""

    subscription: Subscription


class WebhookService:
    """Decides about deliveries and has the collector keep them."""

    def __init__(self, collector: Collector, *, secret: bytes, bot_user_id: str, log: AAALog) -> None:
        self._collector = collector
        self._secret = secret
        self._bot_user_id = bot_user_id
        self._log = log

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
        if envelope.kind == eventsub.REVOCATION:
            self._note_revocation(envelope, payload)
        elif envelope.kind == eventsub.NOTIFICATION:
            self._take_notification(envelope, payload)
        else:
            self._collector.count("unknown", "ignored")
        return None

    def _take_notification(self, envelope: Envelope, payload: Any) -> None:
        type_ = validate(Notice.model_validate, payload).subscription.type
        _check_storable(envelope, payload)
        if type_ != eventsub.CHAT_MESSAGE:
            self._collector.take(_other(envelope, type_, payload, ignored="type not handled"))
            return
        message: ChatMessage = validate(ChatNotification.model_validate, payload).event
        delivery = Delivery(
            delivery_id=envelope.delivery_id,
            event_id=message.message_id,
            type=type_,
            channel_id=message.broadcaster_user_id,
            person_id=message.chatter_user_id,
            data=payload,
            occurred_at=envelope.sent_at,
            ignored=self._why_ignored(message),
        )
        # What cannot be translated is refused now, while Twitch still listens.
        validate(lambda it: translate(StoredEvent(0, it.event_id, it.type, it.channel_id, it.data, None)), delivery)
        self._collector.take(delivery)

    def _why_ignored(self, message: ChatMessage) -> str:
        if not self._collector.served.serves(message.broadcaster_user_id):
            return "channel not served"
        if message.chatter_user_id == self._bot_user_id or message.is_by_bot:
            return "said by a bot"
        source = message.source_broadcaster_user_id
        if source and source != message.broadcaster_user_id and self._collector.served.serves(source):
            # In a shared chat every channel gets a copy; the original one is answered, and everybody sees the answer.
            return "shared from another channel"
        return ""

    def _note_revocation(self, envelope: Envelope, payload: Any) -> None:
        subscription = validate(Notice.model_validate, payload).subscription
        _check_storable(envelope, payload)
        delivery = _other(
            envelope, f"revocation {subscription.type}", payload, ignored=f"revoked {subscription.status}"
        )
        if self._collector.take(delivery) != "repeated":
            self._log.system(
                "subscription_revoked",
                result="FAILED",
                subscription=subscription.type,
                status=subscription.status,
                channel=delivery.channel_id,
            )


def _other(envelope: Envelope, type_: str, payload: dict[str, Any], *, ignored: str) -> Delivery:
    """A delivery that is kept and not acted upon."""
    event = payload.get("event")
    condition = payload["subscription"].get("condition")
    places = [each for each in (event, condition) if isinstance(each, dict)]
    channel = next((str(each["broadcaster_user_id"]) for each in places if each.get("broadcaster_user_id")), "")
    return Delivery(
        delivery_id=envelope.delivery_id,
        event_id=envelope.delivery_id,
        type=type_[:MAX_ID_CHARS],
        channel_id=channel[:MAX_ID_CHARS],
        person_id="",
        data=payload,
        occurred_at=envelope.sent_at,
        ignored=ignored[:MAX_ID_CHARS],
    )


def _check_storable(envelope: Envelope, payload: Any) -> None:
    """Raises: BadRequest for what PostgreSQL's jsonb cannot hold."""
    if len(envelope.delivery_id) > MAX_ID_CHARS:
        raise BadRequest("The delivery id is too long.")
    try:
        json.dumps(payload, allow_nan=False)
    except (ValueError, RecursionError) as err:
        raise BadRequest("A number is out of range, or the body is nested too deeply.") from err
