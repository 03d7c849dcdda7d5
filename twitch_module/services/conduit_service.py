"""The fleet's conduit at Twitch: made once for the application, never somebody else's, never deleted.

Source: https://dev.twitch.tv/docs/eventsub/handling-conduit-events/
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector as MetricsCollector
from waddlebot.base.errors import ProviderError, Refused, UpstreamError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import to_json
from waddlebot.data.database import Database, DatabaseUnavailable

from .twitch_api import TwitchAPI

# A replica that has not been heard of for so long has no share of the shards any more.
REPLICA_FOR = timedelta(seconds=10)
STALE_AFTER = timedelta(seconds=30)
WARNED_AT = 0.8
# As many as Twitch lets an application have.
MAX_CONDUITS = 5
ENABLED = "enabled"
LOCK = "SELECT pg_advisory_lock(hashtextextended('twitch conduit', 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('twitch conduit', 0))"
SAVE = """
INSERT INTO twitch_conduits (client_id, conduit_id, shard_count) VALUES (%(client)s, %(id)s, %(count)s)
ON CONFLICT (client_id) DO UPDATE SET conduit_id = excluded.conduit_id, shard_count = excluded.shard_count,
    updated_at = now()
"""
REPORT = """
INSERT INTO twitch_conduit_shards AS s (shard_id, container_id, state, detail, heard_at)
SELECT shard_id, %(container)s::text, state, left(detail, 500), heard_at
FROM jsonb_to_recordset(%(shards)s::jsonb) AS r (shard_id integer, state text, detail text, heard_at timestamptz)
ORDER BY shard_id
ON CONFLICT (shard_id) DO UPDATE SET container_id = excluded.container_id, state = excluded.state,
    detail = excluded.detail, heard_at = coalesce(excluded.heard_at, s.heard_at), updated_at = now()
"""
SHARE = """
WITH gone AS (
    DELETE FROM twitch_conduit_replicas WHERE seen_at < now() - %(for)s AND container_id <> %(me)s
), here AS (
    INSERT INTO twitch_conduit_replicas (container_id) VALUES (%(me)s)
    ON CONFLICT (container_id) DO UPDATE SET seen_at = now()
)
SELECT 1 + count(*) AS replicas FROM twitch_conduit_replicas
WHERE container_id <> %(me)s AND seen_at >= now() - %(for)s
"""


@dataclass(frozen=True, slots=True)
class Conduit:
    id: str
    shard_count: int


@dataclass(frozen=True, slots=True)
class BoundShard:
    """A shard as Twitch lists it; without a session it is a webhook's."""

    id: int
    status: str
    session_id: str


@dataclass(frozen=True, slots=True)
class ShardState:
    """How a shard is, as whoever has claimed it says."""

    shard_id: int
    state: Literal["connecting", "bound", "lent"]
    detail: str
    heard_at: datetime | None


class ConduitGone(UpstreamError):
    """Twitch does not know the conduit any more: it deletes one that nobody has served for three days."""


