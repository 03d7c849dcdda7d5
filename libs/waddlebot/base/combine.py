"""Doing for many callers at once what each of them would do alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .errors import Busy

T = TypeVar("T")
R = TypeVar("R")

# A statement that takes longer than this waits for something, or the machine has a lot to do.
PATIENCE_S = 0.005
# What failed because of one item fails at once.
OUTAGE_S = 1.0


class _Waiter(Generic[T, R]):
    __slots__ = ("batch", "error", "is_done", "item", "result", "turn")

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | None = None
        self.error: BaseException | None = None
        self.is_done = False
        # What this one's thread is to do, its own item among it.
        self.batch: list[_Waiter[T, R]] = []
        # Let go when this one's item is done, or when it is its turn to do a batch. An Event costs several times more.
        self.turn = threading.Lock()
        self.turn.acquire()


class Combiner(Generic[T, R]):
    """Runs `run` for one batch at a time; who comes meanwhile is in the next one, so a lone caller never waits.

    `run` gets up to `max_batch` items in the order in which they came, in the thread of one of the callers, and returns
    a result for each. What it raises is raised in all of them. With `patience_s` nobody waits longer than that for
    somebody else's batch: then the next one runs beside it.
    """

    def __init__(
        self, run: Callable[[Sequence[T]], Sequence[R]], *, max_batch: int = 100, patience_s: float | None = None
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._timeout_s = -1 if patience_s is None else patience_s
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter[T, R]] = deque()
        self._running = 0

    def __call__(self, item: T) -> R:
        mine: _Waiter[T, R] = _Waiter(item)
        with self._lock:
            self._waiting.append(mine)
            batch = [] if self._running else self._next_batch()
        self._lead(batch)
        while not mine.is_done:
            self._lead(self._wait(mine))
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]

    def _wait(self, mine: _Waiter[T, R]) -> list[_Waiter[T, R]]:
        """Wait until an item is done, or until it is its turn; returns the batch to do then."""
        if not mine.turn.acquire(timeout=self._timeout_s):
            with self._lock:
                if mine in self._waiting:
                    return self._next_batch()
            mine.turn.acquire()
        batch, mine.batch = mine.batch, []
        return batch

    def _next_batch(self) -> list[_Waiter[T, R]]:
        """Those who wait, the first of them first. Call with the lock held."""
        self._running += 1
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]

    def _lead(self, batch: list[_Waiter[T, R]]) -> None:
        """Do a batch, if there is one, and pass the lead on."""
        if not batch:
            return
        try:
            results = self._run([each.item for each in batch])
            for each, result in zip(batch, results, strict=True):
                each.result = result
        except BaseException as err:  # noqa: BLE001 - each caller raises it
            for each in batch:
                each.error = err
        finally:
            with self._lock:
                self._running -= 1
                following = self._next_batch() if self._waiting else []
            for each in batch:
                each.is_done = True
                each.turn.release()
            if following:
                following[0].batch = following
                following[0].turn.release()


class FairCombiner(Combiner[T, R]):
    """For statements that may be run again: nobody fails, and nobody waits for long, for what is wrong with another's
    item. When a batch fails each does its own alone."""

    def __init__(
        self, run: Callable[[Sequence[T]], Sequence[R]], *, max_batch: int = 100, patience_s: float | None = PATIENCE_S
    ) -> None:
        super().__init__(run, max_batch=max_batch, patience_s=patience_s)

    def __call__(self, item: T) -> R:
        began = time.monotonic()
        try:
            return super().__call__(item)
        except Exception as err:
            # Who has waited for somebody who does not answer need not wait for them once more.
            if isinstance(err, Busy) and time.monotonic() - began > OUTAGE_S:
                raise
            return self._run([item])[0]
