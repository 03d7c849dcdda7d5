"""!spotify, from connecting an account to the next track: through chat, against a Spotify on loopback."""

from __future__ import annotations

import threading

import pytest
from waddlebot.data.database import fetch
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually

from simulators.spotify import Track

BLUE = "“Blue Lagoon” – The Waddlers"


def set_config(studio, **config):
    path = f"/router/communities/{studio.bot.slug}/modules/spotify"
    assert studio.bot.fleet.request("PUT", path, {"config": config}).status == 200


def ask_for(studio, text, *, by="viewer"):
    return studio.say(f"!sr {text}", by=by, level="member").chat


def test_connected_found_played_shown_queued_and_skipped(studio):
    found = studio.say("!spotify search blue")
    assert found.chat.startswith(f"1. {BLUE} (3:21) · 2. “Blue Monday” – New Order (7:29)")
    played = studio.say("!spotify play 1")
    assert played.chat == f"Playing {BLUE}."
    assert [each["response_action"] for each in played.answer["responses"]] == ["chat", "media", "ticker"]
    assert studio.player.current.name == "Blue Lagoon"
    assert studio.say("!spotify current").chat == f"{BLUE} (Cold Feet) [0:00/3:21] on Studio, for Mod"
    asked = studio.say("!spotify request icebreaker", by="viewer", level="member")
    assert asked.chat == "“Icebreaker” – The Waddlers is in the queue, Viewer."
    assert studio.say("!spotify queue").chat == "Next: 1. “Icebreaker” – The Waddlers for Viewer"
    assert studio.say("!spotify skip").chat == f"Skipped {BLUE}."
    assert studio.player.current.name == "Icebreaker"
    assert studio.say("!np").chat.endswith("on Studio, for Viewer")
    assert studio.say("!spotify history").chat == f"Played: “Icebreaker” – The Waddlers · {BLUE}"


def test_before_anybody_has_connected_chat_says_what_to_do(stranger):
    for line in ("search x", "play 1", "current", "pause", "skip", "devices", "queue", "request x", "volume 5"):
        said = stranger.say(f"!spotify {line}")
        assert said.chat == "Nobody's Spotify plays here yet: this community's owner types !spotify connect.", line
        assert said.statuses == ["failed"]


def test_a_track_is_named_by_uri_link_number_or_words(studio):
    track = studio.spotify.track("Icebreaker")
    studio.say("!spotify search icebreaker")
    for word in (
        track.uri,
        f"https://open.spotify.com/track/{track.id}?si=1234",
        f"<https://open.spotify.com/intl-de/track/{track.id}>",
        f"open.spotify.com/track/{track.id}",
        "1",
        "#1",
        "icebreaker waddlers",
    ):
        assert studio.say(f"!spotify play {word}").chat == "Playing “Icebreaker” – The Waddlers.", word
    missing = studio.say(f"!spotify play spotify:track:{'0' * 22}")
    assert missing.chat == "Spotify has nothing there."
    for wrong, said in {
        "2": "Your last search has the numbers 1 to 1.",
        "https://spotify.link/abc": "Short links are not followed; send the long one, from open.spotify.com.",
        f"spotify:artist:{track.id}": "That is an artist; a track is needed.",
        "qwertz": "Spotify knows nothing for “qwertz”.",
        "": "Usage: !spotify play <uri/number>",
    }.items():
        assert studio.say(f"!spotify play {wrong}").chat == said
    assert studio.say("!spotify play 1", by="newcomer").chat.startswith("You have not searched for anything of late")


def test_a_search_of_a_moment_ago_is_not_made_again(studio):
    studio.say("!spotify search The Shoal")
    studio.spotify.forget_calls()
    again = studio.say("!spotify search the shoal", by="other", level="member")
    assert again.chat.count("The Shoal") == 10  # Spotify gives no more.
    assert studio.spotify.calls("/search") == 0
    assert studio.say("!spotify request 3", by="other", level="member").chat.startswith("“Fish 3”")


def test_titles_are_no_commands_and_no_mentions(studio):
    said = studio.say("!spotify search markup")
    assert said.chat.startswith('1. “!ban everybody <b>&amp;</b> @here 🐧” – DJ "Krill"')
    assert len(said.statuses) == 1  # Nothing else was run by it.


def test_pause_resume_volume_and_history(studio):
    studio.say("!spotify play blue lagoon")
    assert studio.say("!spotify pause").chat == "Paused."
    assert not studio.player.is_playing
    assert studio.say("!song").chat.endswith("on Studio, paused, for Mod")
    assert studio.say("!spotify pause").chat == (
        "Spotify cannot do that just now: it is so already, or an advertisement plays."
    )
    assert studio.say("!spotify resume").chat == "Playing again."
    assert studio.player.is_playing
    assert studio.say("!spotify volume 30").chat == "The volume is 30 %."
    assert studio.player.active.volume_percent == 30
    for wrong in ("", "101", "loud", "-1", "٣"):
        assert studio.say(f"!spotify volume {wrong}").chat == "Usage: !spotify volume <0-100>"
    studio.player.active.volume_percent = None
    assert studio.say("!spotify volume 5").chat == "That device sets its volume itself, Spotify cannot."
    history = studio.ask("GET", "/spotify/history").json()
    assert [(each["track_name"], each["requested_by"]) for each in history["history"]] == [("Blue Lagoon", "Mod")]


