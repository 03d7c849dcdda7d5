"""Which container looks after which channel (contracts §7). Every deadline is the database's clock.

A container is a row in `coordination_containers`; whatever changes its claims locks that row first, so that its claims
are counted right and nobody frees what was heard of just now. Claiming itself skips whatever others are taking.
Where statements go together in one message, they are one transaction, and each sees what those before had waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2.extras import Json
from waddlebot.base.contracts import (
    ClaimRequest,
    ContainerHeartbeat,
    ContainerRequest,
    ErrorReport,
    PopulateRequest,
    ReleaseRequest,
    StatusReport,
)
from waddlebot.base.errors import Conflict, NotAllowed, NotFound
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, Prepared, fetch
from waddlebot.web.auth import Account
from waddlebot.web.lists import Page, fetch_page, list_answer

TIMES = {
    "expiry": timedelta(minutes=30),
    "checkin": timedelta(minutes=6),
    # A heartbeat every few seconds need not write down every time that all of its claims were renewed.
    "renewed": timedelta(minutes=1),
    # An entity that nobody could serve is left alone this long.
    "rest": timedelta(minutes=5),
    # Sweeps are a second apart; a longer pause means that nobody could be heard.
    "silence": timedelta(seconds=5),
}
MAX_ERRORS = 3

SHOWN = (
    "entity_id, platform, server_id, channel_id, epoch, status, is_live, viewer_count, priority, last_activity,"
    " claim_expires, metadata, config"
)
FREED = (
    "claimed_by = NULL, claimed_at = NULL, claim_expires = NULL, last_checkin = NULL, updated_at = now(),"
    " status = CASE status WHEN 'claimed' THEN 'available' ELSE status END"
)
TAKEN = (
    "claimed_by = %(container)s, claimed_at = now(), epoch = nextval('coordination_epochs'), last_checkin = now(),"
    " claim_expires = now() + %(expiry)s::interval, updated_at = now(),"
    " status = CASE WHEN status IN ('available', 'error') THEN 'claimed' ELSE status END"
)
# Twitch has channels, and shards of its conduit, which are claimed beside them; elsewhere there is only one kind.
OF_KIND = "(platform <> 'twitch' OR (server_id = 'shard') = %(shards)s::boolean)"
BEST_FREE = (
    "SELECT id FROM coordination WHERE platform = %(platform)s AND claimed_by IS NULL"
    " AND (status <> 'error' OR last_check <= now() - %(rest)s::interval) AND "
    + OF_KIND
    + " ORDER BY is_live DESC, priority, viewer_count DESC, last_activity DESC NULLS LAST, id"
)
MINE = "platform = ANY(%(platforms)s) AND claimed_by = %(container)s"

ENTER = """
INSERT INTO coordination_containers AS c (platform, container_id, last_seen, alive_for, alive_until)
VALUES (%(platform)s, %(container)s, now(), %(alive_for)s::interval, now() + %(alive_for)s::interval)
ON CONFLICT (platform, container_id) DO UPDATE SET last_seen = now(),
    alive_for = coalesce(excluded.alive_for, c.alive_for),
    alive_until = now() + coalesce(excluded.alive_for, c.alive_for)
"""
STILL_HERE = """
UPDATE coordination_containers SET last_seen = now(), alive_for = coalesce(%(alive_for)s, alive_for),
    alive_until = now() + coalesce(%(alive_for)s, alive_for)
WHERE platform = ANY(%(platforms)s) AND container_id = %(container)s;
"""
# One row for each entity taken, or a single one without any, so that the number held before is always known. The ids go
# through an array because the planner, which cannot know the limit, would read the whole table to join a tenth of it.
CLAIM = Prepared(
    "router_claim",
    ENTER,
    f"""
