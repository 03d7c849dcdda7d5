"""Alerts in a real browser: names that fit, pictures that are there or not, and two hundred in a minute."""

from __future__ import annotations

import pytest
from screens import Screen
from test_alert_media import FILES, png, upload
from test_alerts import add, happen
from waddlebot.base.ids import new_id

LINES = """(() => {
  const range = document.createRange();
  range.selectNodeContents(document.querySelector('.panel .name'));
  return new Set([...range.getClientRects()].map((each) => Math.round(each.top))).size;
})()"""
INSIDE = """(() => {
  const name = document.querySelector('.panel .name');
  const lean = parseFloat(getComputedStyle(name).fontSize) / 10; // By which an "f" leans out of its line.
  const inner = name.getBoundingClientRect();
  const outer = name.parentElement.getBoundingClientRect();
  return inner.left >= outer.left && inner.right + lean <= outer.right + 1 && inner.bottom <= outer.bottom;
})()"""


@pytest.mark.parametrize("size", [(1920, 1080), (640, 360), (1080, 1920)])
def test_a_name_is_whole_on_one_line_at_any_length(show, size):
    screen = show("general", size=size)
    add(screen.overlay, event="follow", display_s=30)
    for name in ("Pip", "W" * 25, "Ein sehr langer Name mit Worten", "ペンギン" * 8, "a_b" * 10):
        screen.overlay.bot.say("", message_type="follow", user=_person(name))

        screen.wait_for_text(name)
        screen.page.wait_for_timeout(1000)
        assert (screen.page.evaluate(LINES), screen.page.evaluate(INSIDE)) == (1, True), name
        screen.overlay.control("skip", "general")
    assert screen.problems == []


def test_a_name_in_an_alerts_text_is_whole_too(show):
    screen = show("general", size=(640, 360))
    add(screen.overlay, event="follow", title="Hooray", text="{user} is here", display_s=30)
    for name in ("Pip", "W" * 25, "f" * 60):
        screen.overlay.bot.say("", message_type="follow", user=_person(name))

        screen.wait_for_text(f"{name} is here")
        screen.page.wait_for_timeout(1000)
        assert (screen.page.evaluate(LINES), screen.page.evaluate(INSIDE)) == (1, True), name
        screen.overlay.control("skip", "general")


def test_a_long_name_leaves_no_trace_on_what_comes_next(show):
    screen = show("general")
    sizes = "['.title', '.body'].map((each) => getComputedStyle(document.querySelector(each)).fontSize)"
    announcement = {"kind": "announcement", "title": "News", "text": "of the day", "display_s": 30}
    screen.overlay.display("general", announcement)
    screen.wait_for_text("of the day")
    before = screen.page.evaluate(sizes)
    screen.overlay.control("skip", "general")
    add(screen.overlay, event="follow", title="{user}", text="{user}", display_s=30)
    screen.overlay.bot.say("", message_type="follow", user=_person("W" * 25))
    screen.wait_for_text("W" * 25)

    screen.overlay.control("skip", "general")
    screen.overlay.display("general", announcement)

    screen.wait_for_text("of the day")
    assert screen.page.evaluate(sizes) == before
    assert screen.page.evaluate("document.querySelectorAll('.only-name, .cut').length") == 0


def test_the_name_is_the_largest_thing_on_the_screen(show):
    screen = show("general")

    screen.overlay.bot.say("", message_type="raid", data={"viewers": 7}, user=_person("Penguin"))

    screen.wait_for_text("is raiding with 7 viewers")
    sizes = screen.page.evaluate(
        "['.title', '.body', '.heading'].map((each) =>"
        " parseFloat(getComputedStyle(document.querySelector(each)).fontSize))"
    )
    assert sizes[0] > 2 * sizes[1] > 2 * sizes[2]


def test_what_is_simulated_is_marked(show):
    screen = show("general")

    screen.overlay.bot.say("", message_type="cheer", mode="simulate")

    screen.wait_for_text("cheered 500 bits")
    assert screen.page.evaluate("getComputedStyle(document.querySelector('.panel'), '::after').content") == '"TEST"'


