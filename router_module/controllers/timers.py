"""Timers over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from pydantic import Field
from waddlebot.base.contracts import Attributed
from waddlebot.base.variables import remarks_on
from waddlebot.community.communities import community_of, get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.records.timer_fields import EntityText, Message, MinLines, Minutes, Name, TimerFields
from ..services.records.timer_service import IN_TIMERS, MAX_TIMERS, TimerService, preview


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


TIMERS, TIMER = "/router/communities/<community>/timers", "/router/communities/<community>/timers/<timer_id:int>"


@endpoint("GET", TIMERS, caller=ADMINS_OR_API_USERS, area="bot", query=TimersQuery)
def list_timers(
    community: str, query: TimersQuery, caller: Account, database: Database, timers: TimerService
) -> dict[str, Any]:
    """List a community's timers by name, and when each was said and is due."""
    return timers.list(get_community(database, caller, community), query)


@endpoint("POST", TIMERS, caller=ADMINS_OR_API_USERS, area="bot", body=TimerFields)
def create_timer(
    community: str, new: TimerFields, caller: Account, database: Database, timers: TimerService
) -> dict[str, Any]:
    """Add a timer: a text that is said every so many minutes."""
    community_id = get_community(database, caller, community)
    made = timers.create(community_id, new.model_dump())
    return {"success": True, "timer": made, "remarks": remarks_on(made["message"], IN_TIMERS)}


@endpoint("POST", f"{TIMERS}/preview", caller=ADMINS_OR_API_USERS, area="bot", body=TimerPreview, only_asks=True)
def preview_timer(community: str, wanted: TimerPreview, caller: Account, db: DAL) -> dict[str, Any]:
    """Show what a timer would say at this moment, and where; nothing is kept or said."""
    texts = preview(db, community_of(db, caller, community), wanted.message, wanted.entity_id)
    return {"success": True, "texts": texts, "remarks": remarks_on(wanted.message, IN_TIMERS)}


@endpoint("PUT", TIMER, caller=ADMINS_OR_API_USERS, area="bot", body=TimerChange)
def update_timer(
    community: str,
    timer_id: int,
    change: TimerChange,
    caller: Account,
    database: Database,
    timers: TimerService,
) -> dict[str, Any]:
    """Change what is named of a timer; it is due again after its minutes."""
    community_id = get_community(database, caller, community)
    changes = change.model_dump(exclude_none=True)
    if "entity_id" in change.model_fields_set:
        changes["entity_id"] = change.entity_id
    made = timers.update(community_id, timer_id, changes)
    return {"success": True, "timer": made, "remarks": remarks_on(made["message"], IN_TIMERS)}


@endpoint("DELETE", TIMER, caller=ADMINS_OR_API_USERS, area="bot")
def delete_timer(
    community: str, timer_id: int, caller: Account, database: Database, timers: TimerService
) -> dict[str, Any]:
    """Remove a timer."""
    community_id = get_community(database, caller, community)
    timers.delete(community_id, timer_id)
    return {"success": True, "message": "The timer is gone."}
