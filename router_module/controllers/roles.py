"""Roles and memberships of many people at once, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints
from waddlebot.base.contracts import Attributed, Level, Strict, UserId, Wire
from waddlebot.base.wire import is_number
from waddlebot.community.communities import Reference, get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import whole_list_answer

from ..services.people.roles_service import MemberResult, PermissionResult, RoleResult, RolesService

MAX_PEOPLE = 10_000

Role = Annotated[str, StringConstraints(max_length=64)]
Text = Annotated[str, StringConstraints(max_length=255)]


def _read_numbers(text: str) -> list[int | str]:
    return [int(part) if is_number(part, digits=19) else part for part in text.split(",")]


class Assignment(Strict):
    user_id: UserId
    role: Role


class Assignments(Attributed):
    community_id: Reference | None = None
    assignments: list[Assignment] = Field(min_length=1, max_length=MAX_PEOPLE)


class Check(Strict):
    """Whether somebody is at least of that level."""

    user_id: UserId
    level: Role


class Checks(Attributed):
    community_id: Reference | None = None
    checks: list[Check] = Field(min_length=1, max_length=MAX_PEOPLE)


class RolesQuery(Strict):
    """`user_id` is one number or several with commas."""

    community_id: Text | None = None
    user_id: Annotated[list[UserId], Field(max_length=MAX_PEOPLE), BeforeValidator(_read_numbers)]


class Joining(Attributed):
    """Who is to be a member of the global community, and of `community_id` if it is given."""

    community_id: Reference | None = None
    user_ids: list[UserId] = Field(min_length=1, max_length=MAX_PEOPLE)


class RolesAnswer(Wire):
    """One result for each person, in the order of the request."""

    success: bool = True
    community_id: int
    results: list[RoleResult]


class ChecksAnswer(Wire):
    success: bool = True
    community_id: int
    results: list[PermissionResult]


class JoiningAnswer(Wire):
    success: bool = True
    community_id: int | None
    results: list[MemberResult]


@endpoint("POST", "/router/roles/assign", caller=ADMINS_OR_API_USERS, area="people", body=Assignments)
def assign_roles(body: Assignments, caller: Account, roles: RolesService, database: Database) -> RolesAnswer:
    """Give people roles in a community. A community's own key hands out roles up to admin, an editor up to moderator.

    Each person's result says what became of it; nobody's failure is another's.
    """
    community_id = get_community(database, caller, body.community_id)
    asked = [(each.user_id, each.role) for each in body.assignments]
    results = roles.assign_roles_bulk(community_id, asked, by=caller.name, ceiling=_ceiling(caller))
    return RolesAnswer(community_id=community_id, results=results)


@endpoint("POST", "/router/roles/check", caller=ADMINS_OR_API_USERS, area="people", body=Checks, only_asks=True)
def check_permissions(body: Checks, caller: Account, roles: RolesService, database: Database) -> ChecksAnswer:
    """Say of each person whether the role in a community is at least the level that is asked for."""
    community_id = get_community(database, caller, body.community_id)
    asked = [(each.user_id, each.level) for each in body.checks]
    return ChecksAnswer(community_id=community_id, results=roles.check_permissions_bulk(community_id, asked))


@endpoint("GET", "/router/roles", caller=ADMINS_OR_API_USERS, area="people", query=RolesQuery)
def read_roles(query: RolesQuery, caller: Account, roles: RolesService, database: Database) -> dict[str, Any]:
    """List people's roles in a community."""
    community_id = get_community(database, caller, query.community_id)
    found = roles.get_user_roles_bulk(community_id, query.user_id)
    return whole_list_answer("roles", found, community_id=community_id)


@endpoint("POST", "/router/members/ensure", caller=ADMINS_OR_API_USERS, area="people", body=Joining)
def ensure_members(body: Joining, caller: Account, roles: RolesService, database: Database) -> JoiningAnswer:
    """Make people members of the global community, and of the one that is named or that the key belongs to."""
    community_id = body.community_id if body.community_id is not None else caller.community_id
    if community_id is not None:
        community_id = get_community(database, caller, community_id)
    results = roles.ensure_users_in_global_community_bulk(body.user_ids, also_in=community_id)
    return JoiningAnswer(community_id=community_id, results=results)


def _ceiling(caller: Account) -> Level:
    if caller.is_admin:
        return Level.OWNER
    return Level.ADMIN if caller.actor is None or caller.actor.may("owner") else Level.MODERATOR
