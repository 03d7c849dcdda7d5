"""What becomes of a notification of EventSub, whichever way it came."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic_core import to_json
from waddlebot.base.contracts import Wire
from waddlebot.base.errors import BadRequest
from waddlebot.base.module_settings import HIDDEN
from waddlebot.base.wire import validate
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Delivery, Holding

from .translation import (
    AUTHORIZATION_REVOKED,
    BY_TYPE,
    CHANNEL_UPDATE,
    COPY,
    HAPPENINGS,
    KNOWN_TYPES,
    Authorization,
    ChannelUpdate,
    ChatMessage,
    Follow,
    Happening,
    StreamChange,
    StreamOnline,
)

MAX_ID_CHARS = 255


class Subscription(Wire):
    id: str = ""
    type: str
    version: str = ""
    status: str = ""


class Notice(Wire):
    """What every delivery has but a challenge."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class Origin:
    """Which delivery it is, when Twitch sent it, and under which claim its socket is held."""

    delivery_id: str
    sent_at: datetime
    holding: Holding | None = None


class Watchers(Protocol):
    """Who acts on what is no event of the fleet. Each may be told the same again."""

    def note_stream(self, broadcaster_id: str, *, is_live: bool, started_at: str = "") -> None: ...

    def note_channel(self, broadcaster_id: str, *, title: str, game: str) -> None: ...

    def note_follow(self, broadcaster_id: str, user_id: str, followed_at: str) -> None: ...

    def note_revoked_consent(self, user_id: str, *, sent_at: datetime) -> None: ...

    def note_revoked_subscription(
        self, subscription_id: str, type_: str, broadcaster_id: str, status: str, *, sent_at: datetime
    ) -> None: ...


Take = Callable[[Delivery], object]


class NotificationService:
    """Decides about notifications and has them kept."""

    def __init__(self, collector: Collector, watchers: Watchers, *, bot_user_id: str) -> None:
        self._collector = collector
        self._watchers = watchers
        self._bot_user_id = bot_user_id

    def notify(self, payload: Any, origin: Origin, take: Take) -> None:
        """Raises: BadRequest and Invalid for what is not as documented."""
        subscription = validate(Notice.model_validate, payload).subscription
        _check_storable(origin, payload)
        kind = _kind_of(subscription)
        if kind is None:
            take(_kept(origin, subscription.type, payload, ignored=self._note(subscription, payload, origin)))
            return
        # What cannot be translated is refused now, while Twitch still listens.
        happening: Happening = validate(kind.model_validate, payload.get("event"))
        channel, event_id = happening.broadcaster_user_id, happening.event_id or origin.delivery_id
        if isinstance(happening, StreamChange):
            started_at = happening.started_at if isinstance(happening, StreamOnline) else ""
            self._watchers.note_stream(channel, is_live=happening.is_live, started_at=started_at)
        if isinstance(happening, Follow):
            self._watchers.note_follow(channel, happening.user_id, happening.followed_at)
        ignored = self._why_ignored(happening)
        delivery = Delivery(
            delivery_id=origin.delivery_id,
            event_id=event_id,
            type=subscription.type,
            channel_id=channel,
            person_id=happening.person_id,
            data=_without_quote({**payload, COPY: True} if self._is_copy(happening) else payload),
            occurred_at=origin.sent_at,
            ignored=ignored,
            holding=origin.holding,
        )
        if ignored != NOT_SERVED:
            self._collector.liveness.heard(f"twitch::{channel}")
        take(delivery)

    def revoke(self, payload: Any, origin: Origin, take: Take) -> None:
        """Raises: BadRequest and Invalid for what is not as documented."""
        subscription = validate(Notice.model_validate, payload).subscription
        _check_storable(origin, payload)
        delivery = _kept(origin, f"revocation {subscription.type}", payload, ignored=f"revoked {subscription.status}")
        self._watchers.note_revoked_subscription(
            subscription.id, subscription.type, delivery.channel_id, subscription.status, sent_at=origin.sent_at
        )
        take(delivery)

    def _note(self, subscription: Subscription, payload: Any, origin: Origin) -> str:
        """Have somebody act on what is no event of the fleet. Returns why it goes no further."""
        event = payload.get("event")
        if subscription.type == AUTHORIZATION_REVOKED:
            user_id = validate(Authorization.model_validate, event).user_id
            self._watchers.note_revoked_consent(user_id, sent_at=origin.sent_at)
            return "noted"
        if subscription.type == CHANNEL_UPDATE:
            update = validate(ChannelUpdate.model_validate, event)
            if not self._collector.served.serves(update.broadcaster_user_id):
                return NOT_SERVED
            self._watchers.note_channel(update.broadcaster_user_id, title=update.title, game=update.category_name)
            return "noted"
        return "version not handled" if subscription.type in KNOWN_TYPES else "type not handled"

    def _why_ignored(self, happening: Happening) -> str:
        channel = happening.broadcaster_user_id
        if not self._collector.served.serves(channel):
            return NOT_SERVED
        if not isinstance(happening, ChatMessage):
            return ""
        if happening.chatter_user_id == self._bot_user_id or happening.is_by_bot:
            return "said by a bot"
        return ""

    def _is_copy(self, happening: Happening) -> bool:
        """In a shared chat every channel gets a copy. The original is answered, for all to see; the copy is judged by
        its own community's rules."""
        source = happening.source_broadcaster_user_id if isinstance(happening, ChatMessage) else None
        return bool(source) and source != happening.broadcaster_user_id and self._collector.served.serves(source or "")


