"""The HTTP side: what the router may show, tokens and URLs, the page's headers, queue, theme and figures."""

from __future__ import annotations

import re

import pytest
from overlay_doubles import Overlay
from waddlebot.testing.plugin import eventually


def admin(overlay, method, path, body=None, **more):
    return overlay.fleet.request(method, f"/browser/source/{path}", body, **more)


@pytest.fixture
def api_user(overlay):
    """A program of the overlay's own community."""
    return overlay.fleet.make_key(f"u-{overlay.bot.slug}", "api-users", community_id=overlay.bot.community_id)


@pytest.fixture
def stranger(fleet):
    return Overlay(fleet.bot())


# What may be shown


@pytest.mark.parametrize(("key", "status"), [("router", 200), ("console", 403), ("inventory", 403), (None, 401)])
def test_only_the_router_shows_things(overlay, key, status):
    assert overlay.try_display("ticker", {"text": "hello"}, key=key).status == status


def test_a_community_is_named_by_number_or_slug_and_must_exist(overlay):
    by_slug = overlay.try_display("ticker", {"text": "hello"}, community_id=overlay.bot.slug)

    assert by_slug.status == 200
    assert overlay.rows()[0]["content"]["data"]["text"] == "hello"
    for unknown in ("no-such-community", 2**40):
        answer = overlay.try_display("ticker", {"text": "hello"}, community_id=unknown)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "unknown_community")


