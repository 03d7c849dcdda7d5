"""Who gets in where: every page × every kind of person, by a table written by hand. A route that is not in it fails."""

from __future__ import annotations

import email
import email.policy
import gzip
import importlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from pydal.validators import CRYPT
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAAFormatter
from waddlebot.community.directory import add_server
from waddlebot.data import database
from waddlebot.data.database import fetch, fetch_one
from waddlebot.testing.plugin import eventually
from waddlebot.web.forms import PageForm
from waddlebot.web.mail import Mail, MailNotSent
from waddlebot.web.signin import DIGEST
from waddlebot.web.site import Page

HTML = "text/html,application/xhtml+xml"
C = "/portal/c/{community}"
# What a page of a community asks for: the area and the right in it; None is any right there.
COMMUNITY: dict[str, tuple[str | None, str]] = {
    f"GET {C}": (None, "viewer"),
    f"GET {C}/members": ("people", "viewer"),
    f"GET {C}/members/{{user_id}}": ("people", "viewer"),
    f"POST {C}/members/{{user_id}}": ("people", "editor"),
    f"POST {C}/members/{{user_id}}/moderate": ("people", "editor"),
    f"GET {C}/commands": ("bot", "viewer"),
    f"POST {C}/commands/switch": ("bot", "editor"),
    f"GET {C}/commands/edit": ("bot", "editor"),
    f"POST {C}/commands/edit": ("bot", "editor"),
    f"GET {C}/commands/aliases/new": ("bot", "editor"),
    f"POST {C}/commands/aliases/new": ("bot", "editor"),
    f"GET {C}/commands/aliases/{{alias}}": ("bot", "editor"),
    f"POST {C}/commands/aliases/{{alias}}": ("bot", "editor"),
    f"POST {C}/commands/aliases/{{alias}}/remove": ("bot", "editor"),
    f"GET {C}/rules": ("rules", "viewer"),
    f"GET {C}/rules/new": ("rules", "editor"),
    f"POST {C}/rules/new": ("rules", "editor"),
    f"GET {C}/rules/{{rule}}": ("rules", "editor"),
    f"POST {C}/rules/{{rule}}": ("rules", "editor"),
    f"POST {C}/rules/test": ("rules", "editor"),
    f"POST {C}/rules/{{rule}}/switch": ("rules", "editor"),
    f"POST {C}/rules/{{rule}}/remove": ("rules", "editor"),
    f"GET {C}/moderation": ("rules", "viewer"),
    f"GET {C}/playground": ("bot", "editor"),
    f"POST {C}/playground/say": ("bot", "editor"),
    f"GET {C}/messages/{{session_id}}": ("bot", "viewer"),
    f"GET {C}/modules": ("bot", "viewer"),
    f"POST {C}/modules/{{name}}/switch": ("bot", "editor"),
    f"GET {C}/modules/{{name}}": ("bot", "editor"),
    f"POST {C}/modules/{{name}}": ("bot", "editor"),
    f"GET {C}/overlays": ("overlays", "viewer"),
    f"GET {C}/overlays/preview": ("overlays", "editor"),
    f"POST {C}/overlays/addresses": ("overlays", "editor"),
    f"POST {C}/overlays/regenerate": ("overlays", "editor"),
    f"POST {C}/overlays/test": ("overlays", "editor"),
    f"POST {C}/overlays/queue": ("overlays", "editor"),
    f"GET {C}/overlays/alerts/new": ("overlays", "editor"),
    f"POST {C}/overlays/alerts/new": ("overlays", "editor"),
    f"POST {C}/overlays/alerts/look": ("overlays", "editor"),
    f"GET {C}/overlays/alerts/{{alert}}": ("overlays", "editor"),
    f"POST {C}/overlays/alerts/{{alert}}": ("overlays", "editor"),
    f"POST {C}/overlays/alerts/{{alert}}/remove": ("overlays", "editor"),
    f"GET {C}/channels": ("channels", "viewer"),
    f"POST {C}/channels/announce": ("channels", "editor"),
    f"GET {C}/audit": ("settings", "viewer"),
    f"POST {C}/audit/{{entry}}/undo": ("settings", "editor"),
    f"GET {C}/points": ("people", "viewer"),
    f"GET {C}/notices": ("bot", "editor"),
    f"GET {C}/inventory": ("bot", "viewer"),
    f"POST {C}/inventory": ("bot", "editor"),
    f"POST {C}/inventory/change": ("bot", "editor"),
    f"GET {C}/labels": ("people", "viewer"),
    f"POST {C}/labels": ("people", "editor"),
    f"POST {C}/labels/give": ("people", "editor"),
    f"POST {C}/labels/jobs": ("people", "editor"),
    f"POST {C}/labels/jobs/{{job}}/cancel": ("people", "editor"),
    f"GET {C}/groups": ("people", "viewer"),
    f"POST {C}/groups": ("people", "editor"),
    f"GET {C}/groups/{{group}}": ("people", "editor"),
    f"POST {C}/groups/{{group}}": ("people", "editor"),
    f"POST {C}/groups/{{group}}/change": ("people", "editor"),
    f"GET {C}/marketplace": ("bot", "viewer"),
    f"GET {C}/marketplace/{{module}}": ("bot", "viewer"),
    f"POST {C}/marketplace/{{module}}": ("bot", "editor"),
    f"GET {C}/marketplace/{{module}}/install": ("bot", "editor"),
    f"POST {C}/marketplace/{{module}}/install": ("bot", "editor"),
    f"POST {C}/marketplace/{{module}}/change": ("bot", "editor"),
    f"POST {C}/marketplace/{{module}}/report": ("bot", "editor"),
    f"GET {C}/music": ("music", "viewer"),
    f"POST {C}/music": ("music", "editor"),
    f"POST {C}/music/do": ("music", "editor"),
    f"POST {C}/music/account": ("music", "owner"),
    f"GET {C}/ai": ("bot", "viewer"),
    f"POST {C}/ai": ("bot", "editor"),
    f"GET {C}/timers": ("bot", "viewer"),
    f"POST {C}/timers": ("bot", "editor"),
    f"GET {C}/timers/{{kind}}/{{row}}": ("bot", "editor"),
    f"POST {C}/timers/{{kind}}/{{row}}": ("bot", "editor"),
    f"POST {C}/timers/change": ("bot", "editor"),
    f"GET {C}/filters": ("rules", "viewer"),
    f"POST {C}/filters/use": ("rules", "editor"),
    f"GET {C}/shoutouts": ("bot", "viewer"),
    f"POST {C}/shoutouts": ("bot", "editor"),
    f"POST {C}/shoutouts/change": ("bot", "editor"),
    f"GET {C}/data": ("settings", "owner"),
    f"GET {C}/data/export": ("settings", "owner"),
    f"POST {C}/data/import": ("settings", "owner"),
    f"GET {C}/imports": ("settings", "owner"),
    f"POST {C}/imports": ("settings", "owner"),
    f"GET {C}/data/person": ("settings", "owner"),
    f"GET {C}/data/person/export": ("settings", "owner"),
    f"POST {C}/data/person/erase": ("settings", "owner"),
    f"GET {C}/rights": ("settings", "owner"),
    f"POST {C}/rights": ("settings", "owner"),
    f"POST {C}/rights/take": ("settings", "owner"),
    f"POST {C}/rights/owner": ("settings", "owner"),
    f"GET {C}/keys": ("settings", "owner"),
    f"POST {C}/keys": ("settings", "owner"),
    f"POST {C}/keys/{{key_id}}/end": ("settings", "owner"),
}
# It leads a frame on to the overlay.
LEADING_ON = f"GET {C}/overlays/preview"
# One's own, of whoever is signed in.
OWN = {
    "GET /portal",
    "GET /portal/communities",
    "GET /portal/profile",
    "POST /portal/profile",
    "POST /portal/profile/sessions/end",
    "POST /portal/profile/notices",
    "GET /portal/profile/data",
    "GET /portal/profile/erase",
    "POST /portal/profile/erase",
    "GET /portal/profile/code",
    "POST /portal/profile/code",
    "GET /portal/profile/code/off",
    "POST /portal/profile/code/off",
    "GET /portal/auth/change-password",
    "POST /portal/auth/change-password",
    "GET /portal/auth/invitation",
    "POST /portal/auth/invitation",
}
# Of who runs the whole fleet.
OPERATORS = {"GET /portal/operator", "POST /portal/operator/modules/{module}"}
# For people who are not signed in, or not yet.
OPEN = {
    "GET /portal/auth/login",
    "POST /portal/auth/login",
    "GET /portal/auth/second-step",
    "POST /portal/auth/second-step",
    "POST /portal/auth/logout",
    "GET /portal/auth/request-reset",
    "POST /portal/auth/request-reset",
    "GET /portal/auth/reset",
    "POST /portal/auth/reset",
    "GET /portal/auth/link",
    "POST /portal/auth/link",
    "POST /portal/theme/{theme}",
    "GET /portal/public/{community}",
    "GET /portal/auth/with/{platform}",
    "GET /portal/auth/callback/{platform}",
}