class ConduitService:
    """For all threads. What is awaited runs on the bridge's loop."""

    def __init__(self, api: TwitchAPI, db: Database, *, shard_count: int, log: AAALog) -> None:
        self._api = api
        self._db = db
        self._shard_count = shard_count
        self._log = log
        self._making = threading.Lock()
        self._known: Conduit | None = None

    def get(self) -> Conduit:
        """The conduit that this fleet uses; one is made if there is none. Raises as `ensure`."""
        row = self.find()
        return self._know(row) if row is not None else self.ensure()

    def ensure(self) -> Conduit:
        """The conduit, looked up at Twitch, made or made anew if it is not there, and as large as it is to be.

        Raises: Refused, where the application has as many as Twitch allows; Later; Away; Unclear.
        """
        ours, there = self._look()
        if ours is not None and ours == there and ours.shard_count >= self._shard_count:
            return self._know(ours)
        with self._making, self._db.session() as session:
            session.run(LOCK)
            try:
                return self._know(self._mend(*self._look()))
            finally:
                session.run(UNLOCK)

    def own_ids(self) -> set[str]:
        """The conduits that this fleet has made, whether or not it uses one now."""
        rows = self._db.statement("SELECT conduit_id FROM twitch_conduits")
        return {row["conduit_id"] for row in rows}

    def find(self) -> Conduit | None:
        """The conduit that this fleet has made, as far as its own tables know."""
        rows = self._db.statement(
            "SELECT conduit_id, shard_count FROM twitch_conduits WHERE client_id = %s", (self._api.app.app_id,)
        )
        return Conduit(rows[0]["conduit_id"], rows[0]["shard_count"]) if rows else None

    async def prepare(self) -> dict[int, BoundShard]:
        """Have the conduit and an app token at hand, since after its welcome a socket has ten seconds, and return what
        is bound. What is known of the conduit will do while the database is away.

        Raises: Refused; Later; Away; Unclear.
        """
        with contextlib.suppress(DatabaseUnavailable):
            await asyncio.to_thread(self.get)
        try:
            return await self.list_shards()
        except ConduitGone:
            await asyncio.to_thread(self.ensure)
            return {}

    async def bind(self, shard_id: int, session_id: str) -> None:
        """Have a shard's notifications come to a session. Raises: Refused with Twitch's words about this one shard;
        ConduitGone; Later; Away; Unclear."""
        conduit = self._known
        if conduit is None:
            raise UpstreamError("The conduit is not known yet.")
        transport = {"method": "websocket", "session_id": session_id}
        body = {"conduit_id": conduit.id, "shards": [{"id": str(shard_id), "transport": transport}]}
        answer = await self._ask("PATCH", "eventsub/conduits/shards", body=body)
        for each in answer.get("errors") or ():
            words = str(each.get("message", ""))[:200]
            raise Refused(f"shard {each.get('id')}: {words}", status=400, words=words)

    async def list_shards(self) -> dict[int, BoundShard]:
        """What Twitch has bound. Raises: ConduitGone; Refused; Later; Away; Unclear."""
        conduit = self._known
        found: dict[int, BoundShard] = {}
        params = {"conduit_id": conduit.id if conduit else ""}
        while True:
            answer = await self._ask("GET", "eventsub/conduits/shards", params=params)
            for each in answer["data"]:
                session_id = str((each.get("transport") or {}).get("session_id") or "")
                found[int(each["id"])] = BoundShard(int(each["id"]), str(each["status"]), session_id)
            cursor = (answer.get("pagination") or {}).get("cursor")
            if not cursor:
                return found
            params = {**params, "after": str(cursor)}

    def save_costs(self, total: int, at_most: int) -> None:
        self._db.statement(
            "UPDATE twitch_conduits SET total_cost = %s, max_total_cost = %s, updated_at = now() WHERE client_id = %s",
            (total, at_most, self._api.app.app_id),
        )

    def share(self, container_id: str, shard_count: int) -> int:
        """How many shards this replica may hold, so that all that live have about as many."""
        rows = self._db.statement(SHARE, {"me": container_id, "for": REPLICA_FOR})
        return -(-shard_count // int(rows[0]["replicas"]))

    def leave(self, container_id: str) -> int:
        """This replica wants no shards any more. Returns how many others there are."""
        rows = self._db.statement(
            "WITH gone AS (DELETE FROM twitch_conduit_replicas WHERE container_id = %(me)s)"
            " SELECT count(*) AS others FROM twitch_conduit_replicas"
            " WHERE container_id <> %(me)s AND seen_at >= now() - %(for)s",
            {"me": container_id, "for": REPLICA_FOR},
        )
        return int(rows[0]["others"])

    def report(self, container_id: str, shards: Sequence[ShardState]) -> None:
        """Say how this replica's shards are."""
        rows = [dataclasses.asdict(each) for each in shards]
        self._db.statement(REPORT, {"container": container_id, "shards": to_json(rows)})

    def last_heard(self, shard_id: int) -> datetime | None:
        """When whoever had the shard heard something last, as far as they said."""
        rows = self._db.statement("SELECT heard_at FROM twitch_conduit_shards WHERE shard_id = %s", (shard_id,))
        return rows[0]["heard_at"] if rows else None

    def check(self) -> str:
        """Say how many shards are bound. Raises: UpstreamError, with what the first that is not lacks."""
        conduit = self.find()
        if conduit is None:
            raise UpstreamError("no conduit has been made yet; the log of the collectors says why")
        rows = self._db.statement(
            "SELECT n AS shard_id, coalesce(s.state, 'unclaimed') AS state, coalesce(s.detail, '') AS detail,"
            " s.updated_at < now() - %(stale)s AS is_stale FROM generate_series(0, %(count)s - 1) AS n"
            " LEFT JOIN twitch_conduit_shards s ON s.shard_id = n ORDER BY n",
            {"count": conduit.shard_count, "stale": STALE_AFTER},
        )
        lost = [each for each in rows if each["state"] not in ("bound", "lent") or each["is_stale"]]
        if lost:
            first = lost[0]
            why = "nobody holds it any more" if first["is_stale"] else first["detail"] or first["state"]
            raise UpstreamError(f"{len(lost)} of {len(rows)} shards are not bound; shard {first['shard_id']}: {why}")
        return f"{len(rows)} shards, all bound"

    def check_costs(self) -> str:
        """Raises: UpstreamError when Twitch will soon take no more subscriptions."""
        total, at_most = self.costs()
        if at_most and total >= WARNED_AT * at_most:
            raise UpstreamError(
                f"subscriptions cost {total} of {at_most}. Channels whose streamers consent cost nothing: send them to"
                " /twitch/auth"
            )
        return f"{total} of {at_most or '?'}"

    def costs(self) -> tuple[int, int]:
        rows = self._db.statement(
            "SELECT total_cost, max_total_cost FROM twitch_conduits WHERE client_id = %s", (self._api.app.app_id,)
        )
        return (rows[0]["total_cost"], rows[0]["max_total_cost"]) if rows else (0, 0)

    def count_bound(self) -> tuple[int, int]:
        """How many shards are bound, and how many there are."""
        conduit = self.find()
        rows = self._db.statement(
            "SELECT count(*) AS bound FROM twitch_conduit_shards WHERE state IN ('bound', 'lent')"
            " AND updated_at >= now() - %s",
            (STALE_AFTER,),
        )
        return rows[0]["bound"], conduit.shard_count if conduit else 0

    def _know(self, conduit: Conduit) -> Conduit:
        self._known = conduit
        return conduit

    def _look(self) -> tuple[Conduit | None, Conduit | None]:
        """The conduit as our table has it, and as Twitch does."""
        ours = self.find()
        listed = self._api.run(self._list())
        return ours, listed.get(ours.id) if ours else None

    def _mend(self, ours: Conduit | None, there: Conduit | None) -> Conduit:
        wanted = max([self._shard_count, *(each.shard_count for each in (ours, there) if each)])
        if there is None:
            return self._made(self._api.run(self._create(wanted)), is_anew=ours is not None)
        if there.shard_count < wanted:  # Never fewer: the channels of the highest would be nobody's.
            body = {"id": there.id, "shard_count": wanted}
            self._api.run(self._ask("PATCH", "eventsub/conduits", body=body))
        found = Conduit(there.id, wanted)
        self._save(found)
        return found

    async def _list(self) -> dict[str, Conduit]:
        """All of the application's, whoever made them."""
        listed = (await self._ask("GET", "eventsub/conduits"))["data"]
        return {each["id"]: Conduit(str(each["id"]), int(each["shard_count"])) for each in listed}

    async def _create(self, shard_count: int) -> Conduit:
        try:
            answer = await self._ask("POST", "eventsub/conduits", body={"shard_count": shard_count})
        except ProviderError as err:
            others = len(await self._list()) if err.status == 429 else 0
            if others < MAX_CONDUITS:
                raise
            raise Refused(
                f"The application has {others} conduits, as many as Twitch allows, and none of them is this fleet's."
                " Delete one that nobody uses (DELETE /helix/eventsub/conduits?id=…), or use another application.",
                status=429,
                words=err.words,
            ) from err
        return Conduit(str(answer["data"][0]["id"]), int(answer["data"][0]["shard_count"]))

    def _made(self, conduit: Conduit, *, is_anew: bool) -> Conduit:
        self._save(conduit)
        if is_anew:  # The subscriptions have gone with the old one.
            self._db.statement("UPDATE twitch_channels SET checked_at = NULL")
            self._db.statement(
                "UPDATE twitch_subscriptions SET retry_at = now() WHERE transport = 'conduit' AND subscription_id = ''"
            )
        self._log.system("conduit_made", conduit_id=conduit.id, shards=conduit.shard_count, is_anew=is_anew)
        return conduit

    def _save(self, conduit: Conduit) -> None:
        self._db.statement(SAVE, {"client": self._api.app.app_id, "id": conduit.id, "count": conduit.shard_count})

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            return await self._api.as_app(lambda client: client.ask(method, path, params or {}, body))
        except Refused as err:
            if err.status != 404:
                raise
            raise ConduitGone("Twitch does not know this fleet's conduit any more.") from err


class ConduitMetrics(MetricsCollector):
    """Counted when they are asked for, because other processes hold shards too."""

    def __init__(self, conduit: ConduitService, module: str) -> None:
        self._conduit = conduit
        self._prefix = f"waddlebot_{module}_"

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        try:
            (bound, shards), (total, at_most) = self._conduit.count_bound(), self._conduit.costs()
        except WaddleBotError:
            return  # The health check says that the database is away.
        for name, what, value in (
            ("conduit_shards", "Shards of the conduit.", shards),
            ("conduit_shards_bound", "Those of them that come to a socket of ours.", bound),
            ("eventsub_total_cost", "What the application's subscriptions cost.", total),
            ("eventsub_max_total_cost", "What they may cost.", at_most),
        ):
            yield GaugeMetricFamily(self._prefix + name, what, value=value)
