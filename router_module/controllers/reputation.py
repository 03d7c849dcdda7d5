"""Reputation over HTTP: who has how many points, and what earns them beside the events that the router sees."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed
from waddlebot.community.communities import community_of, get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANY_KEY, COLLECTORS_OR_SERVICES, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.people.reputation_service import Activity, ReputationService, Standing
from ..services.records.point_items import take_back


class Correction(Attributed):
    """So many points more, or fewer, and why."""

    points: int = Field(ge=-1_000_000, le=1_000_000)
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class LeaderboardQuery(Page):
    limit: int = Field(10, ge=1, le=100)


@endpoint("POST", "/api/reputation", caller=COLLECTORS_OR_SERVICES, body=Activity)
def report_activity(activity: Activity, caller: Account, reputation: ReputationService) -> dict[str, Any]:
    """Give somebody the points for an activity; once, if it has an `event_id`."""
    return {"success": True, **asdict(reputation.report(activity, caller))}


@endpoint("GET", "/router/reputation/<community>/leaderboard", caller=ANY_KEY, area="people", query=LeaderboardQuery)
def read_leaderboard(
    community: str, query: LeaderboardQuery, caller: Account, reputation: ReputationService, database: Database
) -> dict[str, Any]:
    """List who has the most points in a community; for a platform's key among the people of that platform."""
    community_id = get_community(database, caller, community)
    leaders = reputation.leaderboard(community_id, query, platforms=sorted(caller.platforms))
    return list_answer("leaderboard", leaders.map(_as_row), query, community_id=community_id)


@endpoint("GET", "/router/reputation/<community>/<user_id:int>", caller=ANY_KEY, area="people")
def read_reputation(
    community: str, user_id: int, caller: Account, reputation: ReputationService, database: Database
) -> dict[str, Any]:
    """Say how many points somebody has in a community, and which rank that is."""
    community_id = get_community(database, caller, community)
    standing = reputation.get_standing(community_id, user_id, caller)
    return {"success": True, "community_id": community_id, **_as_row(standing)}


@endpoint(
    "POST",
    "/router/reputation/<community>/<user_id:int>/corrections",
    caller=ADMINS_OR_API_USERS,
    area="people",
    body=Correction,
)
def correct_points(
    community: str,
    user_id: int,
    wanted: Correction,
    caller: Account,
    reputation: ReputationService,
    database: Database,
) -> dict[str, Any]:
    """Give or take points by hand, with a reason."""
    community_id = get_community(database, caller, community)
    score = reputation.correct(community_id, user_id, wanted.points, wanted.reason)
    return {"success": True, "community_id": community_id, "user_id": user_id, "new_score": score}


@endpoint("DELETE", "/router/reputation/<community>/brought/<origin>", caller=ADMINS_OR_API_USERS, area="people")
def take_brought_points(community: str, origin: str, caller: Account, db: DAL) -> dict[str, Any]:
    """Take from everybody the points that were brought from another bot."""
    community_id = community_of(db, caller, community)
    return {"success": True, "community_id": community_id, "people": take_back(db, community_id, origin)}


def _as_row(standing: Standing) -> dict[str, Any]:
    row = asdict(standing)
    del row["total"]
    return row
