"""Commands that only read are run before their event is on record, all of a module together: then the event and what
came of it are one statement, and a crash before it has changed nothing (docs/adr/0066).

read ─► the module's line ─► its threads: all that wait, in one go ─► what was done within WAIT_S; the rest runs later
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from waddlebot.base.background import TargetPools
from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import MAX_BATCH
from waddlebot.base.errors import UpstreamError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import parse_json
from waddlebot.module.interaction import MODULES, InteractionModule
from waddlebot.web.clients import ModuleClient

from ..catalogue.module_specs import ROUTER
from ..engines.execution_engine import LEAST_TIMEOUT_S, Engine, Result, Task, check_reply, result_of
from ..modules.addresses import ModuleAddresses

# So long a batch waits for what only reads, on a machine with a lot to do. What is slower runs after the others' events
# are on record.
WAIT_S = 0.25
# A module that answered nobody in time so often in a row runs in its own threads for so long, as do those that write.
LATE_AT_MOST = 3
RESTS_S = 60.0
# Threads that read in one module. Who comes meanwhile goes with the others that wait, which is what spares the most.
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Read:
    """What came of an execution; `note` is to be called when it is on record."""

    result: Result
    note: Callable[[], None]


# What comes of tasks, in order until a moment of time.monotonic(); None for what has to run the usual way.
# Raises: WaddleBotError when nobody answers.
Reader = Callable[[Sequence[Task], float], Iterator[Read | None]]


@dataclass(slots=True)
class _Asked:
    """Tasks of one batch for one module."""

    tasks: list[Task]
    until: float
    found: list[Read | None] = field(default_factory=list)
    is_answered: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class _Line:
    """Who waits for a module, and how it has done lately."""

    module_name: str
    reader: Reader
    waiting: deque[_Asked] = field(default_factory=deque)
    at_work: int = 0
    late: int = 0
    rests_until: float = 0.0


class ReadingAhead:
    """Has modules answer calls that only read, many in one go, within a time."""

    def __init__(
        self,
        own: Engine,
        client: ModuleClient,
        addresses: ModuleAddresses,
        circuits: CircuitBreakers,
        pools: TargetPools,
        log: AAALog,
    ) -> None:
        self._own = own
        self._client = client
        self._addresses = addresses
        self._circuits = circuits
        self._pools = pools
        self._log = log
        self._lines: dict[tuple[str, str], _Line] = {}
        self._lock = threading.Lock()

    def can(self, task: Task) -> bool:
        """Whether it can be asked now."""
        spec, name = task.command.spec, task.command.module_name
        if spec.type != "container" or self._circuits.is_open(name, spec.location_url, task.call.community.id):
            return False
        return time.monotonic() >= self._line_of(task).rests_until

    def read(self, tasks: Sequence[Task]) -> list[Read | None]:
        """What came of each task that was done in time and said what fits on record beside others, else None."""
        until = time.monotonic() + WAIT_S
        groups: dict[int, tuple[_Line, list[int]]] = {}
        for n, task in enumerate(tasks):
            line = self._line_of(task)
            groups.setdefault(id(line), (line, []))[1].append(n)
        asked = [(line, places, self._ask(line, [tasks[n] for n in places], until)) for line, places in groups.values()]
        found: list[Read | None] = [None] * len(tasks)
        for line, places, each in asked:
            each.ended.wait(max(0.0, until - time.monotonic()))
            # Who is late goes on by itself, and nobody wants to know of it any more.
            answered = list(each.found)
            self._note_late(line, is_late=not each.is_answered and not any(answered))
            for n, read in zip(places, answered, strict=False):
                found[n] = read
        return found

    def _line_of(self, task: Task) -> _Line:
        name, url = task.command.module_name, task.command.spec.location_url
        line = self._lines.get((name, url))
        if line is None:
            line = self._lines.setdefault((name, url), _Line(name, self._reader_of(name, url)))
        return line

    def _reader_of(self, name: str, url: str) -> Reader:
        if name == ROUTER:
            return self._read_own
        module = MODULES.get(url)
        if module is not None and module.service.name == name:
            return _Here(module)
        return _There(name, url, self._client, self._addresses)

    def _ask(self, line: _Line, tasks: list[Task], until: float) -> _Asked:
        asked = _Asked(tasks, until)
        with self._lock:
            line.waiting.append(asked)
            is_first = line.at_work < AT_ONCE
            line.at_work += is_first
        if is_first:
            self._pools.submit(line.module_name, self._serve, line)
        return asked

    def _serve(self, line: _Line) -> None:
        """Answer all who wait, until nobody does."""
        while batch := self._next(line):
            try:
                self._answer(line, batch)
            except WaddleBotError as err:
                self._log.system("reading_failed", result="FAILED", failed=line.module_name, code=err.code)
            except Exception:  # noqa: BLE001 - they run the usual way then, and so do those that follow
                self._log.error("reading_failed", exc_info=True, failed=line.module_name)
            finally:
                for each in batch:
                    each.ended.set()

    def _next(self, line: _Line) -> list[_Asked]:
        batch: list[_Asked] = []
        room = MAX_BATCH
        with self._lock:
            while line.waiting and (not batch or len(line.waiting[0].tasks) <= room):
                each = line.waiting.popleft()
                if time.monotonic() < each.until:
                    batch.append(each)
                    room -= len(each.tasks)
            if not batch:
                line.at_work -= 1
        return batch

    @staticmethod
    def _answer(line: _Line, batch: Sequence[_Asked]) -> None:
        reads = line.reader([task for each in batch for task in each.tasks], max(each.until for each in batch))
        for each in batch:
            for _ in each.tasks:
                each.found.append(next(reads, None))
            each.is_answered = True
            each.ended.set()
        next(reads, None)  # To its end.

    def _note_late(self, line: _Line, *, is_late: bool) -> None:
        line.late = line.late + 1 if is_late else 0
        if line.late >= LATE_AT_MOST:
            line.late, line.rests_until = 0, time.monotonic() + RESTS_S
            self._log.system("module_reads_slowly", result="FAILED", slow=line.module_name, rests_s=RESTS_S)

    def _read_own(self, tasks: Sequence[Task], until: float) -> Iterator[Read | None]:
        for task in tasks:
            if time.monotonic() >= until:
                return
            try:
                yield Read(self._own.execute(task), _nothing)
            except Exception:  # noqa: BLE001 - it is run again, and what is wrong is told there
                yield None


@dataclass(frozen=True, slots=True)
class _Here:
    """A module of this very process."""

    module: InteractionModule

    def __call__(self, tasks: Sequence[Task], until: float) -> Iterator[Read | None]:
        # They come first, so that they are followed to their end, which gives the connection back.
        for reading, task in zip(self.module.read([each.call for each in tasks], until=until), tasks, strict=False):
            yield _checked(task, parse_json(reading.reply), reading.note) if reading else None


@dataclass(frozen=True, slots=True)
class _There:
    """A module that is called over HTTP; it counts what is used by itself."""

    module_name: str
    url: str
    client: ModuleClient
    addresses: ModuleAddresses

    def __call__(self, tasks: Sequence[Task], until: float) -> Iterator[Read | None]:
        if not self.addresses.are_of(self.module_name, self.url):
            return
        body = f"[{','.join(task.payload for task in tasks)}]".encode()
        timeout_s = max(LEAST_TIMEOUT_S, until - time.monotonic())
        response = self.client.execute(f"{self.url}/batch", body, tasks[0].call.traceparent, timeout_s=timeout_s)
        replies = parse_json(response.body) if response.status == 200 else None
        if not isinstance(replies, list):
            raise UpstreamError(f"{self.module_name} answered a batch with HTTP {response.status}.")
        for task, reply in zip(tasks, replies, strict=False):
            yield _checked(task, reply, _nothing) if reply else None


def _nothing() -> None: ...


def _checked(task: Task, reply: Any, note: Callable[[], None]) -> Read | None:
    """A reply as it would be read alone; None for one that is not as it should be, which is told of there."""
    try:
        checked = check_reply(reply, task.call, task.command.module_name)
        result = result_of(checked)
    except (ValidationError, UpstreamError):
        return None
    if checked.later_s is not None:
        return None
    return Read(replace(result, http_status=200, took_ms=checked.processing_time_ms), note)