RIGHTS = ("viewer", "editor", "owner")
# Who may look into the community at all, and so is told what is missing.
INSIDE = {"viewer", "editor", "of another area"}


def portal_app() -> Any:
    return importlib.import_module("apps.portal_module.app")


def routes() -> set[str]:
    """Every page, by method and path as documents have it."""
    pages = [each for each in portal_app().service.endpoints if isinstance(each, Page)]
    named = [(each.method.split(), re.sub(r"<(\w+)(?::[^>]+)?>", r"{\1}", each.path)) for each in pages]
    return {f"{method} {path}" for methods, path in named for method in methods}


@dataclass
class Visitor:
    """Somebody in a browser without script, in the test's own process."""

    fleet: Any
    cookie: str = ""
    login_id: int | None = None

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Any:
        sent = {"Accept": HTML, "Host": "waddlebot.test", **headers}
        if self.cookie:
            sent["Cookie"] = f"portal_session={self.cookie}"
        body = None
        if method == "POST":
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form or {}).encode()
        return self.fleet.request(method, path, body, key=None, headers=sent)


@dataclass
class World:
    fleet: Any
    bot: Any
    other: Any
    found: dict[str, Any] = field(default_factory=dict)
    people: dict[str, Visitor] = field(default_factory=dict)

    def path(self, route: str) -> str:
        values = {"community": self.bot.slug, **self.found}
        return re.sub(r"\{(\w+)\}", lambda each: str(values[each[1]]), route.split(" ")[1])


def sign_in(fleet: Any, **columns: Any) -> Visitor:
    """A login, and a session of theirs."""
    columns = {"email": f"{new_id()}@example.org", **columns}
    with fleet.database.transaction() as db:
        row = fetch_one(
            db,
            f"INSERT INTO auth_user ({', '.join(columns)}) VALUES ({', '.join(f'%({name})s' for name in columns)})"
            " RETURNING id, last_password_change",
            columns,
        )
    session_id = secrets.token_urlsafe(32)
    user = {"id": row["id"], "since": str(row["last_password_change"] or ""), "seen": int(time.time())}
    portal_app().site.session.store.put(session_id, {"user": user}, is_new=True)
    return Visitor(fleet, session_id, row["id"])


def give(fleet: Any, visitor: Visitor, community_id: int, held: str, area: str = "*") -> Visitor:
    with fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO portal_access (auth_user_id, community_id, held, area) VALUES (%s, %s, %s, %s)",
            (visitor.login_id, community_id, held, area),
        )
    return visitor


MANIFEST = """name = "waddler"
title = "Waddler"
version = "1.0.0"
description = "Waddles"
runtime = { type = "webhook", url = "http://HOST/run" }
commands = [{ command = "waddler" }]
"""


def publish(fleet: Any) -> str:
    """A module in the marketplace; its name."""
    manifest = MANIFEST.replace("HOST", os.environ["EGRESS_ALLOW"].split(",")[0])
    answer = fleet.request("POST", "/marketplace/modules", {"manifest": manifest}, key="admin")
    assert answer.status == 200, answer.body
    return "waddler"


@pytest.fixture(scope="module")
def world(fleet) -> World:
    made = World(fleet, fleet.bot(), fleet.bot())
    bot = made.bot
    said = bot.say("!help", by="pip")
    assert bot.say("!alias add !hi hello there", level="moderator").statuses == ["success"]
    rule = {"string": "spam", "action": "warn", "community_id": bot.slug}
    with fleet.database.transaction() as db:
        person = fetch_one(db, "SELECT user_id FROM router_events WHERE session_id = %s", (said.session_id,))
        alias = fetch_one(db, "SELECT id FROM alias_commands WHERE community_id = %s", (bot.community_id,))
        entry = fetch_one(
            db, "SELECT id FROM audit WHERE community_id = %s AND undo IS NOT NULL LIMIT 1", (bot.community_id,)
        )
    alert = {"event": "follow", "title": "Hello", "community_id": bot.slug}
    group = {"name": "Regulars", "community_id": bot.slug}
    many = {"label": "regular", "csv": str(person["user_id"]), "community_id": bot.slug}
    job = fleet.request("POST", "/labels/jobs", many, key="admin").json()["job"]
    timer = {"name": "tip", "message": "Hi", "minutes": 5}
    made.found = {
        "kind": "timer",
        "row": fleet.request("POST", f"/router/communities/{bot.slug}/timers", timer, key="admin").json()["timer"][
            "id"
        ],
        "group": fleet.request("POST", "/labels/groups", group, key="admin").json()["group"]["id"],
        "job": job["id"],
        "module": publish(fleet),
        "user_id": person["user_id"],
        "alias": alias["id"],
        "entry": entry["id"],
        "rule": fleet.request("POST", "/router/string-rules", rule, key="admin").json()["rule_id"],
        "alert": fleet.request("POST", "/browser/source/admin/alerts", alert, key="admin").json()["alert"]["id"],
        "session_id": said.session_id,
        "name": "inventory",
        "key_id": "nokey123",
        "theme": "dark",
    }
    for held in ("viewer", "editor", "owner"):
        made.people[held] = give(fleet, sign_in(fleet), bot.community_id, held)
    made.people["owner elsewhere"] = give(fleet, sign_in(fleet), made.other.community_id, "owner")
    # It is music's.
    made.people["of another area"] = give(fleet, sign_in(fleet), bot.community_id, "editor", "music")
    made.people["nobody's"] = sign_in(fleet)
    made.people["not signed in"] = Visitor(fleet)
    return made


def test_every_route_has_an_entry(fleet):
    assert routes() == {*COMMUNITY, *OWN, *OPEN, *OPERATORS}, "say in this file who may open a new page"


@pytest.mark.parametrize("route", COMMUNITY)
def test_a_page_opens_for_whom_the_table_says_and_for_nobody_else(world, route):
    area, needed = COMMUNITY[route]
    method, path = route.split(" ")[0], world.path(route)
    allowed = {"viewer": {"viewer", "editor", "owner"}, "editor": {"editor", "owner"}, "owner": {"owner"}}[needed]
    if area in (None, "music") and needed != "owner":
        allowed = {*allowed, "of another area"}
    for who, visitor in world.people.items():
        # Without the key that its own pages have nothing is changed, whoever asks.
        answer = visitor.ask(method, path)
        if who == "not signed in":
            assert (answer.status, answer.headers["location"][:18]) == (303, "/portal/auth/login"), who
        elif who in allowed:
            good = (200, 422) if method == "POST" else (303,) if route == LEADING_ON else (200,)
            assert answer.status in good, (who, answer.body[-400:])
        else:
            assert answer.status == (403 if who in INSIDE else 404), (who, answer.status)


@pytest.mark.parametrize("route", sorted(OWN))
def test_ones_own_pages_are_for_who_is_signed_in(world, route):
    method, path = route.split(" ")
    assert world.people["not signed in"].ask(method, path).status == 303
    assert world.people["nobody's"].ask(method, path).status in (200, 303, 410, 422)


def test_the_fleet_as_a_whole_is_for_operators(world, fleet):
    for who, visitor in world.people.items():
        assert visitor.ask("GET", "/portal/operator").status == (303 if who == "not signed in" else 403), who
    operator = sign_in(fleet, is_operator=True)
    assert operator.ask("GET", "/portal/operator").status == 200
    assert operator.ask("GET", f"/portal/c/{world.other.slug}/keys").status == 200


def test_a_communitys_own_page_is_off_until_it_is_switched_on(world, fleet):
    path = f"/portal/public/{world.bot.slug}"
    assert Visitor(fleet).ask("GET", path).status == 404
    put = f"/router/communities/{world.bot.slug}/modules/router"
    assert fleet.request("PUT", put, {"config": {"public_page": True}}, key="admin").status == 200
    shown = Visitor(fleet).ask("GET", path)
    assert shown.status == 200
    assert "gzip" not in shown.headers.get("content-encoding", "")
    packed = Visitor(fleet).ask("GET", path, **{"Accept-Encoding": "gzip"})
    assert gzip.decompress(packed.body)[:100] == shown.body[:100], "smaller where one takes it"
    led = Visitor(fleet).ask("GET", path, **{"Accept-Encoding": "gzip", "Sec-Fetch-Site": "cross-site"})
    assert led.body[:100] == shown.body[:100], "and as it is where another site has led somebody"
    assert b"!leaderboard" in shown.body and b"!hi" in shown.body
    assert b"<script" not in shown.body and b"!alert" not in shown.body, "nothing for the team, and no script"
    assert Visitor(fleet).ask("GET", f"/portal/public/{world.other.slug}").status == 404


