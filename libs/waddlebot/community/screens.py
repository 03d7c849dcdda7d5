"""Which overlays are looked at right now, by what the hubs say of themselves in Redis."""

from __future__ import annotations

import json
from typing import Literal

import redis

# Each hub says here whom it holds; a key that has run out is a hub that has gone.
PRESENCE = "waddlebot:overlay:hub:"


def watched_communities(client: redis.Redis, source_type: Literal["ticker", "media", "general"]) -> set[int]:
    """The communities of which a page with this overlay is open and not hidden. Nobody while Redis is away."""
    try:
        keys = list(client.scan_iter(PRESENCE + "*", count=1000))
        texts = client.mget(keys) if keys else []
    except redis.RedisError:
        return set()
    found: set[int] = set()
    for text in texts:
        for source, figures in (json.loads(text)["sources"] if text else {}).items():
            community_id, _, kind = source.partition(":")
            if kind == source_type and figures["connections"] > figures["hidden"]:
                found.add(int(community_id))
    return found
