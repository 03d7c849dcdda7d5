"""What is said by itself, and filters all at once: timers, live notices, presets."""

from __future__ import annotations

from typing import Any

from py4web import Field, request
from pydal.validators import IS_IN_SET, IS_INT_IN_RANGE, IS_NOT_EMPTY
from waddlebot.base.errors import UpstreamError, UserError
from waddlebot.data.database import Database
from waddlebot.web.forms import PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import list_places
from ..services.fleet_api import FleetAPI, FleetRefused, quoted
from ..services.seats import Seat, Seats
from .parts import Buttons, asked, check_act, refuse, value

MESSAGE = "{channel} is live: {title} ({game}) {url}"
END_MESSAGE = "{channel} is off again, after {uptime}."
KINDS = {"timer": "timers", "notice": "live-notices"}


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
    timer = PageForm(_timer_fields(places), session, form_name="timer", submit_value="Add timer")
    notice = PageForm(_notice_fields(places), session, form_name="notice", submit_value="Tell it there")
    if timer.accepted or notice.accepted:
        form, kind = (timer, "timer") if timer.accepted else (notice, "notice")
        body = {name: to for name, to in form.vars.items() if to not in (None, "") or name == "end_message"}
        try:
            made = fleet.ask(seat, "bot", "POST", _path(seat, kind), body)
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(" ".join(["Added.", *made["remarks"]]))
            return go_to(f"{seat.path}/timers")
    timers, notices = (fleet.begin(seat, "bot", _path(seat, kind)) for kind in KINDS)
    return seat.shown(
        "Timers",
        timer=timer,
        notice=notice,
        timers=timers()["timers"],
        notices=notices()["live_notices"],
        names=dict(places),
        button=Buttons(session),
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


def _timer_fields(places: list[tuple[str, str]]) -> list[Field]:
    return [
        Field("name", label="Name", requires=IS_NOT_EMPTY("Give it a name of one word.")),
        Field(
            "message",
            "text",
            label="What is said",
            requires=IS_NOT_EMPTY("Write what is said."),
            comment="Filled in: {channel} {title} {game} {uptime} {viewers} {count} {random:a|b} {time:Europe/Berlin}.",
        ),
        Field("minutes", "integer", label="Every so many minutes", default=30, requires=IS_INT_IN_RANGE(1, 1441)),
        Field("min_lines", "integer", label="After so many lines", default=5, requires=IS_INT_IN_RANGE(0, 1001)),
        Field("only_live", "boolean", label="Only while live", default=True),
        Field(
            "entity_id",
            label="Where",
            default="",
            requires=IS_IN_SET(places, zero=None),
        ),
    ]


def _notice_fields(places: list[tuple[str, str]]) -> list[Field]:
    return [
        Field(
            "entity_id",
            label="Tell it in",
            # Who is in the stream's own channel sees that it is on.
            requires=IS_IN_SET(
                [each for each in places if each[0] and not each[0].startswith("twitch:")], zero="Choose one"
            ),
        ),
        Field("message", "text", label="When it begins", default=MESSAGE, requires=IS_NOT_EMPTY("Write what is said.")),
        Field("end_message", "text", label="When it ends", default=END_MESSAGE, comment="Empty says nothing."),
    ]
