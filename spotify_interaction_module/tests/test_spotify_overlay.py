"""The card on the overlay: seen within five seconds, with few looks, and with none where nobody watches."""

from __future__ import annotations

import json
import time

import pytest
from spotify_studio import Studio
from waddlebot.community.screens import PRESENCE
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually

SEEN_WITHIN_S = 5.0


class Page:
    """An open media overlay, as a hub tells of it."""

    def __init__(self, studio):
        self.client, self.studio = SERVICES[0].bus.client, studio
        self.key = f"{PRESENCE}test-{studio.bot.slug}"

    def open(self, *, hidden=0):
        sources = {f"{self.studio.bot.community_id}:media": {"connections": 1, "hidden": hidden}}
        self.client.set(self.key, json.dumps({"sources": sources}), ex=60)

    def close(self):
        self.client.delete(self.key)

    def cards(self):
        rows = self.studio.bot.fleet.database.statement(
            "SELECT content FROM browser_source_history WHERE community_id = %s AND source_type = 'media' ORDER BY id",
            (self.studio.bot.community_id,),
        )
        return [row["content"]["data"] for row in rows]


@pytest.fixture
def second(fleet, studio):
    """Another streamer's."""
    made = Studio(fleet.bot(), studio.spotify, f"{studio.name}2")
    studio.spotify.user(made.name, devices=["Attic"])
    made.bot.install("spotify")
    assert made.connect().status == 200
    yield made
    Page(made).close()


@pytest.fixture
def page(studio):
    made = Page(studio)
    yield made
    made.close()


def looks(studio):
    return studio.spotify.calls("/me/player", "GET", user=studio.name)


def test_a_card_has_all_of_a_track_and_follows_what_happens(studio, page):
    page.open()
    studio.player.context = [studio.spotify.track("Icebreaker")]
    studio.say("!spotify play blue lagoon")
    eventually(page.cards)
    track = studio.spotify.track("Blue Lagoon")
    (card,) = page.cards()
    assert {name: card[name] for name in ("track_id", "player", "title", "artist", "album", "requested_by")} == {
        "track_id": track.uri,
        "player": "none",
        "title": "Blue Lagoon",
        "artist": "The Waddlers",
        "album": "Cold Feet",
        "requested_by": "Mod",
    }
    assert (card["duration_ms"], card["progress_ms"], card["is_playing"]) == (track.duration_ms, 0, True)
    # It is paused at a device, not by a command.
    studio.player.pause()
    eventually(lambda: len(page.cards()) == 2, within_s=SEEN_WITHIN_S)
    assert (page.cards()[1]["track_id"], page.cards()[1]["is_playing"]) == (track.uri, False)
    studio.say("!spotify resume")
    eventually(lambda: page.cards()[-1]["is_playing"])
    # The next track, and one's own wish in it.
    studio.player.play(studio.spotify.track("Icebreaker"))
    eventually(lambda: page.cards()[-1]["title"] == "Icebreaker", within_s=SEEN_WITHIN_S)
    # Somebody leaps.
    studio.player.pass_ms(60_000)
    eventually(lambda: page.cards()[-1]["progress_ms"] > 50_000, within_s=SEEN_WITHIN_S)
    studio.player.activate(None)
    eventually(lambda: not page.cards()[-1]["is_playing"], within_s=SEEN_WITHIN_S)


def test_players_are_looked_at_only_while_somebody_watches_and_no_more_than_needed(studio, page, second):
    """Nobody watches the second one, and nobody sees the page of it that is hidden."""
    Page(second).open(hidden=1)
    for each in (studio, second):
        each.say("!spotify play blue lagoon")
    studio.spotify.forget_calls()
    page.open()
    eventually(lambda: looks(studio) >= 1, within_s=8)
    began, asked = time.monotonic(), looks(studio)
    eventually(lambda: looks(studio) >= asked + 2, within_s=15)
    assert time.monotonic() - began > 4  # One in three seconds.
    assert len(page.cards()) == 1  # The card counts on by itself.
    assert looks(second) == 0


def test_the_router_hears_at_once_where_something_plays(studio, page, fleet):
    def active():
        (row,) = fleet.database.statement("SELECT active_in FROM collector_modules WHERE module_name = 'spotify'")
        return studio.bot.community_id in row["active_in"]

    page.open()
    assert not active()
    studio.player.play(studio.spotify.track("Fish 1"))
    assert studio.ask("GET", "/spotify/now-playing").json()["now_playing"]["track_name"] == "Fish 1"
    eventually(active)
    studio.player.activate(None)
    assert studio.ask("GET", "/spotify/now-playing").json()["now_playing"] is None
    eventually(lambda: not active())


def test_the_api_plays_pauses_resumes_and_skips(studio, page):
    track = studio.spotify.track("Fish 2")
    played = studio.ask("POST", "/spotify/play", uri=track.uri)
    assert (played.status, played.json()["track"]["name"]) == (200, "Fish 2")
    eventually(lambda: page.cards() and page.cards()[-1]["title"] == "Fish 2")
    assert studio.ask("POST", "/spotify/pause").status == 200
    assert not studio.player.is_playing
    assert studio.ask("POST", "/spotify/resume").status == 200
    assert studio.ask("POST", "/spotify/play", query="icebreaker").json()["uri"].startswith("spotify:track:")
    assert studio.ask("POST", "/spotify/skip").json()["action"] == "skip"
    assert studio.player.skipped == 1
    assert [each["name"] for each in studio.ask("GET", "/spotify/devices").json()["devices"]] == ["Studio"]
    for wrong in ({}, {"uri": "x", "query": "y"}, {"uri": "https://example.org"}, {"query": ""}):
        assert studio.ask("POST", "/spotify/play", **wrong).status == 422, wrong
    history = studio.ask("GET", "/spotify/history", limit=1).json()
    assert (len(history["history"]), history["total"]) == (1, 2)
