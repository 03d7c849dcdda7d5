"""Alerts: what people do is shown and said without anybody setting anything up; a community's own take their place."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from overlay_doubles import Overlay
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually

EVENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "follow": ({}, "just followed", "Thanks for the follow, Pip!"),
    "subscription": ({"tier": "1000"}, "just subscribed", "Thanks for the sub, Pip!"),
    "resub": ({"months": 7}, "has been here for 7 months", "7 months! Thanks for the sub, Pip!"),
    "subgift": ({"total": 10}, "gave 10 subs away", "10 subs! Thanks for the gifts, Pip!"),
    "cheer": ({"bits": 1500}, "cheered 1,500 bits", "Thanks for the 1,500 bits, Pip!"),
    "raid": ({"viewers": 42}, "is raiding with 42 viewers", "Welcome, 42 raiders! Thanks for the raid, Pip!"),
    "host": ({"viewers": 3}, "is hosting the stream", "Thanks for the host, Pip!"),
    "donation": ({"amount": 5.5, "currency": "EUR"}, "tipped 5.50 EUR", "Thanks for the tip, Pip!"),
    "boost": ({}, "boosted the server", "Thanks for the boost, Pip!"),
}
URL = "/browser/source/admin/alerts"


def happen(overlay: Overlay, kind: str, text: str = "", **data: Any) -> Any:
    return overlay.bot.say(text, by="pip", message_type=kind, data=data)


def add(overlay: Overlay, **fields: Any) -> dict[str, Any]:
    answer = overlay.fleet.request("POST", URL, {"community_id": overlay.bot.slug, **fields})
    assert answer.status == 200, answer.body
    return answer.json()["alert"]


def shown(overlay: Overlay, count: int = 1) -> list[dict[str, Any]]:
    """What there is on the general overlay, once so much of it has arrived."""
    eventually(lambda: len(overlay.rows("general")) >= count)
    return [row["content"]["data"] for row in overlay.rows("general")]


# What is built in


@pytest.mark.parametrize("kind", EVENTS)
def test_a_fresh_fleet_shows_and_says_what_people_do(overlay, kind):
    data, text, line = EVENTS[kind]

    heard = happen(overlay, kind, **data)

    assert heard.chat == line
    (alert,) = shown(overlay)
    assert (alert["kind"], alert["title"], alert["text"]) == ("alert", "Pip", text)
    assert (alert["alert"]["event"], alert["alert"]["name"]) == (kind, "Pip")


def test_a_joined_member_is_an_alert_only_where_somebody_wants_it(overlay):
    assert happen(overlay, "member_join").answer["responses"] == []
    add(overlay, event="member_join")

    assert happen(overlay, "member_join").chat == "Welcome, Pip!"


def test_an_alert_says_how_often_it_was_shown(overlay):
    made = add(overlay, event="follow", text="is follower {count}", chat_message="{count} follow us, {user}!")

    assert overlay.fleet.request("POST", f"{URL}/{made['id']}/test").status == 200
    assert happen(overlay, "follow").chat == "1 follow us, Pip!"
    assert happen(overlay, "follow").chat == "2 follow us, Pip!"
    assert overlay.bot.say("", by="pip", message_type="follow", mode="simulate").chat == "3 follow us, Pip!"
    assert happen(overlay, "follow").chat == "3 follow us, Pip!"
    texts = sorted(each["text"] for each in shown(overlay, 5))
    assert texts == [f"is follower {count}" for count in (1, 1, 2, 3, 3)], "tests and what is simulated do not count"


def test_an_alert_may_ask_what_nobody_knows_yet(overlay):
    """A {followage} that is asked for the first time is noted, so that it is found out; that failed once."""
    add(overlay, event="raid", chat_message="{user}: {followage}")

    assert happen(overlay, "raid", viewers=4).chat == "Pip: not known yet"


def test_a_gift_bomb_is_one_alert(overlay):
    happen(overlay, "subgift", total=3, tier="1000")
    for _ in range(3):
        assert happen(overlay, "subscription", is_gift=True, tier="1000").answer["responses"] == []

    assert [each["text"] for each in shown(overlay)] == ["gave 3 subs away"]


RENEWAL = {"subscription": {"tier": "1000"}, "resub": {"months": 7}}


def renew(overlay: Overlay, kind: str, text: str = "", by: str = "pip") -> Any:
    return overlay.bot.say(text, by=by, message_type=kind, data=RENEWAL[kind])


def test_a_subscription_after_the_resub_of_the_same_renewal_is_no_second_alert(overlay):
    """Twitch tells of it as a subscription and, once somebody shares it, as a message."""
    assert renew(overlay, "resub", "Still here").chat == EVENTS["resub"][2]
    assert renew(overlay, "subscription").answer["responses"] == []
    assert renew(overlay, "subscription", by="pop").chat == "Thanks for the sub, Pop!"

    assert [each["title"] for each in shown(overlay, 2)] == ["Pip", "Pop"]


def test_a_resub_takes_the_place_of_the_subscription_that_waits_to_be_shown(overlay):
    assert renew(overlay, "subscription").chat == "Thanks for the sub, Pip!"
    shown(overlay)
    assert renew(overlay, "resub", "Still here").chat == "", "the chat was thanked already"

    assert [each["alert"]["message"] for each in shown(overlay, 2)] == ["", "Still here"]
    assert overlay.states("general") == ["skipped", "queued"]


@pytest.mark.parametrize("text", ["Still here", ""])
def test_a_resub_adds_what_was_said_to_the_subscription_that_was_shown(live, text):
    uploaded = live.fleet.request(
        "POST", f"/browser/source/admin/media?community_id={live.bot.slug}", b"OggS" + bytes(60)
    )
    add(live, event="resub", sound=uploaded.json()["url"], text="{months} months", chat_message="{months} months!")
    page = live.connect("general").hello()
    renew(live, "subscription")
    page.ack(page.receive()["seq"], "shown")
    eventually(lambda: live.states("general") == ["shown"])

    assert renew(live, "resub", text).chat == ""

    alerts = [
        (each["text"], each["alert"]["message"], each["alert"]["sound"]) for each in shown(live, 2 if text else 1)
    ]
    assert alerts == [("just subscribed", "", "")] + ([("7 months", text, "")] if text else [])


@pytest.mark.parametrize("kinds", [("subscription", "resub"), ("resub", "subscription")])
def test_one_renewal_that_is_told_twice_at_once_is_one_alert(overlay, kinds):
    """Both are on record before either is answered, as in a batch on a slow day."""
    count = "SELECT count(*) FROM router_events WHERE community_id = %s"
    with overlay.fleet.database.transaction() as db, ThreadPoolExecutor() as threads:
        fetch(db, "LOCK TABLE browser_source_alerts")
        told = {}
        for kind in kinds:
            told[kind] = threads.submit(renew, overlay, kind, "Still here" if kind == "resub" else "")
            eventually(lambda: fetch(db, count, (overlay.bot.community_id,))[0]["count"] == len(told))
        db.commit()
        lines = {kind: each.result().answer["responses"] for kind, each in told.items()}

    assert lines["subscription"] == []
    assert [each["alert"]["message"] for each in shown(overlay)] == ["Still here"]


def test_a_subscription_is_told_where_the_resub_has_no_alert(overlay):
    add(overlay, event="resub", is_active=False)
    assert renew(overlay, "resub").answer["responses"] == []

    assert renew(overlay, "subscription").chat == "Thanks for the sub, Pip!"


def test_who_was_given_a_subscription_and_renews_it_is_told(overlay):
    happen(overlay, "subscription", is_gift=True, tier="1000")

    assert happen(overlay, "resub", months=2).chat == "2 months! Thanks for the sub, Pip!"


def test_who_does_not_want_to_be_known_is_not_named(overlay):
    happen(overlay, "subgift", total=1, is_anonymous=True)

    assert shown(overlay)[0]["title"] == "Anonymous"


def test_what_was_said_with_a_resub_is_shown_with_it(overlay):
    happen(overlay, "resub", "still {user} here <b>", months=2)

    assert shown(overlay)[0]["alert"]["message"] == "still {user} here <b>"


@pytest.mark.parametrize("kind", ["resub", "cheer", "donation", "subscription"])
def test_what_is_against_the_rules_is_not_shown_whatever_it_was_written_with(overlay, kind):
    rule = {"community_id": overlay.bot.slug, "string": "badword", "match_type": "contains", "action": "block"}
    assert overlay.fleet.request("POST", "/router/string-rules", rule).status == 200

    for count, text in enumerate(["a b\u200badword", "a good word"], 1):
        overlay.bot.say(text, by=new_id(), message_type=kind, data=EVENTS[kind][0])
        shown(overlay, count)
    assert [each["alert"]["message"] for each in shown(overlay, 2)] == ["", "a good word"]


def test_cheermotes_are_not_said_twice(overlay):
    happen(overlay, "cheer", "Cheer100 take this Party1", bits=101)

    assert shown(overlay)[0]["alert"]["message"] == "take this"


@pytest.mark.parametrize("amount", [None, "x", -5, float("nan"), True, [], 10**400])
def test_an_amount_that_makes_no_sense_is_none(overlay, amount):
    heard = happen(overlay, "cheer", bits=amount if amount == amount else "nan")

    assert heard.chat == "Thanks for the bit, Pip!"


def test_what_is_simulated_is_shown_as_a_test_and_kept_nowhere(overlay):
    heard = overlay.bot.say("", by="pip", message_type="raid", mode="simulate")

    eventually(lambda: overlay.rows("general"))
    (row,) = overlay.rows("general")
    assert row["is_test"] and row["content"]["data"]["text"] == "is raiding with 42 viewers"
    assert heard.chat.startswith("Welcome, 42 raiders!")


# What a community sets


def test_a_communitys_own_alert_takes_the_place_of_the_built_in_one(overlay):
    made = add(
        overlay,
        event="raid",
        title="RAID",
        text="{user} came from {game} with {viewers}: {message} {nothing}",
        chat_message="hi {user}",
        accent="#ff0000",
        animation="slide",
        position="top-right",
        display_s=3,
        volume=10,
    )
    assert made["version"] == 1 and made["is_active"] and made["weight"] == 1

    assert happen(overlay, "raid", "{viewers}", viewers=9, game="Celeste").chat == "hi Pip"

    (alert,) = shown(overlay)
    assert alert["text"] == "Pip came from Celeste with 9: {viewers} {nothing}"
    assert alert["alert"]["accent"] == "#ff0000" and alert["alert"]["position"] == "top-right"
    assert overlay.rows("general")[0]["display_s"] == 3
    assert happen(overlay, "follow").chat == "Thanks for the follow, Pip!"


def test_several_of_one_event_are_chosen_by_amount(overlay):
    add(overlay, event="cheer", min_amount=100, max_amount=999, chat_message="some")
    add(overlay, event="cheer", min_amount=1000, chat_message="much")

    assert happen(overlay, "cheer", bits=99).answer["responses"] == []
    assert happen(overlay, "cheer", bits=100).chat == "some"
    assert happen(overlay, "cheer", bits=999).chat == "some"
    assert happen(overlay, "cheer", bits=1000).chat == "much"


def test_variations_come_by_weight(overlay):
    add(overlay, event="follow", weight=9, chat_message="often")
    add(overlay, event="follow", weight=1, chat_message="seldom")
    add(overlay, event="follow", weight=0, chat_message="never")

    said = Counter(happen(overlay, "follow").chat for _ in range(40))

    assert said["often"] > said["seldom"] and said["never"] == 0


def test_who_has_a_label_gets_the_variation_for_it(overlay):
    add(overlay, event="follow", weight=1000, chat_message="Hello, {user}")
    add(overlay, event="follow", labels=[" Old-Friend "], chat_message="Welcome back, {user}")

    assert happen(overlay, "follow").chat == "Hello, Pip"
    assert "has" in overlay.bot.say("!label add @pip old-friend", level="moderator").chat
    assert happen(overlay, "follow").chat == "Welcome back, Pip"


def test_an_alert_is_only_for_its_platforms_and_only_while_it_is_on(overlay):
    add(overlay, event="follow", platforms=["twitch"], chat_message="twitch only")
    off = add(overlay, event="raid", is_active=False)

    assert happen(overlay, "follow").answer["responses"] == []
    assert happen(overlay, "raid", viewers=5).answer["responses"] == []
    overlay.fleet.request("DELETE", f"{URL}/{off['id']}")
    assert happen(overlay, "raid", viewers=5).chat.startswith("Welcome, 5 raiders!")


def test_without_a_line_nothing_is_said_and_the_alert_is_shown_all_the_same(overlay):
    add(overlay, event="follow", chat_message="")

    assert [each["response_action"] for each in happen(overlay, "follow").answer["responses"]] == ["general"]


# Over HTTP


def test_alerts_are_read_changed_and_deleted_by_version(overlay):
    request, slug = overlay.fleet.request, overlay.bot.slug
    made = add(overlay, event="follow", min_amount=None, title="one")

    first = request("PUT", f"{URL}/{made['id']}", {**made, "title": "two"})
    late = request("PUT", f"{URL}/{made['id']}", {"version": 1, "title": "three"})
    partly = request("PUT", f"{URL}/{made['id']}", {"version": 2, "volume": 7})

    assert first.json()["alert"]["version"] == 2 and first.json()["alert"]["title"] == "two"
    assert late.status == 409 and late.json()["error"]["code"] == "changed_meanwhile"
    assert partly.json()["alert"]["title"] == "two" and partly.json()["alert"]["volume"] == 7
    listed = request("GET", URL, query={"community_id": slug}).json()
    assert [each["title"] for each in listed["alerts"]] == ["two"] and listed["total"] == 1
    assert "follow" not in {each["event"] for each in listed["built_in"]}
    assert request("DELETE", f"{URL}/{made['id']}", query={"version": 1}).status == 409
    assert request("DELETE", f"{URL}/{made['id']}", query={"version": 3}).status == 200
    assert request("DELETE", f"{URL}/{made['id']}").status == 404
    assert "follow" in {each["event"] for each in request("GET", URL, query={"community_id": slug}).json()["built_in"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event", "chatMessage"),
        ("accent", "red;position:fixed"),
        ("animation", "spin"),
        ("position", "middle"),
        ("weight", -1),
        ("volume", 101),
        ("display_s", 0),
        ("min_amount", "x"),
        ("max_amount", 1),
        ("title", "x" * 201),
        ("image", "https://evil.example/x.png"),
        ("image", "javascript:alert(1)"),
        ("sound", "/browser/media/" + "0" * 64),
        ("colour", "#fff"),
        ("platforms", "twitch"),
    ],
)
def test_what_makes_no_alert_is_refused_and_the_field_named(overlay, field, value):
    body = {"community_id": overlay.bot.slug, "event": "cheer", "min_amount": 5, field: value}

    answer = overlay.fleet.request("POST", URL, body)

    assert answer.status == 422, answer.body
    assert field in answer.body.decode()
    assert overlay.fleet.request("GET", URL, query={"community_id": overlay.bot.slug}).json()["alerts"] == []


def test_keys_of_another_community_neither_see_nor_change_an_alert(overlay, fleet):
    made = add(overlay, event="follow")
    key = fleet.make_key(f"s-{overlay.bot.slug}", "api-users", community_id=fleet.bot().community_id)
    query = {"community_id": overlay.bot.slug}

    for method, path, body in (
        ("GET", URL, None),
        ("POST", URL, {"community_id": overlay.bot.slug, "event": "raid"}),
        ("PUT", f"{URL}/{made['id']}", {"version": 1}),
        ("DELETE", f"{URL}/{made['id']}", None),
        ("POST", f"{URL}/{made['id']}/test", None),
    ):
        answer = fleet.request(method, path, body, key=key, query=query if method == "GET" else None)
        assert answer.status in (401, 403, 404), (method, path, answer.body)


def test_an_alert_that_is_tried_is_marked_and_fits_its_own_limits(overlay):
    made = add(overlay, event="cheer", min_amount=5000, text="{amount}")

    answer = overlay.fleet.request("POST", f"{URL}/{made['id']}/test")

    assert answer.status == 200, answer.body
    (row,) = overlay.rows("general")
    assert row["is_test"] and row["content"]["data"]["text"] == "5,000"


# From chat


def test_moderators_run_alerts_from_chat(overlay):
    bot = overlay.bot
    assert bot.say("!alert replay", level="moderator").chat == "No alert was shown yet."
    assert bot.say("!alert skip", level="moderator").chat == "Nothing is being shown."

    assert bot.say("!alert pause", level="moderator").chat == "Alerts wait until !alert resume."
    happen(overlay, "follow")
    shown(overlay)
    assert bot.say("!alert skip", level="moderator").chat == "Skipped."
    assert overlay.states("general") == ["skipped"]
    assert bot.say("!alert resume", level="moderator").chat == "Alerts are shown again."
    assert "follow, subscription" in bot.say("!alert test nonsense", level="moderator").chat
    assert "TEST" in bot.say("!alert test raid", level="moderator").chat
    assert overlay.rows("general")[-1]["is_test"]
    assert "moderator" in bot.say("!alert skip", level="member").chat


def test_replaying_shows_the_last_alert_and_not_what_came_after_it(live):
    page = live.connect("general").hello()
    happen(live, "follow")
    first = page.receive()
    page.ack(first["seq"], "shown")
    live.display("general", {"kind": "announcement", "text": "later"})
    page.ack(page.receive()["seq"], "shown")
    eventually(lambda: all(row["shown_at"] for row in live.rows("general")))

    assert live.bot.say("!alert replay", level="moderator").chat == "The last alert comes again."

    assert page.receive()["data"] == first["data"]