WITH held AS (
    SELECT count(*) AS held FROM coordination WHERE platform = %(platform)s AND claimed_by = %(container)s
        AND {OF_KIND}
), free AS (
    {BEST_FREE} LIMIT (SELECT greatest(0, %(max_claims)s::bigint - held) FROM held) FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE coordination SET {TAKEN} WHERE id = ANY(ARRAY(SELECT id FROM free)) RETURNING *
)
SELECT held, {SHOWN} FROM held LEFT JOIN taken ON true
ORDER BY is_live DESC, priority, viewer_count DESC, entity_id
""",
)
RENEW = f"""
UPDATE coordination SET last_checkin = now(), claim_expires = now() + %(expiry)s
WHERE {MINE} AND (last_checkin < now() - %(renewed)s OR claim_expires < now() + %(expiry)s - %(renewed)s);
"""
LIST_HELD = f"SELECT {SHOWN} FROM coordination WHERE {MINE} ORDER BY entity_id"
RELEASE = f"""
UPDATE coordination SET {FREED}
WHERE {MINE} AND (%(entity_ids)s::text[] IS NULL OR entity_id = ANY(%(entity_ids)s)) RETURNING entity_id
"""
# What is given up here is still held in the eyes of `free`, so that it is not taken again at once.
SWAP_OFFLINE = f"""
WITH gone AS (
    UPDATE coordination SET {FREED} WHERE {MINE} AND platform = %(platform)s AND status = 'offline' RETURNING entity_id
), free AS (
    {BEST_FREE} LIMIT (SELECT count(*) FROM gone) FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE coordination SET {TAKEN} WHERE id = ANY(ARRAY(SELECT id FROM free)) RETURNING *
)
SELECT true AS is_released, {SHOWN} FROM gone JOIN coordination USING (entity_id)
UNION ALL SELECT false, {SHOWN} FROM taken
"""
REPORT_STATUS = """
UPDATE coordination SET
    is_live = coalesce(%(is_live)s, is_live),
    status = CASE %(is_live)s::boolean WHEN true THEN 'live' WHEN false THEN 'offline' ELSE status END,
    live_since = CASE %(is_live)s::boolean
        WHEN true THEN coalesce(live_since, now()) WHEN false THEN NULL ELSE live_since END,
    viewer_count = coalesce(%(viewer_count)s, CASE %(is_live)s::boolean WHEN false THEN 0 ELSE viewer_count END),
    metadata = coalesce(%(metadata)s::jsonb, metadata),
    last_activity = CASE WHEN %(has_activity)s THEN now() ELSE last_activity END,
    last_check = now(), last_checkin = now(), claim_expires = now() + %(expiry)s, error_count = 0, updated_at = now()
WHERE entity_id = %(entity_id)s AND claimed_by = %(container)s AND epoch = coalesce(%(epoch)s, epoch)
RETURNING entity_id, epoch, status
"""
# An entity that failed three times in a row is let go: another container may fare better, after a rest.
REPORT_ERROR = """
UPDATE coordination SET
    error_count = error_count + 1, last_check = now(), updated_at = now(),
    metadata = metadata || jsonb_build_object('last_error', %(message)s::text),
    status = CASE WHEN error_count + 1 >= %(max_errors)s THEN 'error' ELSE status END,
    claimed_by = CASE WHEN error_count + 1 < %(max_errors)s THEN claimed_by END,
    claimed_at = CASE WHEN error_count + 1 < %(max_errors)s THEN claimed_at END,
    claim_expires = CASE WHEN error_count + 1 < %(max_errors)s THEN claim_expires END,
    last_checkin = CASE WHEN error_count + 1 < %(max_errors)s THEN last_checkin END
WHERE entity_id = %(entity_id)s AND claimed_by = %(container)s AND epoch = coalesce(%(epoch)s, epoch)
RETURNING entity_id, epoch, status, error_count
"""
LISTEN = """
INSERT INTO coordination_watch AS w (heard_at) VALUES (now()) ON CONFLICT (is_only) DO UPDATE SET
    -- A second pause soon after a first one belongs to it: not everybody had been heard of again in between.
    silent_from = CASE WHEN w.heard_at >= now() - %(silence)s OR w.heard_at < w.silent_until + %(checkin)s
        THEN w.silent_from ELSE w.heard_at END,
    silent_until = CASE WHEN w.heard_at >= now() - %(silence)s THEN w.silent_until ELSE now() END,
    heard_at = greatest(w.heard_at, now())
