"""Keeps each server's slash commands the same as its community's commands. Discord is only told what has changed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from waddlebot.base.chat import shorten
from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import ProviderError, Unclear, UpstreamRefused
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database
from waddlebot.web.clients import FleetClient

from .slash_commands import FleetCommand, SlashCommands, mirror

if TYPE_CHECKING:
    from .rest import RestClient

LIST_TIMEOUT_S = 10.0
TELL_TIMEOUT_S = 20.0
MAX_COMMANDS = 1000
AT_ONCE = 20
# What Discord refuses today it most likely refuses in a minute too.
REFUSED_FOR = timedelta(hours=1)
FAILED_FOR = timedelta(seconds=30)
# However often a community changes its aliases: Discord takes 200 new commands a day for a server.
CHANGED_FOR = timedelta(seconds=15)
# A change is looked at once more, when every process has heard of it; and all servers now and then, whatever was heard.
SETTLED_AFTER_S = 10.0
LOOK_EVERY_S = 300.0

# One container at a time tells a server: whoever moves its time on. A server that is served no longer has no commands.
DUE = """
SELECT g.guild_id, g.commands_hash, (
    SELECT s.community_id FROM servers s WHERE s.platform = 'discord' AND s.server_id = g.guild_id AND s.is_active
    ORDER BY s.channel LIMIT 1) AS community_id
FROM discord_guilds g WHERE g.left_at IS NULL AND g.commands_retry_at <= now() ORDER BY g.guild_id
"""
NEXT = """
SELECT extract(epoch FROM min(commands_retry_at) - now())::float AS in_s FROM discord_guilds
WHERE left_at IS NULL AND commands_retry_at > now()
"""
TAKE = """
UPDATE discord_guilds SET commands_retry_at = now() + %s
WHERE guild_id = %s AND commands_retry_at <= now() AND commands_hash = %s RETURNING guild_id
"""
DONE = """
UPDATE discord_guilds SET commands_hash = %s, commands = %s::jsonb, commands_refused = '',
    commands_retry_at = now() + %s WHERE guild_id = %s
"""
FAILED = """
UPDATE discord_guilds SET commands_refused = %s, commands_retry_at = now() + %s WHERE guild_id = %s
"""
# What it has of the marketplace, in all of it or in one of its channels here, in the version that it chose.
INSTALLED = """
SELECT DISTINCT ON (c.prefix, c.command) c.prefix || c.command AS command, c.prefix, c.description, c.usage,
    c.module_name, c.module_type, c.trigger_type, c.subcommands
FROM module_switches s JOIN commands c ON c.module_name = s.module_name AND c.for_version = s.version
LEFT JOIN marketplace_modules m ON m.module_id = s.module_name
WHERE s.community_id = %s AND s.enabled AND (s.entity_id IS NULL OR s.entity_id LIKE 'discord:%%')
    AND m.taken_down_at IS NULL ORDER BY c.prefix, c.command, s.entity_id NULLS FIRST
