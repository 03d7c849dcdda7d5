"""Who has paid for what. Only a provider's signed word changes it; the router refuses calls by `paid_until`.

active ─► 3 days before the end: the owner is warned ─► the end ─► 7 days of grace ─► refused, the owner is told
   └ cancelled at the end of the period: refused from then on, without grace
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydal import DAL
from waddlebot.base.errors import UpstreamRefused
from waddlebot.base.logs import AAALog
from waddlebot.community.communities import find_community
from waddlebot.data import audit
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.module.call import say
from waddlebot.web.clients import RouterClient

from .payments import Delivery, PaymentTold, SubscriptionTold
from .publishing import MODULE

AT_ONCE = 200
# The router's cache of what communities have.
COMMANDS = "commands"
# Ends that are older than this need no word any more.
TOLD_WITHIN = "30 days"
KNOWN = (
    "SELECT id, module_id, provider, provider_id, status, period_end, cancel_at_period_end, paid_until, created_at"
    " FROM community_subscriptions"
)


class Subscriptions:
    def __init__(
        self, db: Database, bus: Bus, router: RouterClient, log: AAALog, *, grace: timedelta, warning: timedelta
    ) -> None:
        self._db = db
        self._bus = bus
        self._router = router
        self._log = log
        self._grace = grace
        self._warning = warning

    def take(self, provider: str, delivery: Delivery) -> bool:
        """Put down what a provider has told. False when it was told before."""
        with self._db.transaction() as db:
            is_new = fetch(
                db,
                "INSERT INTO payment_events (provider, event_id, type) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
                " RETURNING id",
                (provider, delivery.event_id, delivery.type),
            )
            if not is_new:
                return False
            community_id = self._apply(db, provider, delivery)
        if community_id is not None:
            self._bus.invalidate(COMMANDS, community_id)
        elif delivery.subscription or delivery.payment:
            self._log.error("payment_of_nobody", provider=provider, event_id=delivery.event_id, type=delivery.type)
        return True

    def _apply(self, db: DAL, provider: str, delivery: Delivery) -> int | None:
        """The community that it is about; None where it is about none that is known."""
        told, payment = delivery.subscription, delivery.payment
        provider_id = told.provider_id if told else payment.subscription_id if payment else ""
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('subscription ' || %s, 0))", (provider_id,))
        known = fetch_one(
            db,
            "SELECT * FROM community_subscriptions WHERE provider = %s AND provider_id = %s",
            (provider, provider_id),
        )
        named = (told.community if told else None) or (payment.community if payment else None)
        community_id = known["community_id"] if known else find_community(db, named) if named else None
        if community_id is None:
            return None
        if told is not None:
            self._put(db, provider, told, known, community_id, delivery.at)
        if payment is not None:
            _put_payment(db, provider, payment, community_id, delivery.at)
        return int(community_id)

    def _put(
        self,
        db: DAL,
        provider: str,
        told: SubscriptionTold,
        known: dict[str, Any] | None,
        community_id: int,
        at: datetime,
    ) -> None:
        is_late = known is not None and at < known["provider_at"]
        if is_late and not told.is_paid:
            return  # It was told before something that counts already.
        end = _later_end(told, known, is_late=is_late, at=at)
        ends_then = known["cancel_at_period_end"] if known else False
        if told.cancel_at_period_end is not None and not is_late:
            ends_then = told.cancel_at_period_end
        is_cancelled = known["status"] == "cancelled" if known and is_late else told.is_cancelled
        paid_until = end if is_cancelled or ends_then else end + self._grace
        row = {
            "community": community_id,
            "module": told.module_id or (known["module_id"] if known else None),
            "provider": provider,
            "id": told.provider_id,
            "status": "cancelled" if is_cancelled else "active",
            "end": end,
            "ends_then": ends_then,
            "paid_until": paid_until,
            "at": max(at, known["provider_at"]) if known else at,
        }
        fetch(
            db,
            "INSERT INTO community_subscriptions (community_id, module_id, provider, provider_id, status, period_end,"
            " cancel_at_period_end, paid_until, provider_at) VALUES (%(community)s, %(module)s, %(provider)s, %(id)s,"
            " %(status)s, %(end)s, %(ends_then)s, %(paid_until)s, %(at)s) ON CONFLICT (provider, provider_id) DO UPDATE"
            " SET module_id = excluded.module_id, status = excluded.status, period_end = excluded.period_end,"
            " cancel_at_period_end = excluded.cancel_at_period_end, paid_until = excluded.paid_until,"
            " provider_at = excluded.provider_at, updated_at = now()",
            row,
        )
        audit.record(
            db,
            MODULE,
            "subscription_changed",
            f"subscription/{provider}/{told.provider_id}",
            community_id=community_id,
            before=_as_recorded(known) if known else None,
            after={"status": row["status"], "period_end": end, "cancel_at_period_end": ends_then},
        )

    def tell_owners(self) -> bool:
        """Warn before a subscription ends, and say when it has, once each. True when there may be more."""
        rows = self._db.statement(
            "SELECT s.* FROM community_subscriptions s WHERE period_end < now() + %(warning)s"
            f" AND paid_until > now() - interval '{TOLD_WITHIN}' AND status = 'active'"
            # Another one that goes on covers the same.
            " AND NOT EXISTS (SELECT FROM community_subscriptions o WHERE o.community_id = s.community_id"
            "  AND o.paid_until > s.paid_until AND coalesce(o.module_id, '') IN ('', s.module_id))"
            " ORDER BY id LIMIT %(limit)s",
            {"warning": self._warning, "limit": AT_ONCE},
        )
        now = datetime.now(UTC)
        for row in rows:
            stage, words = _stage(row, now)
            what = row["module_id"] or "your paid modules"
            announcement_id = f"subscription-{row['id']}-{row['period_end']:%Y%m%d%H%M%S}-{stage}"
            message = words.format(what=what, end=row["period_end"], until=row["paid_until"])
            try:
                self._router.announce(announcement_id, [say(message)], community_id=row["community_id"], to="owner")
            except UpstreamRefused as err:
                self._log.error("owner_not_told", community=row["community_id"], message=err.message)
        return False


def _later_end(told: SubscriptionTold, known: dict[str, Any] | None, *, is_late: bool, at: datetime) -> datetime:
    """Until when it is paid. A cancellation may end it sooner; nothing else takes away what was paid for."""
    before = known["period_end"] if known else None
    if told.period_end is None or (not told.is_paid and not told.is_cancelled):
        return before or at
    if told.is_cancelled and not is_late:
        return told.period_end
    return max(told.period_end, before) if before else told.period_end


def _stage(row: dict[str, Any], now: datetime) -> tuple[str, str]:
    if now >= row["paid_until"]:
        return "expired", "The subscription for {what} has ended, so it answers nobody any more. Renew it to go on."
    if now >= row["period_end"]:
        return "grace", "The subscription for {what} ended on {end:%d %b %Y}; it goes on until {until:%d %b %Y}."
    if row["cancel_at_period_end"]:
        return "expiring", "The subscription for {what} is cancelled and ends on {end:%d %b %Y}."
    return "expiring", "The subscription for {what} has to be renewed by {end:%d %b %Y}."


def _put_payment(db: DAL, provider: str, payment: PaymentTold, community_id: int, at: datetime) -> None:
    fetch(
        db,
        "INSERT INTO community_payments AS p (community_id, provider, payment_id, subscription_id, amount, currency,"
        " payment_status, paid_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (provider, payment_id)"
        " DO UPDATE SET payment_status = excluded.payment_status, amount = excluded.amount, paid_at = excluded.paid_at"
        " WHERE p.payment_status <> 'paid'",
        (
            community_id,
            provider,
            payment.payment_id,
            payment.subscription_id,
            payment.amount,
            payment.currency,
            payment.status,
            at,
        ),
    )


def _as_recorded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("status", "period_end", "cancel_at_period_end")}


def find_paid_until(
    db: DAL, community_id: int, module_id: str | None, *, warning: timedelta = timedelta(days=3)
) -> tuple[datetime | None, str]:
    """Until when a module, or with None anything, is paid for, and what that means now: none, active, expiring (soon),
    grace, expired or cancelled."""
    row = fetch_one(
        db,
        f"{KNOWN} WHERE community_id = %(community)s"
        " AND (%(module)s::text IS NULL OR coalesce(module_id, %(module)s) = %(module)s)"
        " ORDER BY paid_until DESC LIMIT 1",
        {"community": community_id, "module": module_id},
    )
    if row is None:
        return None, "none"
    return row["paid_until"], status_of(row, warning)


def status_of(row: dict[str, Any], warning: timedelta) -> str:
    now = datetime.now(UTC)
    if now >= row["paid_until"]:
        return "cancelled" if row["status"] == "cancelled" or row["cancel_at_period_end"] else "expired"
    if now >= row["period_end"]:
        return "grace"
    return "expiring" if row["period_end"] - now <= warning else "active"


def list_subscriptions(db: DAL, community_id: int, warning: timedelta) -> list[dict[str, Any]]:
    rows = fetch(db, f"{KNOWN} WHERE community_id = %s ORDER BY id DESC LIMIT 100", (community_id,))
    return [{**row, "subscription_status": status_of(row, warning)} for row in rows]


def list_payments(db: DAL, community_id: int) -> list[dict[str, Any]]:
    return fetch(
        db,
        "SELECT payment_id, provider, subscription_id, amount, currency, payment_status, paid_at"
        " FROM community_payments WHERE community_id = %s ORDER BY id DESC LIMIT 100",
        (community_id,),
    )
