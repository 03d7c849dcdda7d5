"""Which channels the bot can hear: by the age of their last sign of life, not by what a connection says of itself.

A connection can be up and deaf. So two silences count, of which people who have nothing to say cause neither: that of a
source which promised a sign of life every so often (a gateway's heartbeat, a socket's keepalive), and not hearing even
ourselves where the platform lets the bot hear what it says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg2
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector as MetricsCollector

from ..base.chat import count_of
from ..base.errors import UpstreamError, WaddleBotError
from ..base.logs import AAALog
from ..base.wire import to_json
from ..data.database import Database, Prepared
from ..web.lists import Listed, Page, fetch_page

SAVE_EVERY_S = 5.0
LOOK_EVERY_S = 15.0
# What the bot says comes back within a second or two. With the two above a deaf channel is known after 80 s at most.
ECHO_WITHIN = timedelta(seconds=60)
# Two processes save what they noted at different moments, each in its own time.
CLOCKS_APART_S = 0.02
# The intake of a platform that was closed for longer has missed something: platforms give up, sockets replay nothing.
GAP_AFTER = timedelta(seconds=60)
SHOWN_GAPS = 20

SAVE = Prepared(
    "liveness_save",
    """
INSERT INTO channel_liveness AS l (entity_id, platform, heard_at, said_at, silent_after)
SELECT entity_id, %(platform)s::text, now() - heard_ago, now() - said_ago, silent_after
FROM jsonb_to_recordset(%(signs)s::jsonb) AS s (entity_id text, heard_ago interval, said_ago interval,
    silent_after interval) ORDER BY entity_id
ON CONFLICT (entity_id) DO UPDATE SET heard_at = greatest(l.heard_at, excluded.heard_at),
    -- The first of several that were not heard is what silence is counted from.
    said_at = CASE WHEN l.said_at > l.heard_at THEN l.said_at ELSE coalesce(excluded.said_at, l.said_at) END,
    silent_after = coalesce(excluded.silent_after, l.silent_after)
""",
)
DEAF = "(heard_at < now() - silent_after OR (said_at > coalesce(heard_at, '-infinity') AND said_at < now() - %(echo)s))"
SILENCE = (
    "CASE WHEN heard_at < now() - silent_after THEN 'no sign of life since ' || to_char(heard_at, 'HH24:MI:SS')"
    " ELSE 'it does not even hear itself' END"
)
# What has become deaf, and what has recovered, each told once.
JUDGE = f"""
WITH changed AS (
    SELECT entity_id, {DEAF} AS is_deaf FROM channel_liveness
    WHERE platform = %(platform)s AND (deaf_since IS NOT NULL) <> coalesce({DEAF}, false) FOR UPDATE SKIP LOCKED
)
UPDATE channel_liveness l SET deaf_since = CASE WHEN c.is_deaf THEN now() END,
    detail = CASE WHEN c.is_deaf THEN {SILENCE} ELSE '' END
FROM changed c WHERE l.entity_id = c.entity_id RETURNING l.entity_id, l.deaf_since IS NOT NULL AS is_deaf, l.detail
"""
COUNT = f"""
SELECT count(*) AS channels, count(*) FILTER (WHERE {DEAF}) AS deaf,
    coalesce(extract(epoch FROM now() - min(heard_at)), 0)::float AS oldest_s,
    coalesce(extract(epoch FROM now() - max(heard_at)), 0)::float AS newest_s
FROM channel_liveness WHERE platform = %(platform)s
"""
LIST = f"""
SELECT l.entity_id, s.name, c.slug AS community, heard_at, extract(epoch FROM now() - heard_at)::float AS age_s,
    CASE WHEN {DEAF} THEN 'deaf' WHEN heard_at IS NULL THEN 'unheard' ELSE 'hearing' END AS state, deaf_since, detail,
    count(*) OVER () AS total
FROM channel_liveness l LEFT JOIN entities e USING (entity_id) LEFT JOIN communities c ON c.id = e.community_id
    LEFT JOIN servers s ON (s.platform, s.server_id, s.channel) = (e.platform, e.server_id, e.channel_id)
