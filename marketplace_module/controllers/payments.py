"""What payment providers tell, and what a community pays for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import Strict
from waddlebot.community.communities import community_of
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANYBODY, Account
from waddlebot.web.endpoint import RawRequest, endpoint
from waddlebot.web.lists import whole_list_answer

from ..services.payments import Stripe
from ..services.subscriptions import Subscriptions, list_payments, list_subscriptions

MAX_BODY_BYTES = 256 * 1024


class PlaceQuery(Strict):
    community_id: str | None = None


@endpoint("POST", "/marketplace/payments/stripe", caller=ANYBODY, max_body_bytes=MAX_BODY_BYTES)
def take_stripe(request: RawRequest, stripe: Stripe, subscriptions: Subscriptions) -> dict[str, Any]:
    """Take a webhook of Stripe's, once, if it is signed."""
    delivery = stripe.read(request.headers, request.body)
    is_new = subscriptions.take(stripe.name, delivery)
    return {"success": True, "received": True, "duplicate": not is_new}


@endpoint("GET", "/marketplace/subscriptions", caller=ADMINS_OR_API_USERS, area="settings", query=PlaceQuery)
def read_subscriptions(query: PlaceQuery, caller: Account, db: DAL, warning: timedelta) -> dict[str, Any]:
    """What a community pays for, and what it has paid."""
    community_id = community_of(db, caller, query.community_id)
    payments = list_payments(db, community_id)
    return whole_list_answer("subscriptions", list_subscriptions(db, community_id, warning), payments=payments)
