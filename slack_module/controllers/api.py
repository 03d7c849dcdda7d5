"""What other services and admins ask the Slack collector."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import EntityIdText, OpaqueId, Strict
from waddlebot.web.auth import COLLECTORS_OR_ADMINS, Account
from waddlebot.web.endpoint import endpoint

from ..services.records import Records


class ListQuery(Strict):
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, lt=2**31)


class ModerationRequest(Strict):
    """`message_id` is the event's id, or the message's `ts`."""

    entity_id: EntityIdText
    action: Literal["delete", "warn", "timeout", "ban", "unban"]
    platform_user_id: OpaqueId
    message_id: Annotated[str, StringConstraints(max_length=255)] = ""
    duration_s: int | None = Field(None, ge=1)
    reason: Annotated[str, StringConstraints(max_length=3000)] = ""


@endpoint("GET", "/slack/info", caller=COLLECTORS_OR_ADMINS)
def show_info(records: Records) -> dict[str, Any]:
    """Say how this collector hears Slack, and which workspaces have the app."""
    return {"success": True, **records.info()}


@endpoint("GET", "/slack/events/list", caller=COLLECTORS_OR_ADMINS, query=ListQuery)
def list_events(query: ListQuery, records: Records) -> dict[str, Any]:
    """List what Slack delivered, newest first, and what became of it."""
    return {"success": True, **records.list_events(limit=query.limit, offset=query.offset)}


@endpoint("GET", "/slack/activities/list", caller=COLLECTORS_OR_ADMINS, query=ListQuery)
def list_activities(query: ListQuery, records: Records) -> dict[str, Any]:
    """List what people did that earned points, newest first."""
    return {"success": True, **records.list_activities(limit=query.limit, offset=query.offset)}


@endpoint("POST", "/slack/api/moderation", caller=COLLECTORS_OR_ADMINS, body=ModerationRequest)
def moderate(request: ModerationRequest, caller: Account, records: Records) -> dict[str, Any]:
    """Delete a message or warn somebody; what Slack does not let an app do is answered in words."""
    caller.check_platform("slack")
    return records.moderate(request.model_dump(), by=caller.name)
