"""The marketplace: what there is, what a module may do, having it, and what people think of it."""

from __future__ import annotations

from typing import Any

from py4web import request
from pydal.validators import IS_IN_SET, IS_NOT_EMPTY
from waddlebot.data.database import Database, Prepared, fetch
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.fleet_api import FleetAPI, FleetRefused, quoted
from ..services.seats import Seat, Seats
from .parts import Buttons, asked, check_act, refuse, value

SORTS = (("popular", "Most used"), ("rating", "Best liked"), ("recent", "Newest"), ("name", "By name"))
PRICES = (("", "Any price"), ("free", "Free"), ("paid", "Paid"))
STARS = tuple((str(count), "★" * count + "☆" * (5 - count)) for count in (5, 4, 3, 2, 1))
REASONS = (
    ("broken", "It does not work"),
    ("malicious", "It does harm"),
    ("spam", "It is spam"),
    ("inappropriate", "It is not fit for here"),
    ("copyright", "It is somebody else's"),
    ("other", "Something else"),
)
INSTALLED = Prepared(
    "portal_installed",
    "SELECT module_id FROM module_installations WHERE community_id = %(community)s::bigint AND entity_id IS NULL",
)
PAGE = 24
MAX_PAGES = 10_000


@page("GET", "/portal/c/<community>/marketplace", "marketplace.html")
def browse(community: str, login: Login, seats: Seats, fleet: FleetAPI, database: Database) -> Any:
    """What there is, found by words and category, and what is installed here."""
    seat = seats.take(login, community, "bot")
    sort = asked("sort") if asked("sort") in dict(SORTS) else "popular"
    number = asked("page")
    at = min(int(number), MAX_PAGES) if number.isascii() and number.isdigit() and number.strip("0") else 1
    query = {
        "search": asked("q") or None,
        "category": asked("category") or None,
        "free": {"free": "true", "paid": "false"}.get(asked("price")),
        "sort": sort,
        "page": at,
        "per_page": PAGE,
        "community_id": seat.community_id,
    }
    browsed = fleet.begin(seat, "bot", "/marketplace/browse", query)
    sorted_by = fleet.begin(seat, "bot", "/marketplace/categories")
    with database.reading() as db:
        installed = {each["module_id"] for each in fetch(db, INSTALLED, {"community": seat.community_id})}
    found, categories = browsed(), sorted_by()["categories"]
    said = {name: asked(name) for name in ("q", "category", "price", "sort") if asked(name)}
    return seat.shown(
        "Marketplace",
        modules=found["modules"],
        total=found["total"],
        pages=found["pagination"],
        categories=[each for each in categories if each["module_count"]],
        installed=installed,
        said=said,
        sort=sort,
        sorts=SORTS,
        prices=PRICES,
    )


