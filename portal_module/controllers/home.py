"""Where one comes in: a community's dashboard, and the communities that somebody has."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from py4web import request
from pydal import DAL
from waddlebot.data.database import Database, fetch
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services import charts
from ..services.channels import ago, list_channels
from ..services.charts import Series
from ..services.commands import title_of
from ..services.figures import PERIODS, FigureService, stats_of
from ..services.notices import Notices
from ..services.platform_roles import PlatformRoles
from ..services.seats import Seat, Seats

GLOBAL = "global"
TOP_COMMANDS = 6
UPTIME_DAYS = 30
TOLD_DAYS = 7
CHANNELS_SHOWN = 5
ALIVE = "SELECT module_name, last_heartbeat > now() - interval '90 s' AS is_alive FROM collector_modules"
# A day on which more than this part of a module's calls failed was a bad one.
BAD_PART = 0.25


@page("GET", "/portal")
def come_in(login: Login, seats: Seats) -> Any:
    """Lead to the community that somebody has, or to the list of them."""
    places = seats.places(login)
    own = [each for each in places if each.slug != GLOBAL]
    return go_to(own[0].path if len(own) == 1 else "/portal/communities")


@page("GET", "/portal/communities", "communities.html")
def choose_community(login: Login, seats: Seats, roles: PlatformRoles) -> Any:
    """The communities that somebody may look into, and those that signing in again would bring back."""
    places = seats.places(login)
    held = {each.slug for each in places}
    over = [each for each in roles.list_for(login.id, are_over=True) if each["slug"] not in held]
    return {"title": "Communities", "places": places, "over": over}


@page("GET", "/portal/c/<community>", "dashboard.html")
def show_dashboard(
    community: str, login: Login, seats: Seats, database: Database, figures: FigureService, notices: Notices
) -> Any:
    """What a community wants to see at a glance."""
    seat = seats.take(login, community)
    asked = request.query.get("days")
    days = int(asked) if asked in map(str, PERIODS) else 30
    seen = figures.glance(seat.community_id, days, lambda db: _look(db, figures, seat, days))
    with database.lookup() as db:
        channels = list_channels(db, seat.community_id, limit=CHANNELS_SHOWN)
        told = notices.newest(db, seat.community_id, limit=1, days=TOLD_DAYS) if seat.may("bot", "editor") else []
        alive = {each["module_name"]: each["is_alive"] for each in fetch(db, ALIVE)}
    return seat.shown(
        "Dashboard",
        **{name: value for name, value in seen.items() if name != "used"},
        told=told[0] if told else None,
        ago=ago,
        days=days,
        periods=PERIODS,
        channels=channels,
        deaf=[each for each in channels if each.state == "bad"],
        modules=[_module(each, alive) for each in seen["used"]],
    )


def _look(db: DAL, figures: FigureService, seat: Seat, days: int) -> dict[str, Any]:
    """What the figures of so many days show, and the modules that were used."""
    rows = figures.days(db, seat.community_id, days)
    asked = figures.commands(db, seat.community_id, days)
    newer = rows[days:]
    labels = [f"{row['day']:%-d %b}" for row in newer]
    first_day = newer[-min(days, len(newer))]["day"]
    top = Counter[str]()
    for each in asked:
        if each["day"] >= first_day:
            top[each["command"]] += each["calls"]
    return {
        "stats": stats_of(rows),
        "is_new": not any(row["messages"] for row in rows),
        "activity": charts.lines(
            f"Messages and people a day, last {days} days",
            labels,
            [
                Series("Messages", [row["messages"] for row in newer]),
                Series("People", [row["people"] for row in newer]),
            ],
        ),
        "speed": charts.lines(
            "Time to answer",
            labels,
            [
                Series("Half within", [row["half_ms"] or 0 for row in newer]),
                Series("95 % within", [row["most_ms"] or 0 for row in newer]),
            ],
            unit=" ms",
            labels_x=3,
        ),
        "top": charts.bars(top.most_common(TOP_COMMANDS), f"{seat.path}/commands") if top else "",
        "movers": figures.movers(db, seat.community_id, days),
        "hot": charts.heat(figures.week(db, seat.community_id, days)),
        "used": _used(asked, newer[-1]["day"]),
    }


def _used(asked: list[dict[str, Any]], today: Any) -> list[dict[str, Any]]:
    """The modules that were used here, busiest first: how they did on each of the last days."""
    calls, failures, total = Counter[tuple[str, int]](), Counter[tuple[str, int]](), Counter[str]()
    for each in asked:
        back = (today - each["day"]).days
        if back < UPTIME_DAYS:
            calls[each["module_name"], back] += each["calls"]
            failures[each["module_name"], back] += each["failures"]
            total[each["module_name"]] += each["calls"]
    shown = []
    for name, count in total.most_common(5):
        days = [_day(calls[name, back], failures[name, back]) for back in reversed(range(UPTIME_DAYS))]
        note = f"{count:,} call{'' if count == 1 else 's'}"
        shown.append({"module": name, "name": title_of(name), "note": note, "strip": charts.strip(days)})
    return shown


def _module(used: dict[str, Any], alive: dict[str, bool]) -> dict[str, Any]:
    is_well = used["module"] == "router" or alive.get(used["module"], False)
    return {**used, "is_well": is_well, "note": used["note"] if is_well else "not heard of for a while"}


def _day(calls: int, failures: int) -> Literal["", "n", "w", "b"]:
    if not calls:
        return "n"
    if not failures:
        return ""
    return "b" if failures / calls > BAD_PART else "w"
