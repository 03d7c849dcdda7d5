"""EventSub: subscriptions and what becomes of them, and the delivery of notifications.

Source: https://dev.twitch.tv/docs/eventsub/manage-subscriptions/
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .accounts import Account, Accounts
from .kinds import BROADCASTER, KINDS, MODERATOR, USER, Kind
from .oauth import Token
from .wire import Answer, Delivery, Post, Refused, encode, read_object, timestamp

if TYPE_CHECKING:
    from .conduits import Conduits
    from .websocket import Sockets

# Twitch tries about five times, over minutes; here it is as often and sooner.
RETRY_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
MAX_OF_A_KIND = 3
MAX_WEBHOOK_COST = 10_000
MAX_WEBSOCKET_COST = 10
MAX_PER_SESSION = 300
MAX_SESSIONS = 3
PAGE = 100
# Deliveries that failed, with all their tries, one after the other.
MAX_FAILURES = 10

ENABLED = "enabled"
PENDING = "webhook_callback_verification_pending"
UNVERIFIED = "webhook_callback_verification_failed"
FAILED = "notification_failures_exceeded"


@dataclass(slots=True)
class Subscription:
    id: str
    type: str
    version: str
    condition: dict[str, str]
    transport: dict[str, str]
    cost: int
    status: str = ENABLED
    # Whose cost it is: a user's for a websocket, the app's ("") for a webhook.
    user_id: str = ""
    secret: bytes = b""
    failures: int = 0
    created_at: str = field(default_factory=timestamp)

    @property
    def is_enabled(self) -> bool:
        return self.status == ENABLED

    @property
    def session_id(self) -> str:
        return self.transport.get("session_id", "")

    @property
    def kind(self) -> Kind:
        return KINDS[self.type]

    def to_wire(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "type": self.type,
            "version": self.version,
            "condition": self.condition,
            "transport": self.transport,
            "created_at": self.created_at,
            "cost": self.cost,
        }


class EventSub:
    """Holds the subscriptions and delivers to them. May be called from any thread."""

    def __init__(self, accounts: Accounts, post: Post, *, client_id: str) -> None:
        self._accounts = accounts
        self._post = post
        self._client_id = client_id
        self._by_id: dict[str, Subscription] = {}
        self._by_place: dict[tuple[str, str], list[Subscription]] = {}
        # By whose they are: a user's, or the app's ("").
        self._own: dict[str, dict[str, Subscription]] = {}
        self._background = ThreadPoolExecutor(16, thread_name_prefix="eventsub")
        self.sockets: Sockets | None = None
        self.conduits: Conduits | None = None
        self.retry_pauses_s: Sequence[float] = RETRY_PAUSES_S
        self.max_failures = MAX_FAILURES
        self.max_webhook_cost = MAX_WEBHOOK_COST
        # The next callbacks that are asked to prove themselves are not asked, and stay pending.
        self.forgets_challenges = 0

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._by_id.values()))

    def find(self, type_: str, channel: str = "") -> list[Subscription]:
        """Subscriptions of a type, of one channel (or whatever else their condition names) or of all."""
        return [each for each in self if each.type == type_ and (not channel or channel in each.condition.values())]

    def knows(self, place: str) -> bool:
        """Whether anything was ever subscribed to of a channel, and not deleted."""
        return any(self._by_place.get((type_, place)) for type_ in KINDS)

    def clear(self) -> None:
        self._by_id.clear()
        self._by_place.clear()
        self._own.clear()
        if self.conduits is not None:
            self.conduits.clear()

    def close(self) -> None:
        self._background.shutdown(wait=False, cancel_futures=True)

    # Managing

    def create(self, token: Token, asked: Mapping[str, Any]) -> Subscription:
        """A new subscription: pending until its callback has proved itself, or enabled at once on a websocket.

        Raises: Refused.
        """
        type_, kind = _check_type(asked)
        condition = _check_condition(kind, asked.get("condition"))
        transport = asked.get("transport")
        if not isinstance(transport, dict) or transport.get("method") not in ("webhook", "websocket", "conduit"):
            raise Refused(400, "unsupported transport")
        is_webhook, is_socket = transport["method"] == "webhook", transport["method"] == "websocket"
        if token.is_app is is_socket or (kind.webhook_only and is_socket):
            raise Refused(400, "invalid transport and auth combination")
        self._check_consent(kind, condition, token)
        self._check_number(type_, condition, transport)
        made = Subscription(
            str(uuid.uuid4()), type_, kind.version, condition, {}, self._cost(kind, condition), user_id=token.user_id
        )
        if is_webhook:
            self._prepare_webhook(made, transport)
        elif is_socket:
            self._prepare_websocket(made, str(transport.get("session_id", "")))
        else:
            self._prepare_conduit(made, str(transport.get("conduit_id", "")))
        limit = MAX_WEBSOCKET_COST if is_socket else self.max_webhook_cost
        if self.total_cost(token) + made.cost > limit:
            raise Refused(429, "maximum total cost exceeded")
        self._by_id[made.id] = self._own.setdefault(made.user_id, {})[made.id] = made
        for place in set(made.condition.values()):
            self._by_place.setdefault((made.type, place), []).append(made)
        if is_webhook and self.forgets_challenges > 0:
            self.forgets_challenges -= 1
        elif is_webhook:
            self._background.submit(self._verify, made)
        return made

    def delete(self, token: Token, subscription_id: str) -> None:
        """Raises: Refused."""
        found = self._by_id.get(subscription_id)
        if found is None or found.user_id != token.user_id:
            raise Refused(404, "subscription not found")
        self._forget(found)

    def page(self, token: Token, filters: Mapping[str, str], after: int) -> tuple[list[Subscription], int]:
        """Some of the caller's subscriptions, and how many there are that fit. Raises: Refused."""
        given = [name for name in ("status", "type", "user_id", "subscription_id") if filters.get(name)]
        if len(given) > 1:
            raise Refused(400, "only one of the filters may be given")
        fits: dict[str, Callable[[Subscription, str], bool]] = {
            "status": lambda each, wanted: each.status == wanted,
            "type": lambda each, wanted: each.type == wanted,
            "user_id": lambda each, wanted: wanted in each.condition.values(),
            "subscription_id": lambda each, wanted: each.id == wanted,
        }
        chosen = [each for each in self._owned(token) if all(fits[name](each, filters[name]) for name in given)]
        return chosen[after : after + PAGE], len(chosen)

    def total(self, token: Token) -> int:
        return len(self._own.get(token.user_id, ()))

    def total_cost(self, token: Token) -> int:
        return sum(each.cost for each in self._owned(token) if each.is_enabled)

    def limit(self, token: Token) -> int:
        return self.max_webhook_cost if token.is_app else MAX_WEBSOCKET_COST

    def _owned(self, token: Token) -> list[Subscription]:
        return list(self._own.get(token.user_id, {}).values())

    def _forget(self, subscription: Subscription) -> None:
        self._by_id.pop(subscription.id, None)
        self._own[subscription.user_id].pop(subscription.id, None)
        for place in set(subscription.condition.values()):
            self._by_place[(subscription.type, place)].remove(subscription)

    def _check_consent(self, kind: Kind, condition: Mapping[str, str], token: Token) -> None:
        """Raises: Refused where somebody has not consented, or may not watch."""
        forbidden = Refused(403, "subscription missing proper authorization")
        if kind.webhook_only and condition["client_id"] != self._client_id:
            raise forbidden
        for name, user_id in condition.items():
            if name != "client_id" and self._accounts.find(user_id) is None:
                raise Refused(400, f"{name}: user not found")
        if not self.is_consented(kind, condition, with_app=token.is_app):
            raise forbidden
        if kind.needs and not token.is_app:
            watcher, any_of = kind.needs
            if condition[watcher] != token.user_id or not set(any_of) & set(token.scopes):
                raise forbidden
        if kind.is_chat and self._account(condition[BROADCASTER]).ban_of(condition[USER]):
            raise forbidden

    def is_consented(self, kind: Kind, condition: Mapping[str, str], *, with_app: bool) -> bool:
        if kind.needs:
            name, any_of = kind.needs
            if not self._account(condition[name]).has_consented(*any_of):
                return False
        if MODERATOR in condition:
            return self._account(condition[BROADCASTER]).is_moderated_by(condition[MODERATOR])
        if not kind.is_chat or not with_app:
            return True
        channel, bot = self._account(condition[BROADCASTER]), self._account(condition[USER])
        lets_in = channel.has_consented("channel:bot") or channel.is_moderated_by(bot.id)
        return bot.has_consented("user:bot") and lets_in

    def _check_number(self, type_: str, condition: Mapping[str, str], transport: Mapping[str, Any]) -> None:
        nearby = self._by_place.get((type_, next(iter(condition.values()))), ())
        alike = [each for each in nearby if each.condition == condition and each.status in (ENABLED, PENDING)]
        place = transport.get("callback") or transport.get("session_id") or transport.get("conduit_id")
        if any(place in each.transport.values() for each in alike):
            raise Refused(409, "subscription already exists")
        if len(alike) >= MAX_OF_A_KIND:
            raise Refused(429, "maximum subscriptions with type and condition exceeded")

    def _prepare_webhook(self, made: Subscription, transport: Mapping[str, Any]) -> None:
        callback, secret = str(transport.get("callback", "")), str(transport.get("secret", ""))
        if not callback.startswith("https://"):
            raise Refused(400, "invalid transport: callback must be an https URL on port 443")
        if not secret.isascii() or not 10 <= len(secret) <= 100:
            raise Refused(400, "secret must be between 10 and 100 characters")
        made.transport = {"method": "webhook", "callback": callback}
        made.secret = secret.encode()
        made.status = PENDING

    def _prepare_conduit(self, made: Subscription, conduit_id: str) -> None:
        if self.conduits is None or conduit_id not in self.conduits.by_id:
            raise Refused(400, "conduit not found")
        made.transport = {"method": "conduit", "conduit_id": conduit_id}

    def _prepare_websocket(self, made: Subscription, session_id: str) -> None:
        connected_at = self.sockets.connected_at(session_id) if self.sockets else None
        if connected_at is None:
            raise Refused(400, "session does not exist or has already disconnected")
        sockets = [each for each in self if each.session_id and each.is_enabled]
        here = [each for each in sockets if each.session_id == session_id]
        if any(each.user_id != made.user_id for each in here):
            raise Refused(400, "websocket transport cannot have subscriptions created by different users")
        if len(here) >= MAX_PER_SESSION:
            raise Refused(429, "number of subscriptions per websocket transport exceeded")
        sessions = {each.session_id for each in sockets if each.user_id == made.user_id}
        if len(sessions | {session_id}) > MAX_SESSIONS:
            raise Refused(429, "number of websocket transports limit exceeded")
        made.transport = {"method": "websocket", "session_id": session_id, "connected_at": connected_at}

    def _cost(self, kind: Kind, condition: Mapping[str, str]) -> int:
        """Nothing for whom the app knows, one for everybody else."""
        if kind.webhook_only or kind.needs:
            return 0
        return 0 if any(self._knows(user_id) for user_id in condition.values()) else 1

    def _knows(self, user_id: str) -> bool:
        account = self._account(user_id)
        return not account.is_made or bool(account.consents)

    def _account(self, user_id: str) -> Account:
        return self._accounts.get(user_id)

    def _verify(self, subscription: Subscription) -> None:
        challenge = secrets.token_urlsafe(32)
        body = encode({"challenge": challenge, "subscription": subscription.to_wire()})
        answer = self._post(sign_for(subscription, body, "webhook_callback_verification"))
        proved = answer == 200 if isinstance(answer, int) else (answer.status, answer.body) == (200, challenge.encode())
        if subscription.status == PENDING:
            subscription.status = ENABLED if proved else UNVERIFIED

    # Delivering

    def notify(self, type_: str, event: Mapping[str, Any]) -> list[list[int]]:
        """Deliver to every subscription that this is for. Returns the statuses of each webhook's tries."""
        return [self._deliver(each, event) for each in self.listening(type_, event)]

    def notify_soon(self, type_: str, event: Mapping[str, Any]) -> None:
        """The same, without waiting: for whoever is answering a request meanwhile."""
        for each in self.listening(type_, event):
            self._background.submit(self._deliver, each, event)

    def listening(self, type_: str, event: Mapping[str, Any]) -> list[Subscription]:
        names = KINDS[type_].condition if type_ in KINDS else (BROADCASTER,)
        found = {
            each.id: each
            for name in names
            for each in self._by_place.get((type_, str(event.get(name, ""))), ())
            if each.is_enabled and each.kind.matches(each.condition, event)
        }
        return list(found.values())

    def notify_by_socket(self, subscription: Subscription, event: Mapping[str, Any]) -> bool:
        """Send to a socket of its own or of its conduit. False where it has to be posted."""
        if subscription.session_id:
            assert self.sockets is not None
            self.sockets.notify(subscription, event)
        elif subscription.transport["method"] == "conduit":
            assert self.conduits is not None
            self.conduits.notify(subscription, event)
        else:
            return False
        return True

    def _deliver(self, subscription: Subscription, event: Mapping[str, Any]) -> list[int]:
        if self.notify_by_socket(subscription, event):
            return []
        body = encode({"subscription": subscription.to_wire(), "event": event})
        statuses = self.post_until_taken(sign_for(subscription, body, "notification"))
        if 200 <= statuses[-1] < 300:
            subscription.failures = 0
        else:
            subscription.failures += 1
        if subscription.failures >= self.max_failures and subscription.is_enabled:
            self.revoke(subscription, FAILED)
        return statuses

    def post(self, delivery: Delivery) -> int | Answer:
        """One try."""
        return self._post(delivery)

    def run_soon(self, work: Callable[[], None]) -> None:
        self._background.submit(work)

    def post_until_taken(self, delivery: Delivery, pauses_s: Sequence[float] | None = None) -> list[int]:
        """Post, and again with the same id and a higher Message-Retry until the answer is 2xx.

        Returns the status of each try; 0 is a try without an answer.
        """
        statuses: list[int] = []
        for retry, pause_s in enumerate([*(self.retry_pauses_s if pauses_s is None else pauses_s), 0.0]):
            headers = {**delivery.headers, "Twitch-Eventsub-Message-Retry": str(retry)}
            answer = self._post(replace(delivery, headers=headers))
            statuses.append(answer if isinstance(answer, int) else answer.status)
            if 200 <= statuses[-1] < 300:
                break
            time.sleep(pause_s)
        return statuses

    # Ending

    def revoke(self, subscription: Subscription, status: str) -> None:
        """End a subscription and tell its transport why."""
        if not subscription.is_enabled and subscription.status != PENDING:
            return
        subscription.status = status
        if subscription.session_id:
            assert self.sockets is not None
            self.sockets.tell_revoked(subscription)
            return
        if subscription.transport["method"] == "conduit":
            assert self.conduits is not None
            self.conduits.tell_revoked(subscription)
            return
        body = encode({"subscription": subscription.to_wire()})
        self._background.submit(self._post, sign_for(subscription, body, "revocation"))

    def revoke_where(self, status: str, wanted: Callable[[Subscription], bool]) -> list[Subscription]:
        ended = [each for each in self if each.is_enabled and wanted(each)]
        for each in ended:
            self.revoke(each, status)
        return ended

    def revoke_unconsented(self, status: str) -> list[Subscription]:
        """End what nobody would be allowed to subscribe to any more."""
        return self.revoke_where(
            status, lambda each: not self.is_consented(each.kind, each.condition, with_app=not each.session_id)
        )


