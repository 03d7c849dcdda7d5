"""What modules say unasked, and what they tell owners."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError
from waddlebot.base.contracts import Announced, Announcement
from waddlebot.base.wire import invalid
from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANNOUNCERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.records.announcement_service import AnnouncementService


class NoticesQuery(Page):
    limit: int = Field(50, ge=1, le=1000)


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
    return announcements.list_notices(community_id, query)
