"""The playground, in which nothing counts, and the page of a message that did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from py4web import request
from waddlebot.base.contracts import OVERLAY_SOURCES
from waddlebot.base.errors import UserError
from waddlebot.base.ids import new_id, parse_entity_id
from waddlebot.data.database import Database, fetch
from waddlebot.web.signin import Login
from waddlebot.web.site import page

from ..services.channels import list_places
from ..services.fleet_api import FleetAPI, quoted
from ..services.naming import NobodyMeant, number_of
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
LABELS = "SELECT name FROM labels WHERE community_id = %s ORDER BY name LIMIT 100"
# Somebody as one platform knows them.
IDENTITY = """
SELECT i.platform_user_id, i.name, i.display_name FROM users me
JOIN users each ON coalesce(each.head_id, each.id) = coalesce(me.head_id, me.id)
JOIN platform_identities i ON i.user_id = each.id
WHERE me.id = %s AND i.platform = %s ORDER BY i.user_id <> me.id, i.id LIMIT 1
"""
NOBODY = {"platform_user_id": "waddlebot-playground", "name": "playground", "display_name": "Playground"}


@dataclass(frozen=True, slots=True)
class Tried:
    """What is said in the playground, where, and by whom: at a level, by name if one is given, with a label instead of
    their own ones if one is chosen."""

    place: str
    level: str
    text: str
    who: str = ""
    label: str = ""

    @property
    def by(self) -> str:
        words = [self.who.lstrip("@") or "", LEVELS.get(self.level, ""), self.label]
        return ", ".join(each for each in words if each) or LEVELS["member"]


@page("GET", "/portal/c/<community>/playground", "playground.html")
def show_playground(community: str, login: Login, seats: Seats, database: Database) -> Any:
    """Type as anybody and see why the bot answers."""
    seat = seats.take(login, community, "bot", "editor")
    return _shown(seat, database, Tried("", "member", ""), _nothing())


@page("POST", "/portal/c/<community>/playground/say", "playground.html")
def say(community: str, login: Login, seats: Seats, fleet: FleetAPI, database: Database) -> Any:
    """What the bot would answer, and why. Nothing is kept: no points, limits or items."""
    seat = seats.take(login, community, "bot", "editor")
    places = dict(list_places(database, seat.community_id))
    place = value("place") if value("place") in places else next((each for each in places if each), "")
    level = value("level") if value("level") in ("", *LEVELS) else "member"
    text = str(request.forms.get("text") or "")[:MAX_SAID]
    tried = Tried(place, level, text, value("who")[:100], value("label")[:100])
    if not place or not text.strip():
        return _shown(seat, database, tried, _nothing())
    try:
        result = _simulate(seat, fleet, database, tried)
    except UserError as err:
        result = {**_nothing(), "answers": [err.message]}
    return _shown(seat, database, tried, result)


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
        place=dict(list_places(database, seat.community_id)).get(found.get("entity_id", ""), ""),
        said=[each["message"] for each in said],
        steps=steps_of(found, overlays),
    )


def _shown(seat: Seat, database: Database, tried: Tried, result: dict[str, Any]) -> dict[str, Any]:
    places = [each for each in list_places(database, seat.community_id) if each[0]]
    with database.reading() as db:
        labels = [row["name"] for row in fetch(db, LABELS, (seat.community_id,))]
    return seat.shown("Playground", places=places, levels=LEVELS, labels=labels, tries=TRIES, tried=tried, **result)


def _simulate(seat: Seat, fleet: FleetAPI, database: Database, tried: Tried) -> dict[str, Any]:
    answer = fleet.ask(seat, "bot", "POST", "/router/events", _event(seat, database, tried))
    found = fleet.ask(seat, "bot", "GET", f"/router/explain/{quoted(answer['session_id'])}")
    shows = [show for each in found["executions"] for show in each.get("shows", [])]
    took = sum(each.get("execution_time_ms") or 0 for each in found["executions"])
    return {
        "answers": [
            each["response_data"]["message"] for each in answer["responses"] if each["response_action"] == "chat"
        ],
        "steps": steps_of(found),
        "total": f"{took:.0f} ms" if took else "",
        **_overlay(seat, fleet, shows),
    }


def _event(seat: Seat, database: Database, tried: Tried) -> dict[str, Any]:
    entity = parse_entity_id(tried.place)
    badge = BADGES.get(entity.platform, {}).get(tried.level)
    user = _find_user(database, seat, entity.platform, tried.who) if tried.who else NOBODY
    return {
        "event_id": new_id(),
        "message_type": "chatMessage",
        "platform": entity.platform,
        "server_id": entity.server_id,
        "channel_id": entity.channel_id,
        "user": {**user, "badges": [badge] if badge else []},
        "message": tried.text,
        "data": {"as_labels": [tried.label]} if tried.label else {},
        "mode": "simulate",
    }


def _find_user(database: Database, seat: Seat, platform: str, who: str) -> dict[str, Any]:
    """A member as a platform knows them. Raises: NobodyMeant."""
    number = number_of(database, seat.community_id, who)
    with database.lookup() as db:
        found = fetch(db, IDENTITY, (int(number), platform)) if number.isdigit() else []
    if not found:
        raise NobodyMeant(f"{who} has no account on {platform.title()}. Choose another channel.")
    return found[0]


def _overlay(seat: Seat, fleet: FleetAPI, shows: list[dict[str, Any]]) -> dict[str, Any]:
    """The overlay's own page and what it is to show, as far as somebody may see previews; else words."""
    shown = next((each for each in shows if each["response_action"] in OVERLAY_SOURCES), None)
    if shown is None:
        return {}
    action, data = shown["response_action"], shown["response_data"]
    words = [data.get(name) for name in ("title", "artist", "form_title", "text")]
    said = " – ".join(str(each) for each in words if each) or f"something in {action}"
    if not seat.may("overlays", "editor") or action == "form":
        return {"overlay": said}
    body = {"community_id": seat.community_id, "source_type": OVERLAY_SOURCES[action], "show": data}
    try:
        made = fleet.ask(seat, "overlays", "POST", "/browser/source/admin/preview", body)
    except UserError as err:
        return {"overlay": f"{said} ({err.message})"}
    return {"overlay": said, "preview": made["url"], "item": json.dumps(made["item"])}


def _nothing() -> dict[str, Any]:
    return {"answers": [], "steps": [], "total": ""}