def test_devices_are_listed_and_the_preferred_one_is_remembered(studio):
    studio.player.add_device("Kitchen Speaker", type="Speaker")
    assert studio.say("!spotify devices").chat == (
        "1. Studio (active) · 2. Kitchen Speaker – !spotify device <number|name>"
    )
    studio.say("!spotify play blue lagoon")
    assert studio.say("!spotify device kitchen").chat == (
        "The music is on Kitchen Speaker now, and goes there from now on."
    )
    assert (studio.player.active.name, studio.player.is_playing) == ("Kitchen Speaker", True)
    assert "2. Kitchen Speaker (active, preferred)" in studio.say("!spotify devices").chat
    assert studio.say("!spotify device 7").chat.startswith("There is no device “7”.")
    assert "Did you mean “Studio”" in studio.say("!spotify device Studjo").chat


@pytest.mark.parametrize("command", ["play blue lagoon", "resume", "skip", "request icebreaker", "volume 20"])
def test_without_an_active_device_the_preferred_one_is_woken_and_it_is_tried_once_more(studio, command):
    kitchen = studio.player.add_device("Kitchen")
    studio.say("!spotify device Kitchen")
    studio.player.play(studio.spotify.track("Fish 1"), studio.spotify.track("Fish 2"))
    studio.player.pause()
    studio.player.activate(None)
    studio.spotify.forget_calls()
    heard = studio.say(f"!spotify {command}")
    assert heard.statuses == ["success"], heard.chat
    assert studio.player.active is kitchen
    assert studio.spotify.calls("/me/player", "PUT") == 1  # Moved there once.
    assert studio.player.skipped == (1 if command == "skip" else 0)


def test_without_any_device_it_is_said_and_nothing_is_begun(studio):
    studio.player.devices.clear()
    closed = (
        "No Spotify is open: start it on a computer, phone or speaker of the account that plays here, and try again."
    )
    for command in ("play blue lagoon", "skip", "device 1", "request icebreaker"):
        assert studio.say(f"!spotify {command}").chat == closed, command
    studio.player.add_device("Radio", is_restricted=True)
    assert studio.say("!spotify skip").chat == closed
    assert studio.say("!spotify current").chat == "Nothing is playing on Spotify."
    assert waiting(studio) == []


def test_viewers_play_by_way_of_the_queue_and_skip_what_they_asked_for(studio):
    studio.say("!spotify play blue lagoon")
    said = studio.say("!spotify play icebreaker", by="viewer", level="member")
    assert said.chat == "“Icebreaker” – The Waddlers is in the queue, Viewer."
    assert studio.player.current.name == "Blue Lagoon"
    assert studio.say("!skip", by="viewer", level="member").chat == (
        "Moderators skip, and whoever asked for what plays."
    )
    studio.say("!spotify skip")
    studio.say("!np")
    assert studio.say("!skip", by="viewer", level="member").chat == "Skipped “Icebreaker” – The Waddlers."
    assert studio.bot.say("!spotify pause", by="viewer").statuses == ["denied"]
    set_config(studio, requests=False)
    assert ask_for(studio, "fish 1") == "Requests are off here."
    refused = studio.say("!spotify play fish 1", by="viewer", level="member")
    assert refused.chat == "Only moderators choose what plays here."
    assert studio.say("!sr fish 1").chat.startswith("“Fish 1”")  # Moderators may.


def test_who_asks_while_nothing_plays_is_told_so(studio):
    assert ask_for(studio, "icebreaker") == "“Icebreaker” – The Waddlers is in the queue, Viewer. Nothing plays yet."
    studio.player.play(studio.spotify.track("Fish 1"))
    assert ask_for(studio, "fish 2").endswith("is in the queue, Viewer.")


