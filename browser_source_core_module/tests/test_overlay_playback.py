"""Which page plays, and what the hub takes from it: one leads, and each state is told once."""

from __future__ import annotations

import pytest
from waddlebot.base.ids import new_id
from waddlebot.testing.plugin import eventually

SONG = {
    "media_type": "music",
    "title": "A Song",
    "player": "youtube",
    "media_url": "https://youtu.be/dQw4w9WgXcQ",
    "duration_ms": 200_000,
    "display_s": 30,
}


def play(overlay, track_id=None, **data):
    track_id = track_id or new_id()
    shown = overlay.display("media", {**SONG, "track_id": track_id, **data})
    return track_id, shown["seq"]


def reports(overlay):
    rows = overlay.fleet.database.statement(
        "SELECT track_id, state, position_ms, code, told_at FROM browser_source_playback_reports"
        " WHERE community_id = %s ORDER BY id",
        (overlay.bot.community_id,),
    )
    return [(row["track_id"], row["state"], row["position_ms"], row["code"]) for row in rows]


def playing(overlay):
    rows = overlay.fleet.database.statement(
        "SELECT track_id, state, position_ms FROM browser_source_playback WHERE community_id = %s",
        (overlay.bot.community_id,),
    )
    return (rows[0]["track_id"], rows[0]["state"], rows[0]["position_ms"]) if rows else None


def test_one_page_leads_and_only_what_it_says_counts(live):
    first = live.connect("media").hello()
    assert first.receive("lead")["leads"] is True
    second = live.connect("media").hello()
    assert second.receive("lead")["leads"] is False
    track, seq = play(live)
    assert second.receive("item")["data"]["track_id"] == track
    assert first.receive("item")["seq"] == seq
    report = {"type": "playing", "seq": seq, "track_id": track, "position_ms": 1000}
    second.send(**report, state="failed", code=5)
    second.receive_until_pong()
    first.send(**report, state="started")
    first.send(**{**report, "position_ms": 2000}, state="started")
    eventually(lambda: playing(live) == (track, "started", 2000))
    assert [each["leads"] for each in second.frames if each["type"] == "lead"] == [False]

    first.close()
    assert second.receive("lead")["leads"] is True
    second.send(**{**report, "position_ms": 3000}, state="ended")
    eventually(lambda: len(reports(live)) == 2)
    assert [each[1] for each in reports(live)] == ["started", "ended"]
    # What is over is over.
    second.send(**report, state="failed", code=5)
    second.receive_until_pong()
    assert playing(live) == (track, "ended", 3000)


def test_a_page_that_is_seen_leads_before_one_that_is_hidden_and_a_preview_never(live):
    answer = live.fleet.request(
        "POST", "/browser/source/admin/preview", {"community_id": live.bot.slug, "source_type": "media"}
    )
    token = answer.json()["url"].split("/source/")[1].split("/")[0]
    preview = live.connect("media", token=token).hello()
    hidden = live.connect("media").hello(hidden=True)
    assert hidden.receive("lead")["leads"] is True
    seen = live.connect("media").hello()
    assert seen.receive("lead")["leads"] is True
    assert hidden.receive("lead")["leads"] is False
    preview.receive_until_pong()
    assert not [each for each in preview.frames if each["type"] == "lead" and each["leads"]]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"track_id": "", "state": "started"},
        {"track_id": "x" * 65, "state": "started"},
        {"track_id": 7, "state": "started"},
        {"track_id": "x", "state": "no_page"},
        {"track_id": "x", "state": "started", "position_ms": -1},
        {"track_id": "x", "state": "started", "position_ms": "1"},
        {"track_id": "x", "state": "failed", "code": True},
        {"track_id": "x", "state": ["started"]},
        {"state": "started"},
    ],
)
def test_what_makes_no_sense_is_no_report(live, nonsense):
    page = live.connect("media").hello()
    page.receive("lead")
    _, seq = play(live, track_id="x")
    page.receive("item")
    page.send(type="playing", seq=seq, **nonsense)
    page.receive_until_pong()
    assert playing(live) == ("x", "waiting", 0)


def test_where_no_page_leads_for_half_a_minute_that_is_told_once(overlay):
    track, _ = play(overlay)
    age = "UPDATE browser_source_playback SET created_at = now() - %s * interval '1 second' WHERE community_id = %s"
    overlay.fleet.database.statement(age, (25, overlay.bot.community_id))
    overlay.fleet.database.statement(age, (31, overlay.bot.community_id))
    eventually(lambda: reports(overlay) == [(track, "no_page", 0, 0)])
    # The item is not from the router, so it is nobody's; that is found out once.
    eventually(lambda: not waiting_reports(overlay))


def waiting_reports(overlay):
    sql = "SELECT 1 FROM browser_source_playback_reports WHERE community_id = %s AND told_at IS NULL"
    return overlay.fleet.database.statement(sql, (overlay.bot.community_id,))


def test_a_new_page_goes_on_where_the_one_before_was_and_gets_only_the_newest_track(live):
    play(live)
    track, _ = play(live)
    _, seq = play(live, track_id=track, volume=20)
    first = live.connect("media").hello()
    item = first.receive("item")
    assert (item["seq"], item["data"]["track_id"], item["data"]["volume"]) == (seq, track, 20)
    first.receive("lead")
    first.send(type="playing", seq=seq, track_id=track, state="started", position_ms=61_000)
    eventually(lambda: playing(live) == (track, "started", 61_000))
    first.ack(seq, "done")
    first.close()
    second = live.connect("media").hello()
    assert 61_000 <= second.receive("item")["data"]["progress_ms"] < 67_000
    # What was taken away is played by nobody.
    play(live, track_id=track, player="none", media_url="")
    second.close()
    third = live.connect("media").hello()
    third.receive("lead")
    assert not [
        frame for frame in third.receive_until_pong() if frame["type"] == "item" and frame["data"]["player"] != "none"
    ]
    assert playing(live) is None


def test_what_is_no_song_on_youtube_or_has_no_name_to_report_by_is_refused(overlay):
    def status(**data):
        return overlay.try_display("media", {**SONG, "track_id": "x", **data}).status

    for url in ("", "https://evil.example/watch?v=dQw4w9WgXcQ", "javascript:alert(1)", "https://youtu.be/short"):
        assert status(media_url=url) == 422
    assert status(track_id="") == 422
    assert status(volume=101) == 422
    assert status(player="flash") == 422
    assert status(media_url="dQw4w9WgXcQ") == 200
    (row,) = overlay.rows("media")
    assert row["content"]["data"]["media_url"] == "https://www.youtube.com/watch?v=dQw4w9WgXcQ"


def test_a_test_and_a_replay_play_nothing(overlay):
    overlay.display("media", {**SONG, "track_id": "x"}, mode="simulate")
    assert playing(overlay) is None
    play(overlay)
    overlay.fleet.database.statement(
        "UPDATE browser_source_history SET shown_at = now() WHERE community_id = %s AND NOT is_test",
        (overlay.bot.community_id,),
    )
    overlay.control("replay", "media")
    test, _, replayed = overlay.rows("media")
    assert {each["content"]["data"]["player"] for each in (test, replayed)} == {"none"}
    assert playing(overlay)[1] == "waiting"


def test_a_page_whose_line_was_cut_leads_on_after_its_hub_was_started_anew(live, hub):
    page = "0123456789abcdef-a-page"
    first = live.connect("media").hello(page=page)
    assert first.receive("lead")["leads"] is True
    hub.restart()
    again = live.connect("media").hello(page=page)
    assert again.receive("lead")["leads"] is True
