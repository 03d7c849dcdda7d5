"""Music on the media overlay: a real browser plays what chat asked for, and says what became of it."""

from __future__ import annotations

import pytest

NOW = "/youtube/now-playing"


def now_playing(bot):
    return bot.fleet.request("GET", NOW, query={"community_id": bot.slug}).json()["now_playing"]


def history(bot):
    answer = bot.fleet.request("GET", "/youtube/history", query={"community_id": bot.slug}).json()
    return [(each["title"], each["outcome"]) for each in answer["history"]]


def player(screen):
    """The frame that plays, once it is there."""
    screen.wait("document.querySelector('.player iframe') !== null")
    screen.until(lambda: len(screen.page.frames) > 1)
    return screen.page.frames[-1]


@pytest.fixture
def songs(youtube_simulator):
    first = youtube_simulator.add("First Song", channel="The Band - Topic", duration_s=3)
    second = youtube_simulator.add("Second Song", channel="The Band - Topic", duration_s=60)
    return first, second


@pytest.fixture
def bot(bot):
    bot.install("youtube_music")
    return bot


def test_what_is_asked_for_plays_and_the_next_one_follows(show, bot, songs, youtube_simulator):
    screen = show("media")
    first, second = songs

    said = bot.say(f"!ytmusic play https://youtu.be/{first.video_id}")
    assert said.chat == "Playing First Song – The Band."
    assert bot.say(f"!sr https://www.youtube.com/watch?v={second.video_id}").chat == (
        "Second Song – The Band is number 1 in the queue."
    )
    screen.wait_for_text("First Song")
    screen.until(lambda: now_playing(bot)["state"] == "started")
    screen.until(lambda: now_playing(bot)["title"] == "Second Song", within_s=20)
    screen.until(lambda: now_playing(bot)["state"] == "started")
    screen.wait_for_text("Second Song")
    assert history(bot) == [("First Song", "played")]
    # Without a referrer YouTube would play nothing; it is told no more than where the page is from.
    opened = [referrer for video, referrer in youtube_simulator.embeds if video == first.video_id]
    assert opened == [screen.page.url.split("/browser/")[0] + "/"]
    assert screen.problems == []
