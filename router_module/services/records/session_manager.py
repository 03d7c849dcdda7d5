"""Sessions in Redis: a cache of what may be answered later. The truth is in command_executions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import redis


class SessionManager:
    """Keeps `waddlebot:session:<id>` for SESSION_TTL. Redis being away costs nothing but the cache."""

    def __init__(self, client: redis.Redis, *, prefix: str, ttl_s: int) -> None:
        self._client = client
        self._prefix = prefix
        self._ttl_s = ttl_s

    def remember(self, session_id: str, entity_id: str) -> None:
        with contextlib.suppress(redis.RedisError):
            self._client.set(self._prefix + session_id, json.dumps({"entity_id": entity_id}), ex=self._ttl_s)

    def keep_trace(self, session_id: str, trace: dict[str, Any]) -> None:
        """Keep what a simulated event did, which no table has, for an hour."""
        with contextlib.suppress(redis.RedisError):
            self._client.set(f"{self._prefix}trace:{session_id}", json.dumps(trace, default=str), ex=3600)

    def find_trace(self, session_id: str) -> dict[str, Any] | None:
        with contextlib.suppress(redis.RedisError):
            text = self._client.get(f"{self._prefix}trace:{session_id}")
            return dict(json.loads(str(text))) if text else None
        return None

    def forget_traces(self, words: Sequence[str]) -> None:
        """Drop the traces with any of these words in them, such as somebody's name and id."""
        spelled = [json.dumps(word) for word in words]
        with contextlib.suppress(redis.RedisError):
            for key in self._client.scan_iter(match=f"{self._prefix}trace:*", count=1000):
                text = str(self._client.get(key) or "")
                if any(word in text for word in spelled):
                    self._client.delete(key)

    def permit(self, community_id: int, head_id: int, *, for_s: int) -> bool:
        """Let somebody post links for so long. False: Redis is away, and nobody was let."""
        with contextlib.suppress(redis.RedisError):
            return bool(self._client.set(f"waddlebot:permit:{community_id}:{head_id}", 1, ex=for_s))
        return False

    def is_permitted(self, community_id: int, head_id: int) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self._client.exists(f"waddlebot:permit:{community_id}:{head_id}"))
        return False

    def first_refusal(self, key: str, *, for_s: int) -> bool:
        """Whether this refusal was not told within so many seconds. While Redis is away every one is told."""
        with contextlib.suppress(redis.RedisError):
            return bool(self._client.set(f"waddlebot:refused:{key}", 1, nx=True, ex=for_s))
        return True
