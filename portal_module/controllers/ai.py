"""The AI: on or off, when it speaks, and what it may spend."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from py4web import request
from waddlebot.base.errors import NotFound
from waddlebot.web.forms import PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services import charts
from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.seats import Seats
from .modules import begin_module, field_of, path_of, value_of
from .parts import Buttons, refuse

MODULE = "ai"
DAYS = 7
# What a newcomer sets; the rest stands behind "More".
FIRST = (
    *("response_prefix", "answer_questions", "question_triggers", "event_responses", "event_types"),
    *("daily_tokens", "daily_tokens_person"),
)
STATES = {"ready": ("good", "Ready"), "unconfigured": ("", "Not set up"), "paused": ("wait", "Paused")}


@page("GET POST", "/portal/c/<community>/ai", "ai.html")
def show_ai(community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI) -> Any:
    """How the AI is set here, who answers, and what was spent."""
    seat = seats.take(login, community, "bot", "editor" if request.method == "POST" else "viewer")
    here = {"community_id": seat.community_id}
    found = begin_module(seat, fleet, MODULE)
    spent = fleet.begin(seat, "bot", "/ai/usage", {**here, "days": DAYS})
    answering = fleet.begin(seat, "bot", "/ai/providers", here)
    # What holds by now, whoever set it, for whoever may see settings.
    in_effect = fleet.begin(seat, "settings", "/ai/config", here) if seat.may("settings") else dict
    module = found()
    if module is None:
        raise NotFound("This fleet has no AI at the moment.")
    specs = sorted(module["settings"], key=lambda each: FIRST.index(each["name"]) if each["name"] in FIRST else 99)
    form = PageForm([field_of(each) for each in specs], session, form_name="ai", submit_value="Save settings")
    if form.accepted:
        config = {each["name"]: set_to for each in specs if (set_to := value_of(each, form.vars)) is not None}
        try:
            fleet.ask(seat, "bot", "PUT", path_of(seat, MODULE), {"config": config})
        except FleetRefused as err:
            refuse(form, err, **{f"config_{each['name']}": each["name"] for each in specs})
        else:
            flash.set("Settings saved. They count from now on.")
            return go_to(f"{seat.path}/ai")
    usage = spent()
    return seat.shown(
        "AI",
        form=form,
        module=module,
        first=[each["name"] for each in specs if each["name"] in FIRST],
        more=[each["name"] for each in specs if each["name"] not in FIRST],
        is_switch={each["name"] for each in specs if each["type"] == "bool" and each["default"] is not None},
        usage=usage,
        week=_week(usage["days"]),
        providers=answering()["providers"],
        states=STATES,
        holds=in_effect(),
        button=Buttons(session),
    )


def _week(days: list[dict[str, Any]]) -> Any:
    """Tokens by day, or nothing where none were spent."""
    spent: Counter[str] = Counter()
    for each in days:
        spent[each["day"]] += each["prompt_tokens"] + each["completion_tokens"]
    today = datetime.now(UTC).date()
    shown = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    return charts.columns([(f"{day:%a}", spent[day.isoformat()]) for day in shown]) if spent else ""
