"""Clips of Twitch in a real browser: in Twitch's own player, and gone when they are over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from screens import launched
from waddlebot.testing.plugin import eventually

WAITS_FOR_A_CLICK = "--autoplay-policy=document-user-activation-required"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium as people have it, which lets no page be heard at once."""
    with launched(WAITS_FOR_A_CLICK) as chromium:
        yield chromium


@pytest.fixture
def twitch(fleet, twitch_simulator):
    twitch_simulator.reset()
    twitch_simulator.player.played.clear()
    return twitch_simulator


def show_clip(screen, clip):
    data = {"media_type": "clip", "media_url": clip["embed_url"], "title": "Bob", "artist": clip["title"]}
    length = {"duration_ms": int(clip["duration"] * 1000), "display_s": clip["duration"] + 8}
    screen.overlay.display("media", {**data, **length, "artwork_url": clip["thumbnail_url"]})


def in_player(screen, expression):
    """What is in the player's page; None while there is none."""
    frames = [each for each in screen.page.frames if "/embed" in each.url]
    return frames[0].evaluate(expression) if frames else None


def test_a_clip_plays_in_twitchs_player_and_ends_when_it_is_over(show, twitch):
    screen = show("media")
    clip = twitch.clip("555", "A fall", duration_s=2.0)
    began = time.monotonic()
    show_clip(screen, clip)
    screen.until(lambda: in_player(screen, "document.querySelector('main')?.dataset.clip") == clip["id"])
    assert "Bob" in screen.text
    screen.until(lambda: screen.box(".screen iframe") == {"x": 0, "y": 0, "width": 1280, "height": 720})
    screen.wait("document.querySelector('.screen').hidden")
    assert 2.0 <= time.monotonic() - began < 8.0
    assert [(each.clip_id, each.parent) for each in twitch.player.played] == [(clip["id"], "127.0.0.1")]
    assert screen.problems == []


def test_where_a_browser_waits_for_a_click_it_starts_muted(show, twitch):
    """As any browser but OBS's does. What a test asks a page counts as a click, so this one is asked nothing."""
    screen = show("media")
    untouched = screen.page.context.new_page()
    untouched.goto(screen.page.url)
    screen.page.close()
    show_clip(screen, twitch.clip("555", "Quiet", duration_s=1.0))
    eventually(lambda: untouched.wait_for_timeout(20) or twitch.player.played)
    assert [each.is_muted for each in twitch.player.played] == [True]


def test_where_a_browser_plays_at_once_it_is_heard(show, twitch):
    screen = show("media")
    screen.page.mouse.click(5, 5)
    show_clip(screen, twitch.clip("555", "Loud", duration_s=1.0))
    screen.until(lambda: twitch.player.played)
    assert [each.is_muted for each in twitch.player.played] == [False]


def test_a_player_that_may_not_be_on_this_page_gives_way_to_a_picture(show, twitch):
    """Twitch takes http only from the machine itself: here the page is at a name that is not."""
    screen = show("media", host="overlay.test")
    clip = twitch.clip("555", "Refused", duration_s=2.0)
    show_clip(screen, clip)
    screen.wait("document.querySelector('.frame img')?.naturalWidth > 0")
    assert "Bob" in screen.text
    assert twitch.player.played == []
    assert in_player(screen, "1") is None
