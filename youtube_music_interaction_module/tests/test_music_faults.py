"""When YouTube is down, slow, cross, or has had enough for today; and that nobody ever reads the key."""

from __future__ import annotations

import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.base.ids import new_id
from waddlebot.module.service import SERVICES

A_KEY = "simulated-youtube-key"
TRY_AGAIN = "Try again in a moment."


@pytest.fixture(autouse=True)
def _no_pauses(music):
    """What one test has YouTube ask for does not hold up the next one."""
    service = next(each for each in SERVICES if each.name == "youtube_music")
    provider = importlib.import_module("apps.youtube_music_interaction_module.app").finder._provider

    def forget() -> None:
        provider._pauses._own.clear()
        for key in service.bus.client.scan_iter("waddlebot:pause:youtube*"):
            service.bus.client.delete(key)
        provider._circuits._circuits.clear()

    forget()
    yield
    forget()


FAULTS = {
    "down": ({"hangs_up": True}, f"YouTube does not answer. {TRY_AGAIN}"),
    "500": ({"status": 500}, f"YouTube does not answer. {TRY_AGAIN}"),
    "503": ({"status": 503}, "YouTube has too much to do. Try again in 1 s."),
    "html": ({"status": 200, "body": b"<html>oops</html>", "content_type": "text/html"}, "YouTube does not answer."),
    "truncated": ({"status": 200, "body": b'{"items": [{"id": "x"'}, f"YouTube does not answer. {TRY_AGAIN}"),
    "of another shape": ({"status": 200, "body": b'{"items": [{"snippet": 7}]}'}, "YouTube does not answer."),
    "ten megabytes": ({"status": 200, "body": b"x" * 10_000_000}, f"YouTube does not answer. {TRY_AGAIN}"),
    "html for an error": ({"status": 403, "body": b"<h1>Forbidden</h1>"}, "YouTube refuses: no reason given."),
    "too fast": ({"status": 429, "reason": "rateLimitExceeded"}, "YouTube has too much to do."),
    "too fast for hours": (
        {"status": 429, "reason": "rateLimitExceeded", "headers": {"Retry-After": "7200"}},
        "YouTube has had enough of this bot for now. Try again in about 2 hours.",
    ),
    "401": ({"status": 401, "reason": "authError"}, "YouTube refuses: it does not take this bot's key"),
    "403": ({"status": 403, "reason": "accessNotConfigured"}, "YouTube refuses: it does not take this bot's key"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_youtube_answers_is_a_sentence_and_the_next_request_is_fine(music, fault):
    about, said = FAULTS[fault]
    video = music.youtube.add(f"A Song {new_id()}")
    music.youtube.fail_next(9, **about)
    heard = music.bot.say(f"!sr https://youtu.be/{video.video_id}")
    assert heard.chat.startswith(said) and heard.statuses == ["failed"]
    assert music.playing is None


def test_what_fails_once_is_asked_again_within_the_same_command(music):
    video = music.youtube.add("A Song")
    music.youtube.fail_next(1, status=500)
    assert music.bot.say(f"!sr https://youtu.be/{video.video_id}").statuses == ["success"]


def test_a_youtube_that_hangs_holds_nobody_else_up(music):
    video = music.youtube.add("A Song")
    music.youtube.fail_next(1, after_s=6.0)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(music.bot.say, f"!sr https://youtu.be/{video.video_id}", by="slow")
        assert music.bot.say("!np", by="quick").chat == "Nothing is playing."
        assert not slow.done()
        assert slow.result(20).statuses == ["success"]


def test_a_key_that_youtube_does_not_take_is_the_owners_to_mend(music):
    music.youtube.api_key = "another"
    try:
        heard = music.bot.say(f"!sr https://youtu.be/{music.youtube.add('A Song').video_id}")
    finally:
        music.youtube.api_key = A_KEY
    assert heard.chat == "YouTube refuses: it does not take this bot's key; its owner has to look at that."


def test_one_search_answers_all_communities(music, fleet):
    word = new_id()
    music.youtube.add(f"Song {word}")
    other = fleet.bot()
    other.install("youtube_music")
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(music.bot.say, f"!ytmusic search SONG  {word}", by=f"p{n}") for n in range(8)]
        assert {each.result().statuses[0] for each in asked} == {"success"}
    assert other.say(f"!sr song {word}").statuses == ["success"]
    assert music.searches() == [f"song {word}"]


def test_searches_that_are_used_up_are_said_kindly_and_links_still_work(music):
    known, word = new_id(), new_id()
    music.youtube.add(f"Song {known}")
    video = music.youtube.add(f"Song {word}")
    music.bot.say(f"!ytmusic search {known}")
    music.youtube.searches_left = 0

    said = music.bot.say(f"!sr {word}").chat
    assert said.startswith("YouTube gives this bot no more searches today. It does again in ")
    assert said.endswith("; links still work, and what was searched for before.")
    # Now that it is known nobody asks again until tomorrow.
    asked = len(music.searches())
    assert music.bot.say(f"!ytmusic search {new_id()}").chat.startswith("YouTube gives this bot no more searches")
    assert len(music.searches()) == asked
    assert music.bot.say(f"!sr {known}").statuses == ["success"]
    assert music.bot.say(f"!sr https://youtu.be/{video.video_id}").statuses == ["success"]
    health = music.bot.fleet.request("GET", "/youtube/health", key=None).json()
    assert health["status"] in ("healthy", "degraded")


def test_the_ledger_keeps_to_what_there_is_and_begins_anew_at_midnight_pacific(simulated, fleet):
    quota = sys.modules["apps.youtube_music_interaction_module.services.quota"]
    ledger = quota.QuotaLedger(simulated.database, searches=2, units=3)
    simulated.advance(seconds=-seconds_since_midnight(simulated))
    simulated.advance(hours=23, minutes=30)
    ledger.take("searches")
    ledger.take("searches")
    with pytest.raises(quota.QuotaUsedUp, match="It does again in 30 min"):
        ledger.take("searches")
    assert ledger.left() == {"searches": 0, "units": 3}
    ledger.note_used_up("units")
    assert ledger.left()["units"] == 0
    simulated.advance(minutes=31)
    assert ledger.left() == {"searches": 2, "units": 3}
    ledger.take("searches")
    # Two who take the last one at the same time: one gets it.
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(try_to(ledger, quota))) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(taken) == [False] * 5 + [True]


