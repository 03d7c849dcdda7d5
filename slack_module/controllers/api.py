"""What other services and admins ask the Slack collector."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed, EntityIdText, IdPart, OpaqueId
from waddlebot.base.errors import Invalid
from waddlebot.base.ids import parse_entity_id
from waddlebot.collecting.roles import RoleSeen
from waddlebot.community.places import check_place, check_server
from waddlebot.data.database import Database
from waddlebot.web.auth import PORTAL_ONLY, Account, of_platform
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.group_service import GroupService
from ..services.people import People
from ..services.records import Records

SLACK_OR_ADMINS = of_platform("slack")
ROLE_GIVERS = of_platform("slack", also="labels_core")
Id = Annotated[IdPart, StringConstraints(min_length=1)]


class ModerationRequest(Attributed):
    """`message_id` is the event's id, or the message's `ts`."""

    entity_id: EntityIdText
    action: Literal["delete", "warn", "timeout", "ban", "unban"]
    platform_user_id: OpaqueId
    message_id: Annotated[str, StringConstraints(max_length=255)] = ""
    duration_s: int | None = Field(None, ge=1)
    reason: Annotated[str, StringConstraints(max_length=3000)] = ""


class GroupChange(Attributed):
    """Somebody is to be in a user group, or no more."""

    team_id: Id
    group_id: Id
    user_id: Id
    action: Literal["add", "remove"] = "add"
    # What the change is told of with; whoever asked knows by it that it was them.
    cause_id: Annotated[str, StringConstraints(max_length=64)] | None = None


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


@endpoint("GET", "/slack/api/user/<team>/<user>", caller=PORTAL_ONLY, area="people")
def show_user(team: str, user: str, caller: Account, database: Database, people: People) -> dict[str, Any]:
    """Show somebody in a workspace, with the badges that they have there now."""
    check_server(database, caller, "slack", team)
    return {"success": True, "user": asdict(people.get(team, user))}


@endpoint("POST", "/slack/api/moderation", caller=SLACK_OR_ADMINS, area="people", body=ModerationRequest)
def moderate(request: ModerationRequest, caller: Account, database: Database, records: Records) -> dict[str, Any]:
    """Delete a message or warn somebody; what Slack does not let an app do is answered in words."""
    entity = parse_entity_id(request.entity_id)
    if entity.platform != "slack":
        raise Invalid(f"{entity} is not on Slack.", field="entity_id")
    check_place(database, caller, entity)
    return records.moderate(request.model_dump(), by=caller.name)


@endpoint("POST", "/slack/api/groups", caller=ROLE_GIVERS, area="people", body=GroupChange)
def change_group(change: GroupChange, caller: Account, database: Database, groups: GroupService) -> dict[str, Any]:
    """Put somebody into a user group, or take them out. Again changes nothing."""
    check_server(database, caller, "slack", change.team_id)
    has = change.action == "add"
    wanted = RoleSeen("slack", change.team_id, change.user_id, change.group_id, has, change.cause_id)
    return {"success": True, "changed": groups.change(wanted, by=caller.name)}
