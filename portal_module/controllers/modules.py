"""Modules: on or off at once, and their settings as a form made from what their manifest says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydal.validators import IS_EMPTY_OR, IS_FLOAT_IN_RANGE, IS_IN_SET, IS_INT_IN_RANGE
from waddlebot.base.errors import NotFound
from waddlebot.base.module_settings import HIDDEN
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.commands import title_of
from ..services.fleet_api import FleetAPI, FleetRefused, quoted
from ..services.seats import Seat, Seats
from .parts import Buttons, check_act, refuse, value

ROUTER = "router"
DECIDED = {"entity": "in this channel", "community": "by you", "default": "as it comes"}


@page("GET", "/portal/c/<community>/modules", "modules.html")
def list_modules(community: str, login: Login, session: PageSession, seats: Seats, fleet: FleetAPI) -> Any:
    """Every module here, and whether it is on."""
    seat = seats.take(login, community, "bot")
    path = f"/router/communities/{seat.community_id}/modules"
    found = fleet.ask(seat, "bot", "GET", path, query={"brief": "true"})["modules"]
    modules = [each for each in found if each["module_name"] != ROUTER]
    return seat.shown("Modules", modules=modules, title_of=title_of, decided=DECIDED, button=Buttons(session))


@page("POST", "/portal/c/<community>/modules/<name>/switch")
def switch_module(
    community: str, name: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Turn a module on or off."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    is_on = bool(value("on"))
    fleet.ask(seat, "bot", "PUT", path_of(seat, name), {"enabled": is_on})
    flash.set(f"{title_of(name)} is {'on' if is_on else 'off'} from now on.")
    return go_to(f"{seat.path}/modules")


@page("GET POST", "/portal/c/<community>/modules/<name>", "form.html")
def edit_module(
    community: str, name: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """A module's settings; those of the bot itself are the router's."""
    seat = seats.take(login, community, "bot", "editor")
    module = begin_module(seat, fleet, name)()
    if module is None or not module["settings"]:
        raise NotFound("There is no such module here, or nothing to set for it.")
    specs = module["settings"]
    form = PageForm([field_of(each) for each in specs], session, form_name="settings", submit_value="Save settings")
    if form.accepted:
        config = {each["name"]: set_to for each in specs if (set_to := value_of(each, form.vars)) is not None}
        try:
            fleet.ask(seat, "bot", "PUT", path_of(seat, name), {"config": config})
        except FleetRefused as err:
            refuse(form, err, **{f"config_{each['name']}": each["name"] for each in specs})
        else:
            flash.set("Settings saved. They count from now on.")
            return go_to(f"{seat.path}/modules" if name != ROUTER else f"{seat.path}/modules/{ROUTER}")
    title = "Settings" if name == ROUTER else title_of(name)
    crumb = None if name == ROUTER else ("Modules", f"{seat.path}/modules")
    return seat.shown(title, form=form, crumb=crumb, lead="What is left empty is as it comes.")


def begin_module(seat: Seat, fleet: FleetAPI, name: str) -> Callable[[], dict[str, Any] | None]:
    """Begin to read a module with its settings; what is returned waits for it, and is none where there is no such."""
    answer = fleet.begin(seat, "bot", f"/router/communities/{seat.community_id}/modules", {"module": name})
    return lambda: next(iter(answer()["modules"]), None)


def path_of(seat: Seat, name: str) -> str:
    return f"/router/communities/{seat.community_id}/modules/{quoted(name)}"


def field_of(spec: dict[str, Any]) -> Field:
    """A setting as a row of the form; whatever the module itself knows of a value it says when it is saved."""
    shown, hint = spec["value"], spec["description"]
    label = spec["name"].replace("_", " ").capitalize()
    low, high = spec["min"], spec["max"]
    match spec["type"]:
        case "bool" if spec["default"] is not None:
            return Field(spec["name"], "boolean", label=label, comment=hint, default=shown)
        case "bool":
            choices = [("", "As it comes"), ("yes", "Yes"), ("no", "No")]
            now = {True: "yes", False: "no"}.get(shown, "")
            return Field(spec["name"], label=label, comment=hint, default=now, requires=IS_IN_SET(choices, zero=None))
        case "int":
            bounds = IS_EMPTY_OR(IS_INT_IN_RANGE(low, None if high is None else high + 1))
            return Field(spec["name"], "integer", label=label, comment=hint, default=shown, requires=bounds)
        case "float":
            bounds = IS_EMPTY_OR(IS_FLOAT_IN_RANGE(low, high))
            return Field(spec["name"], "double", label=label, comment=hint, default=shown, requires=bounds)
        case "choice":
            chosen = IS_IN_SET([(each, each) for each in spec["choices"]], zero=None)
            return Field(spec["name"], label=label, comment=hint, default=shown, requires=chosen)
        case "list":
            lines = "\n".join(shown or [])
            return Field(spec["name"], "text", label=label, comment=f"{hint}. One in a line.", default=lines)
        case "map":
            lines = "\n".join(f"{name} {number:g}" for name, number in (shown or {}).items())
            return Field(spec["name"], "text", label=label, comment=f"{hint}. One in a line: follow 10", default=lines)
        case "secret":
            return Field(
                spec["name"], "password", label=label, comment=f"{hint}. It is not shown again.", default=shown
            )
    return Field(spec["name"], "text" if (high or 0) > 200 else "string", label=label, comment=hint, default=shown)


def value_of(spec: dict[str, Any], form: dict[str, Any]) -> Any:
    """What the form says, as the module takes it; None leaves it out, so that the default holds."""
    said = form.get(spec["name"])
    match spec["type"]:
        case "bool" if spec["default"] is not None:
            return bool(said)
        case "bool":
            return {"yes": True, "no": False}.get(str(said or ""))
        case "list":
            return [line.strip() for line in str(said or "").splitlines() if line.strip()] or None
        case "map":
            return _numbers(str(said or ""))
        case "secret":
            return said or HIDDEN
    return None if said in (None, "") else said


def _numbers(text: str) -> dict[str, Any]:
    """Lines of a name and a number; what is none is left for the module to refuse."""
    found: dict[str, Any] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, number = line.replace("=", " ").replace(":", " ").rpartition(" ")
        try:
            found[name.strip() or line] = float(number)
        except ValueError:
            found[name.strip() or line] = number
    return found