def test_requests_have_limits_that_are_said(studio):
    set_config(
        studio, requests_per_person=2, longest_minutes=9, explicit=False, blocklist=["New Order", "spotify:track:none"]
    )
    studio.say("!spotify play blue lagoon")
    assert ask_for(studio, "long march").endswith("is 12:00 long; at most 9 minutes are taken.")
    assert ask_for(studio, "slippery").endswith("is marked explicit, which is not played here.")
    assert ask_for(studio, "monday").endswith("is not played here (“New Order” is blocked).")
    assert ask_for(studio, "blue lagoon") == f"{BLUE} plays right now."
    assert ask_for(studio, "fish 1").endswith("is in the queue, Viewer.")
    assert ask_for(studio, "fish 1", by="other") == "“Fish 1” – The Shoal is in the queue already."
    assert ask_for(studio, "fish 2").endswith("is in the queue, Viewer.")
    assert ask_for(studio, "fish 3") == "Viewer, your 2 requests wait already; ask again when one has played."
    assert ask_for(studio, "fish 3", by="other").endswith("is in the queue, Other.")
    assert [each.name for each in studio.player.queue] == ["Fish 1", "Fish 2", "Fish 3"]
    studio.say("!spotify skip")
    studio.say("!np")
    assert ask_for(studio, "blue lagoon") == f"{BLUE} was played within the last 30 minutes."
    assert ask_for(studio, "icebreaker").endswith("is in the queue, Viewer.")  # One of theirs has played.


def test_what_was_taken_out_of_spotifys_queue_waits_no_more(studio):
    set_config(studio, requests_per_person=1)
    studio.say("!spotify play blue lagoon")
    ask_for(studio, "fish 1")
    studio.player.queue.clear()
    assert "waits already" in ask_for(studio, "fish 2")  # Spotify tells of it late, so it is believed for a while.
    with studio.bot.fleet.database.transaction() as db:
        fetch(db, "UPDATE spotify_queue SET requested_at = now() - interval '1 minute'")
    assert ask_for(studio, "fish 2").endswith("is in the queue, Viewer.")


def waiting(studio):
    return studio.bot.fleet.database.statement(
        "SELECT track_name, state FROM spotify_queue WHERE community_id = %s ORDER BY id", (studio.bot.community_id,)
    )


def test_two_requests_at_once_do_not_share_the_last_place(studio):
    set_config(studio, requests_per_person=1)
    studio.say("!spotify play blue lagoon")
    heard = []
    threads = [
        threading.Thread(target=lambda number=number: heard.append(ask_for(studio, f'"fish {number}"')))
        for number in (10, 11, 12)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted("is in the queue" in each for each in heard) == [False, False, True], heard
    assert len(studio.player.queue) == 1


def test_playlists_are_listed_and_played(studio):
    first, second = studio.spotify.track("Fish 4"), studio.spotify.track("Fish 5")
    studio.spotify.add_playlist("Cold Evenings", studio.name, first, second)
    studio.spotify.add_playlist("Warm", studio.name, second)
    assert studio.say("!spotify playlist").chat == ("1. Cold Evenings · 2. Warm – !spotify playlist <number|name>")
    assert studio.say("!spotify playlist cold").chat == "Playing “Cold Evenings”."
    assert studio.player.current is first
    assert studio.say("!spotify playlist 2").chat == "Playing “Warm”."
    assert studio.player.current is second
    assert studio.say(f"!spotify playlist spotify:playlist:{'0' * 22}").chat == "Spotify has nothing there."
    assert studio.say("!spotify playlist jazz").chat.startswith("There is no playlist “jazz”.")


def test_a_simulated_command_asks_nobody(studio):
    studio.spotify.forget_calls()
    event = {**studio.bot.event("!spotify skip", by="mod", level="moderator"), "mode": "simulate"}
    said = studio.bot.submit(event).chat
    assert "nobody was asked to: skip to the next track" in said
    assert (studio.spotify.calls(), studio.player.skipped) == (0, 0)


def test_people_with_two_accounts_have_one_share(studio):
    """Linked, acting, and parted again: limits go by the person, rows by the account."""
    set_config(studio, requests_per_person=1)
    studio.say("!spotify play blue lagoon")
    ask_for(studio, "fish 1", by="left")
    studio.bot.say("hi", by="right")
    numbers = [_number(studio, each) for each in ("left", "right")]
    _link(studio, numbers)
    assert "waits already" in ask_for(studio, "fish 2", by="right")
    _unlink(studio, numbers)
    assert ask_for(studio, "fish 2", by="right").endswith("is in the queue, Right.")


def _number(studio, name):
    rows = studio.bot.fleet.database.statement(
        "SELECT user_id FROM platform_identities WHERE platform = 'console' AND platform_user_id = %s", (name,)
    )
    return rows[0]["user_id"]


def _link(studio, numbers):
    studio.bot.fleet.database.statement("UPDATE users SET head_id = %s WHERE id = %s", tuple(numbers))
    _tell(studio, numbers)


def _unlink(studio, numbers):
    studio.bot.fleet.database.statement("UPDATE users SET head_id = NULL WHERE id = %s", (numbers[1],))
    _tell(studio, numbers)


def _tell(studio, numbers):
    SERVICES[0].bus.invalidate("people", *numbers)


def test_a_long_name_is_cut_and_what_ends_is_over(studio):
    track = studio.spotify.add_track(Track("x" * 500, "", "", 1000))
    assert len(studio.say(f"!spotify play {track.uri}").chat) < 100
    eventually(lambda: "Nothing is playing" in studio.say("!song").chat)
