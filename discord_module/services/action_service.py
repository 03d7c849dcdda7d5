"""What other services have done to people on Discord: asked for, carried out, and answered in one request."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

from waddlebot.base.bridge import Bridge
from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import Busy, Conflict, NotAllowed, ProviderError, Refused
from waddlebot.base.ids import EntityId
from waddlebot.base.logs import AAALog
from waddlebot.collecting.moderation import ModerationAction
from waddlebot.collecting.roles import RoleNews, RoleSeen
from waddlebot.collecting.sender import Outcome

from .bot_service import BotService

T = TypeVar("T")
ANSWER_WITHIN_S = 15.0
Action = Literal["delete", "warn", "timeout", "kick", "ban", "unban"]


class DiscordRefused(Conflict):
    """Discord did not do that."""

    code = "discord_refused"


class DiscordBusy(Busy):
    """Discord cannot be asked right now. Try again in a moment."""

    code = "discord_busy"


class ActionService:
    def __init__(self, bot: BotService, bridge: Bridge, roles: RoleNews, log: AAALog) -> None:
        self._bot = bot
        self._roles = roles
        self._bridge = bridge
        self._log = log

    def change_role(self, wanted: RoleSeen, *, by: str) -> bool:
        """Give or take a role. Returns whether that changed anything.

        Raises: AdministratorsRole; Hierarchy; MissingScope; NotThere; DiscordRefused in words; DiscordBusy.
        """
        work = self._bot.set_role(wanted.server_id, wanted.platform_user_id, wanted.role_id, add=wanted.has)
        try:
            with self._roles.causing(wanted):
                changed = self._ask(work)
        except Refused as err:
            raise DiscordRefused(f"Discord refused: {err.message}.") from err
        except ProviderError as err:
            raise DiscordBusy(f"{err.message}. Try again in a moment.") from err
        what = "role_added" if wanted.has else "role_removed"
        where = {"guild": wanted.server_id, "user": wanted.platform_user_id, "role": wanted.role_id}
        self._log.audit(what, **where, changed=changed, by=by)
        return changed

    def moderate(
        self,
        action: Action,
        *,
        guild_id: str,
        user_id: str,
        channel_id: str,
        message_id: str,
        duration_s: int | None,
        reason: str,
        by: str,
    ) -> None:
        """Raises: DiscordRefused in words; DiscordBusy; NotAllowed for a channel that is not in that server."""
        # Discord looks at the channel alone, and who may act in one server may not in another.
        if channel_id and self._ask(self._bot.find_guild_of(channel_id)) != guild_id:
            raise NotAllowed(f"Channel {channel_id} is not in server {guild_id}.")
        if action == "kick":
            self._do(self._bot.kick(guild_id, user_id, reason=reason))
        else:
            entity_id = str(EntityId("discord", guild_id, channel_id))
            self._do(self._bot.act(ModerationAction(entity_id, action, user_id, message_id, duration_s, reason)))
        self._log.audit("moderated", what=action, guild=guild_id, user=user_id, message_id=message_id, by=by)

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._bridge.submit(work).result(ANSWER_WITHIN_S)
        except TimeoutError as err:
            raise DiscordBusy() from err

    def _do(self, work: Coroutine[Any, Any, Outcome]) -> None:
        outcome = self._ask(work)
        if outcome.state is OutboxState.PENDING:
            raise DiscordBusy(f"{outcome.detail}. Try again in a moment.")
        if outcome.state is not OutboxState.SENT:
            raise DiscordRefused(f"Discord refused: {outcome.detail}.")
