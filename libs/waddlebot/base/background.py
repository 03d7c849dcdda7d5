"""Work that runs beside requests: loops, and one bounded pool of threads for each target of the router."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import WaddleBotError
from .logs import AAALog, new_log_context

Kind = Literal["service", "worker"]
# After a failure a loop tries again soon, then waits longer each time, up to this.
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 5.0
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Loop:
    name: str
    step: Callable[[], bool | None]
    every_s: float
    kind: Kind
    wake: threading.Event | None
    finish: Callable[[], None] | None


class Loops:
    """A module's loops. `service` loops belong to its HTTP process, `worker` loops to the collectors' process.

    A step that returns True is repeated at once, because it left work behind.
    """

    def __init__(self, log: AAALog) -> None:
        self._log = log
        self._loops: list[_Loop] = []
        self._threads: list[threading.Thread] = []
        self.stopping = threading.Event()

    def add(
        self,
        name: str,
        step: Callable[[], bool | None],
        *,
        every_s: float,
        kind: Kind = "service",
        wake: threading.Event | None = None,
        finish: Callable[[], None] | None = None,
    ) -> None:
        """Run `step` every `every_s` seconds, or sooner when `wake` is set, and `finish` once when the loops stop."""
        self._loops.append(_Loop(name, step, every_s, kind, wake, finish))

    def start(self, *kinds: Kind) -> None:
        for loop in self._loops:
            if loop.kind in kinds:
                thread = threading.Thread(target=self._run, args=(loop,), name=loop.name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        """Ask every loop to end and wait a little for those that are at work."""
        stop_loops([self])

    def _ask_to_stop(self) -> None:
        self.stopping.set()
        for loop in self._loops:
            if loop.wake:
                loop.wake.set()

    def _run(self, loop: _Loop) -> None:
        failures = 0
        while not self.stopping.is_set():
            new_log_context()
            again = False
            try:
                again = bool(loop.step())
                failures = 0
            except Exception as err:  # noqa: BLE001 - a loop outlives any bug in one of its steps
                failures += 1
                self._note_failure(loop, err, failures)
            if not again:
                wait_s = min(FIRST_BACKOFF_S * 2 ** min(failures, 10), MAX_BACKOFF_S) if failures else loop.every_s
                if loop.wake:
                    loop.wake.wait(wait_s)
                    loop.wake.clear()
                else:
                    self.stopping.wait(wait_s)
        if loop.finish:
            try:
                loop.finish()
            except Exception as err:  # noqa: BLE001 - the process is ending; the log is all that is left to tell
                self._note_failure(loop, err, failures + 1)

    def _note_failure(self, loop: _Loop, err: Exception, failures: int) -> None:
        if not isinstance(err, WaddleBotError):
            self._log.error("loop_failed", exc_info=True, loop=loop.name, failures=failures)
            return
        self._log.system(
            "loop_failed",
            result="FAILED",
            level=logging.WARNING if err.retryable else logging.ERROR,
            loop=loop.name,
            code=err.code,
            message=err.message,
            failures=failures,
        )


def stop_loops(all_loops: Sequence[Loops], *, within_s: float = STOP_TIMEOUT_S) -> None:
    """Ask the loops of all modules to end, and then wait for those at work: so long for all of them together."""
    for loops in all_loops:
        loops._ask_to_stop()
    until = time.monotonic() + within_s
    for thread in [thread for loops in all_loops for thread in loops._threads]:
        thread.join(max(0.0, until - time.monotonic()))


@dataclass(slots=True)
class _Target:
    pool: ThreadPoolExecutor
    # When each job was submitted that has not begun, oldest first.
    queued_at: deque[float] = field(default_factory=deque)


class TargetPools:
    """A thread pool for each target, so that one that hangs never takes the threads of the others.

    What finds its pool full waits in that pool's queue, not in the thread that submitted it.
    """

    def __init__(self, log: AAALog, *, workers_per_target: int) -> None:
        self._log = log
        self._workers = workers_per_target
        self._targets: dict[str, _Target] = {}
        self._lock = threading.Lock()

    def submit(self, target: str, job: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with self._lock:
            found = self._targets.get(target)
            if found is None:
                found = self._targets[target] = _Target(ThreadPoolExecutor(self._workers, f"target-{target}"))
            found.queued_at.append(time.monotonic())
        return found.pool.submit(self._guarded, found, job, arguments)

    def delay_s(self, target: str) -> float:
        """How long the job that is next at a target has waited for a thread; what is submitted now waits as long, or
        longer."""
        found = self._targets.get(target)
        with self._lock:
            return time.monotonic() - found.queued_at[0] if found and found.queued_at else 0.0

    def waiting(self, target: str) -> int:
        """Jobs at a target that wait for a thread."""
        found = self._targets.get(target)
        return len(found.queued_at) if found else 0

    def stop(self) -> None:
        for target in self._targets.values():
            target.pool.shutdown(wait=False, cancel_futures=True)

    def _guarded(self, target: _Target, job: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            target.queued_at.popleft()
        new_log_context()
        try:
            return job(*arguments)
        except WaddleBotError as err:
            self._log.error("job_failed", code=err.code, message=err.message)
        except Exception:  # noqa: BLE001 - nobody waits for the future's exception; the log has it whole
            self._log.error("job_failed", exc_info=True)
        return None