def test_an_invitation_works_once_for_whoever_is_signed_in(world, fleet):
    invitations = portal_app().invitations
    seat = portal_app().seats.take(portal_app().site.signin.find_login(world.people["owner"].login_id), world.bot.slug)
    token = invitations.invite(seat, "friend@example.org", held="editor", area="rules")
    friend = sign_in(fleet)
    path = f"/portal/auth/invitation?token={token}"
    assert Visitor(fleet).ask("GET", path).status == 303
    page = friend.ask("GET", path)
    key = re.search(r'name="_formkey"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="_formkey"', page.body.decode())
    form = {"_formname": "invitation", "_formkey": key[1] or key[2]}
    assert friend.ask("POST", path, form).status == 303
    assert friend.ask("GET", f"/portal/c/{world.bot.slug}/rules/new").status == 200
    assert friend.ask("GET", f"/portal/c/{world.bot.slug}/members").status == 403
    assert friend.ask("GET", path).status == 410


def test_rights_come_with_a_role_and_go_with_it(world, fleet):
    bot = fleet.bot()
    said = bot.say("hello", by="modi")
    with fleet.database.transaction() as db:
        own_id = fetch_one(db, "SELECT user_id FROM router_events WHERE session_id = %s", (said.session_id,))["user_id"]
    visitor = sign_in(fleet, waddlebot_user_id=own_id)
    path = f"/portal/c/{bot.slug}"
    assert visitor.ask("GET", path).status == 404

    body = {"community_id": bot.slug, "assignments": [{"user_id": own_id, "role": "moderator"}]}
    assert fleet.request("POST", "/router/roles/assign", body, key="admin").status == 200
    assert visitor.ask("GET", path).status == 200
    assert visitor.ask("GET", f"{path}/rules/new").status == 200
    assert visitor.ask("GET", f"{path}/commands/aliases/new").status == 403

    body["assignments"][0]["role"] = "member"
    assert fleet.request("POST", "/router/roles/assign", body, key="admin").status == 200
    assert visitor.ask("GET", path).status == 404


def test_each_account_of_one_person_brings_its_roles(fleet):
    bots, sql = [fleet.bot() for _ in range(4)], "INSERT INTO users (display_name) VALUES ('pip') RETURNING id"
    head, *others = (fleet.database.statement(sql)[0]["id"] for _ in range(4))
    for each in others[:2]:
        fleet.database.statement("UPDATE users SET head_id = %s WHERE id = %s", (head, each))
    role = "INSERT INTO community_rbac (community_id, user_id, role) VALUES (%s, %s, 'moderator')"
    for bot, each in zip(bots[1:], others, strict=True):
        fleet.database.statement(role, (bot.community_id, each))
    own = "UPDATE communities SET owner_id = %s WHERE id = %s"
    fleet.database.statement(own, (head, bots[0].community_id))
    slugs = {bot.slug for bot in bots[:3]}
    for each in (head, others[0]):
        visitor = sign_in(fleet, waddlebot_user_id=each)
        shown = visitor.ask("GET", "/portal/communities").body.decode()
        assert set(re.findall(r'<b><a href="/portal/c/([^"]+)"', shown)) == slugs, "and nobody else's"
        assert visitor.ask("GET", f"/portal/c/{bots[0].slug}/rights").status == 200


def test_who_came_by_a_mailed_password_sees_nothing_before_choosing_their_own(world, fleet):
    visitor = sign_in(fleet, temp_password_expires=datetime.now(UTC) + timedelta(hours=1))
    give(fleet, visitor, world.bot.community_id, "owner")
    for path in ("/portal", "/portal/profile", f"/portal/c/{world.bot.slug}/keys"):
        answer = visitor.ask("GET", path)
        assert (answer.status, answer.headers["location"]) == (303, "/portal/auth/change-password")
    assert visitor.ask("GET", "/portal/auth/change-password").status == 200


def test_no_page_asks_more_than_ten_times_or_is_heavy(world, monkeypatch):
    asked: list[str] = []

    def counting(cursor: Any, sql: str, *more: Any) -> Any:
        # The page's own thread, and those in which it asks modules; loops have others.
        if threading.current_thread().name.startswith(("MainThread", "fleet-call")):
            asked.append(str(sql))
        return fetched(cursor, sql, *more)

    fetched = database._fetch
    monkeypatch.setattr(database, "_fetch", counting)
    owner, troubles = world.people["owner"], []
    for route in sorted(each for each in routes() if each.startswith(f"GET {C}")):
        path = world.path(route)
        owner.ask("GET", path)  # What is looked up once and kept is not counted.
        asked.clear()
        answer = owner.ask("GET", path, **{"Accept-Encoding": "gzip"})
        if answer.status == 200 and answer.headers["content-type"].startswith("text/html"):
            if len(asked) > 10 or len(answer.body) > 40 * 1024:
                troubles.append((route, len(asked), len(answer.body)))
            assert asked, route
    assert troubles == []


def test_pages_know_their_name_and_come_from_their_own(world):
    owner = world.people["owner"]
    path = f"/portal/c/{world.bot.slug}"
    assert owner.ask("GET", path, Host="evil.example").status == 421
    crossed = owner.ask("POST", f"{path}/rules/test", {"string": "x"}, **{"Sec-Fetch-Site": "cross-site"})
    assert crossed.status == 403


def test_what_stands_around_a_page_is_of_who_looks_and_of_where_they_are(world, fleet):
    """It is kept, so nobody may get what was made for somebody else or for another page."""
    path = f"/portal/c/{world.bot.slug}"
    named = {held: give(fleet, sign_in(fleet, first_name=f"N {held}"), world.bot.community_id, held) for held in RIGHTS}
    for _ in range(2):
        for held, visitor in named.items():
            shown = visitor.ask("GET", f"{path}/timers").body.decode()
            assert (f'href="{path}/members"' in shown, f'href="{path}/rights"' in shown) == (True, held == "owner")
            assert re.findall(r'href="([^"]+)" aria-current="page"', shown) == [f"{path}/timers"] * 2
            assert [f"N {each}" in shown for each in RIGHTS] == [each == held for each in RIGHTS]
            shown = visitor.ask("GET", f"{path}/audit").body.decode()
            assert re.findall(r'href="([^"]+)" aria-current="page"', shown) == [f"{path}/audit"] * 2
            own = visitor.ask("GET", "/portal/profile").body.decode()
            assert (f'href="{path}/members"' in own, 'href="/portal/communities"' in own) == (False, True)


KEY_OF_FORM = re.compile(r'(?<=name="_formkey" type="hidden" value=")[^"]+')
TIMER = re.compile(r'/timers/timer/(\d+)"><b dir="auto">(\w+)</b>')
KEY_OF_BUTTON = re.compile(r'(?<=name="_key" value=")[^"]+')


def forms_of(visitor: Visitor, path: str) -> tuple[list[str], set[str]]:
    """A page's forms without their keys, and those keys that the page's own forms have."""
    shown = visitor.ask("GET", path).body.decode()
    found = re.findall(r"<form.*?</form>", shown, re.DOTALL)
    keys = {key for each in found for key in KEY_OF_FORM.findall(each)}
    return [KEY_OF_BUTTON.sub("", KEY_OF_FORM.sub("", each)) for each in found], keys


def test_a_form_that_was_made_before_is_as_it_was_and_the_key_is_whose_page_it_is(world, fleet):
    one, other = world.people["owner"], give(fleet, sign_in(fleet), world.bot.community_id, "owner")
    with_keys = 0
    for route in sorted(each for each in COMMUNITY if each.startswith("GET") and each != LEADING_ON):
        path = world.path(route)
        PageForm._blanks.clear()
        made, key = forms_of(one, path)
        kept, another_key = forms_of(other, path)
        assert kept == made, route
        assert not key or not key & another_key, route
        with_keys += bool(key)
    assert with_keys > 10


def test_a_form_is_made_anew_when_what_it_asks_for_has_changed(world, fleet):
    owner, elsewhere = world.people["owner"], world.people["owner elsewhere"]
    path = f"/portal/c/{world.bot.slug}/timers"
    before, _ = forms_of(owner, path)
    world.bot.say("hi", channel="a-new-room")
    after, _ = forms_of(owner, path)
    assert ["a-new-room" in " ".join(each) for each in (before, after)] == [False, True]
    assert "a-new-room" not in " ".join(forms_of(elsewhere, f"/portal/c/{world.other.slug}/timers")[0])

    made = {"message": "Drink <water>", "minutes": "7", "min_lines": "0", "entity_id": ""}
    for name in ("one", "other"):
        assert fill_in(owner, path, "timer", name=name, **made).status == 303
    rows = {name: int(number) for number, name in TIMER.findall(owner.ask("GET", path).body.decode())}
    shown = {name: " ".join(forms_of(owner, f"{path}/timer/{rows[name]}")[0]) for name in ("one", "other", "one")}
    assert all(f'value="{name}"' in each and "Drink &lt;water&gt;" in each for name, each in shown.items())
    assert f"{path}/timer/{rows['one']}" in shown["one"]

    refused = fill_in(owner, path, "timer", **{**made, "name": "third", "minutes": "0"})
    assert (refused.status, "A number from 1 to 1440." in refused.body.decode()) == (422, True)
    assert forms_of(owner, path)[0][-1] == after[-1]


