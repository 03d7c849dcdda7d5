"""All processes of modules: which one takes a call, what is kept, what is ended, and what is left alone for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json, to_json

from ..base.errors import UpstreamError, WaddleBotError
from ..web.http import EgressGuard
from .broker import Traffic
from .packages import Function, NoSuchFunction, Packages
from .settings import HostSettings
from .worker import Call, Outcome, StateAsker, Template, Worker

LOOK_EVERY_S = 0.1
# Of one module in one community: calls that run at once. Of one module everywhere: its share of all processes.
MOST_AT_ONCE, SHARE = 4, 0.5
# What had to be ended by force so often in a row, or failed so often, is left alone for a while.
MOST_HARM, MOST_ERRORS = 5, 20
# Each rest after which it still fails is twice as long, up to so many times the first one.
LONGEST_REST = 16
MAX_TIMEOUT_S = 900.0
THROTTLED = "TooManyRequestsException"
NO_FUNCTION = "ResourceNotFoundException"
UNAVAILABLE = "ServiceException"

Key = tuple[str, int]


class Busy(WaddleBotError):
    """As many calls as there may be are running."""


@dataclass(slots=True)
class Record:
    """What a function did in one community, and what it tried."""

    calls: int = 0
    errors: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    output: bytes = b""
    harm_in_a_row: int = 0
    errors_in_a_row: int = 0
    rests_in_a_row: int = 0
    parked_until: float = 0
    parked_times: int = 0

    def take(self, outcome: Outcome, *, rests_s: float) -> None:
        """Count an outcome, and have the function rest here when it was not the first bad one."""
        self.calls += 1
        if not outcome.failed:
            self.harm_in_a_row = self.errors_in_a_row = self.rests_in_a_row = 0
            return
        self.errors += 1
        self.errors_in_a_row += 1
        if outcome.is_harm:
            self.harm_in_a_row += 1
            why = str(from_json(outcome.body).get("errorType", ""))[:80]
            self.ended[why] = self.ended.get(why, 0) + 1
        if self.harm_in_a_row < MOST_HARM and self.errors_in_a_row < MOST_ERRORS:
            return
        self.harm_in_a_row = self.errors_in_a_row = 0
        self.parked_until = time.monotonic() + rests_s * min(2**self.rests_in_a_row, LONGEST_REST)
        self.rests_in_a_row += 1
        self.parked_times += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "errors": self.errors,
            "ended": self.ended,
            "connections": self.traffic.connections,
            "sent_bytes": self.traffic.sent_bytes,
            "received_bytes": self.traffic.received_bytes,
            "refused_hosts": dict(self.traffic.refused.most_common(20)),
            "output": self.output[-2000:].decode("utf-8", "replace"),
            "parked": self.parked_until > time.monotonic(),
            "parked_times": self.parked_times,
        }


Late = Callable[[Call, Outcome], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outside:
    """What the pool has others do: state, and answers that come later."""

    ask_state: StateAsker
    answer_late: Late


class Pool:
    """Runs calls of functions, each in a process that serves one community only."""

    def __init__(
        self, settings: HostSettings, template: Template, packages: Packages, guard: EgressGuard, outside: Outside
    ) -> None:
        self._settings = settings
        self._template = template
        self._packages = packages
        self._guard = guard
        self._outside = outside
        self._idle: dict[Key, list[Worker]] = {}
        self._busy: dict[Key, list[Worker]] = {}
        self._late: dict[str, tuple[float, asyncio.Task[Outcome]]] = {}
        self._turns: dict[Key, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.records: dict[Key, Record] = {}
        self.cold_starts = 0
        # So that one bad module, however many have it, leaves room for the others.
        self.most_of_one = max(1, int(settings.most_processes * SHARE))

    @property
    def processes(self) -> int:
        return sum(len(each) for each in (*self._idle.values(), *self._busy.values()))

    async def invoke(self, name: str, body: bytes) -> Outcome:
        """Run a function with an event; or say in Lambda's words why it was not run."""
        try:
            event = from_json(body)
            community_id = int(event["community"]["id"])
            timeout_s = min(float(event["timeout_ms"]) / 1000, MAX_TIMEOUT_S)
        except (ValueError, TypeError, KeyError):
            return Outcome.error("InvalidRequestContentException", "The event is no call of a module.")
        running = self._late.get(str(event.get("execution_id")))
        if running:  # The router asks again for what it was told would come.
            return _later(event, name, max(0.1, running[0] - time.monotonic()))
        try:
            function = await self._packages.get(name)
        except NoSuchFunction as err:
            return Outcome.error(NO_FUNCTION, err.message)
        except UpstreamError as err:
            return Outcome.error(UNAVAILABLE, err.message)
        except WaddleBotError as err:
            return Outcome.error("InvalidPackage", err.message)
        return await self._run(function, community_id, Call(event, body, timeout_s, function.module_name))

    async def run(self, function: Function, community_id: int, call: Call) -> Outcome:
        """Run a function in a process of its own community, and count what comes of it."""
        if "state" not in function.manifest.permissions:
            return await self._run_now(function, community_id, call)
        # What it reads, changes and writes again must not change in between.
        turn = self._turns.setdefault((function.module_name, community_id), asyncio.Lock())
        try:
            async with asyncio.timeout(call.timeout_s):
                await turn.acquire()
        except TimeoutError:
            return Outcome.error(THROTTLED, "Its calls in this community run one after the other.")
        try:
            return await self._run_now(function, community_id, call)
        finally:
            turn.release()

    async def _run_now(self, function: Function, community_id: int, call: Call) -> Outcome:
        key = (function.name, community_id)
        record = self.records.setdefault(key, Record())
        if record.parked_until > time.monotonic():
            return Outcome.error("Sandbox.Parked", "It kept failing here, so it is left alone for a while.")
        try:
            worker = await self._take(key, function, record)
        except Busy as err:
            return Outcome.error(THROTTLED, err.message)
        except (OSError, TimeoutError) as err:
            return Outcome.error(UNAVAILABLE, f"No process can be begun: {err}")
        try:
            outcome = await worker.call(call)
        finally:
            self._give_back(key, worker)
        record.output = worker.output or record.output
        record.take(outcome, rests_s=self._settings.parked_s)
        return outcome

    async def _run(self, function: Function, community_id: int, call: Call) -> Outcome:
        limits = function.manifest.limits
        call.timeout_s = min(call.timeout_s, limits.timeout_s)
        task: asyncio.Task[Outcome] = self._begin(self.run(function, community_id, call))
        waiting: list[asyncio.Future[Any]] = [task, call.postponed]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        seconds = call.postponed.result()
        execution_id = str(call.event.get("execution_id"))
        self._late[execution_id] = (time.monotonic() + seconds, task)
        self._begin(self._finish_late(execution_id, call, task))
        return _later(call.event, function.name, seconds)

    async def _finish_late(self, execution_id: str, call: Call, task: asyncio.Task[Outcome]) -> None:
        try:
            await self._outside.answer_late(call, await task)
        finally:
            self._late.pop(execution_id, None)

    async def _take(self, key: Key, function: Function, record: Record) -> Worker:
        """An idle process, or a new one. Raises: Busy; OSError."""
        idle = self._idle.get(key)
        while idle:
            worker = idle.pop()
            if worker.is_well:
                self._busy.setdefault(key, []).append(worker)
                return worker
            worker.close()
        if len(self._busy.get(key, ())) >= MOST_AT_ONCE or self._calls_of(function) >= self.most_of_one:
            raise Busy()
        if self.processes >= self._settings.most_processes and not self._make_room():
            raise Busy()
        worker = Worker(function, self._guard, self._outside.ask_state, record.traffic)
        self._busy.setdefault(key, []).append(worker)
        self.cold_starts += 1
        try:
            await worker.start(self._template)
        except BaseException:
            self._busy[key].remove(worker)
            raise
        return worker

    def _calls_of(self, function: Function) -> int:
        """How many of a module run at once, in all its versions and communities."""
        module = f"{function.module_name}:"
        return sum(len(each) for (name, _), each in self._busy.items() if name.startswith(module))

    def _give_back(self, key: Key, worker: Worker) -> None:
        self._busy[key].remove(worker)
        if not self._busy[key]:
            del self._busy[key]
        if not worker.is_well or worker.calls >= self._settings.most_calls:
            worker.close()
        else:
            self._idle.setdefault(key, []).append(worker)

    def _make_room(self) -> bool:
        """End the process that has been idle for longest."""
        idle = [(worker.idle_since, key, worker) for key, workers in self._idle.items() for worker in workers]
        if not idle:
            return False
        _since, key, worker = min(idle, key=lambda each: each[0])
        self._idle[key].remove(worker)
        worker.close()
        return True

    async def look(self) -> None:
        """End what takes too much or is not called any more, until this is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for workers in list(self._busy.values()):
                for worker in workers:
                    worker.check()
            self._retire()

    def _retire(self) -> None:
        before = time.monotonic() - self._settings.idle_s
        for key, workers in list(self._idle.items()):
            for worker in [each for each in workers if each.idle_since < before]:
                workers.remove(worker)
                worker.close()
            if not workers:
                del self._idle[key]

    def end_idle(self) -> None:
        """End all processes that are not asked anything just now."""
        while self._make_room():
            pass

    def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for workers in (*self._idle.values(), *self._busy.values()):
            for worker in workers:
                worker.close()
        self._template.stop()

    def _begin(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)  # not watched: a call, which ends by itself
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _later(event: dict[str, Any], function: str, seconds: float) -> Outcome:
    ids = {name: event.get(name) for name in ("session_id", "execution_id")}
    reply = {**ids, "module_name": function.partition(":")[0], "success": True, "later_s": seconds}
    return Outcome(to_json(reply))
