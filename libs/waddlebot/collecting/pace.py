"""How fast the bot may speak: what a platform allows an account, or in a channel, shared by all replicas."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from ..data.outbox import Outgoing, Priority, Waiting
from ..data.ratelimit import Limit, RateLimiter, Request

# How much of the limit each kind may use up, so that there is room left for what matters more.
SHARE = {Priority.REPLY: 1.0, Priority.EVENT: 0.75, Priority.CHATTER: 0.5}
SHORTEST_PAUSE_S = 0.05
MAX_PAUSES = 10_000


@dataclass(frozen=True, slots=True)
class Pace:
    """`limit` messages in `per_s` seconds for everything that has the same `key`: an account's, or a channel's.

    Both are asked for an entity id, because what an account may say can depend on where it says it.
    """

    key: Callable[[str], str]
    limit: Callable[[str], int]
    per_s: float


class Pacer:
    """Says who may speak now. For all threads."""

    def __init__(self, pace: Pace, limiter: RateLimiter, *, platform: str) -> None:
        self._pace = pace
        self._limiter = limiter
        self._prefix = f"say:{platform}:"
        self._lock = threading.Lock()
        # Until when something of this key, limit and priority is refused; what is less important need not ask either.
        self._paused: dict[tuple[str, int, Priority], float] = {}
        self._parts = count(1)

    def choose(self, waiting: Sequence[Waiting]) -> set[int]:
        """Those of the replies that may be said now. In order: an earlier one leaves less room for the later ones.

        Moderation says nothing, so it always may.
        """
        chosen = {each.id for each in waiting if each.priority is Priority.MODERATION}
        asking = [each for each in waiting if each.id not in chosen and not self._is_paused(each)]
        decisions = self._limiter.reserve(
            [self._request(str(each.id), each.entity_id, each.priority) for each in asking]
        )
        for each, decision in zip(asking, decisions, strict=True):
            if decision.allowed:
                chosen.add(each.id)
            else:
                self._pause(each, decision.retry_after_s)
        return chosen

    async def more(self, reply: Outgoing) -> None:
        """Wait until another part of a reply that is being said may follow."""
        request = self._request(f"{reply.id}.{next(self._parts)}", reply.entity_id, Priority.REPLY)
        while True:
            (decision,) = await asyncio.to_thread(self._limiter.reserve, [request])
            if decision.allowed:
                return
            await asyncio.sleep(max(decision.retry_after_s, SHORTEST_PAUSE_S))

    def refund(self, waiting: Sequence[Waiting]) -> None:
        """Take back what was not said after all."""
        said = [each for each in waiting if each.priority is not Priority.MODERATION]
        self._limiter.refund([self._request(str(each.id), each.entity_id, each.priority) for each in said])

    def _request(self, id_: str, entity_id: str, priority: Priority) -> Request:
        allowed = max(1, int(self._pace.limit(entity_id) * SHARE[priority]))
        return Request(id_, [Limit(self._prefix + self._pace.key(entity_id), allowed, "the bot")])

    def _is_paused(self, reply: Waiting) -> bool:
        key, limit, now = self._pace.key(reply.entity_id), self._pace.limit(reply.entity_id), time.monotonic()
        with self._lock:
            return any(self._paused.get((key, limit, each), 0) > now for each in SHARE if each <= reply.priority)

    def _pause(self, reply: Waiting, pause_s: float) -> None:
        now = time.monotonic()
        which = self._pace.key(reply.entity_id), self._pace.limit(reply.entity_id), reply.priority
        with self._lock:
            if len(self._paused) > MAX_PAUSES:
                self._paused = {each: until for each, until in self._paused.items() if until > now}
            self._paused[which] = now + max(pause_s, SHORTEST_PAUSE_S)
