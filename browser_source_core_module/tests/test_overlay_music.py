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


def test_the_same_track_is_changed_and_never_begun_anew(show, bot, songs, youtube_simulator):
    screen = show("media")
    _, song = songs
    bot.say(f"!sr {song.video_id}")
    frame = player(screen)
    state = "document.getElementById('state')?.textContent"

    def is_now(text):
        screen.until(lambda: frame.evaluate(state) == text, within_s=15)

    is_now("playing · volume 50")  # OBS hears it: this page leads.
    for command, text in (
        ("volume 20", "playing · volume 20"),
        ("pause", "paused · volume 20"),
        ("resume", "playing · volume 20"),
    ):
        bot.say(f"!ytmusic {command}", level="moderator")
        is_now(text)
    # What comes between is seen, and the music goes on.
    picture = {"media_type": "image", "title": "Look", "media_url": "https://i.ytimg.com/x.png", "display_s": 1}
    screen.overlay.display("media", picture)
    screen.wait_for_text("Look")
    screen.wait("document.querySelector('.screen').hidden")
    assert frame.evaluate(state) == "playing · volume 20"
    assert [video for video, _ in youtube_simulator.embeds].count(song.video_id) == 1
    # A page that is loaded anew goes on where it was.
    screen.until(lambda: now_playing(bot)["position_s"] > 1)
    screen.page.reload()
    frame = player(screen)
    is_now("playing · volume 20")
    assert frame.evaluate("now()") >= 1
    bot.say("!ytmusic stop", level="moderator")
    screen.wait("document.querySelector('.player').hidden")
    assert screen.problems == []


@pytest.mark.parametrize("code", [5, 100, 150])
def test_a_song_that_the_player_refuses_is_passed_over(show, bot, songs, youtube_simulator, code):
    screen = show("media")
    bad = youtube_simulator.add(f"Bad {code}", error=code)
    bot.say(f"!sr {bad.video_id}")
    bot.say(f"!sr {songs[1].video_id}")
    screen.until(lambda: history(bot) == [(f"Bad {code}", "failed")], within_s=20)
    screen.wait_for_text("Second Song")


def test_a_page_that_does_not_lead_is_not_heard(show, live, bot, songs):
    leader = live.connect("media").hello()
    leader.receive("lead")
    screen = show("media")
    bot.say(f"!sr {songs[1].video_id}")
    frame = player(screen)
    screen.until(lambda: frame.evaluate("document.getElementById('state')?.textContent") == "playing · muted")
    leader.close()
    screen.until(lambda: frame.evaluate("document.getElementById('state')?.textContent") == "playing · volume 50")
    screen.until(lambda: now_playing(bot)["state"] == "started")
