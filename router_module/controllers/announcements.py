"""What modules say unasked, and what they tell owners."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError
from waddlebot.base.contracts import Announced, Announcement, Strict
from waddlebot.base.wire import invalid
from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANNOUNCERS, Account
from waddlebot.web.endpoint import endpoint

from ..services.records.announcement_service import AnnouncementService


class NoticesQuery(Strict):
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, lt=2**31)


@endpoint("POST", "/router/announcements", caller=ANNOUNCERS, body=Announcement)
def announce(said: Announcement, caller: Account, announcements: AnnouncementService) -> Announced:
    """Say something in a community's channels without being asked, or tell its owner alone; once for each id."""
    try:
        return announcements.announce(said, caller)
    except ValidationError as err:
        raise invalid(err) from err


@endpoint("GET", "/router/communities/<community>/notices", caller=ADMINS_OR_API_USERS, area="bot", query=NoticesQuery)
def list_notices(
    community: str, query: NoticesQuery, caller: Account, database: Database, announcements: AnnouncementService
) -> dict[str, Any]:
    """List what modules told a community's owner, newest first."""
    community_id = get_community(database, caller, community)
    return announcements.list_notices(community_id, limit=query.limit, offset=query.offset)
