"""What is to run for as long as its process does: threads and tasks that are begun again when they end unasked.

Everything of this kind is a `Watched`, and `scripts/check_fleet.py` holds the code to it. What happened to each is told
by `health`, `metrics` and `doctor`. This stands below the logs, whose writer is watched, too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

# After it ended something is begun again soon, then later each time, up to this.
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 5.0
# What has run for so long was well; when it ends it is begun again as soon as the first time.
WELL_AFTER_S = 30.0
# For so long health tells of a trouble that is over, so that whoever looks now and then sees it.
SHOWN_FOR_S = 60.0
# Troubles of one kind that come closer together than this are one line in the log, with their number.
LOG_EVERY_S = 60.0

_logger = logging.getLogger("waddlebot.process")
_watched: set[Watched] = set()


@dataclass(frozen=True, slots=True)
class State:
    """What became of something watched. `owner` is the module whose it is, or empty: the process's own.

    `trouble` is empty when all is well, and was for a minute.
    """

    name: str
    owner: str
    is_alive: bool
    ended: int
    troubles: int
    trouble: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Watched:
    """One thread, task or kind of trouble. For all threads.

    Whatever ends unasked is logged as an ERROR, counted, and begun again. `note` is for what it outlives: a message
    that cannot be read, a line that is lost.
    """

    def __init__(self, name: str, owner: str = "") -> None:
        self.name = name
        self.owner = owner
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_running = True
        self._ended = 0
        self._troubles = 0
        self._last = ""
        self._last_at: float | None = None
        self._failing_since: float | None = None
        self._logged_at: float | None = None
        self._not_logged = 0
        _watched.add(self)

    def start(self, run: Callable[[], None], *, stopping: threading.Event) -> threading.Thread:
        """Run something in a thread until `stopping` is set, which `run` has to heed."""
        thread = threading.Thread(target=self._keep, args=(run, stopping), name=self.name, daemon=True)
        self._thread = thread
        thread.start()
        return thread

    async def keep(self, make: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Await what `make` makes, until this is cancelled."""
        failures = 0
        try:
            while True:
                began_at, self._is_running = time.monotonic(), True
                await self._await(make())
                failures = 1 if time.monotonic() - began_at > WELL_AFTER_S else failures + 1
                await asyncio.sleep(backoff_s(failures))
        finally:
            self.forget()

    async def _await(self, coroutine: Coroutine[Any, Any, object]) -> None:
        try:
            await coroutine
            self.end("it returned")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.end("it was cancelled")  # Something that it awaited was.
        except Exception as err:  # noqa: BLE001 - it outlives any bug in what it does
            self.end(_why(err), err)

    def start_task(self, make: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[None]:
        """The same as a task of the running loop; hold on to it."""
        return asyncio.get_running_loop().create_task(self.keep(make), name=self.name)

    def end(self, why: str, err: BaseException | None = None) -> None:
        """It has ended unasked, and is begun again."""
        with self._lock:
            self._is_running = False
            self._ended += 1
            self._last, self._last_at = f"ended: {why}", time.monotonic()
            ended = self._ended
        _log("ended_unasked", err, name=self.name, owner=self.owner or None, why=why, ended=ended)

    def note(self, what: str, *, count: int = 1, is_logged: bool = True) -> None:
        """Something went wrong that it outlives: told by health for a minute, logged once a minute with the number."""
        now = time.monotonic()
        with self._lock:
            self._troubles += count
            self._last, self._last_at = what, now
            self._not_logged += count
            if not is_logged or (self._logged_at is not None and now - self._logged_at < LOG_EVERY_S):
                return
            self._logged_at, times, self._not_logged = now, self._not_logged, 0
        _log("trouble", None, name=self.name, owner=self.owner or None, what=what, times=times)

    def fail(self, why: str, *, is_bug: bool) -> None:
        """A step failed and is tried again. A bug is told of at once, anything else when it lasts for a minute."""
        now = time.monotonic()
        with self._lock:
            self._troubles += 1
            self._failing_since = self._failing_since or now
            if is_bug or now - self._failing_since >= SHOWN_FOR_S:
                self._last, self._last_at = f"fails: {why}", now

    def succeed(self) -> None:
        self._failing_since = None

    def forget(self) -> None:
        """It was asked to end."""
        _watched.discard(self)

    @property
    def state(self) -> State:
        with self._lock:
            is_alive = self._is_running and (self._thread is None or self._thread.is_alive())
            age_s = None if self._last_at is None else time.monotonic() - self._last_at
            trouble = ""
            if age_s is not None and (age_s < SHOWN_FOR_S or not is_alive):
                times = f", {self._ended + self._troubles} times" if self._ended + self._troubles > 1 else ""
                trouble = f"{self._last} ({age_s:.0f} s ago{times}; {'runs' if is_alive else 'does not run'})"
            elif not is_alive:
                trouble = "does not run"
            return State(self.name, self.owner, is_alive, self._ended, self._troubles, trouble)

    def _keep(self, run: Callable[[], None], stopping: threading.Event) -> None:
        failures = 0
        while not stopping.is_set():
            began_at, self._is_running = time.monotonic(), True
            try:
                run()
                why, bug = "it returned", None
            except BaseException as err:  # noqa: BLE001 - nobody else would hear of it, not even of SystemExit
                why, bug = _why(err), err
            if stopping.is_set() and bug is None:
                break
            self.end(why, bug)
            failures = 1 if time.monotonic() - began_at > WELL_AFTER_S else failures + 1
            stopping.wait(backoff_s(failures))
        self.forget()


def states(owner: str | None = None) -> list[State]:
    """What became of everything that this process watches, or of one module's and of the process's own.

    What has one name is one: a socket for each channel, say. It is alive when all of them are.
    """
    by_name: dict[tuple[str, str], list[State]] = {}
    for state in [each.state for each in list(_watched)]:
        if owner is None or state.owner in ("", owner):
            by_name.setdefault((state.owner, state.name), []).append(state)
    return [_together(alike) for _, alike in sorted(by_name.items())]


def _together(alike: list[State]) -> State:
    return State(
        alike[0].name,
        alike[0].owner,
        is_alive=all(each.is_alive for each in alike),
        ended=sum(each.ended for each in alike),
        troubles=sum(each.troubles for each in alike),
        trouble=next((each.trouble for each in alike if each.trouble), ""),
    )


def backoff_s(failures: int) -> float:
    return float(min(FIRST_BACKOFF_S * 2 ** min(failures - 1, 10), MAX_BACKOFF_S))


def tell_of_lost_errors(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Have a loop tell of what its tasks and callbacks raised and nobody asked for."""
    watched = Watched(name)

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        err = context.get("exception")
        watched.note(_why(err) if err else str(context["message"]), is_logged=False)
        _log("error_not_handled", err, name=name, what=context["message"])

    loop.set_exception_handler(handle)


def _why(err: BaseException) -> str:
    return f"{type(err).__name__}: {str(err)[:200]}".rstrip(": ")


def _log(action: str, err: BaseException | None, **fields: Any) -> None:
    line = {"module": "process", "version": "-", "category": "ERROR", "result": "FAILED", "fields": fields}
    exc_info = (type(err), err, err.__traceback__) if err is not None else None
    _logger.error(action, exc_info=exc_info, extra={"aaa": line})