"""
FREE_OF_THE_DEAD = f"""
WITH dead AS (
    UPDATE coordination_containers SET alive_until = NULL WHERE (platform, container_id) IN (
        SELECT platform, container_id FROM coordination_containers c, coordination_watch
        WHERE alive_until <= now() AND (alive_until <= silent_from OR silent_until + alive_for <= now())
        FOR UPDATE OF c SKIP LOCKED)
    RETURNING platform, container_id
)
UPDATE coordination c SET {FREED} FROM dead
WHERE c.platform = dead.platform AND c.claimed_by = dead.container_id RETURNING c.id
"""
FREE_THE_EXPIRED = f"""
UPDATE coordination SET {FREED} WHERE id IN (
    SELECT id FROM coordination c, coordination_watch
    WHERE claimed_by IS NOT NULL AND (claim_expires <= now() OR last_checkin <= now() - %(checkin)s)
        AND (least(claim_expires, last_checkin + %(checkin)s) <= silent_from
            OR silent_until + %(checkin)s <= now())
    FOR UPDATE OF c SKIP LOCKED)
RETURNING id
"""
FORGET_THE_IDLE = """
DELETE FROM coordination_containers c WHERE alive_until IS NULL AND last_seen < now() - %(expiry)s
    AND NOT EXISTS (SELECT 1 FROM coordination WHERE platform = c.platform AND claimed_by = c.container_id)
"""

# A Twitch channel, a Slack team, as many Discord shards as there are; elsewhere whatever `servers` has. Twitch's shards
# only ever become more: with each another number its channels move, and fewer leave some to nobody.
WANTED = """
SELECT server_id, channel AS channel_id, '{}'::jsonb AS config, CASE WHEN jsonb_typeof(config->'priority') = 'number'
    THEN least(greatest((config->>'priority')::numeric, -1000000), 1000000)::integer ELSE 100 END AS priority
FROM servers WHERE platform = %(platform)s AND platform NOT IN ('slack', 'discord') AND is_active
UNION ALL
SELECT DISTINCT server_id, '', '{}'::jsonb, 100 FROM servers
WHERE platform = %(platform)s AND platform = 'slack' AND is_active
UNION ALL
SELECT 'shard', n::text, jsonb_build_object('shard_count', shards), 100
FROM (SELECT coalesce(%(shards)s, max((config->>'shard_count')::integer), 1) AS shards
    FROM coordination WHERE platform = 'discord') AS wish, generate_series(0, shards - 1) AS n
WHERE %(platform)s = 'discord'
UNION ALL
SELECT 'shard', n::text, '{}'::jsonb, 100
FROM (SELECT greatest(coalesce(%(shards)s, 0), count(*)) AS shards
    FROM coordination WHERE platform = 'twitch' AND server_id = 'shard') AS wish, generate_series(0, shards - 1) AS n
