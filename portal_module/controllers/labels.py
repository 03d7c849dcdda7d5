"""Labels: what there are and who has them, given and taken by name or for many at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from py4web import request
from pydal.validators import IS_MATCH, IS_NOT_EMPTY
from waddlebot.base.errors import UserError
from waddlebot.data.database import Database
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import ago
from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.naming import number_of
from ..services.seats import Seat, Seats
from .parts import Buttons, asked, check_act, refuse, value

MATCHES = (("all", "All of them"), ("any", "Any of them"), ("none", "None of them"))
LASTS = (("", "For good"), ("1", "For a day"), ("7", "For a week"), ("30", "For 30 days"))
ENDED = {"done": "good", "failed": "bad", "cancelled": "bad"}
NEW_COLOUR = "#5b38f0"
SHOWN = 50
JOBS = 5


@page("GET POST", "/portal/c/<community>/labels", "labels.html")
def show_labels(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """The labels of a community, who has some of them, and a label that is new or looks different."""
    seat = seats.take(login, community, "people", "editor" if request.method == "POST" else "viewer")
    here = {"community_id": seat.community_id}
    known = fleet.begin(seat, "people", "/labels", {**here, "limit": 500})
    begun = fleet.begin(seat, "people", "/labels/jobs", {**here, "limit": JOBS})
    names = known()
    labels = names["labels"]
    was: dict[str, Any] = next((each for each in labels if each["label"] == asked("edit")), {})
    form = PageForm(_fields(was), session, form_name="label", submit_value="Save label")
    if form.accepted:
        try:
            body = {name: form.vars[name] or "" for name in ("label", "colour", "description")}
            fleet.ask(seat, "people", "PUT", "/labels", {**body, **here})
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(f"“{body['label']}” is saved.")
            return go_to(f"{seat.path}/labels")
    return seat.shown(
        "Labels",
        form=form,
        labels=labels,
        names_counted_to=names["counted_to"],
        was=was,
        jobs=begun()["jobs"],
        ended=ENDED,
        lasts=LASTS,
        matches=MATCHES,
        who=asked("who"),
        ago=_ago,
        button=Buttons(session),
        **_search(seat, fleet),
    )


@page("POST", "/portal/c/<community>/labels/give")
def give_label(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Give somebody a label, or take it from them."""
    seat = seats.take(login, community, "people", "editor")
    check_act(session)
    takes = value("do") == "take"
    try:
        body = {
            "label": value("label"),
            "subject_type": "user",
            "subject_id": number_of(database, seat.community_id, value("who")),
            "community_id": seat.community_id,
        }
        if not takes:
            body["expires_at"] = _end()
        done = fleet.ask(seat, "people", "POST", "/labels/remove" if takes else "/labels/apply", body)
    except UserError as err:
        flash.set(err.message, "bad")
    else:
        flash.set(f"“{done['label']}” is {'taken' if takes else 'given' if done['changed'] else 'theirs already'}.")
    return go_to(seat.path + (value("then") if value("then").startswith("/labels?") else "/labels"))


@page("POST", "/portal/c/<community>/labels/jobs")
def label_many(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Give a label to, or take it from, everybody in a list or with so many points."""
    seat = seats.take(login, community, "people", "editor")
    check_act(session)
    takes = value("do") == "take"
    body: dict[str, Any] = {"label": value("label"), "action": "remove" if takes else "apply"}
    body |= {"community_id": seat.community_id}
    if value("points"):
        body["points_at_least"] = int(value("points")) if value("points").isdigit() else value("points")
    else:
        body["csv"] = value("people")
    if not takes:
        body["expires_at"] = _end()
    try:
        fleet.ask(seat, "people", "POST", "/labels/jobs", body)
    except FleetRefused as err:
        flash.set(err.message, "bad")
    else:
        flash.set("Begun. It goes on by itself.")
    return go_to(f"{seat.path}/labels")


@page("POST", "/portal/c/<community>/labels/jobs/<job:int>/cancel")
def cancel_job(
    community: str, job: int, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """End such a job; what it has done stays."""
    seat = seats.take(login, community, "people", "editor")
    check_act(session)
    try:
        fleet.ask(seat, "people", "DELETE", f"/labels/jobs/{job}")
    except FleetRefused as err:
        flash.set(err.message, "bad")
    else:
        flash.set("Ended. What it has done stays.")
    return go_to(f"{seat.path}/labels")


def _fields(was: dict[str, Any]) -> list[Field]:
    return [
        Field(
            "label", label="Label", default=was.get("label", ""), requires=IS_NOT_EMPTY("Give it a name, such as vip.")
        ),
        Field(
            "colour",
            label="Colour",
            default=was.get("colour") or NEW_COLOUR,
            requires=IS_MATCH("^#[0-9a-fA-F]{6}$", error_message="A colour, such as #5b38f0."),
            control={"_type": "color"},  # Chosen from a palette of the browser's own.
        ),
        Field("description", label="What it is for", default=was.get("description") or ""),
    ]


def _search(seat: Seat, fleet: FleetAPI) -> dict[str, Any]:
    """Who has the labels that the address asks for."""
    text, match = asked("labels"), asked("match")
    match = match if match in dict(MATCHES) else "all"
    found: dict[str, Any] = {"searched": text, "match": match, "people": [], "total": 0, "problem": ""}
    if not text:
        return found
    query = {"labels": text, "match": match, "community_id": seat.community_id, "limit": SHOWN}
    try:
        answer = fleet.ask(seat, "people", "GET", "/labels/search", query=query)
    except FleetRefused as err:
        return {**found, "problem": err.message}
    return {**found, "people": answer["subjects"], "total": answer["total"], "counted_to": answer["counted_to"]}


def _end() -> datetime | None:
    days = value("days")
    return datetime.now(UTC) + timedelta(days=int(days)) if days in dict(LASTS) and days else None


def _ago(text: str | None) -> str:
    return ago(datetime.fromisoformat(text)) if text else ""
