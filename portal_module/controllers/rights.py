"""Rights: who else looks after a community, and inviting them."""

from __future__ import annotations

from typing import Any

from py4web import request
from pydal.validators import IS_IN_SET, IS_NOT_EMPTY
from waddlebot.base.errors import Invalid, UpstreamError, UserError
from waddlebot.data.database import Database
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import Site, go_to, page

from ..services.fleet_api import FleetAPI
from ..services.invitations import AREA_WORDS, RIGHT_WORDS, Invitations
from ..services.links import LinkOver, read_address
from ..services.naming import number_of
from ..services.seats import Seats
from .parts import Buttons, acting_for, check_act, value

SURE = "hand over"
SUBJECT = "You are invited to look after {community}"
BODY = """Hello,

{who} invites you to help run {community} with WaddleBot. Open this once, within a week:

{link}

If you do not know what this is about, do nothing.
"""


@page("GET POST", "/portal/c/<community>/rights", "rights.html")
def show_rights(
    community: str, login: Login, session: PageSession, seats: Seats, invitations: Invitations, site: Site
) -> Any:
    """Who has which right here, and a new invitation."""
    seat = seats.take(login, community, "settings", "owner")
    fields = [
        Field("email", label="E-mail address", requires=IS_NOT_EMPTY("Type an address in.")),
        Field("held", label="Right", default="editor", requires=IS_IN_SET(list(RIGHT_WORDS.items()), zero=None)),
        Field("area", label="For", default="*", requires=IS_IN_SET(list(AREA_WORDS.items()), zero=None)),
    ]
    form = PageForm(fields, session, form_name="invitation", submit_value="Invite")
    link, was_sent = "", False
    if form.accepted:
        try:
            email = read_address(form.vars["email"])
            with acting_for(login):
                token = invitations.invite(seat, email, held=form.vars["held"], area=form.vars["area"])
        except Invalid as err:
            form.refuse(email=err.message)
        else:
            link = f"{site.url}/portal/auth/invitation?token={token}"
            was_sent = _send(
                site, email, BODY.format(who=login.name, community=seat.place.name, link=link), seat.place.name
            )
    given, waiting = invitations.list_for(seat.community_id)
    return seat.shown(
        "Rights",
        form=form,
        invitation="" if was_sent else link,
        was_sent=was_sent,
        given=given,
        waiting=waiting,
        areas=AREA_WORDS,
        rights=RIGHT_WORDS,
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/rights/take")
def take_right(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, invitations: Invitations
) -> Any:
    """Take a right away, or an invitation back."""
    seat = seats.take(login, community, "settings", "owner")
    check_act(session)
    if handle := value("handle"):
        invitations.withdraw(seat, handle)
        flash.set("The invitation works no more.")
    else:
        with acting_for(login):
            invitations.take(seat, int(value("id") or 0) if value("id").isdigit() else 0, value("area"))
        flash.set("They have no right here any more, but for what their role says.")
    return go_to(f"{seat.path}/rights")


@page("POST", "/portal/c/<community>/rights/owner")
def hand_over(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Make somebody else the community's owner."""
    seat = seats.take(login, community, "settings", "owner")
    check_act(session)
    try:
        if value("sure").casefold() != SURE:
            raise UserError(f"Type “{SURE}”. Nothing was changed.")
        who = number_of(database, seat.community_id, value("who"))
        if not who.isdigit():
            raise UserError("Give their name here, or their number. Nothing was changed.")
        path = f"/router/communities/{seat.community_id}/owner"
        fleet.ask(seat, "settings", "PUT", path, {"user_id": int(who[:18])})
    except (UserError, UpstreamError) as err:
        flash.set(err.message, "bad")
        return go_to(f"{seat.path}/rights")
    flash.set(f"{seat.place.name} is theirs from now on.")
    # Whoever was the owner may see less from here on.
    return go_to(seat.path)


@page("GET POST", "/portal/auth/invitation", "signin.html")
def accept_invitation(login: Login, session: PageSession, flash: PageFlash, invitations: Invitations) -> Any:
    """Take up an invitation, as whoever is signed in."""
    token = request.query.get("token") or ""
    offered = invitations.find(token)
    if offered is None:
        raise LinkOver()
    form = PageForm([], session, form_name="invitation", submit_value="Take it up")
    if form.accepted:
        with acting_for(login):
            invitations.accept(token, login)
        flash.set(f"You help to run {offered.name} from now on.")
        return go_to(f"/portal/c/{offered.slug}")
    lead = f"{RIGHT_WORDS[offered.held]}: {AREA_WORDS.get(offered.area, offered.area).lower()}."
    return {"title": f"Look after {offered.name}", "form": form, "lead": lead, "forgot": ""}


def _send(site: Site, email: str, body: str, community: str) -> bool:
    """Whether it went out by mail; where it cannot the owner hands the link on."""
    if not site.mail.is_possible:
        return False
    try:
        return site.mail.send(email, SUBJECT.format(community=community), body)
    except UpstreamError:
        return False
