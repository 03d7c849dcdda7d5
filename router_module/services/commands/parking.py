"""Community modules that keep failing are left alone where they fail, and the owner is told, once (contracts §6)."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from waddlebot.base.contracts import ExecutionStatus
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch

from ..catalogue.cache_manager import COMMANDS
from ..catalogue.catalogue import Command
from ..engines.execution_engine import Result
from ..records.announcement_service import tell_owner
from .planner import BUSY

# In a row, as this process saw them: more than a circuit bears, which heals by itself.
PARKED_AFTER = 10
# What a module says about somebody's request is no failure of its own, and nobody was called while its circuit is open
# or it had too much to do.
NOT_ITS_FAILURE = ("module", "circuit_open", BUSY)
MAX_COUNTED = 10_000


class Parking:
    """Counts failures in a row, of each module in each community."""

    def __init__(self, db: Database, bus: Bus, log: AAALog) -> None:
        self._db = db
        self._bus = bus
        self._log = log
        self._failures: OrderedDict[tuple[int, str], int] = OrderedDict()
        self._lock = Lock()

    def ended(self, community_id: int, command: Command, result: Result) -> None:
        """Take note of how an execution ended, and park the module if that was once too often."""
        place = (community_id, command.module_name)
        is_failure = result.status in (ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT)
        if is_failure and result.error is not None and result.error.code in NOT_ITS_FAILURE:
            return
        with self._lock:
            count = self._failures.pop(place, 0) + 1 if is_failure else 0
            self._failures.pop(place, None)
            if 0 < count < PARKED_AFTER:
                self._failures[place] = count
                while len(self._failures) > MAX_COUNTED:
                    self._failures.popitem(last=False)
        if count >= PARKED_AFTER:
            self._park(community_id, command, result.error.message if result.error else "It failed.")

    def _park(self, community_id: int, command: Command, why: str) -> None:
        name = command.module_name
        with self._db.transaction() as db:
            parked = fetch(
                db,
                "UPDATE module_switches SET parked_at = now(), parked_why = %s, updated_at = now()"
                " WHERE community_id = %s AND module_name = %s AND enabled AND parked_why = ''"
                " RETURNING entity_id",
                (why[:500] or "It failed.", community_id, name),
            )
            if not parked:
                return
            tell_owner(
                db,
                community_id,
                f"parked-{new_id()}",
                f"{name} failed {PARKED_AFTER} times in a row and is parked: nobody is answered by it until you switch"
                f" it on again. The last time: {why[:300]}",
            )
            audit.record(
                db,
                "router",
                "module_parked",
                f"parked/{name}",
                community_id=community_id,
                before={"parked": False},
                after={"parked": True},
                undo=Undo("PUT", f"/router/communities/{community_id}/modules/{name}", {"enabled": True}),
            )
        self._bus.invalidate(COMMANDS, community_id)
        self._log.error("module_parked", module_name=name, community=community_id)
