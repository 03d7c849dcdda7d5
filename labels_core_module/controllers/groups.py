"""Groups of channels and servers, the roles that labels bring there, and what platforms tell of roles."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints
from waddlebot.base.contracts import Attributed, EntityIdText, IdPart, OpaqueId, PlatformName, Strict
from waddlebot.community.communities import Reference
from waddlebot.community.places import check_server
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, COLLECTORS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.communities import Communities
from ..services.group_service import MAX_PLACES, MAX_RULES, GroupLabel, GroupService, Rule
from ..services.label_service import MAX_LABELS
from ..services.role_service import RoleService

Text = Annotated[str, StringConstraints(max_length=255)]
RoleId = Annotated[IdPart, StringConstraints(min_length=1)]


class GroupsQuery(Page):
    community_id: Text | None = None


class RolesQuery(Page):
    refused: bool = False


class GroupRule(Strict):
    """Who has the label gets the role: a role's id on Discord, a user group's on Slack, vip or moderator on Twitch."""

    id: int | None = Field(None, exclude=True)
    label: Text
    entity_id: EntityIdText
    role_id: RoleId

    def to_rule(self) -> Rule:
        return Rule(self.label, self.entity_id, self.role_id)


Entities = Annotated[list[EntityIdText], Field(max_length=MAX_PLACES)]
Rules = Annotated[list[GroupRule], Field(max_length=MAX_RULES)]


class LabelOfGroup(Strict):
    label: Text
    expires_at: AwareDatetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    def to_label(self) -> GroupLabel:
        return GroupLabel(self.label, self.expires_at, self.metadata)


class NewGroup(Attributed):
    """`labels` are those that the group itself has from the start."""

    name: Text
    community_id: Reference | None = None
    entities: Entities = Field(default_factory=list)
    rules: Rules = Field(default_factory=list)
    labels: list[LabelOfGroup] = Field(default_factory=list, max_length=MAX_LABELS)


class GroupChange(Attributed):
    """What is left out stays."""

    name: Text | None = None
    entities: Entities | None = None
    rules: Rules | None = None


class RoleChanged(Strict):
    """What a collector saw: somebody has a role now, or has it no more; `cause_id` when we asked for that."""

    platform: PlatformName
    server_id: IdPart
    platform_user_id: OpaqueId
    role_id: IdPart
    has: bool
    cause_id: Text | None = None


@endpoint("GET", "/labels/groups", caller=ADMINS_OR_API_USERS, area="people", query=GroupsQuery)
def list_groups(
    query: GroupsQuery, caller: Account, database: Database, communities: Communities, groups: GroupService
) -> dict[str, Any]:
    """List a community's groups with their places and rules."""
    community_id = communities.get(caller, query.community_id)
    with database.reading() as db:
        return list_answer("groups", groups.list_groups(db, community_id, query), query)


@endpoint("POST", "/labels/groups", caller=ADMINS_OR_API_USERS, area="people", body=NewGroup)
def make_group(
    body: NewGroup, caller: Account, database: Database, communities: Communities, groups: GroupService
) -> dict[str, Any]:
    """Make a group; roles follow at once."""
    community_id = communities.get(caller, body.community_id)
    rules = [each.to_rule() for each in body.rules]
    with database.transaction() as db:
        labels = [each.to_label() for each in body.labels]
        group = groups.make(db, community_id, body.name, body.entities, rules, labels)
    groups.tell(community_id)
    return {"success": True, "group": group}


@endpoint("GET", "/labels/groups/<group_id:int>", caller=ADMINS_OR_API_USERS, area="people")
def show_group(group_id: int, caller: Account, database: Database, groups: GroupService) -> dict[str, Any]:
    """Show a group."""
    with database.reading() as db:
        return {"success": True, "group": groups.get(db, group_id, caller.community_id)}


@endpoint("PUT", "/labels/groups/<group_id:int>", caller=ADMINS_OR_API_USERS, area="people", body=GroupChange)
def change_group(
    group_id: int, body: GroupChange, caller: Account, database: Database, groups: GroupService
) -> dict[str, Any]:
    """Change a group; roles follow at once."""
    rules = None if body.rules is None else [each.to_rule() for each in body.rules]
    with database.transaction() as db:
        group = groups.change(db, group_id, caller.community_id, name=body.name, entities=body.entities, rules=rules)
    groups.tell(group["community_id"])
    return {"success": True, "group": group}


@endpoint("DELETE", "/labels/groups/<group_id:int>", caller=ADMINS_OR_API_USERS, area="people")
def delete_group(group_id: int, caller: Account, database: Database, groups: GroupService) -> dict[str, Any]:
    """Delete a group; what roles it brought are taken again."""
    with database.transaction() as db:
        group = groups.delete(db, group_id, caller.community_id)
    groups.tell(group["community_id"])
    return {"success": True}


@endpoint("GET", "/labels/groups/<group_id:int>/roles", caller=ADMINS_OR_API_USERS, area="people", query=RolesQuery)
def list_roles(
    group_id: int, query: RolesQuery, caller: Account, database: Database, groups: GroupService
) -> dict[str, Any]:
    """List who has or waits for a group's roles; what a platform refused comes first, with why."""
    with database.reading() as db:
        group = groups.get(db, group_id, caller.community_id)
        listed = groups.list_roles(db, group_id, group["community_id"], query, is_refused=query.refused)
    return list_answer("roles", listed, query)


@endpoint("POST", "/labels/groups/<group_id:int>/reconcile", caller=ADMINS_OR_API_USERS, area="people")
def reconcile_group(group_id: int, caller: Account, database: Database, groups: GroupService) -> dict[str, Any]:
    """Ask the platforms again, now, for what they refused."""
    with database.transaction() as db:
        group = groups.get(db, group_id, caller.community_id)
        count = groups.try_again(db, group_id, group["community_id"])
    groups.tell(group["community_id"])
    return {"success": True, "roles": count}


@endpoint("POST", "/labels/role-changed", caller=COLLECTORS, body=RoleChanged)
def note_role(body: RoleChanged, caller: Account, database: Database, roles: RoleService) -> dict[str, Any]:
    """Hear of a role that somebody got or lost at a platform; it changes no label."""
    check_server(database, caller, body.platform, body.server_id)
    return {"success": True, "changed": roles.note_told(body.model_dump())}
