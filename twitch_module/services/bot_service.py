"""Says the bot's replies in Twitch chat, as the app: POST /helix/chat/messages.

Source: https://dev.twitch.tv/docs/api/reference/#send-chat-message
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import SecretStr
from waddlebot.aaa import AAALog
from waddlebot.chat import neutralise
from waddlebot.contracts import OutboxState
from waddlebot.ids import parse_entity_id
from waddlebot.outbox import Outgoing
from waddlebot.sender import Outcome

if TYPE_CHECKING:
    from .helix import ChatClient, HelixRefusal

MAX_CHARS = 500
# More of one reply than this would be a flood, and use up half of what an account may say in 30 s.
MAX_PARTS = 10
NEWLINE = " | "
NO_TOKEN_PAUSE = timedelta(seconds=5)
NOT_REACHED_PAUSE = timedelta(seconds=2)
# Twitch did the work or it did not: these do not tell.
UNCLEAR = frozenset({500, 502, 504})


class BotService:
    """Sends replies with one app token, which it replaces when Twitch refuses it."""

    def __init__(
        self,
        *,
        app_id: str,
        app_secret: SecretStr,
        bot_user_id: str,
        api_base_url: str,
        auth_base_url: str,
        log: AAALog,
    ) -> None:
        self._app_id = app_id
        self._app_secret = app_secret
        self._bot_user_id = bot_user_id
        self._api_base_url = api_base_url
        self._auth_base_url = auth_base_url
        self._log = log
        # Both belong to the bridge's loop.
        self._client: ChatClient | None = None
        self._opening: asyncio.Lock | None = None
        self._paused_until = 0.0

    async def send(self, reply: Outgoing) -> Outcome:
        """Say a reply in its channel, in as many parts as it needs, threaded from the first.

        PENDING only when not a single part can have left.
        """
        channel = parse_entity_id(reply.entity_id).channel_id
        parts = split_message(str(reply.response_data.get("message", "")))
        if not parts:
            return Outcome(OutboxState.DROPPED, "nothing to say")
        for number, part in enumerate(parts):
            outcome = await self._say(channel, part, reply_to=reply.reply_to if number == 0 else "")
            if outcome.state is not OutboxState.SENT:
                return outcome if number == 0 else _broken_off(outcome, number, len(parts))
        return outcome

    async def _say(self, channel: str, text: str, *, reply_to: str) -> Outcome:
        """Say one part, with a new token if Twitch refuses the one at hand."""
        from . import helix

        refused: ChatClient | None = None
        while True:
            wait_s = self._paused_until - time.monotonic()
            if wait_s > 0:
                return _not_left("Twitch asked for a pause", timedelta(seconds=wait_s))
            try:
                async with asyncio.timeout(helix.TOKEN_TIMEOUT_S):
                    client = await self._client_other_than(refused)
            except helix.NO_TOKEN as err:
                # Its message may contain the secret.
                return self._pause(f"no app token: {type(err).__name__}", NO_TOKEN_PAUSE)
            try:
                response = await client.say(channel, self._bot_user_id, text, reply_to=reply_to)
                if response.is_sent:
                    return Outcome(OutboxState.SENT, response.message_id)
                reason = response.drop_reason
                return Outcome(OutboxState.DROPPED, f"{reason.code}: {reason.message}" if reason else "not sent")
            except helix.HelixRefusal as err:
                if err.status == 401 and refused is None:
                    refused = client
                    continue
                return self._refused(err)
            except helix.NOT_CONNECTED:
                return _not_left("Twitch is not reached")
            except helix.BROKEN_OFF as err:
                return Outcome(OutboxState.UNKNOWN, f"broken off: {type(err).__name__}")
            except helix.NOT_UNDERSTOOD as err:
                return Outcome(OutboxState.UNKNOWN, f"answer not understood: {type(err).__name__}")

    def _refused(self, err: HelixRefusal) -> Outcome:
        if err.status == 401:
            self._client = None
            return self._pause(str(err), NO_TOKEN_PAUSE)
        if err.status == 429:
            return self._pause(str(err), timedelta(seconds=err.retry_after_s))
        if err.status == 503:
            return _not_left(str(err), timedelta(seconds=err.retry_after_s))
        return Outcome(OutboxState.UNKNOWN if err.status in UNCLEAR else OutboxState.DROPPED, str(err))

    def _pause(self, detail: str, pause: timedelta) -> Outcome:
        """Put back everything for a while: token and limit are the app's, so no other reply would fare better."""
        self._paused_until = time.monotonic() + pause.total_seconds()
        self._log.system("sending_paused", result="FAILED", detail=detail, pause_s=pause.total_seconds())
        return _not_left(detail, pause)

    async def _client_other_than(self, refused: ChatClient | None) -> ChatClient:
        """The client at hand, or a new one. Of many calls that were refused at once only the first asks for a token."""
        from . import helix

        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._client is None or self._client is refused:
                self._client = None
                self._client = await helix.open_client(
                    self._app_id,
                    self._app_secret.get_secret_value(),
                    api_base_url=self._api_base_url,
                    auth_base_url=self._auth_base_url,
                )
            return self._client


def _not_left(detail: str, retry_after: timedelta = NOT_REACHED_PAUSE) -> Outcome:
    return Outcome(OutboxState.PENDING, detail, retry_after)


def _broken_off(outcome: Outcome, number: int, parts: int) -> Outcome:
    """A reply of which some parts were said is never repeated, so it ends here."""
    state = OutboxState.DROPPED if outcome.state is OutboxState.DROPPED else OutboxState.UNKNOWN
    return Outcome(state, f"after {number} of {parts} parts: {outcome.detail}")


def split_message(text: str, limit: int = MAX_CHARS) -> list[str]:
    """The parts in which Twitch takes a text: one line each, split between words where there are any.

    No part begins with what another bot would take for a command to it.
    """
    lines = (" ".join(line.split()) for line in text.splitlines())
    rest = NEWLINE.join(line for line in lines if line)
    parts: list[str] = []
    while rest and len(parts) < MAX_PARTS:
        room = limit if not parts else limit - 1  # neutralise() may add a character.
        if len(rest) > room:
            cut = rest.rfind(" ", 1, room + 1)
            cut = cut if cut > 0 else room
            part, rest = rest[:cut].rstrip(), rest[cut:].lstrip()
        else:
            part, rest = rest, ""
        parts.append(neutralise(part) if parts else part)
    if rest:
        parts[-1] = parts[-1][: limit - 1] + "…"
    return parts