NOT_SERVED = "channel not served"
QUOTE = "parent_message_body"


def _without_quote(payload: dict[str, Any]) -> dict[str, Any]:
    """Without the line that a reply answers. It is kept as its own event, if at all: with its secret words hidden, and
    until whoever said it is erased."""
    reply = payload["event"].get("reply")
    if not isinstance(reply, dict) or not reply.get(QUOTE):
        return payload
    return {**payload, "event": {**payload["event"], "reply": {**reply, QUOTE: HIDDEN}}}


def _kind_of(subscription: Subscription) -> type[Happening] | None:
    """What a notification tells, if it is a type in the version that we know."""
    if not subscription.version:
        return BY_TYPE.get(subscription.type)
    return HAPPENINGS.get((subscription.type, subscription.version))


def _kept(origin: Origin, type_: str, payload: dict[str, Any], *, ignored: str) -> Delivery:
    """A delivery that is kept and not forwarded."""
    event = payload.get("event")
    condition = payload["subscription"].get("condition")
    places = [each for each in (event, condition) if isinstance(each, dict)]
    names = ("broadcaster_user_id", "to_broadcaster_user_id", "user_id")
    channel = next((str(each[name]) for each in places for name in names if each.get(name)), "")
    return Delivery(
        delivery_id=origin.delivery_id,
        event_id=origin.delivery_id,
        type=type_[:MAX_ID_CHARS],
        channel_id=channel[:MAX_ID_CHARS],
        person_id="",
        data=payload,
        occurred_at=origin.sent_at,
        ignored=ignored[:MAX_ID_CHARS],
        holding=origin.holding,
    )


def _check_storable(origin: Origin, payload: Any) -> None:
    """Raises: BadRequest for what PostgreSQL's jsonb cannot hold."""
    if len(origin.delivery_id) > MAX_ID_CHARS:
        raise BadRequest("The delivery id is too long.")
    try:
        # Perhaps it is only a word that somebody said; then asking takes longer.
        if b"Infinity" in to_json(payload, inf_nan_mode="constants"):
            json.dumps(payload, allow_nan=False)
    except (ValueError, RecursionError) as err:
        raise BadRequest("A number is out of range, or the body is nested too deeply.") from err
