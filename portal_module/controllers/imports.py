"""Bringing along what another bot had: files, a plan to look at, then the import. Over HTTP for the command line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from py4web import request
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Strict
from waddlebot.base.errors import UserError, WaddleBotError
from waddlebot.community.communities import Reference, get_community
from waddlebot.data.database import Database
from waddlebot.module.foreign import File
from waddlebot.module.foreign.reading import MAX_FILES
from waddlebot.web.auth import OWNERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.carrying import MAX_BYTES
from ..services.commands import title_of
from ..services.fleet_api import FleetAPI
from ..services.imports import Asker, ImportService
from ..services.seats import Seat, Seats
from .parts import Buttons, check_act, value

SHOWN = 500
TITLES = {"nightbot": "Nightbot", "streamelements": "StreamElements", "csv": "CSV"}


class SentFile(Strict):
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    content: str


class ForeignImport(Strict):
    """Files of another bot for a community. Nothing is changed unless `apply` is true."""

    source: Literal["nightbot", "streamelements", "csv"]
    files: list[SentFile] = Field(min_length=1, max_length=MAX_FILES)
    community_id: Reference | None = None
    apply: bool = False


class Taken(Strict):
    import_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    community_id: Reference | None = None


@endpoint("POST", "/portal/imports", caller=OWNERS, area="settings", body=ForeignImport)
def import_files(
    wanted: ForeignImport, caller: Account, database: Database, fleet: FleetAPI, imports: ImportService
) -> dict[str, Any]:
    """Say what would become of another bot's files in a community, and with `apply` do it, as a whole."""
    asker = _asker(caller, get_community(database, caller, wanted.community_id), fleet)
    files = [File(each.name, each.content.encode("utf-8", "surrogatepass")) for each in wanted.files]
    planned = imports.plan(asker, imports.read(wanted.source, files))
    return (imports.apply(asker, planned) if wanted.apply else planned).as_answer()


@endpoint("POST", "/portal/imports/undo", caller=OWNERS, area="settings", body=Taken)
def take_import_back(wanted: Taken, caller: Account, fleet: FleetAPI, imports: ImportService) -> dict[str, Any]:
    """Take a whole import back, unless something of it was changed since."""
    asker = _asker(caller, imports.community_of(wanted.import_id, caller), fleet)
    return {"success": True, "import_id": wanted.import_id, "taken_back": imports.undo(asker, wanted.import_id)}


@page("GET", "/portal/c/<community>/imports", "imports.html")
def show_imports(community: str, login: Login, session: PageSession, seats: Seats) -> Any:
    """From which bots something can be brought along, and how its files are got."""
    seat = seats.take(login, community, "settings", "owner")
    return seat.shown("Bring your old bot's", titles=TITLES, button=Buttons(session))


@page("POST", "/portal/c/<community>/imports", "imports_plan.html", max_body_bytes=MAX_BYTES)
def plan_import(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    imports: ImportService,
) -> Any:
    """What would become of the files; and when that was looked at, do it."""
    seat = seats.take(login, community, "settings", "owner")
    check_act(session)
    asker = _asker_at(seat, fleet)
    try:
        if value("token"):
            done = imports.apply(asker, imports.find_kept(asker, value("token")))
            flash.set(_done_words(done.changes), "good")
            return go_to(f"{seat.path}/audit")
        source = value("source")
        planned = imports.plan(asker, imports.read(source, _sent_files()))
    except WaddleBotError as err:
        flash.set(err.message, "bad")
        return go_to(f"{seat.path}/imports")
    return seat.shown(
        "What would be made",
        planned=planned,
        counts=planned.counts,
        steps=planned.steps[:SHOWN],
        most=SHOWN,
        source=TITLES[source],
        token=imports.keep(asker, planned),
        title_of=title_of,
        button=Buttons(session),
    )


def _sent_files() -> list[File]:
    """Raises: UserError."""
    found = request.files.get("files") or []
    # Several of one name come as a list.
    sent = [each for each in (found if isinstance(found, list) else [found]) if each.filename]
    if not sent:
        raise UserError("Choose a file first.")
    return [File(each.filename, each.file.read()) for each in sent]


def _done_words(changes: int) -> str:
    if not changes:
        return "It was all there already; nothing was changed."
    things = "1 thing" if changes == 1 else f"{changes:,} things"
    return f"Imported: {things} made or changed. “Undo” at the entry takes all of it back."


def _asker(caller: Account, community_id: int, fleet: FleetAPI) -> Asker:
    if caller.actor is None:
        return Asker(fleet, community_id, caller.name, None, "owner")
    return Asker(fleet, community_id, caller.actor.login_id, caller.actor.own_id, caller.actor.right)


def _asker_at(seat: Seat, fleet: FleetAPI) -> Asker:
    right = seat.right("settings")
    assert right is not None
    return Asker(fleet, seat.community_id, seat.login.id, seat.login.more["waddlebot_user_id"], right)
