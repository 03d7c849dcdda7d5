"""The audit log: who changed what, and taking it back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import StringConstraints
from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import RawRequest, endpoint
from waddlebot.web.lists import Page

from ..services.records.audit_service import AuditService

ShortText = Annotated[str, StringConstraints(max_length=255)]


class AuditQuery(Page):
    """`since` is a time, in UTC unless it says otherwise. Without a community it is the key's, or all for admins."""

    community_id: ShortText | None = None
    module: ShortText | None = None
    action: ShortText | None = None
    since: datetime | None = None


@endpoint("GET", "/router/audit", caller=ADMINS_OR_API_USERS, area="settings", query=AuditQuery)
def read_audit(query: AuditQuery, caller: Account, database: Database, audit: AuditService) -> dict[str, Any]:
    """List who changed what, the newest first."""
    everything = query.community_id is None and caller.community_id is None
    community_id = None if everything else get_community(database, caller, query.community_id)
    return audit.list(community_id, query, module=query.module, action=query.action, since=query.since)


@endpoint("POST", "/router/audit/<entry_id:int>/undo", caller=ADMINS_OR_API_USERS, area="settings")
def undo(entry_id: int, request: RawRequest, caller: Account, audit: AuditService) -> dict[str, Any]:
    """Take a change back, if what it changed is still as it left it."""
    return audit.undo(entry_id, caller, request.headers)
