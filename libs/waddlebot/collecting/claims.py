"""What one container of a collector holds of its platform's channels, shards or teams (contracts §7)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ..base.contracts import (
    ClaimedEntity,
    ClaimRequest,
    ContainerHeartbeat,
    ContainerRequest,
    ErrorReport,
    PopulateRequest,
    ReleaseRequest,
    StatusReport,
)
from ..base.errors import UpstreamRefused
from ..base.logs import AAALog
from ..data.database import Database, Prepared
from ..web.clients import RouterClient

ALIVE_FOR_S = 15.0
# Four may go astray before the router takes this container for dead.
BEATS = 5
POPULATE_EVERY_S = 60.0
# Who is not heard for six minutes loses what it holds. With thousands of channels the list is dear.
RENEW_EVERY_S = 120.0
LOST = 409
# No two holdings have the same epoch and none is added behind a container's back, so these are the same only while
# nothing was lost.
SUMMARY = Prepared(
    "claims_summary",
    "SELECT count(*) AS held, coalesce(sum(epoch), 0)::bigint AS epochs FROM coordination"
    " WHERE platform = %(platform)s::text AND claimed_by = %(container)s::text",
)

Told = Callable[[ClaimedEntity], None]


class Claims:
    """Claims as much as this container may hold and keeps it; run `step` every `every_s` seconds, `finish` at the end.

    `gained` and `lost` are told in the thread of whoever finds out, and may take a moment, but not `every_s`. While the
    router is away nothing is lost: nobody else can have it then (docs/adr/0014).
    """

    def __init__(
        self,
        router: RouterClient,
        db: Database,
        *,
        platform: str,
        container_id: str,
        max_claims: int,
        gained: Told,
        lost: Told,
        log: AAALog,
        alive_for_s: float = ALIVE_FOR_S,
        shard_count: int | None = None,
        kind: Literal["channel", "shard"] | None = None,
    ) -> None:
        self.every_s = alive_for_s / BEATS
        self.max_claims = max_claims
        self._router = router
        self._db = db
        self._platform = platform
        self._container = container_id
        self._gained = gained
        self._lost = lost
        self._log = log
        self._alive_for_s = alive_for_s
        self.shard_count = shard_count
        self._kind = kind
        self._held: dict[str, ClaimedEntity] = {}
        self._lock = threading.Lock()
        self._populated_at: float | None = None
        self._renew_at = 0.0

    @property
    def held(self) -> dict[str, ClaimedEntity]:
        with self._lock:
            return dict(self._held)

    def step(self) -> None:
        """Say that this container lives, see what is left to it, and claim what it has room for.

        Raises: UpstreamError.
        """
        if self._populated_at is None:
            # What somebody held here under this name before is claimed anew, with epochs of its own.
            self._release()
        if self._populated_at is None or time.monotonic() - self._populated_at >= POPULATE_EVERY_S:
            self._router.coordinate("populate", PopulateRequest(platform=self._platform, shard_count=self.shard_count))
            self._populated_at = time.monotonic()
        if time.monotonic() >= self._renew_at or not self._is_as_known():
            self._renew()
            self._renew_at = time.monotonic() + RENEW_EVERY_S
        if len(self.held) > self.max_claims:
            self._renew()  # What matters least is for the router to say.
            self._give_up_the_least()
        self._claim()

    def report(
        self,
        entity_id: str,
        *,
        is_live: bool | None = None,
        viewer_count: int | None = None,
        metadata: dict[str, Any] | None = None,
        has_activity: bool = False,
    ) -> bool:
        """Say how an entity is. False when it is not this container's any more."""
        return self._report(
            "status",
            entity_id,
            lambda epoch: StatusReport(
                container_id=self._container,
                entity_id=entity_id,
                epoch=epoch,
                is_live=is_live,
                viewer_count=viewer_count,
                metadata=metadata,
                has_activity=has_activity,
            ),
        )

    def report_error(self, entity_id: str, message: str) -> bool:
        """Say that an entity could not be served; the third time in a row it is no longer this container's."""
        return self._report(
            "error",
            entity_id,
            lambda epoch: ErrorReport(
                container_id=self._container, entity_id=entity_id, epoch=epoch, error_message=message
            ),
        )

    def swap_offline(self) -> None:
        """Give up what is offline for as much else that is free."""
        request = ContainerRequest(container_id=self._container, platform=self._platform)
        answer = self._router.coordinate("release-offline", request)
        self._drop(answer["released_entities"])
        self._add(_entities(answer["claimed_entities"]))

    def finish(self) -> None:
        """Give everything up, and only then let others have it."""
        self._drop(self.held)
        self._release()

    def _is_as_known(self) -> bool:
        """Whether this container holds just what it believes that it does."""
        (row,) = self._db.statement(SUMMARY, {"platform": self._platform, "container": self._container})
        held = self.held.values()
        return (row["held"], row["epochs"]) == (len(held), sum(each.epoch for each in held))

    def _renew(self) -> None:
        beat = ContainerHeartbeat(container_id=self._container, platform=self._platform, alive_for_s=self._alive_for_s)
        self._become(_entities(self._router.coordinate("heartbeat", beat)["entities"]))

    def _claim(self) -> None:
        """Take what there is room for. That is a sign of life, too."""
        request = ClaimRequest(
            platform=self._platform,
            container_id=self._container,
            max_claims=self.max_claims,
            alive_for_s=self._alive_for_s,
            kind=self._kind,
        )
        self._add(_entities(self._router.coordinate("claim", request)["claimed_entities"]))

    def _give_up_the_least(self) -> None:
        by_rank = sorted(self.held.values(), key=lambda each: (not each.is_live, each.priority, -each.viewer_count))
        surplus = [each.entity_id for each in by_rank[self.max_claims :]]
        self._drop(surplus)
        self._release(surplus)

    def _release(self, entity_ids: list[str] | None = None) -> None:
        """Let others have these, or everything."""
        request = ReleaseRequest(container_id=self._container, platform=self._platform, entity_ids=entity_ids)
        self._router.coordinate("release", request)

    def _report(self, action: str, entity_id: str, make: Callable[[int], StatusReport | ErrorReport]) -> bool:
        mine = self.held.get(entity_id)
        if mine is None:
            return False
        try:
            still: bool = self._router.coordinate(action, make(mine.epoch))["status"] != "error"
        except UpstreamRefused as err:
            if err.details.get("status") not in (404, LOST):
                raise
            still = False
        if not still:
            self._drop([entity_id])
        return still

    def _become(self, entities: dict[str, ClaimedEntity]) -> None:
        """Hold what the router says, under the epochs that it says."""
        before = self.held
        self._drop(id_ for id_, mine in before.items() if id_ not in entities or entities[id_].epoch != mine.epoch)
        self._add(entities)

    def _add(self, entities: dict[str, ClaimedEntity]) -> None:
        for id_, entity in entities.items():
            with self._lock:
                is_new = id_ not in self._held
                self._held[id_] = entity
            if is_new:
                self._gained(entity)

    def _drop(self, entity_ids: Iterable[str]) -> None:
        for id_ in entity_ids:
            with self._lock:
                entity = self._held.pop(id_, None)
            if entity is not None:
                self._log.system("entity_given_up", entity_id=id_, epoch=entity.epoch)
                self._lost(entity)


def _entities(rows: list[Any]) -> dict[str, ClaimedEntity]:
    entities = map(ClaimedEntity.model_validate, rows)
    return {each.entity_id: each for each in entities}