def test_links_are_made_by_operators_keys_and_work_once(fleet, world):
    bot_key = fleet.make_key(new_id(), "admins", community_id=world.bot.community_id)
    body = {"email": f"op{new_id()}@example.org"}
    assert fleet.request("POST", "/portal/links", body, key=bot_key).status == 403
    assert fleet.request("POST", "/portal/links", {"email": "no address"}, key="admin").status == 422
    answer = fleet.request("POST", "/portal/links", body, key="admin").json()
    token = answer["url"].partition("token=")[2]
    links = portal_app().sign_in_links
    assert links.is_open(token) and links.is_open(token), "a look uses nothing up"
    assert links.use(token, "sign_in").auth_user_id
    assert not links.is_open(token)
    visitor = Visitor(fleet)
    assert visitor.ask("GET", f"/portal/auth/link?token={token}").status == 410
    assert json.dumps(answer).count(token) == 1


def begin_with(fleet, platform: str) -> tuple[str, str]:
    """Where a browser is sent, and the cookie that it has to bring back."""
    sent = Visitor(fleet).ask("GET", f"/portal/auth/with/{platform}?next=/portal/profile")
    assert sent.status == 303
    return sent.headers["location"], sent.headers["set-cookie"].split(";")[0]


def come_back(fleet, location: str, cookie: str) -> tuple[str, Visitor]:
    """Where the portal leads whoever comes back, and who they are then."""
    url = urlsplit(location)
    answer = Visitor(fleet).ask("GET", f"{url.path}?{url.query}", Cookie=cookie)
    session = re.search(r"portal_session=([\w-]{43})", answer.headers.get("set-cookie", ""))
    return answer.headers["location"], Visitor(fleet, session[1] if session else "")


def test_a_moderator_gets_in_by_twitch_uninvited(fleet, twitch_simulator):
    number, bot = str(920_000_000 + secrets.randbelow(1_000_000)), fleet.bot()
    twitch_simulator.user(f"modi{number}", id=number)
    location, cookie = begin_with(fleet, "twitch")
    there = twitch_simulator.authorize(location, user=f"modi{number}")
    led, visitor = come_back(fleet, there, cookie)
    assert led == "/portal/profile"
    assert visitor.ask("GET", "/portal/profile").status == 200
    assert visitor.ask("GET", f"/portal/c/{bot.slug}").status == 404

    with fleet.database.transaction() as db:
        row = fetch_one(db, "SELECT user_id FROM platform_identities WHERE platform_user_id = %s", (number,))
    body = {"community_id": bot.slug, "assignments": [{"user_id": row["user_id"], "role": "moderator"}]}
    assert fleet.request("POST", "/router/roles/assign", body, key="admin").status == 200
    assert visitor.ask("GET", f"/portal/c/{bot.slug}/rules/new").status == 200

    again, _ = come_back(fleet, there, cookie)
    assert again == "/portal/auth/login", "a state works once"
    location, _ = begin_with(fleet, "twitch")
    elsewhere, _ = come_back(fleet, twitch_simulator.authorize(location, user=f"modi{number}"), "")
    assert elsewhere == "/portal/auth/login", "and in its own browser only"
    location, cookie = begin_with(fleet, "twitch")
    denied, _ = come_back(fleet, twitch_simulator.authorize(location, user=f"modi{number}", deny=True), cookie)
    assert denied == "/portal/auth/login?next=%2Fportal%2Fprofile", "where they wanted to go is kept"


@dataclass
class There:
    """Somebody at a platform, and a community whose channel is there; `become` is what they are in it."""

    fleet: Any
    bot: Any
    platform: str
    consent: Callable[[str], str]
    become: Callable[[str], Any]
    fail: Callable[[str | int], Any]

    def sign_in(self) -> Visitor:
        location, cookie = begin_with(self.fleet, self.platform)
        led, visitor = come_back(self.fleet, self.consent(location), cookie)
        assert led == "/portal/profile"
        assert visitor.ask("GET", "/portal/profile").status == 200
        return visitor

    def pass_time(self, hours: float) -> None:
        sql = "UPDATE portal_platform_roles SET expires_at = expires_at - %s WHERE community_id = %s"
        self.fleet.database.statement(sql, (timedelta(hours=hours), self.bot.community_id))

    def opened(self, visitor: Visitor) -> str:
        """The highest right with which they get in."""
        path = f"/portal/c/{self.bot.slug}"
        pages = {"owner": "/rights", "editor": "/commands/aliases/new", "moderator": "/rules/new", "viewer": ""}
        return next((right for right, page in pages.items() if visitor.ask("GET", path + page).status == 200), "")


def at_twitch(fleet: Any, twitch: Any, _: Any, __: Any) -> There:
    bot, number = fleet.bot(), str(970_000_000 + secrets.randbelow(1_000_000))
    with fleet.database.transaction() as db:
        add_server(db, "twitch", f"{number}1", community=bot.slug)
    channel = twitch.user(f"channel{number}", id=f"{number}1")
    twitch.user(f"modi{number}", id=number)
    who = [f"modi{number}"]

    def become(role: str) -> None:
        who[0] = f"channel{number}" if role == "owner" else f"modi{number}"
        (channel.moderators.add if role == "moderator" else channel.moderators.discard)(number)

    return There(
        fleet,
        bot,
        "twitch",
        lambda url: twitch.authorize(url, user=who[0]),
        become,
        lambda kind: twitch.fail_next(kind, at="moderation/channels"),
    )


def at_discord(fleet: Any, _: Any, discord: Any, __: Any) -> There:
    bot, number = fleet.bot(), str(970_000_000 + secrets.randbelow(1_000_000))
    guild, owner = discord.add_guild("Coop"), ""
    owner = guild.owner_id
    with fleet.database.transaction() as db:
        add_server(db, "discord", "", server_id=guild.id, community=bot.slug)
    roles = {"admin": guild.add_role("Admins", 1 << 3), "moderator": guild.add_role("Moderators", 1 << 13)}
    discord.person(guild, number, name=f"modi{number}")

    def become(role: str) -> None:
        guild.owner_id = number if role == "owner" else owner
        guild.members[number].roles = [roles[role]] if role in roles else []

    def consent(url: str) -> str:
        asked = dict(parse_qsl(urlsplit(url).query))
        return discord.rest.identify(
            number, state=asked["state"], redirect_uri=asked["redirect_uri"], scope=asked["scope"]
        )

    return There(fleet, bot, "discord", consent, become, lambda kind: discord.fail_next(kind, on="/users/@me/guilds"))


def at_slack(fleet: Any, _: Any, __: Any, slack: Any) -> There:
    bot, number = fleet.bot(), f"U{secrets.token_hex(5).upper()}"
    known = "SELECT 1 FROM slack_teams WHERE team_id = %s"
    eventually(lambda: fleet.database.statement(known, (slack.team_id,)))
    with fleet.database.transaction() as db:
        add_server(db, "slack", f"C{number}", server_id=slack.team_id, community=bot.slug)

    def become(role: str) -> None:
        team = slack.state.team(slack.team_id)
        team.users[number] = replace(team.user(number), is_owner=role == "owner", is_admin=role == "admin")

    def consent(url: str) -> str:
        asked = dict(parse_qsl(urlsplit(url).query))
        code = slack.pages.make_code(slack.team_id, number, asked["redirect_uri"], asked["scope"])
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    return There(fleet, bot, "slack", consent, become, lambda kind: slack.fail_next(kind, method="users.info"))


@pytest.fixture(params=(at_twitch, at_discord, at_slack), ids=("twitch", "discord", "slack"))
def there(request, fleet, twitch_simulator, discord_simulator, slack_simulator) -> There:
    return request.param(fleet, twitch_simulator, discord_simulator, slack_simulator)


BADGES = {
    "twitch": {"owner": "editor", "moderator": "moderator", "": ""},
    "discord": {"owner": "editor", "admin": "editor", "moderator": "moderator", "": ""},
    "slack": {"owner": "editor", "admin": "editor", "": ""},
}


