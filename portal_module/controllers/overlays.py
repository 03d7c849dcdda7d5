"""Overlays: addresses for OBS, what is on and what waits, and the alerts that are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from py4web import request
from pydal.validators import IS_EMPTY_OR, IS_FLOAT_IN_RANGE, IS_IN_SET, IS_INT_IN_RANGE, IS_MATCH
from waddlebot.base.errors import NotFound
from waddlebot.data.database import Database, Prepared, fetch
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.fleet_api import FleetAPI, FleetRefused, quoted
from ..services.seats import Seat, Seats
from .parts import Buttons, asked, check_act, refuse, value

KINDS = {
    "ticker": ("Ticker", "A line at the lower edge"),
    "media": ("Media", "Music and videos that play"),
    "general": ("Alerts", "Alerts, forms and announcements"),
    "all": ("All in one", "The three in one page"),
}
EVENTS = {
    "follow": "Follow",
    "subscription": "Subscription",
    "resub": "Resub",
    "subgift": "Gifted subs",
    "cheer": "Cheer",
    "raid": "Raid",
    "host": "Host",
    "donation": "Tip",
    "boost": "Boost",
    "member_join": "New member",
}
# Whom and what previews are about.
SAMPLE = {
    "user": "Pip",
    "amount": "5",
    "months": "6",
    "message": "Hello there!",
    "viewers": "42",
    "game": "Penguin Racer",
}
VARIABLE = re.compile("{(" + "|".join(SAMPLE) + ")}")
LOOKED_AT_S = 120
ANIMATIONS = ("fade", "slide", "drop", "zoom", "bounce", "none")
POSITIONS = ("top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right")
QUEUE_WORDS = {"skip": "Skipped.", "pause": "The queue waits.", "resume": "The queue goes on.", "clear": "Cleared."}
MAX_UPLOAD_BYTES = 21 * 1024 * 1024
ADMIN = "/browser/source/admin"
TOKENS = Prepared(
    "portal_overlays",
    "SELECT DISTINCT source_type FROM browser_source_tokens WHERE community_id = %(community)s::bigint AND is_active"
    " AND NOT is_preview AND (expires_at IS NULL OR expires_at > now())",
)
QUEUE = Prepared(
    "portal_overlay_queue",
    "SELECT coalesce(nullif(content #>> '{data,title}', ''), content ->> 'action', 'Item') AS title, state, is_test"
    " FROM browser_source_history WHERE community_id = %(community)s::bigint AND source_type = 'general'"
    " ORDER BY id DESC LIMIT 8",
)


@page("GET", "/portal/c/<community>/overlays", "overlays.html")
def show_overlays(
    community: str, login: Login, session: PageSession, seats: Seats, fleet: FleetAPI, database: Database
) -> Any:
    """Addresses, a live preview, the queue, and the alerts."""
    seat = seats.take(login, community, "overlays")
    here = {"community_id": seat.community_id}
    stats = fleet.begin(seat, "overlays", "/browser/source/stats", {**here, "brief": "true"})
    listed = fleet.begin(seat, "overlays", f"{ADMIN}/alerts", here)
    with database.reading() as db:
        tokens, items = (fetch(db, each, {"community": seat.community_id}) for each in (TOKENS, QUEUE))
    sources, alerts = stats()["sources"], listed()
    return seat.shown(
        "Overlays",
        kinds=KINDS,
        tokens={each["source_type"] for each in tokens},
        sources={each["source_type"]: each for each in sources},
        alerts=alerts["alerts"],
        built_in=alerts["built_in"],
        filled=_filled,
        events=EVENTS,
        items=items,
        is_paused=any(each["is_paused"] for each in sources if each["source_type"] == "general"),
        button=Buttons(session),
    )


@page("GET", "/portal/c/<community>/overlays/preview")
def show_preview(community: str, login: Login, seats: Seats, fleet: FleetAPI) -> Any:
    """An overlay as OBS shows it, for a frame: silent, and what it shows counts nowhere."""
    seat = seats.take(login, community, "overlays", "editor")
    kind = asked("source") if asked("source") in KINDS else "all"
    body = {"community_id": seat.community_id, "source_type": kind}
    return go_to(str(fleet.ask(seat, "overlays", "POST", f"{ADMIN}/preview", body)["url"]))


@page("POST", "/portal/c/<community>/overlays/addresses", "addresses.html")
def show_addresses(community: str, login: Login, session: PageSession, seats: Seats, fleet: FleetAPI) -> Any:
    """The addresses in clear, made where there are none. Whoever has one can show the overlay."""
    seat = seats.take(login, community, "overlays", "editor")
    check_act(session)
    body = {"community_id": seat.community_id}
    tokens = fleet.ask(seat, "overlays", "POST", f"{ADMIN}/tokens", body)["tokens"]
    tokens |= fleet.ask(seat, "overlays", "POST", f"{ADMIN}/tokens", {**body, "source_type": "all"})["tokens"]
    return seat.shown("Addresses for OBS", tokens=tokens, kinds=KINDS, button=Buttons(session))


@page("POST", "/portal/c/<community>/overlays/regenerate")
def regenerate(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Make a new address; pages with the old one go blank."""
    seat = seats.take(login, community, "overlays", "editor")
    check_act(session)
    path = f"{ADMIN}/tokens/{quoted(value('token'))}/regenerate"
    made = fleet.ask(seat, "overlays", "POST", path, {"grace_s": 0})["token"]
    flash.set(f"The {KINDS[made['source_type']][0].lower()} has a new address. The old one shows nothing any more.")
    return go_to(f"{seat.path}/overlays")


