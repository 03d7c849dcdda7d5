"""Forms: a viewer's link, what counts as an answer, and how it comes to the module."""

from __future__ import annotations

import re
import threading
from urllib.parse import urlencode

import pytest
from overlay_doubles import Overlay

FIELDS = [
    {"name": "text", "type": "text", "label": "Your <name>", "required": True},
    {"name": "area", "type": "textarea"},
    {"name": "one", "type": "select", "options": ["a", "b"]},
    {"name": "many", "type": "multiselect", "options": ["a", "b", "c"]},
    {"name": "radio", "type": "radio", "options": ["yes", "no"]},
    {"name": "tick", "type": "checkbox", "label": "I agree"},
    {"name": "number", "type": "number"},
    {"name": "mail", "type": "email"},
    {"name": "link", "type": "url"},
    {"name": "day", "type": "date"},
    {"name": "hour", "type": "time"},
]
GOOD = {
    "text": "Zoë", "area": "two\nlines", "one": "b", "many": ["a", "c"], "radio": "no", "tick": "yes",
    "number": "4.5", "mail": "zoe@example.org", "link": "https://example.org/x", "day": "2026-11-22", "hour": "20:15",
}  # fmt: skip


@pytest.fixture
def ask(overlay: Overlay, stub):
    """Shows a form whose answers go to the stub, and returns the viewer's path."""

    def show(fields=FIELDS, **more):
        form = {"form_title": "Tell us", "form_fields": fields, "form_submit_url": stub.url, **more}
        return overlay.display("form", form)["form_url"].removeprefix("http://waddlebot.test")

    stub.behaviour = lambda body: (200, b"{}")
    return show


@pytest.fixture
def submit(fleet):
    def post(path, answers):
        body = urlencode(answers, doseq=True).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return fleet.request("POST", path, body, key=None, headers=headers)

    return post


def test_a_viewer_sees_all_eleven_kinds_of_field(fleet, ask):
    page = fleet.request("GET", ask(), key=None)
    text = page.body.decode()

    assert page.status == 200
    assert "Your &lt;name&gt;" in text
    for kind in ("text", "radio", "checkbox", "number", "email", "url", "date", "time"):
        assert f'type="{kind}"' in text
    assert "<textarea" in text and "<select" in text and " multiple" in text
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"


def test_answers_come_to_the_module_once_from_us(ask, submit, stub, overlay):
    path = ask()

    assert submit(path, GOOD).status == 200

    (call,) = stub.calls
    assert call["community_id"] == overlay.bot.community_id
    assert call["fields"] == {
        "text": "Zoë", "area": "two\nlines", "one": "b", "many": ["a", "c"], "radio": "no", "tick": True,
        "number": 4.5, "mail": "zoe@example.org", "link": "https://example.org/x", "day": "2026-11-22", "hour": "20:15",
    }  # fmt: skip
    headers = {name.lower(): value for name, value in stub.headers[0].items()}
    assert headers["idempotency-key"] == f"form-{call['form_id']}"
    assert "x-api-key" not in headers

    again = submit(path, GOOD)
    assert (again.status, len(stub.calls)) == (409, 1)
    assert "answered already" in again.body.decode()
    assert overlay.states("general") == ["done"]


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("text", ""),
        ("text", "x" * 501),
        ("area", "x" * 4001),
        ("one", "z"),
        ("many", ["a", "z"]),
        ("radio", "maybe"),
        ("number", "four"),
        ("number", "nan"),
        ("mail", "nobody"),
        ("link", "javascript:alert(1)"),
        ("link", "https://"),
        ("day", "2026-02-30"),
        ("hour", "25:00"),
    ],
)
def test_what_does_not_fit_is_asked_for_again_with_the_rest_kept(ask, submit, stub, field, bad):
    path = ask()

    answer = submit(path, {**GOOD, field: bad})

    assert answer.status == 422
    assert 'class="error"' in answer.body.decode()
    assert stub.calls == []
    if field != "mail":
        assert 'value="zoe@example.org"' in answer.body.decode()
    assert submit(path, GOOD).status == 200


def test_a_checkbox_that_is_needed_must_be_ticked(ask, submit, stub):
    path = ask([{"name": "rules", "type": "checkbox", "required": True}])

    assert submit(path, {}).status == 422
    assert submit(path, {"rules": "yes"}).status == 200


