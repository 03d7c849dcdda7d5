"""What streams are about: known to all modules, changed in chat by moderators, wherever they write."""

from __future__ import annotations

import re

import pytest
from waddlebot.collecting.streams import StreamNews, Streams
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import cut_off
from waddlebot.testing.plugin import eventually


def stream(channel):
    with channel.fleet.database.transaction() as db:
        rows = fetch(db, "SELECT * FROM streams WHERE entity_id = %s", (f"twitch::{channel.id}",))
    return rows[0] if rows else None


@pytest.fixture
def say(joined):
    """Say something in the channel's chat and hear the answer."""

    def say(text, *, badges=("moderator",), chatter="700"):
        before = len(joined.texts)
        assert joined.say(text, chatter=chatter, badges=list(badges)) == [204]
        eventually(lambda: len(joined.texts) > before, within_s=15)
        return joined.texts[-1]

    return say


def test_what_is_told_again_is_no_news(joined):
    streams = Streams(joined.fleet.database)
    news = StreamNews(f"twitch::{joined.id}", is_live=False, title="Endgames")
    streams.note([news])
    ended_at = stream(joined)["updated_at"]

    streams.note([news, StreamNews("twitch::elsewhere", is_live=False)])
    assert stream(joined)["updated_at"] == ended_at, (
        "a stream that is off for a minute has ended; asking is no sign of it"
    )

    streams.note([StreamNews(f"twitch::{joined.id}", title="Openings")])
    assert stream(joined)["updated_at"] > ended_at


def test_moderators_change_title_and_category_and_twitch_tells_it_back(joined, twitch, say):
    assert say("!title").endswith("has no title that I know of.")
    assert (
        say("!title Endgames with Bob", badges=()) == "Only a moderator or above changes the title; you are a member."
    )
    assert say("!title Endgames with Bob") == "The title is “Endgames with Bob” now."
    assert twitch.accounts.get(joined.id).title == "Endgames with Bob"
    assert say("!game chess") == "The category is Chess now."
    assert twitch.accounts.get(joined.id).game == "Chess"
    assert say("!game celeste mountain").startswith("The category is Celeste 64: Fragments of the Mountain now.")
    assert say("!game narnia") == "Twitch has no category by the words “narnia”."
    assert say("!game", badges=()) == "The category is Celeste 64: Fragments of the Mountain."
    assert say("!title " + "x" * 141).startswith("A title has at most 140 characters")
    twitch.change_channel(joined.id, title="From the dashboard", game="Chess")
    eventually(lambda: (stream(joined)["title"], stream(joined)["game"]) == ("From the dashboard", "Chess"))


def test_clips_markers_and_uptime_are_for_a_stream_that_is_on(joined, twitch, say):
    assert say("!uptime", badges=()).endswith("is not live.")
    assert say("!clip").endswith("is not live.")
    twitch.online(joined.id, title="Hello", game="Chess")
    eventually(lambda: stream(joined)["is_live"])
    assert "has been live for" in say("!uptime", badges=())
    assert say("!clip", badges=()) == "Only a moderator or above may use !clip; you are a member."
    assert re.match(r"Clipped: https://clips\.twitch\.tv/\S+ ", say("!clip"))
    assert re.fullmatch(r"Marked at 0:0\d:\d\d – great save\.", say("!marker great save"))
    assert twitch.markers == [(joined.id, "great save")]
    bot = joined.fleet.bot(community_of(joined))
    told = bot.say("!marker", level="moderator", mode="simulate").chat
    assert told == "Simulated, so nobody was asked to: put a marker into the stream."
    assert twitch.markers == [(joined.id, "great save")]
    assert "has been live for" in bot.say("!uptime").chat, "elsewhere it is about the community's stream"
    twitch.offline(joined.id)
    eventually(lambda: not stream(joined)["is_live"])


def test_since_when_somebody_follows(joined, twitch, say):
    assert "does not follow" in say("!followage", badges=(), chatter="701")
    twitch.follow(joined.id, "701")
    eventually(lambda: "has followed" in say("!followage", badges=(), chatter="701"), within_s=20)
    bot = joined.fleet.bot(community_of(joined))
    assert "link it with !link" in bot.say("!followage").chat
    assert "Nobody called nobody" in bot.say("!followage @nobody").chat


def test_what_was_not_granted_is_said_with_where_to_grant_it(browser, streamer):
    assert browser.consent(streamer.login, grant=["channel:bot"]).status == 200
    streamer.say("!title New", chatter="700", badges=["moderator"])
    eventually(lambda: streamer.texts, within_s=15)
    assert "has to let the bot do that first, at " in streamer.texts[-1]
    assert "/twitch/auth" in streamer.texts[-1]


def test_a_community_without_a_channel_and_a_fleet_without_twitch_say_so(bot):
    assert "no Twitch channel" in bot.say("!uptime").chat


def community_of(channel):
    with channel.fleet.database.transaction() as db:
        sql = "SELECT slug FROM communities c JOIN entities e ON e.community_id = c.id WHERE e.entity_id = %s"
        return fetch(db, sql, (f"twitch::{channel.id}",))[0]["slug"]


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("!title Anew", "set the title to “Anew”"),
        ("!game chess", "set the category to Chess"),
        ("!clip", "make a clip"),
        ("!marker now", "put a marker into the stream"),
    ],
)
def test_what_a_crash_cut_off_is_said_to_be_unknown_and_not_done_again(joined, twitch, text, effect):
    twitch.online(joined.id, title="Hello", game="Art")
    eventually(lambda: stream(joined)["is_live"])
    bot = joined.fleet.bot(community_of(joined))
    clips, markers = repr(twitch.clips), list(twitch.markers)

    reply = cut_off(bot, "twitch", text, effect)

    assert (reply["is_unknown"], reply["error_message"]) == (
        True,
        f"Nobody can say whether this came about: {effect}. It is not tried again.",
    )
    channel = twitch.accounts.get(joined.id)
    assert (channel.title, channel.game, repr(twitch.clips), twitch.markers) == ("Hello", "Art", clips, markers)
