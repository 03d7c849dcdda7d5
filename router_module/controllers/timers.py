"""Timers over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from pydantic import Field
from waddlebot.base.contracts import Attributed
from waddlebot.base.variables import remarks_on
from waddlebot.community.communities import community_of
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.records.community_rows import changes_of
from ..services.records.timer_fields import EntityText, Message, MinLines, Minutes, Name, TimerFields
from ..services.records.timer_service import IN_TIMERS, MAX_TIMERS, TIMERS, preview


class TimersQuery(Page):
    limit: int = Field(MAX_TIMERS, ge=1, le=1000)


class TimerChange(Attributed):
    name: Name | None = None
    message: Message | None = None
    minutes: Minutes | None = None
    min_lines: MinLines | None = None
    only_live: bool | None = None
    # Null is everywhere, and not the same as leaving it out.
    entity_id: EntityText | None = None
    is_active: bool | None = None


class TimerPreview(Attributed):
    message: Message
    entity_id: EntityText | None = None


TIMERS_PATH = "/router/communities/<community>/timers"
TIMER = f"{TIMERS_PATH}/<timer_id:int>"


@endpoint("GET", TIMERS_PATH, caller=ADMINS_OR_API_USERS, area="bot", query=TimersQuery)
def list_timers(community: str, query: TimersQuery, caller: Account, db: DAL) -> dict[str, Any]:
    """List a community's timers by name, and when each was said and is due."""
    return TIMERS.list_page(db, community_of(db, caller, community), query)


@endpoint("POST", TIMERS_PATH, caller=ADMINS_OR_API_USERS, area="bot", body=TimerFields)
def create_timer(community: str, new: TimerFields, caller: Account, database: Database) -> dict[str, Any]:
    """Add a timer: a text that is said every so many minutes, the first time after its minutes."""
    with database.transaction() as db:
        made = TIMERS.create(db, community_of(db, caller, community), new.model_dump())
    return _answer(made)


@endpoint("POST", f"{TIMERS_PATH}/preview", caller=ADMINS_OR_API_USERS, area="bot", body=TimerPreview, only_asks=True)
def preview_timer(community: str, wanted: TimerPreview, caller: Account, db: DAL) -> dict[str, Any]:
    """Show what a timer would say at this moment, and where; nothing is kept or said."""
    texts = preview(db, community_of(db, caller, community), wanted.message, wanted.entity_id)
    return {"success": True, "texts": texts, "remarks": remarks_on(wanted.message, IN_TIMERS)}


@endpoint("PUT", TIMER, caller=ADMINS_OR_API_USERS, area="bot", body=TimerChange)
def update_timer(
    community: str, timer_id: int, change: TimerChange, caller: Account, database: Database
) -> dict[str, Any]:
    """Change what is named of a timer; it is said next after its minutes from now."""
    with database.transaction() as db:
        was = TIMERS.get(db, community_of(db, caller, community), timer_id)
        made = TIMERS.update(db, was, changes_of(change, may_be_null={"entity_id"}))
    return _answer(made)


@endpoint("DELETE", TIMER, caller=ADMINS_OR_API_USERS, area="bot")
def delete_timer(community: str, timer_id: int, caller: Account, database: Database) -> dict[str, Any]:
    """Remove a timer."""
    with database.transaction() as db:
        was = TIMERS.get(db, community_of(db, caller, community), timer_id)
        TIMERS.delete(db, was)
    return {"success": True, "message": "The timer is gone."}


def _answer(timer: dict[str, Any]) -> dict[str, Any]:
    return {"success": True, "timer": timer, "remarks": remarks_on(timer["message"], IN_TIMERS)}
