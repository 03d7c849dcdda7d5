"""Paid modules: who pays is a signed provider's word, and nobody else's."""

from __future__ import annotations

import importlib
import time

import pytest
from market import error, new_name
from waddlebot.testing.fleet import Fleet

DAY = 86_400


def subscription(market, *, ends_in_days: float, kind: str = "updated", created: float | None = None, **fields):
    """A `customer.subscription.*` as Stripe sends it."""
    now = time.time()
    return {
        "id": f"evt_{new_name()}",
        "object": "event",
        "api_version": "2024-06-20",
        "created": int(created or now),
        "type": f"customer.subscription.{kind}",
        "livemode": False,
        "data": {
            "object": {
                "id": f"sub_{market.bot.slug}",
                "object": "subscription",
                "customer": "cus_1",
                "status": "active",
                "cancel_at_period_end": False,
                "current_period_end": int(now + ends_in_days * DAY),
                "metadata": {"community_id": market.bot.slug},
                "items": {"object": "list", "data": [{"price": {"unit_amount": 500, "currency": "usd"}}]},
                **fields,
            }
        },
    }


def invoice(market, *, ends_in_days: float, paid: bool = True):
    """An `invoice.*` as Stripe sends it since API version 2025-03-31."""
    now = int(time.time())
    return {
        "id": f"evt_{new_name()}",
        "object": "event",
        "created": now,
        "type": "invoice.paid" if paid else "invoice.payment_failed",
        "data": {
            "object": {
                "id": f"in_{new_name()}",
                "object": "invoice",
                "currency": "usd",
                "amount_paid": 500 if paid else 0,
                "amount_due": 500,
                "parent": {
                    "type": "subscription_details",
                    "subscription_details": {
                        "subscription": f"sub_{market.bot.slug}",
                        "metadata": {"community_id": str(market.bot.community_id)},
                    },
                },
                "lines": {"data": [{"period": {"start": now, "end": int(now + ends_in_days * DAY)}}]},
            }
        },
    }


def paid_module(market) -> str:
    name = new_name()
    assert market.publish(name, more="price = 5").status == 200
    market.answers(name)
    return name


def status(market) -> str:
    query = {"community_id": market.bot.slug}
    found = market.fleet.request("GET", "/marketplace/subscriptions", key="admin", query=query).json()
    return found["subscriptions"][0]["subscription_status"]


def tell_owners(market: object) -> None:
    importlib.import_module("apps.marketplace_module.app").subscriptions.tell_owners()


def test_a_paid_module_needs_a_subscription_and_then_answers(market):
    name = paid_module(market)
    refused = market.install(name)
    assert (refused.status, error(refused)["code"]) == (403, "subscription_required")
    assert (error(refused)["details"]["price"], error(refused)["details"]["currency"]) == (5, "USD")
    assert market.pay(subscription(market, ends_in_days=30, kind="created")).status == 200
    assert status(market) == "active"
    assert market.install(name).status == 200
    assert market.bot.say(f"#{name}").statuses == ["success"]


def test_grace_the_end_and_a_renewal(market):
    name = paid_module(market)
    market.pay(subscription(market, ends_in_days=30))
    market.install(name)
    # Soon over: the owner is warned, once.
    market.pay(subscription(market, ends_in_days=2, id=f"sub_{market.bot.slug}2"))
    for days, expected, words in ((2, "expiring", "has to be renewed by"), (-1, "grace", "it goes on until")):
        other = market.fleet.bot()
        there = type(market)(market.fleet, other, market.stub)
        there.pay(subscription(there, ends_in_days=days))
        assert status(there) == expected
        assert there.install(name).status == 200
        assert other.say(f"#{name}").statuses == ["success"]
        for _ in range(2):
            tell_owners(market)
        assert len([each for each in there.notices() if words in each]) == 1, there.notices()
    # Nobody has paid for a week.
    other = market.fleet.bot()
    there = type(market)(market.fleet, other, market.stub)
    there.pay(subscription(there, ends_in_days=-3))
    there.install(name)
    there.pay(subscription(there, ends_in_days=-8, id=f"sub_{other.slug}", kind="deleted", status="canceled"))
    denied = other.say(f"#{name}")
    assert denied.answer["executions"][0]["error"]["code"] == "subscription_expired"
    assert (denied.statuses, status(there)) == (["denied"], "cancelled")
    # It is renewed, and the next line is answered.
    there.pay(invoice(there, ends_in_days=30))
    there.pay(subscription(there, ends_in_days=30))
    assert other.say(f"#{name}").statuses == ["success"]


