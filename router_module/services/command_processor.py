"""What becomes of an event: where it belongs, what it asks for, whether it may, who answers, and what is said.

admit ─► plan ─► ledger.open ─► start ─► engine.execute ─► ledger.record ─► answer
         └ parse, find, decide          └ in the target's own threads     └ within ROUTER_ANSWER_WAIT,
                                                                            the rest through the outbox
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from waddlebot.aaa import AAALog
from waddlebot.auth import Account
from waddlebot.background import TargetPools
from waddlebot.chat import CommandLine, UnbalancedQuotes, closest, fold, neutralise, parse_command
from waddlebot.contracts import (
    CONSOLE,
    OVERLAY_SOURCES,
    Answer,
    CommandData,
    CommandSpec,
    Event,
    ExecutionStatus,
    MessageType,
    ModuleResponse,
)
from waddlebot.errors import Busy, NotAllowed, NotFound, WaddleBotError
from waddlebot.metrics import Metrics

from ..config import RouterSettings
from .cache_manager import CacheManager, Command
from .execution_engine import Engine, Result
from .ledger import Ledger, Orphan, Recorded, Rehearsal
from .rbac_service import RBACService
from .session_manager import SessionManager
from .work import Job, Said, Work

MAX_DEPTH = 3
ROUTER = "router"


class CommandProcessor:
    """Processes events, from the collector's call to the answer and, for what is slow, beyond it."""

    def __init__(
        self,
        settings: RouterSettings,
        *,
        lookups: CacheManager,
        rbac: RBACService,
        ledger: Ledger,
        sessions: SessionManager,
        engines: dict[str, Engine],
        pools: TargetPools,
        log: AAALog,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._lookups = lookups
        self._rbac = rbac
        self._ledger = ledger
        self._rehearsal = Rehearsal()
        self._sessions = sessions
        self._engines = engines
        self._pools = pools
        self._log = log
        self._active: dict[str, Work] = {}
        self._events = metrics.counter("events", "Events received.", ["message_type", "duplicate"])
        self._executions = metrics.counter("executions", "Executions ended.", ["module", "status"])
        self._duration = metrics.histogram("execution_seconds", "From the call to the module's answer.", ["module"])

    def process(self, events: Sequence[Event], caller: Account) -> list[Answer | WaddleBotError]:
        """Answer each event, in order, within ROUTER_ANSWER_WAIT, or say why it was not taken.

        Raises: Busy when more work waits than the pools can do soon; nothing was taken then.
        """
        until = time.monotonic() + self._settings.answer_wait_s
        if self._pools.waiting >= self._settings.max_concurrent * self._settings.max_workers:
            raise Busy()
        admitted = [self._admit(event, caller) for event in events]
        works = [each for each in admitted if isinstance(each, Work)]
        chains = self._plan_in_order(works)
        for ledger in (self._ledger, self._rehearsal):
            batch = [work for work in works if work.is_simulated is (ledger is self._rehearsal)]
            if batch:
                ledger.open(batch)
        for chain in chains:
            self._start_chain(chain)
        for work in works:
            if not work.duplicate:
                work.finished.wait(max(0.0, until - time.monotonic()))
        return [self._answer(each) if isinstance(each, Work) else each for each in admitted]

    # From the event to its jobs

    def _admit(self, event: Event, caller: Account) -> Work | WaddleBotError:
        try:
            caller.check_platform(event.platform)
            if event.mode == "simulate" and not caller.is_admin:
                raise NotAllowed("Only admins' keys and the console may simulate.")
            place = self._lookups.place(event)
            caller.check_community(place.community_id)
            return Work(event, place, self._lookups.person(event.platform, event.user))
        except (NotAllowed, NotFound) as err:
            return err

    def _plan_in_order(self, works: list[Work]) -> list[list[Work]]:
        """Plan what can be planned now. One person's commands in one place wait for each other: the second may need
        what the first one does."""
        chains: dict[object, list[Work]] = {}
        for work in works:
            if not self._may_be_command(work.event):
                chains[work.session_id] = [work]
                continue
            chain = chains.setdefault((work.place.entity_id, work.person.user_id, work.is_simulated), [])
            chain.append(work)
            if len(chain) == 1:
                self._plan(work)
            else:
                work.deferred = True
        return list(chains.values())

    @staticmethod
    def _may_be_command(event: Event) -> bool:
        return event.message_type is MessageType.CHAT_MESSAGE and parse_command(event.message) is not None

    def _plan(self, work: Work) -> None:
        line = parse_command(work.event.message)
        if line is None:
            return
        catalogue = self._lookups.catalogue(work.place.community_id)
        found = catalogue.find(line.prefix, line.command, work.place.entity_id)
        if not found:
            self._suggest(work, line)
        for command in found:
            work.jobs.append(self._job(work, command, line))
        work.queue(work.jobs)

    def _suggest(self, work: Work, line: CommandLine) -> None:
        """Unknown commands are silent where other bots live, and explained on the console (contracts §9)."""
        if work.event.platform != CONSOLE:
            return
        typed = line.prefix + line.command
        guess = closest(typed, self._lookups.catalogue(work.place.community_id).names(work.place.entity_id))
        hint = f" Did you mean {guess}?" if guess else " Try !help."
        work.refusals.append(chat_line(f"There is no {typed} here.{hint}", ROUTER))

    def _job(self, work: Work, command: Command, line: CommandLine) -> Job:
        job = Job(command, [], path=(command.name,))
        try:
            job.args = line.words()
        except UnbalancedQuotes as err:
            job.refuse(ExecutionStatus.FAILED, err.code, err.message)
            work.refusals.append(chat_line(err.message, ROUTER, job))
            return job
        self._decide(work, job)
        return job

    def _decide(self, work: Work, job: Job) -> None:
        """Refuse the job or make it ready to run."""
        decision = self._rbac.decide(job.command, job.args, event=work.event, person=work.person, place=work.place)
        if decision.allowed:
            self._make_ready(work, job)
            return
        job.refuse(ExecutionStatus.DENIED, decision.code, decision.reason)
        self._executions.labels(job.command.module_name, job.status.value).inc()
        self._log.authz(
            "command_denied",
            result="DENIED",
            community=work.place.community_id,
            user=work.person.user_id,
            command=job.command.name,
            reason=decision.code,
        )
        key = f"{work.place.entity_id}:{work.person.user_id}:{job.command.name}"
        if work.is_simulated or work.event.platform == CONSOLE or self._sessions.first_refusal(key):
            work.refusals.append(chat_line(decision.reason, ROUTER, job))

    def _make_ready(self, work: Work, job: Job) -> None:
        level = self._rbac.level_of(work.event, work.person, work.place, scope=job.command.spec.scope)
        timeout_s = min(job.command.spec.timeout, self._settings.execution_timeout_s)
        job.set_call(work.call_for(job, level, timeout_s=timeout_s, raw=work.event.message))

    # Running

    def _start_chain(self, chain: list[Work]) -> None:
        """Run the works of one person in one place one after the other."""
        todo = [work for work in chain if not work.duplicate]
        if not todo:
            return
        first, rest = todo[0], todo[1:]
        if first.deferred:
            self._then(todo)()
            return
        if rest:
            first.on_finished = self._then(rest)
        self._start(first)

    def _then(self, works: list[Work]) -> Callable[[], None]:
        def run_next() -> None:
            self._pools.submit("chains", self._plan_and_start, works[0], works[1:])

        return run_next

    def _plan_and_start(self, work: Work, rest: list[Work]) -> None:
        if rest:
            work.on_finished = self._then(rest)
        self._plan(work)
        work.deferred = False
        self._ledger_of(work).plan(work)
        self._start(work)

    def _start(self, work: Work) -> None:
        if not work.is_finished:
            self._active[work.session_id] = work
        self._advance(work)

    def _advance(self, work: Work) -> None:
        """Start what may run now; when nothing is left, the event is finished."""
        with work.lock:
            ready = work.next_jobs()
            done = not ready and work.is_finished
        for job in ready:
            self._pools.submit(job.command.module_name, self._run, work, job)
        if done and not work.finished.is_set():
            self._active.pop(work.session_id, None)
            work.finished.set()
            if work.on_finished:
                work.on_finished()

    def _run(self, work: Work, job: Job) -> None:
        work.enter_log_context()
        engine = self._engines[ROUTER if job.command.module_name == ROUTER else job.command.spec.type]
        settled = False
        try:
            self.settle(work, job, engine.execute(job))
            settled = True
        finally:
            if not settled:
                # Not on record, so not done: the lease runs out and the module is called again, which answers the same.
                job.status = ExecutionStatus.PENDING
                self._active.pop(work.session_id, None)
        with work.lock:
            work.job_ended()
        self._advance(work)

    def settle(self, work: Work, job: Job, result: Result) -> bool:
        """Put what came of an execution on record and into the answer. False when that happened before."""
        with work.lock:
            job.result, job.status, job.error = result, result.status, result.error
            children = [self._child(work, job, each) for each in result.responses if each.response_action == "command"]
            work.jobs += children
            recorded = self._ledger_of(work).record(work, job, self._speech(job, children), children)
            if recorded is None:
                work.jobs = [each for each in work.jobs if each not in children]
                return False
            work.responses += recorded
            work.queue(children)
        self._executions.labels(job.command.module_name, job.status.value).inc()
        self._duration.labels(job.command.module_name).observe(result.took_ms / 1e3)
        self._log.audit(
            "command_executed",
            result=job.status.value.upper(),
            community=work.place.community_id,
            user=work.person.user_id,
            command=job.command.name,
            module_name=job.command.module_name,
            execution_id=job.execution_id,
            execution_time_ms=result.took_ms,
        )
        return True

    def settle_late(self, row: dict[str, Any], result: Result) -> bool:
        """Record a reply that a module posted for an execution, whichever router process runs that."""
        work = self._active.get(row["session_id"])
        job = next((each for each in work.jobs if each.execution_id == row["execution_id"]), None) if work else None
        if work is not None and job is not None:
            return self.settle(work, job, result)
        work = self._restore(Event.model_validate(row["event"]), row["session_id"])
        work.jobs = [self._job_from_row(work, row)]
        recorded = self.settle(work, work.jobs[0], result)
        self._start(work)
        return recorded

    def _child(self, work: Work, parent: Job, response: ModuleResponse) -> Job:
        """The job for a `command` action: the same caller, at the caller's own level, at most MAX_DEPTH deep."""
        wanted = CommandData.model_validate(response.response_data)
        catalogue = self._lookups.catalogue(work.place.community_id)
        found = catalogue.find(wanted.prefix, fold(wanted.command), work.place.entity_id)
        name = wanted.prefix + wanted.command
        path = (*parent.path, name)
        command = (
            found[0]
            if found
            else Command(
                None,
                ROUTER,
                True,
                parent.command.spec.model_copy(update={"prefix": wanted.prefix, "command": wanted.command}),
            )
        )
        job = Job(command, wanted.args, parent_id=parent.execution_id, depth=parent.depth + 1, path=path)
        if not parent.command.is_core:
            job.refuse(ExecutionStatus.DENIED, "core_only", "Only core modules may run other commands.")
        elif not found:
            job.refuse(ExecutionStatus.FAILED, "unknown_command", f"{' → '.join(path)}: there is no {name}.")
        elif job.depth > MAX_DEPTH:
            job.refuse(ExecutionStatus.FAILED, "too_deep", f"{' → '.join(path)}: more than {MAX_DEPTH} steps.")
        else:
            self._decide(work, job)
        return job

    def _speech(self, job: Job, children: list[Job]) -> list[Said]:
        """What an execution, and the refusals of the commands that it asked for, put into the outbox."""
        assert job.result is not None
        speech = [
            Said(
                each.response_action,
                {**each.response_data, "message": neutralise(each.response_data["message"])}
                if each.response_action == "chat"
                else each.response_data,
                job.command.module_name,
                job.execution_id,
            )
            for each in job.result.responses
            if each.response_action == "chat" or each.response_action in OVERLAY_SOURCES
        ]
        if not job.result.responses and job.status in (ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT):
            speech.append(chat_line(_apology(job), ROUTER, job))
        return speech + [chat_line(child.error.message, ROUTER, child) for child in children if child.error]

    def _ledger_of(self, work: Work) -> Ledger | Rehearsal:
        return self._rehearsal if work.is_simulated else self._ledger

    # Answers

    def _answer(self, work: Work) -> Answer:
        self._events.labels(work.event.message_type.value, str(work.duplicate).lower()).inc()
        if work.duplicate:
            recorded = self._ledger.find(work.event)
            assert recorded is not None, "an event that was in the way is gone"
            return duplicate_answer(recorded)
        with work.lock:
            work.answered = True
            answer = work.answer()
        if work.is_simulated:
            self._sessions.keep_trace(work.session_id, answer.model_dump(mode="json"))
        elif not work.is_finished:
            self._sessions.remember(work.session_id, work.place.entity_id)
        return answer

    # What other processes leave behind

    def renew_leases(self) -> None:
        """Say that this process is alive and at work."""
        if self._active:
            self._ledger.renew(list(self._active))

    def take_over(self) -> bool:
        """Finish the events of routers that died. True when there may be more."""
        orphans = self._ledger.take_over()
        for orphan in orphans:
            self._log.system("event_taken_over", session=orphan.session_id, unfinished=len(orphan.unfinished))
            try:
                self._resume(orphan)
            except NotFound as err:
                self._log.error("event_given_up", session=orphan.session_id, code=err.code, message=err.message)
                self._ledger.close(orphan.session_id)
        return bool(orphans)

    def _resume(self, orphan: Orphan) -> None:
        work = self._restore(orphan.event, orphan.session_id)
        if not orphan.planned:
            self._plan_and_start(work, [])
            return
        work.jobs = [self._job_from_row(work, row) for row in orphan.unfinished]
        work.queue(work.jobs)
        if not work.jobs:
            self._ledger.close(work.session_id)
        self._start(work)

    def _restore(self, event: Event, session_id: str) -> Work:
        """An event of another process. Whoever asked has its answer or is gone: the outbox says the rest."""
        person = self._lookups.person(event.platform, event.user)
        return Work(event, self._lookups.place(event), person, session_id, answered=True)

    def _job_from_row(self, work: Work, row: dict[str, Any]) -> Job:
        """An execution on record, ready to be called again with the id that it had."""
        prefix, name = row["command"][0], row["command"][1:]
        found = self._lookups.catalogue(row["community_id"]).find(prefix, name, row["entity_id"])
        command = next((each for each in found if each.module_name == row["module_name"]), None)
        if command is None:  # It was taken away meanwhile; what was begun with it is finished.
            spec = CommandSpec(command=name, prefix=prefix, location_url=row["location_url"])
            command = Command(row["command_id"], row["module_name"], True, spec)
        job = Job(
            command,
            row["parameters"],
            execution_id=row["execution_id"],
            parent_id=row["parent_id"],
            depth=row["depth"],
            path=(row["command"],),
        )
        self._make_ready(work, job)
        return job


def chat_line(message: str, module_name: str, job: Job | None = None) -> Said:
    """A chat line of the router's own, threaded to whoever caused it."""
    data = {"message": neutralise(message), "reply": True}
    return Said("chat", data, module_name, job.execution_id if job else None)


def _apology(job: Job) -> str:
    if job.status is ExecutionStatus.TIMEOUT:
        return f"{job.command.module_name} did not answer in time. Try {job.command.name} again in a moment."
    return f"Something went wrong with {job.command.name}; it was logged."


def duplicate_answer(recorded: Recorded) -> Answer:
    return Answer(
        success=True,
        session_id=recorded.session_id,
        duplicate=True,
        executions=recorded.executions,
        responses=recorded.responses,
    )
