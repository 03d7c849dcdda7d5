"""Who looks: connections, deliveries and acknowledgements, of one community or of all."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import redis
from waddlebot.community.screens import PRESENCE
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, Prepared

from .frames import Source

QUEUES = Prepared(
    "browser_source_paused",
    "SELECT source_type, is_paused FROM browser_source_queues WHERE community_id = %(community)s",
)
STATES = ("queued", "shown", "done", "skipped", "expired", "dropped")


class AudienceService:
    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    def connections(self, source: Source) -> tuple[int, int]:
        """Pages that are open at all hubs, and how many of them are hidden in OBS."""
        found = [hub["sources"].get(str(source), {}) for hub in self._hubs()]
        return sum(each.get("connections", 0) for each in found), sum(each.get("hidden", 0) for each in found)

    def statistics(self, community_id: int | None) -> dict[str, Any]:
        """Figures of each overlay; hubs with what they hold right now. Tests are not counted."""
        hubs = self._hubs()
        rows = self._database.statement(
            "SELECT q.community_id, q.source_type, q.is_paused, q.last_seq, h.*,"
            " (SELECT max(last_seen) FROM browser_source_tokens t WHERE t.community_id = q.community_id"
            "  AND t.source_type IN (q.source_type, 'all')) AS last_seen,"
            " (SELECT count(*) FROM browser_source_access_log a WHERE a.community_id = q.community_id"
            "  AND a.source_type = q.source_type) AS page_loads"
            " FROM (SELECT community_id, source_type, bool_or(is_paused) AS is_paused, max(last_seq) AS last_seq FROM ("
            "  SELECT community_id, source_type, is_paused, last_seq FROM browser_source_queues UNION ALL"
            "  SELECT community_id, unnest(CASE source_type WHEN 'all' THEN ARRAY['ticker', 'media', 'general']"
            "   ELSE ARRAY[source_type] END), false, 0 FROM browser_source_tokens WHERE NOT is_preview) AS known"
            "  GROUP BY 1, 2) AS q, LATERAL (SELECT count(*) AS items, count(received_at) AS received,"
            "  count(shown_at) AS shown_to_somebody, "
            + ", ".join(f"count(*) FILTER (WHERE state = '{state}') AS {state}" for state in STATES)
            + ", (avg(extract(epoch FROM shown_at - created_at)) * 1000)::float AS average_ms_to_shown"
            "  FROM browser_source_history h WHERE h.community_id = q.community_id"
            "  AND h.source_type = q.source_type AND NOT is_test) AS h"
            " WHERE %(community)s::bigint IS NULL OR q.community_id = %(community)s"
            " ORDER BY q.community_id, q.source_type LIMIT 3000",
            {"community": community_id},
        )
        open_pages, hidden_pages = _per_source(hubs, "connections"), _per_source(hubs, "hidden")
        sources = [_source_figures(row, open_pages, hidden_pages) for row in rows]
        own = None if community_id is None else f"{community_id}:"
        return {
            "success": True,
            "community_id": community_id,
            "connections": sum(count for key, count in open_pages.items() if own is None or key.startswith(own)),
            "sources": sources,
            "total": len(sources),
            "hubs": [_whole(hub) if own is None else _part(hub, own) for hub in hubs],
        }

    def who_looks(self, community_id: int) -> dict[str, Any]:
        """The pages that are open at a community's overlays, and whether their queues wait; nothing is counted."""
        hubs = self._hubs()
        paused = {
            row["source_type"]: row["is_paused"]
            for row in self._database.statement(QUEUES, {"community": community_id})
        }
        open_pages, hidden_pages = (
            {
                key.partition(":")[2]: count
                for key, count in _per_source(hubs, what).items()
                if key.startswith(f"{community_id}:")
            }
            for what in ("connections", "hidden")
        )
        sources = [
            {
                "source_type": each,
                "connections": open_pages.get(each, 0),
                "hidden": hidden_pages.get(each, 0),
                "is_paused": paused.get(each, False),
            }
            for each in sorted({*paused, *open_pages})
        ]
        return {"success": True, "community_id": community_id, "sources": sources, "total": len(sources)}

    def _hubs(self) -> list[dict[str, Any]]:
        """What the hubs that are alive say of themselves; none while Redis is away."""
        try:
            keys = list(self._bus.client.scan_iter(PRESENCE + "*", count=1000))
            return [json.loads(text) for text in self._bus.client.mget(keys) if text] if keys else []
        except redis.RedisError:
            return []


def _whole(hub: dict[str, Any]) -> dict[str, Any]:
    return {name: hub[name] for name in ("hub", "connections", "max_connections", "overlays", "counts")}


def _part(hub: dict[str, Any], own: str) -> dict[str, Any]:
    """What a hub holds of one community; the rest is nobody else's business."""
    held = [figures for source, figures in hub["sources"].items() if source.startswith(own)]
    return {"hub": hub["hub"], "connections": sum(each["connections"] for each in held), "overlays": len(held)}


def _per_source(hubs: list[dict[str, Any]], what: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for hub in hubs:
        for source, figures in hub["sources"].items():
            total[source] += figures[what]
    return total


def _source_figures(row: dict[str, Any], open_pages: Counter[str], hidden_pages: Counter[str]) -> dict[str, Any]:
    key = f"{row['community_id']}:{row['source_type']}"
    return {
        "community_id": row["community_id"],
        "source_type": row["source_type"],
        "connections": open_pages[key],
        "hidden": hidden_pages[key],
        "is_paused": row["is_paused"],
        "last_seen": row["last_seen"],
        "page_loads": row["page_loads"],
        "deliveries": row["items"],
        "acknowledgements": {"received": row["received"], "shown": row["shown_to_somebody"], "done": row["done"]},
        "waiting": row["queued"],
        "skipped": row["skipped"],
        "expired": row["expired"],
        "dropped": row["dropped"],
        "average_ms_to_shown": row["average_ms_to_shown"],
    }
