"""How many, how often, since when: of the broker and of Kong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waddlebot.base.errors import WaddleBotError
from waddlebot.data.database import Database, fetch

from .audit_log import AuditLog
from .kong_client import KongClient


@dataclass(frozen=True, slots=True)
class Statistics:
    database: Database
    kong: KongClient
    audit: AuditLog

    def read(self) -> dict[str, Any]:
        """Kong's part says why it is missing, when it is."""
        with self.database.transaction() as db:
            users = fetch(db, USERS)
            (keys,) = fetch(db, KEYS)
            (requests,) = fetch(db, REQUESTS)
            actions = fetch(db, ACTIONS)
            head = self.audit.head(db)
        return {
            "users": {
                "total": sum(row["count"] for row in users),
                "by_tier": _sums(users, "tier"),
                "by_state": _sums(users, "state"),
            },
            "keys": keys,
            "requests": requests,
            "audit": {
                "rows": head["id"],
                "digest": head["digest"],
                "last_24_h": {r["action"]: r["count"] for r in actions},
            },
            "kong": self._of_kong(),
        }

    def _of_kong(self) -> dict[str, Any]:
        try:
            status = self.kong.status()
            consumers = sum(1 for _ in self.kong.all_consumers())
        except WaddleBotError as err:
            return {"reachable": False, "error": err.message}
        return {"reachable": True, "consumers": consumers, **status}


def _sums(rows: list[dict[str, Any]], name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[row[name]] = found.get(row[name], 0) + row["count"]
    return found


USERS = "SELECT tier, state, count(*) FROM kong_admin_users WHERE state <> 'making' GROUP BY tier, state"
KEYS = """
SELECT count(*) AS live, count(*) FILTER (WHERE k.expires_at IS NOT NULL) AS ending,
    count(*) FILTER (WHERE k.last_used IS NULL) AS never_used
FROM service_account_keys k JOIN kong_admin_users u ON u.account_id = k.account_id
WHERE k.is_active AND (k.expires_at IS NULL OR k.expires_at > now())
"""
REQUESTS = """
SELECT coalesce(sum(requests) FILTER (WHERE hour > now() - interval '1 hour'), 0)::bigint AS last_hour,
    coalesce(sum(requests), 0)::bigint AS last_24_h, count(DISTINCT address) AS addresses_24_h
FROM kong_admin_sessions WHERE hour > now() - interval '25 hours'
"""
ACTIONS = """
SELECT action, count(*) FROM kong_admin_audit_log WHERE at > now() - interval '24 hours' GROUP BY action
"""