def sign(
    secret: bytes,
    body: bytes,
    *,
    kind: str,
    subscription_type: str,
    version: str = "1",
    delivery_id: str = "",
    age_s: float = 0,
) -> Delivery:
    """Any body, signed as Twitch signs."""
    delivery_id = delivery_id or str(uuid.uuid4())
    sent_at = timestamp(time.time() - age_s)
    digest = hmac.new(secret, (delivery_id + sent_at).encode() + body, hashlib.sha256).hexdigest()
    return Delivery(
        {
            "Content-Type": "application/json",
            "Twitch-Eventsub-Message-Id": delivery_id,
            "Twitch-Eventsub-Message-Retry": "0",
            "Twitch-Eventsub-Message-Type": kind,
            "Twitch-Eventsub-Message-Signature": "sha256=" + digest,
            "Twitch-Eventsub-Message-Timestamp": sent_at,
            "Twitch-Eventsub-Subscription-Type": subscription_type,
            "Twitch-Eventsub-Subscription-Version": version,
        },
        body,
    )


def sign_for(subscription: Subscription, body: bytes, kind: str) -> Delivery:
    """A body, signed with the subscription's secret and addressed to its callback."""
    signed = sign(
        subscription.secret, body, kind=kind, subscription_type=subscription.type, version=subscription.version
    )
    return replace(signed, url=subscription.transport["callback"])


