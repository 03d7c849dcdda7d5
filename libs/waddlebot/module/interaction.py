"""What an interaction module is: functions for chat commands, behind POST <prefix>/execute.

A handler gets the call and the words after the command. What it returns is said in chat, or shown on an overlay.
Its writes, and the reply itself, are one transaction keyed by the execution: a repeated call gets the same reply and
writes nothing (contracts §3).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..base.chat import closest, quote_word, without_brackets
from ..base.combine import FairCombiner
from ..base.contracts import (
    CommandSpec,
    Level,
    ModuleCall,
    ModuleRegistration,
    ModuleReply,
    ModuleResponse,
    SubcommandSpec,
)
from ..base.errors import ConfigError, Invalid, ProviderError, UsageError, UserError, WaddleBotError
from ..base.logs import log_context, new_log_context
from ..base.module_settings import defaults_of
from ..base.text import fold
from ..data.audit import Acting, acting_as
from ..data.database import Prepared, fetch
from ..web.auth import ROUTER_ONLY
from ..web.endpoint import JSON_HEADERS, JSON_TYPE, Raw, endpoint
from .call import Asked, Call, MustWrite, Said, run_command, say
from .outside import Crowded, Described, Effects, EffectUnclear, OutsideCall, OutsideRuns
from .service import Service

Handler = Callable[..., Said]

REPLIES_KEPT = "24 hours"
# Those with something for one person alone, which may be a ticket.
PRIVATE_KEPT = "1 hour"
# What is said to the person who asked; anything else that a handler raises is a bug.
TOLD = (UserError, ProviderError, Invalid)
# An alias, where a module answers to any command.
ANY = "*"
# What is longer is no part of a batch, so that its trouble is nobody else's.
MAX_READ_BYTES = 32 * 1024
# So long a batch of calls that only read goes on before the rest of it is left out.
READ_FOR_S = 0.2

# The modules of this process, by where the router calls them.
MODULES: dict[str, InteractionModule] = {}


@dataclass(frozen=True, slots=True)
class Reading:
    """The reply to a call that only reads, as JSON. `note` counts and logs it, once it is on record."""

    reply: bytes
    note: Callable[[], None]


class InteractionModule:
    """Collects a module's handlers and runs them. Fails at the start if they and the manifest do not agree."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._specs: dict[str, CommandSpec] = {spec.command: spec for spec in service.manifest.commands}
        self._defaults = defaults_of(service.manifest.settings)
        self._commands: dict[tuple[str, str | None], Handler] = {}
        self._readers: set[tuple[str, str | None]] = set()
        self._callers: set[tuple[str, str | None]] = set()
        self._off: dict[tuple[str, str], str] = {}
        self._effects = Effects(service.database, service.name)
        # Replies that come with no writes and at the same moment go into one statement and one commit.
        self._keep_with_others: FairCombiner[Kept, bool] = FairCombiner(self._keep)
        self._calls = service.metrics.counter("calls", "Calls executed.", ["command", "result"])

    def command(
        self,
        command: str,
        subcommand: str | None = None,
        *,
        run: Handler,
        only_reads: bool = False,
        calls_out: bool = False,
    ) -> None:
        """Run `run(call, *words)` for a command. Words that do not fit its parameters are answered with the usage.

        One that `only_reads` gets a database that takes no writes, and needs no transaction; `call.must_write()` has it
        run again in one. One that `calls_out` gets an OutsideCall and runs in a pool of its own.
        """
        spec = self._specs.get(command)
        if spec is None or (subcommand and subcommand not in {each.name for each in spec.subcommands}):
            raise ConfigError(f"{self.service.name}: manifest.toml does not list {command} {subcommand or ''}.")
        self._commands[command, subcommand] = run
        if only_reads:
            self._readers.add((command, subcommand))
        if calls_out:
            self._callers.add((command, subcommand))

    def switch_off(self, command: str, *subcommands: str, why: str) -> None:
        """Leave a command, or only these parts of it, out of what is registered, so that no help lists it. Whoever
        types such a part is told why it is not there."""
        spec = self._specs.pop(command)
        if not subcommands:
            return
        left = [each for each in spec.subcommands if each.name not in subcommands]
        self._specs[command] = spec.model_copy(update={"subcommands": left})
        self._off.update({(command, fold(name)): why for name in subcommands})

    def serve(self, *, platform: str | None = None) -> None:
        """Mount POST <prefix>/execute and register with the router; a collector says which platform is its."""
        for spec in self._specs.values():
            wanted: list[str | None] = [sub.name for sub in spec.subcommands] or [None]
            missing = [sub for sub in wanted if (spec.command, sub) not in self._commands]
            if missing:
                raise ConfigError(f"{self.service.name}: no handler for {spec.command} {missing}.")
        manifest = self.service.manifest
        execute_url = f"{self.service.url}{manifest.prefix}/execute"

        @endpoint("POST", f"{manifest.prefix}/execute", caller=ROUTER_ONLY, body=ModuleCall)
        def execute(call: ModuleCall) -> ModuleReply:
            """Run a command for the router, once however often it is called."""
            return self.execute(call)

        @endpoint("POST", f"{manifest.prefix}/execute/batch", caller=ROUTER_ONLY, body=list[ModuleCall])
        def read_batch(calls: list[ModuleCall]) -> Raw:
            """Answer each call that only reads, in order, and null for what the router has to execute by itself."""
            return self._read_batch(calls)

        self.service.mount(execute, read_batch)
        MODULES[execute_url] = self
        self.service.loops.add("forget-replies", self._forget_replies, every_s=600, once=True)
        self.service.register_with_router(
            ModuleRegistration(
                module_name=self.service.name,
                module_version=self.service.version,
                platform=platform,
                endpoint_url=execute_url,
                health_check_url=f"{self.service.url}{manifest.prefix}/health",
                commands=[each.model_copy(update={"location_url": execute_url}) for each in self._specs.values()],
                reads=sorted(" ".join(filter(None, key)) for key in self._readers),
            )
        )

    def execute(self, payload: ModuleCall) -> ModuleReply:
        """Run a call, or give the reply that it had before."""
        _enter_log_context(payload)
        # Whoever typed it changes what it changes, by way of the router.
        with acting_as(Acting("router", own_id=payload.user.own_id)):
            return self._begin(payload, time.perf_counter())

    def read(self, payloads: Sequence[ModuleCall], *, until: float) -> Iterator[Reading | None]:
        """Answer calls that only read, one after the other until a moment of time.monotonic(), and keep nothing of it.

        None for one that writes or fails: it is to be executed, as are those that were not come to.
        """
        with self.service.database.reading() as db:
            for payload in payloads:
                if time.monotonic() >= until:
                    return
                does = payload.mode == "live" and self._only_reads(payload)
                yield self._read(payload, Call(payload, self._defaults, db=db, only_reads=True)) if does else None

    def _read_batch(self, calls: Sequence[ModuleCall]) -> Raw:
        readings = list(self.read(calls, until=time.monotonic() + READ_FOR_S))
        for each in readings:
            if each:
                each.note()
        replies = [each.reply if each else b"null" for each in readings] + [b"null"] * (len(calls) - len(readings))
        return Raw(b"[" + b",".join(replies) + b"]", JSON_TYPE, headers=JSON_HEADERS)

    def _read(self, payload: ModuleCall, call: Call) -> Reading | None:
        _enter_log_context(payload)
        started = time.perf_counter()
        try:
            try:
                responses, refusal = _as_responses(self._dispatch(call)), None
            except TOLD as err:
                responses, refusal = [say(err.message, reply=True)], err
            took_ms = (time.perf_counter() - started) * 1e3
            reply = self._as_reply(payload, responses, refusal, took_ms).model_dump_json().encode()
        except Exception:  # noqa: BLE001 - it is executed then, and what is wrong is told there
            return None
        if len(reply) > MAX_READ_BYTES:
            return None

        def note() -> None:
            _enter_log_context(payload)
            self._note(payload, refusal, took_ms)
            _count(call)

        return Reading(reply, note)

    def _begin(self, payload: ModuleCall, started: float) -> ModuleReply:
        if payload.mode == "simulate":
            return self._rehearse(payload, started)
        if self._key(payload) not in self._callers:
            return self._execute(payload, lambda: self._run(payload, started), started)
        try:
            return self._outside.execute(payload)
        except Crowded as err:
            return self._told(self._refuse(payload, self._crowded(payload, err), started))

    def _crowded(self, payload: ModuleCall, err: Crowded) -> WaddleBotError:
        """What to say where there is no place: to try again only if nothing was begun before a crash."""
        try:
            self._effects.check_none(payload.execution_id)
        except EffectUnclear as unclear:
            return unclear
        return err

    def _execute(self, payload: ModuleCall, run: Callable[[], Kept], started: float) -> ModuleReply:
        try:
            kept = run()
        except TOLD as err:
            # Everything that the handler wrote is undone; that it refused is kept.
            kept = self._refuse(payload, err, started)
        except _Undone:
            kept = self._kept_before(payload)
        return self._told(kept)

    def _refuse(self, payload: ModuleCall, err: WaddleBotError, started: float) -> Kept:
        kept: Kept = self._reply(payload, [say(err.message, reply=True)], err, started), []
        return kept if self._keep_with_others(kept) else self._kept_before(payload)

    def _told(self, kept: Kept) -> ModuleReply:
        for cache, key in kept[1]:
            self.service.bus.invalidate(cache, key)
        return kept[0]

    @cached_property
    def _outside(self) -> OutsideRuns:
        return OutsideRuns(
            self._execute_outside,
            self.service.router.respond,
            module_name=self.service.name,
            at_once=self.service.settings.calls_out_at_once,
            log=self.service.log,
        )

    def _execute_outside(self, payload: ModuleCall, until: float) -> ModuleReply:
        """Run a call that calls out, in a thread of the module's own."""
        new_log_context()
        _enter_log_context(payload)
        started = time.perf_counter()
        # Looked for first: to run again and undo it, as other handlers do, would call out again.
        if kept := self._find_kept(payload):
            return self._told(kept)
        with acting_as(Acting("router", own_id=payload.user.own_id)):
            return self._execute(payload, lambda: self._run_outside(payload, until, started), started)

    def _run_outside(self, payload: ModuleCall, until: float, started: float) -> Kept:
        """Run a call and keep its reply with what it wrote. Raises: _Undone when it has one already."""
        call = OutsideCall(payload, self._defaults, database=self.service.database, effects=self._effects, until=until)
        with call.keeping():
            kept = self._reply(payload, _as_responses(self._dispatch(call)), None, started), call.invalidations
            is_new = KEEP.run(call.db, self._rows([kept])) if call.db else self._keep_with_others(kept)
            if not is_new:
                raise _Undone
        _count(call)
        return kept

    def _run(self, payload: ModuleCall, started: float) -> Kept:
        """Run a call and keep its reply. Raises: _Undone when it has one already."""
        if self._only_reads(payload):
            with contextlib.suppress(MustWrite):
                return self._run_reading(payload, started)
        with self.service.database.transaction() as db:
            call = Call(payload, self._defaults, db=db)
            kept = self._reply(payload, _as_responses(self._dispatch(call)), None, started), call.invalidations
            if not KEEP.run(db, self._rows([kept])):
                raise _Undone
        _count(call)
        return kept

    def _run_reading(self, payload: ModuleCall, started: float) -> Kept:
        """The same without a transaction. Raises: MustWrite; as `_run`."""
        with self.service.database.reading() as db:
            call = Call(payload, self._defaults, db=db, only_reads=True)
            kept = self._reply(payload, _as_responses(self._dispatch(call)), None, started), call.invalidations
        if not self._keep_with_others(kept):
            raise _Undone
        _count(call)
        return kept

    def _keep(self, batch: Sequence[Kept]) -> list[bool]:
        """Store replies that no writes belong to. False for executions that have one."""
        stored = {row["execution_id"] for row in self.service.database.statement(KEEP, self._rows(batch))}
        return [reply.execution_id in stored for reply, _ in batch]

    def _rows(self, batch: Sequence[Kept]) -> dict[str, Any]:
        return {
            "module": self.service.name,
            "executions": [reply.execution_id for reply, _ in batch],
            "replies": [reply.model_dump_json() for reply, _ in batch],
            "invalidations": [json.dumps(invalidations) for _, invalidations in batch],
        }

    def _rehearse(self, payload: ModuleCall, started: float) -> ModuleReply:
        """Run a call and undo it: the reply is real, the writes are gone, and nobody outside was called."""
        replies: list[ModuleReply] = []
        try:
            if self._key(payload) in self._callers:
                return self._reply(payload, self._describe(payload), None, started)
            with self.service.database.transaction() as db:
                responses = _as_responses(self._dispatch(Call(payload, self._defaults, db=db)))
                replies.append(self._reply(payload, responses, None, started))
                raise _Undone
        except TOLD as err:
            return self._reply(payload, [say(err.message, reply=True)], err, started)
        except _Undone:
            return replies[0]

    def _describe(self, payload: ModuleCall) -> list[ModuleResponse]:
        """What a handler that calls out would say, as far as it comes, and what it would have called."""
        call = OutsideCall(
            payload, self._defaults, database=self.service.database, effects=self._effects, until=float("inf")
        )
        responses: list[ModuleResponse] = []
        try:
            with call.keeping():
                responses += _as_responses(self._dispatch(call))
                raise _Undone
        except (_Undone, Described):
            if call.described:
                responses.append(say(f"Simulated, so nobody was asked to: {'; '.join(call.described)}."))
        return responses

    def _kept_before(self, payload: ModuleCall) -> Kept:
        """The reply that this execution already has."""
        kept = self._find_kept(payload)
        assert kept is not None, "a reply that was in the way is gone"
        return kept

    def _find_kept(self, payload: ModuleCall) -> Kept | None:
        rows = self.service.database.statement(
            "SELECT reply, invalidations FROM module_replies WHERE module_name = %s AND execution_id = %s",
            (self.service.name, payload.execution_id),
        )
        if not rows:
            return None
        return ModuleReply.model_validate(rows[0]["reply"]), [(cache, key) for cache, key in rows[0]["invalidations"]]

    def _reply(
        self, payload: ModuleCall, responses: list[ModuleResponse], refusal: WaddleBotError | None, started: float
    ) -> ModuleReply:
        took_ms = (time.perf_counter() - started) * 1e3
        self._note(payload, refusal, took_ms)
        return self._as_reply(payload, responses, refusal, took_ms)

    def _note(self, payload: ModuleCall, refusal: WaddleBotError | None, took_ms: float) -> None:
        trigger, key = payload.trigger, self._key(payload)
        self._calls.labels(trigger.command, "failed" if refusal else "success").inc()
        self.service.log.audit(
            "command_executed",
            result=refusal.code.upper() if refusal else "SUCCESS",
            command=trigger.command,
            # By its own name, never the word that was typed: that may be anything.
            subcommand=key[1] if key else None,
            execution_id=payload.execution_id,
            mode=payload.mode,
            execution_time_ms=round(took_ms, 2),
        )

    def _as_reply(
        self, payload: ModuleCall, responses: list[ModuleResponse], refusal: WaddleBotError | None, took_ms: float
    ) -> ModuleReply:
        return ModuleReply(
            session_id=payload.session_id,
            execution_id=payload.execution_id,
            module_name=self.service.name,
            success=refusal is None,
            processing_time_ms=round(took_ms, 3),
            error_message=refusal.message if refusal else None,
            is_unknown=isinstance(refusal, EffectUnclear),
            responses=responses,
        )

    def _only_reads(self, payload: ModuleCall) -> bool:
        key = self._key(payload)
        return key is None or key in self._readers

    def _key(self, payload: ModuleCall) -> tuple[str, str | None] | None:
        """Which handler a call is for; None where it ends with the usage."""
        spec = self._specs.get(fold(payload.trigger.command))
        if spec is None:
            return ANY, None
        if not spec.subcommands:
            return spec.command, None
        subcommand = find_subcommand(spec, payload.trigger.args[0]) if payload.trigger.args else None
        return (spec.command, subcommand.name) if subcommand else None

    def _dispatch(self, call: Asked) -> Said:
        trigger = call.payload.trigger
        spec = self._specs.get(fold(trigger.command))
        if spec is None:
            fallback = self._commands.get((ANY, None))
            if fallback is None:
                raise UserError(f"{self.service.manifest.title} has no command {trigger.command}.")
            return fallback(call, *trigger.args)
        if not spec.subcommands:
            return _fit(self._commands[spec.command, None], call, trigger.args, spec, None)
        if not trigger.args:
            raise UsageError(usage_of(spec, call.level))
        subcommand = find_subcommand(spec, trigger.args[0])
        if subcommand is None:
            if why := self._off.get((spec.command, fold(trigger.args[0]))):
                raise UserError(why)
            raise UsageError(unknown_subcommand(spec, trigger.args[0], call.level))
        handler = self._commands[spec.command, subcommand.name]
        return _fit(handler, call, trigger.args[1:], spec, subcommand)

    def answer_any_command(self, *, run: Handler, only_reads: bool = False) -> None:
        """Run `run(call, *words)` for commands that are not in the manifest: aliases are data, not code."""
        self._commands[ANY, None] = run
        if only_reads:
            self._readers.add((ANY, None))

    def _forget_replies(self) -> bool:
        if self._callers:
            self._effects.purge()
        with self.service.database.transaction() as db:
            gone = fetch(
                db,
                "DELETE FROM module_replies WHERE id IN (SELECT id FROM module_replies"
                f" WHERE created_at < now() - interval '{REPLIES_KEPT}' LIMIT 1000)"
                " RETURNING id",
            )
            fetch(
                db,
                f"DELETE FROM module_replies WHERE created_at < now() - interval '{PRIVATE_KEPT}'"
                """ AND strpos(reply::text, '"private":true') > 0""",
            )
        return len(gone) == 1000


