"""Shoutouts: what is said and when, for whom something of their own is set, and who was shouted out."""

from __future__ import annotations

from typing import Any

from py4web import request
from pydal.validators import IS_IN_SET, IS_NOT_EMPTY
from waddlebot.base.errors import NotFound, UpstreamError, UserError
from waddlebot.data.database import Database, Prepared, fetch
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import ago
from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.seats import Seats
from .modules import begin_module, field_of, path_of, value_of
from .parts import Buttons, asked, check_act, refuse, value

MODULE = "shoutout"
AUTO = (("default", "As for everybody"), ("always", "Always by itself"), ("never", "Never by itself"))
CAUSES = {"raid": "raided", "follow": "followed", "subscription": "subscribed", "command": "by hand"}
CAUSES |= {"api": "from the portal", "auto": "by itself"}
SHOWN, LATELY, DAYS = 100, 12, 30
NAMED = """
LEFT JOIN LATERAL (SELECT coalesce(nullif(i.display_name, ''), nullif(i.name, ''), i.platform_user_id) AS name
    FROM platform_identities i WHERE i.user_id = {} ORDER BY i.id LIMIT 1) AS {} ON true
"""
PEOPLE = Prepared(
    "portal_shoutout_people",
    f"""
SELECT p.own_id, who.name AS username, p.message, p.links, p.auto, count(*) OVER () AS total FROM shoutout_people p
{NAMED.format("p.own_id", "who")}
WHERE p.community_id = %(community)s::bigint AND (%(auto)s::text IS NULL OR p.auto = %(auto)s)
ORDER BY lower(who.name), p.id LIMIT %(shown)s::bigint
""",
)
PAST = Prepared(
    "portal_shoutouts",
    f"""
SELECT who.name AS username, h.cause, by.name AS by_name, h.game, h.created_at FROM shoutout_history h
{NAMED.format("h.own_id", "who")} {NAMED.format("h.by_id", "by")}
WHERE h.community_id = %(community)s::bigint ORDER BY h.id DESC LIMIT %(lately)s::bigint
""",
)
COUNT = Prepared(
    "portal_shoutout_count",
    "SELECT count(*) AS n FROM shoutout_history WHERE community_id = %(community)s::bigint"
    " AND created_at > now() - %(days)s::integer * interval '1 day'",
)


@page("GET POST", "/portal/c/<community>/shoutouts", "shoutouts.html")
def show_shoutouts(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """The settings, the list of people, and the past."""
    seat = seats.take(login, community, "bot", "editor" if request.method == "POST" else "viewer")
    found = begin_module(seat, fleet, MODULE)
    auto = asked("auto") if asked("auto") in dict(AUTO) else None
    values = {"community": seat.community_id, "auto": auto, "shown": SHOWN, "lately": LATELY, "days": DAYS}
    with database.reading() as db:
        people, past, (counted,) = (fetch(db, each, values) for each in (PEOPLE, PAST, COUNT))
    module = found()
    if module is None:
        raise NotFound("This fleet has no shoutouts at the moment.")
    specs, here = module["settings"], {"community_id": seat.community_id}
    settings = PageForm([field_of(each) for each in specs], session, form_name="settings", submit_value="Save settings")
    person = PageForm(_person_fields(), session, form_name="person", submit_value="Save person")
    if settings.accepted or person.accepted:
        try:
            if settings.accepted:
                config = {each["name"]: to for each in specs if (to := value_of(each, settings.vars)) is not None}
                fleet.ask(seat, "bot", "PUT", path_of(seat, MODULE), {"config": config})
            else:
                fleet.ask(seat, "bot", "POST", "/shoutout/settings", {**_person(person.vars), **here})
        except FleetRefused as err:
            names = {f"config_{each['name']}": each["name"] for each in specs}
            refuse(settings if settings.accepted else person, err, **names)
        except UpstreamError as err:
            person.refuse(err.message)
        else:
            flash.set("Saved. It counts from now on.")
            return go_to(f"{seat.path}/shoutouts")
    return seat.shown(
        "Shoutouts",
        settings=settings,
        person=person,
        module=module,
        people=people,
        total=people[0]["total"] if people else 0,
        auto=auto,
        autos=dict(AUTO),
        past=past,
        lately=counted["n"],
        days=DAYS,
        causes=CAUSES,
        ago=ago,
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/shoutouts/change")
def change_shoutouts(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Shout somebody out now, or forget what is set for them."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    body = {"user": value("user"), "community_id": seat.community_id}
    try:
        if value("do") == "clear":
            fleet.ask(seat, "bot", "POST", "/shoutout/settings", {**body, "clear": True})
            flash.set("Forgotten. The audit log can bring it back.")
        else:
            sent = fleet.ask(seat, "bot", "POST", "/shoutout/send", body)
            flash.set(f"Shouted out: {sent['message']}")
    except (UserError, UpstreamError) as err:
        flash.set(err.message, "bad")
    return go_to(f"{seat.path}/shoutouts")


def _person_fields() -> list[Field]:
    return [
        Field("user", label="Who", requires=IS_NOT_EMPTY("Say who it is for."), comment="Their name on Twitch."),
        Field("auto", label="By itself", default="default", requires=IS_IN_SET(AUTO, zero=None)),
        Field("message", label="What is said of them", comment="Empty says what is said of everybody."),
        Field("links", "text", label="Links", comment="One in a line."),
    ]


def _person(form: dict[str, Any]) -> dict[str, Any]:
    """The form as the API takes it; what was left empty stays as it is."""
    said: dict[str, Any] = {"user": form["user"], "auto": form["auto"]}
    if form["message"]:
        said["message"] = form["message"]
    if links := [line.strip() for line in str(form["links"] or "").splitlines() if line.strip()]:
        said["links"] = links
    return said
