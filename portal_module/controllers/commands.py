"""Commands and aliases: who may, how often, where not; and names of a community's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydal.validators import IS_EMPTY_OR, IS_IN_SET, IS_INT_IN_RANGE, IS_NOT_EMPTY
from waddlebot.base.contracts import Level
from waddlebot.base.errors import NotFound
from waddlebot.base.terms import EVENT_LABELS, USUAL
from waddlebot.base.terms import NAMES as TERMS
from waddlebot.data.database import Database, Prepared, fetch, fetch_one
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import list_places
from ..services.commands import list_aliases, list_commands
from ..services.fleet_api import FleetAPI, FleetRefused, quoted
from ..services.seats import Seats
from .parts import Buttons, asked, check_act, refuse, value

LEVELS = {
    Level.MEMBER: "Everybody",
    Level.SUBSCRIBER: "Subscribers and above",
    Level.VIP: "VIPs and above",
    Level.MODERATOR: "Moderators and above",
    Level.ADMIN: "Admins and above",
    Level.OWNER: "Owners",
}
HEARS_EVENTS = Prepared(
    "portal_hears_events",
    "SELECT 1 AS it FROM commands WHERE is_active AND prefix || command = %(command)s::text"
    " AND trigger_type <> 'command' LIMIT 1",
)
SUBJECTS = "One in a line: role:vip, label:regular, twitch:12826, or a member's number as user:12."


@page("GET", "/portal/c/<community>/commands", "commands.html")
def show_commands(community: str, login: Login, session: PageSession, seats: Seats, database: Database) -> Any:
    """Every command here, and every alias."""
    seat = seats.take(login, community, "bot")
    text = asked("q")
    with database.reading() as db:
        modules = list_commands(db, seat.community_id, text=text)
        aliases = list_aliases(db, seat.community_id, text=text)
    return seat.shown("Commands", modules=modules, aliases=aliases, q=text, quoted=quoted, button=Buttons(session))


@page("POST", "/portal/c/<community>/commands/switch")
def switch_command(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Turn a command on or off, and leave what else is set for it as it is."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    path, command, is_on = f"/router/communities/{seat.community_id}/permissions", value("command"), bool(value("on"))
    known = fleet.ask(seat, "bot", "GET", path)["permissions"]
    was = next((each for each in known if each["command"] == command and not each["entity_id"]), None) or {}
    body = {"command": command, **{name: was[name] for name in ("permissions", "config") if name in was}}
    fleet.ask(seat, "bot", "PUT", path, {**body, "is_enabled": is_on})
    flash.set(f"{command} is {'on' if is_on else 'off'} from now on.")
    return go_to(f"{seat.path}/commands")


@page("GET POST", "/portal/c/<community>/commands/edit", "form.html")
def edit_command(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Say who may use a command and how often, everywhere or in one channel."""
    seat = seats.take(login, community, "bot", "editor")
    command, place = asked("command"), asked("place")
    places = list_places(database, seat.community_id)
    if place not in dict(places):
        raise NotFound("That is not a channel of this community.")
    path = f"/router/{f'entities/{quoted(place)}' if place else f'communities/{seat.community_id}'}/permissions"
    known = fleet.ask(seat, "bot", "GET", path)["permissions"]
    was = next((each for each in known if each["command"] == command and (each["entity_id"] or "") == place), None)
    with database.reading() as db:
        hears = bool(fetch(db, HEARS_EVENTS, {"command": command}))
    fields = _permission_fields(was or {}, hears_events=hears)
    form = PageForm(fields, session, form_name="permission", submit_value="Save command")
    if form.accepted:
        try:
            fleet.ask(seat, "bot", "PUT", path, {"command": command, **_permission(form)})
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(f"{command} saved. It counts from now on.")
            return go_to(f"{seat.path}/commands")
    where = dict(places)[place]
    lead = f"What holds for {command} {'everywhere' if not place else f'in {where}'}."
    return seat.shown(command, form=form, lead=lead, crumb=("Commands", f"{seat.path}/commands"))


