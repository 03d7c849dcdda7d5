"""Who broke rules that escalate, and forgiving it, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Any

from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.rules.escalation import Escalation

VIOLATIONS = "/router/communities/<community>/violations"


@endpoint("GET", VIOLATIONS, caller=ADMINS_OR_API_USERS, area="rules", query=Page)
def list_violations(
    community: str, query: Page, caller: Account, database: Database, escalation: Escalation
) -> dict[str, Any]:
    """List who broke which escalating rule how often in the last 30 days, and what was done the last time."""
    return escalation.list(get_community(database, caller, community), query)


@endpoint("DELETE", f"{VIOLATIONS}/<user_id:int>", caller=ADMINS_OR_API_USERS, area="rules")
def forgive(
    community: str, user_id: int, caller: Account, database: Database, escalation: Escalation
) -> dict[str, Any]:
    """Forget what somebody broke in a community, under all of their linked names."""
    community_id = get_community(database, caller, community)
    times = escalation.forgive(community_id, user_id)
    return {"success": True, "forgiven": times}
