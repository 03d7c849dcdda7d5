"""`waddlebot up --demo` as a newcomer meets it: one fleet, and its page in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import ClientSession, ClientTimeout, web
from test_fleet import Up
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import DEMO_OFFSET, FLEET_PORTS
from waddlebot.fleet.home import demo_home
from waddlebot.testing.browser import chromium
from waddlebot.testing.plugin import eventually
from waddlebot.web.http import HTTPClient, HTTPResponse

from simulators.demo import extras
from simulators.demo.platforms import Discord, read_slash, streamed

# Sandboxed frames would get processes of their own; Playwright's driver falls over them where they come and go quickly.
OPTIONS = ["--disable-features=IsolateSandboxedIframes"]
pytestmark = pytest.mark.timeout(240)
SOON_MS = 30_000
READY_WITHIN_S = 120
# Discord is told of changes every 15 s at most.
TOLD_AGAIN_AFTER_MS = 17_000


class Demo:
    """A running demo and its page's address."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.port = up.port + DEMO_OFFSET
        self.url = f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: Any = None, *, port: int = 0, **headers: str) -> HTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{port or self.port}{path}"
        return HTTPClient().request(
            method, url, body=content, headers={"Content-Type": "application/json", **named}, timeout_s=10
        )

    def child(self) -> psutil.Process | None:
        for each in psutil.Process(self.up.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if "simulators.demo" in each.cmdline():
                    return each
        return None


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[Demo]:
    """At DEBUG, so that whatever the tests have it do is told; none of its secrets may be."""
    up = Up(tmp_path_factory.mktemp("demo") / "home", "--demo", port=free_port(FLEET_PORTS), LOG_LEVEL="DEBUG")
    try:
        yield Demo(up.wait_until_ready(within_s=READY_WITHIN_S))
        assert up.refused_by_valkey() == []
        check_that_no_log_has_a_secret(up.home)
        check_that_ctrl_c_ends_everything(up)
    finally:
        up.stop()


def check_that_no_log_has_a_secret(home: Path) -> None:
    """The fleet's own, and those of the providers that the modules ask."""
    told = json.loads((home / "demo.json").read_text())["settings"]
    secret = {name: value for name, value in told.items() if re.search("KEY|SECRET|TOKEN|PASSWORD", name)}
    own = json.loads((home / "secrets.json").read_text())
    for kind, each in own.items():
        secret |= {f"{kind} {name}": value for name, value in (each if isinstance(each, dict) else {"": each}).items()}
    secret["console.key"] = (home / "console.key").read_text().strip()
    assert len(secret) > 30
    logs = "".join(each.read_text(errors="replace") for each in home.rglob("*.log*") if each.is_file())
    for module in ("shoutout", "ai", "youtube_music", "spotify"):
        assert "DEBUG" in (home / "logs" / f"{module}.log").read_text(), module
    assert [name for name, value in secret.items() if len(value) > 10 and value in logs] == []


def check_that_ctrl_c_ends_everything(up: Up) -> None:
    tree = up.tree()
    assert any("simulators.demo" in each.cmdline() for each in tree)
    assert (up.home / "demo.json").stat().st_mode & 0o077 == 0

    os.kill(up.process.pid, signal.SIGINT)

    assert up.wait() == 0
    assert not [each for each in tree if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def page(demo) -> Iterator[Any]:
    with chromium(*OPTIONS) as browser:
        opened = browser.new_page(viewport={"width": 1440, "height": 900})
        opened.problems = []
        opened.on("pageerror", lambda err: opened.problems.append(str(err)))
        opened.set_default_timeout(SOON_MS)
        opened.goto(demo.url)
        opened.wait_for_selector(".status[data-status=ready]")
        yield opened


def say(page: Any, platform: str, level: str, text: str) -> None:
    """Type a line as somebody at a level, and press Enter."""
    chat = page.locator(f"#chat-{platform}")
    chat.locator("select[name=level]").select_option(level)
    chat.locator("input[name=text]").fill(text)
    chat.locator("input[name=text]").press("Enter")


def expect_bot(page: Any, platform: str, text: str) -> Any:
    """The bot's line with this text, once it is there."""
    line = page.locator(f"#chat-{platform} .bot", has_text=text).last
    line.wait_for()
    return line


def expect_overlay(page: Any, name: str, text: str) -> None:
    page.frame_locator(f"iframe.{name}").get_by_text(text).first.wait_for()


def test_the_first_thing_said_is_where_to_look(demo):
    shown = [line for line in demo.up.output if "http://" in line]
    assert shown[0] == f"See it: {demo.url}\n"


@pytest.mark.parametrize(("platform", "level"), [("twitch", "moderator"), ("discord", "moderator"), ("slack", "admin")])
def test_each_chat_is_answered(page, platform, level):
    say(page, platform, level, f"!inventory add {platform}-sword shiny")

    expect_bot(page, platform, f"Added “{platform}-sword”.")


def test_whoever_takes_a_line_tells_who_says_the_answer(page):
    """Two processes: what nobody tells of is said three seconds later."""
    for n in range(3):
        began = time.monotonic()
        say(page, "twitch", "moderator", f"!inventory status told-{n}")
        expect_bot(page, "twitch", f"told-{n}")
        assert time.monotonic() - began < 2.5


def test_who_speaks_in_all_chats_is_one_person(page):
    for platform, level in (("twitch", "viewer"), ("discord", "member"), ("slack", "member")):
        say(page, platform, level, "!whoami")
        others = [each for each in ("Discord", "Slack", "Twitch") if each != platform.title()]
        expect_bot(page, platform, f"You are Pip on {platform.title()}, and also Pip on {' and Pip on '.join(others)}.")
    say(page, "twitch", "viewer", "!leaderboard")

    said = expect_bot(page, "twitch", "Most points here").inner_text()
    assert said.split("Most points here")[1].count("Pip") == 1


def test_the_streamer_goes_live_and_ends_the_stream(page):
    page.locator("#chat-twitch [data-event=online]").click()
    say(page, "twitch", "moderator", "!marker a good moment")
    expect_bot(page, "twitch", "– a good moment.")
    page.locator("#chat-twitch [data-event=offline]").click()
    say(page, "twitch", "moderator", "!marker too late")
    expect_bot(page, "twitch", "waddle_live is not live.")


def test_a_level_is_what_it_is_on_the_platform(page):
    say(page, "twitch", "viewer", "!inventory add shield round")

    expect_bot(page, "twitch", "moderator")


def test_an_answer_in_a_thread_shows_what_it_answers(page):
    say(page, "twitch", "viewer", "#roll 20")

    line = expect_bot(page, "twitch", "of 20.")
    assert line.locator(".quote").inner_text() == "Pip: #roll 20"


def test_a_follow_is_an_alert_on_the_stream_and_a_welcome(page):
    page.locator("#chat-twitch input[name=name]").fill("Skipper")
    page.locator("#chat-twitch [data-event=follow]").click()

    expect_overlay(page, "general", "just followed")
    expect_bot(page, "twitch", "Thanks for the follow, Skipper!")


def test_a_cheer_is_an_alert_and_a_shout_runs_along_the_ticker(page):
    page.locator("#chat-twitch [data-event=cheer]").click()
    expect_overlay(page, "general", "cheered 100 bits")

    say(page, "discord", "moderator", "#shout Waddle on")
    expect_overlay(page, "ticker", "Waddle on")


def test_community_modules_are_installed_and_one_remembers(demo, page):
    eventually(lambda: "weather" in demo.up.say("!module list", "--level", "owner").stdout, within_s=60)
    say(page, "twitch", "viewer", "#quote add Ice is nice")
    expect_bot(page, "twitch", "1")
    say(page, "discord", "member", "#quote 1")

    expect_bot(page, "discord", "Quote 1: Ice is nice")


def test_what_was_uninstalled_is_silent_at_once_in_every_chat_and_why_says_so(demo, page):
    """Another bot may live there that has such a command."""
    chats = (("twitch", "viewer"), ("discord", "member"), ("slack", "member"))
    for platform, level in chats:
        say(page, platform, level, "#translate es good morning")
        expect_bot(page, platform, "Buenos días")
    assert demo.up.say("!module remove translate", "--level", "owner").stdout == "Removed translate.\n"
    for platform, level in chats:
        say(page, platform, level, "#translate es good morning")
        page.locator(f"#chat-{platform} .person", has_text="#translate es good morning").nth(1).wait_for()
        say(page, platform, level, "!why")
        expect_bot(page, platform, "no command or alias of that name is known here, so I said nothing.")
        assert page.locator(f"#chat-{platform} .bot", has_text="Buenos días").count() == 1
    assert demo.up.say("#translate es hello").stdout == "There is no #translate here. Try !help.\n"


def test_a_song_is_shown_as_media(page):
    say(page, "slack", "member", "#song Ice, Ice")

    expect_overlay(page, "media", "Ice, Ice")


def test_a_question_is_answered_and_each_music_module_finds_a_song(page):
    say(page, "discord", "member", "!ai what do penguins eat?")
    expect_bot(page, "discord", "🤖")
    say(page, "slack", "member", "!ytmusic search waddle")
    expect_bot(page, "slack", "1. ")
    say(page, "twitch", "viewer", "!spotify search waddle")
    expect_bot(page, "twitch", "1. ")


def test_whoever_raids_is_shouted_out_with_a_clip_that_plays_and_ends(page):
    page.locator("#chat-twitch [data-event=raid]").click()
    expect_bot(page, "twitch", "last seen with Penguin Racer!")
    clip = page.frame_locator("iframe.media").frame_locator("iframe").locator("main[data-clip]")
    clip.wait_for()
    clip.wait_for(state="detached")


def test_a_boost_is_celebrated(page):
    page.locator("#chat-discord [data-event=boost]").click()

    expect_bot(page, "discord", "Thanks for the boost")


@pytest.mark.parametrize(("platform", "text"), [("discord", "/points"), ("slack", "/waddlebot points")])
def test_slash_commands_are_answered(page, platform, text):
    say(page, platform, "member", text)

    line = expect_bot(page, platform, "point")
    assert text in line.locator(".quote").inner_text()


def test_a_suggestion_says_itself(page):
    page.locator("#chat-twitch .chips button", has_text="!points").click()

    expect_bot(page, "twitch", "point")


def test_what_people_write_is_only_ever_text(page):
    say(page, "discord", "member", '<img src=x onerror="document.title=1"> `**<b>x</b>**`')

    page.locator("#chat-discord .person", has_text="<img src=x").wait_for()
    assert page.locator(".log img, .log b").count() == 0
    assert page.problems == []


def test_what_is_escaped_for_discord_is_shown_as_discord_shows_it(page):
    say(page, "discord", "moderator", '!alias add !tell "They say {args}."')
    say(page, "discord", "member", "!tell [free](http://x.example) _*`|~#")

    expect_bot(page, "discord", "They say [free](http://x.example) _*`|~#.")


def test_the_page_can_be_used_by_keyboard(page):
    page.locator("body").press("Escape")
    page.keyboard.press("2")
    assert page.evaluate("document.activeElement.closest('.chat').id") == "chat-discord"
    page.keyboard.press("ArrowUp")
    assert page.locator("#chat-discord input[name=text]").input_value() != ""


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768), (390, 844)])
def test_nothing_is_cut_off_at_any_size(page, width, height):
    page.set_viewport_size({"width": width, "height": height})
    try:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        shown = page.locator(".chat .send").filter(visible=True)
        assert shown.count() == (1 if width < 500 else 3)
        for n in range(shown.count()):
            box = shown.nth(n).bounding_box()
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_other_sites_are_kept_out(demo, headers):
    asked = {"platform": "twitch", "name": "Eve", "level": "broadcaster", "text": "!help"}

    assert demo.request("POST", "/say", asked, **headers).status == 403
    assert demo.request("GET", "/state", **headers).status == 403
    for platform_port in range(demo.port + 1, demo.port + 4):
        assert demo.request("POST", "/_control/reset", {}, port=platform_port, **headers).status == 403


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/say", {"platform": "irc", "name": "Pip", "level": "viewer", "text": "hi"}, 422),
        ("/say", {"platform": "twitch", "name": "Pip", "level": "king", "text": "hi"}, 422),
        ("/say", {"platform": "twitch", "name": "Pip", "level": ["viewer"], "text": "hi"}, 422),
        ("/say", {"platform": "twitch", "name": "", "level": "viewer", "text": "hi"}, 422),
        ("/say", {"platform": "twitch", "name": "Pip", "level": "viewer", "text": "x" * 2001}, 422),
        ("/say", {"platform": "twitch", "name": "Pip", "level": "viewer", "text": 7}, 422),
        ("/happen", {"platform": "slack", "name": "Pip", "level": "member", "event": "follow"}, 422),
        ("/say", ["twitch"], 400),
    ],
)
def test_what_makes_no_sense_is_refused(demo, path, body, status):
    assert demo.request("POST", path, body).status == status


