"""Which limits a command is under, and whether there is room (contracts §7). All of a batch in one round trip."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from waddlebot.base.contracts import Level
from waddlebot.data.ratelimit import Decision, Limit, RateLimiter, Request

from ...config import RouterSettings
from ..catalogue.catalogue import ALL_COMMANDS, Catalogue, Terms
from ..engines.execution_engine import Result
from ..records.work import Job, Work
from .cooldowns import Cooldowns, Resting

EVERYBODY = "everybody here"
NOT_REACHED = ("busy", "upstream", "circuit_open", "egress_denied")
TURNED_AWAY = (429, 502, 503, 504)


class CommandLimits:
    """Limits are for commands and for plain chat that modules listen to: what else happens is never too often."""

    def __init__(self, limiter: RateLimiter, cooldowns: Cooldowns, settings: RouterSettings) -> None:
        self._limiter = limiter
        self._cooldowns = cooldowns
        self._default = settings.default_rate_limit
        self._of_listeners = settings.listen_rate_limit

    def reserve(self, asked: Sequence[tuple[Work, Job, Catalogue]]) -> list[Decision]:
        """Take room for each job in turn, of all its limits or of none."""
        for work, job, catalogue in asked:
            job.charged = Request(job.execution_id, self._limits_of(work, job, catalogue))
        return self._limiter.reserve([job.charged for _, job, _ in asked if job.charged])

    def begin_cooldowns(self, asked: Sequence[tuple[Work, Job, Terms, Level]]) -> dict[str, Resting]:
        """Begin the cooldowns of jobs that may run now; those that may not, by their execution ids."""
        return self._cooldowns.begin(asked)

    def refund(self, jobs: Iterable[Job]) -> None:
        """Give back what jobs took that did not run."""
        jobs = list(jobs)
        self._limiter.refund([job.charged for job in jobs if job.charged])
        self._cooldowns.refund(jobs)

    def refund_cooldown(self, job: Job) -> None:
        """End a cooldown whose command was refused by its module: nothing was done."""
        self._cooldowns.refund([job])

    def _limits_of(self, work: Work, job: Job, catalogue: Catalogue) -> list[Limit]:
        command, entity_id = job.command, work.place.entity_id
        if job.listen:
            return [Limit(f"listen:{command.module_name}:{entity_id}", self._of_listeners, EVERYBODY)]
        if job.trigger == "event":
            return []
        own = catalogue.settings_for(command.name, entity_id)
        of_all = catalogue.settings_for(ALL_COMMANDS, entity_id)
        name = f"{command.module_name}:{command.name}"
        of_the_command = self._default if command.spec.rate_limit is None else command.spec.rate_limit
        each_person = next((s.user_rate_limit for s in own if s.user_rate_limit is not None), of_the_command)
        together = next((s.rate_limit for s in own if s.rate_limit is not None), 0)
        everything = next((s.rate_limit for s in of_all if s.rate_limit is not None), 0)
        limits = [
            Limit(f"{work.person.head_id}:{name}:{entity_id}", each_person, "you"),
            Limit(f"{name}:{entity_id}", together, EVERYBODY),
            Limit(f"{ALL_COMMANDS}:{entity_id}", everything, EVERYBODY),
        ]
        return [limit for limit in limits if limit.per_minute]


def sentence(limit: Limit) -> str:
    times = "once" if limit.per_minute == 1 else f"{limit.per_minute} times"
    return f"{times} a minute for {limit.what}"


def refusal(job: Job, decision: Decision) -> str:
    """What a person is told who asked too often."""
    assert decision.limit is not None
    wait_s = max(1, math.ceil(decision.retry_after_s))
    what = "Commands" if decision.limit.key.startswith(ALL_COMMANDS) else job.command.name
    return f"{what} may be used {sentence(decision.limit)}. Try again in {wait_s} s."


def was_not_run(result: Result) -> bool:
    """Whether the command certainly did not run: its target was not reached or turned the call away."""
    return (result.error is not None and result.error.code in NOT_REACHED) or result.http_status in TURNED_AWAY
