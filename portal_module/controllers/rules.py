"""String rules: what is looked for in chat, what is done about it, and what a rule would have done to last week."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from py4web import request
from pydal.validators import IS_EMPTY_OR, IS_IN_SET, IS_INT_IN_RANGE, IS_NOT_EMPTY
from waddlebot.base.errors import UserError
from waddlebot.data.database import Database
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services import charts
from ..services.channels import ago, list_places
from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.seats import Seat, Seats
from .parts import Buttons, check_act, refuse, value
from .rule_steps import read_steps, rows_of, step_fields

MATCHES = (
    ("contains", "Contains"),
    ("word", "As whole words"),
    ("exact", "Is exactly"),
    ("regex", "Regular expression"),
    ("*", "Any message"),
    ("caps", "Filter: capital letters"),
    ("links", "Filter: links, but for these"),
    ("symbols", "Filter: symbols"),
    ("emotes", "Filter: emotes"),
    ("length", "Filter: length"),
    ("repeats", "Filter: repeats"),
    ("mentions", "Filter: mentions"),
    ("zalgo", "Filter: stacked marks"),
)
FILTERS = {name for name, label in MATCHES if label.startswith("Filter")}
EXEMPT = (
    ("moderator", "Moderators and above"),
    ("", "Nobody"),
    ("subscriber", "Subscribers and above"),
    ("vip", "VIPs and above"),
    ("admin", "Admins and above"),
    ("owner", "Owners"),
)
ACTIONS = (
    ("warn", "Warn them"),
    ("block", "Delete the message"),
    ("command", "Run a command"),
    ("webhook", "Call a webhook"),
)
MATCH_WORDS, ACTION_WORDS = dict(MATCHES), dict(ACTIONS)
SAYS = {"warn": "warning_message", "block": "block_message"}
TRIED_LINES = 12
SAMPLE_LINES = "Hey chat, free followers here!\nI follow this channel for free\nBUY SUBS now"


@page("GET", "/portal/c/<community>/rules", "rules.html")
def list_rules(community: str, login: Login, session: PageSession, seats: Seats, fleet: FleetAPI) -> Any:
    """A community's rules, in the order in which they count."""
    seat = seats.take(login, community, "rules")
    query = {"community_id": seat.community_id, "limit": 1000}
    found = fleet.ask(seat, "rules", "GET", "/router/string-rules", query=query)["rules"]
    return seat.shown(
        "Rules",
        rules=found,
        name_of=name_of,
        filters=FILTERS,
        match_words=MATCH_WORDS,
        action_words=ACTION_WORDS,
        ago=_ago,
        button=Buttons(session),
    )