@page("POST", "/portal/c/<community>/overlays/test")
def show_test(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Show something on the overlays that is marked TEST: an alert, or one of each kind."""
    seat = seats.take(login, community, "overlays", "editor")
    check_act(session)
    if alert := value("alert"):
        fleet.ask(seat, "overlays", "POST", f"{ADMIN}/alerts/{quoted(alert)}/test", {})
    else:
        kind = value("kind") if value("kind") in ("ticker", "media", "general") else "general"
        fleet.ask(seat, "overlays", "POST", f"{ADMIN}/test", {"action": kind, "community_id": seat.community_id})
    flash.set("Sent, marked TEST. Pages that are open show it now.")
    return go_to(f"{seat.path}/overlays")


@page("POST", "/portal/c/<community>/overlays/queue")
def control_queue(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Skip, pause, go on or clear."""
    seat = seats.take(login, community, "overlays", "editor")
    check_act(session)
    action = value("action") if value("action") in QUEUE_WORDS else "skip"
    body = {"community_id": seat.community_id, "source_type": "general", "action": action}
    fleet.ask(seat, "overlays", "POST", f"{ADMIN}/queue", body)
    flash.set(QUEUE_WORDS[action])
    return go_to(f"{seat.path}/overlays")


@page("GET POST", "/portal/c/<community>/overlays/alerts/new", "alert.html", max_body_bytes=MAX_UPLOAD_BYTES)
def add_alert(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Make an alert."""
    seat = seats.take(login, community, "overlays", "editor")
    form = PageForm(_fields({}), session, form_name="alert", submit_value="Save alert")
    if form.accepted:
        try:
            body = {**_body(seat, fleet, form), "event": form.vars["event"], "community_id": seat.community_id}
            fleet.ask(seat, "overlays", "POST", f"{ADMIN}/alerts", body)
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set("Alert made. It is shown from now on.")
            return go_to(f"{seat.path}/overlays")
    look = _look(seat, fleet, form.vars if form.submitted else {"title": "Welcome, {user}!"})
    return seat.shown("New alert", form=form, alert=None, events=EVENTS, button=Buttons(session), look=look)


@page("GET POST", "/portal/c/<community>/overlays/alerts/<alert:int>", "alert.html", max_body_bytes=MAX_UPLOAD_BYTES)
def edit_alert(
    community: str,
    alert: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
) -> Any:
    """Change an alert, unless somebody else did meanwhile."""
    seat = seats.take(login, community, "overlays", "editor")
    was = _get_alert(seat, fleet, alert)
    form = PageForm(_fields(was), session, form_name="alert", submit_value="Save alert")
    if form.accepted:
        try:
            body = {**_body(seat, fleet, form), "version": int(value("version") or was["version"])}
            fleet.ask(seat, "overlays", "PUT", f"{ADMIN}/alerts/{alert}", body)
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set("Alert saved. It counts from now on.")
            return go_to(f"{seat.path}/overlays")
    title = EVENTS.get(was["event"], "Alert")
    look = _look(seat, fleet, {**was, **form.vars} if form.submitted else was)
    return seat.shown(title, form=form, alert=was, events=EVENTS, button=Buttons(session), look=look)


@page("POST", "/portal/c/<community>/overlays/alerts/look", "alert_look.html", max_body_bytes=MAX_UPLOAD_BYTES)
def look_at_alert(community: str, login: Login, seats: Seats, fleet: FleetAPI) -> Any:
    """How an alert looks, as it stands in the form. Nothing is changed."""
    seat = seats.take(login, community, "overlays", "editor")
    return {"look": _look(seat, fleet, {name: request.forms.get(name) for name in (*SENT, "event")}, item_only=True)}


@page("POST", "/portal/c/<community>/overlays/alerts/<alert:int>/remove")
def remove_alert(
    community: str,
    alert: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
) -> Any:
    """Delete an alert. After an event's last one the built-in ones are shown again."""
    seat = seats.take(login, community, "overlays", "editor")
    check_act(session)
    was = _get_alert(seat, fleet, alert)
    query = {"version": was["version"], "community_id": seat.community_id}
    fleet.ask(seat, "overlays", "DELETE", f"{ADMIN}/alerts/{alert}", query=query)
    flash.set("The alert is gone. The audit log can bring it back.")
    return go_to(f"{seat.path}/overlays")


def _look(seat: Seat, fleet: FleetAPI, form: Mapping[str, Any], *, item_only: bool = False) -> dict[str, Any]:
    """The overlay's own page, and the item that shows an alert there, with somebody in it; or what is wrong."""
    said = {name: _filled(str(form.get(name) or ""))[:500] for name in ("title", "text")}
    alert = {name: form.get(name) for name in ("image", "accent", "animation", "position") if form.get(name)}
    show = {
        "kind": "alert",
        "title": said["title"],
        "text": said["text"],
        "alert": {**alert, "event": form.get("event") or "follow", "name": SAMPLE["user"]},
        "display_s": LOOKED_AT_S,
    }
    body = {"community_id": seat.community_id, "source_type": "general", "show": show, "item_only": item_only}
    try:
        made = fleet.ask(seat, "overlays", "POST", f"{ADMIN}/preview", body)
    except FleetRefused as err:
        return {"problem": err.message}
    return {"url": made.get("url", ""), "item": json.dumps(made["item"])}


def _filled(text: str) -> str:
    return VARIABLE.sub(lambda found: SAMPLE[found[1]], text)


def _get_alert(seat: Seat, fleet: FleetAPI, alert: int) -> dict[str, Any]:
    found = fleet.ask(seat, "overlays", "GET", f"{ADMIN}/alerts", query={"community_id": seat.community_id})["alerts"]
    was = next((each for each in found if each["id"] == alert), None)
    if was is None:
        raise NotFound("There is no such alert here.")
    return dict(was)


def _fields(was: dict[str, Any]) -> list[Field]:
    number = IS_EMPTY_OR(IS_FLOAT_IN_RANGE(0, 1e12))
    fields = [
        Field("title", label="Title", default=was.get("title", ""), comment="{user} is who it was, {amount} how much."),
        Field("text", label="Text", default=was.get("text", ""), comment="{message} is what they wrote with it."),
        Field("chat_message", label="Say in chat", default=was.get("chat_message", ""), comment="Empty says nothing."),
        Field(
            "image",
            label="Its address on the web",
            default=was.get("image", ""),
            comment="Filled in by what you upload.",
        ),
        Field("sound", label="The sound's address", default=was.get("sound", "")),
        Field("volume", "integer", label="Volume", default=was.get("volume", 60), requires=IS_INT_IN_RANGE(0, 101)),
        Field(
            "accent",
            label="Colour",
            default=was.get("accent") or "#9d86ff",
            requires=IS_EMPTY_OR(IS_MATCH("^#[0-9a-fA-F]{6}$", error_message="Such as #9d86ff.")),
        ),
        Field(
            "animation",
            label="Comes in by",
            default=was.get("animation", "slide"),
            requires=IS_IN_SET([(each, each.capitalize()) for each in ANIMATIONS], zero=None),
        ),
        Field(
            "position",
            label="Where",
            default=was.get("position", "top"),
            requires=IS_IN_SET([(each, each.replace("-", " ").capitalize()) for each in POSITIONS], zero=None),
        ),
        Field(
            "display_s",
            "double",
            label="Seconds",
            default=f"{was.get('display_s', 8):g}",
            requires=IS_FLOAT_IN_RANGE(0.1, 120, error_message="Between 0.1 and 120 seconds."),
        ),
        Field("min_amount", "double", label="From an amount of", default=was.get("min_amount"), requires=number),
        Field("max_amount", "double", label="To an amount of", default=was.get("max_amount"), requires=number),
        Field(
            "weight",
            "double",
            label="How often, beside others that fit",
            default=f"{was.get('weight', 1):g}",
            requires=IS_FLOAT_IN_RANGE(0, 1000),
        ),
        Field(
            "labels",
            label="Only for who has a label",
            default=", ".join(was.get("labels", [])),
            comment="Their names, with commas between; one is enough. It goes before those for everybody.",
        ),
        Field("is_active", "boolean", label="Alert is on", default=was.get("is_active", True)),
    ]
    if not was:
        fields.insert(0, Field("event", label="When", requires=IS_IN_SET(list(EVENTS.items()), zero=None)))
    return fields


SENT = (
    *("title", "text", "chat_message", "image", "sound", "volume", "accent", "animation", "position", "display_s"),
    *("min_amount", "max_amount", "weight", "is_active"),
)


def _body(seat: Seat, fleet: FleetAPI, form: PageForm) -> dict[str, Any]:
    """The form as the API takes it; files are handed over first, and their addresses put in."""
    body = {name: form.vars.get(name) for name in SENT}
    # What is left empty is to be empty: left out it would be what the built-in alert says, or what it was.
    body |= {name: body[name] or "" for name in ("title", "text", "chat_message", "image", "sound")}
    body["is_active"] = bool(body["is_active"])
    body["labels"] = [each.strip() for each in (form.vars["labels"] or "").split(",") if each.strip()]
    for name in ("image", "sound"):
        sent = request.files.get(f"{name}_file")
        if content := (sent.file.read() if sent is not None and sent.filename else b""):
            headers = {"Content-Type": "application/octet-stream"}
            query = {"community_id": seat.community_id}
            body[name] = fleet.ask(seat, "overlays", "POST", f"{ADMIN}/media", content, query=query, headers=headers)[
                "url"
            ]
    return body
