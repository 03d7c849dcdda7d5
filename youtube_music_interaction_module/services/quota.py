"""What Google still gives this bot today: a hundred searches, and units for all else.

Its days begin at midnight Pacific. What is asked for is counted before it is asked, so that all replicas together keep
to it; what Google says itself counts more.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from waddlebot.base.errors import UserError
from waddlebot.data.database import Database

Bucket = Literal["searches", "units"]
PACIFIC = "America/Los_Angeles"
TODAY = f"(now() AT TIME ZONE '{PACIFIC}')::date"
KEPT = timedelta(days=90)


class QuotaUsedUp(UserError):
    """YouTube answers no more today."""

    code = "quota_used_up"


class QuotaLedger:
    def __init__(self, database: Database, *, searches: int, units: int) -> None:
        self._database = database
        self._limits: dict[Bucket, int] = {"searches": searches, "units": units}

    def take(self, bucket: Bucket) -> None:
        """Count one call. Raises: QuotaUsedUp."""
        taken = self._database.statement(
            f"INSERT INTO youtube_quota AS q (day, bucket, used) SELECT {TODAY}, %(bucket)s, 1 WHERE %(limit)s > 0"
            " ON CONFLICT (day, bucket) DO UPDATE SET used = q.used + 1 WHERE q.used < %(limit)s RETURNING used",
            {"bucket": bucket, "limit": self._limits[bucket]},
        )
        if not taken:
            raise self._used_up(bucket)

    def note_used_up(self, bucket: Bucket) -> QuotaUsedUp:
        """Google says that there is nothing left: somebody else has the same key, or it gives less."""
        self._database.statement(
            f"INSERT INTO youtube_quota AS q (day, bucket, used) VALUES ({TODAY}, %(bucket)s, %(limit)s)"
            " ON CONFLICT (day, bucket) DO UPDATE SET used = greatest(q.used, excluded.used)",
            {"bucket": bucket, "limit": self._limits[bucket]},
        )
        return self._used_up(bucket)

    def left(self) -> dict[Bucket, int]:
        rows = self._database.statement(f"SELECT bucket, used FROM youtube_quota WHERE day = {TODAY}")
        used = {row["bucket"]: row["used"] for row in rows}
        return {bucket: max(0, limit - used.get(bucket, 0)) for bucket, limit in self._limits.items()}

    def forget(self) -> None:
        self._database.statement(f"DELETE FROM youtube_quota WHERE day < {TODAY} - 90")

    def _used_up(self, bucket: Bucket) -> QuotaUsedUp:
        (row,) = self._database.statement(
            f"SELECT extract(epoch FROM ({TODAY} + 1)::timestamp AT TIME ZONE '{PACIFIC}' - now())::integer AS left_s"
        )
        hours, minutes = divmod(max(60, row["left_s"]) // 60, 60)
        when = f"{hours} h {minutes} min" if hours else f"{minutes} min"
        if bucket == "units":
            return QuotaUsedUp(f"YouTube answers this bot no more today. It does again in {when}.")
        return QuotaUsedUp(
            f"YouTube gives this bot no more searches today. It does again in {when}; links still work, and what was"
            " searched for before."
        )