def test_what_somebody_is_at_their_platform_they_are_in_the_portal(there, world):
    for role, right in BADGES[there.platform].items():
        there.become(role)
        visitor = there.sign_in()
        assert there.opened(visitor) == right, role
        assert visitor.ask("GET", f"/portal/c/{world.bot.slug}").status == 404, "nothing elsewhere"
    moderator = "moderator" if there.platform != "slack" else "admin"
    there.become(moderator)
    visitor = there.sign_in()
    shown = visitor.ask("GET", "/portal/profile").body.decode()
    assert there.bot.slug in shown and "for 12 hours more" in shown
    if moderator == "moderator":
        path = f"/portal/c/{there.bot.slug}"
        assert [visitor.ask("GET", path + page).status for page in ("/members", "/rights", "/keys")] == [200, 403, 403]

    there.pass_time(11.9)
    assert there.opened(visitor) == BADGES[there.platform][moderator]
    there.pass_time(0.2)
    assert there.opened(visitor) == ""
    again = f"/portal/auth/with/{there.platform}?next=/portal/c/{there.bot.slug}"
    assert again in visitor.ask("GET", "/portal/communities").body.decode()
    assert there.opened(there.sign_in()) == BADGES[there.platform][moderator]
    assert again not in visitor.ask("GET", "/portal/communities").body.decode()
    there.pass_time(12 + 7 * 24 + 1)
    portal_app().platform_roles.forget_old()
    assert again not in visitor.ask("GET", "/portal/communities").body.decode()


def test_whoever_is_no_moderator_any_more_is_out_with_their_next_sign_in(there):
    there.become("admin" if there.platform == "slack" else "moderator")
    visitor = there.sign_in()
    assert there.opened(visitor)
    there.become("")
    assert there.opened(there.sign_in()) == ""
    assert there.opened(visitor) == "", "in their other browser too"


def test_a_platform_that_does_not_say_what_somebody_is_keeps_nobody_out(there, caplog):
    there.become("admin" if there.platform == "slack" else "moderator")
    there.fail(500)
    with caplog.at_level("INFO", logger="waddlebot.portal"):
        visitor = there.sign_in()
    assert there.opened(visitor) == ""
    lines = [AAAFormatter().format(each) for each in caplog.records]
    (told,) = [line for line in lines if "action=platform_roles_unknown" in line]
    assert f"user={there.platform}:" in told and "result=FAILED" in told

    held = there.opened(there.sign_in())
    assert held == BADGES[there.platform]["admin" if there.platform == "slack" else "moderator"]
    there.become("")
    there.fail(500)
    assert there.opened(there.sign_in()) == held, "what it said before holds as long as it was to"


def test_a_platform_that_hangs_keeps_nobody_waiting(there):
    there.become("admin" if there.platform == "slack" else "moderator")
    there.fail("hang")
    begun = time.monotonic()
    assert there.opened(there.sign_in()) == ""
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("kind", ["html", "empty", "truncated"])
def test_an_answer_that_is_none_gives_no_seat(fleet, twitch_simulator, kind):
    there = at_twitch(fleet, twitch_simulator, None, None)
    there.become("moderator")
    there.fail(kind)
    assert there.opened(there.sign_in()) == ""


def test_only_channels_that_are_served_give_a_seat(there):
    there.become("owner")
    visitor, entities = there.sign_in(), "UPDATE entities SET is_active = %s WHERE community_id = %s"
    assert there.opened(visitor) == "editor"
    there.fleet.database.statement(entities, (False, there.bot.community_id))
    assert there.opened(there.sign_in()) == ""
    there.fleet.database.statement(entities, (True, there.bot.community_id))
    assert there.opened(there.sign_in()) == "editor"


def test_less_consent_than_was_asked_for_gives_no_seat(fleet, twitch_simulator):
    there = at_twitch(fleet, twitch_simulator, None, None)
    there.become("moderator")
    who = f"modi{there.fleet.database.statement(CHANNEL_OF, (there.bot.community_id,))[0]['channel_id'][:-1]}"
    there.consent = lambda url: twitch_simulator.authorize(url, user=who, grant=[])
    assert there.opened(there.sign_in()) == ""


def test_a_moderator_of_many_channels_is_one_in_the_last_of_them(fleet, twitch_simulator):
    there = at_twitch(fleet, twitch_simulator, None, None)
    number = there.fleet.database.statement(CHANNEL_OF, (there.bot.community_id,))[0]["channel_id"][:-1]
    for each in range(120):
        twitch_simulator.user(f"many{number}{each}", id=f"{number}0{each:03}").moderators.add(number)
    there.become("moderator")
    assert there.opened(there.sign_in()) == "moderator"


def test_a_role_at_a_platform_goes_with_the_person(there):
    there.become("owner")
    visitor = there.sign_in()
    shown = visitor.ask("GET", "/portal/profile/data").body.decode()
    assert "portal_platform_roles" in shown and f'"community_id": {there.bot.community_id}' in shown
    rows = "SELECT 1 FROM portal_platform_roles WHERE community_id = %s"
    assert there.fleet.database.statement(rows, (there.bot.community_id,))
    assert fill_in(visitor, "/portal/profile/erase", "erase", sure="erase everything").status == 200
    assert there.fleet.database.statement(rows, (there.bot.community_id,)) == []


CHANNEL_OF = "SELECT channel_id FROM entities WHERE community_id = %s AND platform = 'twitch'"


def test_a_timer_or_a_notice_that_is_not_there_has_no_page(world):
    editor, timer = world.people["editor"], world.found["row"]
    for path in (f"timer/{timer + 9999}", f"notice/{timer}", f"alias/{timer}", "timer/99999999999999999999"):
        assert editor.ask("GET", f"/portal/c/{world.bot.slug}/timers/{path}").status == 404, path
    assert editor.ask("GET", f"/portal/c/{world.bot.slug}/timers/timer/{timer}").status == 200


def test_a_form_says_in_words_and_at_its_field_what_a_name_has_to_be(world):
    owner, path = world.people["owner"], f"/portal/c/{world.bot.slug}/timers"
    answer = fill_in(owner, path, "timer", name="two words", message="hi", minutes="5", min_lines="0", entity_id="")
    assert (answer.status, "Has to be one word, without quotation marks." in answer.body.decode()) == (422, True)
    assert "^[" not in answer.body.decode() and "Not saved." not in answer.body.decode()


def test_nothing_that_an_address_or_a_button_brings_breaks_a_page(world):
    owner, folder = world.people["owner"], Path(__file__).parents[1] / "controllers"
    names = {name for each in folder.glob("*.py") for name in re.findall(r'asked\("(\w+)"\)', each.read_text())}
    assert {"q", "who", "before"} <= names
    for route in (each for each in COMMUNITY if each.startswith("GET ")):
        for said in ("\0a", "9" * 30, "-1", "\u202e'<b>", "x" * 3000):
            answer = owner.ask("GET", f"{world.path(route)}?{urlencode(dict.fromkeys(names, said))}")
            assert answer.status < 500, (route, said)
    [key, *_] = KEY_OF_BUTTON.findall(owner.ask("GET", f"/portal/c/{world.bot.slug}/modules").body.decode())
    for who in ("a\0b", "x" * 60_000, "🐧" * 20_000):
        form = {"_key": key, "label": "artist", "who": who}
        assert owner.ask("POST", f"/portal/c/{world.bot.slug}/labels/give", form).status == 303


def test_whoever_signs_in_takes_their_own_data_away_and_nobody_elses(fleet, twitch_simulator):
    number, bot = str(950_000_000 + secrets.randbelow(1_000_000)), fleet.bot()
    with fleet.database.transaction() as db:
        add_server(db, "twitch", number, community=bot.slug)
    for who, text in ((number, f"mine {number}"), (f"{number}0", f"another's {number}")):
        user = {"platform_user_id": who, "name": f"n{who}", "display_name": f"N{who}", "badges": []}
        event = {"event_id": new_id(), "message_type": "chatMessage", "platform": "twitch", "channel_id": number}
        assert (
            fleet.request("POST", "/router/events", {**event, "user": user, "message": text}, key="twitch").status
            == 200
        )
    twitch_simulator.user(f"n{number}", id=number)
    location, cookie = begin_with(fleet, "twitch")
    _, visitor = come_back(fleet, twitch_simulator.authorize(location, user=f"n{number}"), cookie)

    answer = visitor.ask("GET", "/portal/profile/data")

    assert "me.waddlebot.json" in answer.headers["content-disposition"]
    mine = answer.json()
    assert (mine["identities"], mine.get("missing")) == ([f"twitch:{number}"], None)
    assert {"router", "portal"} <= {each["module"] for each in mine["modules"]}
    assert f"mine {number}" in answer.body.decode() and f"another's {number}" not in answer.body.decode()


