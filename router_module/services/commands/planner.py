"""What an event means and whether it may: its commands, the rules that its text hits, the modules that wait for such
events; then permission, then limits. Nothing is called and nothing is stored here.

chat: a known command, seen by `block` rules only; anything else is seen by every rule
plain chat: the modules that listen for such a line, each once
every event: the modules that it triggers, and its points
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Literal

from waddlebot.base import variables
from waddlebot.base.chat import CommandLine, UnbalancedQuotes, closest, neutralise, parse_command
from waddlebot.base.contracts import CONSOLE, ExecutionStatus, MessageType, Moderation
from waddlebot.base.logs import AAALog
from waddlebot.base.markup import as_written
from waddlebot.base.strangers import Sampled
from waddlebot.base.text import fold
from waddlebot.community.live import Spot

from ...config import RouterSettings
from ..catalogue.cache_manager import CacheManager
from ..catalogue.catalogue import Catalogue, Command
from ..catalogue.module_specs import ROUTER
from ..people.points import points_for
from ..people.rbac_service import Decision, RBACService
from ..records.session_manager import SessionManager
from ..records.work import Job, Said, Work
from ..rules.escalation import Escalation
from ..rules.filters import LINKS, SAID, Line
from ..rules.listeners import Listening
from ..rules.rule_book import RuleBook, StringRule
from ..rules.rule_service import command_of
from ..rules.rule_webhook import webhook_body, webhook_command
from .callbacks import Callbacks
from .rate_limiter import CommandLimits, refusal

# Where the bot may delete a message of somebody else's.
DELETES_MESSAGES = ("twitch", "discord")
# Where it may time somebody out, or ban them.
PUTS_AWAY = ("twitch", "discord")
BY_STEP: dict[str, Literal["warn", "block", "timeout", "ban"]] = {
    "warn": "warn",
    "delete": "block",
    "block": "block",
    "timeout": "timeout",
    "ban": "ban",
}
BUSY = "busy"
COOLDOWN = "cooldown"
TOLD_FOR_S = 60
DEFAULT_MESSAGES = {"warn": "Please mind the rules of this channel.", "block": "That is not allowed in this channel."}


class Planner:
    def __init__(
        self,
        settings: RouterSettings,
        *,
        lookups: CacheManager,
        rules: RuleBook,
        rbac: RBACService,
        limits: CommandLimits,
        sessions: SessionManager,
        callbacks: Callbacks,
        escalation: Escalation,
        log: AAALog,
    ) -> None:
        self._settings = settings
        self._callbacks = callbacks
        self._escalation = escalation
        self._lookups = lookups
        self._rules = rules
        self._rbac = rbac
        self._grants = Sampled()
        self._limits = limits
        self._sessions = sessions
        self._log = log

    def plan(self, works: Sequence[Work]) -> None:
        """Give each event its jobs, each either ready to run or refused, but not yet queued."""
        for work in works:
            self._read(work)
        self.limit([(work, job) for work in works for job in work.jobs])
        for work in works if self._log.tells_debug else ():
            self._log.debug(
                "event_planned",
                session=work.session_id,
                community=work.place.community_id,
                user=work.person.own_id,
                message_type=work.event.message_type.value,
                rules=work.hits,
                jobs=[f"{job.command.name}: {job.error.code if job.error else 'may run'}" for job in work.jobs],
                points=work.points.score,
            )

    # Reading

    def _read(self, work: Work) -> None:
        started = time.perf_counter()
        catalogue = self._lookups.catalogue(work.place.community_id)
        message_type = work.event.message_type
        if self._is_only_judged(work):
            self._judge(work, catalogue)
            return
        heard: list[Listening] = []
        if message_type is MessageType.CHAT_MESSAGE:
            heard = self._read_chat(work, catalogue)
        elif work.event.message:
            work.is_unsaid = self._breaks_rules(work)
        if work.is_blocked:
            return
        own = self._lookups.core_settings(work.place)["points"]
        worth = self._settings.points | own if own else self._settings.points
        work.points = points_for(worth, message_type, work.place.platform, work.event.data)
        commanded = {job.command.id for job in work.jobs}
        for command in catalogue.triggered_by(message_type, work.place.entity_id):
            if command.id not in commanded:
                work.jobs.append(self.decide(work, Job(command, [], trigger="event", path=(command.name,))))
        for listening in heard:
            self._tell_listener(work, listening, catalogue)
        if work.jobs or work.hits:
            work.took_ms["plan"] = round((time.perf_counter() - started) * 1e3, 2)

    def _read_chat(self, work: Work, catalogue: Catalogue) -> list[Listening]:
        """Read a message. Returns what of it is listened for: of plain chat only, which no command begins."""
        text = work.event.message
        line = None if work.event.is_no_command else parse_command(text)
        commands = catalogue.find(line.prefix, line.command, work.place.entity_id) if line else []
        data = work.event.data
        found = self._rules.hits(work.place, Line.of(text, data), mentions_bot=data.get("mentions_bot") is True)
        hits = [rule for rule in found.rules if rule.action == "block"] if commands else found.rules
        hits = [rule for rule in hits if not self._is_exempt(work, rule)] if hits else hits
        if hits:
            self._apply(hits, work, catalogue)
        if line and commands:
            work.jobs += [self._typed(work, command, line) for command in commands]
        elif line and not hits:
            self._suggest(work, line, catalogue)
        return [] if line else found.listening

    def _is_only_judged(self, work: Work) -> bool:
        """Whether nothing but warn and block rules may come of an event (C2 §2)."""
        if work.event.is_only_judged:
            return True
        # A channel that is not served shares its chat with this one.
        return bool(work.event.data.get("shared_from")) and not self._lookups.core_settings(work.place)["shared_chat"]

    def _judge(self, work: Work, catalogue: Catalogue) -> None:
        found = self._rules.hits(work.place, Line.of(work.event.message, work.event.data)).rules
        hits = [rule for rule in found if rule.action in ("warn", "block") and not self._is_exempt(work, rule)]
        if hits:
            self._apply(hits, work, catalogue)

    def _breaks_rules(self, work: Work) -> bool:
        """Whether what somebody wrote with what they did, such as a tip, is nothing to show or to answer. There is no
        line of chat to moderate for it."""
        found = self._rules.hits(work.place, Line.of(work.event.message, work.event.data)).rules
        against = [each.id for each in found if each.action in ("warn", "block") and not self._is_exempt(work, each)]
        work.hits = against
        return bool(against)

    def _tell_listener(self, work: Work, listening: Listening, catalogue: Catalogue) -> None:
        """Call a module for what it listens for, if it is on here, once for one line."""
        command = catalogue.listener(listening.command_id, listening.place, work.place.entity_id)
        if command is None or any(job.command.module_name == command.module_name for job in work.jobs if job.listen):
            return
        job = Job(command, [], trigger="event", listen=listening.told(), path=(command.name,))
        work.jobs.append(self.decide(work, job))

    def _typed(self, work: Work, command: Command, line: CommandLine) -> Job:
        job = Job(command, [], path=(command.name,))
        if work.is_blocked:
            job.refuse(ExecutionStatus.DENIED, "blocked", "A rule of this community blocked the message.")
            return job
        try:
            job.args = line.words()
        except UnbalancedQuotes as err:
            message = UnbalancedQuotes().message if work.secrets else err.message  # Which shows where.
            job.refuse(ExecutionStatus.FAILED, err.code, message)
            work.refusals.append(chat_line(message, work, job))
            return job
        return self.decide(work, job)

    def _suggest(self, work: Work, line: CommandLine, catalogue: Catalogue) -> None:
        """Unknown commands are silent where other bots live, and explained on the console (contracts §9)."""
        if work.event.platform != CONSOLE:
            return
        typed = line.prefix + line.command
        guess = closest(typed, catalogue.names(work.place.entity_id))
        hint = f" Did you mean {guess}?" if guess else " Try !help."
        work.refusals.append(chat_line(f"There is no {typed} here.{hint}", work))

    # Rules

    def _apply(self, hits: Sequence[StringRule], work: Work, catalogue: Catalogue) -> None:
        """The first warn or block decides about the message; command and webhook rules run in any case."""
        work.hits = [rule.id for rule in hits]
        first = next((rule for rule in hits if rule.action in ("warn", "block")), None)
        if first is not None:
            self._moderate(work, first)
        for rule in hits:
            if rule.action == "command":
                self._run_command(work, rule, catalogue)
            elif rule.action == "webhook":
                work.jobs.append(self._webhook(work, rule))

    def _is_exempt(self, work: Work, rule: StringRule) -> bool:
        """Commands and webhooks exempt nobody."""
        if rule.action not in ("warn", "block"):
            return False
        if rule.exempt_labels and rule.exempts(fold(each) for each in work.person.labels_in(work.place.community_id)):
            return True
        if rule.pattern.match_type == LINKS and self._is_permitted(work):
            return True
        if rule.exempt_level is None:
            return False
        return self._rbac.level_of(work.event, work.person, work.place) >= rule.exempt_level

    def _is_permitted(self, work: Work) -> bool:
        return self._sessions.is_permitted(work.place.community_id, work.person.head_id)

    def _moderate(self, work: Work, rule: StringRule) -> None:
        reached = self._escalation.reach(work, rule.id, rule.escalation) if rule.escalation else None
        action = BY_STEP[reached.action if reached else rule.action]
        message = rule.message or SAID.get(rule.pattern.match_type) or DEFAULT_MESSAGES[rule.action]
        message = self._filled_in(message, work, rule)
        platform = work.event.platform
        if reached:
            message += f" {reached.in_words}"
        work.moderation = Moderation(
            action=action,
            rule_id=rule.id,
            message=message,
            duration_s=reached.duration_s if reached else None,
            times=reached.times if reached else None,
        )
        if action in ("timeout", "ban") and platform not in PUTS_AWAY:
            message += f" (I cannot do that on {platform}.)"
        elif action == "block" and platform not in DELETES_MESSAGES:
            message += f" (I cannot remove messages on {platform}.)"
        if self.is_told(work, rule):
            work.refusals.append(chat_line(message, work, markup=True))

    def _run_command(self, work: Work, rule: StringRule, catalogue: Catalogue) -> None:
        """What a rule runs is not seen by rules again, and what that runs in turn is bounded by its depth."""
        named = command_of(rule.command.strip())
        args = [self._filled_in(word, work, rule, for_chat=False) for word in rule.parameters]
        for command in catalogue.find(*named, work.place.entity_id) if named else ():
            job = Job(command, args, rule_id=rule.id, depth=1, path=(f"rule {rule.id}", command.name))
            work.jobs.append(self.decide(work, job))

    def _filled_in(self, text: str, work: Work, rule: StringRule, *, for_chat: bool = True) -> str:
        """A text of a rule with its variables; for chat without the markup that people put into names."""
        read = variables.read(text)
        if not read.names:
            return text
        place, person = work.place, work.person
        spot = Spot(place.community_id, place.entity_id, person.head_id, person.ids)
        values = {"user": work.event.user.shown_name, "message": work.event.message}
        values |= self._lookups.values(read.looked_up, spot)
        if "count" in read.names:
            event = f"{work.event.platform}:{work.event.event_id}"
            values["count"] = str(self._rules.count_hit(rule.id, event, is_simulated=work.is_simulated))
        return read.fill(variables.plain(values, place.platform) if for_chat else values)

    def _webhook(self, work: Work, rule: StringRule) -> Job:
        job = Job(webhook_command(rule.id, rule.webhook_url), [], rule_id=rule.id, path=(f"rule {rule.id}",))
        self.make_ready(work, job, webhook_body(work, rule, job))
        return job

    # Permission and limits

    def decide(self, work: Work, job: Job) -> Job:
        """Refuse the job or make it ready to run, but for its limits."""
        who: dict[str, Any] = {"event": work.event, "person": work.person, "place": work.place}
        catalogue = self._lookups.catalogue(work.place.community_id)
        if job.trigger == "event":
            decision = self._rbac.decide_event(job.command, catalogue=catalogue, is_line=bool(job.listen), **who)
        else:
            decision = self._rbac.decide(job.command, job.args, catalogue=catalogue, **who)
        if decision.allowed and job.trigger == "command" and self._waits_for_the_stream(work, job, catalogue):
            decision = Decision(False, "not_live", f"{job.command.name} is for when the stream is on.")
        job.permission = decision
        if decision.allowed:
            self.make_ready(work, job)
            return job
        job.refuse(ExecutionStatus.DENIED, decision.code, decision.reason)
        self._refused(work, job, decision.reason)
        return job

    def _waits_for_the_stream(self, work: Work, job: Job, catalogue: Catalogue) -> bool:
        terms = catalogue.terms_of(job.command, work.place.entity_id)
        return terms is not None and terms.only_live and not self._lookups.is_live(work.place.entity_id)

    def limit(self, jobs: Sequence[tuple[Work, Job]]) -> None:
        """Take room for the jobs that may run, all in one go, and refuse those for which there is none."""
        asked = [
            (work, job, self._lookups.catalogue(work.place.community_id))
            for work, job in jobs
            if job.status is ExecutionStatus.PENDING
            and (job.trigger == "command" or job.listen)
            and not work.is_simulated
        ]
        if not asked:
            return
        started = time.perf_counter()
        decisions = self._limits.reserve(asked)
        took_ms = round((time.perf_counter() - started) * 1e3, 2)
        for (work, job, _), decision in zip(asked, decisions, strict=True):
            work.took_ms["limits"] = took_ms
            if not decision.allowed:
                job.refuse(ExecutionStatus.RATE_LIMITED, "rate_limited", refusal(job, decision))
                self._refused(work, job, refusal(job, decision))
        self._begin_cooldowns([(work, job, catalogue) for work, job, catalogue in asked if job.error is None])

    def _begin_cooldowns(self, asked: Sequence[tuple[Work, Job, Catalogue]]) -> None:
        """Refuse what rests; of what may run now, begin the cooldown."""
        wanted = [
            (work, job, terms, self._rbac.level_of(work.event, work.person, work.place))
            for work, job, catalogue in asked
            if not job.listen and (terms := catalogue.terms_of(job.command, work.place.entity_id)) and terms.rests
        ]
        if not wanted:
            return
        resting = self._limits.begin_cooldowns(wanted)
        for work, job, _, _ in wanted:
            if rest := resting.get(job.execution_id):
                self._limits.refund([job])
                job.refuse(ExecutionStatus.RATE_LIMITED, COOLDOWN, rest.refusal(job))
                self._refused(work, job, rest.refusal(job), told_for_s=max(1, math.ceil(rest.left_s)))

    @staticmethod
    def too_much_to_do(job: Job) -> str:
        return f"{job.command.name} has too much to do. Try again in a moment."

    def turn_away(self, work: Work, job: Job) -> None:
        """Refuse a job because its module has too much to do already."""
        job.refuse(ExecutionStatus.FAILED, BUSY, self.too_much_to_do(job))
        self._limits.refund([job])
        self._refused(work, job, job.error.message if job.error else "")

    def make_ready(self, work: Work, job: Job, payload: str | None = None) -> None:
        """Put together what the module is sent."""
        level = self._rbac.level_of(work.event, work.person, work.place, scope=job.command.spec.scope)
        timeout_s = min(job.command.spec.timeout, self._settings.execution_timeout_s)
        settings = self._lookups.catalogue(work.place.community_id).config_of(
            job.command.module_name, work.place.entity_id
        )
        call = work.call_for(job, level, timeout_s=timeout_s, raw=work.said, settings=settings)
        if not job.command.is_core:
            call = call.model_copy(update={"callback": self._callbacks.make(call, job.command)})
        job.set_call(call, payload)
        self._granted(work, job)

    def _granted(self, work: Work, job: Job) -> None:
        if count := self._grants.count(work.place.community_id, job.command.name):
            self._log.authz(
                "command_allowed",
                community=work.place.community_id,
                user=work.person.own_id,
                command=job.command.name,
                count=count,
            )

    def _refused(self, work: Work, job: Job, reason: str, *, told_for_s: int = TOLD_FOR_S) -> None:
        self._log.authz(
            "command_refused",
            result=job.status.value.upper(),
            community=work.place.community_id,
            user=work.person.own_id,
            command=job.command.name,
            reason=job.error.code if job.error else "",
        )
        # What another command asked for is refused in that one's name.
        if job.is_typed and job.parent_id is None and self.is_told(work, job, for_s=told_for_s):
            work.refusals.append(chat_line(reason, work, job))

    def is_told(self, work: Work, what: Job | StringRule, *, for_s: int = TOLD_FOR_S) -> bool:
        """Once a person, command or rule, and minute or cooldown (contracts §9); always where somebody is trying things
        out."""
        if work.is_simulated or work.event.platform == CONSOLE:
            return True
        key = f"rule:{what.id}" if isinstance(what, StringRule) else f"{what.status.value}:{what.command.name}"
        return self._sessions.first_refusal(f"{work.place.entity_id}:{work.person.head_id}:{key}", for_s=for_s)


def chat_line(message: str, work: Work, job: Job | None = None, *, markup: bool = False) -> Said:
    """A chat line of the router's own, threaded to whoever caused it; with markup where a community wrote it."""
    shown = message if markup else as_written(message, work.event.platform)
    data = {"message": neutralise(shown), "reply": True}
    return Said("chat", data, ROUTER, job.execution_id if job else None)
