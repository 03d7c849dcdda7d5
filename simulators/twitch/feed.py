"""What happens, one after the other, for a page that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

MAX_KEPT = 2000


class Feed:
    """The last things that happened, numbered. `add` may be called from any thread, `wait` belongs to the loop."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=MAX_KEPT)
        self._numbers = itertools.count(1)
        self._waiting: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False

    def run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.is_closed = False

    def add(self, type_: str, event: Mapping[str, Any]) -> None:
        self._kept.append({"number": next(self._numbers), "at": time.time(), "type": type_, "event": event})
        self.wake()

    def since(self, number: int) -> list[dict[str, Any]]:
        return [each for each in list(self._kept) if each["number"] > number]

    def wake(self) -> None:
        """Let go of who waits, because something has happened."""
        if self._loop is not None and self._waiting:
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(self._wake)

    async def wait(self, timeout_s: float) -> None:
        """Until something happens, or so long."""
        if self.is_closed:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(timeout_s):
                await waiting
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(waiting)

    def close(self) -> None:
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
