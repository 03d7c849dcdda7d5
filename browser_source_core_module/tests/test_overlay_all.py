"""One address with all three overlays, and pages for looking only."""

from __future__ import annotations

import itertools

import pytest
from waddlebot.testing.plugin import eventually

TOKENS = "/browser/source/admin/tokens"
PIXEL = bytes.fromhex("47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b")
PREVIEW = "/browser/source/admin/preview"


def token_for_all(overlay):
    answer = overlay.fleet.request("POST", TOKENS, {"community_id": overlay.bot.slug, "source_type": "all"})
    assert answer.status == 200, answer.body
    return answer.json()["tokens"]["all"]


def preview(overlay, source_type):
    body = {"community_id": overlay.bot.slug, "source_type": source_type}
    answer = overlay.fleet.request("POST", PREVIEW, body)
    assert answer.status == 200, answer.body
    return answer.json()["url"].removeprefix("http://waddlebot.test")


def header(answer, name):
    return next(value for key, value in answer.headers.items() if key.lower() == name)


def open_page(browser, url):
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    page.goto(url)
    return page


def test_one_address_shows_all_three(browser, live, site):
    made = token_for_all(live)
    assert made["url"].endswith("/all")
    page = open_page(browser, site + made["url"].removeprefix("http://waddlebot.test"))
    eventually(lambda: page.wait_for_timeout(50) or live.stats("media")["connections"] == 1, within_s=20)

    live.ticker("news", display_s=30)
    live.display("media", {"media_type": "music", "title": "Penguin Parade", "display_s": 30})
    live.alert("look", title="Alert", display_s=30)

    for name, text in (("ticker", "news"), ("media", "Penguin Parade"), ("general", "look")):
        frame = next(each for each in page.frames if each.url.endswith(f"/{name}"))
        frame.get_by_text(text).first.wait_for()
        assert frame.evaluate("document.documentElement.dataset.pages") == "1"
    page.context.close()


def test_what_is_shown_in_its_usual_place_covers_nothing_else(browser, live, site):
    """At the size that most have, with the look that nobody has changed."""
    page = browser.new_context(viewport={"width": 1920, "height": 1080}).new_page()
    page.goto(site + token_for_all(live)["url"].removeprefix("http://waddlebot.test"))
    eventually(lambda: page.wait_for_timeout(50) or live.stats("media")["connections"] == 1, within_s=20)

    live.ticker("news", display_s=60)
    live.display("media", {"media_type": "music", "title": "Penguin Parade", "artist": "Pip", "album": "Ice"})
    live.bot.say("", by="pip", message_type="raid", data={"viewers": 42})

    shown = {"ticker": ".bar", "media": ".card", "general": ".panel"}
    frames = {name: next(each for each in page.frames if each.url.endswith(f"/{name}")) for name in shown}
    for name, selector in shown.items():
        frames[name].locator(selector).wait_for()

    def overlapping():
        boxes = [frames[name].locator(selector).bounding_box() for name, selector in shown.items()]
        return [pair for pair in itertools.combinations(boxes, 2) if _overlap(*pair)]

    eventually(lambda: page.wait_for_timeout(50) or not overlapping(), within_s=10)  # Once they have come in.
    page.context.close()


def test_a_clip_fills_the_whole_page(browser, live, site):
    page = open_page(browser, site + live.tokens()["media"]["url"].removeprefix("http://waddlebot.test"))
    page.context.route("https://i.ytimg.com/**", lambda route: route.fulfill(body=PIXEL, content_type="image/gif"))
    eventually(lambda: page.wait_for_timeout(50) or live.stats("media")["connections"] == 1, within_s=20)

    live.display("media", {"media_type": "clip", "artwork_url": "https://i.ytimg.com/x.gif", "display_s": 100})

    page.locator(".screen.full").wait_for()
    whole = {"x": 0, "y": 0, "width": 1280, "height": 720}
    eventually(lambda: page.wait_for_timeout(50) or page.locator(".screen.full").bounding_box() == whole, within_s=10)
    page.context.close()


def _overlap(one, other):
    beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
    above = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
    return not beside and not above