"""
# What a community has switched on or off, and its aliases, which are commands to whoever types them.
SWITCHES = "SELECT module_name, enabled FROM module_switches WHERE community_id = %s AND entity_id IS NULL"
OFF = (
    "SELECT command FROM command_permissions WHERE community_id = %s AND entity_id IS NULL AND is_explicit"
    " AND is_enabled = false"
)
ALIASES = (
    "SELECT prefix || alias AS command, prefix, command AS stands_for FROM alias_commands"
    " WHERE community_id = %s AND entity_id IS NULL AND is_active ORDER BY usage_count DESC, alias LIMIT 100"
)

Submit = Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]


class CommandService:
    """Run `step` often, in a worker of whoever holds the first shard; a second one in a hurry changes nothing.

    It looks at the servers when `changed` is set, which it clears, when one is due again, and every five minutes.
    """

    def __init__(
        self,
        db: Database,
        fleet: FleetClient,
        *,
        router_url: str,
        application_id: str,
        client: Callable[[], RestClient],
        submit: Submit,
        is_leader: Callable[[], bool],
        changed: threading.Event,
        log: AAALog,
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._router_url = router_url
        self._application_id = application_id
        self._client = client
        self._submit = submit
        self._is_leader = is_leader
        self._log = log
        self._changed = changed
        self._look_at = 0.0

    def step(self) -> bool:
        """Tell the next servers that need it. True when there are more. Raises: UpstreamError."""
        if not self._is_leader():
            return False
        is_changed = self._changed.is_set()
        if not is_changed and time.monotonic() < self._look_at:
            return False
        self._changed.clear()
        try:
            has_more = self._look()
            in_s = self._db.statement(NEXT)[0]["in_s"]
        except BaseException:
            self._changed.set()
            raise
        waits_s = [LOOK_EVERY_S, *([SETTLED_AFTER_S] if is_changed else []), *([in_s] if in_s is not None else [])]
        self._look_at = 0.0 if has_more else time.monotonic() + min(waits_s)
        return has_more

    def _look(self) -> bool:
        due = self._db.statement(DUE)
        if not due:
            return False
        listed = self._list_commands() if any(row["community_id"] for row in due) else []
        wanted: dict[int | None, SlashCommands] = {None: mirror([])}
        told = 0
        for row in due:
            community = row["community_id"]
            if community not in wanted:
                wanted[community] = mirror(self._of_community(community, listed))
            if row["commands_hash"] == wanted[community].hash:
                continue
            if told == AT_ONCE:
                return True
            told += self._tell(row, wanted[community])
        return False

    def _list_commands(self) -> list[FleetCommand]:
        response = self._fleet.get(f"{self._router_url}/commands?limit={MAX_COMMANDS}", timeout_s=LIST_TIMEOUT_S)
        if response.status != 200:
            raise UpstreamRefused(f"The router lists no commands: HTTP {response.status}.", status=response.status)
        return [FleetCommand.model_validate(each) for each in response.json()["commands"]]

    def _of_community(self, community_id: int, listed: Sequence[FleetCommand]) -> list[FleetCommand]:
        """What somebody can call there: core modules unless they are switched off, others when they are on, what is
        installed, and aliases."""
        switches = {row["module_name"]: row["enabled"] for row in self._db.statement(SWITCHES, (community_id,))}
        off = {row["command"] for row in self._db.statement(OFF, (community_id,))}
        commands = [
            each
            for each in listed
            if switches.get(each.module_name, each.module_type == "core") and each.command not in off
        ]
        installed = map(FleetCommand.model_validate, self._db.statement(INSTALLED, (community_id,)))
        commands += [each for each in installed if each.command not in off]
        known = {each.command for each in commands}
        aliases = [_alias(row) for row in self._db.statement(ALIASES, (community_id,)) if row["command"] not in known]
        return commands + aliases

    def _tell(self, row: Mapping[str, Any], wanted: SlashCommands) -> int:
        from .rest import outcome_of

        guild_id = row["guild_id"]
        if not self._db.statement(TAKE, (FAILED_FOR, guild_id, row["commands_hash"])):
            return 0  # Somebody else is at it.
        request = self._client().request(
            "PUT",
            "/applications/{application_id}/guilds/{guild_id}/commands",
            json=wanted.payload,
            application_id=self._application_id,
            guild_id=guild_id,
        )
        try:
            self._submit(request).result(TELL_TIMEOUT_S)
        except (ProviderError, TimeoutError) as err:
            outcome = outcome_of(err if isinstance(err, ProviderError) else Unclear("Discord takes too long"))
            is_final = outcome.state is OutboxState.DROPPED
            pause = REFUSED_FOR if is_final else max(outcome.retry_after, FAILED_FOR)
            self._db.statement(FAILED, (outcome.detail[:300], pause, guild_id))
            self._log.system("commands_not_told", result="FAILED", guild=guild_id, detail=outcome.detail)
            return 1
        self._db.statement(DONE, (wanted.hash, json.dumps(wanted.names), CHANGED_FOR, guild_id))
        self._log.system("commands_told", guild=guild_id, commands=len(wanted.payload))
        return 1


def _alias(row: Mapping[str, Any]) -> FleetCommand:
    description = shorten(f"stands for {' '.join(row['stands_for'].split())}", 100)
    return FleetCommand(command=row["command"], prefix=row["prefix"], description=description, module_name="alias")