@page("GET POST", "/portal/c/<community>/commands/aliases/new", "form.html")
def add_alias(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Make a name for a command or a text."""
    seat = seats.take(login, community, "bot", "editor")
    form = PageForm(
        _alias_fields(list_places(database, seat.community_id), {}),
        session,
        form_name="alias",
        submit_value="Add alias",
    )
    if form.accepted:
        body = {**_alias(form), "community_id": seat.community_id}
        body |= {"entity_id": form.vars["entity_id"]} if form.vars["entity_id"] else {}
        try:
            made = fleet.ask(seat, "bot", "POST", "/alias/create", body)
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(" ".join([f"{made['alias']['prefix']}{made['alias']['alias']} works now.", *made["remarks"]]))
            return go_to(f"{seat.path}/commands")
    return seat.shown("New alias", form=form, crumb=("Commands", f"{seat.path}/commands"))


@page("GET POST", "/portal/c/<community>/commands/aliases/<alias:int>", "form.html")
def edit_alias(
    community: str,
    alias: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Let an alias stand for something else, or switch it off."""
    seat = seats.take(login, community, "bot", "editor")
    with database.reading() as db:
        row = fetch_one(
            db,
            f"SELECT id, prefix || alias AS alias, command, entity_id, is_active, {', '.join(TERMS)}"
            " FROM alias_commands WHERE id = %s AND community_id = %s",
            (alias, seat.community_id),
        )
    if row is None:
        raise NotFound("There is no such alias here.")
    form = PageForm(_alias_fields([], row), session, form_name="alias", submit_value="Save alias")
    if form.accepted:
        body = {**_alias(form), "alias_id": alias, "is_active": form.vars["is_active"]}
        try:
            fleet.ask(seat, "bot", "PUT", "/alias/update", body)
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set(f"{body['alias']} saved. It counts from now on.")
            return go_to(f"{seat.path}/commands")
    remove = Buttons(session)(f"{seat.path}/commands/aliases/{alias}/remove", "Remove alias", kind="danger")
    return seat.shown(
        row["alias"],
        form=form,
        crumb=("Commands", f"{seat.path}/commands"),
        danger=("Remove it", "The name means nothing any more. You can undo this in the audit log.", remove),
    )


@page("POST", "/portal/c/<community>/commands/aliases/<alias:int>/remove")
def remove_alias(
    community: str, alias: int, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Remove an alias."""
    seat = seats.take(login, community, "bot", "editor")
    check_act(session)
    query = {"alias_id": alias, "community_id": seat.community_id}
    gone = fleet.ask(seat, "bot", "DELETE", "/alias/delete", query=query)["alias"]
    flash.set(f"{gone['prefix']}{gone['alias']} is gone. The audit log can bring it back.")
    return go_to(f"{seat.path}/commands")


def _alias_fields(places: list[tuple[str, str]], row: dict[str, Any]) -> list[Field]:
    fields = [
        Field(
            "alias",
            label="Name",
            default=row.get("alias"),
            requires=IS_NOT_EMPTY("Give it a name, such as !hello."),
            comment="With ! or # in front; without either it gets a !.",
        ),
        Field(
            "command",
            "text",
            label="Stands for",
            default=row.get("command"),
            requires=IS_NOT_EMPTY("Write a command, or a text to say."),
            comment="A command such as !inventory status {args}, or a text to say. {user} is who calls, {arg1} their"
            " first word, {args} all of them.",
        ),
    ]
    if places:
        fields.append(Field("entity_id", label="Where", default="", requires=IS_IN_SET(places, zero=None)))
    terms = {**USUAL, **row}
    fields += _term_fields({**terms, "cooldown_exempt": terms["cooldown_exempt"] or "nobody"}, unset=())
    if not places:
        fields.append(Field("is_active", "boolean", label="It is on", default=row.get("is_active", True)))
    return fields


def _alias(form: PageForm) -> dict[str, Any]:
    """What an alias is called, stands for, and who may use it when, as its API takes it."""
    terms = {name: form.vars[name] for name in TERMS}
    terms |= {name: terms[name] or 0 for name in ("cooldown_s", "cooldown_person_s")}
    terms |= {name: None for name, nothing in (("cooldown_exempt", "nobody"), ("label", "")) if terms[name] == nothing}
    return {"alias": form.vars["alias"], "command": form.vars["command"], **terms}


def _permission_fields(was: dict[str, Any], *, hears_events: bool) -> list[Field]:
    limits, subjects = was.get("config") or {}, was.get("permissions") or {}
    limit = IS_EMPTY_OR(IS_INT_IN_RANGE(0, 100_001, error_message="Between 0 and 100,000; 0 is no limit."))
    states = [("", "As its module"), ("on", "On"), ("off", "Off")]
    state = {None: "", True: "on", False: "off"}[was.get("is_enabled")]
    of_events = Field(
        EVENT_LABELS,
        label="By itself only for the labels",
        default=", ".join(limits.get(EVENT_LABELS) or ()),
        comment="Whoever follows, raids or subscribes has to have one of them; with commas between.",
    )
    return [
        Field("state", label="It is", default=state, requires=IS_IN_SET(states, zero=None)),
        Field("allow", "text", label="Also allowed", default="\n".join(subjects.get("allow", [])), comment=SUBJECTS),
        Field("deny", "text", label="Never allowed", default="\n".join(subjects.get("deny", [])), comment=SUBJECTS),
        Field(
            "user_rate_limit",
            "integer",
            label="Uses a minute, each person",
            default=limits.get("user_rate_limit"),
            requires=limit,
        ),
        Field(
            "rate_limit",
            "integer",
            label="Uses a minute, all together",
            default=limits.get("rate_limit"),
            requires=limit,
        ),
        *_term_fields(limits),
        *([of_events] if hears_events else ()),
    ]


def _term_fields(terms: Mapping[str, Any], *, unset: Sequence[tuple[str, str]] = (("", "As usual"),)) -> list[Field]:
    """Who may use it when, and how long it rests then; `unset` is what a level may be that is not said."""
    rest = IS_EMPTY_OR(IS_INT_IN_RANGE(0, 86_401, error_message="Between 0 and 86,400 seconds; 0 is none."))
    levels = [*unset, *((level.label, LEVELS[level]) for level in Level)]
    exempt = [*levels, ("nobody", "Nobody")]
    return [
        Field("cooldown_s", "integer", label="Rests for all, seconds", default=terms.get("cooldown_s"), requires=rest),
        Field(
            "cooldown_person_s",
            "integer",
            label="Rests for each person, seconds",
            default=terms.get("cooldown_person_s"),
            requires=rest,
        ),
        Field(
            "cooldown_exempt",
            label="Never rests for",
            default=terms.get("cooldown_exempt", ""),
            requires=IS_IN_SET(exempt, zero=None),
        ),
        Field("level", label="Lowest level", default=terms.get("level", ""), requires=IS_IN_SET(levels, zero=None)),
        Field("label", label="Only with the label", default=terms.get("label") or "", comment="And for moderators."),
        Field("only_live", "boolean", label="Only while live", default=terms.get("only_live", False)),
    ]


def _permission(form: PageForm) -> dict[str, Any]:
    lists = {name: [line.strip() for line in (form.vars[name] or "").splitlines() if line.strip()] for name in LISTS}
    limits = {name: form.vars[name] for name in LIMITS if form.vars[name] is not None}
    limits |= {name: form.vars[name] for name in TERMS if form.vars[name] not in (None, "", False)}
    labels = [each.strip() for each in (form.vars.get(EVENT_LABELS) or "").split(",") if each.strip()]
    limits |= {EVENT_LABELS: labels} if labels else {}
    state = {"on": True, "off": False}.get(form.vars["state"])
    return {"is_enabled": state, "permissions": lists, "config": limits}


LISTS, LIMITS = ("allow", "deny"), ("rate_limit", "user_rate_limit")