WHERE %(platform)s = 'twitch'
"""
POPULATE = f"""
WITH wanted AS (
    SELECT concat_ws(':', %(platform)s, server_id, channel_id) AS entity_id, * FROM ({WANTED}) AS w
), gone AS (
    DELETE FROM coordination WHERE id IN (
        SELECT id FROM coordination c WHERE platform = %(platform)s
            AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.entity_id = c.entity_id) FOR UPDATE SKIP LOCKED)
    RETURNING id
), saved AS (
    INSERT INTO coordination AS c (platform, server_id, channel_id, entity_id, priority, config)
    SELECT %(platform)s, w.server_id, w.channel_id, w.entity_id, w.priority, w.config
    FROM wanted w LEFT JOIN coordination o USING (entity_id)
    WHERE (o.priority, o.config) IS DISTINCT FROM (w.priority, w.config) ORDER BY w.entity_id
    -- With another number of shards each of them means other guilds: whoever holds one has to begin anew.
    ON CONFLICT (entity_id) DO UPDATE SET priority = excluded.priority, config = excluded.config,
        claimed_by = CASE WHEN c.config = excluded.config THEN c.claimed_by END,
        status = CASE WHEN c.config <> excluded.config AND c.status = 'claimed' THEN 'available' ELSE c.status END,
        updated_at = now()
    RETURNING (xmax = 0) AS is_new
)
SELECT (SELECT count(*) FROM saved WHERE is_new) AS added, (SELECT count(*) FROM gone) AS removed
"""
COUNT = """
SELECT count(*) AS total_entities, count(claimed_by) AS claimed_entities,
    count(*) FILTER (WHERE claimed_by IS NULL AND status <> 'error') AS available_entities,
    count(*) FILTER (WHERE status = 'live') AS live_entities,
    count(*) FILTER (WHERE status = 'error') AS error_entities