def test_whoever_signs_in_has_their_own_data_erased_and_nobody_elses(fleet, twitch_simulator):
    number, bot = str(960_000_000 + secrets.randbelow(1_000_000)), fleet.bot()
    with fleet.database.transaction() as db:
        add_server(db, "twitch", number, community=bot.slug)
    for who, text in ((number, f"mine {number}"), (f"{number}0", f"another's {number}")):
        user = {"platform_user_id": who, "name": f"n{who}", "display_name": f"N{who}", "badges": []}
        event = {"event_id": new_id(), "message_type": "chatMessage", "platform": "twitch", "channel_id": number}
        answer = fleet.request("POST", "/router/events", {**event, "user": user, "message": text}, key="twitch")
        assert answer.status == 200
    twitch_simulator.user(f"n{number}", id=number)

    def sign_in_again() -> Visitor:
        location, cookie = begin_with(fleet, "twitch")
        return come_back(fleet, twitch_simulator.authorize(location, user=f"n{number}"), cookie)[1]

    def texts() -> list[str]:
        with fleet.database.transaction() as db:
            sql = "SELECT event->>'message' AS text FROM router_events WHERE community_id = %s ORDER BY received_at"
            return [row["text"] for row in fetch(db, sql, (bot.community_id,))]

    def identity() -> dict[str, Any] | None:
        with fleet.database.transaction() as db:
            sql = "SELECT user_id FROM platform_identities WHERE platform = 'twitch' AND platform_user_id = %s"
            return fetch_one(db, sql, (number,))

    visitor, elsewhere = sign_in_again(), sign_in_again()
    own_id, path = identity()["user_id"], "/portal/profile/erase"
    assert f"twitch:{number}" in visitor.ask("GET", path).body.decode()
    refused = fill_in(visitor, path, "erase", sure="erase")
    assert (refused.status, "Nothing was erased." in refused.body.decode()) == (422, True)
    assert visitor.ask("POST", path, {"_formname": "erase", "sure": "erase everything"}).status == 422, "another site's"
    assert identity() is not None

    # A module that is away is asked again, and nobody is signed out before.
    fleet.database.statement("ALTER TABLE link_tries RENAME TO link_tries_away", None)
    try:
        waits = fill_in(visitor, path, "erase", sure="Erase everything")
        assert (waits.status, "Not everywhere yet." in waits.body.decode()) == (422, True)
    finally:
        fleet.database.statement("ALTER TABLE link_tries_away RENAME TO link_tries", None)
    done = fill_in(visitor, path, "erase", sure="Erase everything")

    assert (done.status, "You are forgotten" in done.body.decode()) == (200, True), done.body
    assert identity() is None
    assert f"another's {number}" in texts() and f"mine {number}" not in texts()
    with fleet.database.transaction() as db:
        entry = fetch_one(db, "SELECT * FROM audit WHERE subject = %s ORDER BY id DESC LIMIT 1", (f"person/{own_id}",))
        assert fetch(db, "SELECT 1 FROM auth_user WHERE id = %s", (entry["login_id"],)) == []
    assert (entry["action"], entry["own_id"], entry["after"]["not_yet"]) == ("person_erased", own_id, [])
    for each in (visitor, elsewhere):
        assert each.ask("GET", "/portal/profile").headers.get("location", "").startswith("/portal/auth/login")


def test_an_owner_hands_the_community_over_before_they_are_erased_or_leaves_it(fleet):
    bot, names = fleet.bot(), [f"own{new_id()[-9:]}" for _ in range(3)]
    for each in names:
        bot.say("hello", by=each)
    sql = "SELECT name, user_id FROM platform_identities WHERE platform_user_id = ANY(%s)"
    numbers = {row["name"]: row["user_id"] for row in fleet.database.statement(sql, (names,))}
    owner, heir, invited = (sign_in(fleet, waddlebot_user_id=numbers[each]) for each in names)
    give(fleet, invited, bot.community_id, "owner")

    def hand_over(visitor: Visitor, who: str, sure: str = "Hand over") -> str:
        rights = f"/portal/c/{bot.slug}/rights"
        key = re.search(r'name="_key" value="([0-9a-f]+)"', visitor.ask("GET", rights).body.decode())
        assert visitor.ask("POST", f"{rights}/owner", {"_key": key[1], "who": who, "sure": sure}).status == 303
        sql = "SELECT owner_id FROM communities WHERE id = %s"
        return {number: name for name, number in numbers.items()}.get(
            fleet.database.statement(sql, (bot.community_id,))[0]["owner_id"], ""
        )

    assert hand_over(invited, names[0]) == names[0], "what is nobody's, anybody with an owner's right gives away"
    assert hand_over(invited, names[2]) == names[0], "but nobody takes it from an owner"
    assert hand_over(owner, "nobody-of-that-name") == hand_over(owner, names[1], "yes") == names[0]

    path = "/portal/profile/erase"
    refused = fill_in(owner, path, "erase", sure="erase everything")
    assert (refused.status, "Hand over first what you own" in refused.body.decode()) == (422, True)
    assert f"/portal/c/{bot.slug}/rights" in refused.body.decode()

    assert hand_over(owner, f"@{names[1]}") == names[1]
    assert "(owner)" in bot.say("!community members", by=names[1]).chat
    assert owner.ask("GET", f"/portal/c/{bot.slug}/rights").status == 403, "an admin from then on"
    assert owner.ask("GET", f"/portal/c/{bot.slug}/members").status == 200
    assert "without an owner" not in owner.ask("GET", path).body.decode()
    assert fill_in(owner, path, "erase", sure="erase everything").status == 200

    assert fill_in(heir, path, "erase", sure="erase everything").status == 422
    assert fill_in(heir, path, "erase", sure="erase everything", leave="ON").status == 200
    assert hand_over(invited, names[2]) == names[2], "it is nobody's again"


def test_a_password_is_asked_for_once_more_before_a_login_is_erased(fleet):
    visitor = sign_in(fleet, password=str(CRYPT(digest_alg=DIGEST)("a long password")[0]))
    path = "/portal/profile/erase"
    wrong = fill_in(visitor, path, "erase", sure="erase everything", password="another")
    assert wrong.status == 422 and "error" in wrong.body.decode()
    with fleet.database.transaction() as db:
        assert fetch(db, "SELECT 1 FROM auth_user WHERE id = %s", (visitor.login_id,))
    assert fill_in(visitor, path, "erase", sure="erase everything", password="a long password").status == 200
    with fleet.database.transaction() as db:
        assert fetch(db, "SELECT 1 FROM auth_user WHERE id = %s", (visitor.login_id,)) == []


