"""Members: found, looked at across platforms, given roles and points, and moderated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

from py4web import request
from pydal.validators import IS_IN_SET, IS_INT_IN_RANGE, IS_NOT_EMPTY
from waddlebot.base.errors import NotFound, UpstreamError, UserError
from waddlebot.data.database import Database, fetch
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services import charts
from ..services.channels import ago
from ..services.charts import Series
from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.members import SHOWS, Show, find_member, list_members
from ..services.seats import Seat, Seats
from .parts import Buttons, asked, check_act, refuse, value

ROLES = ("member", "subscriber", "vip", "moderator", "admin", "owner")
DAYS = 30
ACTIONS = {"warn": "Warned", "timeout": "Timed out", "ban": "Banned", "unban": "Unbanned"}
TIMEOUT_S = 600


@page("GET", "/portal/c/<community>/members", "members.html")
def show_members(community: str, login: Login, seats: Seats, database: Database) -> Any:
    """Who is here."""
    seat = seats.take(login, community, "people")
    text, after = asked("q").lstrip("@")[:60], asked("after")
    show = cast(Show, asked("show") if asked("show") in get_args(Show) else "everyone")
    with database.lookup() as db:
        found = list_members(
            db,
            seat.community_id,
            text=text,
            show=show,
            after=int(after) if after.isascii() and after.isdigit() and len(after) < 19 else None,
        )
    return seat.shown("Members", found=found, q=text, show=show, shows=SHOWS, is_first=not after, ago=ago)


@page("GET POST", "/portal/c/<community>/members/<user_id:int>", "member.html")
def show_member(
    community: str,
    user_id: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """One member: identities, role, points and history."""
    seat = seats.take(login, community, "people", "editor" if request.method == "POST" else "viewer")
    with database.reading() as db:
        member = find_member(db, seat.community_id, user_id)
    if member is None:
        raise NotFound("There is no such member here.")
    role = PageForm(_role_field(member), session, form_name="role", submit_value="Give role")
    points = PageForm(POINT_FIELDS, session, form_name="points", submit_value="Correct points")
    if role.accepted or points.accepted:
        try:
            said = _give_role(seat, fleet, user_id, role) if role.accepted else _correct(seat, fleet, user_id, points)
        except FleetRefused as err:
            refuse(role if role.accepted else points, err)
        else:
            flash.set(said)
            return go_to(f"{seat.path}/members/{user_id}")
    return seat.shown(
        member["display_name"] or f"Member {user_id}",
        member=member,
        role=role,
        points=points,
        line=_line(member["points_by_day"]),
        ago=ago,
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/members/<user_id:int>/moderate")
def moderate(
    community: str,
    user_id: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Warn, time out or ban somebody on all of their platforms, in every channel of the community."""
    seat = seats.take(login, community, "people", "editor")
    check_act(session)
    action = value("action") if value("action") in ACTIONS else "warn"
    with database.reading() as db:
        member = find_member(db, seat.community_id, user_id)
        places = fetch(
            db,
            "SELECT entity_id, platform, server_id, channel_id FROM entities WHERE community_id = %s AND is_active",
            (seat.community_id,),
        )
    if member is None:
        raise NotFound("There is no such member here.")
    done, troubles = 0, []
    for path, body in _moderations(member["identities"], places, action, value("reason")):
        try:
            fleet.ask(seat, "people", "POST", path, body)
            done += 1
        except (UserError, UpstreamError) as err:
            troubles.append(f"{body.get('entity_id') or path.split('/')[1].capitalize()}: {err.message}")
    if not done and not troubles:
        flash.set("They have no account on a platform that the bot may do that on here.", "bad")
    elif troubles:
        flash.set(" ".join([f"{ACTIONS[action]} in {done} places; not everywhere.", *troubles[:2]]), "bad")
    else:
        flash.set(f"{ACTIONS[action]} in {done} place{'s' if done > 1 else ''}.")
    return go_to(f"{seat.path}/moderation" if value("of") == "log" else f"{seat.path}/members/{user_id}")


POINT_FIELDS = [
    Field(
        "points",
        "integer",
        label="Points more, or with − fewer",
        requires=IS_INT_IN_RANGE(-1_000_000, 1_000_001, error_message="A whole number, such as 50 or -50."),
    ),
    Field("reason", label="Why", requires=IS_NOT_EMPTY("Say why: it is in the audit log.")),
]


def _role_field(member: dict[str, Any]) -> list[Field]:
    names = [(each, "VIP" if each == "vip" else each.capitalize()) for each in ROLES]
    return [Field("role", label="Role", default=member["role"] or "member", requires=IS_IN_SET(names, zero=None))]


def _give_role(seat: Seat, fleet: FleetAPI, user_id: int, form: PageForm) -> str:
    body = {"community_id": seat.community_id, "assignments": [{"user_id": user_id, "role": form.vars["role"]}]}
    (result,) = fleet.ask(seat, "people", "POST", "/router/roles/assign", body)["results"]
    if not result["success"]:
        raise FleetRefused(result["error"]["message"], 422, result["error"]["code"], {"field": "role"})
    return f"They are {form.vars['role']} from now on."


def _correct(seat: Seat, fleet: FleetAPI, user_id: int, form: PageForm) -> str:
    path = f"/router/reputation/{seat.community_id}/{user_id}/corrections"
    body = {"points": form.vars["points"], "reason": form.vars["reason"]}
    made = fleet.ask(seat, "people", "POST", path, body)
    return f"They have {made['new_score']:,} points now."


def _moderations(
    identities: list[dict[str, Any]], places: list[dict[str, Any]], action: str, reason: str
) -> list[tuple[str, dict[str, Any]]]:
    """The calls of collectors that do it everywhere."""
    why = {"reason": reason} if reason else {}
    duration = {"duration_s": TIMEOUT_S} if action == "timeout" else {}
    calls: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for who in identities:
        for place in places:
            if place["platform"] != who["platform"]:
                continue
            person = who["platform_user_id"]
            if who["platform"] == "discord":
                body = {"guild_id": place["server_id"], "user_id": person}
                key = (place["server_id"], person)
            else:
                body = {"entity_id": place["entity_id"], "platform_user_id": person}
                key = (place["entity_id"], person)
            if who["platform"] in ("twitch", "discord", "slack"):
                calls[key] = (f"/{who['platform']}/api/moderation", {"action": action, **body, **duration, **why})
    return list(calls.values())


def _line(points: dict[Any, int]) -> Any:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    labels = [f"{day:%-d %b}" for day in days]
    return charts.lines(
        "Points a day, last 30 days", labels, [Series("Points", [max(0, points.get(day, 0)) for day in days])]
    )
