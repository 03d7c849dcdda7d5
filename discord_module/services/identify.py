"""When a shard may identify: one every five seconds, whichever container it is in.

Source: https://discord.com/developers/docs/events/gateway#sharding-max-concurrency
"""

from __future__ import annotations

import asyncio
import time

import redis
from waddlebot.base.logs import AAALog

KEY = "waddlebot:discord:identify:{}"
# What the way to Discord may take longer for the second of two than for the first.
MARGIN_S = 0.25


class IdentifyPace:
    """Turns, shared over Redis. While Redis is away each process waits its own turns."""

    def __init__(self, client: redis.Redis, *, spacing_s: float, log: AAALog) -> None:
        self._client = client
        self._spacing_s = spacing_s
        self._log = log
        self._own_turn_at = 0.0

    async def turn(self, bucket: int) -> None:
        """Wait until a shard of this bucket may identify."""
        while (wait_s := await asyncio.to_thread(self._take, bucket)) > 0:
            await asyncio.sleep(wait_s)

    def _take(self, bucket: int) -> float:
        """Zero when the turn is taken, else how long to wait before asking again."""
        key, lasts_ms = KEY.format(bucket), int((self._spacing_s + MARGIN_S) * 1000)
        try:
            if self._client.set(key, "taken", nx=True, px=lasts_ms):
                return 0.0
            left_ms = int(self._client.pttl(key))
        except redis.RedisError as err:
            self._log.system("identify_unshared", result="FAILED", error=type(err).__name__)
            return self._take_own()
        return max(left_ms, 20) / 1000

    def _take_own(self) -> float:
        now = time.monotonic()
        if now >= self._own_turn_at:
            self._own_turn_at = now + self._spacing_s + MARGIN_S
            return 0.0
        return self._own_turn_at - now
