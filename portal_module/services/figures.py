"""The figures that charts show: sums by hour and day, kept by a job, so that a page never counts messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydal import DAL
from waddlebot.data.cache import Cache
from waddlebot.data.database import Database, fetch, fetch_one

COUNT_EVERY_S = 20.0
# Counting rests for so many times what it took, and at most so long: where there is little, it shows at once.
RESTS, MOST_REST_S = 100, 300.0
KEPT_DAYS, PERSON_DAYS = 400, 31
PERIODS = (7, 30, 90)
MOVERS = 6
LEADERS, LEADERS_KEPT_S = 10, 30
GLANCES_KEPT_S = 5
# Counting what happened in a day may take longer than other statements.
PATIENCE = "60s"

# What came late to an hour that is over comes within the next.
COUNT_HOURS = """
INSERT INTO portal_hours (community_id, hour, messages, commands, points)
SELECT community_id, hour, sum(messages), sum(commands), sum(points) FROM (
    SELECT community_id, date_trunc('hour', received_at) AS hour, count(*) AS messages, 0 AS commands, 0 AS points
    FROM router_events WHERE received_at >= %(since)s AND message_type = 'chatMessage' GROUP BY 1, 2
    UNION ALL
    SELECT community_id, date_trunc('hour', created_at), 0, count(*), 0
    FROM command_executions WHERE created_at >= %(since)s AND trigger_type = 'command' GROUP BY 1, 2
    UNION ALL
    SELECT community_id, date_trunc('hour', processed_at), 0, 0, sum(event_score)
    FROM reputation_events WHERE processed_at >= %(since)s GROUP BY 1, 2
) AS each JOIN communities c ON c.id = community_id GROUP BY 1, 2
ON CONFLICT (community_id, hour) DO UPDATE
SET messages = excluded.messages, commands = excluded.commands, points = excluded.points
"""
COUNT_DAYS = """
INSERT INTO portal_days (community_id, day, members, people, half_ms, most_ms)
SELECT c.id, coalesce(heard.day, ran.day), 0, coalesce(heard.people, 0), ran.half_ms, ran.most_ms FROM (
    SELECT community_id, received_at::date AS day, count(DISTINCT user_id) AS people
    FROM router_events WHERE received_at >= %(since)s AND message_type = 'chatMessage' GROUP BY 1, 2
) AS heard FULL JOIN (
    SELECT community_id, created_at::date AS day,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY execution_time_ms) AS half_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY execution_time_ms) AS most_ms
    FROM command_executions WHERE created_at >= %(since)s AND execution_time_ms IS NOT NULL GROUP BY 1, 2
) AS ran USING (community_id, day) JOIN communities c ON c.id = community_id
ON CONFLICT (community_id, day) DO UPDATE
SET people = excluded.people, half_ms = excluded.half_ms, most_ms = excluded.most_ms
"""
COUNT_MEMBERS = """
INSERT INTO portal_days (community_id, day, members)
SELECT community_id, now()::date, count(*) FROM community_memberships WHERE is_active GROUP BY 1
ON CONFLICT (community_id, day) DO UPDATE SET members = excluded.members
"""
COUNT_COMMANDS = """
INSERT INTO portal_command_days (community_id, day, command, module_name, calls, failures)
SELECT community_id, e.created_at::date, command, module_name, count(*),
    count(*) FILTER (WHERE status IN ('failed', 'timeout'))
