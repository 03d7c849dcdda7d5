"""kill -9 at every database step of commands that do something elsewhere: it is done once or not at all, and what
nobody can say of it is said, once. In a file of its own for a worker of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from crashing_fleet import MAX_STEPS, CrashingFleet, crashing_fleet, event_for

from simulators.openai import OpenAISimulator
from simulators.spotify import SpotifySimulator
from simulators.twitch import TwitchSimulator
from simulators.youtube import YouTubeSimulator

pytestmark = pytest.mark.timeout(1200)
# Each crash takes some seconds.
EVERY = 3
UNKNOWN = "Nobody can say whether this came about: "


def crash_at_every_step(
    crashing: CrashingFleet, command: Callable[[int], str], done: Callable[[], int], *, on_success: str
) -> list[tuple[str, int]]:
    """How each event ended, and how often it was done by then, for a crash at each step and one without."""
    ended = []
    for step in range(1, MAX_STEPS):
        event, before = event_for(command(step)), done()
        crashed = crashing.crash(event, at=step)
        ended.append((how_it_ended(crashing, event, on_success=on_success), done() - before))
        if not crashed:
            return ended
    raise AssertionError(f"more than {MAX_STEPS} steps")


def how_it_ended(crashing: CrashingFleet, event: dict[str, Any], *, on_success: str) -> str:
    """What became of an event's one command, of which one thing is said."""
    answer = crashing.submit_until_done(event)
    (status,) = {each["status"] for each in answer["executions"]}
    rows = crashing.rows(
        "SELECT response_data FROM outbox WHERE event_id = %s AND response_action = 'chat'", event["event_id"]
    )
    said = [row["response_data"]["message"].removeprefix("› ") for row in rows]
    assert len(said) == 1, said
    assert (on_success if status == "success" else UNKNOWN) in said[0]
    return status


def crash_beside_the_effect(
    crashing: CrashingFleet, command: str, done: Callable[[], int], *, on_success: str
) -> set[tuple[str, int]]:
    """How it ended, and how often it was done, for crashes ever closer to an effect, until one comes between it and its
    record. Found by halving, as each takes some seconds; what runs beside may move a step by one."""
    ended = set()
    before_it, after_it = 0, MAX_STEPS
    while ("unknown", 1) not in ended:
        step = (before_it + after_it) // 2
        event, before = event_for(command), done()
        crashing.crash(event, at=step)
        was_done = done() > before
        ended.add((how_it_ended(crashing, event, on_success=on_success), done() - before))
        before_it, after_it = (before_it, step) if was_done else (step, after_it)
        if after_it - before_it == 1:
            before_it, after_it = before_it - 2, after_it + 2
    return ended


def test_a_skip_that_a_crash_cuts_off_is_done_once_or_said_to_be_unknown(tmp_path):
    with SpotifySimulator() as spotify, crashing_fleet(tmp_path, "spotify", environment=spotify.settings()) as crashing:
        connect(crashing, spotify)
        player = spotify.player("skipper")

        ended = crash_at_every_step(crashing, lambda _: "!spotify skip", lambda: player.skipped, on_success="Skipped")

    assert set(ended) == {("success", 1), ("unknown", 0), ("unknown", 1)}, "it died before, beside and after the effect"
    assert ended[-1] == ("success", 1)


@pytest.mark.parametrize(
    ("command", "path", "on_success"),
    [
        ("!spotify device Studio", "/me/player", "The music is on Studio now"),
        ("!spotify playlist cold", "/me/player/play", "Playing “Cold Evenings”."),
    ],
)
def test_a_device_or_playlist_that_a_crash_cuts_off_is_taken_once(tmp_path, command, path, on_success):
    with SpotifySimulator() as spotify, crashing_fleet(tmp_path, "spotify", environment=spotify.settings()) as crashing:
        connect(crashing, spotify)
        spotify.add_playlist("Cold Evenings", "skipper", spotify.track("Fish 4"))

        ended = crash_beside_the_effect(crashing, command, lambda: spotify.calls(path, "PUT"), on_success=on_success)

    assert ended <= {("success", 1), ("unknown", 0), ("unknown", 1)}


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


# These look something up and write it down: what they say, show and keep is there once, however often they look.


def test_a_shoutout_that_a_crash_cuts_off_is_said_shown_and_kept_once(tmp_path):
    with TwitchSimulator() as twitch:
        pip = twitch.user("pip", id="4711")
        pip.game = "Celeste"
        twitch.clip(pip, "A leap")
        with crashing_fleet(tmp_path, "shoutout", environment=twitch.settings()) as crashing:
            for step in range(1, MAX_STEPS, EVERY):
                event = event_for("!so pip")
                crashed = crashing.crash(event, at=step)
                assert how_it_ended(crashing, event, on_success="Celeste") == "success"
                (shown,) = crashing.rows(
                    "SELECT count(*) AS n FROM outbox WHERE event_id = %s AND response_action <> 'chat'",
                    event["event_id"],
                )
                (kept,) = crashing.rows("SELECT count(*) AS n FROM shoutout_history")
                assert (shown["n"], kept["n"]) == (1, 1 + step // EVERY), f"after dying at step {step}"
                if not crashed:
                    return
    raise AssertionError(f"more than {MAX_STEPS} steps")


def test_an_answer_that_a_crash_cuts_off_is_said_and_remembered_once_and_the_bill_is_honest(tmp_path):
    with OpenAISimulator() as openai:
        openai.script.say = lambda _: "Fish."
        environment = {**openai.settings(), "AI_PROVIDER": "openai"}
        with crashing_fleet(tmp_path, "ai", environment=environment) as crashing:
            for step in range(1, MAX_STEPS, EVERY):
                event = event_for(f"!ai what is best {step}")
                crashed = crashing.crash(event, at=step)
                assert how_it_ended(crashing, event, on_success="Fish.") == "success"
                (kept,) = crashing.rows(
                    "SELECT count(*) AS n FROM ai_conversations WHERE question = %s", f"what is best {step}"
                )
                assert kept["n"] == 1, f"after dying at step {step}"
                # One that was begun and of whose end nobody knows stays at what it may cost.
                (paid,) = crashing.rows(
                    "SELECT count(*) AS n, count(*) FILTER (WHERE NOT is_estimated) AS told FROM ai_usage"
                )
                asked = len(openai.script.requests)
                assert paid["told"] <= asked <= paid["n"], f"after dying at step {step}"
                if not crashed:
                    return
    raise AssertionError(f"more than {MAX_STEPS} steps")
