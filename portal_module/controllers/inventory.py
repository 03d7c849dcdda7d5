"""The inventory: what a community owns, and who has it."""

from __future__ import annotations

from typing import Any

from py4web import request
from pydal.validators import IS_NOT_EMPTY
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.seats import Seats
from .parts import Buttons, asked, check_act, refuse, value

ACTIONS = {"checkin": "It is back.", "delete": "It is gone. The audit log can bring it back.", "checkout": "Lent."}


@page("GET POST", "/portal/c/<community>/inventory", "inventory.html")
def show_inventory(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """What there is, and something more."""
    seat = seats.take(login, community, "bot", "editor" if request.method == "POST" else "viewer")
    text = asked("q")
    fields = [
        Field("item_name", label="What", requires=IS_NOT_EMPTY("Say what it is.")),
        Field("description", label="About it"),
        Field("labels", label="Labels", comment="With commas between."),
    ]
    form = PageForm(fields, session, form_name="item", submit_value="Add item")
    if form.accepted:
        labels = [each.strip() for each in (form.vars["labels"] or "").split(",") if each.strip()]
        body = {name: form.vars[name] or "" for name in ("item_name", "description")}
        try:
            fleet.ask(seat, "bot", "POST", "/inventory", {**body, "labels": labels, "action": "add", **_here(seat)})
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(f"“{body['item_name']}” is in the inventory.")
            return go_to(f"{seat.path}/inventory")
    query = {"action": "search", "query": text} if text else {"action": "list"}
    found = fleet.ask(seat, "bot", "GET", "/inventory", query={**query, **_here(seat), "limit": 500})
    return seat.shown(
        "Inventory", form=form, items=found["items"], total=found["total"], q=text, button=Buttons(session)
    )


@page("POST", "/portal/c/<community>/inventory/change")
def change_item(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Lend an item, take it back, or delete it."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    action = value("action") if value("action") in ACTIONS else "checkin"
    body = {"action": action, "item_name": value("item_name"), **_here(seat)}
    if action == "checkout":
        body["checked_out_to"] = value("to")
    try:
        fleet.ask(seat, "bot", "POST", "/inventory", body)
    except FleetRefused as err:
        flash.set(err.message, "bad")
    else:
        flash.set(ACTIONS[action])
    return go_to(f"{seat.path}/inventory")


def _here(seat: Any) -> dict[str, Any]:
    return {"community_id": seat.community_id}
