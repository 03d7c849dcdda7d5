"""Live notices over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from waddlebot.base.contracts import Attributed, EntityIdText
from waddlebot.base.variables import remarks_on
from waddlebot.community.communities import community_of
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.records.community_rows import changes_of
from ..services.records.live_notice_fields import EndText, LiveNoticeFields, NoticeText
from ..services.records.live_notice_service import IN_NOTICES, NOTICES, OWN, preview


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


NOTICES_PATH = "/router/communities/<community>/live-notices"
NOTICE = f"{NOTICES_PATH}/<notice_id:int>"


@endpoint("GET", NOTICES_PATH, caller=ADMINS_OR_API_USERS, area="bot", query=Page)
def list_live_notices(community: str, query: Page, caller: Account, db: DAL) -> dict[str, Any]:
    """List the channels that are told when a stream of the community begins and ends."""
    return NOTICES.list_page(db, community_of(db, caller, community), query)


@endpoint("POST", NOTICES_PATH, caller=ADMINS_OR_API_USERS, area="bot", body=LiveNoticeFields)
def create_live_notice(community: str, new: LiveNoticeFields, caller: Account, database: Database) -> dict[str, Any]:
    """Have a channel told when a stream begins and ends."""
    with database.transaction() as db:
        made = NOTICES.create(db, community_of(db, caller, community), new.model_dump())
    return _answer(made)


@endpoint(
    "POST", f"{NOTICES_PATH}/preview", caller=ADMINS_OR_API_USERS, area="bot", body=LiveNoticePreview, only_asks=True
)
def preview_live_notice(community: str, wanted: LiveNoticePreview, caller: Account, db: DAL) -> dict[str, Any]:
    """Show what a notice would say of the stream that was on last; nothing is kept or said."""
    text = preview(db, community_of(db, caller, community), wanted.message, wanted.entity_id)
    return {"success": True, "text": text, "remarks": remarks_on(wanted.message, IN_NOTICES, also=OWN)}


@endpoint("PUT", NOTICE, caller=ADMINS_OR_API_USERS, area="bot", body=LiveNoticeChange)
def update_live_notice(
    community: str, notice_id: int, change: LiveNoticeChange, caller: Account, database: Database
) -> dict[str, Any]:
    """Change what is named of a live notice."""
    with database.transaction() as db:
        was = NOTICES.get(db, community_of(db, caller, community), notice_id)
        made = NOTICES.update(db, was, changes_of(change, may_be_null={"stream_entity_id"}))
    return _answer(made)


@endpoint("DELETE", NOTICE, caller=ADMINS_OR_API_USERS, area="bot")
def delete_live_notice(community: str, notice_id: int, caller: Account, database: Database) -> dict[str, Any]:
    """Remove a live notice."""
    with database.transaction() as db:
        was = NOTICES.get(db, community_of(db, caller, community), notice_id)
        NOTICES.delete(db, was)
    return {"success": True, "message": "The live notice is gone."}


def _answer(notice: dict[str, Any]) -> dict[str, Any]:
    remarks = (said for name in ("message", "end_message") for said in remarks_on(notice[name], IN_NOTICES, also=OWN))
    return {"success": True, "live_notice": notice, "remarks": list(dict.fromkeys(remarks))}
