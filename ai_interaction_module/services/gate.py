"""How many answers are waited for at once, fairly between communities: whoever has the fewest comes next."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from waddlebot.base.errors import RateLimited, UserError

# Of one community; more would wait for longer than anybody does.
MAX_WAITING = 100
RETRY_AFTER_S = 5


class TooManyAsk(UserError, RateLimited):
    """Too many are asking the AI at the moment. Try again in a moment."""

    code = "busy"
    http_status = 429

    def __init__(self) -> None:
        super().__init__(None, retry_after_s=RETRY_AFTER_S)


class FairGate:
    """Lets `at_once` in. Communities that wait take turns, each in the order in which its people came."""

    def __init__(self, at_once: int, *, max_waiting: int = MAX_WAITING) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._inside: Counter[int | None] = Counter()
        self._waiting: OrderedDict[int | None, deque[threading.Event]] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def entered(self, community_id: int | None, *, within_s: float) -> Iterator[None]:
        """Be inside. Raises: TooManyAsk when there is no place in time, or too many of that community wait."""
        self._enter(community_id, time.monotonic() + within_s)
        try:
            yield
        finally:
            with self._lock:
                self._leave(community_id)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return {"inside": self._inside.total(), "waiting": sum(map(len, self._waiting.values()))}

    def _enter(self, community_id: int | None, until: float) -> None:
        with self._lock:
            if self._inside.total() < self._at_once and not self._waiting:
                self._inside[community_id] += 1
                return
            queue = self._waiting.setdefault(community_id, deque())
            if len(queue) >= self._max_waiting:
                raise TooManyAsk()
            called = threading.Event()
            queue.append(called)
        if called.wait(until - time.monotonic()):
            return
        with self._lock:
            if called.is_set():  # Just now, by who left: the place is ours, and there is no time left to use it.
                self._leave(community_id)
            else:
                self._forget(community_id, called)
        raise TooManyAsk()

    def _leave(self, community_id: int | None) -> None:
        self._inside[community_id] -= 1
        if not self._inside[community_id]:
            del self._inside[community_id]
        if not self._waiting:
            return
        # The longest waiting of those with the fewest inside; who is called goes to the end of the row.
        following = min(self._waiting, key=lambda each: self._inside[each])
        queue = self._waiting.pop(following)
        called = queue.popleft()
        if queue:
            self._waiting[following] = queue
        self._inside[following] += 1
        called.set()

    def _forget(self, community_id: int | None, called: threading.Event) -> None:
        queue = self._waiting[community_id]
        queue.remove(called)
        if not queue:
            del self._waiting[community_id]