def test_changes_of_how_somebody_signs_in_are_auth_lines(fleet, caplog):
    visitor = sign_in(fleet, password=str(CRYPT(digest_alg=DIGEST)("a long password")[0]))
    secret = re.search(r"secret=([A-Z2-7]+)", visitor.ask("GET", "/portal/profile/code").body.decode())
    assert secret
    steps = importlib.import_module("apps.portal_module.services.second_steps")
    code = steps.code_of(secret[1], int(time.time()) // steps.STEP_S)
    with caplog.at_level("INFO", logger="waddlebot.portal"):
        assert fill_in(visitor, "/portal/profile/code", "code", code=code).status == 303
        assert fill_in(visitor, "/portal/profile/code/off", "code_off", password="a long password").status == 303

    lines = [AAAFormatter().format(each) for each in caplog.records]
    for action in ("second_step_switched_on", "second_step_switched_off"):
        (told,) = [line for line in lines if f"action={action} " in line]
        assert " AUTH " in told
        assert f"login={visitor.login_id}" in told
        assert secret[1] not in told


def test_nobody_is_led_to_another_site_by_signing_in(fleet, twitch_simulator):
    number = str(930_000_000 + secrets.randbelow(1_000_000))
    twitch_simulator.user(f"pip{number}", id=number)
    sent = Visitor(fleet).ask("GET", "/portal/auth/with/twitch?next=https://evil.example/")
    there = twitch_simulator.authorize(sent.headers["location"], user=f"pip{number}")
    led, _ = come_back(fleet, there, sent.headers["set-cookie"].split(";")[0])
    assert led == "/portal"
    assert Visitor(fleet).ask("GET", "/portal/auth/with/myspace").status == 404


def test_a_rules_deed_is_in_the_moderation_log_with_what_became_of_it(world, fleet, twitch_simulator):
    number, bot = str(940_000_000 + secrets.randbelow(1_000_000)), fleet.bot()
    with fleet.database.transaction() as db:
        add_server(db, "twitch", number, community=bot.slug)
    rule = {"string": "spam", "match_type": "contains", "action": "block", "community_id": bot.slug}
    assert fleet.request("POST", "/router/string-rules", rule, key="admin").status == 200
    user = {"platform_user_id": f"s{number}", "name": "spammer", "display_name": "Spammer", "badges": []}
    event = {"event_id": new_id(), "message_type": "chatMessage", "platform": "twitch", "channel_id": number}
    sent = fleet.request("POST", "/router/events", {**event, "user": user, "message": "spam!"}, key="twitch")
    assert sent.json()["moderation"]["action"] == "block"
    deed = {"entity_id": f"twitch::{number}", "action": "delete", "platform_user_id": f"s{number}"}
    with fleet.database.transaction() as db:
        # As the collector keeps it until Twitch has answered.
        fetch(
            db,
            "INSERT INTO outbox (platform, event_id, ordinal, session_id, entity_id, community_id, module_name,"
            " response_action, response_data, state, detail, expires_at)"
            " VALUES ('twitch', %s, 90, %s, %s, %s, 'router', 'moderate', %s, 'dropped', 'no moderator', now())",
            (event["event_id"], sent.json()["session_id"], deed["entity_id"], bot.community_id, json.dumps(deed)),
        )
    viewer = give(fleet, sign_in(fleet), bot.community_id, "viewer")
    shown = viewer.ask("GET", f"/portal/c/{bot.slug}/moderation").body.decode()
    for each in ("Spammer", "spam!", "Deleted", "Not done", "no moderator"):
        assert each in shown, each
    assert "Told in chat" not in shown
    for number_of_line in range(31):
        assert bot.say(f"spam {number_of_line}", by="talker").answer["moderation"]["action"] == "block"
    shown = viewer.ask("GET", f"/portal/c/{bot.slug}/moderation").body.decode()
    assert ("spam 30" in shown, "spam 0<" in shown, "spam!" in shown, "Told in chat" in shown) == (
        True,
        False,
        False,
        True,
    )
    assert "End it" not in shown
    with fleet.database.transaction() as db:
        ban = {**deed, "action": "ban"}
        fetch(
            db,
            "UPDATE outbox SET state = 'sent', response_data = %s WHERE event_id = %s AND response_action = 'moderate'",
            (json.dumps(ban), event["event_id"]),
        )
    older = re.search(r'href="(\?before=[^"]+)"', shown)[1]
    editor = give(fleet, sign_in(fleet), bot.community_id, "editor")
    assert "End it" not in viewer.ask("GET", f"/portal/c/{bot.slug}/moderation{older}").body.decode()
    shown = editor.ask("GET", f"/portal/c/{bot.slug}/moderation{older}").body.decode()
    where = re.search(r'action="([^"]+/moderate)" class="act">(.*?)</form>', shown)
    values = dict(re.findall(r'name="(\w+)" value="([^"]*)"', where[2]))
    assert values["action"] == "unban"
    ended = editor.ask("POST", where[1], values)
    assert (ended.status, ended.headers["location"]) == (303, f"/portal/c/{bot.slug}/moderation")
    shown = viewer.ask("GET", f"/portal/c/{bot.slug}/moderation{older}").body.decode()
    assert ("spam 0<" in shown, "spam!" in shown, "spam 1<" in shown) == (True, True, False)
    assert viewer.ask("GET", f"/portal/c/{bot.slug}/moderation?before=nonsense").status == 200


def fill_in(visitor: Visitor, path: str, name: str, /, **values: str) -> Any:
    """Send a page's form as it is shown, but for these values."""
    page = visitor.ask("GET", path).body.decode()
    key = re.search(r'name="_formkey"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="_formkey"', page)
    return visitor.ask("POST", path, {"_formname": name, "_formkey": key[1] or key[2], **values})


def test_what_an_alerts_form_leaves_empty_is_empty(world, fleet):
    owner, path = world.people["owner"], f"/portal/c/{world.bot.slug}/overlays/alerts"
    form = {"position": "top", "animation": "fade", "display_s": "8", "volume": "60", "weight": "1", "is_active": "ON"}
    texts = ("title", "text", "chat_message")

    def newest() -> dict[str, Any]:
        query = {"community_id": world.bot.slug}
        alerts = fleet.request("GET", "/browser/source/admin/alerts", query=query, key="admin").json()["alerts"]
        found = max(alerts, key=lambda each: each["id"])
        return {name: found[name] for name in ("id", *texts)}

    shown = owner.ask("GET", f"{path}/new").body.decode()
    assert re.search(r"<input[^>]*alert_display_s[^>]*>", shown)[0].count('value="8"') == 1
    assert fill_in(owner, f"{path}/new", "alert", event="raid", title="{user} comes!", **form).status == 303
    made = newest()
    assert [made[name] for name in texts] == ["{user} comes!", "", ""]
    told = {"title": "Hi", "text": "there", "chat_message": "Hi!", **form}
    assert fill_in(owner, f"{path}/{made['id']}", "alert", **told).status == 303
    assert newest() == {"id": made["id"], **{name: told[name] for name in texts}}
    assert fill_in(owner, f"{path}/{made['id']}", "alert", **{**told, **dict.fromkeys(texts[1:], "")}).status == 303
    assert newest() == {**made, "title": "Hi"}


def undo_newest(world: World, fleet: Any, subject: str) -> None:
    """Take the newest change of something back, by the button of the audit log."""
    with fleet.database.transaction() as db:
        newest = fetch_one(db, "SELECT max(id) AS id FROM audit WHERE subject LIKE %s", (subject,))
    owner, path = world.people["owner"], f"/portal/c/{world.bot.slug}/audit"
    key = re.search(r'name="_key" value="([0-9a-f]+)"', owner.ask("GET", path).body.decode())
    assert owner.ask("POST", f"{path}/{newest['id']}/undo", {"_key": key[1]}).status == 303


def test_forms_set_terms_steps_and_labels_and_show_them_again(world, fleet):
    editor, path = world.people["editor"], f"/portal/c/{world.bot.slug}"
    slug = {"community_id": world.bot.slug}

    def found(url: str, rows: str) -> dict[str, Any]:
        return max(fleet.request("GET", url, key="admin", query=slug).json()[rows], key=lambda each: each["id"])

    terms = {"cooldown_s": "30", "cooldown_person_s": "", "cooldown_exempt": "nobody", "level": "vip"}
    said = {"alias": "!cool", "command": "cool", "label": " Fans ", "only_live": "on", **terms}
    assert fill_in(editor, f"{path}/commands/aliases/new", "alias", **said, entity_id="").status == 303
    alias = found("/alias/list", "aliases")
    assert {name: alias[name] for name in (*terms, "label", "only_live")} == {
        "cooldown_s": 30,
        "cooldown_person_s": 0,
        "cooldown_exempt": None,
        "level": "vip",
        "label": "fans",
        "only_live": True,
    }
    page = editor.ask("GET", f"{path}/commands/aliases/{alias['id']}").body.decode()
    assert 'value="fans"' in page and re.search(
        r'<option[^>]*selected[^>]*value="nobody"|value="nobody"[^>]*selected', page
    )
    plain = {"alias": "!cool", "command": "cool", "label": "", "cooldown_exempt": "moderator", "level": "member"}
    assert fill_in(editor, f"{path}/commands/aliases/{alias['id']}", "alias", **plain, is_active="on").status == 303
    alias = found("/alias/list", "aliases")
    assert (alias["cooldown_s"], alias["cooldown_exempt"], alias["label"], alias["only_live"]) == (
        0,
        "moderator",
        None,
        False,
    )
    late = fill_in(
        editor,
        f"{path}/commands/aliases/new",
        "alias",
        **{**said, "alias": "!late", "cooldown_s": "86401"},
        entity_id="",
    )
    assert late.status == 422 and b"86,400" in late.body

    command = f"{path}/commands/edit?command=!so"
    usual = {"state": "", "level": "", "cooldown_exempt": ""}
    labels = " Fans, Friends of ours,"
    assert fill_in(editor, command, "permission", **usual, event_labels=labels).status == 303
    said = fleet.request("GET", f"/router/communities/{world.bot.slug}/permissions", key="admin").json()["permissions"]
    configs = {each["command"]: each["config"] for each in said}
    assert configs["!so"] == {"event_labels": ["fans", "friends of ours"]}
    assert 'value="fans, friends of ours"' in editor.ask("GET", command).body.decode()
    assert fill_in(editor, command, "permission", **usual, event_labels="").status == 303
    assert "event_labels" not in editor.ask("GET", f"{path}/commands/edit?command=!points").body.decode()

    rule = {
        "string": "spoiler",
        "match_type": "contains",
        "action": "block",
        "place": "",
        "priority": "9",
        "exempt_level": "",
    }
    rows = {
        "step0_after": "5",
        "step0_action": "ban",
        "step1_after": "2",
        "step1_within": "1h",
        "step1_action": "timeout",
    }
    rows |= {"step1_for": "90s", "step2_action": "delete", "is_active": "on"}
    assert fill_in(editor, f"{path}/rules/new", "rule", **rule, **rows).status == 303
    made = found("/router/string-rules", "rules")
    assert made["escalation"] == [
        {"after": 2, "within_s": 3600, "action": "timeout", "duration_s": 90},
        {"after": 5, "within_s": 86_400, "action": "ban", "duration_s": None},
    ]
    page = editor.ask("GET", f"{path}/rules/{made['id']}").body.decode()
    assert 'value="1h"' in page and 'value="90s"' in page and 'value="1d"' in page
    for bad in ({"step0_within": "soon"}, {"step0_within": "31d"}, {"step0_after": "0"}, {"step1_after": "5"}):
        assert fill_in(editor, f"{path}/rules/{made['id']}", "rule", **{**rule, **rows, **bad}).status == 422, bad
    assert found("/router/string-rules", "rules")["escalation"] == made["escalation"]
    none = dict.fromkeys(("step0_action", "step1_action", "step2_action"), "warn")
    assert fill_in(editor, f"{path}/rules/{made['id']}", "rule", **rule, **none).status == 303
    assert found("/router/string-rules", "rules")["escalation"] == []

    look = {"title": "Hi", "position": "top", "animation": "slide", "display_s": "8", "volume": "60", "weight": "1"}
    said = {**look, "event": "raid", "labels": " Fans, regular,", "is_active": "on"}
    assert fill_in(editor, f"{path}/overlays/alerts/new", "alert", **said).status == 303
    alert = found("/browser/source/admin/alerts", "alerts")
    assert (alert["title"], alert["labels"]) == ("Hi", ["fans", "regular"])
    edit = f"{path}/overlays/alerts/{alert['id']}"
    assert b'value="fans, regular"' in editor.ask("GET", edit).body
    assert fill_in(editor, edit, "alert", **{**look, "title": "Ho"}, labels="").status == 303
    assert found("/browser/source/admin/alerts", "alerts")["labels"] == []


def test_what_is_done_to_an_alert_is_in_the_audit_log_and_taken_back(world, fleet):
    url, slug = "/browser/source/admin/alerts", {"community_id": world.bot.slug}

    def titles() -> list[str]:
        listed = fleet.request("GET", url, key="admin", query=slug).json()["alerts"]
        return [each["title"] for each in listed if each["event"] == "boost"]

    new = {"event": "boost", "title": "one", "labels": ["fans"], "max_amount": None, **slug}
    made = fleet.request("POST", url, new, key="admin").json()["alert"]
    for version, title in ((1, "two"), (2, "three")):
        change = {"version": version, "title": title}
        assert fleet.request("PUT", f"{url}/{made['id']}", change, key="admin").status == 200
    undo_newest(world, fleet, f"alert/{made['id']}")
    assert titles() == ["two"]
    assert fleet.request("PUT", f"{url}/{made['id']}", {"title": "four"}, key="admin").status == 422, (
        "it needs a version"
    )
    assert fleet.request("DELETE", f"{url}/{made['id']}", key="admin").status == 200
    undo_newest(world, fleet, f"alert/{made['id']}")
    assert titles() == ["two"], "as it was, under a new number"
    undo_newest(world, fleet, "alert/%")
    assert titles() == [], "what made it is taken back as well"


def test_mail_goes_by_sendmail_where_no_server_is_named(fleet, tmp_path, monkeypatch):
    letters = tmp_path / "letters"
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\n[ "$*" = "-t -i" ] || exit 64\ncat >> {letters}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    settings = portal_app().settings.model_copy(update={"smtp_host": None, "from_email": "bot@example.org"})
    mail = Mail(settings, portal_app().service.log)
    assert mail.is_possible
    mail.send("pip@example.org", "Grüße", "Hello\n.\nthere")
    sent = email.message_from_bytes(letters.read_bytes(), policy=email.policy.default)
    assert (sent["To"], sent["Subject"]) == ("pip@example.org", "Grüße")
    assert sent.get_content() == "Hello\n.\nthere\n"
    program.write_text("#!/bin/sh\nexit 75\n")
    with pytest.raises(MailNotSent):
        mail.send("pip@example.org", "Hello", "again")


def test_a_members_chart_is_of_what_they_earned_each_day(fleet):
    bot = fleet.bot()
    owner = give(fleet, sign_in(fleet), bot.community_id, "owner")
    said = bot.say("hello", by="pip")
    with fleet.database.transaction() as db:
        person = fetch_one(db, "SELECT user_id FROM router_events WHERE session_id = %s", (said.session_id,))

    def earn(points: int, days_ago: int) -> None:
        fleet.database.statement(
            "INSERT INTO reputation_events (community_id, user_id, event_name, event_score, source_id, processed_at,"
            " entity_id) VALUES (%s, %s, 'raid', %s, gen_random_uuid(), now() - %s * interval '1 day', %s)",
            (bot.community_id, person["user_id"], points, days_ago, f"console:{bot.slug}:general"),
        )

    def charted() -> list[int]:
        shown = owner.ask("GET", f"/portal/c/{bot.slug}/members/{person['user_id']}").body.decode()
        table = shown.partition("<caption>Points a day, last 30 days</caption>")[2].partition("</table>")[0]
        return [int(each.replace(",", "")) for each in re.findall(r"<td>([\d,]+)</td>", table)]

    # What was counted before this table was there, or while the job was away, is counted anew.
    fleet.database.statement("DELETE FROM portal_person_days")
    for points, days_ago in ((700, 0), (40, 0), (2_000, 3), (30_000, 40)):
        earn(points, days_ago)
    portal_app().figures.count_days()
    talked = charted()
    assert (len(talked), talked[-4], sum(talked[:-4])) == (30, 2_000, 0)
    assert talked[-1] >= 740
    earn(5, 0)
    portal_app().figures.count_days()
    assert charted()[-1] == talked[-1] + 5


@pytest.mark.usefixtures("fleet")
def test_what_takes_long_to_count_is_counted_seldom():
    figures = importlib.import_module("apps.portal_module.services.figures")
    quick, slow = [], []
    at_once = figures.AtLeisure(lambda: quick.append("counted"))
    seldom = figures.AtLeisure(lambda: slow.append(time.sleep(0.2)))

    seldom()
    eventually(lambda: at_once() or len(quick) == 5)
    seldom()

    assert len(slow) == 1


def test_a_modules_commands_are_given_the_other_sign_and_lose_it(fleet, world):
    owner, module = world.people["owner"], "waddler"
    place = f"/portal/c/{world.bot.slug}/marketplace/{module}"

    def answers_to_both() -> bool:
        listed = fleet.request("GET", f"/marketplace/entity/{world.bot.slug}/modules", key="admin").json()["modules"]
        return next(each["answers_to_both"] for each in listed if each["module_id"] == module)

    def key(page: str) -> str:
        found = re.search(r'name="_key" value="([0-9a-f]+)"', owner.ask("GET", page).body.decode())
        assert found
        return found[1]

    plan = {"_key": key(f"{place}/install"), "version": "1.0.0", "replaces": "1"}
    assert owner.ask("POST", f"{place}/install", plan).status == 303
    assert answers_to_both() is True
    assert owner.ask("POST", f"{place}/change", {"_key": key(place), "do": "both", "on": ""}).status == 303
    assert answers_to_both() is False


def test_a_key_of_the_portal_opens_the_gateway_too_and_none_is_made_that_would_not(world, fleet, kong_simulator):
    owner, path = world.people["owner"], f"/portal/c/{world.bot.slug}/keys"
    programs = f"{world.bot.slug}/"
    before = set(kong_simulator.consumers)

    page = fill_in(owner, path, "key", name="Stats site", days="90").body.decode()
    key = re.search(r'value="(wbot_\w+)"', page)[1]
    (consumer,) = set(kong_simulator.consumers) - before
    assert kong_simulator.groups_of(consumer) == {"api-users"}
    assert 89 * 86400 < kong_simulator.keys_of(consumer)[key] <= 90 * 86400
    assert fleet.request("GET", f"/router/communities/{world.bot.community_id}/modules", key=key).status == 200

    kong_simulator.faults["PUT /consumers"] = 500
    try:
        refused = fill_in(owner, path, "key", name="Other site", days="90").body.decode()
    finally:
        kong_simulator.faults.clear()
    assert "Kong failed with HTTP 500" in refused and "wbot_" not in refused
    names = "SELECT a.name FROM service_accounts a JOIN service_account_keys k ON k.account_id = a.id WHERE k.is_active"
    with fleet.database.transaction() as db:
        live = {row["name"] for row in fetch(db, names) if row["name"].startswith(programs)}
    assert live & {f"{programs}Stats site", f"{programs}Other site"} == {f"{programs}Stats site"}
