"""Moderates: as the bot where it is a moderator, else as the broadcaster where they let it.

Source: https://dev.twitch.tv/docs/api/reference/#ban-user
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from waddlebot.base.contracts import OutboxState
from waddlebot.base.encryption import CannotOpen
from waddlebot.base.errors import Away, Busy, Later, Refused, Unclear
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.collecting.moderation import ModerationAction
from waddlebot.collecting.sender import Outcome
from waddlebot.community.tokens import NeedsReauth, NoToken

from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient

DEFAULT_TIMEOUT_S = 600
MAX_TIMEOUT_S = 1_209_600
MAX_REASON_CHARS = 500
NO_REASON = "a rule of this channel"
AGAIN_AFTER = timedelta(seconds=2)
# What says that this very person may not do it; another may.
NOT_THEIRS = frozenset({401, 403})
# Twitch's words for what is so already.
SO_ALREADY = ("already banned", "is not banned", "already warned", "not in timeout")


class ModerationService:
    """Carries out what rules and moderators ask for, once."""

    def __init__(self, api: TwitchAPI, *, bot_user_id: str, bot_login: Callable[[], str], log: AAALog) -> None:
        self._api = api
        self._bot_user_id = bot_user_id
        self._bot_login = bot_login
        self._log = log

    async def act(self, action: ModerationAction) -> Outcome:
        """Do it as the first of bot and broadcaster who may. DROPPED with what to do about it where neither may.

        What can be repeated without harm is PENDING where Twitch broke off; a warning, which would be sent twice, is
        UNKNOWN.
        """
        broadcaster = parse_entity_id(action.entity_id).channel_id
        if not (action.message_id if action.action == "delete" else action.platform_user_id):
            return Outcome(OutboxState.DROPPED, f"nothing is named to {action.action}")
        reasons = []
        for moderator in dict.fromkeys((self._bot_user_id, broadcaster)):
            try:
                await self._api.as_user(moderator, _call(action, broadcaster, moderator))
            except (NoToken, NeedsReauth, CannotOpen) as err:
                reasons.append(err.message.rstrip("."))
                continue
            except Refused as err:
                if err.status in NOT_THEIRS:
                    reasons.append(err.words or err.message)
                    continue
                return _refused(action, err)
            except Later as err:
                return Outcome(OutboxState.PENDING, err.message, timedelta(seconds=err.retry_after_s))
            except (Away, Busy) as err:
                return Outcome(OutboxState.PENDING, err.message, AGAIN_AFTER)
            except Unclear as err:
                return _unclear(action, err.message)
            return self._done(action, moderator)
        advice = f"type /mod {self._bot_login()} in the channel, or consent to moderation at /twitch/auth"
        return Outcome(OutboxState.DROPPED, f"the bot may not {action.action} here ({'; '.join(reasons)}): {advice}")

    def _done(self, action: ModerationAction, moderator: str) -> Outcome:
        who = "the bot" if moderator == self._bot_user_id else "the broadcaster"
        self._log.audit(
            "moderated", what=action.action, entity_id=action.entity_id, person=action.platform_user_id, by=moderator
        )
        return Outcome(OutboxState.SENT, f"{action.action} as {who}")


def _refused(action: ModerationAction, err: Refused) -> Outcome:
    gone = action.action == "delete" and err.status == 404
    if gone or any(words in err.words.lower() for words in SO_ALREADY):
        return Outcome(OutboxState.SENT, f"it was so already: {err.words}")
    return Outcome(OutboxState.DROPPED, err.message)


def _unclear(action: ModerationAction, detail: str) -> Outcome:
    if action.action == "warn":
        return Outcome(OutboxState.UNKNOWN, detail)
    return Outcome(OutboxState.PENDING, detail, AGAIN_AFTER)


def _call(action: ModerationAction, broadcaster: str, moderator: str) -> Callable[[HelixClient], Awaitable[Any]]:
    person, reason = action.platform_user_id, (action.reason or NO_REASON)[:MAX_REASON_CHARS]

    async def call(client: HelixClient) -> Any:
        if action.action == "delete":
            return await client.delete_chat_message(broadcaster, moderator, action.message_id)
        if action.action == "warn":
            return await client.warn(broadcaster, moderator, person, reason)
        if action.action == "unban":
            return await client.unban_user(broadcaster, moderator, person)
        if action.action == "ban":
            return await client.ban_user(broadcaster, moderator, person, reason)
        duration_s = min(max(action.duration_s or DEFAULT_TIMEOUT_S, 1), MAX_TIMEOUT_S)
        return await client.ban_user(broadcaster, moderator, person, reason, duration_s)

    return call
