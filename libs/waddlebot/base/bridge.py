"""One asyncio loop for a whole process, in a thread of its own: what the platforms' asynchronous SDKs run on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Bridge:
    """Runs coroutines for threads. The loop starts with the first one, so never before a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine. Those of one thread start in the order in which they are submitted."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="bridge", daemon=True).start()
            return self._loop


_bridge = Bridge()


def shared_bridge() -> Bridge:
    """The process's one Bridge."""
    return _bridge