def test_only_json_is_taken(demo):
    assert demo.request("POST", "/say", {}, Content_Type="text/plain").status == 415


def test_a_call_that_the_router_did_not_sign_is_refused(demo):
    forged = {"X_WaddleBot_Timestamp": "1", "X_WaddleBot_Signature": "sha256=" + "0" * 64}

    assert demo.request("POST", extras.PATH, {}).status == 401
    assert demo.request("POST", extras.PATH, {}, **forged).status == 401


def test_all_of_it_has_room_on_a_small_screen(page):
    usual = page.viewport_size
    page.set_viewport_size({"width": 1280, "height": 800})
    try:
        step = page.get_by_text("… works on Slack too")
        eventually(lambda: (box := step.bounding_box()) and box["y"] + box["height"] < 800)
        width, height = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert (width, height) == (1280, 800)
    finally:
        page.set_viewport_size(usual)


def slash_commands(demo: Demo) -> list[str]:
    """What that Discord knows of."""
    listed = demo.request("GET", f"/_control/commands/{Discord.GUILD}", port=demo.port + 2).json()
    return sorted(each["name"] for each in listed)


def test_platforms_that_die_come_back_and_are_joined_again(demo, page):
    known: list[str] = []
    while (now := slash_commands(demo)) != known or not known:
        known = now
        page.wait_for_timeout(TOLD_AGAIN_AFTER_MS)
    before = demo.child()
    assert before
    before.send_signal(signal.SIGKILL)

    eventually(lambda: (now := demo.child()) is not None and now.pid != before.pid, within_s=20)
    page.wait_for_selector(".status[data-status=ready]")
    for platform, level in (("twitch", "moderator"), ("slack", "admin"), ("discord", "moderator")):

        def is_answered(platform: str = platform, level: str = level) -> bool:
            say(page, platform, level, "#roll 7")
            page.wait_for_timeout(1000)
            return page.locator(f"#chat-{platform} .bot", has_text="of 7.").count() > 0

        eventually(is_answered, within_s=60)
    eventually(lambda: slash_commands(demo) == known, within_s=30)


