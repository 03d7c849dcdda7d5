"""Whose a community is."""

from __future__ import annotations

from typing import Any

from waddlebot.base.contracts import Strict, UserId
from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import OWNERS, Account
from waddlebot.web.endpoint import endpoint

from ..services.people.ownership import Ownership


class NewOwner(Strict):
    user_id: UserId


@endpoint("PUT", "/router/communities/<community>/owner", caller=OWNERS, area="settings", body=NewOwner)
def hand_over(
    community: str, new: NewOwner, caller: Account, database: Database, ownership: Ownership
) -> dict[str, Any]:
    """Hand a community over to a member of it. Only its owner may, or who runs the fleet."""
    community_id = get_community(database, caller, community)
    changed = ownership.hand_over(community_id, new.user_id, by=caller)
    return {"success": True, "community_id": community_id, "user_id": new.user_id, "changed": changed}