@page("GET POST", "/portal/c/<community>/marketplace/<module>", "market_module.html")
def show_module(
    community: str, module: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """A module's page: what it may do, its commands and versions, and a review of one's own."""
    seat = seats.take(login, community, "bot", "editor" if request.method == "POST" else "viewer")
    path = f"/marketplace/module/{quoted(module)}"
    found = fleet.ask(seat, "bot", "GET", path)
    form = PageForm(_review_fields(), session, form_name="review", submit_value="Save review")
    if form.accepted:
        body: dict[str, Any] = {"rating": int(form.vars["rating"]), "community_id": seat.community_id}
        body |= {name: form.vars[name] or "" for name in ("title", "review_text")}
        try:
            fleet.ask(seat, "bot", "POST", f"{path}/reviews", body)
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set("Your review is there. Another one takes its place.")
            return go_to(f"{seat.path}/marketplace/{module}")
    latest = next((each for each in found["versions"] if each["is_latest"]), None)
    return seat.shown(
        found["module"]["display_name"],
        module=found["module"],
        versions=found["versions"],
        commands=found["commands"],
        reviews=found["reviews"],
        installs=found["installation_count"],
        form=form,
        latest=latest,
        mine=_installed(seat, fleet).get(found["module"]["module_id"]),
        stars=stars,
        reasons=REASONS,
        button=Buttons(session),
    )


@page("GET", "/portal/c/<community>/marketplace/<module>/install", "market_plan.html")
def plan_installing(
    community: str, module: str, login: Login, session: PageSession, seats: Seats, fleet: FleetAPI
) -> Any:
    """What would change if a version were installed; nothing does yet."""
    seat = seats.take(login, community, "bot", "editor")
    found = fleet.ask(seat, "bot", "GET", f"/marketplace/module/{quoted(module)}")
    wanted = asked("version") or found["module"]["version"]
    version = next((each for each in found["versions"] if each["version"] == wanted), None) or found["versions"][0]
    mine = _installed(seat, fleet).get(found["module"]["module_id"])
    known = set(mine["asks"] or []) if mine else set()
    asks = list(zip(version["asks"], version["asks_in_words"], strict=False))
    return seat.shown(
        found["module"]["display_name"],
        module=found["module"],
        commands=found["commands"],
        version=version,
        mine=mine,
        asks=[words for _, words in asks],
        is_new={words for each, words in asks if mine and each not in known},
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/marketplace/<module>/install")
def install(
    community: str, module: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Install a version, or another one, as the plan said."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    body: dict[str, Any] = {"module_id": module, "community_id": seat.community_id, "version": value("version")}
    body |= {"consent": True} | ({"replaced_by": module} if value("replaces") else {})
    try:
        done = fleet.ask(seat, "bot", "POST", "/marketplace/install", body)
    except FleetRefused as err:
        flash.set(err.message, "bad")
        return go_to(f"{seat.path}/marketplace/{module}")
    flash.set(f"{done['message']} The next line of chat is answered by it.")
    return go_to(f"{seat.path}/marketplace/{module}")


@page("POST", "/portal/c/<community>/marketplace/<module>/change")
def change_module(
    community: str, module: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Turn a module on or off here, have it answer to `!` or not, or uninstall it."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    is_on = bool(value("on"))
    try:
        if value("do") == "uninstall":
            body: dict[str, Any] = {"module_id": module, "community_id": seat.community_id}
            fleet.ask(seat, "bot", "POST", "/marketplace/uninstall", body)
            flash.set(f"{module} is uninstalled, and what it remembered is gone.")
        elif value("do") == "both":
            path = f"/marketplace/entity/{seat.community_id}/toggle"
            fleet.ask(seat, "bot", "POST", path, {"module_id": module, "answers_to_both": is_on})
            flash.set(f"{module} answers to {'! and #' if is_on else '# alone'} from now on.")
        else:
            path = f"/marketplace/entity/{seat.community_id}/toggle"
            fleet.ask(seat, "bot", "POST", path, {"module_id": module, "enabled": is_on})
            flash.set(f"{module} is {'on' if is_on else 'off'} from now on.")
    except FleetRefused as err:
        flash.set(err.message, "bad")
    return go_to(f"{seat.path}/marketplace/{module}")


@page("POST", "/portal/c/<community>/marketplace/<module>/report")
def report(
    community: str, module: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Tell who runs the fleet that something is wrong with a module."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    body = {"reason": value("reason"), "details": value("details"), "community_id": seat.community_id}
    try:
        fleet.ask(seat, "bot", "POST", f"/marketplace/module/{quoted(module)}/reports", body)
    except FleetRefused as err:
        flash.set(err.message, "bad")
    else:
        flash.set("Thank you. Who runs this fleet will look at it.")
    return go_to(f"{seat.path}/marketplace/{module}")


def _installed(seat: Seat, fleet: FleetAPI) -> dict[str, dict[str, Any]]:
    listed = fleet.ask(seat, "bot", "GET", f"/marketplace/entity/{seat.community_id}/modules")["modules"]
    return {each["module_id"]: each for each in listed if each["kind"] == "community"}


def _review_fields() -> list[Field]:
    return [
        Field("rating", label="Stars", default="5", requires=IS_IN_SET(STARS, zero=None)),
        Field("title", label="In a word", requires=IS_NOT_EMPTY("Say it in a word.")),
        Field("review_text", "text", label="More about it"),
    ]


def stars(rating: float) -> str:
    """A rating as five stars, in characters."""
    full = round(rating)
    return "★" * full + "☆" * (5 - full)
