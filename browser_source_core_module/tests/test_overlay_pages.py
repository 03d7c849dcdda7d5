"""The pages in a real browser: what a viewer sees, and that every alert is seen once."""

from __future__ import annotations

import io
import os
import signal
import struct
import zlib
from collections.abc import Iterator

import pytest
from overlay_doubles import redis_away

pytestmark = pytest.mark.timeout(180)
SIZES = [(640, 360), (1280, 720), (1920, 1080), (1080, 1920), (1920, 120), (3840, 2160)]


def pixels(png: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The pixels of an 8-bit RGBA screenshot. Source: https://www.w3.org/TR/png-3/#9Filters"""
    stream, width, height, data = io.BytesIO(png[8:]), 0, 0, b""
    while header := stream.read(8):
        size, kind = struct.unpack(">I4s", header)
        body = stream.read(size)
        stream.read(4)
        if kind == b"IHDR":
            width, height, _depth, colours = struct.unpack(">IIBB", body[:10])
            assert colours == 6, "a screenshot without an alpha channel"
        elif kind == b"IDAT":
            data += body
    raw, stride, before = zlib.decompress(data), width * 4, bytearray(width * 4)
    for row in range(height):
        start = row * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        unfilter(raw[start], line, before)
        before = line
        yield from (tuple(line[x : x + 4]) for x in range(0, stride, 4))


def unfilter(kind: int, line: bytearray, before: bytearray) -> None:
    for x in range(len(line)):
        left, up, corner = (line[x - 4] if x >= 4 else 0), before[x], (before[x - 4] if x >= 4 else 0)
        if kind == 1:
            line[x] = (line[x] + left) & 255
        elif kind == 2:
            line[x] = (line[x] + up) & 255
        elif kind == 3:
            line[x] = (line[x] + (left + up) // 2) & 255
        elif kind == 4:
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda each: abs(guess - each))
            line[x] = (line[x] + nearest) & 255


# Where the text and its window are when the run begins, however late a busy machine looks.
AT_THE_BEGINNING = """(() => {
  const text = document.querySelector('.text'), run = text.getAnimations()[0], now = run.currentTime;
  run.currentTime = 0;
  const boxes = [text, document.querySelector('.window')].map((each) => each.getBoundingClientRect().toJSON());
  run.currentTime = now;
  return boxes;
})()"""


# What a viewer sees


def test_a_ticker_is_shown_at_the_bottom_and_goes_by_itself(show):
    screen = show("ticker")
    seq = screen.overlay.ticker("Alice follows", display_s=1)

    screen.wait_for_text("Alice follows")
    box = screen.box(".bar")
    assert box["y"] > 600 and box["y"] + box["height"] < 720
    screen.wait("!document.querySelector('main > :not([hidden])')")
    screen.until(lambda: screen.overlay.states() == ["done"])
    assert seq == 1 and screen.problems == []


def test_an_empty_overlay_is_transparent_everywhere(show):
    for source_type in ("ticker", "media", "general"):
        png = show(source_type, size=(160, 90)).page.screenshot(omit_background=True)
        assert set(pixels(png)) == {(0, 0, 0, 0)}


def test_around_an_item_the_overlay_is_transparent(show):
    screen = show("ticker", size=(320, 180))
    screen.overlay.ticker("hello")
    screen.wait_for_text("hello")
    screen.page.wait_for_timeout(600)

    seen = list(pixels(screen.page.screenshot(omit_background=True)))

    assert seen[: 320 * 90] == [(0, 0, 0, 0)] * 320 * 90
    assert any(pixel[3] > 200 for pixel in seen[320 * 120 :])


LONG = "A rather long title that somebody thought of, with émojis 🎉🎉 and more than enough words in it"
FILLED = {
    "ticker": ({"text": "hello", "display_s": 60}, ".bar"),
    "media": ({"media_type": "music", "title": LONG, "artist": LONG, "duration_ms": 90_000, "display_s": 60}, ".card"),
    "general": ({"kind": "alert", "title": LONG, "text": LONG * 5, "display_s": 60}, ".panel"),
}


@pytest.mark.parametrize("source_type", FILLED)
def test_everything_fits_at_every_size(show, source_type):
    data, selector = FILLED[source_type]
    screen = show(source_type)
    screen.overlay.display(source_type, data)
    screen.page.wait_for_selector(f"{selector}:not([hidden])")
    screen.page.wait_for_timeout(700)

    for width, height in SIZES:
        screen.page.set_viewport_size({"width": width, "height": height})
        box = screen.box(selector)
        assert box["x"] >= 0 and box["x"] + box["width"] <= width + 0.5, (width, height, box)
        if height > 200 or source_type == "ticker":
            assert box["y"] >= 0 and box["y"] + box["height"] <= height + 0.5, (width, height, box)
        assert screen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_long_ticker_runs_through_to_its_end(show):
    screen = show("ticker", size=(640, 360))
    screen.overlay.ticker("word " * 22 + "END", display_s=1)
    screen.wait("document.querySelector('.bar.long')")
    text, window = screen.page.evaluate(AT_THE_BEGINNING)
    assert text["right"] > window["right"] + 1

    at_its_end = (
        "(() => { const t = document.querySelector('.text').getBoundingClientRect();"
        " const w = document.querySelector('.window').getBoundingClientRect();"
        " return t.left < 0 && Math.round(t.right) <= Math.round(w.right) + 1; })()"
    )
    screen.wait(at_its_end, within_s=30)


def test_a_right_to_left_ticker_begins_at_the_right(show):
    screen = show("ticker", size=(640, 360))
    screen.overlay.ticker("مرحبا بكم جميعا " * 5, display_s=1)
    screen.wait("document.querySelector('.bar.long')")
    text, window = screen.page.evaluate(AT_THE_BEGINNING)
    assert text["left"] < window["left"] and text["right"] <= window["right"] + 1
    left = "Math.round(document.querySelector('{}').getBoundingClientRect().left)"
    screen.wait(f"{left.format('.text')} >= {left.format('.window')} - 1", within_s=30)


def test_with_reduced_motion_a_long_ticker_stands_still_and_is_all_there(show):
    screen = show("ticker", size=(640, 360), reduced_motion="reduce")
    screen.overlay.ticker("word " * 22 + "END", display_s=20)
    screen.wait_for_text("END")

    before = screen.box(".text")
    screen.page.wait_for_timeout(700)
    after = screen.box(".text")
    bar = screen.box(".bar")
    assert before == after
    assert bar["y"] >= 0 and after["y"] + after["height"] <= bar["y"] + bar["height"] + 1


def test_more_important_tickers_come_first(show):
    screen = show("ticker")
    screen.overlay.control("pause")
    screen.page.wait_for_selector("html[data-paused=true]", state="attached")
    for text, priority in (("later", 9), ("soon", 5), ("first", 1), ("soon too", 5)):
        screen.overlay.ticker(text, priority=priority, display_s=0.2)
    screen.until(lambda: all(row["received_at"] for row in screen.overlay.rows()))
    screen.overlay.control("resume")

    screen.until(lambda: set(screen.overlay.states()) == {"done"})
    assert screen.seen == ["first", "soon", "soon too", "later"]


def test_what_plays_shows_its_art_names_and_a_bar_that_moves_smoothly(show):
    screen = show("media")
    screen.overlay.display(
        "media",
        {
            "media_type": "music", "title": "Penguin Parade", "artist": "The Waddles", "album": "Antarctica",
            "service": "Spotify", "progress_ms": 60_000, "duration_ms": 120_000, "requested_by": "alice",
        },
    )  # fmt: skip
    screen.wait_for_text("Penguin Parade")

    for text in ("The Waddles", "Antarctica", "SPOTIFY", "2:00", "for alice"):
        assert text in screen.text
    width = "document.querySelector('%s').getBoundingClientRect().width"
    bar = f"{width % '.done'} / {width % '.progress'}"
    first = screen.page.evaluate(bar)
    assert 0.499 < first < 0.53
    screen.wait(f"{bar} > {first} && {bar} < 0.6")


def test_an_update_of_the_same_track_moves_the_bar_and_nothing_else(show):
    track = {"media_type": "music", "title": "One", "artist": "A", "duration_ms": 100_000, "display_s": 20}
    screen = show("media")
    screen.overlay.display("media", {**track, "progress_ms": 10_000})
    screen.wait_for_text("One")
    screen.page.wait_for_timeout(600)
    before = screen.box(".card")
    screen.page.evaluate("document.querySelector('.card .title').dataset.same = 'yes'")

    screen.overlay.display("media", {**track, "progress_ms": 50_000, "is_playing": False})

    screen.wait("document.querySelector('.times span').textContent === '0:50'")
    assert screen.box(".card") == before
    assert screen.page.evaluate("document.querySelector('.card .title').dataset.same") == "yes"
    assert screen.page.evaluate("document.querySelector('.card').classList.contains('paused')")
    screen.until(lambda: screen.overlay.states("media") == ["done", "shown"])


def test_the_next_track_takes_over_at_once(show):
    screen = show("media")
    for title in ("One", "Two"):
        screen.overlay.display("media", {"media_type": "music", "title": title, "display_s": 60})
        screen.wait_for_text(title)

    assert "One" not in screen.text


def test_an_alert_counts_its_time_down(show):
    screen = show("general")
    screen.overlay.alert("soon over", title="Look", display_s=2)
    screen.wait_for_text("soon over")

    width = "document.querySelector('.panel .countdown').getBoundingClientRect().width"
    first = screen.page.evaluate(width)
    screen.wait(f"{width} < {first} * 0.7")
    screen.wait("!document.querySelector('main > :not([hidden])')")


def test_an_announcement_without_an_end_stands_until_it_is_replaced(show):
    screen = show("general")
    screen.overlay.display("general", {"kind": "announcement", "text": "stands", "display_s": 0})
    screen.wait_for_text("stands")
    screen.page.reload()
    screen.wait_for_text("stands")

    screen.overlay.alert("instead")
    screen.wait_for_text("instead")
    assert "stands" not in screen.text


def test_own_html_is_shown_in_a_frame(show):
    screen = show("general")
    screen.overlay.display(
        "general", {"kind": "html", "html": '<h1 style="color: rgb(255, 0, 0)">Own</h1>', "display_s": 0}
    )
    inside = screen.page.frame_locator("iframe").locator("h1")
    inside.wait_for()

    assert inside.inner_text() == "Own"
    assert inside.evaluate("e => getComputedStyle(e).color") == "rgb(255, 0, 0)"
    assert screen.page.locator("iframe").get_attribute("sandbox") == ""
    assert inside.evaluate("e => getComputedStyle(e.ownerDocument.body).display") == "grid"


def test_a_form_shows_that_it_waits_and_that_it_was_answered(show, fleet):
    screen = show("general")
    form = {
        "form_title": "Song wish", "form_fields": [{"name": "song", "type": "text", "label": "Which song?"}],
        "form_submit_url": "http://127.0.0.1:1/none",
    }  # fmt: skip
    seq = screen.overlay.display("form", form)["seq"]
    screen.wait_for_text("Waiting for an answer")
    assert "Song wish" in screen.text and "Which song?" in screen.text

    with fleet.database.transaction() as db:
        db.executesql(
            "WITH q AS (UPDATE browser_source_queues SET last_control = last_control + 1 WHERE community_id = %s"
            " AND source_type = 'general' RETURNING *) INSERT INTO browser_source_controls"
            " (community_id, source_type, number, action, seq, note)"
            " SELECT community_id, source_type, last_control, 'skip', %s, 'answered' FROM q",
            (screen.overlay.bot.community_id, seq),
        )
    screen.wait_for_text("Answered")
    screen.wait("!document.querySelector('main > :not([hidden])')")


def test_a_test_is_marked(show, fleet):
    screen = show("ticker")
    body = {"community_id": screen.overlay.bot.slug, "action": "ticker", "data": {"text": "only a test"}}
    assert fleet.request("POST", "/browser/source/admin/test", body).status == 200

    screen.wait_for_text("only a test")
    assert screen.page.evaluate("getComputedStyle(document.querySelector('.bar'), '::after').content") == '"TEST"'
    assert screen.overlay.stats("ticker")["deliveries"] == 0


def test_a_theme_changes_the_page_while_it_is_open(show, fleet):
    screen = show("general")
    screen.overlay.alert("colours", display_s=0)
    screen.wait_for_text("colours")
    body = {"community_id": screen.overlay.bot.slug, "variables": {"accent": "rgb(1, 2, 3)", "general-y": "start"}}
    assert fleet.request("PUT", "/browser/source/admin/theme", body).status == 200

    screen.wait("getComputedStyle(document.documentElement).getPropertyValue('--accent') === 'rgb(1, 2, 3)'")
    assert screen.box(".panel")["y"] < 100
    screen.page.reload()
    screen.wait("getComputedStyle(document.documentElement).getPropertyValue('--accent') === 'rgb(1, 2, 3)'")


def test_nothing_moves_that_is_not_meant_to(show):
    screen = show("media")
    screen.page.evaluate(
        "window.shift = 0; new PerformanceObserver((list) => {"
        " for (const entry of list.getEntries()) window.shift += entry.value; })"
        ".observe({ type: 'layout-shift', buffered: true })"
    )
    for title in ("One", "A much longer second title that has to be cut somewhere", "Three"):
        screen.overlay.display("media", {"media_type": "music", "title": title, "artist": title, "display_s": 0.5})
        screen.wait_for_text(title)
        screen.page.wait_for_timeout(200)

    assert screen.page.evaluate("window.shift") == 0


@pytest.mark.parametrize("source_type", ["ticker", "media", "general"])
def test_skipping_does_not_wait_for_the_way_in(show, source_type):
    screen = show(source_type)
    slow = "main > .entering, main :not(.leaving), main :not(.leaving)::after { animation-duration: 60s !important; }"
    screen.page.evaluate("(rule) => { const [sheet] = document.styleSheets; sheet.insertRule(rule); }", slow)
    items = {
        "ticker": {"text": "One"},
        "media": {"media_type": "music", "title": "One", "artist": "Band"},
        "general": {"kind": "alert", "text": "One"},
    }
    screen.overlay.display(source_type, {**items[source_type], "display_s": 50})
    screen.wait("document.querySelector('.entering')?.innerText.includes('One')")
    screen.until(lambda: screen.overlay.states(source_type) == ["shown"])

    screen.overlay.control("skip", source_type)

    screen.wait("!document.querySelector('main > :not([hidden])')")


def test_nothing_is_loaded_from_elsewhere(show, site):
    screen = show("media")
    art = "https://evil.example/cookie.png"
    screen.overlay.display("media", {"media_type": "music", "title": "One", "artwork_url": art, "media_url": art})
    screen.wait_for_text("One")

    port = screen.overlay.hub.environment["WEBSOCKET_PORT"]
    ours = (site, f"ws://127.0.0.1:{port}/")
    assert [url for url in screen.requests if not url.startswith(ours)] == []


def test_an_idle_page_uses_next_to_no_processor_time(show):
    """Measured against the same page while it shows something that moves."""
    screen = show("ticker")
    client = screen.page.context.new_cdp_session(screen.page)
    client.send("Performance.enable")

    def work(seconds: float) -> float:
        def spent() -> float:
            metrics = {each["name"]: each["value"] for each in client.send("Performance.getMetrics")["metrics"]}
            return metrics["TaskDuration"]

        before = spent()
        screen.page.wait_for_timeout(seconds * 1000)
        return spent() - before

    # The test's own look at every frame is not the page's.
    screen.page.evaluate("window.requestAnimationFrame = () => 0")
    screen.page.wait_for_timeout(300)
    idle = work(2)
    assert idle / 2 < 0.02


# Every alert once, in order


def test_five_hundred_alerts_over_a_line_that_is_cut_a_hundred_times_are_each_seen_once_in_order(show):
    screen = show("general")
    for n in range(500):
        screen.overlay.alert(f"alert {n:03}", display_s=0.02)
        if n % 5 == 4:
            screen.cut()
            screen.page.wait_for_timeout(5)

    screen.until(lambda: screen.overlay.states("general").count("done") == 500, within_s=60)
    seen = [each.split()[-1] for each in screen.seen]
    assert seen == [f"{n:03}" for n in range(500)]
    assert screen.problems == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_after_the_hub_comes_back_the_page_shows_what_it_missed(show, how):
    screen = show("ticker")
    screen.overlay.ticker("before", display_s=1)
    screen.until(lambda: screen.overlay.states() == ["done"], within_s=60)

    screen.overlay.hub.end(how)
    screen.page.wait_for_selector("html[data-line=away]", state="attached")
    screen.overlay.ticker("meanwhile", display_s=1)
    screen.overlay.hub.start()
    screen.overlay.ticker("after", display_s=1)

    screen.until(lambda: screen.overlay.states() == ["done"] * 3, within_s=60)
    assert screen.seen == ["before", "meanwhile", "after"]


def test_while_redis_is_away_the_page_goes_on(show, stack):
    screen = show("ticker")
    with redis_away(stack):
        screen.overlay.ticker("without", display_s=0.1)
        screen.until(lambda: screen.overlay.states() == ["done"])

    screen.overlay.ticker("with", display_s=0.1)
    screen.until(lambda: screen.overlay.states() == ["done"] * 2)
    assert screen.seen == ["without", "with"]


def test_while_redis_hangs_the_page_goes_on(show, stack):
    """A process that was stopped takes connections and answers nothing."""
    screen = show("ticker")
    os.kill(stack.valkey.process.pid, signal.SIGSTOP)
    try:
        screen.overlay.ticker("without", display_s=0.1)
        screen.until(lambda: screen.overlay.states() == ["done"])
    finally:
        os.kill(stack.valkey.process.pid, signal.SIGCONT)


def test_a_page_that_is_loaded_anew_shows_what_was_not_shown_yet(show):
    screen = show("ticker")
    screen.overlay.ticker("on the screen", display_s=30)
    screen.wait_for_text("on the screen")
    screen.overlay.ticker("next", display_s=1)
    screen.until(lambda: screen.overlay.states()[0] == "shown")

    screen.page.reload()

    screen.wait_for_text("next")
    screen.until(lambda: screen.seen == ["next"])


def test_a_hidden_source_keeps_alerts_until_somebody_can_see_them(show):
    screen = show("ticker")
    hide = "window.dispatchEvent(new CustomEvent('obsSourceVisibleChanged', { detail: { visible: %s } }))"
    screen.page.evaluate(hide % "false")
    screen.overlay.ticker("unseen", display_s=0.3)
    screen.until(lambda: screen.overlay.stats("ticker")["hidden"] == 1)
    screen.until(lambda: screen.overlay.rows()[0]["received_at"])
    screen.page.wait_for_timeout(200)
    assert screen.seen == [] and screen.overlay.states() == ["queued"]

    screen.page.evaluate(hide % "true")

    screen.wait_for_text("unseen")
    screen.until(lambda: screen.overlay.states() == ["done"])
    screen.until(lambda: screen.overlay.stats("ticker")["hidden"] == 0)


def test_two_pages_of_one_overlay_both_show_everything_and_say_so(show):
    screens = [show("ticker"), show("ticker")]
    screens[0].overlay.ticker("both", display_s=5)

    for screen in screens:
        screen.wait_for_text("both")
    assert screens[1].page.evaluate("document.documentElement.dataset.pages") == "2"


def test_moderators_skip_pause_and_replay(show):
    screen = show("general")
    screen.overlay.alert("one", display_s=60)
    screen.wait_for_text("one")
    screen.overlay.alert("two", display_s=60)
    screen.until(lambda: screen.overlay.states("general")[0] == "shown")

    screen.overlay.control("skip", "general")
    screen.wait_for_text("two")
    screen.until(lambda: screen.overlay.states("general") == ["skipped", "shown"])
    screen.overlay.control("pause", "general")
    screen.overlay.control("skip", "general")
    screen.wait("!document.querySelector('main > :not([hidden])')")
    screen.overlay.control("replay", "general")
    screen.page.wait_for_timeout(300)
    assert screen.text == ""
    screen.overlay.control("resume", "general")
    screen.wait_for_text("two")
    screen.overlay.control("clear", "general")
    screen.wait("!document.querySelector('main > :not([hidden])')")
