"""kill -9 at every database step of commands that do something elsewhere: it is done once or not at all, and what
nobody can say of it is said, once. In a file of its own for a worker of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from crashing_fleet import MAX_STEPS, CrashingFleet, crashing_fleet, event_for

from simulators.spotify import SpotifySimulator
from simulators.youtube import YouTubeSimulator

pytestmark = pytest.mark.timeout(1200)
UNKNOWN = "Nobody can say whether this came about: skip to the next track. It is not tried again."


def crash_at_every_step(
    crashing: CrashingFleet, command: Callable[[int], str], done: Callable[[], int], *, on_success: str
) -> list[tuple[str, int]]:
    """How each event ended, and how often it was done by then, for a crash at each step and one without."""
    ended = []
    for step in range(1, MAX_STEPS):
        event, before = event_for(command(step)), done()
        crashed = crashing.crash(event, at=step)
        answer = crashing.submit_until_done(event)
        (status,) = {each["status"] for each in answer["executions"]}
        rows = crashing.rows(
            "SELECT response_data FROM outbox WHERE event_id = %s AND response_action = 'chat'", event["event_id"]
        )
        said = [row["response_data"]["message"].removeprefix("› ") for row in rows]
        where = f"after dying at step {step}"
        assert len(said) == 1, where
        assert (on_success if status == "success" else UNKNOWN) in said[0], where
        ended.append((status, done() - before))
        if not crashed:
            return ended
    raise AssertionError(f"more than {MAX_STEPS} steps")


def test_a_skip_that_a_crash_cuts_off_is_done_once_or_said_to_be_unknown(tmp_path):
    with SpotifySimulator() as spotify, crashing_fleet(tmp_path, "spotify", environment=spotify.settings()) as crashing:
        connect(crashing, spotify)
        player = spotify.player("skipper")

        ended = crash_at_every_step(crashing, lambda _: "!spotify skip", lambda: player.skipped, on_success="Skipped")

    assert set(ended) == {("success", 1), ("unknown", 0), ("unknown", 1)}, "it died before, beside and after the effect"
    assert ended[-1] == ("success", 1)


def connect(crashing: CrashingFleet, spotify: SpotifySimulator) -> None:
    """Go the way to Spotify and back, as a browser does."""
    spotify.user("skipper", devices=["Studio"])
    spotify.player("skipper").play(*[spotify.track(f"Fish {1 + number % 8}") for number in range(200)])
    asked = {**event_for("!spotify connect"), "user": {"platform_user_id": "o", "name": "o", "badges": ["owner"]}}
    (reply,) = crashing.submit_until_done(asked)["responses"]
    link = re.search(r"https?://\S+", reply["response_data"]["message"])
    assert link, reply
    sent = get(crashing, link[0])
    assert sent.status == 303, sent.body
    back = spotify.accounts.authorize(sent.headers["location"], user="skipper")
    assert get(crashing, back, Cookie=sent.headers["set-cookie"].split(";")[0]).status == 200


def get(crashing: CrashingFleet, url: str, **headers: str) -> Any:
    return crashing.http.request("GET", url, headers=headers, timeout_s=10, keep_headers=True)


def test_a_song_that_a_crash_cuts_off_waits_once(tmp_path):
    with YouTubeSimulator() as youtube:
        songs = [youtube.add(f"Song {number}").video_id for number in range(MAX_STEPS)]
        with crashing_fleet(tmp_path, "youtube_music", environment=youtube.settings()) as crashing:
            room = {"config": {"per_person": 100, "max_queue": 100}}
            done = crashing.request("PUT", "/router/communities/demo/modules/youtube_music", room)
            assert done is not None and done.status == 200, done

            def wanted() -> int:
                tables = ("youtube_queue", "youtube_now_playing")
                return sum(crashing.rows(f"SELECT count(*) AS n FROM {each}")[0]["n"] for each in tables)

            ended = crash_at_every_step(
                crashing, lambda step: f"!sr https://youtu.be/{songs[step]}", wanted, on_success="Song "
            )

    assert set(ended) == {("success", 1)}
