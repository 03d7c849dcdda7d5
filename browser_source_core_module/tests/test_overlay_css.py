"""A community's own CSS: it styles the overlays at once, and loads nothing."""

from __future__ import annotations

import pytest

URL = "/browser/source/admin/theme"
CSS = "@keyframes own { to { opacity: 1 } } .panel { outline: 3px solid rgb(1, 2, 3); background-image: none }"


def put(overlay, **theme):
    return overlay.fleet.request("PUT", URL, {"community_id": overlay.bot.slug, **theme})


def test_css_styles_open_and_new_pages(show):
    screen = show("general")
    assert put(screen.overlay, variables={"accent": "#ff0000"}).status == 200
    assert put(screen.overlay, css=CSS).json()["variables"] == {"accent": "#ff0000"}

    screen.wait("document.adoptedStyleSheets[0].cssRules.length === 2")
    again = show("general")
    again.overlay.alert("styled", display_s=30)

    again.wait_for_text("styled")
    assert again.page.evaluate("getComputedStyle(document.querySelector('.panel')).outlineColor") == "rgb(1, 2, 3)"
    assert again.problems == []


@pytest.mark.parametrize(
    "css",
    [
        "body { background: url(https://evil.example/x) }",
        "body { background: URL('//evil.example/x') }",
        "body { background: \\75rl(https://evil.example/x) }",
        '@import "https://evil.example/x.css";',
        "@font-face { font-family: x }",
        'body { background: -webkit-image-set("https://evil.example/x" 1x) }',
        "</style><script>alert(1)</script>",
        "a {}" * 6000,
    ],
)
def test_css_that_loads_something_is_refused(overlay, css):
    answer = put(overlay, css=css)

    assert answer.status == 422 and answer.json()["error"]["details"]["field"] == "css"
    read = overlay.fleet.request("GET", URL, query={"community_id": overlay.bot.slug}).json()
    assert read["css"] == "" and read["variables"] == {}


def test_css_and_variables_are_set_apart_and_taken_back(overlay):
    put(overlay, css=".panel { color: red }")
    put(overlay, variables={"radius": 3})

    read = overlay.fleet.request("GET", URL, query={"community_id": overlay.bot.slug}).json()
    assert (read["css"], read["variables"]) == (".panel { color: red }", {"radius": "3.0"})
    assert put(overlay, css="").json()["css"] == ""
