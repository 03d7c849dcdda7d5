"""What becomes of an event: where it belongs, what it asks for, whether it may, who answers, and what is said.

admit ─► planner.plan ─► read ahead ─► ledger.open ─► start ─► engine.execute ─► ledger.record ─► answer
         │               └ what only reads is answered here,   └ in the target's threads         └ within
         └ commands, rules, permission, limits                                 ROUTER_ANSWER_WAIT, the rest through
           and is on record with its event                                     the outbox
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from waddlebot.base.background import TargetPools
from waddlebot.base.chat import neutralise, parse_command
from waddlebot.base.combine import FairCombiner
from waddlebot.base.contracts import (
    CONSOLE,
    OVERLAY_SOURCES,
    Answer,
    CommandData,
    ErrorInfo,
    Event,
    ExecutionStatus,
    MessageType,
    ModuleResponse,
)
from waddlebot.base.errors import NotAllowed, NotFound, WaddleBotError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog, new_log_context
from waddlebot.base.markup import chat_data
from waddlebot.base.metrics import Metrics
from waddlebot.base.secret_words import without
from waddlebot.base.text import fold
from waddlebot.community.people import Identity, Person
from waddlebot.data.outbox import NOT_PRIVATE_HERE, PRIVATE
from waddlebot.web.auth import Account

from ...config import RouterSettings
from ..catalogue.cache_manager import CacheManager, Place
from ..catalogue.catalogue import Command
from ..catalogue.module_specs import ROUTER
from ..engines.execution_engine import Engine, Result, within_permissions, without_what_others_would_read
from ..records.ledger import Ledger, Orphan, Recorded, Rehearsal
from ..records.live_notice_service import LiveNoticeService
from ..records.overlay_delivery import OverlayDelivery
from ..records.session_manager import SessionManager
from ..records.usage_service import UsageService
from ..records.work import Job, Said, Work
from ..rules.quoted import has_quotes, is_against_rules, within_rules
from ..rules.rule_book import RuleBook
from ..rules.rule_webhook import RULES_MODULE, webhook_command
from .awaited_replies import AwaitedReplies
from .parking import Parking
from .planner import BUSY, Planner, chat_line
from .rate_limiter import CommandLimits, was_not_run
from .reading_ahead import Read, ReadingAhead
from .turns import Turns, key_of, pool_of

MAX_DEPTH = 3
# So long a single event waits for those before it, to be done with others, where it could be done beside them.
PATIENCE_S = 0.03
# A module whose next job has waited so long answers nobody within the second that they wait.
HELD_UP_S = 0.25
# An event that so many routers could not finish is not what is wrong with them.
MAX_TAKE_OVERS = 5
# What takes somebody away from a community makes nobody its member.
LEAVING = (MessageType.MEMBER_LEAVE, MessageType.BAN, MessageType.KICK)
# How often a module is asked that says "not yet" and then nothing.
ASKED_AT_MOST = 2
# Modules that are this very process, and so the names of their engines.
OWN_ENGINES = (ROUTER, RULES_MODULE)


INTERRUPTED = "interrupted"
CUT_OFF = Result(
    ExecutionStatus.FAILED,
    [],
    ErrorInfo(code=INTERRUPTED, message="I was cut off, and keep no secrets. Please say that again."),
)


class CommandProcessor:
    """Processes events, from the collector's call to the answer and, for what is slow, beyond it."""

    def __init__(
        self,
        settings: RouterSettings,
        *,
        lookups: CacheManager,
        planner: Planner,
        limits: CommandLimits,
        ledger: Ledger,
        sessions: SessionManager,
        usage: UsageService,
        overlays: OverlayDelivery,
        rules: RuleBook,
        parking: Parking,
        notices: LiveNoticeService,
        engines: dict[str, Engine],
        ahead: ReadingAhead,
        pools: TargetPools,
        log: AAALog,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._lookups = lookups
        self._planner = planner
        self._limits = limits
        self._ledger = ledger
        self._rehearsal = Rehearsal()
        self._sessions = sessions
        self._usage = usage
        self._overlays = overlays
        self._rules = rules
        self._parking = parking
        self._notices = notices
        self._engines = engines
        self._ahead = ahead
        self._pools = pools
        self._log = log
        self._active: dict[str, Work] = {}
        self._turns = Turns()
        self._awaited = AwaitedReplies()
        # Single events that come at the same moment are a batch.
        self._begin_with_others = FairCombiner(self._begin_many, patience_s=PATIENCE_S)
        # How many jobs may wait at a target.
        self._room = settings.max_concurrent * settings.max_workers
        self._events = metrics.counter("events", "Events received.", ["message_type", "duplicate"])
        self._executions = metrics.counter("executions", "Executions ended.", ["module", "status"])
        self._duration = metrics.histogram("execution_seconds", "From the call to the module's answer.", ["module"])

    def process(self, events: Sequence[Event], caller: Account) -> list[Answer | WaddleBotError]:
        """Answer each event, in order, within ROUTER_ANSWER_WAIT, or say why it was not taken.

        An event of a batch that we cannot handle holds up no other: it is given up, with a trace in the log. What was
        read ahead of an event is left out then, and runs the usual way.
        """
        until = time.monotonic() + self._settings.answer_wait_s
        try:
            admitted = self._begin_with_others((events[0], caller)) if len(events) == 1 else self._begin(events, caller)
        except WaddleBotError:
            raise
        except Exception:  # noqa: BLE001 - raised again by the event that it is about
            self._log.error("batch_failed", exc_info=True, events=len(events))
            admitted = [self._begin_alone(event, caller, is_last=len(events) == 1) for event in events]
        works = [each for each in admitted if isinstance(each, Work)]
        for work in works:
            if not work.duplicate and not self._is_held_up(work):
                work.finished.wait(max(0.0, until - time.monotonic()))
        return [self._answer(each) if isinstance(each, Work) else each for each in admitted]

    def _begin_many(self, asked: Sequence[tuple[Event, Account]]) -> list[list[Work | WaddleBotError]]:
        """Begin single events that came at the same time, those of one account together."""
        by_caller: dict[int, tuple[Account, list[Event]]] = {}
        for event, caller in asked:
            by_caller.setdefault(id(caller), (caller, []))[1].append(event)
        begun = {id(caller): iter(self._begin(events, caller)) for caller, events in by_caller.values()}
        return [[next(begun[id(caller)])] for _, caller in asked]

    def _begin_alone(self, event: Event, caller: Account, *, is_last: bool) -> Work | WaddleBotError:
        try:
            (begun,) = self._begin([event], caller, ahead=False)
        except WaddleBotError:
            raise
        except Exception:
            if is_last:
                raise
            # The next event in line must outlive what is wrong with this one.
            self._log.error("event_failed", exc_info=True, event_id=event.event_id, platform=event.platform)
            return EventFailed()
        return begun

    def _begin(self, events: Sequence[Event], caller: Account, *, ahead: bool = True) -> list[Work | WaddleBotError]:
        """Put events on record and have what they ask for run. What is not taken is a reason why not."""
        admitted = self._admit(events, caller)
        works = [each for each in admitted if isinstance(each, Work)]
        chains = self._plan_in_order(works, ahead=ahead)
        self._open(works)
        for chain in chains:
            self._start_chain(chain)
        return admitted

    # From the event to its jobs

    def _admit(self, events: Sequence[Event], caller: Account) -> list[Work | WaddleBotError]:
        """Where each event belongs and who caused it, or why it is not taken."""
        places = [self._place(event, caller) for event in events]
        taken = [event for event, place in zip(events, places, strict=True) if isinstance(place, Place)]
        people = self._who(taken)
        self._join(events, places, people)
        return [
            self._work(event, place, _as_tried(event, place, people[_identity(event)]))
            if isinstance(place, Place)
            else place
            for event, place in zip(events, places, strict=True)
        ]

    def _work(self, event: Event, place: Place, person: Person, session_id: str | None = None) -> Work:
        secrets = self._lookups.catalogue(place.community_id).secrets_in(event.message, place.entity_id)
        return Work(event, place, person, session_id or new_id(), secrets)

    def _who(self, events: Sequence[Event]) -> dict[Identity, Person]:
        """Who caused these events, by the newest names that they give."""
        ordered = sorted(events, key=_happened_at)
        users = {_identity(event): event.user for event in ordered}
        return self._lookups.people.who(users, {_identity(event): _happened_at(event) for event in ordered})

    def _join(self, events: Sequence[Event], places: Sequence[object], people: Mapping[Identity, Person]) -> None:
        """Who does something in a community is its member."""
        joined = {
            (place.community_id, people[_identity(event)].own_id)
            for event, place in zip(events, places, strict=True)
            if isinstance(place, Place) and event.mode == "live" and event.message_type not in LEAVING
        }
        self._lookups.people.join(joined)

    def _place(self, event: Event, caller: Account) -> Place | WaddleBotError:
        try:
            caller.check_platform(event.platform)
            _check_mode(event, caller)
            place = self._lookups.place(event)
            caller.check_community(place.community_id)
            return place
        except (NotAllowed, NotFound) as err:
            return err.with_traceback(None)  # Which would hold our callers' frames, and they hold this.

    def _plan_in_order(self, works: list[Work], *, ahead: bool) -> list[list[Work]]:
        """Plan what can be planned now, and say what runs after what.

        One person's commands in one place wait for each other, and the second is planned only when the first is done:
        it may need what that does.
        """
        chains: dict[object, list[Work]] = {}
        commanding: set[object] = set()
        for work in works:
            key = key_of(work)
            chains.setdefault(key, []).append(work)
            if _may_be_command(work.event):
                work.deferred = key in commanding
                commanding.add(key)
        self._plan([work for work in works if not work.deferred], ahead=ahead)
        return list(chains.values())

    def _plan(self, works: Sequence[Work], *, ahead: bool) -> None:
        try:
            self._planner.plan(works)
            if ahead:
                self._read_ahead(works)
        except BaseException:
            self._limits.refund(job for work in works for job in work.jobs)
            raise
        for work in works:
            for job in work.jobs:
                if job.status is not ExecutionStatus.PENDING or job.parent_id is not None:
                    continue
                if self._pools.waiting(pool_of(work, job)) >= self._room:
                    self._planner.turn_away(work, job)
            work.queue(work.jobs)

    def _read_ahead(self, works: Sequence[Work]) -> None:
        """Run what only reads while nothing is on record yet, and what that runs in turn.

        What does not read after all, or takes too long, is left as it was: it runs later, in its module's threads.
        """
        ready = [(work, job) for work in works for job in self._all_that_read(work, work.jobs)]
        while ready:
            found = zip(ready, self._ahead.read([job for _, job in ready]), strict=True)
            ended = [(work, job, self._read(work, job, read)) for (work, job), read in found if read]
            self._planner.limit([(work, child) for work, _, children in ended for child in children])
            for work, job, children in ended:
                job.said = self._speech(work, job, children)
                work.jobs += children
            ready = [(work, child) for work, _, children in ended for child in self._all_that_read(work, children)]

    def _read(self, work: Work, job: Job, read: Read) -> list[Job]:
        """Note what came of a job that only reads. Returns the jobs that it asks for, which have not taken their room
        yet."""
        job.result, job.note = self._as_may_be_said(work, job, read.result), read.note
        job.status, job.error = job.result.status, job.result.error
        return self._children(work, job, job.result)

    def _all_that_read(self, work: Work, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that are to run, if none of them writes; else none, as they run one after the other."""
        if work.is_simulated:
            return []
        todo = [job for job in jobs if job.status is ExecutionStatus.PENDING]
        catalogue = self._lookups.catalogue(work.place.community_id)
        reads = (
            catalogue.only_reads(job.command, job.args) and self._ahead.can(job) and not self._turns.is_asked(work, job)
            for job in todo
        )
        return todo if all(reads) else []

    def _open(self, works: list[Work]) -> None:
        """Put the events on record, with what was decided; from here on they are ours to finish."""
        try:
            for ledger in (self._ledger, self._rehearsal):
                if batch := [work for work in works if work.is_simulated is (ledger is self._rehearsal)]:
                    ledger.open(batch)
        except BaseException:
            # Nothing of it is on record, and the same event will come again.
            self._limits.refund(job for work in works for job in work.jobs)
            raise
        new = [work for work in works if not work.duplicate]
        told = [self._notices.note_event(each.event, each.place.entity_id) for each in new if not each.is_simulated]
        if any(told):
            self._lookups.forget_who_is_live()
        self._count([work for work in new if not work.is_simulated and not work.deferred])
        self._note_read(new)
        self._limits.refund(job for work in works if work.duplicate for job in work.jobs)

    def _count(self, works: Sequence[Work]) -> None:
        self._usage.count(works)
        for work in works:
            for job in work.jobs:
                if job.error is not None and job.result is None:
                    self._executions.labels(job.command.module_name, job.status.value).inc()

    def _note_read(self, works: Sequence[Work]) -> None:
        """Tell of what was read ahead, now that it is on record, each with its own event in the log."""
        read = [(work, job) for work in works for job in work.jobs if job.note is not None]
        if read:
            contextvars.copy_context().run(self._note_each, read)

    def _note_each(self, read: Sequence[tuple[Work, Job]]) -> None:
        new_log_context()
        for work, job in read:
            assert job.note is not None
            job.note()
            work.enter_log_context()
            self._note_end(work, job, [each for each in work.jobs if each.parent_id == job.execution_id])

    def _is_held_up(self, work: Work) -> bool:
        """Whether a module has too much to do to answer in time, or has not yet answered the same person. To wait for
        it would only take the threads of those who ask for something else."""
        delays = (self._pools.delay_s(pool_of(work, job)) for job in work.jobs)
        return self._turns.waits_s(work) > HELD_UP_S or any(each > HELD_UP_S for each in delays)

    # Running

    def _start_chain(self, chain: list[Work]) -> None:
        """Run the works of one person in one place one after the other. Plain chat is done and waits for none."""
        todo = []
        for work in chain:
            if work.duplicate:
                continue
            if work.is_finished:
                work.finished.set()
                continue
            self._active[work.session_id] = work
            todo.append(work)
        if todo:
            todo[0].following = todo[1:]
            if self._turns.begin(todo[0]):
                self._start(todo[0])

    def _start(self, work: Work) -> None:
        if work.deferred:
            self._pools.submit("chains", self._plan_and_start, work)
        else:
            self._advance(work)

    def _plan_and_start(self, work: Work) -> None:
        with self._abandoning(work):
            self._plan([work], ahead=True)
            work.deferred = False
            try:
                is_ours = self._ledger_of(work).plan(work)
            except BaseException:
                self._limits.refund(work.jobs)
                raise
        if not is_ours:
            self._give_away(work)
            return
        if not work.is_simulated:
            self._count([work])
        self._note_read([work])
        # Only now is it known what it asks for.
        if self._turns.begin(work):
            self._advance(work)

    def _advance(self, work: Work) -> None:
        """Start what may run now; when nothing is left, the event is finished and the person's next one begins."""
        with work.lock:
            ready = work.next_jobs()
            done = not ready and work.is_finished
        for job in ready:
            # What another router has begun is finished, however much there is to do.
            if work.answered:
                self._submit(self._run, work, job)
            elif not self._pools.submit_unless_full(
                pool_of(work, job), self._run, work, job, room=self._room, brief=_is_brief(job)
            ):
                self._pools.submit("chains", self._turn_away, work, job)
        if done and not work.finished.is_set():
            self._active.pop(work.session_id, None)
            work.finished.set()
            self._start_next(self._turns.end(work))

    def _start_next(self, work: Work | None) -> None:
        if work is not None:
            self._start(work)

    def _submit(self, run: Callable[[Work, Job], None], work: Work, job: Job) -> None:
        self._pools.submit(pool_of(work, job), run, work, job, brief=_is_brief(job))

    def _turn_away(self, work: Work, job: Job) -> None:
        with self._abandoning(work):
            error = ErrorInfo(code=BUSY, message=self._planner.too_much_to_do(job))
            self.settle(work, job, Result(ExecutionStatus.FAILED, [], error))
        self._job_ended(work)

    @contextlib.contextmanager
    def _abandoning(self, work: Work) -> Iterator[None]:
        """Leave an event, and what waits for it, to whoever takes it over, if this fails: the lease runs out, and a
        module that is called again answers the same."""
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self._leave(work)

    def _leave(self, work: Work) -> None:
        for each in self._turns.leave(work):
            if self._active.get(each.session_id) is each:  # And not taken over by this very router.
                self._active.pop(each.session_id, None)

    def _give_away(self, work: Work) -> None:
        """Forget an event that another router has taken over while this one slept, and what was planned for it."""
        self._leave(work)
        self._limits.refund(work.jobs)
        with work.lock:
            work.jobs, work.refusals = [], []

    def _run(self, work: Work, job: Job) -> None:
        work.enter_log_context()
        module = job.command.module_name
        engine = self._engines[module if module in OWN_ENGINES else job.command.spec.type]
        with self._abandoning(work):
            try:
                result = CUT_OFF if work.is_cut_off else engine.execute(job)
                result = within_permissions(result, job.command.permissions)
                if result.later_s is None:
                    self.settle(work, job, result)
                elif self._awaited.put_off(work, job, result.later_s):
                    self._start_next(self._turns.hand_over(work))
                    return
            except BaseException:
                job.status = ExecutionStatus.PENDING  # Not on record, so not done.
                raise
        self._job_ended(work)

    def _job_ended(self, work: Work) -> None:
        with work.lock:
            work.job_ended()
        self._advance(work)

    def settle(self, work: Work, job: Job, result: Result) -> bool:
        """Put what came of an execution on record and into the answer. False when that happened before."""
        result = self._as_may_be_said(work, job, result)
        # Its jobs end one after the other, so that the last of them knows that it is. Whoever waits for the answer does
        # not wait for Redis and PostgreSQL: the work itself changes only when all of it is on record.
        with work.settling:
            ended = replace(job, result=result, status=result.status, error=result.error)
            children = self._children(work, job, result)
            self._planner.limit([(work, child) for child in children])
            speech = self._speech(work, ended, children)
            recorded = None
            try:
                recorded = self._ledger_of(work).record(work, ended, speech, children)
            finally:
                if recorded is None:
                    # These never were; whoever recorded the execution made its own.
                    self._limits.refund(children)
            with work.lock:
                job.result, job.status, job.error = ended.result, ended.status, ended.error
                if recorded is None:
                    return False
                work.jobs += children
                work.responses += recorded
                work.queue(children)
        if work.is_simulated:
            self._show_rehearsed(work, speech)
        self._note_end(work, job, children)
        return True

    def _as_may_be_said(self, work: Work, job: Job, result: Result) -> Result:
        result = within_permissions(result, job.command.permissions)
        result = self._within_rules(work, job, result)
        return without_what_others_would_read(result, work.event.platform)

    def _note_end(self, work: Work, job: Job, children: Sequence[Job]) -> None:
        """Tell of an execution whose end is on record, and give back what it did not use."""
        result = job.result
        assert result is not None, "an execution ends with a result"
        if was_not_run(result):
            self._limits.refund([job])
        elif _did_nothing(job, children):
            self._limits.refund_cooldown(job)
        if not work.is_simulated and not job.command.is_core:
            self._parking.ended(work.place.community_id, job.command, result)
        self._executions.labels(job.command.module_name, job.status.value).inc()
        self._duration.labels(job.command.module_name).observe(result.took_ms / 1e3)
        self._log.audit(
            "command_executed",
            result=job.status.value.upper(),
            community=work.place.community_id,
            user=work.person.own_id,
            command=job.command.name,
            module_name=job.command.module_name,
            execution_id=job.execution_id,
            execution_time_ms=result.took_ms,
            **({"code": job.error.code} if job.error else {}),
        )

    def _within_rules(self, work: Work, job: Job, result: Result) -> Result:
        """A result without what a module quotes and the rules of the channel do not let be said."""
        if not has_quotes(job.command.module_name):
            return result
        place = work.place

        def breaks(text: str) -> bool:
            return is_against_rules(self._rules, place.community_id, place.entity_id, text)

        return replace(result, responses=within_rules(result.responses, breaks))

    def _show_rehearsed(self, work: Work, speech: Sequence[Said]) -> None:
        """Let overlays show, marked as a test, what no outbox will ever hold."""
        for said in speech:
            if said.action in OVERLAY_SOURCES:
                show = functools.partial(
                    self._overlays.show,
                    item_id=new_id(),
                    session_id=work.session_id,
                    community_id=work.place.community_id,
                    action=said.action,
                    data=said.data,
                    mode="simulate",
                )
                self._pools.submit("overlays", show)

    def settle_late(self, row: dict[str, Any], result: Result) -> bool:
        """Record a reply that a module posted for an execution, whichever router process runs that."""
        work = self._active.get(row["session_id"])
        job = next((each for each in work.jobs if each.execution_id == row["execution_id"]), None) if work else None
        if work is not None and job is not None:
            recorded = self.settle(work, job, result)
            if self._awaited.pop(job.execution_id):
                self._job_ended(work)
            return recorded
        work = self._restore(Event.model_validate(row["event"]), row["session_id"])
        work.jobs = [self._job_from_row(work, row)]
        recorded = self.settle(work, work.jobs[0], result)
        if not work.is_finished:
            self._active[work.session_id] = work
        self._advance(work)
        return recorded

    def look_after_late(self) -> None:
        """Go on where another router has recorded the reply that was awaited, and ask a module again that has not
        posted it in time: it may have died meanwhile. Once; then the execution's time is over."""
        waiting = self._awaited.list()
        if not waiting:
            return
        ended = set(self._ledger.list_ended([each.job.execution_id for each in waiting]))
        for each in waiting:
            is_over = each.is_due and each.job.put_off >= ASKED_AT_MOST
            if not is_over and not each.is_due and each.job.execution_id not in ended:
                continue
            if self._awaited.pop(each.job.execution_id) is None:
                continue
            if is_over or each.job.execution_id in ended:
                self._submit(self._give_up_late, each.work, each.job)
            else:
                self._submit(self._run, each.work, each.job)

    def _give_up_late(self, work: Work, job: Job) -> None:
        """End an execution as timed out, unless its end is on record already."""
        with self._abandoning(work):
            error = ErrorInfo(code="upstream_timeout", message="The reply that was to come later did not come.")
            try:
                self.settle(work, job, Result(ExecutionStatus.TIMEOUT, [], error))
            except BaseException:
                job.status = ExecutionStatus.PENDING
                raise
        self._job_ended(work)

    def _children(self, work: Work, job: Job, result: Result) -> list[Job]:
        """What an execution asks for."""
        return [self._child(work, job, each) for each in result.responses if each.response_action == "command"]

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
        job = Job(
            command,
            wanted.args,
            rule_id=parent.rule_id,
            parent_id=parent.execution_id,
            depth=parent.depth + 1,
            path=path,
        )
        if not parent.command.is_core:
            job.refuse(ExecutionStatus.DENIED, "core_only", "Only core modules may run other commands.")
        elif not found:
            job.refuse(ExecutionStatus.FAILED, "unknown_command", f"{' → '.join(path)}: there is no {name}.")
        elif job.depth > MAX_DEPTH:
            job.refuse(ExecutionStatus.FAILED, "too_deep", f"{' → '.join(path)}: more than {MAX_DEPTH} steps.")
        else:
            self._planner.decide(work, job)
        return job

    def _speech(self, work: Work, job: Job, children: list[Job]) -> list[Said]:
        """What an execution, and the refusals of the commands that it asked for, put into the outbox."""
        assert job.result is not None
        speech = [
            _said(each, work, job)
            for each in job.result.responses
            if each.response_action == "chat" or each.response_action in OVERLAY_SOURCES
        ]
        if not job.is_typed:
            return speech  # Nobody asked, so nobody is told that it went wrong.
        if not job.result.responses and job.status in (ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT):
            speech.append(chat_line(_apology(job), work, job))
        return speech + [
            chat_line(child.error.message, work, child)
            for child in children
            if child.error and (child.permission is None or self._planner.is_told(work, child))
        ]

    def _ledger_of(self, work: Work) -> Ledger | Rehearsal:
        return self._rehearsal if work.is_simulated else self._ledger

    # Answers

    def _answer(self, work: Work) -> Answer:
        self._events.labels(work.event.message_type.value, str(work.duplicate).lower()).inc()
        if work.duplicate:
            recorded = self._ledger.find(work.event)
            assert recorded is not None, "an event that was in the way is gone"
            return duplicate_answer(recorded).model_copy(update={"secrets": list(work.secrets)})
        with work.lock:
            work.answered = True
            answer = work.answer()
        if work.is_simulated:
            place = {"platform": work.place.platform, "community_id": work.place.community_id}
            trace = {**place, **answer.model_dump(mode="json", exclude={"secrets"}), **work.trace()}
            self._sessions.keep_trace(work.session_id, trace)
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
                if orphan.attempts > MAX_TAKE_OVERS:
                    raise GivenUp()
                self._resume(orphan)
            except (NotFound, GivenUp) as err:
                self._log.error("event_given_up", session=orphan.session_id, code=err.code, message=err.message)
                self._ledger.give_up(orphan.session_id)
        return bool(orphans)

    def _resume(self, orphan: Orphan) -> None:
        work = self._restore(orphan.event, orphan.session_id)
        work.attempts = orphan.attempts
        self._active[work.session_id] = work
        if not orphan.planned:
            self._plan_and_start(work)
            return
        work.jobs = [self._job_from_row(work, row) for row in orphan.unfinished]
        work.queue(work.jobs)
        if not work.jobs:
            self._ledger.close(work.session_id)
        self._advance(work)

    def _restore(self, event: Event, session_id: str) -> Work:
        """An event of another process. Whoever asked has its answer or is gone: the outbox says the rest."""
        person = self._who([event])[_identity(event)]
        work = self._work(event, self._lookups.place(event), person, session_id)
        work.answered = True
        return work

    def _job_from_row(self, work: Work, row: dict[str, Any]) -> Job:
        """An execution on record, ready to be called again with the id that it had."""
        job = Job(
            self._command_of(work, row),
            row["parameters"],
            trigger=row["trigger_type"],
            rule_id=(row["decision"] or {}).get("rule_id"),
            listen=(row["decision"] or {}).get("listen"),
            execution_id=row["execution_id"],
            parent_id=row["parent_id"],
            depth=row["depth"],
            path=(row["command"],),
        )
        self._planner.make_ready(work, job)
        if row["request_payload"]:
            job.send_kept(row["request_payload"])
        return job

    def _command_of(self, work: Work, row: dict[str, Any]) -> Command:
        """The command of an execution on record. One that was taken away meanwhile is finished as it was begun.

        Raises: NotFound when nobody knows any more where it ran.
        """
        if row["module_name"] == RULES_MODULE:
            return webhook_command(row["decision"]["rule_id"], row["location_url"])
        prefix, name = row["command"][0], row["command"][1:]
        catalogue = self._lookups.catalogue(work.place.community_id)
        if row["trigger_type"] == "event":
            found = catalogue.triggered_by(work.event.message_type, work.place.entity_id)
        else:
            found = catalogue.find(prefix, name, work.place.entity_id)
        command = next((each for each in found if each.module_name == row["module_name"]), None)
        if command is None and row["command_id"] is not None:
            command = self._lookups.find_command(row["command_id"])
        if command is None:
            raise NotFound(f"{row['command']} of {row['module_name']} is gone.")
        return command


def _did_nothing(job: Job, children: Sequence[Job]) -> bool:
    """Whether somebody was refused: by the module, or in everything that the command would have run."""
    refused = (ExecutionStatus.DENIED, ExecutionStatus.RATE_LIMITED)
    return job.status is ExecutionStatus.FAILED or (bool(children) and all(each.status in refused for each in children))


def _is_brief(job: Job) -> bool:
    return job.command.module_name == RULES_MODULE


class EventFailed(WaddleBotError):
    """This event cannot be handled; the log says why. It is left out."""

    code, http_status = "internal_error", 500


class GivenUp(WaddleBotError):
    """Too many routers had this event and none could finish it."""

    code = "given_up"


def _happened_at(event: Event) -> datetime:
    at = event.occurred_at
    if at is None:
        return datetime.now(UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _identity(event: Event) -> Identity:
    return event.platform, event.user.platform_user_id


def _as_tried(event: Event, place: Place, person: Person) -> Person:
    """In a simulation somebody has the labels that `data.as_labels` gives them, instead of their own."""
    labels = event.data.get("as_labels")
    if event.mode != "simulate" or not isinstance(labels, list):
        return person
    return replace(person, labels={place.community_id: {str(each): None for each in labels}})


def _check_mode(event: Event, caller: Account) -> None:
    """Raises: NotAllowed. A person in the portal tries things, and never says them."""
    if caller.actor is not None and event.mode != "simulate":
        raise NotAllowed("The portal only simulates; send mode: simulate.")
    if caller.actor is None and event.mode == "simulate" and not caller.is_admin:
        raise NotAllowed("Only admins' keys and the console may simulate.")


def _may_be_command(event: Event) -> bool:
    if event.is_only_judged or event.is_no_command:
        return False
    return event.message_type is MessageType.CHAT_MESSAGE and parse_command(event.message) is not None


def _said(response: ModuleResponse, work: Work, job: Job) -> Said:
    """A response as the outbox holds it. What is private is no `chat` there, but on the console, which is private."""
    action, data = response.response_action, response.response_data
    module, execution = job.command.module_name, job.execution_id
    if action != "chat":
        return Said(action, data, module, execution)
    platform = work.event.platform
    data = chat_data(without(data, work.secrets), platform, said=_said_by_people(work, job))
    data["message"] = neutralise(data["message"])
    if not data.get("private") or platform == CONSOLE:
        return Said(action, data, module, execution)
    return Said(PRIVATE, {**data, "to": work.event.user.platform_user_id}, module, execution)


def _said_by_people(work: Work, job: Job) -> set[str]:
    user = work.event.user
    return {user.name, user.display_name, user.platform_user_id, *job.args, *work.event.message.split()}


def _apology(job: Job) -> str:
    if job.error and job.error.code == NOT_PRIVATE_HERE:
        return f"The answer to {job.command.name} is for you alone, and I cannot say it so here."
    if job.status is ExecutionStatus.TIMEOUT:
        return f"{job.command.module_name} did not answer in time. Try {job.command.name} again in a moment."
    if job.error and job.error.code in (BUSY, INTERRUPTED):
        return job.error.message
    return f"Something went wrong with {job.command.name}; it was logged."


def duplicate_answer(recorded: Recorded) -> Answer:
    return Answer(
        success=True,
        session_id=recorded.session_id,
        duplicate=True,
        executions=recorded.executions,
        responses=recorded.responses,
        moderation=recorded.moderation,
    )
