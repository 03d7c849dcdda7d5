"""!spotify, from connecting an account to the next track: through chat, against a Spotify on loopback."""

from __future__ import annotations


def test_connected_found_played_shown_queued_and_skipped(studio):
    found = studio.say("!spotify search blue")
    assert found.chat.startswith("1. “Blue Lagoon” – The Waddlers (3:21) · 2. “Blue Monday” – New Order (7:29)")
    played = studio.say("!spotify play 1")
    assert played.chat == "Playing “Blue Lagoon” – The Waddlers."
    assert studio.player.current.name == "Blue Lagoon"
    current = studio.say("!spotify current")
    assert current.chat == "“Blue Lagoon” – The Waddlers (Cold Feet) [0:00/3:21] on Studio, for Mod"
    assert studio.say("!spotify request icebreaker", by="viewer", level="member").chat == (
        "“Icebreaker” – The Waddlers is in the queue, Viewer."
    )
    assert studio.say("!spotify queue").chat == "Next: 1. “Icebreaker” – The Waddlers for Viewer"
    assert studio.say("!spotify skip").chat == "Skipped “Blue Lagoon” – The Waddlers."
    assert studio.player.current.name == "Icebreaker"
    assert studio.say("!np").chat.endswith("on Studio, for Viewer")
    assert studio.say("!spotify history").chat == ("Played: “Icebreaker” – The Waddlers · “Blue Lagoon” – The Waddlers")
