"""The music over HTTP: what the portal and a community's programs read and do."""

from __future__ import annotations

from waddlebot.base.ids import new_id
from waddlebot.testing.plugin import eventually


def test_a_program_plays_reads_skips_and_stops(music):
    word = new_id()
    first, second = (music.youtube.add(f"{word} {each}", duration_s=120) for each in ("one", "two"))
    answer = music.post("play", url=f"https://youtu.be/{first.video_id}", requested_by="The Portal")
    assert answer.status == 200
    assert answer.json()["now_playing"]["title"] == f"{word} one"
    queued = music.post("play", video_id=second.video_id).json()
    assert (queued["now_playing"], queued["queued"][0]["position"]) == (None, 1)
    # It reaches the overlay, without anybody having typed.
    eventually(lambda: [each["title"] for each in music.shown()] == [f"{word} one"])
    now = music.get("now-playing")["now_playing"]
    wanted = {"video_id": first.video_id, "duration": 120, "requested_by": "The Portal", "state": "waiting"}
    assert now | wanted == now
    assert music.get("queue")["total"] == 1

    skipped = music.post("skip", track_id=now["track_id"]).json()
    assert (skipped["ended"]["title"], skipped["now_playing"]["title"]) == (f"{word} one", f"{word} two")
    # Meant for the song that has just ended, it ends no other.
    again = music.post("skip", track_id=now["track_id"])
    assert (again.status, again.json()["error"]["code"]) == (404, "nothing_plays")
    eventually(lambda: len(music.shown()) == 2)
    assert music.post("stop").json()["ended"]["title"] == f"{word} two"
    assert music.get("now-playing")["now_playing"] is None
    eventually(lambda: music.shown()[-1]["player"] == "none")
    listed = music.get("history", limit=1)
    assert (listed["total"], listed["history"][0]["outcome"]) == (2, "stopped")
    assert music.get("stats")["songs"] == 0


def test_what_is_asked_for_wrongly_is_refused_with_why(music):
    for body in ({}, {"query": "x", "url": "y"}, {"query": "x" * 2001}, {"colour": "red"}):
        assert music.post("play", **body).status == 422
    answer = music.post("play", url="https://evil.example/watch?v=dQw4w9WgXcQ")
    assert (answer.status, answer.json()["error"]["code"]) == (422, "not_playable")
    blocked = music.youtube.add("X", blocked_in=("US",))
    assert music.post("play", video_id=blocked.video_id).json()["error"]["message"].endswith("may not be played in US.")


def test_a_person_in_the_portal_needs_a_right_for_music(music):
    def ask(method, path, body=None, **options):
        return music.bot.fleet.request_for(method, path, body, community_id=music.bot.community_id, **options).status

    song = {"video_id": music.youtube.add("X").video_id}
    assert ask("POST", "/youtube/play", song, area="music", right="viewer") == 403
    assert ask("POST", "/youtube/play", song, area="bot") == 403
    assert ask("POST", "/youtube/play", song, area="music", right="editor") == 200
    assert ask("GET", "/youtube/queue", area="music", right="viewer") == 200


def test_the_router_takes_playback_from_the_overlays_only_and_of_tracks_it_knows(music):
    music.bot.say(f"!sr {music.youtube.add('X').video_id}")
    (track,) = music.shown()
    body = {"item_id": f"outbox-{track['outbox_id']}", "track_id": track["track_id"], "state": "started"}

    def tell(key="browser_source_core", **changes):
        return music.bot.fleet.request("POST", "/router/playback", {**body, **changes}, key=key).status

    assert tell(key="youtube_music") == 403
    assert tell(track_id="another") == 404
    for item in ("outbox-999999999", "outbox-", "outbox--1", "outbox-1e3", "replay-1", "x"):
        assert tell(item_id=item) == 404
    assert tell(state="dancing") == 422
    assert tell(position_ms=-1) == 422
    assert tell() == 200
