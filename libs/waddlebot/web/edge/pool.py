"""Threads that serve requests, and the bounded queue before them."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...base.errors import Busy

# Whoever has waited this long for a thread has most likely given up, and those behind wait for them.
MAX_WAIT_S = 5.0
RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[], Any]
    done: asyncio.Future[Any]
    submitted_at: float


class ThreadPool:
    """At most so many jobs at once and so many waiting. Only the loop's thread submits, so nothing needs a lock.

    Threads are started when they are first needed and stay: what they keep (connections, the web framework's request)
    is theirs. They are daemons, because a job that hangs must not keep the process from ending.
    """

    def __init__(self, name: str, *, threads: int, queued: int) -> None:
        self.name = name
        self.under_way = 0
        self._max_threads = threads
        self._most = threads + queued
        self._threads = 0
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    def check_room(self) -> None:
        """Raises: Busy when the queue is full."""
        if self.under_way >= self._most:
            raise Busy(retry_after_s=RETRY_AFTER_S)

    async def run(self, job: Callable[[], Any]) -> Any:
        """Run a job in a thread. Raises: Busy when the queue is full, or no thread had time for it."""
        self.check_room()
        self.under_way += 1
        try:
            if self._threads < min(self.under_way, self._max_threads):
                self._start_thread()
            done = asyncio.get_running_loop().create_future()
            self._jobs.put(_Job(job, done, time.monotonic()))
            return await done
        finally:
            self.under_way -= 1

    def _start_thread(self) -> None:
        self._threads += 1
        # not watched: nothing that a job raises ends the thread; it is raised where the job is waited for.
        threading.Thread(target=self._work, name=f"{self.name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._do(self._jobs.get())

    def _do(self, job: _Job) -> None:
        result: Any = None
        error: BaseException | None = None
        if job.done.cancelled():
            return
        if time.monotonic() - job.submitted_at > MAX_WAIT_S:
            error = Busy(retry_after_s=RETRY_AFTER_S)
        else:
            try:
                result = job.run()
            except BaseException as err:  # noqa: BLE001 - it is raised where the job is waited for
                error = err
        with contextlib.suppress(RuntimeError):  # The loop is closed when the process ends while jobs run.
            job.done.get_loop().call_soon_threadsafe(_settle, job.done, result, error)


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