@pytest.mark.parametrize(
    "data",
    [
        {"media_type": "image", "media_url": "https://i.ytimg.com/gone.png", "title": "Picture"},
        {"media_type": "video", "media_url": "https://i.ytimg.com/gone.mp4", "title": "Film"},
        {"media_type": "video", "artwork_url": "https://i.ytimg.com/gone.png", "title": "Art"},
        {"media_type": "clip", "title": "Nothing at all"},
    ],
    ids=lambda data: data["title"],
)
def test_what_does_not_load_covers_nothing(browser, live, site, data):
    page = open_page(browser, site + live.tokens()["media"]["url"].removeprefix("http://waddlebot.test"))
    page.context.route("https://i.ytimg.com/**", lambda route: route.abort())
    eventually(lambda: page.wait_for_timeout(50) or live.stats("media")["connections"] == 1, within_s=20)

    live.display("media", {**data, "display_s": 100})

    eventually(lambda: page.wait_for_timeout(50) or live.states("media") == ["done"], within_s=20)
    page.locator(".screen").wait_for(state="hidden")
    page.context.close()


def test_a_token_of_one_overlay_does_not_open_all(overlay):
    ticker = overlay.tokens()["ticker"]["token"]

    assert overlay.fleet.request("GET", f"/browser/source/{ticker}/all", key=None).status == 403
    assert overlay.fleet.request("GET", f"/browser/source/{ticker}/media", key=None).status == 403
    assert set(overlay.tokens()) == {"ticker", "media", "general"}


def test_the_token_for_all_is_regenerated_and_revoked_as_any(overlay):
    made = token_for_all(overlay)

    again = overlay.fleet.request("POST", f"{TOKENS}/{made['id']}/regenerate", {}).json()

    assert again["token"]["url"].endswith("/all")
    assert overlay.fleet.request("GET", f"/browser/source/{made['token']}/ticker", key=None).status == 403
    assert overlay.fleet.request("GET", f"/browser/source/{again['token']['token']}/ticker", key=None).status == 200


def test_what_a_preview_shows_counts_nowhere(live):
    token = preview(live, "general").split("/")[-2]
    looking = live.connect("general", token=token).hello()
    live.alert("look")

    seq = looking.receive()["seq"]
    looking.ack(seq, "done")
    looking.receive_until_pong()

    page = live.connect("general").hello()
    assert page.receive()["seq"] == seq
    page.ack(seq, "shown")
    eventually(lambda: live.states("general") == ["shown"])
    eventually(lambda: live.stats("general")["connections"] == 1)
    looks = {"source_type": "general", "connections": 1, "hidden": 0, "is_paused": False}
    assert live.stats("general", brief="true") == looks
    assert live.stats("general")["page_loads"] == 0


@pytest.mark.parametrize("source_type", ["ticker", "media", "general", "all"])
def test_a_preview_is_silent_and_framed_by_nobody_but_the_portal(overlay, source_type):
    answer = overlay.fleet.request("GET", preview(overlay, source_type), key=None)

    policy = header(answer, "content-security-policy")
    assert answer.status == 200 and "frame-ancestors 'self'" in policy
    if source_type != "all":
        assert '"muted": true' in answer.body.decode()


def test_a_preview_ends_after_a_quarter_of_an_hour_and_is_no_token_to_manage(overlay):
    path = preview(overlay, "ticker")
    listed = overlay.fleet.request("GET", TOKENS, query={"community_id": overlay.bot.slug}).json()
    assert listed["tokens"] == []
    assert overlay.fleet.request("POST", f"{TOKENS}/{path.split('/')[-2]}/regenerate", {}).status == 404

    with overlay.fleet.database.transaction() as db:
        db.executesql("UPDATE browser_source_tokens SET expires_at = expires_at - interval '15 minutes'")

    assert overlay.fleet.request("GET", path, key=None).status == 403


def test_previews_are_for_those_who_manage_the_community(overlay, fleet):
    key = fleet.make_key(f"p-{overlay.bot.slug}", "api-users", community_id=fleet.bot().community_id)
    body = {"community_id": overlay.bot.slug, "source_type": "ticker"}

    assert fleet.request("POST", PREVIEW, body, key=key).status == 403
    assert fleet.request("POST", PREVIEW, body, key=None).status == 401
    assert fleet.request("POST", PREVIEW, {**body, "source_type": "x"}).status == 422
