"""What payment providers tell: who pays for a community, until when, and what was paid. Stripe is the one there is."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import SecretStr
from waddlebot.base.errors import BadRequest, BadSignature, NotConfigured
from waddlebot.base.wire import parse_json

# Source: https://docs.stripe.com/webhooks/signatures, "Preventing replay attacks".
TOLERANCE_S = 300
# Currencies whose smallest unit is the whole. Source: https://docs.stripe.com/currencies#zero-decimal
ZERO_DECIMAL = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"]
)
PAYING = ("active", "trialing", "past_due", "unpaid")


@dataclass(frozen=True, slots=True)
class SubscriptionTold:
    """How a subscription is now. What is None was not told."""

    provider_id: str
    community: str | None
    module_id: str | None
    # Until when it is paid; what is told of an end counts, of a longer time only if it was paid.
    period_end: datetime | None
    is_cancelled: bool
    cancel_at_period_end: bool | None
    is_paid: bool


@dataclass(frozen=True, slots=True)
class PaymentTold:
    payment_id: str
    subscription_id: str
    community: str | None
    amount: float
    currency: str
    status: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signed delivery. Nothing in it: it is of a kind that says nothing about subscriptions."""

    event_id: str
    type: str
    at: datetime
    subscription: SubscriptionTold | None = None
    payment: PaymentTold | None = None


class PaymentProvider(Protocol):
    name: str

    def read(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Raises: NotConfigured; BadSignature; BadRequest."""


@dataclass(frozen=True, slots=True)
class Stripe:
    """Stripe's webhooks, of any API version: `metadata` of a subscription or checkout names `community_id`, and
    `module_id` if it is for one module only.

    Source: https://docs.stripe.com/webhooks/signatures and https://docs.stripe.com/api/events/types
    """

    secret: SecretStr | None
    name: str = field(default="stripe")

    def read(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        if self.secret is None:
            raise NotConfigured("PAYMENTS_WEBHOOK_SECRET is not set, so nobody's payments are believed.")
        check_signature(headers.get("stripe-signature", ""), body, self.secret.get_secret_value())
        event = parse_json(body)
        try:
            kind, what = str(event["type"]), event["data"]["object"]
            delivery = Delivery(str(event["id"]), kind, _time(event["created"]))
            if kind.startswith("customer.subscription."):
                return _of_subscription(delivery, what, is_over=kind.endswith(".deleted"))
            if kind in ("invoice.paid", "invoice.payment_succeeded", "invoice.payment_failed"):
                return _of_invoice(delivery, what)
            if kind == "checkout.session.completed":
                return _of_checkout(delivery, what)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError) as err:
            raise BadRequest("This is signed, but it is no event of Stripe's that can be read.") from err
        return delivery


def check_signature(header: str, body: bytes, secret: str) -> None:
    """Whether one of the header's `v1` is the HMAC-SHA256 of `<t>.<body>`, and `t` is of the last five minutes.

    Raises: BadSignature.
    """
    parts = [part.strip().partition("=") for part in header.split(",")[:20]]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit() or len(times[0]) > 12 or not given:
        raise BadSignature("Stripe-Signature is missing or cannot be read.")
    expected = hmac.new(secret.encode(), times[0].encode() + b"." + body, hashlib.sha256).hexdigest()
    matching = [hmac.compare_digest(expected.encode(), each.encode()) for each in given]
    if not any(matching):
        raise BadSignature()
    if abs(time.time() - int(times[0])) > TOLERANCE_S:
        raise BadSignature("That was signed too long ago.")


def _of_subscription(delivery: Delivery, what: Mapping[str, Any], *, is_over: bool) -> Delivery:
    status = str(what.get("status", ""))
    is_cancelled = is_over or status == "canceled"
    end = what.get("ended_at") if is_cancelled else None
    metadata = what.get("metadata") or {}
    told = SubscriptionTold(
        provider_id=str(what["id"]),
        community=_community(metadata),
        module_id=metadata.get("module_id") or None,
        period_end=_time(end or _period_end(what)),
        is_cancelled=is_cancelled,
        cancel_at_period_end=bool(what.get("cancel_at_period_end") or what.get("cancel_at")),
        # A period that was begun and not paid for is no longer time.
        is_paid=status in ("active", "trialing"),
    )
    known = is_cancelled or status in PAYING
    return Delivery(delivery.event_id, delivery.type, delivery.at, told if known else None)


def _period_end(what: Mapping[str, Any]) -> int:
    """At the top of a subscription until API version 2025-03-31, in its items from then on."""
    if what.get("current_period_end"):
        return int(what["current_period_end"])
    return max(int(item["current_period_end"]) for item in what["items"]["data"])


def _of_invoice(delivery: Delivery, what: Mapping[str, Any]) -> Delivery:
    details = (what.get("parent") or {}).get("subscription_details") or what.get("subscription_details") or {}
    subscription_id = str(what.get("subscription") or details.get("subscription") or "")
    metadata = {**(what.get("metadata") or {}), **(details.get("metadata") or {})}
    community = _community(metadata)
    is_paid = delivery.type != "invoice.payment_failed"
    payment = PaymentTold(
        payment_id=str(what["id"]),
        subscription_id=subscription_id,
        community=community,
        amount=_amount(what["amount_paid" if is_paid else "amount_due"], what["currency"]),
        currency=str(what["currency"]).upper(),
        status="paid" if is_paid else "failed",
    )
    subscription = None
    if is_paid and subscription_id:
        ends = [int(line["period"]["end"]) for line in (what.get("lines") or {}).get("data", [])]
        end = _time(max(ends)) if ends else None
        subscription = SubscriptionTold(
            subscription_id, community, metadata.get("module_id") or None, end, False, None, True
        )
    return Delivery(delivery.event_id, delivery.type, delivery.at, subscription, payment)


def _of_checkout(delivery: Delivery, what: Mapping[str, Any]) -> Delivery:
    """Tells whose a subscription is; what it covers comes with the subscription and its invoice."""
    metadata = what.get("metadata") or {}
    community = _community(metadata) or what.get("client_reference_id")
    if not what.get("subscription"):
        return delivery
    told = SubscriptionTold(
        str(what["subscription"]), community, metadata.get("module_id") or None, None, False, None, False
    )
    return Delivery(delivery.event_id, delivery.type, delivery.at, told)


def _community(metadata: Mapping[str, Any]) -> str | None:
    found = metadata.get("community_id")
    return None if found is None or found == "" else str(found)


def _amount(smallest_units: Any, currency: Any) -> float:
    return int(smallest_units) / (1 if str(currency).upper() in ZERO_DECIMAL else 100)


def _time(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


__all__: Sequence[str] = ["Delivery", "PaymentProvider", "PaymentTold", "Stripe", "SubscriptionTold", "check_signature"]