def test_fields_that_nobody_asked_for_do_not_reach_the_module(ask, submit, stub):
    submit(ask([{"name": "a", "type": "text"}]), {"a": "1", "admin": "true"})

    assert stub.calls[0]["fields"] == {"a": "1"}


def test_of_many_who_send_at_once_one_wins(ask, submit, stub):
    path = ask()
    entered, go = threading.Event(), threading.Event()

    def slowly(_body):
        entered.set()
        go.wait(10)
        return 200, b"{}"

    stub.behaviour = slowly
    statuses = []
    first = threading.Thread(target=lambda: statuses.append(submit(path, GOOD).status))
    first.start()
    assert entered.wait(10)
    statuses += [submit(path, GOOD).status for _ in range(3)]
    go.set()
    first.join()

    assert sorted(statuses) == [200, 409, 409, 409]
    assert len(stub.calls) == 1


def test_a_module_that_does_not_take_it_leaves_the_form_open(ask, submit, stub):
    path = ask()
    stub.behaviour = lambda body: (503, b"{}")

    failed = submit(path, GOOD)

    assert failed.status == 502
    assert "try again" in failed.body.decode() and 'value="zoe@example.org"' in failed.body.decode()
    stub.behaviour = lambda body: (200, b"{}")
    assert submit(path, GOOD).status == 200


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/x", "http://169.254.169.254/latest/", "file:///etc/passwd", "x"]
)
def test_a_form_leads_nowhere_that_the_fleet_must_not_go(overlay, submit, address):
    form = {"form_title": "x", "form_fields": [{"name": "a", "type": "text"}], "form_submit_url": address}
    path = overlay.display("form", form)["form_url"].removeprefix("http://waddlebot.test")

    assert submit(path, {"a": "1"}).status == 502


def test_the_fleets_own_modules_get_our_key(overlay, submit, fleet):
    """The inventory answers our key, which is no admin's, with 403 and nobody's with 401; so it saw the key."""
    form = {
        "form_title": "x",
        "form_fields": [{"name": "a", "type": "text"}],
        "form_submit_url": "http://waddlebot.test/inventory",
    }
    path = overlay.display("form", form)["form_url"].removeprefix("http://waddlebot.test")
    before = fleet.request("GET", "/inventory/metrics").json()["metrics"]

    assert submit(path, {"a": "1"}).status == 502

    after = fleet.request("GET", "/inventory/metrics").json()["metrics"]
    assert _refusals(after, "403") == _refusals(before, "403") + 1


def _refusals(metrics, status):
    found = metrics["waddlebot_inventory_http_request_seconds_count"]
    return sum(each["value"] for each in found if each["status"] == status and each["path"] == "/inventory")


def test_only_links_that_we_signed_open_a_form_and_only_for_a_while(fleet, ask, overlay):
    path = ask()
    for wrong in ("/browser/form/x", path[:-4] + "AAAA", "/browser/form/" + "A" * 300):
        assert fleet.request("GET", wrong, key=None).status == 404
    with fleet.database.transaction() as db:
        db.executesql(
            "UPDATE browser_source_forms SET expires_at = now() WHERE community_id = %s", (overlay.bot.community_id,)
        )

    gone = fleet.request("GET", path, key=None)
    assert gone.status == 404
    assert "not valid any more" in gone.body.decode()


def test_the_same_form_again_is_the_same_form(overlay, stub):
    form = {"form_title": "x", "form_fields": [{"name": "a", "type": "text"}], "form_submit_url": stub.url}
    answers = [overlay.display("form", form, item_id="one-form") for _ in range(2)]

    assert answers[1]["duplicate"]
    with overlay.fleet.database.transaction() as db:
        count = db.executesql(
            "SELECT count(*) FROM browser_source_forms WHERE community_id = %s", (overlay.bot.community_id,)
        )
    assert count[0][0] == 1


def test_afterwards_the_viewer_is_led_where_the_module_said(ask, submit):
    page = submit(ask(form_callback_url="https://example.org/thanks?a=1&b=2"), GOOD).body.decode()
    assert re.search(r'url=https://example\.org/thanks\?a=1&amp;b=2"', page)

    page = submit(ask(form_callback_url="javascript:alert(1)"), GOOD).body.decode()
    assert "javascript" not in page and "close this page" in page
