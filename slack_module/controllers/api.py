"""What other services and admins ask the Slack collector."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed, EntityIdText, OpaqueId
from waddlebot.base.errors import Invalid
from waddlebot.base.ids import parse_entity_id
from waddlebot.community.places import check_place
from waddlebot.data.database import Database
from waddlebot.web.auth import Account, of_platform
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.records import Records

SLACK_OR_ADMINS = of_platform("slack")


class ModerationRequest(Attributed):
    """`message_id` is the event's id, or the message's `ts`."""

    entity_id: EntityIdText
    action: Literal["delete", "warn", "timeout", "ban", "unban"]
    platform_user_id: OpaqueId
    message_id: Annotated[str, StringConstraints(max_length=255)] = ""
    duration_s: int | None = Field(None, ge=1)
    reason: Annotated[str, StringConstraints(max_length=3000)] = ""


@endpoint("GET", "/slack/info", caller=SLACK_OR_ADMINS, area="channels")
def show_info(caller: Account, records: Records) -> dict[str, Any]:
    """Say how this collector hears Slack, and which workspaces have the app."""
    return {"success": True, **records.info(caller.community_id)}


@endpoint("GET", "/slack/events/list", caller=SLACK_OR_ADMINS, area="channels", query=Page)
def list_events(query: Page, caller: Account, records: Records) -> dict[str, Any]:
    """List what Slack delivered, newest first, and what became of it."""
    return list_answer("events", records.list_events(caller.community_id, query), query)


@endpoint("GET", "/slack/activities/list", caller=SLACK_OR_ADMINS, area="people", query=Page)
def list_activities(query: Page, caller: Account, records: Records) -> dict[str, Any]:
    """List what people did that earned points, newest first."""
    return list_answer("activities", records.list_activities(caller.community_id, query), query)


@endpoint("POST", "/slack/api/moderation", caller=SLACK_OR_ADMINS, area="people", body=ModerationRequest)
def moderate(request: ModerationRequest, caller: Account, database: Database, records: Records) -> dict[str, Any]:
    """Delete a message or warn somebody; what Slack does not let an app do is answered in words."""
    entity = parse_entity_id(request.entity_id)
    if entity.platform != "slack":
        raise Invalid(f"{entity} is not on Slack.", field="entity_id")
    check_place(database, caller, entity)
    return records.moderate(request.model_dump(), by=caller.name)
