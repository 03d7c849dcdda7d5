"""Handlers that ask somebody outside of the fleet: what they are given, and the threads that they run in.

read ─► record `started` (where the call has an effect) ─► call ─► write and keep the reply

No transaction is open during the call, so a crash can fall between any two of these. A look-up is made again then. An
effect is not: whoever comes after finds it started and says that nobody knows how it ended (docs/adr/0021).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from pydal import DAL

from ..base.contracts import ModuleCall, ModuleReply
from ..base.errors import Away, Later, Refused, Unclear, UpstreamError, UserError, WaddleBotError
from ..base.logs import AAALog, new_log_context
from ..base.transactions import check_no_transaction
from ..data.database import Database
from ..web.http import HTTPResponse, with_retries
from .call import Asked

T = TypeVar("T")

# A call that would get less time than this is not begun.
LEAST_S = 0.05
# So long before the deadline "not yet" is answered, so that whoever asked still hears it; of short calls a quarter.
ANSWER_BEFORE_S = 1.0
# While more than so many are under way the others are told "not yet" after so long: a router has some twenty threads
# for a module, and whoever asks the same one for something that takes no time must find one.
CROWD, PATIENCE_S = 10, 0.2
# How long after the deadline the reply may come. What is called keeps to the deadline, so it comes soon or never.
LATE_FOR_S, LONGEST_S = 30.0, 900.0
EFFECTS_KEPT = "48 hours"


class Missing(Enum):
    """Nothing to go on with."""

    MISSING = "missing"


MISSING = Missing.MISSING


class Crowded(UserError):
    """Too many are asking for this right now. Try again in a moment."""

    code = "busy"


class EffectUnclear(Unclear):
    """Nobody can say whether that came about, so it is not done again."""

    code = "unknown"


class Described(Exception):
    """Ends a simulated handler at a call that it cannot go on without."""


class Effects:
    """What a module has begun to do elsewhere, on record before it is done."""

    def __init__(self, database: Database, module_name: str) -> None:
        self._database = database
        self._module_name = module_name

    def begin(self, execution_id: str, effect: str) -> None:
        """Raises: EffectUnclear when it was begun before: by somebody who has not lived to say how it ended."""
        begun = self._database.statement(
            "INSERT INTO module_effects (module_name, execution_id, effect) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING 1 AS begun",
            (self._module_name, execution_id, effect),
        )
        if not begun:
            raise _unclear(effect)

    def check_none(self, execution_id: str) -> None:
        """Raises: EffectUnclear when something was begun under this execution."""
        begun = self._database.statement(
            "SELECT effect FROM module_effects WHERE module_name = %s AND execution_id = %s LIMIT 1",
            (self._module_name, execution_id),
        )
        if begun:
            raise _unclear(begun[0]["effect"])

    def forget(self, execution_id: str, effect: str) -> None:
        """It certainly did not come about, so it may be begun again."""
        self._database.statement(
            "DELETE FROM module_effects WHERE module_name = %s AND execution_id = %s AND effect = %s",
            (self._module_name, execution_id, effect),
        )

    def purge(self) -> None:
        """Delete what is older than any call that could still be repeated."""
        self._database.statement(
            "DELETE FROM module_effects WHERE ctid = ANY(ARRAY(SELECT ctid FROM module_effects WHERE"
            f" started_at < now() - interval '{EFFECTS_KEPT}' AND module_name = %s LIMIT 1000))",
            (self._module_name,),
        )


def _unclear(effect: str) -> EffectUnclear:
    return EffectUnclear(f"Nobody can say whether this came about: {effect}. It is not tried again.")


@dataclass(slots=True)
class OutsideCall(Asked):
    """One call of a handler that calls out. Nothing is called while `reading()` or after `writing()`."""

    database: Database
    effects: Effects
    # When the call's deadline is (time.monotonic()).
    until: float
    described: list[str] = field(default_factory=list)
    # What `writing` has written, committed with the reply.
    db: DAL | None = None
    _unit: AbstractContextManager[DAL] | None = None

    @property
    def left_s(self) -> float:
        """The time until the call's deadline. Raises: Later when there is none."""
        left_s = self.until - time.monotonic()
        if left_s < LEAST_S:
            raise Later("That takes too long at the moment. Try again in a moment.")
        return left_s

    @contextmanager
    def reading(self) -> Iterator[DAL]:
        """Read what is committed. Closed before anything is called."""
        with self.database.reading() as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[DAL]:
        """Write. What is written is committed with the reply, once the handler has returned, and not without it."""
        if self._unit is None:
            self._unit = self.database.transaction()
            self.db = self._unit.__enter__()
        assert self.db is not None
        try:
            yield self.db
        except BaseException as err:
            self.end(err)
            raise

    def look_up(self, what: str, ask: Callable[[float], T], *, instead: T | Missing = MISSING) -> T:
        """Ask for something that may be asked for again, after a crash too.

        `ask` gets the seconds that are left. A simulated call asks nobody: it goes on with `instead`, or ends here.
        """
        check_no_transaction()
        if self.is_simulated:
            return self._describe(what, instead)
        return ask(self.left_s)

    def effect(self, what: str, do: Callable[[float], T], *, instead: T | Missing = MISSING) -> T:
        """Have something done that must not be done twice; `what` names it within this call.

        Raises: EffectUnclear when nobody knows whether it was done, here or before a crash; if that is not caught it is
        said, and the execution is `unknown`. Refused, Away and Later as `do` raises them: it was certainly not done.
        """
        check_no_transaction()
        if self.is_simulated:
            return self._describe(what, instead)
        left_s = self.left_s
        self.effects.begin(self.payload.execution_id, what)
        try:
            return do(left_s)
        except (Refused, Away, Later):
            self.effects.forget(self.payload.execution_id, what)
            raise
        except Unclear as err:
            raise _unclear(what) from err

    def _describe(self, what: str, instead: T | Missing) -> T:
        self.described.append(what)
        if isinstance(instead, Missing):
            raise Described
        return instead

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Commit at the end what was written, or undo it."""
        try:
            yield
        except BaseException as err:
            self.end(err)
            raise
        self.end(None)

    def end(self, err: BaseException | None) -> None:
        unit, self._unit, self.db = self._unit, None, None
        if unit is not None:
            unit.__exit__(type(err) if err else None, err, err.__traceback__ if err else None)


def deadline_of(call: ModuleCall) -> float:
    """When a call's time is over (time.monotonic()). Clocks of two machines that disagree count for nothing."""
    timeout_s = call.timeout_ms / 1000
    left_s = (call.deadline - datetime.now(UTC)).total_seconds()
    return time.monotonic() + (left_s if 0 < left_s < timeout_s else timeout_s)