@page("GET POST", "/portal/c/<community>/rules/new", "rule.html")
def add_rule(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Make a rule."""
    seat = seats.take(login, community, "rules", "editor")
    form = PageForm(_fields(database, seat, {}), session, form_name="rule", _id="rule")
    if form.accepted:
        try:
            body = {**_body(form.vars), "escalation": _steps(form), "community_id": seat.community_id}
            fleet.ask(seat, "rules", "POST", "/router/string-rules", body)
        except FleetRefused as err:
            refuse(form, err, **NAMES)
        else:
            flash.set("Rule made. It counts from now on.")
            return go_to(f"{seat.path}/rules")
    tested = _test(seat, fleet, form.vars if form.submitted else {"string": ""}, SAMPLE_LINES)
    shown = {"form": form, "rule": None, "steps": rows_of([]), "lines": SAMPLE_LINES, "button": Buttons(session)}
    return seat.shown("New rule", **shown, **tested)


@page("GET POST", "/portal/c/<community>/rules/<rule:int>", "rule.html")
def edit_rule(
    community: str,
    rule: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Change a rule, with what it would do beside it."""
    seat = seats.take(login, community, "rules", "editor")
    path = f"/router/string-rules/{rule}"
    was = fleet.ask(seat, "rules", "GET", path)["rule"]
    form = PageForm(_fields(database, seat, was), session, form_name="rule", _id="rule")
    if form.accepted:
        try:
            fleet.ask(seat, "rules", "PUT", path, {**_body(form.vars), "escalation": _steps(form)})
        except FleetRefused as err:
            refuse(form, err, **NAMES)
        else:
            flash.set("Rule saved. It counts from now on.")
            return go_to(f"{seat.path}/rules/{rule}")
    tested = _test(seat, fleet, form.vars if form.submitted else _shown(was), SAMPLE_LINES)
    steps = rows_of(was["escalation"])
    shown = {"form": form, "rule": was, "steps": steps, "lines": SAMPLE_LINES, "button": Buttons(session)}
    return seat.shown(f"Rule {rule}", name_of=name_of, **shown, **tested)


def name_of(rule: Mapping[str, Any]) -> str:
    """What people call a rule: what it looks for; a filter by its kind, as its text is an allow list or a mere name."""
    if rule["match_type"] in FILTERS:
        return MATCH_WORDS[rule["match_type"]].removeprefix("Filter: ").partition(",")[0].capitalize()
    return str(rule["string"])


@page("POST", "/portal/c/<community>/rules/test", "rule_test.html")
def test_rule(community: str, login: Login, seats: Seats, fleet: FleetAPI) -> Any:
    """What a rule would do, as it stands in the form. Nothing is changed."""
    seat = seats.take(login, community, "rules", "editor")
    return _test(seat, fleet, {name: request.forms.get(name) for name in FIELDS}, value("lines"))


@page("POST", "/portal/c/<community>/rules/<rule:int>/switch")
def switch_rule(
    community: str, rule: int, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Turn a rule on or off."""
    seat = seats.take(login, community, "rules", "editor")
    check_act(session)
    is_on = bool(value("on"))
    fleet.ask(seat, "rules", "PUT", f"/router/string-rules/{rule}", {"is_active": is_on})
    flash.set(f"Rule {rule} is {'on' if is_on else 'off'} from now on.")
    return go_to(f"{seat.path}/rules")


@page("POST", "/portal/c/<community>/rules/<rule:int>/remove")
def remove_rule(
    community: str, rule: int, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Delete a rule; it stays on record for those who ask why."""
    seat = seats.take(login, community, "rules", "editor")
    check_act(session)
    fleet.ask(seat, "rules", "DELETE", f"/router/string-rules/{rule}")
    flash.set(f"Rule {rule} is gone. The audit log can bring it back.")
    return go_to(f"{seat.path}/rules")


FIELDS = (
    *("string", "match_type", "number", "share", "action", "say", "command", "webhook_url", "place", "priority"),
    *("case_sensitive", "look_alikes", "exempt_level", "exempt_labels"),
)
NAMES = {
    "warning_message": "say",
    "block_message": "say",
    "command_to_execute": "command",
    "enabled_entity_ids": "place",
}


def _fields(database: Database, seat: Seat, was: dict[str, Any]) -> list[Field]:
    shown = _shown(was)
    places = list_places(database, seat.community_id)
    return [
        Field(
            "string",
            label="Look for",
            default=shown["string"],
            requires=None
            if value("match_type") in FILTERS
            else IS_NOT_EMPTY("Write what to look for; * is any message."),
            comment="Words of a message. A filter has any name here, but for links the addresses that are fine.",
        ),
        Field("match_type", label="How", default=shown["match_type"], requires=IS_IN_SET(MATCHES, zero=None)),
        Field(
            "number",
            "integer",
            label="At least so many",
            default=shown["number"],
            requires=IS_EMPTY_OR(IS_INT_IN_RANGE(1, 100_001, error_message="A number from 1 to 100,000.")),
            comment="Of a filter. Empty is what is usual.",
        ),
        Field(
            "share",
            "integer",
            label="And so much of the line, in %",
            default=shown["share"],
            requires=IS_EMPTY_OR(IS_INT_IN_RANGE(0, 101, error_message="A number from 0 to 100.")),
            comment="Of a filter. Empty is what is usual.",
        ),
        Field("action", label="Then", default=shown["action"], requires=IS_IN_SET(ACTIONS, zero=None)),
        Field(
            "say",
            label="Say",
            default=shown["say"],
            comment="When it warns or deletes. {user} becomes their name. Empty says what is usual.",
        ),
        Field(
            "command", label="Command", default=shown["command"], comment="When it runs one, such as !welcome {user}."
        ),
        Field(
            "webhook_url",
            label="Webhook",
            default=shown["webhook_url"],
            comment="When it calls one: an https:// address.",
        ),
        Field("place", label="Where", default=shown["place"], requires=IS_IN_SET(places, zero=None)),
        Field(
            "priority",
            "integer",
            label="Order",
            default=shown["priority"],
            requires=IS_INT_IN_RANGE(-1000, 100_001, error_message="A number; the lowest goes first."),
            comment="The lowest goes first. The first rule that warns or deletes decides.",
        ),
        Field(
            "exempt_level",
            label="Leave alone",
            default=shown["exempt_level"],
            requires=IS_IN_SET(EXEMPT, zero=None),
            comment="When it warns or deletes.",
        ),
        Field(
            "exempt_labels",
            label="And who has a label",
            default=shown["exempt_labels"],
            comment="Their names, with commas between.",
        ),
        Field("case_sensitive", "boolean", label="Upper and lower case differ", default=shown["case_sensitive"]),
        Field("look_alikes", "boolean", label="What looks alike counts, too", default=shown["look_alikes"]),
        Field("is_active", "boolean", label="Rule is on", default=shown["is_active"]),
        *step_fields(was.get("escalation", [])),
    ]


def _shown(was: dict[str, Any]) -> dict[str, Any]:
    """A rule as the form has it."""
    action = was.get("action", "warn")
    return {
        "string": was.get("string", ""),
        "match_type": was.get("match_type", "contains"),
        "action": action,
        "say": was.get(SAYS.get(action, ""), ""),
        "command": " ".join([was.get("command_to_execute", ""), *was.get("command_parameters", [])]).strip(),
        "webhook_url": was.get("webhook_url", ""),
        "place": next(iter(was.get("enabled_entity_ids", [])), ""),
        "priority": was.get("priority", 100),
        "number": was.get("number"),
        "share": was.get("share"),
        "exempt_level": was.get("exempt_level", "moderator") or "",
        "exempt_labels": ", ".join(was.get("exempt_labels", [])),
        "look_alikes": was.get("look_alikes", False),
        "case_sensitive": was.get("case_sensitive", False),
        "is_active": was.get("is_active", True),
    }


def _body(form: dict[str, Any]) -> dict[str, Any]:
    """The form as the API takes it."""
    action = form.get("action") if form.get("action") in ACTION_WORDS else "warn"
    name, *words = str(form.get("command") or "").split() or [""]
    how = form.get("match_type") if form.get("match_type") in MATCH_WORDS else "contains"
    labels = str(form.get("exempt_labels") or "").split(",")
    body = {
        "string": form.get("string") or (MATCH_WORDS[how] if how in FILTERS - {"links"} else ""),
        "match_type": how,
        "number": _number(form.get("number")) if how in FILTERS else None,
        "share": _number(form.get("share")) if how in FILTERS else None,
        "exempt_level": form.get("exempt_level") or None,
        "exempt_labels": [each.strip() for each in labels if each.strip()],
        "look_alikes": bool(form.get("look_alikes")),
        "case_sensitive": bool(form.get("case_sensitive")),
        "action": action,
        "command_to_execute": name,
        "command_parameters": words,
        "webhook_url": form.get("webhook_url") or "",
        "enabled_entity_ids": [form["place"]] if form.get("place") else [],
        "priority": form.get("priority") or 0,
        "is_active": bool(form.get("is_active")),
    }
    if action in SAYS:
        body[SAYS[action]] = form.get("say") or ""
    return body


def _steps(form: PageForm) -> list[dict[str, Any]]:
    """Only what warns or deletes goes further, and the form shows the steps of nothing else."""
    return read_steps(form.vars) if form.vars["action"] in SAYS else []


def _number(text: Any) -> int | None:
    """Out of a form that nobody has looked at yet, too."""
    return int(text) if str(text or "").strip().isdecimal() else None


def _test(seat: Seat, fleet: FleetAPI, form: dict[str, Any], lines: str) -> dict[str, Any]:
    """What a rule hits of a few lines and of what was said in the last week, for a template."""
    nothing = {"problem": "", "tried": [], "examples": [], "matched": 0, "scanned": 0, "week": "", "ago": _ago}
    if not form.get("string") and form.get("match_type") not in FILTERS:
        return nothing
    tried = [line.strip()[:500] for line in lines.splitlines() if line.strip()][:TRIED_LINES]
    # What it would do does not matter to what it would hit.
    body = {**_body({**form, "action": "block"}), "priority": 100, "lines": tried, "community_id": seat.community_id}
    try:
        answer = fleet.ask(seat, "rules", "POST", "/router/string-rules/dry-run", body)
    except UserError as err:
        return {**nothing, "problem": err.message}
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in reversed(range(7))]
    counts = [(f"{day:%a}", answer["days"].get(day.isoformat(), 0)) for day in days]
    return {
        **nothing,
        "tried": answer["lines"],
        "examples": answer["examples"][:8],
        "matched": answer["matched"],
        "scanned": answer["scanned"],
        "week": charts.columns(counts) if answer["matched"] else "",
    }


def _ago(text: str | None) -> str:
    return ago(datetime.fromisoformat(text)) if text else "never"
