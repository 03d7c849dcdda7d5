"""Channels: where the bot is heard, how it is let in, and what it says unasked there."""

from __future__ import annotations

from typing import Any

from waddlebot.base.errors import UpstreamError, UserError
from waddlebot.data.database import Database, fetch
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import PLATFORM_NAMES, SHOWN, ConsentPages, list_channels
from ..services.fleet_api import FleetAPI, quoted
from ..services.seats import Seat, Seats
from .parts import Buttons, check_act, value


@page("GET", "/portal/c/<community>/channels", "channels.html")
def show_channels(
    community: str,
    login: Login,
    session: PageSession,
    seats: Seats,
    database: Database,
    consents: ConsentPages,
    fleet: FleetAPI,
) -> Any:
    """Every channel, with what is wrong there in words."""
    seat = seats.take(login, community, "channels")
    with database.reading() as db:
        channels = list_channels(db, seat.community_id)
        rows = fetch(
            db,
            "SELECT entity_id, config->>'announce' AS announce FROM module_switches"
            " WHERE community_id = %s AND module_name = 'router' AND entity_id IS NOT NULL",
            (seat.community_id,),
        )
        states = fetch(db, "SELECT platform, status FROM collector_modules WHERE platform IS NOT NULL")
    hears_twitch = any(each.platform == "twitch" for each in channels)
    said = {row["entity_id"]: row["announce"] for row in rows}
    announces = {each.entity_id: _announces(each.platform, said.get(each.entity_id)) for each in channels}
    unconfigured = {row["platform"] for row in states if row["status"] == "unconfigured"}
    return seat.shown(
        "Channels",
        channels=channels,
        announces=announces,
        missing=_missing_at_twitch(seat, fleet) if hears_twitch else {},
        connect=consents.urls,
        names=PLATFORM_NAMES,
        unconfigured=unconfigured,
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/channels/announce")
def set_announce(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Say whether announcements are said in a channel."""
    seat = seats.take(login, community, "channels", "editor")
    seat.check("bot", "editor")
    check_act(session)
    entity, is_on = value("entity_id"), bool(value("on"))
    path = f"/router/entities/{quoted(entity)}/modules"
    modules = fleet.ask(seat, "bot", "GET", path)["modules"]
    was = next((each["config"] for each in modules if each["module_name"] == "router"), None) or {}
    fleet.ask(seat, "bot", "PUT", f"{path}/router", {"config": {**was, "announce": is_on}})
    flash.set("Announcements are said there from now on." if is_on else "No announcements there any more.")
    return go_to(f"{seat.path}/channels")


def _missing_at_twitch(seat: Seat, fleet: FleetAPI) -> dict[str, list[str]]:
    """By channel, what the bot cannot do there, as the collector says it; nothing while it does not answer."""
    try:
        listed = fleet.ask(seat, "channels", "GET", "/twitch/api/channels", query={"limit": SHOWN})["channels"]
    except (UserError, UpstreamError):
        return {}
    return {f"twitch::{each['broadcaster_id']}": each["missing"] for each in listed}


def _announces(platform: str, said: str | None) -> bool:
    return platform in ("twitch", "console") if said is None else said == "true"
