"""The portal as people use it: a whole fleet as `waddlebot up` starts it, a real mail server, and Chromium."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import http.client
import ipaddress
import json
import os
import re
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import axe_playwright_python
import psycopg2
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from waddlebot.base.ids import new_id
from waddlebot.fleet.embedded import free_port
from waddlebot.testing.browser import chromium
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED

from simulators.discord import DiscordSimulator
from simulators.slack import SlackSimulator
from simulators.twitch import TwitchSimulator

pytestmark = pytest.mark.timeout(180)
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
# Where `make shots` wants pictures; then in all widths and both themes.
SHOTS = os.environ.get("PORTAL_SHOTS")
ALL_LOOKS = [(width, theme) for width in (1440, 1024, 390) for theme in ("light", "dark")]
LOOKS = ALL_LOOKS if SHOTS else [(390, "dark"), (1440, "light")]
ACCOUNT, SECRET = "relay", "relay's secret"
COUNT_SHIFTS = """window.shifted = 0; new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) window.shifted += each.value;
}).observe({type: "layout-shift", buffered: true});"""


class Mailbox:
    """Takes mail over STARTTLS, from whoever signs in."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        assert session.ssl, "only over TLS"
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"


@dataclass
class Running:
    url: str
    home: Path
    mailbox: Mailbox
    environment: dict[str, str]

    def say(self, text: str, *, by: str = "pip", level: str = "owner") -> str:
        return self._run("say", "--as", by, "--level", level, text)

    def login_link(self, address: str) -> str:
        return self._run("portal", "login", address)

    def _run(self, *words: str) -> str:
        command = [sys.executable, "-m", "waddlebot.cli.cli", words[0]]
        if words[0] == "portal":
            command.append(words[1])
            words = words[1:]
        done = subprocess.run(
            [*command, "--home", str(self.home), *words[1:]],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        running = json.loads((self.home / "running.json").read_text())
        connection = psycopg2.connect(running["environment"]["DATABASE_URL"])
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "mail.crt", folder / "mail.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("portal")
    certificate, private = make_certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, private)
    mailbox = Mailbox()

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (ACCOUNT.encode(), SECRET.encode()))

    mail_server = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        authenticator=check,
        auth_required=True,
    )
    mail_server.start()
    port = free_port()
    platforms = [TwitchSimulator(), DiscordSimulator(), SlackSimulator()]
    environment = {
        **AS_STARTED,
        **{name: value for each in platforms for name, value in each.start().settings().items()},
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mail_server.port),
        "SMTP_USERNAME": ACCOUNT,
        "SMTP_PASSWORD": SECRET,
        "FROM_EMAIL": "bot@example.org",
        "SSL_CERT_FILE": str(certificate),
    }
    home = folder / "home"
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "waddlebot.cli.cli", "up", "--home", str(home), "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(
            lambda: process.poll() is not None or (home / "running.json").exists(), within_s=110, what="the fleet is up"
        )
        assert process.poll() is None, (folder / "up.log").read_text()[-2000:]
        yield Running(f"http://127.0.0.1:{port}", home, mailbox, environment)
    finally:
        process.terminate()
        process.wait(60)
        mail_server.stop()
        for each in platforms:
            each.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def operator(running: Running, browser: Any) -> dict[str, Any]:
    """The state of a browser in which the link of `waddlebot portal login` was used."""
    context = browser.new_context()
    page = context.new_page()
    link = running.login_link("op@example.org")
    assert link.startswith(f"{running.url}/portal/auth/link?token="), link
    page.goto(link)
    page.click("[type=submit]")
    page.wait_for_url(re.compile("/portal/(c/demo|communities)"))
    state: dict[str, Any] = context.storage_state()
    context.close()
    return state


