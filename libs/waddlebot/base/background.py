"""Work that runs beside requests: loops, jobs that one replica does for all, and a bounded pool of threads for each
target of the router."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from .errors import WaddleBotError
from .logs import AAALog, new_log_context
from .watched import Watched, backoff_s

Kind = Literal["service", "worker", "both"]
STOP_TIMEOUT_S = 5.0
# So long a loop may wait for what starts beside it, a database or another module, before that is worth a warning.
STARTED_WITHIN_S = 15.0
# Of a target of which there may be many.
BRIEF_WORKERS = 2


class Turns(Protocol):
    """Who of all replicas does a job that one does for all."""

    def begin(self, job: str, *, every_s: float) -> float:
        """0 when it is this process's turn, which lasts until `end`; else in how many seconds to ask again."""

    def end(self, job: str, *, is_done: bool) -> None:
        """What was not done may be begun again at once, by anybody."""


@dataclass(frozen=True, slots=True)
class _Loop:
    name: str
    step: Callable[[], bool | None]
    every_s: float
    kind: Kind
    wake: threading.Event | None
    finish: Callable[[], None] | None
    once: bool


class Loops:
    """A module's loops. `service` loops belong to its HTTP process, `worker` loops to the collectors' process, `both`
    to each, once where one process is both.

    A step that returns True is repeated at once, because it left work behind. What fails is tried again soon, then
    later each time.
    """

    def __init__(self, log: AAALog, turns: Turns | None = None) -> None:
        self._log = log
        self._turns = turns
        self._loops: list[_Loop] = []
        self._threads: dict[_Loop, threading.Thread] = {}
        self._kinds: set[Kind] = set()
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
        once: bool = False,
    ) -> None:
        """Run `step` every `every_s` seconds, or sooner when `wake` is set, and `finish` once when the loops stop.

        With `once` one replica does it for all: nowhere else is the step running meanwhile, nor again before `every_s`
        has passed since it was begun. When that replica dies another one goes on.
        """
        if once and (wake or self._turns is None):
            raise ValueError(f"{name}: a job for all replicas needs turns, and cannot be woken")
        self._loops.append(_Loop(name, step, every_s, kind, wake, finish, once))

    def runs(self, kind: Kind) -> bool:
        """Whether this process runs loops of that kind."""
        return kind in self._kinds

    def start(self, *kinds: Kind) -> None:
        self._kinds.update(kinds)
        for loop in self._loops:
            if loop.kind in (*kinds, "both") and loop not in self._threads:
                watched = Watched(loop.name, self._log.module)
                self._threads[loop] = watched.start(_Runner(self, loop, watched).run, stopping=self.stopping)

    def stop(self) -> None:
        """Ask every loop to end and wait a little for those that are at work."""
        stop_loops([self])

    def _ask_to_stop(self) -> None:
        self.stopping.set()
        for loop in self._loops:
            if loop.wake:
                loop.wake.set()


class _Runner:
    """One loop at work."""

    def __init__(self, loops: Loops, loop: _Loop, watched: Watched) -> None:
        self._loop = loop
        self._watched = watched
        self._log = loops._log
        self._turns = loops._turns
        self._stopping = loops.stopping
        self._started_at = time.monotonic()
        self._has_succeeded = False
        self._failures = 0

    def run(self) -> None:
        loop = self._loop
        while not self._stopping.is_set():
            wait_s = self._try()
            if wait_s > 0 and loop.wake:
                loop.wake.wait(wait_s)
                loop.wake.clear()
            elif wait_s > 0:
                self._stopping.wait(wait_s)
        if loop.finish:
            try:
                loop.finish()
            except Exception as err:  # noqa: BLE001 - the process is ending; the log is all that is left to tell
                self._note_failure(err)

    def _try(self) -> float:
        """Take a step. Returns how long to wait for the next one."""
        new_log_context()
        try:
            wait_s = self._step_in_turn() if self._loop.once else self._step()
        except Exception as err:  # noqa: BLE001 - a loop outlives any bug in one of its steps
            self._note_failure(err)
            return backoff_s(self._failures)
        self._has_succeeded, self._failures = True, 0
        self._watched.succeed()
        return wait_s

    def _step(self) -> float:
        return 0.0 if self._loop.step() else self._loop.every_s

    def _step_in_turn(self) -> float:
        assert self._turns is not None
        wait_s = self._turns.begin(self._loop.name, every_s=self._loop.every_s)
        if wait_s > 0:
            return wait_s
        left_work = True
        try:
            left_work = bool(self._loop.step())
        finally:
            self._turns.end(self._loop.name, is_done=not left_work)
        return 0.0 if left_work else self._loop.every_s

    def _note_failure(self, err: Exception) -> None:
        self._failures += 1
        loop, failures = self._loop.name, self._failures
        if not isinstance(err, WaddleBotError):
            self._watched.fail(type(err).__name__, is_bug=True)
            self._log.error("loop_failed", exc_info=True, loop=loop, failures=failures)
            return
        self._watched.fail(err.message, is_bug=False)
        if err.retryable and not self._has_succeeded and time.monotonic() - self._started_at < STARTED_WITHIN_S:
            if failures == 1:
                self._log.system("loop_waits", loop=loop, code=err.code, message=err.message)
            return
        self._log.system(
            "loop_failed",
            result="FAILED",
            level=logging.WARNING if err.retryable else logging.ERROR,
            loop=loop,
            code=err.code,
            message=err.message,
            failures=failures,
        )