def _check_type(asked: Mapping[str, Any]) -> tuple[str, Kind]:
    type_ = str(asked.get("type", ""))
    kind = KINDS.get(type_)
    if kind is None or str(asked.get("version", "")) != kind.version:
        raise Refused(400, f"invalid subscription type and version: {type_} v{asked.get('version', '')}")
    return type_, kind


def _check_condition(kind: Kind, given: object) -> dict[str, str]:
    """What the condition says, without fields that are left empty. Raises: Refused."""
    condition = {name: str(value) for name, value in given.items() if value} if isinstance(given, dict) else {}
    missing = [name for name in kind.condition if name not in condition]
    if kind.is_choice and len(missing) != len(kind.condition) - 1:
        raise Refused(400, "exactly one of " + " and ".join(kind.condition) + " must be specified")
    if missing and not kind.is_choice:
        raise Refused(400, f"missing required condition field {missing[0]}")
    if unknown := condition.keys() - set(kind.condition):
        raise Refused(400, f"unknown condition field {sorted(unknown)[0]}")
    return condition


class SubscriptionRoutes:
    """/helix/eventsub/subscriptions; whoever calls has been checked."""

    def __init__(self, eventsub: EventSub) -> None:
        self._eventsub = eventsub

    async def post(self, request: web.Request, token: Token) -> web.Response:
        made = self._eventsub.create(token, await read_object(request))
        return web.json_response(
            {"data": [made.to_wire()], "total": self._eventsub.total(token), **self._costs(token)}, status=202
        )

    async def get(self, request: web.Request, token: Token) -> web.Response:
        cursor = request.query.get("after", "0")
        after = int(cursor) if cursor.isdecimal() else 0
        found, total = self._eventsub.page(token, request.query, after)
        more = after + len(found) < total
        return web.json_response(
            {
                "data": [each.to_wire() for each in found],
                "total": total,
                **self._costs(token),
                "pagination": {"cursor": str(after + len(found))} if more else {},
            }
        )

    async def delete(self, request: web.Request, token: Token) -> web.Response:
        self._eventsub.delete(token, request.query.get("id", ""))
        return web.Response(status=204)

    def _costs(self, token: Token) -> dict[str, int]:
        return {"total_cost": self._eventsub.total_cost(token), "max_total_cost": self._eventsub.limit(token)}
