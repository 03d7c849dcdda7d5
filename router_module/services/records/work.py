"""An event at work in this process, and the executions that it needs."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from waddlebot.base.contracts import (
    Answer,
    CallCommunity,
    CallEntity,
    CallUser,
    ErrorInfo,
    Event,
    ExecutionInfo,
    ExecutionStatus,
    Level,
    MessageType,
    Moderation,
    ModuleCall,
    ResponseInfo,
    Trigger,
)
from waddlebot.base.ids import as_traceparent, new_id, traceparent_of
from waddlebot.base.logs import log_context
from waddlebot.base.module_settings import HIDDEN
from waddlebot.base.secret_words import without
from waddlebot.base.wire import to_json
from waddlebot.community.people import Person
from waddlebot.data.ratelimit import Request

from ..catalogue.cache_manager import Place
from ..catalogue.catalogue import Command, Terms
from ..engines.execution_engine import Result
from ..people.points import NOTHING, Points
from ..people.rbac_service import Decision


@dataclass(frozen=True, slots=True)
class Said:
    """Something to say or show."""

    action: str
    data: dict[str, Any]
    module_name: str
    execution_id: str | None = None


@dataclass(slots=True)
class Job:
    """One execution: its id is fixed before the first call, so that whoever finishes it uses the same."""

    command: Command
    args: list[str]
    trigger: Literal["command", "event"] = "command"
    # The string rule that asked for it; nobody typed it then, so nobody is told when it is refused.
    rule_id: int | None = None
    # What the module listens for and has heard, where that is why it is called.
    listen: dict[str, str] | None = None
    execution_id: str = field(default_factory=new_id)
    permission: Decision | None = None
    # What it took of its limits, to be given back if it does not run.
    charged: Request | None = None
    # The cooldown that it began, likewise.
    rests: Terms | None = None
    _call: ModuleCall | None = None
    _payload: str | None = None
    status: ExecutionStatus = ExecutionStatus.PENDING
    error: ErrorInfo | None = None
    result: Result | None = None
    # Of one that was read ahead: what it says, and what to do when that is on record.
    said: Sequence[Said] = ()
    note: Callable[[], None] | None = None
    parent_id: str | None = None
    depth: int = 0
    path: tuple[str, ...] = ()
    # How often its module has said "not yet".
    put_off: int = 0

    @property
    def call(self) -> ModuleCall:
        assert self._call is not None, "a job that was refused has no call"
        return self._call

    @property
    def is_typed(self) -> bool:
        """Whether the person asked for it, and so is told why they do not get it."""
        return self.trigger == "command" and self.rule_id is None

    def set_call(self, call: ModuleCall, payload: str | None = None) -> None:
        """Give it what the module is sent; `payload` where that is not the call itself."""
        self._call = call
        self._payload = payload

    @property
    def payload(self) -> str:
        """What the module is sent, as JSON; empty for one that was refused."""
        if self._payload is None and self._call is not None:
            self._payload = self._call.model_dump_json()
        return self._payload or ""

    def kept_payload(self, secrets: Sequence[str]) -> str:
        """What the module is sent, as it may be kept: without its token and what is for the module alone."""
        sent: dict[str, Any] = without(json.loads(self.payload), secrets)
        if sent.get("callback"):
            sent["callback"]["token"] = HIDDEN
        return to_json(sent)

    def send_kept(self, kept: dict[str, Any]) -> None:
        """Send what was sent before, with a token of its own."""
        if kept.get("callback") and self.call.callback:
            kept = {**kept, "callback": self.call.callback.model_dump()}
        self._payload = json.dumps(kept)

    def decided(self) -> dict[str, Any]:
        """Why it may run or may not, for the record."""
        return {
            "permission": {"code": self.permission.code, "reason": self.permission.reason} if self.permission else None,
            "limits": [{"per_minute": each.per_minute, "for": each.what} for each in self.charged.limits]
            if self.charged
            else [],
            **(
                {"cooldown": {"all_s": self.rests.cooldown_s, "person_s": self.rests.cooldown_person_s}}
                if self.rests
                else {}
            ),
            "rule_id": self.rule_id,
            **({"listen": self.listen} if self.listen else {}),
        }

    def refuse(self, status: ExecutionStatus, code: str, message: str) -> None:
        self.status = status
        self.error = ErrorInfo(code=code, message=message)

    def info(self) -> ExecutionInfo:
        return ExecutionInfo(
            execution_id=self.execution_id,
            module_name=self.command.module_name,
            command=self.command.name,
            status=self.status,
            error=self.error,
        )


@dataclass(slots=True)
class Work:
    """One event. Sequential jobs run one after the other, then the parallel ones all at once."""

    event: Event
    place: Place
    person: Person
    session_id: str = field(default_factory=new_id)
    # What of its message is for a module alone.
    secrets: tuple[str, ...] = ()
    jobs: list[Job] = field(default_factory=list)
    # The rules that its text hit, and what they want done about it.
    hits: list[int] = field(default_factory=list)
    moderation: Moderation | None = None
    points: Points = NOTHING
    # Whether what was written with it is against the rules, so that no module is told.
    is_unsaid: bool = False
    # How long each step before the first call took.
    took_ms: dict[str, float] = field(default_factory=dict)
    refusals: list[Said] = field(default_factory=list)
    responses: list[ResponseInfo] = field(default_factory=list)
    # How many routers have had it, this one included.
    attempts: int = 1
    deferred: bool = False
    duplicate: bool = False
    answered: bool = False
    finished: threading.Event = field(default_factory=threading.Event)
    # What the same person did in the same place after it, and what therefore waits for it.
    following: list[Work] = field(default_factory=list)
    begun_at: float = field(default_factory=time.monotonic)
    # For what is known of it here. Nothing is asked of anybody while it is held.
    lock: threading.Lock = field(default_factory=threading.Lock)
    # For putting on record what came of its jobs. Taken before the other one.
    settling: threading.Lock = field(default_factory=threading.Lock)
    _sequential: deque[Job] = field(default_factory=deque)
    _parallel: list[Job] = field(default_factory=list)
    _running: int = 0

    @property
    def said(self) -> str:
        """What modules are told that somebody wrote."""
        return "" if self.is_unsaid else self.event.message

    @property
    def is_simulated(self) -> bool:
        return self.event.mode == "simulate"

    @property
    def is_new_line(self) -> bool:
        """Whether it is a line of chat that people read now."""
        event = self.event
        return event.message_type is MessageType.CHAT_MESSAGE and not event.is_only_judged and not self.is_blocked

    @property
    def is_blocked(self) -> bool:
        return self.moderation is not None and self.moderation.action != "warn"

    @property
    def verdict(self) -> dict[str, Any] | None:
        """What was decided before anything ran, for the record; None where there was nothing to decide."""
        if not self.jobs and not self.hits:
            return None
        moderation = self.moderation.model_dump() if self.moderation else None
        return {"rules": self.hits, "moderation": moderation, "took_ms": self.took_ms}

    def trace(self) -> dict[str, Any]:
        """What no table has of a simulated event, as the explainer tells of a real one."""
        executions = [
            {
                **job.info().model_dump(mode="json"),
                "trigger_type": job.trigger,
                "decision": job.decided(),
                "execution_time_ms": job.result.took_ms if job.result else None,
                "module_ms": job.result.module_ms if job.result else None,
                "shows": [each.model_dump(mode="json") for each in job.result.responses] if job.result else [],
            }
            for job in self.jobs
        ]
        told = {"message": self.event.message, "verdict": self.verdict, "executions": executions}
        return dict(without(told, self.secrets))

    @property
    def unfinished(self) -> int:
        return sum(job.status is ExecutionStatus.PENDING for job in self.jobs)

    def ends_with(self, ended: Job, children: Sequence[Job]) -> bool:
        """Whether nothing is left to do when this job has ended, which is not noted yet, nor what it asked for."""
        others = [each for each in self.jobs if each.execution_id != ended.execution_id]
        return not any(each.status is ExecutionStatus.PENDING for each in [*others, *children])

    @property
    def is_finished(self) -> bool:
        return not self.deferred and self.unfinished == 0

    def queue(self, jobs: list[Job]) -> None:
        """Line up jobs that wait to run; the caller holds the lock or is the only one to know this work."""
        for job in jobs:
            if job.status is ExecutionStatus.PENDING:
                if job.command.spec.execution_mode == "parallel":
                    self._parallel.append(job)
                else:
                    self._sequential.append(job)

    def next_jobs(self) -> list[Job]:
        """What may start now, after something ended or at the beginning. Call under the lock."""
        if self._running:
            return []
        if self._sequential:
            ready = [self._sequential.popleft()]
        else:
            ready, self._parallel = self._parallel, []
        self._running = len(ready)
        return ready

    def job_ended(self) -> None:
        self._running -= 1

    def call_for(
        self, job: Job, level: Level, *, timeout_s: float, raw: str, settings: Mapping[str, Any]
    ) -> ModuleCall:
        """What the module of a job is sent."""
        event, place, person = self.event, self.place, self.person
        return ModuleCall(
            session_id=self.session_id,
            execution_id=job.execution_id,
            community=CallCommunity(id=place.community_id, name=place.community_name),
            entity=CallEntity(
                entity_id=place.entity_id,
                platform=place.platform,
                server_id=place.server_id,
                channel_id=place.channel_id,
            ),
            user=CallUser(
                id=person.head_id,
                own_id=person.own_id,
                ids=list(person.ids),
                platform_user_id=event.user.platform_user_id,
                name=event.user.name,
                display_name=event.user.display_name,
                level=level.label,
                roles=[person.role_in(place.community_id).label],
                labels=person.labels_in(place.community_id),
            ),
            trigger=Trigger(
                type=job.trigger,
                command=job.command.spec.command,
                prefix=job.command.spec.prefix,
                args=job.args,
                raw=raw,
                message_type=event.message_type,
                data={**event.data, "listen": job.listen} if job.listen else event.data,
            ),
            mode=event.mode,
            settings=dict(settings),
            deadline=datetime.now(UTC) + timedelta(seconds=timeout_s),
            timeout_ms=int(timeout_s * 1000),
            traceparent=self.traceparent,
        )

    def answer(self) -> Answer:
        """The answer as far as it is known now."""
        return Answer(
            success=True,
            session_id=self.session_id,
            executions=[job.info() for job in self.jobs],
            responses=self.responses,
            moderation=self.moderation,
            secrets=list(self.secrets),
        )

    @property
    def is_cut_off(self) -> bool:
        """Whether it comes from a record, which does not have what was for a module alone."""
        return HIDDEN in self.secrets

    @property
    def traceparent(self) -> str:
        return as_traceparent(self.event.traceparent) or traceparent_of(self.session_id)

    def enter_log_context(self) -> None:
        context = log_context()
        context.session_id = self.session_id
        context.traceparent = self.traceparent
        context.community = self.place.community_id
        context.user = self.person.own_id
