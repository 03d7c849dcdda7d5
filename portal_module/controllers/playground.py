"""The playground, in which nothing counts, and the page of a message that did."""

from __future__ import annotations

from typing import Any

from py4web import request
from waddlebot.base.errors import UserError
from waddlebot.base.ids import new_id, parse_entity_id
from waddlebot.data.database import Database, fetch
from waddlebot.web.signin import Login
from waddlebot.web.site import page

from ..services.channels import list_places
from ..services.fleet_api import FleetAPI, quoted
from ..services.seats import Seat, Seats
from ..services.tracing import steps_of
from .parts import value

LEVELS = {
    "member": "Member",
    "subscriber": "Subscriber",
    "vip": "VIP",
    "moderator": "Moderator",
    "admin": "Admin",
    "owner": "Owner",
}
# What a platform calls who has that level in a channel; elsewhere, and where it has none, they are members.
BADGES = {
    "twitch": {"subscriber": "subscriber", "vip": "vip", "moderator": "moderator", "owner": "broadcaster"},
    "discord": {"subscriber": "premium", "moderator": "manage_messages", "admin": "administrator", "owner": "owner"},
    "slack": {"admin": "admin", "owner": "owner"},
    "console": {level: level for level in LEVELS},
}
MAX_SAID = 500
TRIES = ("!help", "!points", "!inventory list", "!leaderboard 3")


@page("GET", "/portal/c/<community>/playground", "playground.html")
def show_playground(community: str, login: Login, seats: Seats, database: Database) -> Any:
    """Type as anybody and see why the bot answers."""
    seat = seats.take(login, community, "bot", "editor")
    places = [each for each in list_places(database, seat.community_id) if each[0]]
    return seat.shown("Playground", places=places, levels=LEVELS, tries=TRIES, **_nothing())


@page("POST", "/portal/c/<community>/playground/say", "playground_result.html")
def say(community: str, login: Login, seats: Seats, fleet: FleetAPI, database: Database) -> Any:
    """What the bot would answer, and why. Nothing is kept: no points, limits or items."""
    seat = seats.take(login, community, "bot", "editor")
    level = value("level") if value("level") in LEVELS else "member"
    text = str(request.forms.get("text") or "")[:MAX_SAID]
    places = dict(list_places(database, seat.community_id))
    place = value("place") if value("place") in places else next((each for each in places if each), "")
    if not place or not text.strip():
        return {**_nothing(), "said": text, "by": LEVELS[level], "answers": []}
    try:
        return {**_simulate(seat, fleet, place, level, text), "said": text, "by": LEVELS[level]}
    except UserError as err:
        return {**_nothing(), "said": text, "by": LEVELS[level], "answers": [err.message]}


@page("GET", "/portal/c/<community>/messages/<session_id>", "message_page.html")
def show_message(
    community: str, session_id: str, login: Login, seats: Seats, fleet: FleetAPI, database: Database
) -> Any:
    """One message from its arrival to the pixel that showed it."""
    seat = seats.take(login, community, "bot")
    found = fleet.ask(seat, "bot", "GET", f"/router/explain/{quoted(session_id)}")
    with database.reading() as db:
        overlays = fetch(
            db,
            "SELECT source_type, state, created_at, shown_at, done_at FROM browser_source_history"
            " WHERE community_id = %s AND session_id = %s ORDER BY id",
            (seat.community_id, session_id),
        )
        who = fetch(db, "SELECT display_name FROM users WHERE id = %s", (found.get("user_id") or 0,))
        said = fetch(
            db,
            "SELECT response_data->>'message' AS message FROM outbox"
            " WHERE platform = %s AND event_id = %s AND response_action = 'chat' ORDER BY id",
            (found.get("platform"), found.get("event_id")),
        )
    return seat.shown(
        "Message",
        found=found,
        name=who[0]["display_name"] if who else "Somebody",
        said=[each["message"] for each in said],
        steps=steps_of(found, overlays),
    )


def _simulate(seat: Seat, fleet: FleetAPI, place: str, level: str, text: str) -> dict[str, Any]:
    entity = parse_entity_id(place)
    badge = BADGES.get(entity.platform, {}).get(level)
    event = {
        "event_id": new_id(),
        "message_type": "chatMessage",
        "platform": entity.platform,
        "server_id": entity.server_id,
        "channel_id": entity.channel_id,
        "user": {
            "platform_user_id": "waddlebot-playground",
            "name": "playground",
            "display_name": "Playground",
            "badges": [badge] if badge else [],
        },
        "message": text,
        "mode": "simulate",
    }
    answer = fleet.ask(seat, "bot", "POST", "/router/events", event)
    found = fleet.ask(seat, "bot", "GET", f"/router/explain/{quoted(answer['session_id'])}")
    shows = [show for each in found["executions"] for show in each.get("shows", [])]
    took = sum(each.get("execution_time_ms") or 0 for each in found["executions"])
    return {
        "answers": [
            each["response_data"]["message"] for each in answer["responses"] if each["response_action"] == "chat"
        ],
        "steps": steps_of(found),
        "total": f"{took:.0f} ms" if took else "",
        "ticker": next(
            (each["response_data"].get("text") for each in shows if each["response_action"] == "ticker"), ""
        ),
        "overlay": [_overlay(each) for each in shows if each["response_action"] in ("media", "general", "form")],
    }


def _overlay(show: dict[str, Any]) -> str:
    data = show["response_data"]
    words = [data.get(name) for name in ("title", "artist", "form_title", "text")]
    return " – ".join(str(each) for each in words if each) or f"something in {show['response_action']}"


def _nothing() -> dict[str, Any]:
    return {"answers": [], "steps": [], "total": "", "ticker": "", "overlay": [], "said": "", "by": ""}
