"""How much modules are used: counted from the router's record of executions, a minute late, once for all replicas."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from waddlebot.data.database import Database, fetch, fetch_one

# Executions are on record when they begin, and most have ended after this.
SETTLED = "1 minute"
# What one step counts at most.
STRETCH = "10 minutes"
COUNT = f"""
WITH stretch AS (
    SELECT until AS since, least(until + interval '{STRETCH}', now() - interval '{SETTLED}') AS until
    FROM module_usage_mark FOR UPDATE
), counted AS (
    INSERT INTO module_usage_stats AS s (module_id, community_id, command, date, usage_count, failure_count, total_ms,
        last_used)
    SELECT x.module_name, x.community_id, x.command, (x.created_at AT TIME ZONE 'UTC')::date,
        count(*) FILTER (WHERE x.status NOT IN ('denied', 'rate_limited')),
        count(*) FILTER (WHERE x.status IN ('failed', 'timeout')), coalesce(sum(x.execution_time_ms), 0),
        max(x.created_at)
    FROM command_executions x JOIN stretch ON x.created_at >= since AND x.created_at < stretch.until
    WHERE x.module_name IN (SELECT module_id FROM marketplace_modules)
    GROUP BY 1, 2, 3, 4
    ON CONFLICT (module_id, community_id, command, date) DO UPDATE SET
        usage_count = s.usage_count + excluded.usage_count, failure_count = s.failure_count + excluded.failure_count,
        total_ms = s.total_ms + excluded.total_ms, last_used = greatest(s.last_used, excluded.last_used)
)
UPDATE module_usage_mark m SET until = stretch.until FROM stretch WHERE stretch.until > m.until
RETURNING m.until < now() - interval '{SETTLED}' - interval '1 second' AS is_behind
"""


def count_usage(db: Database) -> bool:
    """Count what was not counted yet. True when there is more."""
    rows = db.statement(COUNT)
    return bool(rows and rows[0]["is_behind"])


def stats(db: DAL, module_id: str, community_id: int | None, days: int) -> dict[str, Any]:
    """A module's use in the last days, in one community or with None in all."""
    where = {"module": module_id, "community": community_id, "days": days}
    rows = fetch(
        db,
        "SELECT date, command, sum(usage_count)::bigint AS usage_count, sum(failure_count)::bigint AS failure_count,"
        " count(DISTINCT community_id) AS communities,"
        " round((sum(total_ms) / greatest(1, sum(usage_count)))::numeric, 2)::float AS average_ms"
        " FROM module_usage_stats WHERE module_id = %(module)s"
        " AND (%(community)s::bigint IS NULL OR community_id = %(community)s)"
        " AND date > (now() AT TIME ZONE 'UTC')::date - %(days)s GROUP BY 1, 2 ORDER BY 1, 2",
        where,
    )
    installed = fetch_one(
        db,
        "SELECT count(*) AS n FROM module_installations WHERE module_id = %(module)s AND version IS NOT NULL"
        " AND (%(community)s::bigint IS NULL OR community_id = %(community)s)",
        where,
    )
    versions = fetch(
        db,
        "SELECT version, count(*) AS installations FROM module_installations WHERE module_id = %(module)s"
        " AND version IS NOT NULL AND (%(community)s::bigint IS NULL OR community_id = %(community)s)"
        " GROUP BY 1 ORDER BY 2 DESC LIMIT 50",
        where,
    )
    return {
        "usage_count": sum(row["usage_count"] for row in rows),
        "failure_count": sum(row["failure_count"] for row in rows),
        "installation_count": installed["n"] if installed else 0,
        "versions": versions,
        "by_day": rows,
    }


def count_ratings_anew(db: Database) -> None:
    """After reviews were erased with those who wrote them."""
    db.statement(
        "UPDATE marketplace_modules m SET rating_count = r.n, rating_average = r.average FROM ("
        " SELECT m.module_id, count(r.id) AS n, coalesce(avg(r.rating), 0) AS average FROM marketplace_modules m"
        " LEFT JOIN module_reviews r USING (module_id) GROUP BY 1) r"
        " WHERE r.module_id = m.module_id AND r.n <> m.rating_count RETURNING m.id"
    )