@pytest.fixture
def page(browser: Any, operator: dict[str, Any], running: Running) -> Iterator[Any]:
    context = browser.new_context(storage_state=operator, base_url=running.url, reduced_motion="reduce")
    opened = context.new_page()
    opened.said = []
    # A platform's own pages say what they like.
    opened.on("console", lambda each: each.location["url"].startswith(running.url) and opened.said.append(each.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    yield opened
    # A form that was refused answers 422, which Chromium remarks on.
    assert [each for each in opened.said if "422" not in each] == []
    context.close()


PAGES = (
    *("/portal/operator", "/portal/c/demo/points", "/portal/c/demo/inventory", "/portal/c/demo/rights"),
    "/portal/c/demo/moderation",
    "/portal/c/demo/notices",
    "/portal/profile/erase",
    *("/portal/communities", "/portal/profile", "/portal/profile/code", "/portal/c/demo", "/portal/c/demo/playground"),
    *("/portal/c/demo/members", "/portal/c/demo/commands", "/portal/c/demo/commands/aliases/new"),
    *("/portal/c/demo/commands/edit?command=!help", "/portal/c/demo/rules", "/portal/c/demo/rules/new"),
    *("/portal/c/demo/labels", "/portal/c/demo/labels?labels=regular", "/portal/c/demo/groups"),
    *("/portal/c/demo/marketplace", "/portal/c/demo/music", "/portal/c/demo/ai", "/portal/c/demo/shoutouts"),
    *("/portal/c/demo/timers", "/portal/c/demo/filters?look=strict"),
    *("/portal/c/demo/data", "/portal/c/demo/data/person", "/portal/c/demo/imports"),
    *("/portal/c/demo/modules", "/portal/c/demo/modules/router", "/portal/c/demo/overlays"),
    *("/portal/c/demo/overlays/alerts/new", "/portal/c/demo/channels", "/portal/c/demo/audit", "/portal/c/demo/keys"),
)

# No test looks at more pages than a slow machine shows within two minutes.
PARTS = 3


def look_at(
    browser: Any, operator: dict[str, Any], url: str, paths: Sequence[str], *, width: int, theme: str
) -> list[str]:
    """What is wrong with each page, at one width and in one theme."""
    context = browser.new_context(
        storage_state=operator,
        base_url=url,
        viewport={"width": width, "height": 844},
        color_scheme=theme,
        reduced_motion="reduce",
    )
    page, troubles = context.new_page(), []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda sent: sent.url.startswith((url, "data:", "ws:")) or troubles.append(sent.url))
    page.add_init_script(COUNT_SHIFTS)
    for path in paths:
        response = page.goto(path)
        page.wait_for_load_state("networkidle")
        if SHOTS:
            name = re.sub(r"\W+", "-", path).strip("-")
            page.screenshot(path=f"{SHOTS}/{name}-{width}-{theme}.png", full_page=True)
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        troubles += [f"{path}: {each['id']} {each['nodes'][0]['html'][:80]}" for each in found]
        if response.status != 200 or page.evaluate("window.shifted") > 0.01:
            troubles.append(f"{path}: HTTP {response.status}, shifted {page.evaluate('window.shifted')}")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            troubles.append(f"{path}: wider than the window")
    context.close()
    return troubles


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_every_page_is_in_order_for_a_browser_and_for_who_cannot_see(browser, operator, running, width, theme, part):
    running.say("!help")
    assert look_at(browser, operator, running.url, PAGES[part::PARTS], width=width, theme=theme) == []


# What one may do something with, and what of it has had the focus.
REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
    .filter((each) => each.checkVisibility({visibilityProperty: true}) && !each.disabled && each.tabIndex >= 0)"""


def test_every_page_can_be_used_by_keyboard_alone(page):
    troubles = []
    for path in PAGES:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        count = page.evaluate(f"window.wanted = ({REACHABLE})(), wanted.length")
        page.evaluate(
            "() => { window.had = new Set(); addEventListener('focusin', (event) => had.add(event.target), true); }"
        )
        for _ in range(count + 3):
            page.keyboard.press("Tab")
        missed = page.evaluate("wanted.filter((each) => !had.has(each)).map((each) => each.outerHTML.slice(0, 90))")
        troubles += [f"{path}: {each}" for each in missed]
    assert troubles == []


def test_without_script_pages_are_whole_and_what_a_dialog_asks_is_answered(browser, operator, running):
    context = browser.new_context(
        storage_state=operator,
        base_url=running.url,
        java_script_enabled=False,
        viewport={"width": 390, "height": 844},
    )
    page = context.new_page()
    assert [path for path in PAGES if page.goto(path).status != 200] == []
    page.goto("/portal/c/demo")
    page.click(".tabbar >> text=More")
    page.click("#more >> text=Timers")
    page.wait_for_url("**/portal/c/demo/timers")
    page.fill("#timer_name", "quiet")
    page.fill("#timer_message", "No script was run.")
    page.click("text=Add timer")
    page.wait_for_selector("td:has-text('quiet')")
    page.click("td:has-text('quiet') a")
    page.wait_for_selector("text=As it would be said now")
    page.fill("#timer_minutes", "0")
    page.click("text=Save timer")
    page.wait_for_selector(".row:has(#timer_minutes) .error")
    page.fill("#timer_minutes", "7")
    page.click("text=Save timer")
    page.wait_for_selector("tr:has-text('quiet') >> text=7 min")
    page.click("tr:has-text('quiet') [role=switch]")
    page.wait_for_selector("tr:has-text('quiet') [aria-checked=false]")
    page.click("tr:has-text('quiet') >> text=Remove")
    page.wait_for_selector("text=No timers")
    page.goto("/portal/c/demo/rules/new")
    page.fill("[name=string]", "without script")
    page.click("text=Save rule")
    page.click("text=without script")
    page.click("[aria-label='Delete this rule']")
    page.click("#delete .btn.danger")
    page.wait_for_url("**/portal/c/demo/rules")
    assert page.locator("text=without script").count() == 0
    context.close()


def test_a_timer_and_a_notice_are_edited_refused_in_words_and_taken_back(page, running):
    running.say("hi", by="mel", level="member")
    running.say("!timer add tea 20 always Tea in {channel}", level="moderator")
    running.say("!timer add other 20 always Something", level="moderator")
    running.say("!live add {channel} is on", level="moderator")
    page.goto("/portal/c/demo/timers")
    page.click("text=tea")
    assert (page.input_value("#timer_message"), page.is_checked("#timer_only_live")) == ("Tea in {channel}", False)
    page.wait_for_selector("li:has-text('general') >> text=Tea in demo")
    page.fill("#timer_name", "other")
    page.fill("#timer_message", "Coffee, {user}")
    page.click("text=Save timer")
    page.wait_for_selector(".notice.bad >> text=There is a timer of that name already.")
    assert page.input_value("#timer_message") == "Coffee, {user}"
    page.fill("#timer_name", "coffee")
    page.select_option("#timer_entity_id", "console:demo:general")
    page.click("text=Save timer")
    page.wait_for_selector(".toast >> text={user} is said as it stands")
    kept = "SELECT name, message, entity_id, only_live FROM timers WHERE minutes = 20 AND name <> 'other'"
    assert running.rows(kept) == [("coffee", "Coffee, {user}", "console:demo:general", False)]
    page.goto("/portal/c/demo/audit?module=router")
    entry = page.locator(".entries > li:has-text('Timer changed')").first
    assert "Tea in {channel}" in entry.text_content()
    entry.locator("button:has-text('Undo')").click()
    page.wait_for_selector(".toast >> text=Undone")
    assert running.rows(kept) == [("tea", "Tea in {channel}", None, False)]

    page.goto("/portal/c/demo/timers")
    page.locator("[aria-label='Live notices'] td a").first.click()
    page.wait_for_selector("text=Your channel is on")
    page.fill("#notice_message", "On: {url}")
    page.fill("#notice_end_message", "")
    page.click("text=Save live notice")
    page.wait_for_selector(".toast >> text=Saved")
    assert running.rows("SELECT message, end_message FROM live_notices") == [("On: {url}", "")]
    for line in ("!live remove", "!timer remove tea", "!timer remove other"):
        running.say(line, level="moderator")


def test_a_rule_is_tried_as_one_types_made_works_and_is_undone(page, running):
    assert "rule" not in running.say("I sell free followers", by="spammer", level="member")
    page.goto("/portal/c/demo/rules/new")
    page.fill("[name=string]", "free followers")
    page.wait_for_selector("#tested .badge.wait")
    assert page.locator("#tested .hit .badge.wait").count() == 1, "one of three lines"
    page.wait_for_selector("#tested .big b:text('1')")
    page.select_option("[name=action]", "warn")
    page.fill("[name=say]", "We do not do that here, {user}.")
    page.click("text=Save rule")
    page.wait_for_url("**/portal/c/demo/rules")
    assert "We do not do that here, spammer." in running.say("cheap FREE followers", by="spammer", level="member")
    page.goto("/portal/c/demo/rules/new")
    page.select_option("[name=match_type]", "caps")
    page.fill("[name=number]", "8")
    page.click("text=Save rule")
    page.wait_for_url("**/portal/c/demo/rules")
    sql = "SELECT string, number, share FROM stringmatch WHERE match_type = 'caps'"
    assert running.rows(sql) == [("Filter: capital letters", 8, 70)]
    page.keyboard.press("Control+k")
    page.keyboard.type("audit")
    page.keyboard.press("Enter")
    page.wait_for_url("**/portal/c/demo/audit")

    page.goto("/portal/c/demo/audit")
    made = page.locator(".entries li", has_text="String rule created free followers")
    made.get_by_role("button", name="Undo").click()
    page.wait_for_selector(".toast >> text=Undone")
    assert "We do not do that here" not in running.say("more free followers", by="spammer", level="member")


def test_the_playground_says_why_and_changes_nothing(page, running):
    page.goto("/portal/c/demo/playground")
    page.select_option("[name=level]", "member")
    page.fill("[name=text]", "!inventory add sword sharp")
    page.click(".say-form .btn.primary")
    page.wait_for_selector("#log .bot")
    assert "Only a moderator or above may use !inventory add; you are a member." in page.inner_text("#log")
    assert "Refused" in page.inner_text(".trace")
    page.select_option("[name=level]", "moderator")
    page.fill("[name=text]", "!inventory add sword sharp")
    page.click(".say-form .btn.primary")
    page.wait_for_selector("#log .bot >> nth=1")
    assert "Added “sword”." in page.inner_text("#log")
    assert running.say("!inventory list") == "The inventory is empty."
    page.fill("[name=who]", "nobody-of-that-name")
    page.fill("[name=text]", "!help")
    page.click(".say-form .btn.primary")
    page.wait_for_selector("#log >> text=Nobody here has the name nobody-of-that-name.")
    running.say("hello", by="pip", level="owner")
    page.fill("[name=who]", "@pip")
    page.select_option("[name=level]", "owner")
    page.fill("[name=text]", "!alert test raid")
    page.click(".say-form .btn.primary")
    page.wait_for_selector("#log .badge:text('pip, Owner')")


def test_why_leads_to_the_page_of_a_message(page, running):
    running.say("!inventory list", by="whyer", level="moderator")
    assert "/portal/" not in running.say("!why", by="whyer", level="member")
    running.say("!inventory list", by="whyer", level="moderator")
    link = running.say("!why", by="whyer", level="moderator").split()[-1]
    assert link.startswith(f"{running.url}/portal/c/demo/messages/")
    page.goto(link)
    steps = page.inner_text(".trace")
    assert "Read as a command" in steps and "Inventory answered" in steps and "The answer was said" in steps


def test_switches_count_at_once(page, running):
    page.goto("/portal/c/demo/commands")
    page.get_by_role("switch", name="!leaderboard").click()
    page.wait_for_selector(".toast >> text=!leaderboard is off")
    assert "switched off" in running.say("!leaderboard")
    page.get_by_role("switch", name="!leaderboard").click()
    page.wait_for_selector(".toast >> text=!leaderboard is on")
    assert "switched off" not in running.say("!leaderboard")

    page.goto("/portal/c/demo/modules/inventory")
    page.fill("[name=listed]", "900")
    page.click("text=Save settings")
    page.wait_for_selector(".error")
    page.fill("[name=listed]", "3")
    page.click("text=Save settings")
    page.wait_for_selector(".toast >> text=Settings saved")


def test_an_alert_with_a_picture_is_shown_in_the_preview(page, running, tmp_path):
    picture = tmp_path / "penguin.gif"
    picture.write_bytes(bytes.fromhex(PIXEL))
    page.goto("/portal/c/demo/overlays/alerts/new")
    page.select_option("[name=event]", "raid")
    page.fill("[name=title]", "{user} waddles in!")
    look = page.frame_locator("iframe[data-show]").locator("body")
    look.get_by_text("Pip waddles in!").wait_for()
    page.set_input_files("[name=image_file]", str(picture))
    look.locator(".pictured .picture img[src^='blob:']").wait_for()
    page.click("text=Save alert")
    page.wait_for_url("**/portal/c/demo/overlays")
    sql = "SELECT image FROM browser_source_alerts WHERE event = 'raid'"
    assert "/browser/media/" in running.rows(sql)[0][0]
    page.locator("tr", has_text="waddles in!").get_by_role("button", name="Test").click()
    page.wait_for_selector(".toast >> text=Sent, marked TEST")
    eventually(lambda: any("waddles in!" in each.content() for each in page.frames[1:]), within_s=20, what="an alert")


def test_a_key_is_shown_once_and_ends(page, running):
    page.goto("/portal/c/demo/keys")
    page.fill("[name=name]", "stats")
    page.click("text=Make key >> nth=-1")
    key = page.input_value("#key")
    assert re.fullmatch(r"wbot_[a-z0-9]{8}_\w{50}", key)
    page.goto("/portal/c/demo/keys")
    assert key not in page.content()
    page.click("button:text-is('End')")
    page.click("dialog[open] .danger.solid")
    page.wait_for_selector(".toast >> text=The key has ended")


PIXEL = "47494638396101000100800000ff0000ffffff21f90400000000002c00000000010001000002024401003b"


def read_password(mail: Any) -> str:
    return re.search(r"Password  (\S+)", mail.get_body(("plain",)).get_content())[1]


def test_an_owner_gets_a_login_by_mail_and_the_address_is_in_no_record(running, browser):
    address = f"pip{new_id()[-8:]}@example.org"
    assert "Only an owner" in running.say(f"!community portal login add {address}", by="mel", level="member")
    assert "not an e-mail address" in running.say("!community portal login add nonsense")
    said = running.say(f"!community portal login add {address}")
    assert said == "Mail is on its way to p…@e…. The password in it holds for 24 hours."
    eventually(lambda: running.mailbox.mails)
    mail = running.mailbox.mails[-1]
    assert (mail["To"], mail["From"]) == (address, "WaddleBot <bot@example.org>")
    password = read_password(mail)
    for table in ("router_events", "command_executions", "outbox", "module_replies", "module_effects", "audit"):
        sql = f"SELECT count(*) FROM {table} t WHERE t::text LIKE %s OR t::text LIKE %s"
        assert running.rows(sql, f"%{address}%", f"%{password}%") == [(0,)], table
    logs = "".join(each.read_text() for each in (running.home / "logs").glob("*.log*"))
    assert address not in logs and password not in logs

    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    page.goto("/portal/c/demo")
    page.fill("[name=email]", address)
    page.fill("[name=password]", password)
    page.click("[type=submit]")
    page.wait_for_url("**/portal/auth/change-password")
    page.goto("/portal/c/demo/keys")
    assert page.url.endswith("/portal/auth/change-password"), "nothing else before that"
    for new in (password, "waddle waddle waddle 7"):
        page.fill("[name=old_password]", password)
        page.fill("[name=new_password]", new)
        page.click("[type=submit]")
        page.wait_for_load_state()
        assert ("Choose another one" in page.content()) is (new == password), "what was mailed does not stay"
    assert page.goto("/portal/c/demo/rules/new").status == 200, "an owner by a badge may look after it"
    context.close()
    assert running.rows("SELECT temp_password_expires FROM auth_user WHERE email = %s", address) == [(None,)]


def test_what_owners_are_told_is_on_a_page_and_mailed_to_who_wants_it(page, running):
    def tell(text: str) -> None:
        running.rows(
            "WITH told AS (INSERT INTO announcements (module_name, announcement_id, community_id)"
            " SELECT 'marketplace', %s, id FROM communities WHERE slug = 'demo' RETURNING id, community_id)"
            " INSERT INTO notices (announcement_id, community_id, module_name, messages)"
            " SELECT id, community_id, 'marketplace', jsonb_build_array(%s::text) FROM told",
            new_id(),
            text,
        )

    def mails() -> list[str]:
        found = [each for each in running.mailbox.mails if each["To"] == "op@example.org"]
        return [each.get_body(("plain",)).get_content() for each in found]

    running.rows(
        "INSERT INTO portal_access (auth_user_id, community_id, held) SELECT u.id, c.id, 'owner'"
        " FROM auth_user u, communities c WHERE u.email = 'op@example.org' AND c.slug = 'demo' ON CONFLICT DO NOTHING"
    )
    tell("Told before anybody wanted mail.")
    page.goto("/portal/profile")
    page.click("[role=switch][aria-label='By mail, too']")
    page.wait_for_selector(".toast >> text=comes by mail from now on")
    tell("dice is paused here: it failed ten times <b>.")
    eventually(mails, within_s=30, what="a mail")
    page.goto("/portal/c/demo")
    page.click(".notice:has-text('dice is paused here: it failed ten times <b>.') >> text=All notices")
    page.wait_for_selector("td:has-text('Told before anybody wanted mail.')")
    page.goto("/portal/profile")
    page.click("[role=switch][aria-label='By mail, too']")
    page.wait_for_selector(".toast >> text=No more of these mails")
    tell("Told when nobody wanted mail any more.")
    time.sleep(6)
    assert len(mails()) == 1, mails()
    (mail,) = mails()
    assert mail.startswith("dice is paused here: it failed ten times <b>.")
    assert f"{running.url}/portal/c/demo/notices" in mail


def test_a_mailed_password_ends_after_a_day(running):
    address = f"late{new_id()[-8:]}@example.org"
    running.say(f"!community portal login add {address}", by="late")
    eventually(lambda: any(each["To"] == address for each in running.mailbox.mails))
    password = read_password(next(each for each in running.mailbox.mails if each["To"] == address))
    running.rows("UPDATE auth_user SET temp_password_expires = now() - interval '1 s' WHERE email = %s", address)
    assert "24 hours, which are over" in sign_in_by_http(running, address, password)
    assert "do not belong together" in sign_in_by_http(running, address, "wrong")


def sign_in_by_http(running: Running, address: str, password: str) -> str:
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=20)
    connection.request("GET", "/portal/auth/login", headers={"Accept": "text/html"})
    shown = connection.getresponse()
    cookie, text = shown.headers["Set-Cookie"].split(";")[0], shown.read().decode()
    key = re.search(r'name="_formkey"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="_formkey"', text)
    form = {"_formname": "login", "_formkey": key[1] or key[2], "email": address, "password": password}
    sent = {"Accept": "text/html", "Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/portal/auth/login", urlencode(form), sent)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def test_a_code_is_asked_for_beside_the_password_once_it_is_set_up(page, running):
    page.goto("/portal/profile/code")
    secret = page.input_value("#secret")
    page.fill("[name=code]", "000000")
    page.click("text=Ask for codes >> nth=-1")
    page.wait_for_selector(".error")
    page.fill("[name=code]", code_now(secret))
    page.click("text=Ask for codes >> nth=-1")
    page.wait_for_selector(".toast >> text=you are asked for a code")
    assert running.rows("SELECT has_totp FROM auth_user WHERE email = 'op@example.org'") == [(True,)]
    assert running.rows("SELECT count(*) FROM portal_totp WHERE secret LIKE %s", f"%{secret}%") == [(0,)]
    running.rows("UPDATE auth_user SET has_totp = false WHERE email = 'op@example.org'")


def code_now(secret: str) -> str:
    """As an app makes it (RFC 6238)."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", int(time.time()) // 30), hashlib.sha1)
    place = digest[-1] & 15
    return str((struct.unpack(">I", digest[place : place + 4])[0] & 0x7FFFFFFF) % 10**6).zfill(6)


# At each platform: where one says who one is, and the buttons that agree and refuse.
CONSENTS = {
    "Twitch": ("[name=login]", "text=Authorize", "text=Cancel"),
    "Discord": ("[name=who]", "text=Authorise >> nth=-1", "text=Cancel"),
    "Slack": ("[name=who]", "text=Allow", "text=Cancel"),
}


@pytest.mark.parametrize("platform", CONSENTS)
def test_people_sign_in_by_each_platform_as_who_they_are_there(running, browser, page, platform):
    who, agree, refuse = CONSENTS[platform]
    name = f"gull{new_id()[-8:]}"

    def go_there(page: Any, *, link: str, answer: str) -> None:
        with page.expect_navigation():
            page.click(f"text={link}")
        if not page.url.startswith(running.url):  # A platform that remembers the answer asks no more.
            assert "email" not in page.url, "nobody is asked for an address, so none is believed"
            page.fill(who, name)
            page.click(answer)
        page.wait_for_url("**/portal/**")

    # The operator, who is no person yet, connects the account; somebody else's it cannot be then.
    page.goto("/portal/profile")
    running.rows("UPDATE auth_user SET waddlebot_user_id = NULL WHERE email = 'op@example.org'")
    page.reload()
    go_there(page, link=f"Connect {platform}", answer=agree)
    page.wait_for_selector(".toast >> text=Connected")
    assert name in page.inner_text(".rows >> nth=0")

    context = browser.new_context(base_url=running.url)
    guest = context.new_page()
    guest.goto("/portal/auth/login?next=/portal/profile")
    go_there(guest, link=f"Go on with {platform}", answer=refuse)
    assert "You did not agree there" in guest.inner_text("main")
    forged = f"/portal/auth/callback/{platform.lower()}?code=abc&state={'x' * 43}"
    guest.goto(forged)
    assert "not one that we made" in guest.inner_text("main")
    go_there(guest, link=f"Go on with {platform}", answer=agree)
    guest.goto("/portal/operator")
    assert "The fleet" in guest.inner_text("h1"), "it is the operator's own login"

    running.rows("UPDATE auth_user SET waddlebot_user_id = NULL WHERE email = 'op@example.org'")
    guest.click("aside [aria-label='Sign out']")
    guest.goto("/portal/auth/login?next=/portal/profile")
    go_there(guest, link=f"Go on with {platform}", answer=agree)
    assert "You sign in by a platform" in guest.inner_text("main")
    assert guest.goto("/portal/operator").status == 403, "a login of their own, and nothing more"
    page.goto("/portal/profile")
    go_there(page, link=f"Connect {platform}", answer=agree)
    page.wait_for_selector(".toast >> text=signs in as somebody else")
    context.close()


def test_labels_are_made_given_and_bring_roles_in_a_group(page, running):
    running.say("hello", by="mel", level="member")
    page.goto("/portal/c/demo/labels")
    page.fill("#label_label", "artist")
    page.click("text=Save label")
    page.wait_for_selector(".toast >> text=“artist” is saved")
    page.fill("#give-who", "@mel")
    page.select_option("#give-label", "artist")
    page.click("text=Give label")
    page.wait_for_selector(".toast >> text=“artist” is given")
    assert "artist" in running.say("!label list", by="mel", level="member")
    page.fill("#give-who", "nobody-of-that-name")
    page.click("text=Give label")
    page.wait_for_selector(".toast >> text=Nobody here has the name nobody-of-that-name.")

    page.goto("/portal/c/demo/groups")
    page.fill("[name=name]", "Friends")
    page.click("text=Make group")
    page.wait_for_selector("text=Say first where the group is")
    page.click("label.tick")
    page.click("text=Save group")
    page.wait_for_selector(".toast >> text=Roles follow at once")
    assert page.locator("label.tick input").first.is_checked()
    page.click("text=Delete group")
    page.wait_for_selector(".toast >> text=The group is gone")


def test_the_music_settings_are_saved_shown_and_refused_at_their_field(page, running):
    page.goto("/portal/c/demo/music")
    page.click("text=Limits")
    page.fill("[name=per_person]", "1")
    page.fill("[name=blocked_words]", "karaoke\nnightcore")
    page.select_option("[name=autoplay]", "off")
    page.check("[name=duplicates]")
    page.click("text=Save settings")
    page.wait_for_selector(".toast >> text=Settings saved")
    sql = "SELECT config FROM module_switches WHERE module_name = 'youtube_music' AND entity_id IS NULL"
    ((kept,),) = running.rows(sql)
    wanted = {"per_person": 1, "blocked_words": ["karaoke", "nightcore"], "autoplay": "off", "duplicates": True}
    assert {name: kept[name] for name in wanted} == wanted
    page.goto("/portal/c/demo/modules/youtube_music")
    assert (page.input_value("[name=per_person]"), page.is_checked("[name=duplicates]")) == ("1", True)
    page.fill("[name=region]", "Germany")
    page.fill("[name=max_minutes]", "0.1")
    page.click("text=Save settings")
    page.wait_for_selector(".row:has([name=max_minutes]) .error")
    page.fill("[name=max_minutes]", "5")
    page.click("text=Save settings")
    page.wait_for_selector(".row:has([name=region]) .error")
    assert running.rows(sql) == [(kept,)], "nothing of it was saved"
    page.goto("/portal/c/demo/music")
    page.click("text=Who answers")
    page.select_option("[name=music]", "spotify")
    page.click("text=Save settings")
    page.wait_for_selector(".toast >> text=Settings saved")
    core = "SELECT config->>'music' FROM module_switches WHERE module_name = 'router' AND entity_id IS NULL"
    assert running.rows(core) == [("spotify",)]


def test_on_a_phone_every_switch_of_a_list_is_there_and_nothing_lies_on_top_of_it(page, running):
    text = "Find us at https://example.org/a-quite-long-address-that-has-to-break and everywhere else"
    running.say(f"!timer add a-timer-of-a-long-name-that-breaks 30 always {text}", level="moderator")
    page.set_viewport_size({"width": 390, "height": 844})
    for path, parts in (
        ("/portal/c/demo/timers", ("td:first-child b", ".third", "[role=switch]", ".fourth button")),
        ("/portal/c/demo/channels", ("td:first-child", ".second", "[role=switch]", ".badge")),
    ):
        page.goto(path)
        row = page.locator("table.data tbody tr").first
        boxes = [row.locator(part).first.bounding_box() for part in parts]
        assert all(boxes), path
        overlaps = [(one, other) for n, one in enumerate(boxes) for other in boxes[n + 1 :] if meet(one, other)]
        assert overlaps == [], path
    running.say("!timer remove a-timer-of-a-long-name-that-breaks", level="moderator")


def test_a_channel_is_connected_and_what_the_bot_cannot_do_there_is_said(page, running):
    login = f"penguin{new_id()[-8:]}"
    page.goto("/portal/c/demo/channels")
    page.click("text=Connect Twitch")
    page.click("text=Continue to Twitch")
    page.fill("[name=login]", login)
    page.click("text=Authorize >> nth=-1")
    page.click("text=Go to the portal")
    page.wait_for_url(f"**/portal/c/{login}/channels")
    row = page.locator("tr", has_text=login).last
    assert "The bot is not a moderator: type /mod" in row.inner_text()


def test_on_a_phone_a_long_word_breaks(page, running):
    running.say(f'!inventory add "{"W" * 60}" "x"')
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/portal/c/demo/inventory")
    name = page.locator("td", has_text="WWWW").first
    assert name.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
    running.say(f'!inventory delete "{"W" * 60}"')


BRIGHTNESS = """async (url) => {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
  const drawn = canvas.getContext("2d");
  drawn.drawImage(picture, 0, 0, 1, 1);
  return Math.max(...drawn.getImageData(0, 0, 1, 1).data.slice(0, 3));
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_preview_is_as_dark_as_a_stream_in_both_themes(page, theme):
    page.emulate_media(color_scheme=theme)
    page.goto("/portal/c/demo/overlays", wait_until="networkidle")
    picture = base64.b64encode(page.locator(".screen").screenshot()).decode()
    assert page.evaluate(BRIGHTNESS, f"data:image/png;base64,{picture}") < 80


def meet(one: dict[str, float], other: dict[str, float]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "width"), ("y", "height"))
    )


def test_another_bots_files_are_planned_imported_and_taken_back(page, running):
    folder = Path(__file__).parents[2] / "examples" / "imports" / "nightbot"
    page.goto("/portal/c/demo/data")
    page.click("text=Bring them along")
    page.set_input_files("#files", [str(each) for each in sorted(folder.iterdir())])
    page.click("text=Show what would be made")
    page.wait_for_selector("tr:has-text('!rules') >> text=Made")
    page.wait_for_selector("tr:has-text('!dice') >> text=JavaScript")
    assert "Be kind" not in running.say("!rules"), "nothing has changed yet"
    page.click("text=Import these")
    page.wait_for_selector(".toast >> text=Imported:")
    assert "Be kind" in running.say("!rules")
    page.locator("li:has-text('Imported nightbot') >> text=Undo").first.click()
    page.wait_for_selector(".toast")
    assert "Be kind" not in running.say("!rules")


def test_a_community_is_taken_away_brought_back_by_a_plan_and_a_person_is_erased(page, running, tmp_path):
    running.say("I was here", by="leaver", level="member")
    running.say("!alias add !bye see you", level="moderator")
    page.goto("/portal/c/demo/data")
    with page.expect_download() as download:
        page.click("text=Download Demo")
    file = tmp_path / "demo.json"
    download.value.save_as(file)
    assert json.loads(file.read_text()).get("missing") is None, "every module answered"
    running.say("!alias remove !bye", level="moderator")

    page.set_input_files("#file", str(file))
    page.click("text=Show what would change")
    page.wait_for_selector("tr:has-text('bye') >> text=Made")
    assert "see you" not in running.say("!bye"), "nothing has changed yet"
    page.click("text=Import these")
    page.wait_for_selector(".toast >> text=1 made")
    assert "see you" in running.say("!bye")
    file.write_text("{nope")
    page.set_input_files("#file", str(file))
    page.click("text=Show what would change")
    page.wait_for_selector(".toast >> text=not a file that a portal has made")

    page.fill("#who", "@leaver")
    page.click("text=Look them up")
    page.click("text=Erase…")
    inside = page.evaluate(
        "document.querySelector('#sure').getBoundingClientRect().left"
        " - document.querySelector('dialog#erase').getBoundingClientRect().left"
    )
    assert inside >= 16, "a dialog's form has room around it"
    page.fill("#sure", "erase")
    page.click("text=Erase person")
    page.wait_for_selector("text=They are forgotten here")
    assert "_" not in page.inner_text("main"), "names of tables are nobody's to read"
    sql = "SELECT count(*) FROM router_events WHERE event::text LIKE '%%I was here%%'"
    assert running.rows(sql) == [(0,)]
    page.goto("/portal/c/demo/data/person?who=leaver")
    page.wait_for_selector(".toast >> text=Nobody here has the name leaver.")
