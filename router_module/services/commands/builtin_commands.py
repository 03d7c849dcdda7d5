"""The router's own commands: !help, !stats, !why, !points, !leaderboard, and what moderators set with !permit, !timer
and !cooldown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from waddlebot.base.chat import closest, count_of, shorten, without_brackets
from waddlebot.base.contracts import ErrorInfo, ExecutionStatus, Level, ModuleCall, ModuleResponse, SubcommandSpec
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.text import fold
from waddlebot.community.people import find_by_name
from waddlebot.data.cache import Cache
from waddlebot.data.database import Database, fetch_one
from waddlebot.module.interaction import find_subcommand, say

from ..catalogue.cache_manager import CacheManager
from ..catalogue.catalogue import Catalogue, Command
from ..engines.execution_engine import Result, Task
from ..modules.switch_service import SwitchService
from ..people.rbac_service import Asking, RBACService, needed_level
from ..people.reputation_service import ReputationService
from ..records.explainer import Explainer
from ..records.session_manager import SessionManager
from ..rules.escalation import Escalation
from ..rules.filters import PERMITTED_S
from ..rules.presets import Presets
from .cooldown_command import CooldownCommand
from .live_command import LiveCommand
from .timer_command import TimerCommand

STATS_KEPT_S = 60.0
# Where a text has no lines.
IN_ONE_LINE = ("twitch",)
NOTHING = "Nothing was asked of me here in the last day."


class BuiltinCommands:
    """An engine for the commands that only the router itself can answer. They write permits, and what is set here."""

    def __init__(
        self,
        lookups: CacheManager,
        explainer: Explainer,
        reputation: ReputationService,
        db: Database,
        *,
        rbac: RBACService,
        sessions: SessionManager,
        switches: SwitchService,
        escalation: Escalation,
        presets: Presets,
    ) -> None:
        self._sessions = sessions
        self._lookups = lookups
        self._rbac = rbac
        self._explainer = explainer
        self._db = db
        self._stats: Cache[int, str] = Cache("stats", ttl_s=STATS_KEPT_S, max_size=1000, primary_for_s=0)
        self._handlers: dict[str, Callable[[ModuleCall], str]] = {
            "help": self.help,
            "stats": self.stats,
            "why": self.why,
            "points": reputation.say_points,
            "leaderboard": reputation.say_leaderboard,
            "permit": self.permit,
            "forgive": escalation.forgive_by_name,
            "filters": presets.say,
            "timer": TimerCommand(db),
            "live": LiveCommand(db),
            "cooldown": CooldownCommand(db, lookups, switches),
        }

    def execute(self, task: Task) -> Result:
        started = time.perf_counter()
        error = None
        try:
            text = self._handlers[task.command.spec.command](_without_brackets(task.call))
        except UserError as err:
            text, error = err.message, ErrorInfo(code=err.code, message=err.message)
        took_ms = round((time.perf_counter() - started) * 1e3, 2)
        said: list[ModuleResponse] = [
            ModuleResponse(response_action=each.response_action, response_data=each.response_data)
            for each in [say(text, reply=True)]
        ]
        status = ExecutionStatus.FAILED if error else ExecutionStatus.SUCCESS
        return Result(status, said, error, took_ms=took_ms, module_ms=took_ms)

    def help(self, call: ModuleCall) -> str:
        """What this person may use here, or how to use one command."""
        catalogue = self._lookups.catalogue(call.community.id)
        if call.trigger.args:
            return self._help_for(call, catalogue)
        usable = {
            each.name: each.spec.description
            for each in catalogue.usable(call.entity.entity_id)
            if self._may_use(call, each, (), catalogue)
        }
        aliases = [
            each for each in catalogue.alias_names(call.entity.entity_id) if self._may_call(call, each, catalogue)
        ]
        if call.entity.platform in IN_ONE_LINE:
            return f"You can use here: {' '.join([*sorted(usable), *aliases])} – !help NAME tells more."
        lines = [f"{name} – {usable[name]}" if usable[name] else name for name in sorted(usable)]
        if aliases:
            lines.append("Aliases: " + " ".join(aliases))
        return "\n".join(["You can use here:", *lines])

    def _may_use(self, call: ModuleCall, command: Command, args: Sequence[str], catalogue: Catalogue) -> bool:
        asking = Asking(Level.named(call.user.level), call.user.ids, call.user.labels)
        return self._rbac.decide_for(asking, command, args, call.entity.entity_id, catalogue).allowed

    def _may_call(self, call: ModuleCall, alias: str, catalogue: Catalogue) -> bool:
        """Whether an alias runs something that this person may use; one that only says something is for everybody."""
        words = catalogue.runs(alias, call.entity.entity_id)
        found = catalogue.find(words[0][0], fold(words[0][1:]), call.entity.entity_id) if words else ()
        return all(self._may_use(call, each, words[1:], catalogue) for each in found)

    def _help_for(self, call: ModuleCall, catalogue: Catalogue) -> str:
        word, entity_id = call.trigger.args[0], call.entity.entity_id
        prefix, name = (word[0], word[1:]) if word[:1] in ("!", "#") else ("!", word)
        found = catalogue.find(prefix, fold(name), entity_id)
        if not found:
            guess = closest(prefix + fold(name), catalogue.names(entity_id))
            hint = f" Did you mean {guess}?" if guess else ""
            raise UserError(f"There is no {prefix}{name[:60]} here.{hint}")
        command = found[0]
        if command.spec.description == "alias":
            return f"“{command.name}” is an alias of this community. !alias list shows what it stands for."
        asked = find_subcommand(command.spec, call.trigger.args[1]) if len(call.trigger.args) > 1 else None
        of_command = self._rbac_refusal(call, command, asked, catalogue)
        if of_command:
            return of_command
        lines = [
            f"{command.name} {sub.name} {sub.usage}".rstrip() + f" – {sub.description}"
            for sub in ([asked] if asked else command.spec.subcommands)
            if self._may_use(call, command, (sub.name,), catalogue)
        ]
        if not lines:
            lines = [f"{command.name} {command.spec.usage}".rstrip() + f" – {command.spec.description}"]
        needed = needed_level(command, asked, catalogue.terms_of(command, entity_id))
        head = f"How to use {command.name}" + (f", for {needed.at_least}:" if needed > Level.MEMBER else ":")
        return f"{head} {' · '.join(lines)}" if call.entity.platform in IN_ONE_LINE else "\n".join([head, *lines])

    def _rbac_refusal(
        self, call: ModuleCall, command: Command, sub: SubcommandSpec | None, catalogue: Catalogue
    ) -> str | None:
        """What a command is for and why this person cannot use it; None if they can."""
        asking = Asking(Level.named(call.user.level), call.user.ids, call.user.labels)
        args = (sub.name,) if sub else ()
        decision = self._rbac.decide_for(asking, command, args, call.entity.entity_id, catalogue)
        if decision.allowed:
            return None
        what = sub.description if sub else command.spec.description
        return f"About {command.name}{f' {sub.name}' if sub else ''}: {what}. {decision.reason}"

    def stats(self, call: ModuleCall) -> str:
        """How busy the bot is in this community, up to a minute ago: it is a walk through a day, for any member."""
        said = self._stats.get(call.community.id, lambda _fresh: self._count_day(call.community.id))
        if said == NOTHING:
            self._stats.drop(str(call.community.id))  # That was quickly counted, and is soon out of date.
        return said

    def _count_day(self, community_id: int) -> str:
        with self._db.lookup() as db:
            row = fetch_one(
                db,
                "SELECT count(*) AS total, count(*) FILTER (WHERE status = 'success') AS fine,"
                " percentile_cont(0.5) WITHIN GROUP (ORDER BY execution_time_ms) AS median,"
                " (SELECT count(DISTINCT user_id) FROM router_events"
                "  WHERE community_id = %(community)s AND received_at > now() - interval '1 day') AS people"
                " FROM command_executions WHERE community_id = %(community)s AND status <> 'pending'"
                " AND created_at > now() - interval '1 day'",
                {"community": community_id},
            )
        assert row is not None
        if not row["total"]:
            return NOTHING
        median = f", typically in {row['median']:.0f} ms" if row["median"] is not None else ""
        return (
            f"In the last day: {count_of(row['total'], 'command')}, {row['fine']} of them fine{median};"
            f" {count_of(row['people'], 'person was', 'people were')} here."
        )

    def why(self, call: ModuleCall) -> str:
        """Why this person's last message here was answered as it was."""
        # The page of a message is for who may look into the portal.
        community_id = call.community.id if Level.named(call.user.level) >= Level.MODERATOR else None
        return self._explainer.why(call.entity.entity_id, call.user.ids, before=call.session_id, linked_in=community_id)

    def permit(self, call: ModuleCall) -> str:
        """Let somebody post links for a minute, in this community and under each of their names."""
        name = " ".join(call.trigger.args).lstrip("@").strip()
        if not name:
            raise UsageError("Usage: !permit @who")
        with self._db.lookup() as db:
            found = find_by_name(db, name, platform=call.entity.platform, community_id=call.community.id)
            head = fetch_one(db, "SELECT coalesce(head_id, id) AS id FROM users WHERE id = %s", (found,))
        if head is None:
            raise UserError(f"Nobody called {shorten(name, 60)} has written here yet.")
        if call.mode == "live" and not self._sessions.permit(call.community.id, head["id"], for_s=PERMITTED_S):
            raise UserError("I cannot remember that just now. Try again in a moment.")
        return f"{shorten(name, 60)} may post links for {PERMITTED_S} seconds."


def _without_brackets(call: ModuleCall) -> ModuleCall:
    args = without_brackets(call.trigger.args, free_text=True)
    return call.model_copy(update={"trigger": call.trigger.model_copy(update={"args": args})})