def stop_loops(all_loops: Sequence[Loops], *, within_s: float = STOP_TIMEOUT_S) -> None:
    """Ask the loops of all modules to end, and then wait for those at work: so long for all of them together."""
    for loops in all_loops:
        loops._ask_to_stop()
    until = time.monotonic() + within_s
    for thread in [thread for loops in all_loops for thread in loops._threads.values()]:
        thread.join(max(0.0, until - time.monotonic()))


@dataclass(slots=True)
class _Target:
    pool: ThreadPoolExecutor
    # When each job was submitted that has not begun, oldest first.
    queued_at: deque[float] = field(default_factory=deque)
    # Jobs that have not ended; a pool that is only kept while there are any goes with the last of them.
    unfinished: int = 0
    is_brief: bool = False


class TargetPools:
    """A thread pool for each target, so that one that hangs never takes the threads of the others.

    What finds its pool full waits in that pool's queue, not in the thread that submitted it.
    """

    def __init__(self, log: AAALog, *, workers_per_target: int) -> None:
        self._log = log
        self._workers = workers_per_target
        self._targets: dict[str, _Target] = {}
        self._lock = threading.Lock()

    def submit(self, target: str, job: Callable[..., Any], *arguments: Any, brief: bool = False) -> Future[Any]:
        """Run a job in its target's pool. `brief` is for targets of which there may be many: two threads, and those
        only for as long as there is work."""
        with self._lock:
            return self._submit(target, job, arguments, brief=brief)

    def submit_unless_full(
        self, target: str, job: Callable[..., Any], *arguments: Any, room: int, brief: bool = False
    ) -> bool:
        """The same, unless as many jobs as there is room for wait for a thread already."""
        with self._lock:
            if self.waiting(target) >= room:
                return False
            self._submit(target, job, arguments, brief=brief)
            return True

    def _submit(self, target: str, job: Callable[..., Any], arguments: tuple[Any, ...], *, brief: bool) -> Future[Any]:
        found = self._targets.get(target)
        if found is None:
            workers = BRIEF_WORKERS if brief else self._workers
            pool = ThreadPoolExecutor(workers, f"target-{target}")
            found = self._targets[target] = _Target(pool, is_brief=brief)
        found.queued_at.append(time.monotonic())
        found.unfinished += 1
        return found.pool.submit(self._guarded, target, found, job, arguments)

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

    def _guarded(self, name: str, target: _Target, job: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            target.queued_at.popleft()
        try:
            return self._logged(job, arguments)
        finally:
            with self._lock:
                target.unfinished -= 1
                if target.is_brief and not target.unfinished:
                    del self._targets[name]
                    target.pool.shutdown(wait=False)

    def _logged(self, job: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        new_log_context()
        try:
            return job(*arguments)
        except WaddleBotError as err:
            self._log.error("job_failed", code=err.code, message=err.message)
        except Exception:  # noqa: BLE001 - nobody waits for the future's exception; the log has it whole
            self._log.error("job_failed", exc_info=True)
        return None