def test_a_picture_is_shown_and_an_alert_has_its_place_and_colour(show):
    screen = show("general")
    url = upload(screen.overlay, png(60, 40)).json()["url"]
    add(screen.overlay, event="follow", image=url, position="bottom-right", accent="#ff8800", display_s=30)

    happen(screen.overlay, "follow")

    screen.wait("document.querySelector('.pictured .picture img')?.naturalWidth === 60")
    box = screen.box(".panel")
    assert box["x"] + box["width"] > 1200 and box["y"] + box["height"] > 650
    assert screen.page.evaluate("getComputedStyle(document.querySelector('.mark')).display") == "none"
    assert screen.problems == []


@pytest.mark.parametrize("content_type", ["image/gif", "video/webm"])
def test_a_file_that_cannot_be_shown_is_left_out(show, content_type):
    screen = show("general")
    add(screen.overlay, event="follow", display_s=2, image=upload(screen.overlay, FILES[content_type]).json()["url"])

    happen(screen.overlay, "follow")

    screen.wait_for_text("just followed")
    screen.wait("document.querySelectorAll('.picture *').length === 0")
    assert screen.page.evaluate("getComputedStyle(document.querySelector('.mark')).display") != "none"
    screen.until(lambda: screen.overlay.states("general") == ["done"])
    assert screen.problems == []


def test_a_sound_that_cannot_be_played_stops_nothing(show):
    screen = show("general")
    add(screen.overlay, event="follow", display_s=1, sound=upload(screen.overlay, FILES["audio/ogg"]).json()["url"])

    happen(screen.overlay, "follow")

    screen.until(lambda: screen.overlay.states("general") == ["done"])
    assert screen.problems == []


def test_what_people_write_is_only_ever_text(show):
    screen = show("general")

    happen(screen.overlay, "resub", '<img src=x onerror="document.title=1">', months=3)

    screen.wait_for_text("<img src=x")
    assert screen.page.evaluate("document.querySelectorAll('.panel img').length") == 0
    assert screen.page.title() == "WaddleBot general"


def test_two_hundred_events_in_a_minute_are_each_shown_once(show):
    screen = show("general")
    add(screen.overlay, event="follow", display_s=0.1, chat_message="")
    bot = screen.overlay.bot

    for start in range(0, 200, 25):
        batch = [_follow(bot, f"Fan{n:03}") for n in range(start, start + 25)]
        answer = bot.fleet.request("POST", "/router/events/batch", {"events": batch})
        assert answer.status == 200, answer.body

    screen.until(lambda: screen.overlay.states("general").count("done") == 200, within_s=120)
    names = [text.split("\n")[1] for text in screen.seen if "\n" in text]
    assert len(names) == len(set(names)) == 200
    assert screen.problems == []


def test_when_many_wait_alerts_go_sooner_but_can_be_read(show):
    screen: Screen = show("general")
    screen.overlay.control("pause", "general")
    add(screen.overlay, event="follow", display_s=20, chat_message="")
    bot = screen.overlay.bot
    batch = [_follow(bot, f"Fan{n:03}") for n in range(40)]
    assert bot.fleet.request("POST", "/router/events/batch", {"events": batch}).status == 200
    screen.until(lambda: sum(row["received_at"] is not None for row in screen.overlay.rows("general")) == 40)
    screen.overlay.control("resume", "general")

    screen.until(lambda: screen.overlay.states("general").count("done") >= 1, within_s=15)

    first = next(row for row in screen.overlay.rows("general") if row["done_at"])
    assert 2.4 < (first["done_at"] - first["shown_at"]).total_seconds() < 8


def _person(name: str) -> dict[str, object]:
    return {"platform_user_id": new_id(), "name": "somebody", "display_name": name, "badges": []}


def _follow(bot, name: str) -> dict[str, object]:
    return {**bot.event(""), "message_type": "follow", "user": _person(name)}