@dataclass(slots=True)
class _Run:
    call: ModuleCall
    until: float
    future: Future[ModuleReply]
    # Whether "not yet" was answered, so that the reply has to be posted.
    is_late: bool = False


class OutsideRuns:
    """Runs calls in a bounded pool of the module's own, and posts the replies of those that take too long.

    The thread that serves a request waits until shortly before the call's deadline, or a moment where many wait, and is
    free then, whatever a provider does.
    """

    def __init__(
        self,
        run: Callable[[ModuleCall, float], ModuleReply],
        post: Callable[[ModuleReply], HTTPResponse],
        *,
        module_name: str,
        at_once: int,
        log: AAALog,
    ) -> None:
        self._run = run
        self._post = post
        self._module_name = module_name
        self._at_once = at_once
        self._log = log
        self._pool = ThreadPoolExecutor(at_once, f"{module_name}-out")
        self._running: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def execute(self, call: ModuleCall) -> ModuleReply:
        """The reply to a call, or "not yet" when its deadline nears or many wait. A copy of one that runs gets that
        one's.

        Raises: Crowded; what the run raises.
        """
        until = deadline_of(call)
        run = self._find_or_start(call, until)
        wait([run.future], self._patience_s(call, until))
        with self._lock:
            if not run.future.done():
                run.is_late = True
                later_s = max(0.0, until - time.monotonic()) + LATE_FOR_S
                return self._reply(call, success=True, later_s=min(later_s, LONGEST_S))
        return run.future.result()

    def _patience_s(self, call: ModuleCall, until: float) -> float:
        """How long whoever asked for a call waits for its reply in this thread."""
        left_s = until - time.monotonic() - min(ANSWER_BEFORE_S, call.timeout_ms / 4000)
        return left_s if len(self._running) <= CROWD else min(PATIENCE_S, left_s)

    def _find_or_start(self, call: ModuleCall, until: float) -> _Run:
        with self._lock:
            run = self._running.get(call.execution_id)
            if run is not None:
                return run
            if len(self._running) >= self._at_once:
                raise Crowded()
            run = _Run(call, until, self._pool.submit(self._run, call, until))
            self._running[call.execution_id] = run
        run.future.add_done_callback(lambda _: self._ended(run))
        return run

    def _ended(self, run: _Run) -> None:
        """Post the reply if it is late, in the thread that ran the call."""
        new_log_context().session_id = run.call.session_id
        try:
            with self._lock:
                is_late = run.is_late
            reply = self._late_reply(run) if is_late else None
            if reply is not None:
                self._post_late(reply)
        finally:
            with self._lock:
                self._running.pop(run.call.execution_id, None)

    def _late_reply(self, run: _Run) -> ModuleReply | None:
        """What came of a call. None when it may do better once more: the router asks again when nothing comes."""
        err = run.future.exception()
        if err is None:
            return run.future.result()
        if isinstance(err, WaddleBotError) and err.retryable:
            self._log.error("late_call_failed", execution_id=run.call.execution_id, code=err.code, message=err.message)
            return None
        self._log.error("late_call_failed", execution_id=run.call.execution_id, exc_info=err)
        return self._reply(run.call, success=False, error_message="It failed on our side; it was logged.")

    def _post_late(self, reply: ModuleReply) -> None:
        try:
            answer = with_retries(lambda: self._post(reply), until=time.monotonic() + LATE_FOR_S)
        except UpstreamError as err:
            self._log.error("late_reply_lost", execution_id=reply.execution_id, code=err.code, message=err.message)
            return
        result = "SUCCESS" if answer.status == 200 else "FAILED"
        self._log.system("late_reply", result=result, execution_id=reply.execution_id, status=answer.status)

    def _reply(self, call: ModuleCall, **fields: Any) -> ModuleReply:
        ids = {"session_id": call.session_id, "execution_id": call.execution_id}
        return ModuleReply(**ids, module_name=self._module_name, **fields)