@pytest.mark.parametrize(
    ("action", "data", "field"),
    [
        ("ticker", {}, "text"),
        ("ticker", {"text": " \n "}, "text"),
        ("ticker", {"text": "x", "priority": 10}, "priority"),
        ("ticker", {"text": "x", "style": "loud"}, "style"),
        ("ticker", {"text": "x", "display_s": -1}, "display_s"),
        ("media", {"media_type": "smell"}, "media_type"),
        ("general", {"kind": "html", "html": "x" * 50_001}, "html"),
        ("form", {"form_title": "x", "form_fields": [{"name": "a", "type": "file"}], "form_submit_url": "x"}, "type"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(overlay, action, data, field):
    answer = overlay.try_display(action, data)

    assert answer.status == 422
    assert field in answer.json()["error"]["message"]
    assert overlay.rows(action) == []


def test_an_action_belongs_to_one_source(overlay):
    assert overlay.try_display("ticker", {"text": "x"}, source_type="media").status == 422


def test_what_is_left_out_is_completed(overlay):
    overlay.display("ticker", {"text": "x"})
    overlay.display("media", {"media_type": "music"})
    overlay.display("general", {"text": "x"})

    assert [overlay.rows(kind)[0]["display_s"] for kind in ("ticker", "media", "general")] == [10, 30, 0]


def test_a_ticker_is_one_line_of_at_most_200_characters(overlay):
    overlay.ticker("  one\ntwo\x07 \u202ethree " + "x" * 300)

    text = overlay.rows()[0]["content"]["data"]["text"]
    assert text.startswith("one two three xxx")
    assert (len(text), text[-1]) == (200, "…")


def test_media_come_from_hosts_that_the_policy_lists(overlay):
    good = "https://i.scdn.co/image/ab67"
    overlay.display("media", {"media_type": "music", "artwork_url": good, "media_url": "https://evil.example/x.mp4"})
    bad = ["http://i.scdn.co/x", "https://i.scdn.co.evil.example/x", "https://evil.example/?i.scdn.co", "//i.scdn.co/x",
           "https://user@i.scdn.co/x", "javascript:alert(1)", "https://i.scdn.co:8443/x", "https://[/x"]  # fmt: skip
    for url in bad:
        overlay.display("media", {"media_type": "image", "artwork_url": url})

    data = [row["content"]["data"] for row in overlay.rows("media")]
    assert (data[0]["artwork_url"], data[0]["media_url"]) == (good, "")
    assert [each["artwork_url"] for each in data[1:]] == [""] * len(bad)


def test_html_keeps_what_is_harmless(overlay):
    html = '<div style="color: red; position: fixed"><b>bold</b><script>x</script><a href="https://x">text</a></div>'
    overlay.display("general", {"kind": "html", "html": html})

    kept = overlay.rows("general")[0]["content"]["data"]["html"]
    assert kept == '<div style="color:red"><b>bold</b>text</div>'


# Tokens


def test_three_tokens_are_made_once(overlay):
    first = overlay.tokens()
    assert set(first) == {"ticker", "media", "general"}
    assert len({each["token"] for each in first.values()}) == 3
    for kind, each in first.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", each["token"])
        assert each["url"] == f"http://waddlebot.test/browser/source/{each['token']}/{kind}"

    assert overlay.tokens() == first
    urls = admin(overlay, "GET", f"api/communities/{overlay.bot.slug}/urls").json()["urls"]
    assert urls == {kind: each["url"] for kind, each in first.items()}


def test_a_list_hides_tokens_unless_it_is_asked_not_to(overlay):
    made = overlay.tokens()
    query = {"community_id": overlay.bot.slug}

    hidden = admin(overlay, "GET", "admin/tokens", query=query)
    shown = admin(overlay, "GET", "admin/tokens", query={**query, "reveal": "true"})

    assert not any(each["token"].encode() in hidden.body for each in made.values())
    assert {each["source_type"]: each["token"] for each in shown.json()["tokens"]} == {
        kind: each["token"] for kind, each in made.items()
    }
    assert hidden.json()["total"] == 3


def test_tokens_are_hashed_and_sealed_at_rest(overlay):
    made = overlay.tokens()
    with overlay.fleet.database.transaction() as db:
        stored = str(db.executesql("SELECT * FROM browser_source_tokens"))

    assert not any(each["token"] in stored for each in made.values())


def test_communities_keep_their_tokens_to_themselves(overlay, stranger, api_user):
    theirs = stranger.tokens()["ticker"]
    mine = admin(overlay, "POST", "admin/tokens", {}, key=api_user).json()["tokens"]["ticker"]

    assert mine["id"] == overlay.tokens()["ticker"]["id"]
    for method, path, body in (
        ("POST", "admin/tokens", {"community_id": stranger.bot.slug}),
        ("GET", f"api/communities/{stranger.bot.slug}/urls", None),
        ("POST", "admin/queue", {"community_id": stranger.bot.slug, "source_type": "ticker", "action": "clear"}),
        ("PUT", "admin/theme", {"community_id": stranger.bot.slug, "variables": {}}),
        ("POST", "admin/test", {"community_id": stranger.bot.slug, "action": "ticker"}),
    ):
        assert admin(overlay, method, path, body, key=api_user).status == 403
    for reference in (theirs["id"], theirs["token"]):
        assert admin(overlay, "POST", f"admin/tokens/{reference}/regenerate", key=api_user).status == 404
        assert admin(overlay, "DELETE", f"admin/tokens/{reference}", key=api_user).status == 404
    assert stranger.tokens()["ticker"] == theirs


@pytest.mark.parametrize("key", ["router", "inventory", None])
def test_who_is_no_admin_manages_nothing(overlay, key):
    body = {"community_id": overlay.bot.slug}
    for method, path in (("POST", "admin/tokens"), ("GET", "admin/tokens"), ("GET", "stats"), ("POST", "admin/queue")):
        answer = admin(overlay, method, path, body if method == "POST" else None, key=key)
        assert answer.status == (401 if key is None else 403)


@pytest.mark.parametrize(("grace_s", "status"), [(0, 403), (600, 200)])
def test_regenerating_ends_the_old_url_when_its_grace_does(overlay, grace_s, status):
    old = overlay.tokens()["media"]

    answer = admin(overlay, "POST", f"admin/tokens/{old['token']}/regenerate", {"grace_s": grace_s}).json()

    assert answer["previous"]["id"] == old["id"]
    assert overlay.tokens()["media"] == {name: answer["token"][name] for name in ("id", "token", "url")}
    assert admin(overlay, "GET", f"{old['token']}/media", key=None).status == status
    assert admin(overlay, "GET", f"{answer['token']['token']}/media", key=None).status == 200


def test_without_a_grace_the_old_url_ends_at_once(overlay):
    old = overlay.tokens()["media"]

    assert admin(overlay, "POST", f"admin/tokens/{old['id']}/regenerate").status == 200
    assert admin(overlay, "GET", f"{old['token']}/media", key=None).status == 403
    assert admin(overlay, "POST", f"admin/tokens/{old['id']}/regenerate").status == 404


@pytest.mark.parametrize("grace_s", [-1, 1e9, "soon"])
def test_a_grace_has_bounds(overlay, grace_s):
    token = overlay.tokens()["media"]
    answer = admin(overlay, "POST", f"admin/tokens/{token['id']}/regenerate", {"grace_s": grace_s})

    assert (answer.status, overlay.tokens()["media"]) == (422, token)


def test_a_revoked_url_leads_nowhere_and_a_new_one_can_be_made(overlay):
    old = overlay.tokens()["general"]

    assert admin(overlay, "DELETE", f"admin/tokens/{old['token']}").json()["id"] == old["id"]
    assert admin(overlay, "GET", f"{old['token']}/general", key=None).status == 403
    assert overlay.tokens()["general"]["token"] != old["token"]


# The page


def test_a_page_is_served_for_its_own_token_and_source(overlay, stranger):
    token = overlay.tokens()["ticker"]["token"]

    assert admin(overlay, "GET", f"{token}/ticker", key=None).status == 200
    for path in (f"{token}/media", f"{'x' * 43}/ticker", f"{token[:-1]}/ticker", "x/all", f"{'x' * 5000}/all"):
        answer = admin(overlay, "GET", path, key=None)
        assert (answer.status, answer.json()["error"]["code"]) == (403, "wrong_token"), path
    assert admin(overlay, "GET", f"{token}/other", key=None).status == 404


def test_a_page_keeps_its_secret_and_loads_nothing_foreign(overlay):
    token = overlay.tokens()["media"]["token"]
    page = admin(overlay, "GET", f"{token}/media", key=None)

    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
    assert policy["connect-src"].startswith("ws://127.0.0.1:")
    assert "https://i.scdn.co" in policy["img-src"]


def test_the_files_of_a_page_are_kept_for_good_under_their_own_version_only(overlay):
    token = overlay.tokens()["media"]["token"]
    page = admin(overlay, "GET", f"{token}/media", key=None).body.decode()
    files = re.findall(r'(?:href|src)="(/browser/static/[^"]+)"', page)

    assert len(files) == 3
    for path in files:
        answer = overlay.fleet.request("GET", path, key=None)
        assert answer.status == 200 and "immutable" in answer.headers["cache-control"]
        old = re.sub(r"static/\w+", "static/000000000000", path)
        assert overlay.fleet.request("GET", old, key=None).headers["cache-control"] == "no-cache"
    for path in ("/browser/static/x/css/none.css", "/browser/static/x/js/..%2f..%2fconfig.py"):
        assert overlay.fleet.request("GET", path, key=None).status == 404


def test_loading_a_page_is_logged_without_its_token(overlay):
    token = overlay.tokens()["ticker"]["token"]
    admin(overlay, "GET", f"{token}/ticker", key=None, headers={"User-Agent": "OBS/31", "X-Forwarded-For": "1.2.3.4"})

    with overlay.fleet.database.transaction() as db:
        rows = db.executesql(
            "SELECT ip_address, user_agent, a::text FROM browser_source_access_log a WHERE community_id = %s",
            (overlay.bot.community_id,),
        )
    # Whose word is taken for another address is the edge's to say.
    assert rows[0][:2] == ("127.0.0.1", "OBS/31")
    assert token not in rows[0][2]
    assert overlay.stats("ticker")["page_loads"] == 1


def test_the_access_log_and_old_items_are_deleted_in_time(overlay, fleet):
    token = overlay.tokens()["ticker"]["token"]
    overlay.ticker("old")
    overlay.ticker("new")
    for _ in range(2):
        admin(overlay, "GET", f"{token}/ticker", key=None)
    mine = (overlay.bot.community_id,)
    with fleet.database.transaction() as db:
        db.executesql(
            "UPDATE browser_source_access_log SET accessed_at = now() - interval '31 days' WHERE id ="
            " (SELECT min(id) FROM browser_source_access_log WHERE community_id = %s)",
            mine,
        )
        db.executesql(
            "UPDATE browser_source_history SET created_at = now() - interval '91 days' WHERE seq = 1"
            " AND community_id = %s",
            mine,
        )
    from waddlebot.module.service import SERVICES

    service = next(each for each in SERVICES if each.name == "browser_source_core")
    next(loop for loop in service.loops._loops if loop.name == "clean-up").step()

    with fleet.database.transaction() as db:
        kept = db.executesql("SELECT count(*) FROM browser_source_access_log WHERE community_id = %s", mine)
    assert kept[0][0] == 1
    assert [row["seq"] for row in overlay.rows()] == [2]


def test_a_report_of_a_browser_is_counted(overlay):
    report = b'{"csp-report": {"blocked-uri": "https://evil.example/"}}'
    answer = admin(overlay, "POST", "csp-report", report, key=None, headers={"Content-Type": "application/csp-report"})
    assert answer.status == 200
    assert admin(overlay, "POST", "csp-report", b"x" * 20_000, key=None).status == 413


# Queue, theme, tests, figures


def test_the_queue_can_be_read_and_cleared(overlay):
    for n in range(3):
        overlay.ticker(f"item {n}")
    query = {"community_id": overlay.bot.slug, "source_type": "ticker", "limit": 2}

    page = admin(overlay, "GET", "admin/queue", query=query).json()
    assert [each["data"]["text"] for each in page["items"]] == ["item 2", "item 1"]
    assert (page["total"], page["is_paused"], page["connections"]) == (3, False, 0)

    overlay.control("clear")
    assert overlay.states() == ["skipped"] * 3


def test_nothing_can_be_replayed_before_something_was_shown(overlay):
    body = {"community_id": overlay.bot.slug, "source_type": "media", "action": "replay"}
    assert admin(overlay, "POST", "admin/queue", body).status == 404
    assert overlay.control("skip")["seq"] is None


@pytest.mark.parametrize(
    "variables",
    [
        {"accent": "red; background: url(https://evil.example)"},
        {"accent": "url(x)"},
        {"font": "x'}</style>"},
        {"scale": "100"},
        {"radius": "calc(1px)"},
        {"media-x": "left"},
        {"other": "1"},
    ],
)
def test_a_theme_takes_nothing_but_what_it_knows(overlay, variables):
    body = {"community_id": overlay.bot.slug, "variables": variables}
    assert admin(overlay, "PUT", "admin/theme", body).status == 422


def test_a_theme_is_kept_and_is_in_the_page(overlay):
    variables = {"--accent": "#12ab34", "--font": "Comic Neue, sans-serif", "radius": 4}
    saved = admin(overlay, "PUT", "admin/theme", {"community_id": overlay.bot.slug, "variables": variables}).json()

    assert saved["variables"] == {"accent": "#12ab34", "font": "Comic Neue, sans-serif", "radius": "4.0"}
    read = admin(overlay, "GET", "admin/theme", query={"community_id": overlay.bot.slug}).json()
    assert read["variables"] == saved["variables"]
    token = overlay.tokens()["ticker"]["token"]
    assert "#12ab34" in admin(overlay, "GET", f"{token}/ticker", key=None).body.decode()


def test_a_test_counts_nowhere(overlay):
    for action in ("ticker", "media", "general"):
        body = {"community_id": overlay.bot.slug, "action": action}
        assert admin(overlay, "POST", "admin/test", body).status == 200

    assert [overlay.rows(kind)[0]["is_test"] for kind in ("ticker", "media", "general")] == [True] * 3
    assert [overlay.stats(kind)["deliveries"] for kind in ("ticker", "media", "general")] == [0, 0, 0]


def test_admins_see_the_figures_of_all_and_programs_their_own(overlay, stranger, api_user):
    overlay.ticker("mine")
    stranger.ticker("theirs")

    everything = admin(overlay, "GET", "stats").json()
    own = admin(overlay, "GET", "stats", key=api_user).json()

    both = {overlay.bot.community_id, stranger.bot.community_id}
    assert both <= {each["community_id"] for each in everything["sources"]}
    assert {each["community_id"] for each in own["sources"]} == {overlay.bot.community_id}


def test_health_is_where_the_specification_has_it(overlay):
    health = admin(overlay, "GET", "health", key=None).json()
    assert health["status"] == "healthy", health["checks"]
    assert overlay.fleet.request("GET", "/browser/health", key=None).json()["status"] == "healthy"


def test_the_api_document_has_every_route(overlay):
    document = overlay.fleet.request("GET", "/browser/openapi.json", key=None).json()

    for path in ("/browser/source/display", "/browser/source/admin/tokens/{token}/regenerate", "/browser/form/{link}"):
        assert path in document["paths"]


# Chat


def test_moderators_run_overlays_from_chat(overlay, bot):
    overlay.ticker("one")

    def say(line):
        return bot.say(line, level="moderator").chat

    assert say("!overlay skip") == "Skipped on ticker."
    assert overlay.states() == ["skipped"]
    assert say("!overlay skip ticker") == "Nothing is being shown."
    assert say("!overlay pause media") == "Paused: media. What comes now waits for !overlay resume."
    assert "media: not open anywhere, paused" in say("!overlay status")
    assert say("!overlay resume") == "Running again: ticker, media, general."
    assert say("!overlay clear") == "Cleared: ticker, media, general."
    assert say("!overlay replay ticker") == "Nothing was shown on ticker yet."
    assert say("!overlay skip teapot") == "There are three overlays: ticker, media, general."


def test_others_do_not(overlay, bot):
    overlay.ticker("one")

    assert bot.say("!overlay clear", level="vip").statuses == ["denied"]
    assert overlay.states() == ["queued"]


def test_a_simulated_control_changes_nothing(overlay, bot):
    overlay.ticker("one")

    assert bot.say("!overlay clear", level="owner", mode="simulate").statuses == ["success"]
    eventually(lambda: overlay.states() == ["queued"])