WHERE l.platform = %(platform)s AND (%(community)s::bigint IS NULL OR e.community_id = %(community)s)
ORDER BY ({DEAF}) IS TRUE DESC, l.entity_id LIMIT %(limit)s OFFSET %(offset)s
"""
# The intake is open; when it was closed for long, that is a gap, noted by whoever opens it first.
OPEN_INTAKE = """
WITH before AS (
    SELECT open_at FROM collector_intake WHERE platform = %(platform)s FOR UPDATE
), opened AS (
    INSERT INTO collector_intake (platform) VALUES (%(platform)s)
    ON CONFLICT (platform) DO UPDATE SET open_at = now()
)
INSERT INTO channel_gaps (platform, since, until, why)
SELECT %(platform)s, open_at, now(), %(why)s FROM before WHERE open_at < now() - %(gap)s RETURNING since, until
"""


@dataclass(slots=True)
class _Sign:
    """Times are this process's monotonic clock; only ages leave it, so that no two clocks need agree."""

    heard_at: float | None = None
    said_at: float | None = None
    silent_after: timedelta | None = None

    def row(self, entity_id: str) -> dict[str, str | None]:
        now = time.monotonic()
        return {
            "entity_id": entity_id,
            "heard_ago": None if self.heard_at is None else f"{now - self.heard_at:.3f} seconds",
            "said_ago": None if self.said_at is None else f"{now - self.said_at:.3f} seconds",
            "silent_after": None if self.silent_after is None else f"{self.silent_after.total_seconds():.3f} seconds",
        }


