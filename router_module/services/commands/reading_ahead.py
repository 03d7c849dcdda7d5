"""Commands that only read are run before their event is on record, all of a batch together: then the event and what
came of it are one statement, and a crash before it has changed nothing (docs/adr/0066)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from pydantic import ValidationError
from waddlebot.base.background import TargetPools
from waddlebot.base.errors import UpstreamError
from waddlebot.base.logs import AAALog
from waddlebot.module.interaction import MODULES, InteractionModule, Reading
from waddlebot.web.http import HTTPResponse

from ..catalogue.module_specs import ROUTER
from ..engines.execution_engine import Engine, Result, Task, read_reply, result_of

# So long a batch waits for what only reads, on a machine with a lot to do. What is slower runs after the others' events
# are on record.
WAIT_S = 0.25
# A module that had not answered anybody by then so often in a row runs in its own threads for so long, as do those that
# write.
LATE_AT_MOST = 3
RESTS_S = 60.0
# What is longer goes on record by itself, so that its trouble is nobody else's.
MAX_REPLY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Read:
    """What came of an execution; `note` is to be called when it is on record."""

    result: Result
    note: Callable[[], None]


# What comes of tasks, in order until a moment of time.monotonic(); None for what has to run the usual way.
Reader = Callable[[Sequence[Task], float], Iterator[Read | None]]


@dataclass(slots=True)
class _Standing:
    """How a module has done lately."""

    late: int = 0
    rests_until: float = 0.0


class ReadingAhead:
    """Has modules answer calls that only read, each module all of its own in one go, within a time."""

    def __init__(self, own: Engine, pools: TargetPools, log: AAALog) -> None:
        self._own = own
        self._pools = pools
        self._log = log
        self._standing: dict[str, _Standing] = {}

    def can(self, task: Task) -> bool:
        """Whether it can be asked now."""
        name = task.command.module_name
        standing = self._standing.get(name)
        if standing is not None and time.monotonic() < standing.rests_until:
            return False
        return self._pools.delay_s(name) < WAIT_S and self._reader_of(task) is not None

    def read(self, tasks: Sequence[Task]) -> list[Read | None]:
        """What came of each task that was done in time and said what fits on record beside others, else None."""
        until = time.monotonic() + WAIT_S
        by_module: dict[str, list[int]] = {}
        for n, task in enumerate(tasks):
            by_module.setdefault(task.command.module_name, []).append(n)
        found: list[Read | None] = [None] * len(tasks)
        asked = {name: self._begin(tasks, places, until, found) for name, places in by_module.items()}
        for name, future in asked.items():
            try:
                future.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                # It ends by itself, and nobody wants to know of it any more.
                self._note_late(name, is_late=not any(found[n] for n in by_module[name]))
            else:
                self._note_late(name, is_late=False)
        return list(found)

    def _begin(
        self, tasks: Sequence[Task], places: Sequence[int], until: float, found: list[Read | None]
    ) -> Future[None]:
        reader = self._reader_of(tasks[places[0]])
        assert reader is not None, "a module that could be asked cannot any more"

        def run() -> None:
            # The reader comes first, so that it is followed to its end. One that is late goes on writing where nobody
            # looks any more.
            for read, n in zip(reader([tasks[n] for n in places], until), places, strict=False):
                found[n] = read

        return self._pools.submit(tasks[places[0]].command.module_name, run)

    def _note_late(self, name: str, *, is_late: bool) -> None:
        standing = self._standing.setdefault(name, _Standing())
        standing.late = standing.late + 1 if is_late else 0
        if standing.late >= LATE_AT_MOST:
            standing.late, standing.rests_until = 0, time.monotonic() + RESTS_S
            self._log.system("module_reads_slowly", result="FAILED", slow=name, rests_s=RESTS_S)

    def _reader_of(self, task: Task) -> Reader | None:
        if task.command.module_name == ROUTER:
            return self._read_own
        module = MODULES.get(task.command.spec.location_url)
        if module is None or module.service.name != task.command.module_name:
            return None
        return _Here(module)

    def _read_own(self, tasks: Sequence[Task], until: float) -> Iterator[Read | None]:
        for task in tasks:
            if time.monotonic() >= until:
                return
            try:
                yield Read(self._own.execute(task), lambda: None)
            except Exception:  # noqa: BLE001 - it is run again, and what is wrong is told there
                yield None


@dataclass(frozen=True, slots=True)
class _Here:
    """A module of this very process."""

    module: InteractionModule

    def __call__(self, tasks: Sequence[Task], until: float) -> Iterator[Read | None]:
        answered = self.module.read([task.call for task in tasks], until=until)
        for reading, task in zip(answered, tasks, strict=False):
            yield _read(task, reading) if reading else None


def _read(task: Task, reading: Reading) -> Read | None:
    """A reply as it would be read from outside; None for one that is not as it should be, which is told elsewhere."""
    if len(reading.reply) > MAX_REPLY_BYTES:
        return None
    try:
        reply = read_reply(HTTPResponse(200, reading.reply), task.call, task.command.module_name)
        result = result_of(reply)
    except (ValidationError, UpstreamError):
        return None
    return Read(replace(result, http_status=200, took_ms=reply.processing_time_ms), reading.note)
