"""Groups: channels and servers in which labels bring roles."""

from __future__ import annotations

from typing import Any

from py4web import request
from pydal.validators import IS_IN_SET, IS_NOT_EMPTY
from waddlebot.base.manifest import Area
from waddlebot.data.database import Database
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import list_places
from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.seats import Seat, Seats
from .parts import Buttons, check_act, refuse, value

AREA: Area = "people"


@page("GET POST", "/portal/c/<community>/groups", "groups.html")
def list_groups(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """A community's groups, and a new one."""
    seat = seats.take(login, community, AREA, "editor" if request.method == "POST" else "viewer")
    form = PageForm([_name("")], session, form_name="group", submit_value="Make group")
    here = {"community_id": seat.community_id}
    if form.accepted:
        try:
            made = fleet.ask(seat, AREA, "POST", "/labels/groups", {"name": form.vars["name"], **here})["group"]
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(f"“{made['name']}” is made. Say now where it is, and what its labels bring.")
            return go_to(f"{seat.path}/groups/{made['id']}")
    groups = fleet.ask(seat, AREA, "GET", "/labels/groups", query={**here, "limit": 200})["groups"]
    return seat.shown("Groups", form=form, groups=groups, places=dict(_places(database, seat)))


@page("GET POST", "/portal/c/<community>/groups/<group:int>", "group.html")
def edit_group(
    community: str,
    group: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Where a group is, which label brings which role there, and who has not got theirs."""
    seat = seats.take(login, community, AREA, "editor")
    path = f"/labels/groups/{group}"
    was = fleet.ask(seat, AREA, "GET", path)["group"]
    here = {"community_id": seat.community_id}
    labels = fleet.ask(seat, AREA, "GET", "/labels", query={**here, "limit": 500})["labels"]
    places = _places(database, seat)
    form = PageForm([_name(was["name"])], session, form_name="group", submit_value="Save group")
    rule = PageForm(_rule_fields(was, labels, places), session, form_name="rule", submit_value="Add rule")
    if form.accepted or rule.accepted:
        body: dict[str, Any]
        if form.accepted:
            # What this page does not list stays.
            unseen = [each for each in was["entities"] if each not in dict(places)]
            ticked = [key for key, _ in places if value(f"in {key}")]
            body = {"name": form.vars["name"], "entities": [*unseen, *ticked]}
        else:
            body = {"rules": [*_rules(was), {name: rule.vars[name] for name in ("label", "entity_id", "role_id")}]}
        try:
            fleet.ask(seat, AREA, "PUT", path, body)
        except FleetRefused as err:
            refuse(form if form.accepted else rule, err)
        else:
            flash.set("Saved. Roles follow at once.")
            return go_to(f"{seat.path}/groups/{group}")
    roles = fleet.ask(seat, AREA, "GET", f"{path}/roles", query={"limit": 50})
    return seat.shown(
        was["name"],
        whole=was,
        form=form,
        rule=rule,
        places=places,
        names=dict(places),
        roles=roles["roles"],
        total=roles["total"],
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/groups/<group:int>/change")
def change_group(
    community: str, group: int, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Take a rule away, ask the platforms again for what they refused, or delete the group."""
    seat = seats.take(login, community, AREA, "editor")
    check_act(session)
    path = f"/labels/groups/{group}"
    if value("do") == "delete":
        fleet.ask(seat, AREA, "DELETE", path)
        flash.set("The group is gone, and the roles that it brought go too.")
        return go_to(f"{seat.path}/groups")
    if value("do") == "again":
        count = fleet.ask(seat, AREA, "POST", f"{path}/reconcile", {})["roles"]
        flash.set(f"The platforms are asked again for {count} role{'' if count == 1 else 's'}.")
    else:
        was = fleet.ask(seat, AREA, "GET", path)["group"]
        gone = tuple(value(name) for name in ("label", "entity_id", "role_id"))
        left = [each for each in _rules(was) if tuple(each.values()) != gone]
        fleet.ask(seat, AREA, "PUT", path, {"rules": left})
        flash.set("The rule is gone, and the roles that it brought go too.")
    return go_to(f"{seat.path}/groups/{group}")


def _places(database: Database, seat: Seat) -> list[tuple[str, str]]:
    return [each for each in list_places(database, seat.community_id) if each[0]]


def _name(was: str) -> Field:
    return Field("name", label="Name", default=was, requires=IS_NOT_EMPTY("Give it a name, such as Regulars."))


def _rules(group: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: each[name] for name in ("label", "entity_id", "role_id")} for each in group["rules"]]


def _rule_fields(group: dict[str, Any], labels: list[dict[str, Any]], places: list[tuple[str, str]]) -> list[Field]:
    here = [each for each in places if each[0] in group["entities"]]
    return [
        Field("label", label="Who has the label", requires=IS_IN_SET([each["label"] for each in labels], zero=None)),
        Field("entity_id", label="Has, here", requires=IS_IN_SET(here, zero=None)),
        Field(
            "role_id",
            label="The role",
            requires=IS_NOT_EMPTY("Say which role."),
            comment="vip or moderator on Twitch; a role's id on Discord; a user group's on Slack.",
        ),
    ]
