"""Tips from outside become donations: shown and said, each once, whoever posts them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from overlay_doubles import Overlay
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually

URL = "/browser/source/admin/tips"
KOFI = {
    "verification_token": "v",
    "message_id": "m1",
    "timestamp": "2026-01-01T00:00:00Z",
    "type": "Donation",
    "is_public": True,
    "from_name": "Jo Example",
    "message": "Good luck!",
    "amount": "3.00",
    "email": "jo.example@example.com",
    "currency": "usd",
    "kofi_transaction_id": "00000000-1111-2222-3333-444444444444",
}
COFFEE = {
    "type": "donation.created",
    "live_mode": True,
    "event_id": 1,
    "data": {
        "id": 58,
        "amount": 5,
        "currency": "EUR",
        "supporter_name": "Kim",
        "supporter_email": "kim@example.com",
        "support_note": "For fish",
        "note_hidden": False,
        "transaction_id": "pi_1",
    },
}
PLAIN = {"id": "a-1", "name": "Sam", "amount": 12.5, "currency": "GBP", "message": "hi"}


def link(overlay: Overlay, **more: Any) -> str:
    overlay.bot.say("hello")  # A console's channel is known from its first line on.
    answer = overlay.fleet.request("POST", URL, {"community_id": overlay.bot.slug, **more})
    assert answer.status == 200, answer.body
    return answer.json()["url"].removeprefix("http://waddlebot.test")


def post(overlay: Overlay, path: str, body: Any, content_type: str = "application/json") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return overlay.fleet.request("POST", path, raw, key=None, headers={"Content-Type": content_type})


def as_form(tip: dict[str, Any]) -> bytes:
    return urlencode({"data": json.dumps(tip)}).encode()


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type", "title", "text", "message"),
    [
        (as_form(KOFI), FORM, "Jo Example", "tipped 3 USD", "Good luck!"),
        (COFFEE, "application/json", "Kim", "tipped 5 EUR", "For fish"),
        (PLAIN, "application/json", "Sam", "tipped 12.50 GBP", "hi"),
    ],
)
def test_a_tip_is_shown_and_said_once_however_often_it_is_posted(overlay, body, content_type, title, text, message):
    path = link(overlay)

    answers = [post(overlay, path, body, content_type) for _ in range(3)]

    assert [each.json() for each in answers] == [
        {"success": True, "duplicate": False},
        {"success": True, "duplicate": True},
        {"success": True, "duplicate": True},
    ]
    eventually(lambda: overlay.rows("general"), within_s=10)
    (row,) = overlay.rows("general")
    data = row["content"]["data"]
    assert (data["title"], data["text"], data["alert"]["message"]) == (title, text, message)
    said = _outbox(overlay)
    assert f"Thanks for the tip, {title}!" in [each["response_data"].get("message") for each in said]


def test_names_and_words_of_a_tip_keep_to_the_rules(overlay):
    rule = {"community_id": overlay.bot.slug, "string": "badword", "match_type": "contains", "action": "warn"}
    assert overlay.fleet.request("POST", "/router/string-rules", rule).status == 200
    post(overlay, link(overlay), {**PLAIN, "name": "Mr Badword", "message": "hi badword"})

    eventually(lambda: overlay.rows("general"), within_s=10)
    data = overlay.rows("general")[0]["content"]["data"]
    assert (data["title"], data["alert"]["message"], data["text"]) == ("Somebody", "", "tipped 12.50 GBP")


def test_who_tipped_is_not_kept_here_once_the_router_knows(overlay):
    post(overlay, link(overlay), PLAIN)

    eventually(lambda: [row["state"] for row in _tips(overlay)] == ["told"], within_s=10)
    assert "Sam" not in str(_tips(overlay))


def test_what_is_not_public_is_not_told(overlay):
    post(overlay, link(overlay), as_form({**KOFI, "is_public": False}), FORM)

    eventually(lambda: overlay.rows("general"), within_s=10)
    assert "Jo" not in str(overlay.rows("general")) and "luck" not in str(overlay.rows("general"))


def test_refunds_are_taken_and_show_nothing(overlay):
    answer = post(overlay, link(overlay), {**COFFEE, "type": "donation.refunded"})

    assert answer.json() == {"success": True, "ignored": True}
    assert _tips(overlay) == []


def test_the_address_stays_until_it_is_renewed_or_ended(overlay):
    first = link(overlay)
    assert link(overlay) == first

    second = link(overlay, renew=True)

    assert post(overlay, first, PLAIN).status == 403
    assert post(overlay, second, PLAIN).status == 200
    overlay.fleet.request("DELETE", URL, query={"community_id": overlay.bot.slug})
    assert post(overlay, second, {**PLAIN, "id": "b"}).status == 403


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"data=nonsense", FORM, 400),
        (b"x=1", FORM, 422),
        ({**PLAIN, "amount": 0}, "application/json", 422),
        ({**PLAIN, "amount": -3}, "application/json", 422),
        ({**PLAIN, "amount": "much"}, "application/json", 422),
        ({**PLAIN, "amount": 1e9}, "application/json", 422),
        ({"name": "Sam", "amount": 1}, "application/json", 422),
        ({**COFFEE, "data": {}}, "application/json", 422),
        (b"x" * 70_000, "application/json", 413),
    ],
)
def test_what_is_no_tip_is_refused(overlay, body, content_type, status):
    assert post(overlay, link(overlay), body, content_type).status == status
    assert _tips(overlay) == []


def test_the_same_id_for_two_communities_is_two_tips(overlay, fleet):
    other = Overlay(fleet.bot())

    for each in (overlay, other):
        assert post(each, link(each), PLAIN).json()["duplicate"] is False
        eventually(lambda each=each: len(each.rows("general")) == 1, within_s=10)


def _tips(overlay: Overlay) -> list[dict[str, Any]]:
    with overlay.fleet.database.transaction() as db:
        return fetch(db, "SELECT * FROM browser_source_tips WHERE community_id = %s", (overlay.bot.community_id,))


def _outbox(overlay: Overlay) -> list[dict[str, Any]]:
    with overlay.fleet.database.transaction() as db:
        return fetch(db, "SELECT * FROM outbox WHERE community_id = %s", (overlay.bot.community_id,))
