"""From a module's reply to the overlay: at once, on the right one, once."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest
from overlay_doubles import Overlay
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

REPLIES = {
    "ticker": {"text": "hello"},
    "media": {"media_type": "music", "title": "hello"},
    "general": {"kind": "alert", "text": "hello"},
    "form": {"form_title": "hello", "form_fields": [{"name": "a", "type": "text"}], "form_submit_url": "http://x/"},
}


def replies(bot):
    with bot.fleet.database.transaction() as db:
        return fetch(db, "SELECT * FROM outbox WHERE community_id = %s ORDER BY id", (bot.community_id,))


def change_replies(bot, assignments):
    with bot.fleet.database.transaction() as db:
        fetch(db, f"UPDATE outbox SET {assignments} WHERE community_id = %s", (bot.community_id,))


@pytest.mark.parametrize("action", REPLIES)
def test_what_a_module_replies_is_shown_on_its_communitys_overlay(overlay, bot, stub, fleet, action):
    stub.behaviour = lambda call: reply_to(call, {"response_action": action, "response_data": REPLIES[action]})
    stranger = Overlay(fleet.bot())

    heard = bot.say("!stub")

    source = "general" if action == "form" else action
    eventually(lambda: overlay.rows(source))
    assert [len(overlay.rows(kind)) for kind in ("ticker", "media", "general")].count(1) == 1
    row = overlay.rows(source)[0]
    assert "hello" in str(row["content"])
    assert row["session_id"] == heard.session_id
    assert [stranger.rows(kind) for kind in ("ticker", "media", "general")] == [[], [], []]
    eventually(lambda: replies(bot)[0]["state"] == "sent")


def test_several_replies_keep_their_order(overlay, bot, stub):
    many = [{"response_action": "ticker", "response_data": {"text": f"t{n}"}} for n in range(10)]
    stub.behaviour = lambda call: reply_to(call, chat("see above"), *many)

    assert bot.say("!stub").chat == "see above"

    eventually(lambda: len(overlay.rows()) == 10)
    assert [row["content"]["data"]["text"] for row in overlay.rows()] == [f"t{n}" for n in range(10)]


def test_a_reply_reaches_an_open_page_at_once(live, bot, stub):
    """Well before the second in which the router would look by itself."""
    stub.behaviour = lambda call: reply_to(call, {"response_action": "ticker", "response_data": {"text": "fast"}})
    page = live.connect().hello()
    page.receive_until_pong()
    times = []
    for _ in range(9):
        bot.say("!stub")
        started = time.perf_counter()
        page.receive()
        times.append(time.perf_counter() - started)

    assert statistics.median(times) < 0.5


@pytest.mark.parametrize("brought", ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None, "a\nb: c"])
def test_one_trace_leads_from_chat_to_the_page_that_shows_it(live, bot, stub, brought):
    stub.behaviour = lambda call: reply_to(call, {"response_action": "ticker", "response_data": {"text": "hello"}})
    page = live.connect().hello()

    session = bot.say("!stub", traceparent=brought).session_id
    page.ack(page.receive()["seq"], "shown")

    digits = session.replace("-", "")
    trace = brought if brought and brought.startswith("00-") else f"00-{digits}-{digits[16:]}-01"
    assert stub.calls[-1]["traceparent"] == trace
    log = Path(os.environ["LOG_DIR"]) / "browser_source_core.hub.log"
    line = eventually(lambda: next((each for each in log.read_text().splitlines() if session in each), None))
    assert "action=item_shown result=SUCCESS source_type=ticker" in line
    assert f"traceparent={trace}" in line


def test_the_body_of_a_late_reply_cannot_choose_the_community(overlay, bot, stub, fleet):
    stranger = Overlay(fleet.bot())
    stub.behaviour = reply_to
    bot.say("!stub")
    late = reply_to(
        stub.calls[0],
        {"response_action": "ticker", "response_data": {"text": "late", "community_id": stranger.bot.community_id}},
        community_id=stranger.bot.community_id,
    )

    assert fleet.request("POST", "/router/responses", late, key="stub").status == 200

    eventually(lambda: overlay.rows())
    assert stranger.rows() == []


def test_a_router_that_died_while_delivering_is_finished_by_another_and_nothing_is_doubled(overlay, bot, stub):
    stub.behaviour = lambda call: reply_to(call, {"response_action": "ticker", "response_data": {"text": "once"}})
    bot.say("!stub")
    eventually(lambda: [row["state"] for row in replies(bot)] == ["sent"])

    change_replies(bot, "state = 'sending', sender = 'dead', lease_until = now(), finished_at = NULL")

    eventually(lambda: [row["state"] for row in replies(bot)] == ["sent"])
    assert len(overlay.rows()) == 1


def test_what_nobody_could_deliver_in_time_is_dropped(overlay, bot, stub):
    stub.behaviour = lambda call: reply_to(call, {"response_action": "ticker", "response_data": {"text": "late"}})
    bot.say("!stub")
    eventually(lambda: [row["state"] for row in replies(bot)] == ["sent"])

    change_replies(bot, "state = 'pending', expires_at = now()")

    eventually(lambda: [row["state"] for row in replies(bot)] == ["dropped"], within_s=15)


def test_what_cannot_be_shown_is_dropped_with_the_reason_and_stops_nothing(overlay, bot, stub):
    too_large = {"response_action": "general", "response_data": {"kind": "html", "html": "x" * 50_001}}
    good = {"response_action": "general", "response_data": {"text": "fine"}}
    stub.behaviour = lambda call: reply_to(call, too_large, good)
    bot.say("!stub")

    eventually(lambda: [row["state"] for row in replies(bot)] == ["dropped", "sent"])
    assert "html" in replies(bot)[0]["detail"]
    assert len(overlay.rows("general")) == 1


def test_collectors_neither_see_nor_end_what_is_for_overlays(overlay, bot, stub, fleet):
    stub.behaviour = lambda call: reply_to(call, {"response_action": "ticker", "response_data": {"text": "mine"}})
    outbox_id = bot.say("!stub").answer["responses"][0]["outbox_id"]

    answer = fleet.request("POST", f"/router/outbox/{outbox_id}", {"state": "sent"})
    assert answer.status == 409
    assert "overlay" in answer.json()["error"]["message"]
    for state in ("pending", "sending", "sent"):
        query = {"entity_id": f"console:{bot.slug}:general", "state": state}
        assert fleet.request("GET", "/router/outbox", query=query).json()["replies"] == []


def test_the_viewer_is_told_in_chat_where_to_answer_a_form(overlay, bot, stub, fleet):
    stub.behaviour = lambda call: reply_to(call, {"response_action": "form", "response_data": REPLIES["form"]})
    heard = bot.say("!stub")

    eventually(lambda: len(replies(bot)) == 2)
    line = replies(bot)[1]
    assert line["response_action"] == "chat" and line["response_data"]["reply"] is True
    url = line["response_data"]["message"].split()[-1]
    assert url.startswith("http://waddlebot.test/browser/form/")
    assert str(line["session_id"]) == heard.session_id
    assert fleet.request("GET", url.removeprefix("http://waddlebot.test"), key=None).status == 200
    change_replies(bot, "state = CASE response_action WHEN 'form' THEN 'sending' ELSE state END, lease_until = now()")
    eventually(lambda: replies(bot)[0]["state"] == "sent")
    assert len(replies(bot)) == 2
