"""Which community a request is about, without asking the database each time."""

from __future__ import annotations

from waddlebot.base.errors import Invalid
from waddlebot.community.communities import community_of
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database
from waddlebot.web.auth import Account

KEPT_S = 30.0


class Communities:
    """A community's number does not change; that it was closed is noticed within KEPT_S."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._known: Cache[str, int] = bus.cache("label_communities", ttl_s=KEPT_S)

    def get(self, caller: Account, reference: int | str | None) -> int:
        """Raises: as community_of."""
        if reference is None:
            reference = caller.community_id
        if reference is None:
            raise Invalid("community_id is missing.", field="community_id")
        community_id = self._known.get(str(reference), lambda _fresh: self._load(caller, reference))
        caller.check_community(community_id)
        return community_id

    def _load(self, caller: Account, reference: int | str) -> int:
        with self._db.transaction() as db:
            return community_of(db, caller, reference)
