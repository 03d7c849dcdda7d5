"""The audit log: who changed what, how it was before, and taking it back."""

from __future__ import annotations

import json
from typing import Any

from waddlebot.base.chat import shorten
from waddlebot.data.database import Database, fetch
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.commands import title_of
from ..services.fleet_api import FleetAPI, FleetRefused
from ..services.seats import Seats
from ..services.undoing import undo
from .parts import Buttons, asked, check_act

PAGE = 30
MAX_SHOWN_CHARS = 1000
MAX_NAME_CHARS = 80
# What people know something by, of what an entry has of it.
NAMES = ("alias", "string", "title", "name", "label", "item_name", "source")
ENTRIES = """
SELECT a.id, a.at, a.actor_account, a.login_id, a.own_id, a.module, a.action, a.subject, a.before, a.after,
    a.undo IS NOT NULL AS is_undoable, a.undone_by, u.display_name,
    coalesce(nullif(trim(l.first_name || ' ' || l.last_name), ''), l.email) AS login_name,
    NOT EXISTS (SELECT FROM audit n WHERE n.module = a.module AND n.subject = a.subject AND n.id > a.id
        AND n.community_id = a.community_id AND n.after IS DISTINCT FROM a.after) AS is_newest
FROM audit a LEFT JOIN users u ON u.id = a.own_id LEFT JOIN auth_user l ON l.id = a.login_id
WHERE a.community_id = %(community)s AND (%(before)s::bigint IS NULL OR a.id < %(before)s)
    AND (%(module)s = '' OR a.module = %(module)s)
ORDER BY a.id DESC LIMIT %(limit)s
"""


@page("GET", "/portal/c/<community>/audit", "audit.html")
def show_audit(community: str, login: Login, session: PageSession, seats: Seats, database: Database) -> Any:
    """Who changed what, the newest first."""
    seat = seats.take(login, community, "settings")
    before, module = asked("before"), asked("module")
    parameters = {
        "community": seat.community_id,
        "before": int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
        "module": module,
        "limit": PAGE + 1,
    }
    with database.reading() as db:
        rows = fetch(db, ENTRIES, parameters)
        modules = fetch(
            db, "SELECT DISTINCT module FROM audit WHERE community_id = %s ORDER BY 1", (seat.community_id,)
        )
    more = rows[PAGE - 1]["id"] if len(rows) > PAGE else None
    entries = [
        {**row, "who": _who(row), "what": _what(row), "whose": _subject(row), "changes": _changes(row)}
        for row in rows[:PAGE]
    ]
    return seat.shown(
        "Audit log",
        entries=entries,
        more=more,
        is_first=not before,
        module=module,
        modules=[(row["module"], title_of(row["module"])) for row in modules],
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/audit/<entry:int>/undo")
def undo_entry(
    community: str,
    entry: int,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """Take a change back, if what it changed is still as it left it."""
    seat = seats.take(login, community, "settings", "editor")
    check_act(session)
    try:
        undo(database, fleet, seat, entry)
    except FleetRefused as err:
        flash.set(f"Not undone. {err.message}", "bad")
    else:
        flash.set("Undone. It is as it was before.")
    return go_to(f"{seat.path}/audit")


def _who(row: dict[str, Any]) -> str:
    return str(row["display_name"] or row["login_name"] or row["actor_account"])


def _what(row: dict[str, Any]) -> str:
    return str(row["action"]).replace("_", " ").capitalize()


def _subject(row: dict[str, Any]) -> str:
    """What was changed, by the name that people know it by, if it has one."""
    states = [each for each in (row["after"], row["before"]) if each]
    named = next(
        (each[name] for each in states for name in NAMES if isinstance(each.get(name), str) and each[name]), ""
    )
    return shorten(named or str(row["subject"]).partition("/")[2] or str(row["subject"]), MAX_NAME_CHARS)


def _changes(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each field that differs: how it was and how it is."""
    before, after = row["before"] or {}, row["after"] or {}
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [(name.replace("_", " "), _shown(before.get(name)), _shown(after.get(name))) for name in names]


def _shown(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else shorten(json.dumps(value, ensure_ascii=False), MAX_SHOWN_CHARS)