def _enter_log_context(payload: ModuleCall) -> None:
    context = log_context()
    context.session_id = payload.session_id
    context.traceparent = payload.traceparent
    context.community = payload.community.id
    context.user = payload.user.id


def _count(call: Asked) -> None:
    for count in call.counts:
        count()


class _Undone(Exception):
    """Ends a transaction the way that undoes it: of a simulated call, or of one that had a reply already."""


Kept = tuple[ModuleReply, list[tuple[str, str]]]

# Waits for a copy of the execution that runs now; a copy that ran before wins.
KEEP = Prepared(
    "module_keep",
    """
INSERT INTO module_replies (module_name, execution_id, reply, invalidations)
SELECT %(module)s::text, execution_id::uuid, reply::json, invalidations::jsonb
FROM unnest(%(executions)s::text[], %(replies)s::text[], %(invalidations)s::text[])
    AS r (execution_id, reply, invalidations)
-- In one order everywhere, so that two batches with the same executions cannot wait for each other for ever.
ORDER BY execution_id
ON CONFLICT DO NOTHING RETURNING execution_id::text
""",
)


def _fit(
    handler: Handler, call: Asked, words: Sequence[str], spec: CommandSpec, subcommand: SubcommandSpec | None
) -> Said:
    words = without_brackets(words, free_text=_is_free_text(handler))
    if not _takes(handler, len(words)):
        usage = subcommand.usage if subcommand else spec.usage
        name = f"{spec.prefix}{spec.command}" + (f" {subcommand.name}" if subcommand else "")
        hint = "" if (subcommand or spec).secret else _forgotten_quotes(handler, name, words)
        raise UsageError(f"Usage: {name} {usage}".rstrip() + hint)
    return handler(call, *words)