FROM command_executions e JOIN communities c ON c.id = community_id
WHERE e.created_at >= %(since)s AND trigger_type = 'command' AND status NOT IN ('denied', 'rate_limited')
GROUP BY 1, 2, 3, 4
ON CONFLICT (community_id, day, command, module_name) DO UPDATE
SET calls = excluded.calls, failures = excluded.failures
"""
# Somebody's day is written again only when they have earned more.
COUNT_PERSONS = """
INSERT INTO portal_person_days AS known (user_id, community_id, day, points)
SELECT user_id, community_id, processed_at::date, sum(event_score) FROM reputation_events
JOIN users u ON u.id = user_id JOIN communities c ON c.id = community_id
WHERE processed_at >= %(since)s GROUP BY 1, 2, 3
ON CONFLICT (user_id, community_id, day) DO UPDATE SET points = excluded.points WHERE known.points <> excluded.points
"""
COUNT_MOVERS = """
INSERT INTO portal_movers (community_id, days, user_id, points)
SELECT community_id, %(days)s, user_id, points FROM (
    SELECT community_id, user_id, sum(event_score) AS points,
        row_number() OVER (PARTITION BY community_id ORDER BY abs(sum(event_score)) DESC, user_id) AS place
    FROM reputation_events WHERE processed_at >= now() - %(days)s * interval '1 day' GROUP BY 1, 2
) AS each WHERE place <= %(movers)s AND points <> 0
"""
# There is no index by points: it would have to follow every message.
SELECT_LEADERS = """
SELECT r.user_id, u.display_name, r.current_score FROM (
    SELECT user_id, current_score FROM user_reputation WHERE community_id = %s AND current_score > 0
    ORDER BY current_score DESC, user_id LIMIT %s
) AS r JOIN users u ON u.id = r.user_id ORDER BY r.current_score DESC, r.user_id
"""


@dataclass(frozen=True, slots=True)
class Stat:
    """One number of a period, and how it differs from the period before, in words."""

    name: str
    value: str
    change: str = ""
    # up, down, or neither good nor bad.
    way: str = ""


class AtLeisure:
    """A job that is left out while it rests."""

    def __init__(self, job: Callable[[], None]) -> None:
        self._job = job
        self._rests_until = 0.0

    def __call__(self) -> None:
        began = time.monotonic()
        if began < self._rests_until:
            return
        self._job()
        ended = time.monotonic()
        self._rests_until = ended + min(MOST_REST_S, RESTS * (ended - began))


class FigureService:
    def __init__(
        self, db: Database, leaders: Cache[int, list[dict[str, Any]]], glances: Cache[str, dict[str, Any]]
    ) -> None:
        self._db = db
        self._leaders = leaders
        self._glances = glances

    # Counting

    def count_hours(self) -> None:
        """Count the hours since the newest that was counted, that one included."""
        with self._db.transaction() as db:
            _be_patient(db)
            fetch(db, COUNT_HOURS, {"since": _since(db, "portal_hours", "hour", timedelta(hours=1))})

    def count_days(self) -> None:
        """Count the days since the newest that was counted, that one included, and who moved most."""
        with self._db.transaction() as db:
            _be_patient(db)
            since = _since(db, "portal_days", "day", timedelta(days=0))
            for count in (COUNT_DAYS, COUNT_MEMBERS, COUNT_COMMANDS):
                fetch(db, count, {"since": since})
            since = _since(db, "portal_person_days", "day", timedelta(days=0), back=PERSON_DAYS)
            fetch(db, COUNT_PERSONS, {"since": since})
            fetch(db, "DELETE FROM portal_person_days WHERE day <= now()::date - %s", (PERSON_DAYS,))
            fetch(db, "DELETE FROM portal_movers")
            for days in PERIODS:
                fetch(db, COUNT_MOVERS, {"days": days, "movers": MOVERS})
            for table, column in (("portal_hours", "hour"), ("portal_days", "day"), ("portal_command_days", "day")):
                fetch(db, f"DELETE FROM {table} WHERE {column} < now() - %s * interval '1 day'", (KEPT_DAYS,))

    # Reading

    def glance(self, community_id: int, days: int, make: Callable[[DAL], dict[str, Any]]) -> dict[str, Any]:
        """What is made of the last days' figures, which are counted now and then only, as it was within the last
        GLANCES_KEPT_S."""

        def look(_fresh: bool) -> dict[str, Any]:
            with self._db.lookup() as db:
                return make(db)

        return self._glances.get(f"{community_id} {days}", look)

    def days(self, db: DAL, community_id: int, days: int) -> list[dict[str, Any]]:
        """Each of the last days, oldest first, twice as many as asked for, so that a period can be compared with the
        one before."""
        return fetch(
            db,
            "SELECT each.day::date AS day, coalesce(h.messages, 0) AS messages, coalesce(h.commands, 0) AS commands,"
            " coalesce(h.points, 0) AS points, coalesce(d.people, 0) AS people, coalesce(d.members, 0) AS members,"
            " d.half_ms, d.most_ms"
            " FROM generate_series(now()::date - %(days)s * 2 + 1, now()::date, interval '1 day') AS each (day)"
            " LEFT JOIN (SELECT hour::date AS day, sum(messages)::bigint AS messages,"
            "   sum(commands)::bigint AS commands, sum(points)::bigint AS points FROM portal_hours"
            "  WHERE community_id = %(community)s AND hour >= now()::date - %(days)s * 2 + 1 GROUP BY 1) AS h"
            "  ON h.day = each.day"
            " LEFT JOIN portal_days d ON d.community_id = %(community)s AND d.day = each.day ORDER BY 1",
            {"community": community_id, "days": days},
        )

    def week(self, db: DAL, community_id: int, days: int) -> dict[tuple[int, int], int]:
        """Messages by weekday and hour."""
        rows = fetch(
            db,
            "SELECT extract(isodow FROM hour)::int - 1 AS day, extract(hour FROM hour)::int AS hour,"
            " sum(messages)::bigint AS n FROM portal_hours"
            " WHERE community_id = %s AND hour >= now()::date - %s GROUP BY 1, 2",
            (community_id, days),
        )
        return {(row["day"], row["hour"]): row["n"] for row in rows}

    def commands(self, db: DAL, community_id: int, days: int) -> list[dict[str, Any]]:
        """What each module was asked on each day."""
        return fetch(
            db,
            "SELECT command, module_name, day, calls, failures FROM portal_command_days"
            " WHERE community_id = %s AND day > now()::date - %s",
            (community_id, max(days, 30)),
        )

    def leaders(self, community_id: int) -> list[dict[str, Any]]:
        """Who has the most points, as it was within the last LEADERS_KEPT_S."""
        return self._leaders.get(
            community_id, lambda _fresh: self._db.statement(SELECT_LEADERS, (community_id, LEADERS))
        )

    def movers(self, db: DAL, community_id: int, days: int) -> list[dict[str, Any]]:
        return fetch(
            db,
            "SELECT m.user_id, m.points, u.display_name, coalesce(r.current_score, 0) AS current_score"
            " FROM portal_movers m JOIN users u ON u.id = m.user_id"
            " LEFT JOIN user_reputation r ON r.community_id = m.community_id AND r.user_id = m.user_id"
            " WHERE m.community_id = %s AND m.days = %s ORDER BY m.points DESC, m.user_id",
            (community_id, days),
        )


def stats_of(rows: Sequence[dict[str, Any]]) -> list[Stat]:
    """The numbers above a dashboard, of the newer half of these days beside the older."""
    half = len(rows) // 2
    before, now = rows[:half], rows[half:]
    members, gained = _members(now)
    return [
        Stat("Members", f"{members:,}", f"{gained:+,}" if gained else "no change", "up" if gained > 0 else ""),
        _sum("Messages", before, now, "messages"),
        _sum("Commands answered", before, now, "commands"),
        _sum("Points given", before, now, "points"),
        _speed(before, now),
    ]


def _members(rows: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """How many there are, and how many more than on the first day that was counted."""
    counted = [row["members"] for row in rows if row["members"]]
    return (counted[-1], counted[-1] - counted[0]) if counted else (0, 0)


def _sum(name: str, before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], field: str) -> Stat:
    was, has = (sum(row[field] for row in rows) for rows in (before, now))
    if not was:
        return Stat(name, f"{has:,}", "nothing before" if has else "")
    percent = round(100 * (has - was) / was)
    words = f"{percent:+} %".replace("-", "−") if percent else "no change"
    return Stat(name, f"{has:,}", words, "up" if percent > 0 else "down" if percent < 0 else "")


def _speed(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> Stat:
    """Half of the answers came within so many milliseconds; less is better."""
    was, has = (_middle([row["half_ms"] for row in rows if row["half_ms"] is not None]) for rows in (before, now))
    if has is None:
        return Stat("Half answered within", "–")
    text = f"{has:.0f} ms" if has >= 1 else "1 ms"
    if was is None or round(was) == round(has):
        return Stat("Half answered within", text, "" if was is None else "no change")
    return Stat("Half answered within", text, f"{has - was:+.0f} ms".replace("-", "−"), "up" if has < was else "down")


def _middle(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None


def _since(db: DAL, table: str, column: str, overlap: timedelta, *, back: int = max(PERIODS)) -> datetime:
    """From when on to count: the newest that was counted may not have been over."""
    row = fetch_one(db, f"SELECT max({column}) AS newest FROM {table}")
    newest = row and row["newest"]
    if newest is None:
        return datetime.combine(datetime.now(UTC).date() - timedelta(days=back - 1), datetime.min.time(), UTC)
    if not isinstance(newest, datetime):
        assert isinstance(newest, date)
        newest = datetime(newest.year, newest.month, newest.day, tzinfo=UTC)
    return newest - overlap


def _be_patient(db: DAL) -> None:
    fetch(db, "SELECT set_config('statement_timeout', %s, true)", (PATIENCE,))