class Liveness:
    """Notes signs of life of one platform's channels and says which of them are deaf. For all threads.

    Noting is free: what was noted is saved every few seconds, all of it in one statement.
    """

    def __init__(self, db: Database, platform: str, log: AAALog) -> None:
        self._db = db
        self._platform = platform
        self._log = log
        self._lock = threading.Lock()
        self._signs: dict[str, _Sign] = {}
        self.on_deaf: Callable[[str], None] = _nothing_to_repair

    def heard(self, entity_id: str) -> None:
        """Anything at all came from there."""
        with self._lock:
            self._signs.setdefault(entity_id, _Sign()).heard_at = time.monotonic()

    def said(self, entity_id: str, *, began_at: float) -> None:
        """The bot spoke there, and will be let hear itself: any time after it began to, also before the platform has
        answered that it took it."""
        with self._lock:
            sign = self._signs.setdefault(entity_id, _Sign())
            sign.said_at = sign.said_at or began_at - CLOCKS_APART_S

    def expect(self, entity_id: str, *, silent_after: timedelta) -> None:
        """A source has promised signs of life; a longer silence than this is deafness. It begins as heard."""
        with self._lock:
            sign = self._signs.setdefault(entity_id, _Sign())
            sign.heard_at, sign.silent_after = time.monotonic(), silent_after

    def forget(self, entity_ids: Iterable[str]) -> None:
        """These are no longer listened to, here or anywhere."""
        ids = list(entity_ids)
        with self._lock:
            for entity_id in ids:
                self._signs.pop(entity_id, None)
        self._db.statement("DELETE FROM channel_liveness WHERE entity_id = ANY(%s)", (ids,))

    def save(self) -> None:
        """Raises: DatabaseUnavailable, or whatever else was in the way; nothing is forgotten then."""
        with self._lock:
            signs, self._signs = self._signs, {}
        is_saved = False
        try:
            self._save_together_or_alone(signs)
            is_saved = True
        finally:
            if not is_saved:
                self._restore(signs)

    def _save_together_or_alone(self, signs: dict[str, _Sign]) -> None:
        """One that the database will never take may not keep the others from being heard."""
        if not signs:
            return
        try:
            self._save(signs)
        except (psycopg2.DataError, ValueError) as err:
            if len(signs) > 1:
                for entity_id, sign in signs.items():
                    self._save_together_or_alone({entity_id: sign})
                return
            self._log.error("sign_of_life_not_saved", entity_id=next(iter(signs)), error=type(err).__name__)

    def _save(self, signs: dict[str, _Sign]) -> None:
        rows = [sign.row(entity_id) for entity_id, sign in signs.items()]
        self._db.statement(SAVE, {"platform": self._platform, "signs": to_json(rows)})

    def _restore(self, signs: dict[str, _Sign]) -> None:
        """What was noted meanwhile counts, and with it what was noted before and not again."""
        with self._lock:
            for entity_id, before in signs.items():
                sign = self._signs.setdefault(entity_id, before)
                sign.heard_at = sign.heard_at or before.heard_at
                sign.said_at = before.said_at or sign.said_at
                sign.silent_after = sign.silent_after or before.silent_after

    def open_intake(self) -> None:
        """Say that deliveries are taken now, and note what was missed while none were."""
        why = f"The collector was away; what {self._platform} does not deliver again is lost."
        asked = {"platform": self._platform, "gap": GAP_AFTER, "why": why}
        for gap in self._db.statement(OPEN_INTAKE, asked):
            self._log.system("gap_noted", result="FAILED", since=gap["since"], until=gap["until"], why=why)

    def note_gap(self, entity_id: str, *, since: datetime, until: datetime, why: str) -> None:
        """Write down what the platform cannot deliver again."""
        self._db.statement(
            "INSERT INTO channel_gaps (platform, entity_id, since, until, why) VALUES (%s, %s, %s, %s, %s)",
            (self._platform, entity_id, since, until, why),
        )
        self._log.system("gap_noted", result="FAILED", entity_id=entity_id, since=since, until=until, why=why)

    def judge(self) -> None:
        """Find out what has become deaf, tell it, and have it repaired."""
        for row in self._db.statement(JUDGE, {"platform": self._platform, "echo": ECHO_WITHIN}):
            result = "FAILED" if row["is_deaf"] else "SUCCESS"
            what = "channel_deaf" if row["is_deaf"] else "channel_hears_again"
            self._log.system(what, result=result, entity_id=row["entity_id"], detail=row["detail"])
            if row["is_deaf"]:
                self.on_deaf(row["entity_id"])

    def count(self) -> dict[str, Any]:
        return self._db.statement(COUNT, {"platform": self._platform, "echo": ECHO_WITHIN})[0]

    def check(self) -> str:
        """Raises: UpstreamError, with the names of the first that are deaf."""
        counted = self.count()
        if counted["deaf"]:
            first = self.list_channels(Page(limit=3)).rows
            names = [each["name"] or each["entity_id"] for each in first if each["state"] == "deaf"]
            more = f" and {counted['deaf'] - len(names)} more" if counted["deaf"] > len(names) else ""
            raise UpstreamError(f"{counted['deaf']} deaf", names=f"{', '.join(names)}{more}")
        return f"{count_of(counted['channels'], 'channel')}, none deaf"

    def list_channels(self, page: Page, *, community_id: int | None = None) -> Listed[dict[str, Any]]:
        """The channels, deaf ones first, with how long ago they were heard of."""
        asked = {"platform": self._platform, "echo": ECHO_WITHIN, "community": community_id}
        return fetch_page(self._db.statement, LIST, asked, page)

    def list_gaps(self, community_id: int | None = None) -> list[dict[str, Any]]:
        """The newest gaps; for a community those of its own channels and of the whole platform."""
        return self._db.statement(
            "SELECT entity_id, since, until, why FROM channel_gaps g WHERE platform = %(platform)s"
            " AND (%(community)s::bigint IS NULL OR entity_id = '' OR EXISTS (SELECT 1 FROM entities e"
            "  WHERE e.entity_id = g.entity_id AND e.community_id = %(community)s))"
            " ORDER BY until DESC LIMIT %(limit)s",
            {"platform": self._platform, "community": community_id, "limit": SHOWN_GAPS},
        )


class LivenessMetrics(MetricsCollector):
    """Counted when they are asked for, because other processes hear too."""

    def __init__(self, liveness: Liveness, module: str) -> None:
        self._liveness = liveness
        self._prefix = f"waddlebot_{module}_"

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        try:
            counted = self._liveness.count()
        except WaddleBotError:
            return  # The health check says that the database is away.
        for name, what, value in (
            ("channels", "Channels that are listened to.", counted["channels"]),
            ("deaf_channels", "Those of them that cannot be heard.", counted["deaf"]),
            ("oldest_sign_of_life_seconds", "How long ago the quietest channel was heard of.", counted["oldest_s"]),
            ("newest_sign_of_life_seconds", "How long ago any channel was heard of.", counted["newest_s"]),
        ):
            yield GaugeMetricFamily(self._prefix + name, what, value=value)


def _nothing_to_repair(_entity_id: str) -> None:
    """What a platform does that repairs itself."""
