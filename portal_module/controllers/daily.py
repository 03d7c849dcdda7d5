"""What is said by itself, and filters all at once: timers, live notices, presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from py4web import request
from pydal.validators import IS_IN_SET, IS_INT_IN_RANGE, IS_NOT_EMPTY
from waddlebot.base.errors import NotFound, UpstreamError, UserError
from waddlebot.data.database import Database, Prepared, fetch
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import list_places
from ..services.fleet_api import FleetAPI, FleetRefused, quoted
from ..services.seats import Seat, Seats
from .parts import Buttons, asked, check_act, refuse, value

Places = list[tuple[str, str]]
TIMERS = Prepared(
    "portal_timers",
    "SELECT id, name, message, minutes, only_live, is_active FROM timers WHERE community_id = %(community)s::bigint"
    " ORDER BY name, id LIMIT 1000",
)
NOTICES = Prepared(
    "portal_live_notices",
    "SELECT id, entity_id, message, is_active FROM live_notices WHERE community_id = %(community)s::bigint"
    " ORDER BY entity_id, id LIMIT 1000",
)
NEW_TIMER = {"name": "", "message": "", "minutes": 30, "min_lines": 5, "only_live": True, "entity_id": ""}
NEW_NOTICE = {
    "entity_id": "",
    "stream_entity_id": "",
    "message": "{channel} is live: {title} ({game}) {url}",
    "end_message": "{channel} is off again, after {uptime}.",
}
KINDS = {"timer": "timers", "notice": "live-notices"}
WORDS = {"timer": "timer", "notice": "live notice"}


@page("GET POST", "/portal/c/<community>/timers", "timers.html")
def show_timers(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Timers and live notices, and a form for each."""
    seat = seats.take(login, community, "bot", "editor" if request.method == "POST" else "viewer")
    places = list_places(database, seat.community_id)
    timer = PageForm(_timer_fields(places, NEW_TIMER), session, form_name="timer", submit_value="Add timer")
    notice = PageForm(_notice_fields(places, NEW_NOTICE), session, form_name="notice", submit_value="Tell it there")
    if timer.accepted or notice.accepted:
        form, kind = (timer, "timer") if timer.accepted else (notice, "notice")
        try:
            made = fleet.ask(seat, "bot", "POST", _path(seat, kind), _body(form))
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(" ".join(["Added.", *made["remarks"]]))
            return go_to(f"{seat.path}/timers")
    with database.reading() as db:
        timers, notices = (fetch(db, each, {"community": seat.community_id}) for each in (TIMERS, NOTICES))
    return seat.shown(
        "Timers",
        timer=timer,
        notice=notice,
        timers=timers,
        notices=notices,
        names=dict(places),
        button=Buttons(session),
    )


