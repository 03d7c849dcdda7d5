"""One asyncio loop for a whole process, in a thread of its own: what the platforms' asynchronous SDKs run on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from .watched import Watched, tell_of_lost_errors

T = TypeVar("T")


class Bridge:
    """Runs coroutines for threads. The loop starts with the first one, so never before a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # It runs for as long as the process does.
        self._stopping = threading.Event()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine whose result is asked for. Those of one thread start in the order in which they are
        submitted."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Start a coroutine that nobody waits for; if it fails, that is logged and told by health."""
        self.submit(_beside(coroutine))

    def keep(self, watched: Watched, make: Callable[[], Coroutine[Any, Any, object]]) -> Future[None]:
        """Run what `make` makes until the future is cancelled, again and again when it ends before."""
        return self.submit(watched.keep(make))

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                tell_of_lost_errors(self._loop, "bridge-tasks")
                # After an error that ends it a loop can go on; what runs on it does not notice.
                Watched("bridge").start(self._loop.run_forever, stopping=self._stopping)
            return self._loop


async def _beside(coroutine: Coroutine[Any, Any, object]) -> None:
    try:
        await coroutine
    except Exception as err:  # noqa: BLE001 - nobody else would hear of it
        context = {"message": f"{getattr(coroutine, '__qualname__', 'coroutine')} failed", "exception": err}
        asyncio.get_running_loop().call_exception_handler(context)


_bridge = Bridge()


def shared_bridge() -> Bridge:
    """The process's one Bridge."""
    return _bridge