@functools.cache
def _is_free_text(handler: Handler) -> bool:
    """Whether a handler takes words without number: a text, or what it takes apart by itself."""
    return any(each.kind is each.VAR_POSITIONAL for each in inspect.signature(handler).parameters.values())


def _forgotten_quotes(handler: Handler, name: str, words: Sequence[str]) -> str:
    """A question for whoever typed more words than a command takes, one of which has spaces in all likelihood."""
    parameters = list(inspect.signature(handler).parameters.values())[1:]
    taken = len(parameters)
    if len(words) <= taken or any(each.default is not each.empty for each in parameters) or not taken:
        return ""
    if taken == 1:
        return f" – did you mean {name} {quote_word(' '.join(words))}?"
    return f" – put quotes around what has spaces, like “{' '.join(words[:2])}”."


@functools.cache
def _takes(handler: Handler, words: int) -> bool:
    """Whether a handler can be called with a call and so many words."""
    try:
        inspect.signature(handler).bind(None, *range(words))
    except TypeError:
        return False
    return True


def find_subcommand(spec: CommandSpec, word: str) -> SubcommandSpec | None:
    folded = fold(word)
    return next((each for each in spec.subcommands if each.name == folded), None)


def usage_of(spec: CommandSpec, level: Level) -> str:
    """The forms of a command that somebody at this level may use."""
    forms = [each for each in spec.subcommands if level >= Level.named(each.level)]
    if not forms:
        return f"Usage: {spec.prefix}{spec.command} {spec.usage}".rstrip()
    return f"Usage: {spec.prefix}{spec.command} " + " | ".join(f"{each.name} {each.usage}".rstrip() for each in forms)


def unknown_subcommand(spec: CommandSpec, word: str, level: Level) -> str:
    guess = closest(fold(word), [each.name for each in spec.subcommands if level >= Level.named(each.level)])
    if guess and not any(each.secret for each in spec.subcommands):
        return f"There is no “{word[:40]}” in {spec.prefix}{spec.command}. Did you mean “{guess}”?"
    return usage_of(spec, level)


def _as_responses(said: Said) -> list[ModuleResponse]:
    if said is None:
        return []
    if isinstance(said, str):
        return [say(said)]
    return [said] if isinstance(said, ModuleResponse) else list(said)


__all__ = ["Call", "InteractionModule", "OutsideCall", "run_command", "say"]
