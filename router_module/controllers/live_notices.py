"""Live notices over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from waddlebot.base.contracts import Attributed, EntityIdText
from waddlebot.base.variables import remarks_on
from waddlebot.community.communities import community_of, get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.records.live_notice_fields import EndText, LiveNoticeFields, NoticeText
from ..services.records.live_notice_service import IN_NOTICES, OWN, LiveNoticeService, preview


class LiveNoticeChange(Attributed):
    entity_id: EntityIdText | None = None
    # Null is any stream, and not the same as leaving it out.
    stream_entity_id: EntityIdText | None = None
    message: NoticeText | None = None
    end_message: EndText | None = None
    is_active: bool | None = None


class LiveNoticePreview(Attributed):
    entity_id: EntityIdText
    message: NoticeText


NOTICES = "/router/communities/<community>/live-notices"
NOTICE = f"{NOTICES}/<notice_id:int>"


@endpoint("GET", NOTICES, caller=ADMINS_OR_API_USERS, area="bot", query=Page)
def list_live_notices(
    community: str, query: Page, caller: Account, database: Database, notices: LiveNoticeService
) -> dict[str, Any]:
    """List the channels that are told when a stream of the community begins and ends."""
    return notices.list(get_community(database, caller, community), query)


@endpoint("POST", NOTICES, caller=ADMINS_OR_API_USERS, area="bot", body=LiveNoticeFields)
def create_live_notice(
    community: str,
    new: LiveNoticeFields,
    caller: Account,
    database: Database,
    notices: LiveNoticeService,
) -> dict[str, Any]:
    """Have a channel told when a stream begins and ends."""
    community_id = get_community(database, caller, community)
    made = notices.create(community_id, new.model_dump())
    return {"success": True, "live_notice": made, "remarks": _remarks(made)}


@endpoint("POST", f"{NOTICES}/preview", caller=ADMINS_OR_API_USERS, area="bot", body=LiveNoticePreview, only_asks=True)
def preview_live_notice(community: str, wanted: LiveNoticePreview, caller: Account, db: DAL) -> dict[str, Any]:
    """Show what a notice would say of the stream that was on last; nothing is kept or said."""
    text = preview(db, community_of(db, caller, community), wanted.message, wanted.entity_id)
    return {"success": True, "text": text, "remarks": remarks_on(wanted.message, IN_NOTICES, also=OWN)}


@endpoint("PUT", NOTICE, caller=ADMINS_OR_API_USERS, area="bot", body=LiveNoticeChange)
def update_live_notice(
    community: str,
    notice_id: int,
    change: LiveNoticeChange,
    caller: Account,
    database: Database,
    notices: LiveNoticeService,
) -> dict[str, Any]:
    """Change what is named of a live notice."""
    community_id = get_community(database, caller, community)
    changes = change.model_dump(exclude_none=True)
    if "stream_entity_id" in change.model_fields_set:
        changes["stream_entity_id"] = change.stream_entity_id
    made = notices.update(community_id, notice_id, changes)
    return {"success": True, "live_notice": made, "remarks": _remarks(made)}


@endpoint("DELETE", NOTICE, caller=ADMINS_OR_API_USERS, area="bot")
def delete_live_notice(
    community: str, notice_id: int, caller: Account, database: Database, notices: LiveNoticeService
) -> dict[str, Any]:
    """Remove a live notice."""
    community_id = get_community(database, caller, community)
    notices.delete(community_id, notice_id)
    return {"success": True, "message": "The live notice is gone."}


def _remarks(notice: dict[str, Any]) -> list[str]:
    return list(
        dict.fromkeys(
            said for name in ("message", "end_message") for said in remarks_on(notice[name], IN_NOTICES, also=OWN)
        )
    )
