"""Keys of a community's own programs: made once, listed without themselves, ended at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydal.validators import IS_IN_SET, IS_NOT_EMPTY
from waddlebot.base.errors import UpstreamError
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import ago
from ..services.fleet_api import FleetAPI, FleetRefused, NotServed, quoted
from ..services.seats import Seat, Seats
from .parts import Buttons, check_act, refuse

LASTS = (("90", "In 90 days"), ("365", "In a year"), ("", "Never by itself"))


@page("GET POST", "/portal/c/<community>/keys", "keys.html")
def show_keys(community: str, login: Login, session: PageSession, seats: Seats, fleet: FleetAPI) -> Any:
    """A community's keys, and a new one."""
    seat = seats.take(login, community, "settings", "owner")
    fields = [
        Field(
            "name", label="What it is for", requires=IS_NOT_EMPTY("Say what it is for."), comment="Such as Stats site."
        ),
        Field("days", label="It ends", default="90", requires=IS_IN_SET(LASTS, zero=None)),
    ]
    form = PageForm(fields, session, form_name="key", submit_value="Make key")
    made = None
    if form.accepted:
        body: dict[str, Any] = {"name": form.vars["name"]}
        if form.vars["days"]:
            body["expires_at"] = datetime.now(UTC) + timedelta(days=int(form.vars["days"]))
        try:
            made = _make(seat, fleet, body)
        except FleetRefused as err:
            refuse(form, err)
        except UpstreamError as err:
            form.refuse(err.message)
    keys = fleet.ask(seat, "settings", "GET", _path(seat))["keys"]
    return seat.shown("API keys", form=form, keys=keys, made=made, when=_when, button=Buttons(session))


@page("POST", "/portal/c/<community>/keys/<key_id>/end")
def end_key(
    community: str, key_id: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """End a key at once."""
    seat = seats.take(login, community, "settings", "owner")
    check_act(session)
    fleet.ask(seat, "settings", "DELETE", f"{_path(seat)}/{quoted(key_id)}")
    flash.set("The key has ended. Nothing opens with it any more.")
    return go_to(f"{seat.path}/keys")


def _make(seat: Seat, fleet: FleetAPI, body: dict[str, Any]) -> dict[str, Any]:
    """A key that opens the gateway, too, where there is one. Raises: FleetRefused, UpstreamError: none is made."""
    made: dict[str, Any] = fleet.ask(seat, "settings", "POST", _path(seat), body)["key"]
    try:
        fleet.ask(seat, "settings", "POST", "/broker/programs", {"api_key": made["api_key"]})
    except NotServed:
        pass  # No broker, no gateway.
    except (FleetRefused, UpstreamError):
        fleet.ask(seat, "settings", "DELETE", f"{_path(seat)}/{quoted(made['id'])}")
        raise
    return made


def _path(seat: Seat) -> str:
    return f"/router/communities/{seat.community_id}/keys"


def _when(text: str | None) -> str:
    return ago(datetime.fromisoformat(text)) if text else "never"
