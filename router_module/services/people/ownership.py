"""Whose a community is, and handing it over."""

from __future__ import annotations

from pydal import DAL
from waddlebot.base.contracts import Level
from waddlebot.base.errors import Conflict, NotAllowed, NotFound
from waddlebot.community.people import PEOPLE, ids_of
from waddlebot.data.audit import Undo, record
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import Account

OWNER = "SELECT owner_id, is_global FROM communities WHERE id = %s FOR UPDATE"
# Whoever was erased has a number and nothing else.
IS_SOMEBODY = "SELECT 1 AS one FROM platform_identities WHERE user_id = ANY(%s) LIMIT 1"
IS_HERE = """
SELECT 1 AS one FROM users u JOIN community_memberships m ON m.user_id = u.id
WHERE u.id = ANY(%s) AND u.is_active AND m.community_id = %s AND m.is_active LIMIT 1
"""
GIVE_ROLE = """
INSERT INTO community_rbac (community_id, user_id, role, assigned_by) VALUES (%s, %s, %s, %s)
ON CONFLICT (community_id, user_id) DO UPDATE
SET role = excluded.role, assigned_by = excluded.assigned_by, assigned_at = now()
"""


class NobodysToGive(Conflict):
    """The global community is nobody's."""

    code = "global_community"


class Ownership:
    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus

    def hand_over(self, community_id: int, user_id: int, *, by: Account) -> bool:
        """Make a member the owner; who was it is an admin from then on. Returns whether that changed anything.

        Only the owner may, or who runs the fleet; what is nobody's anybody with an owner's right may.
        Raises: NotAllowed; NotFound for who is no member here; NobodysToGive.
        """
        with self._db.transaction() as db:
            community = fetch_one(db, OWNER, (community_id,))
            assert community is not None
            if community["is_global"]:
                raise NobodysToGive()
            former, theirs = community["owner_id"], ids_of(db, user_id)
            if former in theirs:
                return False
            owners = ids_of(db, former) if former is not None else []
            own_id = by.actor.own_id if by.actor else None
            may = by.is_admin or own_id in owners or not fetch(db, IS_SOMEBODY, (owners,))
            if not may:
                raise NotAllowed("Only who owns this community may hand it over, or who runs the fleet.")
            if not fetch(db, IS_HERE, (theirs, community_id)):
                raise NotFound("There is no such member here.")
            self._change(db, community_id, user_id, former, by=by.name)
        self._bus.invalidate(PEOPLE, *theirs, *owners)
        return True

    def _change(self, db: DAL, community_id: int, user_id: int, former: int | None, *, by: str) -> None:
        fetch(db, "UPDATE communities SET owner_id = %s WHERE id = %s", (user_id, community_id))
        if former is not None:
            sql = "UPDATE community_rbac SET role = %s WHERE community_id = %s AND user_id = ANY(%s) AND role = %s"
            levels = Level.ADMIN.label, community_id, ids_of(db, former), Level.OWNER.label
            fetch(db, sql, levels)
            fetch(db, GIVE_ROLE, (community_id, former, Level.ADMIN.label, by))
        fetch(db, GIVE_ROLE, (community_id, user_id, Level.OWNER.label, by))
        path = f"/router/communities/{community_id}/owner"
        record(
            db,
            "router",
            "community_handed_over",
            f"owner/{community_id}",
            community_id=community_id,
            before={"user_id": former},
            after={"user_id": user_id},
            undo=Undo("PUT", path, {"user_id": former}) if former is not None else None,
        )