def try_to(ledger, quota):
    try:
        ledger.take("searches")
    except quota.QuotaUsedUp:
        return False
    return True


def seconds_since_midnight(simulated):
    (row,) = simulated.database.statement(
        "SELECT extract(epoch FROM now() AT TIME ZONE 'America/Los_Angeles'"
        " - date_trunc('day', now() AT TIME ZONE 'America/Los_Angeles'))::float AS s"
    )
    return row["s"]


def test_the_key_is_in_no_log_and_no_answer(music, whole_log):
    word = new_id()
    music.youtube.add(word)
    music.bot.say(f"!sr {word}")
    for about, _ in FAULTS.values():
        music.youtube.fail_next(9, **about)
        assert A_KEY not in str(music.bot.say(f"!ytmusic search {new_id()}").answer)
        music.youtube.mend()
        _forget_pauses()
    text = whole_log("youtube_music")
    assert "provider_failed" in text
    assert A_KEY not in text
    health = music.bot.fleet.request("GET", "/youtube/health").body.decode()
    assert A_KEY not in health


def _forget_pauses():
    provider = importlib.import_module("apps.youtube_music_interaction_module.app").finder._provider
    provider._circuits._circuits.clear()


def test_without_a_key_chat_says_what_the_owner_has_to_do(music):
    finder = importlib.import_module("apps.youtube_music_interaction_module.app").finder
    made, finder._make_api = finder._make_api, None
    try:
        for line in ("!sr x", "!ytmusic search x", "!ytmusic play https://youtu.be/dQw4w9WgXcQ"):
            assert music.bot.say(line).chat == (
                "This bot has no key for YouTube yet. Its owner sets YOUTUBE_API_KEY; the module's README says how."
            )
        answer = music.post("play", query="x")
        assert (answer.status, answer.json()["error"]["code"]) == (503, "not_configured")
    finally:
        finder._make_api = made


def test_many_threads_ask_at_once_and_none_reads_anothers_answer(music, fleet):
    videos = [music.youtube.add(f"Song {number}", duration_s=100 + number) for number in range(24)]
    finder = importlib.import_module("apps.youtube_music_interaction_module.app").finder
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda video: finder.look_up([video.video_id], region="US", within_s=10)[0], videos))
    assert [(each.video_id, each.duration) for each in found] == [(each.video_id, each.duration_s) for each in videos]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT3M33S", 213),
        ("P1DT2H", 93_600),
        ("P0D", 0),
        ("PT1H", 3600),
        ("P1W", 604_800),
        ("PT", 0),
        ("3:33", 0),
        ("", 0),
    ],
)
def test_durations_are_read_as_iso_8601_has_them(fleet, text, seconds):
    assert sys.modules["apps.youtube_music_interaction_module.services.tracks"].read_duration(text) == seconds
