"""Where keys of the broker are used from: by address and agent, within each hour."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from waddlebot.base.wire import to_json
from waddlebot.data.database import Database, fetch
from waddlebot.web.lists import Listed, Page, fetch_page

from .audit_log import By

KEPT_DAYS = 90
# Of what strangers may make us keep there is an end: with more at once the rest is one line.
MAX_AT_ONCE = 1000
OTHERS = "(others)"


@dataclass(slots=True)
class Sessions:
    """Counted in memory and written together, every few seconds."""

    database: Database
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: dict[tuple[int, datetime, str, str], list[Any]] = field(default_factory=dict)

    def note(self, by: By) -> None:
        now = datetime.now(UTC)
        assert by.account_id is not None
        key = (by.account_id, now.replace(minute=0, second=0, microsecond=0), by.address, by.agent)
        with self._lock:
            if key not in self._seen and len(self._seen) >= MAX_AT_ONCE:
                key = (*key[:2], OTHERS, OTHERS)
            seen = self._seen.setdefault(key, [0, now, now])
            seen[0], seen[2] = seen[0] + 1, now

    def save(self) -> None:
        with self._lock:
            seen, self._seen = self._seen, {}
        if not seen:
            return
        names = ("account_id", "hour", "address", "agent", "requests", "first_at", "last_at")
        rows = [dict(zip(names, (*key, *value), strict=True)) for key, value in sorted(seen.items())]
        with self.database.transaction() as db:
            fetch(db, SAVE, {"rows": to_json(rows)})

    def forget_old(self) -> None:
        with self.database.transaction() as db:
            fetch(db, "DELETE FROM kong_admin_sessions WHERE hour < now() - %s * interval '1 day'", (KEPT_DAYS,))

    def read_page(self, page: Page, **filters: Any) -> Listed[dict[str, Any]]:
        self.save()
        with self.database.transaction() as db:
            return fetch_page(lambda sql, values: fetch(db, sql, values), LIST, filters, page)


SAVE = """
INSERT INTO kong_admin_sessions AS s (account_id, hour, address, agent, requests, first_at, last_at)
SELECT account_id, hour, address, agent, requests, first_at, last_at FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS r (account_id bigint, hour timestamptz, address text, agent text, requests bigint, first_at timestamptz,
        last_at timestamptz)
ON CONFLICT (account_id, hour, address, agent) DO UPDATE
    SET requests = s.requests + excluded.requests, last_at = greatest(s.last_at, excluded.last_at)
"""
LIST = """
SELECT a.name AS username, s.hour, s.address, s.agent, s.requests, s.first_at, s.last_at, count(*) OVER () AS total
FROM kong_admin_sessions s LEFT JOIN service_accounts a ON a.id = s.account_id
WHERE %(username)s::text IS NULL OR lower(a.name) = lower(%(username)s)
ORDER BY s.hour DESC, s.last_at DESC, s.address, s.agent LIMIT %(limit)s OFFSET %(offset)s
"""