@page("GET POST", "/portal/c/<community>/timers/<kind>/<row:int>", "timer.html")
def edit_timer(
    community: str,
    kind: str,
    row: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Change a timer or a live notice, with what it would say at the moment beside it."""
    seat = seats.take(login, community, "bot", "editor")
    was = _find(seat, fleet, kind, row)
    places = list_places(database, seat.community_id)
    fields = (_timer_fields if kind == "timer" else _notice_fields)(places, was)
    form = PageForm(fields, session, form_name=kind, submit_value=f"Save {WORDS[kind]}")
    if form.accepted:
        try:
            made = fleet.ask(seat, "bot", "PUT", f"{_path(seat, kind)}/{row}", _body(form))
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(" ".join(["Saved. It counts from now on.", *made["remarks"]]))
            return go_to(f"{seat.path}/timers")
    return seat.shown(
        was["name"] if kind == "timer" else dict(places).get(was["entity_id"], was["entity_id"]),
        form=form,
        said=_said(seat, fleet, kind, was),
        names=dict(places),
        crumb=("Timers", f"{seat.path}/timers"),
    )


@page("POST", "/portal/c/<community>/timers/change")
def change_timer(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Switch a timer or a notice on or off, or remove it."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    path = f"{_path(seat, 'timer' if value('of') == 'timer' else 'notice')}/{quoted(value('id'))}"
    try:
        if value("do") == "remove":
            fleet.ask(seat, "bot", "DELETE", path)
            flash.set("Gone. The audit log can bring it back.")
        else:
            fleet.ask(seat, "bot", "PUT", path, {"is_active": bool(value("on"))})
            flash.set("It is said again." if value("on") else "It is paused.")
    except (UserError, UpstreamError) as err:
        flash.set(err.message, "bad")
    return go_to(f"{seat.path}/timers")


@page("GET", "/portal/c/<community>/filters", "filters.html")
def show_filters(community: str, login: Login, session: PageSession, seats: Seats, fleet: FleetAPI) -> Any:
    """The presets of filters and, of the one that is looked at, what it would have done to last week's chat."""
    seat = seats.take(login, community, "rules", "viewer")
    path = f"/router/communities/{seat.community_id}/filter-presets"
    presets = fleet.ask(seat, "rules", "GET", path)["presets"]
    names = [each["name"] for each in presets]
    wanted = asked("look") if asked("look") in names and seat.may("rules", "editor") else ""
    seen = fleet.ask(seat, "rules", "POST", f"{path}/{wanted}/preview", {}) if wanted else None
    return seat.shown("Filters", presets=presets, seen=seen, button=Buttons(session))


@page("POST", "/portal/c/<community>/filters/use")
def use_filters(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Switch a preset on."""
    seat = seats.take(login, community, "rules", "editor")
    check_act(session)
    try:
        path = f"/router/communities/{seat.community_id}/filter-presets/{quoted(value('name'))}"
        done = fleet.ask(seat, "rules", "POST", path)
        kept = f" Kept as they were: {', '.join(done['kept'])}." if done["kept"] else ""
        flash.set(f"{len(done['rules'])} filters are on from now on.{kept}")
    except (UserError, UpstreamError) as err:
        flash.set(err.message, "bad")
    return go_to(f"{seat.path}/rules")


def _path(seat: Seat, kind: str) -> str:
    return f"/router/communities/{seat.community_id}/{KINDS[kind]}"


def _find(seat: Seat, fleet: FleetAPI, kind: str, row: int) -> dict[str, Any]:
    """Raises: NotFound for another community's, too."""
    known = fleet.ask(seat, "bot", "GET", _path(seat, kind))[KINDS[kind].replace("-", "_")] if kind in KINDS else []
    was = next((each for each in known if each["id"] == row), None)
    if was is None:
        raise NotFound("There is no such timer or live notice here.")
    return dict(was)


def _body(form: PageForm) -> dict[str, Any]:
    """A form as the API takes it: a place that is not chosen is none, and an empty text is a text."""
    places = {name: to or None for name, to in form.vars.items() if name.endswith("entity_id")}
    return {name: "" if to is None else to for name, to in form.vars.items()} | places


def _said(seat: Seat, fleet: FleetAPI, kind: str, was: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it would say at the moment, by channel."""
    body = {name: was[name] for name in ("message", "entity_id")}
    answer = fleet.ask(seat, "bot", "POST", f"{_path(seat, kind)}/preview", body)
    if kind == "notice":
        return [(was["entity_id"], answer["text"])]
    return [(each["entity_id"], each["message"]) for each in answer["texts"]]


def _timer_fields(places: Places, was: Mapping[str, Any]) -> list[Field]:
    return [
        Field("name", label="Name", default=was["name"], requires=IS_NOT_EMPTY("Give it a name of one word.")),
        Field(
            "message",
            "text",
            label="What is said",
            default=was["message"],
            requires=IS_NOT_EMPTY("Write what is said."),
            comment="Filled in: {channel} {title} {game} {uptime} {viewers} {count} {random:a|b} {time:Europe/Berlin}.",
        ),
        Field(
            "minutes",
            "integer",
            label="Every so many minutes",
            default=was["minutes"],
            requires=IS_INT_IN_RANGE(1, 1441, error_message="A number from 1 to 1440."),
        ),
        Field(
            "min_lines",
            "integer",
            label="After so many lines",
            default=was["min_lines"],
            requires=IS_INT_IN_RANGE(0, 1001, error_message="A number from 0 to 1000."),
        ),
        Field("only_live", "boolean", label="Only while live", default=was["only_live"]),
        _place_field("entity_id", "Where", places, was),
    ]


def _notice_fields(places: Places, was: Mapping[str, Any]) -> list[Field]:
    # Who is in the stream's own channel sees that it is on, and a stream is on Twitch.
    streams = [each for each in places if each[0].startswith("twitch:")]
    others = [each for each in places if each[0] and each not in streams]
    return [
        _place_field("entity_id", "Tell it in", others, was, zero="Choose one"),
        _place_field("stream_entity_id", "Of which stream", [("", "Any of the community's"), *streams], was),
        Field(
            "message",
            "text",
            label="When it begins",
            default=was["message"],
            requires=IS_NOT_EMPTY("Write what is said."),
            comment="Filled in: {channel} {title} {game} {url} {picture} {viewers} {uptime}.",
        ),
        Field("end_message", "text", label="When it ends", default=was["end_message"], comment="Empty says nothing."),
    ]


def _place_field(name: str, label: str, places: Places, was: Mapping[str, Any], *, zero: str | None = None) -> Field:
    chosen = was[name] or ""
    # One that is gone meanwhile is still what was chosen.
    gone = [(chosen, chosen)] if chosen and chosen not in dict(places) else []
    return Field(name, label=label, default=chosen, requires=IS_IN_SET([*places, *gone], zero=zero))