FROM coordination WHERE %(platforms)s::text[] IS NULL OR platform = ANY(%(platforms)s)
"""
COUNT_BY_CONTAINER = """
SELECT claimed_by, count(*) AS held FROM coordination
WHERE claimed_by IS NOT NULL AND (%(platforms)s::text[] IS NULL OR platform = ANY(%(platforms)s))
GROUP BY claimed_by ORDER BY claimed_by
"""


class Lost(Conflict):
    """This container does not hold that entity any more. Stop serving it."""

    code = "lost"


class CoordinationService:
    """Every method that changes something raises NotAllowed for platforms that are not the caller's."""

    def __init__(self, db: Database, log: AAALog, *, max_claims: int) -> None:
        self._db = db
        self._log = log
        self._max_claims = max_claims

    def claim(self, request: ClaimRequest, caller: Account) -> dict[str, Any]:
        """Give a container the best free entities, up to its limit with what it holds already."""
        _check_may_claim(caller, request.platform)
        limit = self._max_claims if request.max_claims is None else request.max_claims
        held, taken = self._take(request, limit)
        if held + len(taken) < limit and self.sweep():
            taken += self._take(request, limit)[1]
        if taken:
            self._log.audit("entities_claimed", container=request.container_id, entities=len(taken), held=held)
        return {
            "success": True,
            "claimed_entities": taken,
            "claimed_count": len(taken),
            "container_id": request.container_id,
            "platform": request.platform,
            "error_message": None,
        }

    def checkin(self, request: ContainerRequest, caller: Account) -> dict[str, Any]:
        """Keep everything that a container holds for another six minutes."""
        held = self._renew(request, caller, alive_for_s=None, extend=True)
        return {
            "success": True,
            "container_id": request.container_id,
            "timestamp": datetime.now(UTC),
            "claimed_count": len(held),
        }

    def heartbeat(self, beat: ContainerHeartbeat, caller: Account) -> dict[str, Any]:
        """Keep what a container holds, and list it: what is not in the list is no longer the container's."""
        held = self._renew(beat, caller, alive_for_s=beat.alive_for_s, extend=beat.extend_claims)
        return {
            "success": True,
            "container_id": beat.container_id,
            "timestamp": datetime.now(UTC),
            "claimed_count": len(held),
            "entities": held,
        }

    def release(self, request: ReleaseRequest, caller: Account) -> dict[str, Any]:
        """Give up what a container holds, or the part of it that is named."""
        mine = self._mine(request, caller)
        rows = self._db.statement(STILL_HERE + RELEASE, {**mine, "alive_for": None, "entity_ids": request.entity_ids})
        released = [row["entity_id"] for row in rows]
        if released:
            self._log.audit("entities_released", container=request.container_id, entities=len(released))
        return {
            "success": True,
            "container_id": request.container_id,
            "released_entities": released,
            "released_count": len(released),
        }

    def release_offline(self, request: ContainerRequest, caller: Account) -> dict[str, Any]:
        """Give up what is offline and take as many others instead, live ones first."""
        mine = self._mine(request, caller)
        rows = []
        for platform in mine["platforms"]:
            parameters = {**mine, "platform": platform, "shards": False, "alive_for": None, **TIMES}
            rows += self._db.statement(STILL_HERE + SWAP_OFFLINE, parameters)
        released = [row["entity_id"] for row in rows if row["is_released"]]
        claimed = [row for row in rows if not row.pop("is_released")]
        if released:
            self._log.audit(
                "offline_swapped", container=request.container_id, released=len(released), claimed=len(claimed)
            )
        return {
            "success": True,
            "container_id": request.container_id,
            "released_entities": released,
            "released_count": len(released),
            "claimed_entities": claimed,
            "claimed_count": len(claimed),
        }

    def report_status(self, report: StatusReport, caller: Account) -> dict[str, Any]:
        """Note what a holder knows of its entity; that it works ends a row of errors. Raises: Lost; NotFound."""
        _check_may_claim(caller, parse_entity_id(report.entity_id).platform)
        parameters = {
            **report.model_dump(exclude={"container_id", "metadata"}),
            "container": report.container_id,
            "metadata": None if report.metadata is None else Json(report.metadata),
        }
        rows = self._db.statement(REPORT_STATUS, {**parameters, **TIMES})
        return self._reported(rows, report.entity_id, report.container_id)

    def report_error(self, report: ErrorReport, caller: Account) -> dict[str, Any]:
        """Count an error; the third in a row marks the entity and lets it go. Raises: Lost; NotFound."""
        _check_may_claim(caller, parse_entity_id(report.entity_id).platform)
        rows = self._db.statement(
            REPORT_ERROR,
            {
                "entity_id": report.entity_id,
                "epoch": report.epoch,
                "container": report.container_id,
                "message": report.error_message[:500],
                "max_errors": MAX_ERRORS,
            },
        )
        answer = self._reported(rows, report.entity_id, report.container_id)
        if answer["status"] == "error":
            self._log.error("entity_marked", entity_id=report.entity_id, message=report.error_message[:500])
        return answer

    def populate(self, request: PopulateRequest, caller: Account) -> dict[str, Any]:
        """Make the entities of a platform what `servers` says, and drop those that are no longer served."""
        _check_may_claim(caller, request.platform)
        parameters = {"platform": request.platform, "shards": request.shard_count}
        counts = self._db.statement(POPULATE, parameters)[0]
        return {
            "success": True,
            "platform": request.platform,
            "entities_added": counts["added"],
            "entities_removed": counts["removed"],
        }

    def stats(self, caller: Account, *, platform: str | None, container_id: str | None) -> dict[str, Any]:
        """Count a platform's entities, or those of all that the caller may see, and what each container holds."""
        platforms = {"platforms": _visible(caller, platform)}
        containers = {row["claimed_by"]: row["held"] for row in self._db.statement(COUNT_BY_CONTAINER, platforms)}
        return {
            "success": True,
            **self._db.statement(COUNT, platforms)[0],
            "containers": containers,
            "this_container": container_id and {"container_id": container_id, "held": containers.get(container_id, 0)},
        }

    def list_entities(
        self,
        caller: Account,
        *,
        platform: str | None,
        status: str | None,
        claimed_by: str | None,
        is_live: bool | None,
        page: Page,
    ) -> dict[str, Any]:
        filters = {"platform": platform, "status": status, "claimed_by": claimed_by, "is_live": is_live}
        listed = fetch_page(
            self._db.statement,
            f"SELECT {SHOWN}, claimed_by, claimed_at, live_since, last_check, last_checkin, heartbeat_interval,"
            " error_count, max_containers, created_at, updated_at, count(*) OVER () AS total FROM coordination"
            " WHERE (%(platforms)s::text[] IS NULL OR platform = ANY(%(platforms)s))"
            " AND (%(status)s::text IS NULL OR status = %(status)s)"
            " AND (%(claimed_by)s::text IS NULL OR claimed_by = %(claimed_by)s)"
            " AND (%(is_live)s::boolean IS NULL OR is_live = %(is_live)s)"
            " ORDER BY entity_id LIMIT %(limit)s OFFSET %(offset)s",
            {**filters, "platforms": _visible(caller, platform)},
            page,
        )
        return list_answer("entities", listed, page, filters=filters)

    def sweep(self) -> bool:
        """Free what dead containers held and what was not renewed in time; whether there was any.

        While nobody sweeps, nobody can be heard: neither during a pause of the database nor while every router is
        away. Whoever would have lost their claims in such a silence has a whole period again once it is over
        (docs/adr/0014).
        """
        with self._db.transaction() as db:
            fetch(db, LISTEN, TIMES)
            dead = fetch(db, FREE_OF_THE_DEAD)
            expired = fetch(db, FREE_THE_EXPIRED, TIMES)
            fetch(db, FORGET_THE_IDLE, TIMES)
        if dead or expired:
            self._log.system("claims_freed", of_dead_containers=len(dead), not_renewed=len(expired))
        return bool(dead or expired)

    def _take(self, request: ClaimRequest, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """How many the container held before, and what it got now."""
        rows = self._db.statement(
            CLAIM,
            {
                "platform": request.platform,
                "container": request.container_id,
                "alive_for": _seconds(request.alive_for_s),
                "max_claims": limit,
                "shards": request.kind == "shard",
                **TIMES,
            },
        )
        held = max(row.pop("held") for row in rows)
        return held, [row for row in rows if row["entity_id"] is not None]

    def _renew(
        self, request: ContainerRequest, caller: Account, *, alive_for_s: float | None, extend: bool
    ) -> list[dict[str, Any]]:
        parameters = {**self._mine(request, caller), "alive_for": _seconds(alive_for_s), **TIMES}
        return self._db.statement(STILL_HERE + (RENEW if extend else "") + LIST_HELD, parameters)

    def _mine(self, request: ContainerRequest, caller: Account) -> dict[str, Any]:
        """A container and its platforms, as far as they are the caller's; none for one that was not heard of lately.

        Raises: NotAllowed for a container that is another account's.
        """
        container_id = request.container_id
        if request.platform is not None:
            _check_may_claim(caller, request.platform)
            return {"container": container_id, "platforms": [request.platform]}
        rows = self._db.statement(
            "SELECT platform FROM coordination_containers WHERE container_id = %s", (container_id,)
        )
        platforms = [row["platform"] for row in rows if caller.serves(row["platform"])]
        if rows and not platforms:
            raise NotAllowed(f"Container {container_id} is not one of account {caller.name}.")
        _check_for_all(caller)
        return {"container": container_id, "platforms": platforms}

    def _reported(self, rows: Sequence[dict[str, Any]], entity_id: str, container_id: str) -> dict[str, Any]:
        if rows:
            return {"success": True, "container_id": container_id, **rows[0]}
        if self._db.statement("SELECT 1 FROM coordination WHERE entity_id = %s", (entity_id,)):
            raise Lost(entity_id=entity_id, container_id=container_id)
        raise NotFound(f"There is no entity {entity_id}; populate its platform first.")


def _check_for_all(caller: Account) -> None:
    if caller.community_id is not None:
        raise NotAllowed("Channels are shared out among the whole fleet; use a key that belongs to no community.")


def _check_may_claim(caller: Account, platform: str) -> None:
    caller.check_platform(platform)
    _check_for_all(caller)


def _visible(caller: Account, platform: str | None) -> list[str] | None:
    """The platforms to show, None for all. Raises: NotAllowed."""
    _check_for_all(caller)
    if platform is None:
        return sorted(caller.platforms) or None
    caller.check_platform(platform)
    return [platform]


def _seconds(alive_for_s: float | None) -> timedelta | None:
    return None if alive_for_s is None else timedelta(seconds=alive_for_s)