def test_a_subscription_that_ended_is_refused_after_the_grace_and_the_owner_told_once(market):
    name = paid_module(market)
    market.pay(subscription(market, ends_in_days=-6.9999))
    assert status(market) == "grace"
    assert market.install(name).status == 200
    old = market.fleet.bot()
    there = type(market)(market.fleet, old, market.stub)
    there.pay(subscription(there, ends_in_days=-8))
    assert status(there) == "expired"
    assert error(there.install(name))["details"]["subscription_status"] == "expired"
    for _ in range(3):
        tell_owners(market)
    assert len([each for each in there.notices() if "has ended" in each]) == 1


def test_a_cancelled_one_lasts_to_the_end_of_its_period_and_no_longer(market):
    name = paid_module(market)
    market.pay(subscription(market, ends_in_days=10, cancel_at_period_end=True))
    assert market.install(name).status == 200
    assert market.bot.say(f"#{name}").statuses == ["success"]
    there = type(market)(market.fleet, market.fleet.bot(), market.stub)
    there.pay(subscription(there, ends_in_days=-0.01, cancel_at_period_end=True))
    assert status(there) == "cancelled"
    assert error(there.install(name))["code"] == "subscription_required"


def test_what_is_not_signed_as_stripe_signs_changes_nothing(market):
    event = subscription(market, ends_in_days=30)
    assert market.pay(event, by="whsec_other").status == 403
    assert market.pay(event, age_s=301).status == 403
    assert market.pay(event, age_s=-301).status == 403
    for header in (
        "",
        "t=1",
        "v1=00",
        "t=x,v1=00",
        "t=1,t=2,v1=00",
        "t=²,v1=00",
        f"t={int(time.time())},v1={'0' * 64}",
    ):
        assert market.pay(event, header=header).status == 403, header
    query = {"community_id": market.bot.slug}
    found = market.fleet.request("GET", "/marketplace/subscriptions", key="admin", query=query).json()
    assert (found["subscriptions"], found["payments"]) == ([], [])
    # Signed, and still no event.
    for nonsense in ({}, {"type": "invoice.paid"}, {**event, "data": {"object": []}}, {**event, "created": "now"}):
        assert market.pay(nonsense).status == 400, nonsense


def test_the_same_delivery_again_and_one_that_comes_late_count_once(market):
    event = subscription(market, ends_in_days=30)
    assert market.pay(event).json()["duplicate"] is False
    assert market.pay(event).json()["duplicate"] is True
    # An older word, delivered late, takes nothing back.
    market.pay(subscription(market, ends_in_days=-20, created=time.time() - 3600, status="past_due"))
    market.pay(subscription(market, ends_in_days=-20, created=time.time() - 3600, kind="deleted", status="canceled"))
    assert status(market) == "active"
    paid = invoice(market, ends_in_days=30)
    market.pay(paid)
    market.pay({**paid, "id": f"evt_{new_name()}"})
    query = {"community_id": market.bot.slug}
    found = market.fleet.request("GET", "/marketplace/subscriptions", key="admin", query=query).json()
    assert [(each["amount"], each["currency"], each["payment_status"]) for each in found["payments"]] == [
        (5, "USD", "paid")
    ]
    market.pay(invoice(market, ends_in_days=60, paid=False))
    assert status(market) == "active"
    # Of nobody that is known here, and of a kind that says nothing of subscriptions.
    assert (
        market.pay(subscription(market, ends_in_days=3, id="sub_x", metadata={"community_id": "nobody"})).status == 200
    )
    assert market.pay({**event, "id": f"evt_{new_name()}", "type": "charge.refunded"}).status == 200


def test_one_for_a_single_module_pays_for_that_alone(market):
    name, other = paid_module(market), paid_module(market)
    market.pay(subscription(market, ends_in_days=30, metadata={"community_id": market.bot.slug, "module_id": name}))
    assert market.install(name).status == 200
    assert market.install(other).status == 403


def test_no_endpoint_records_a_payment_but_the_webhook(fleet: Fleet):
    document = fleet.request("GET", "/marketplace/openapi.json", key=None).json()
    writing = [path for path, methods in document["paths"].items() if set(methods) & {"post", "put", "delete"}]
    assert [path for path in writing if "payment" in path or "subscription" in path] == ["/marketplace/payments/stripe"]


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_a_version_that_costs_something_is_paid_for_that_one(market, version):
    name = new_name()
    market.publish(name)
    market.publish(name, version="1.1.0", more="price = 3")
    assert market.install(name, version=version).status == (200 if version == "1.0.0" else 403)
