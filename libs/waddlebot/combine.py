"""Doing for many callers at once what each of them would do alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Waiter(Generic[T, R]):
    __slots__ = ("error", "is_done", "item", "result", "turn")

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | None = None
        self.error: BaseException | None = None
        self.is_done = False
        # Set when this one's item is done, or when it is its turn to do it and those behind it.
        self.turn = threading.Event()


class Combiner(Generic[T, R]):
    """Runs `run` for one batch at a time; who comes meanwhile is in the next one, so a lone caller never waits.

    `run` gets up to `max_batch` items in the order in which they came, in the thread of one of the callers, and returns
    a result for each. What it raises is raised in all of them.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], *, max_batch: int = 100) -> None:
        self._run = run
        self._max_batch = max_batch
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter[T, R]] = deque()
        self._is_busy = False

    def __call__(self, item: T) -> R:
        mine: _Waiter[T, R] = _Waiter(item)
        with self._lock:
            self._waiting.append(mine)
            leads, self._is_busy = not self._is_busy, True
        if not leads:
            mine.turn.wait()
        if not mine.is_done:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]

    def _lead(self) -> None:
        """Do the first batch, this thread's item at its head, and pass the lead on."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
        try:
            results = self._run([each.item for each in batch])
            for each, result in zip(batch, results, strict=True):
                each.result = result
        except BaseException as err:  # noqa: BLE001 - each caller raises it
            for each in batch:
                each.error = err
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._is_busy = following is not None
            for each in batch:
                each.is_done = True
                each.turn.set()
            if following:
                following.turn.set()


class FairCombiner(Combiner[T, R]):
    """For work that may be tried again: when a batch fails each does its own alone, so that an item fails for no fault
    of another's."""

    def __call__(self, item: T) -> R:
        try:
            return super().__call__(item)
        except Exception:  # noqa: BLE001 - whatever it was, it is raised again if it was this one's
            return self._run([item])[0]
