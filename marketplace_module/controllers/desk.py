"""What the fleet's operators decide about the marketplace, over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import StringConstraints
from waddlebot.base.contracts import Attributed
from waddlebot.data import audit
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch_one
from waddlebot.web.auth import ADMINS_OR_API_USERS, OPERATORS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer, whole_list_answer

from ..services import desk, reviews
from ..services.publishing import MODULE, UnknownModule, decide, newest_pending
from ..services.store import CACHE

Reason = Annotated[str, StringConstraints(max_length=1000)]
MAX_REPORTS = 100


class Decision(Attributed):
    """About the version that waits, unless another one is named."""

    version: Annotated[str, StringConstraints(max_length=32)] | None = None
    reason: Reason = ""


class Marks(Attributed):
    """What operators vouch for. What is left out stays."""

    verified: bool = True
    featured: bool | None = None


class TakeDown(Attributed):
    """Why, as the owners who have the module are told."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=300, strip_whitespace=True)]


class Resolution(Attributed):
    resolution: Reason = ""


class SubmissionsQuery(Page):
    state: Literal["pending", "approved", "rejected"] | None = None
    module_id: Annotated[str, StringConstraints(max_length=64)] | None = None


class ReportsQuery(Page):
    state: Literal["open", "resolved"] | None = None


@endpoint("GET", "/marketplace/submissions", caller=ADMINS_OR_API_USERS, area="bot", query=SubmissionsQuery)
def list_submissions(query: SubmissionsQuery, caller: Account, db: DAL) -> dict[str, Any]:
    """List published versions and what was decided about them: for operators all, else the caller's own."""
    found = desk.list_submissions(db, caller, query, state=query.state, module_id=query.module_id)
    return list_answer("submissions", found, query)


@endpoint("GET", "/marketplace/submissions/<module_id>/<version>", caller=ADMINS_OR_API_USERS, area="bot")
def read_submission(module_id: str, version: str, caller: Account, db: DAL) -> dict[str, Any]:
    """Read a version with the files of its package: for operators any, else one of the caller's own."""
    return {"success": True, "submission": desk.get_submission(db, caller, module_id, version)}


@endpoint("POST", "/marketplace/module/<module_id>/approve", caller=OPERATORS, area="bot", body=Decision | None)
def approve(module_id: str, decision: Decision | None, database: Database, bus: Bus) -> dict[str, Any]:
    """Let communities have a version."""
    return _decide(database, bus, module_id, "approved", decision or Decision())


@endpoint("POST", "/marketplace/module/<module_id>/reject", caller=OPERATORS, area="bot", body=Decision | None)
def reject(module_id: str, decision: Decision | None, database: Database, bus: Bus) -> dict[str, Any]:
    """Keep a version out of the store, with a reason that its publisher reads. Who has it keeps it."""
    return _decide(database, bus, module_id, "rejected", decision or Decision())


@endpoint("POST", "/marketplace/module/<module_id>/verify", caller=OPERATORS, area="bot", body=Marks | None)
def verify(module_id: str, marks: Marks | None, database: Database, bus: Bus) -> dict[str, Any]:
    """Say that who publishes a module is known, and whether it is shown first."""
    with database.transaction() as db:
        after = _mark(db, module_id, marks or Marks())
    bus.invalidate(CACHE)
    return {"success": True, "module_id": module_id, **after}


@endpoint("POST", "/marketplace/module/<module_id>/takedown", caller=OPERATORS, area="bot", body=TakeDown)
def take_down(module_id: str, wanted: TakeDown, database: Database, bus: Bus) -> dict[str, Any]:
    """Have a module answer nobody any more, anywhere, and tell the owners who have it why."""
    with database.transaction() as db:
        after = desk.take_down(db, module_id, wanted.reason)
    return _told(bus, module_id, after)


@endpoint("POST", "/marketplace/module/<module_id>/restore", caller=OPERATORS, area="bot")
def restore(module_id: str, database: Database, bus: Bus) -> dict[str, Any]:
    """Let a module that was taken down answer again where it is installed."""
    with database.transaction() as db:
        after = desk.restore(db, module_id)
    return _told(bus, module_id, after)


@endpoint("GET", "/marketplace/reports", caller=OPERATORS, area="bot", query=ReportsQuery)
def list_reports(query: ReportsQuery, db: DAL) -> dict[str, Any]:
    """List what was reported, of all modules."""
    return list_answer("reports", reviews.list_reports(db, query, module_id=None, state=query.state), query)


@endpoint("GET", "/marketplace/module/<module_id>/reports", caller=OPERATORS, area="bot")
def read_reports(module_id: str, db: DAL) -> dict[str, Any]:
    """List what was reported of a module."""
    reviews.check_module(db, module_id)
    found = reviews.list_reports(db, Page(limit=MAX_REPORTS), module_id=module_id, state=None)
    return whole_list_answer("reports", found.rows)


@endpoint("POST", "/marketplace/reports/<report_id:int>/resolve", caller=OPERATORS, area="bot", body=Resolution | None)
def resolve_report(report_id: int, resolution: Resolution | None, db: DAL) -> dict[str, Any]:
    """Say that a report was seen to, and how."""
    wanted = resolution or Resolution()
    return {"success": True, "report": reviews.resolve_report(db, report_id, wanted.resolution)}


def _decide(database: Database, bus: Bus, module_id: str, state: str, decision: Decision) -> dict[str, Any]:
    with database.transaction() as db:
        version = decision.version or newest_pending(db, module_id)
        decide(db, module_id, version, state, decision.reason)
    bus.invalidate(CACHE)
    return {"success": True, "module_id": module_id, "version": version, "state": state}


def _told(bus: Bus, module_id: str, after: dict[str, Any]) -> dict[str, Any]:
    """Have every process look anew: the store, and which commands are answered anywhere."""
    bus.invalidate(CACHE)
    bus.invalidate(desk.COMMANDS)
    return {"success": True, "module_id": module_id, "taken_down": after["is_down"], "reason": after["reason"]}


def _mark(db: DAL, module_id: str, marks: Marks) -> dict[str, Any]:
    """Raises: UnknownModule."""
    before = fetch_one(
        db, "SELECT is_verified, is_featured FROM marketplace_modules WHERE module_id = %s FOR UPDATE", (module_id,)
    )
    if before is None:
        raise UnknownModule(f"There is no module {module_id[:64]}.")
    featured = before["is_featured"] if marks.featured is None else marks.featured
    after = {"is_verified": marks.verified, "is_featured": featured}
    fetch_one(
        db,
        "UPDATE marketplace_modules SET is_verified = %s, is_featured = %s WHERE module_id = %s RETURNING id",
        (marks.verified, featured, module_id),
    )
    audit.record(db, MODULE, "module_verified", f"store/{module_id}", community_id=None, before=before, after=after)
    return after