def test_what_the_bot_says_is_listened_to_without_an_end():
    """It ended after five minutes, began anew, and every chat repeated all that the bot had ever said."""
    begun = []

    async def stream(request: web.Request) -> web.StreamResponse:
        begun.append(request)
        answer = web.StreamResponse()
        await answer.prepare(request)
        for number in (1, 2):
            await answer.write(b"data: %d\n\n" % number)
            await asyncio.sleep(0.3)  # Longer than the session's requests may take.
        return answer

    async def listen() -> list[int]:
        app = web.Application()
        app.add_routes([web.get("/", stream)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with ClientSession(timeout=ClientTimeout(total=0.2)) as session:
                return [said async for said in streamed(session, f"http://127.0.0.1:{runner.addresses[0][1]}/")]
        finally:
            await runner.cleanup()

    with ThreadPoolExecutor(1) as another_thread:  # Playwright keeps a loop running in this one.
        assert another_thread.submit(asyncio.run, listen()).result() == [1, 2]
    assert len(begun) == 1


def test_the_demo_has_a_home_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv("WADDLEBOT_HOME", raising=False)
    assert demo_home().name == "demo"

    monkeypatch.setenv("WADDLEBOT_HOME", str(tmp_path))
    assert demo_home() == tmp_path


def test_the_module_answers_the_same_when_a_call_comes_twice():
    call = {
        "session_id": "s",
        "execution_id": "e",
        "user": {"display_name": "Pip"},
        "trigger": {"type": "command", "command": "roll", "args": ["1000"], "message_type": "chatMessage", "data": {}},
    }
    assert extras.reply(call) == extras.reply(call)


def test_slash_commands_are_read_by_what_the_bot_has_told_discord():
    options = [{"name": "item_name", "type": 3}, {"name": "description", "type": 3}]
    known = [{"name": "inventory", "options": [{"name": "add", "type": 1, "options": options}]}]

    assert read_slash('/inventory add "big sword" very shiny', known) == (
        "inventory",
        ["add"],
        {"item_name": "big sword", "description": "very shiny"},
    )
    assert read_slash("/points", known) == ("points", [], {})
    assert read_slash('/inventory "', known)[0] == "inventory"
