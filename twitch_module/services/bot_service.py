"""Says the bot's replies in Twitch chat, as the app: POST /helix/chat/messages.

Source: https://dev.twitch.tv/docs/api/reference/#send-chat-message
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from waddlebot.base.chat import NEUTRAL, neutralise
from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import Away, Later, Refused, Unclear
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.collecting.sender import Outcome
from waddlebot.data.outbox import Outgoing
from waddlebot.web.helix import NoAppToken

from .twitch_api import TwitchAPI

MAX_CHARS = 500
# More of one reply than this would be a flood, and use up half of what an account may say in 30 s.
MAX_PARTS = 10
NEWLINE = " | "
# Twitch drops what the same account said in the same channel within this time. What chat clients put at the end so
# that it does not is seen by nobody.
SAME_TEXT_FOR_S = 30.0
INVISIBLE_TAIL = " \U000e0000"
MAX_REMEMBERED = 10_000
NO_TOKEN_PAUSE = timedelta(seconds=5)
# That is the app's limit; another status that asks to wait is about this one request.
TOO_MANY = 429
DUPLICATE = "msg_duplicate"
# What can be done about it, for the reasons that Twitch gives only as a code and a sentence for the sender.
HINTS = {
    "msg_rejected": "AutoMod holds it back",
    "msg_rejected_mandatory": "AutoMod blocks it in every channel",
    DUPLICATE: "the same was said a moment ago",
    "msg_ratelimit": "the bot speaks too fast; make it a moderator",
    "msg_slowmode": "the channel is in slow mode; make the bot a moderator or VIP",
    "msg_followersonly": "only followers may write; make the bot a moderator or VIP",
    "msg_subsonly": "only subscribers may write; make the bot a moderator or VIP",
    "msg_emoteonly": "only emotes may be written; make the bot a moderator",
    "msg_banned": "the bot is banned there",
    "msg_timedout": "the bot is timed out there",
}


class BotService:
    """Sends replies as the app, so that they carry the badge of a bot."""

    def __init__(self, api: TwitchAPI, *, bot_user_id: str, log: AAALog) -> None:
        self._api = api
        self._bot_user_id = bot_user_id
        self._log = log
        # Set by whoever makes the collector, which has to know how to send before it can say how fast.
        self.wait_for_turn: Callable[[Outgoing], Awaitable[None]] | None = None
        # Both of these belong to the bridge's loop.
        self._paused_until = 0.0
        self._said: dict[str, tuple[str, float]] = {}

    async def send(self, reply: Outgoing) -> Outcome:
        """Say a reply in its channel, in as many parts as it needs, threaded from the first.

        PENDING only when not a single part can have left.
        """
        channel = parse_entity_id(reply.entity_id).channel_id
        parts = split_message(str(reply.response_data.get("message", "")))
        if not parts:
            return Outcome(OutboxState.DROPPED, "nothing to say")
        for number, part in enumerate(parts):
            if number and self.wait_for_turn:
                await self.wait_for_turn(reply)
            outcome = await self._say(channel, part, reply_to=reply.reply_to if number == 0 else "")
            if outcome.state is not OutboxState.SENT:
                return outcome if number == 0 else outcome.broken_off(number, len(parts))
        return outcome

    async def _say(self, channel: str, text: str, *, reply_to: str) -> Outcome:
        """Say one part, and once more a little different if Twitch has heard it from another replica just now."""
        outcome = await self._try(channel, self._unlike_the_last(channel, text), reply_to=reply_to)
        if outcome.state is OutboxState.DROPPED and outcome.detail.startswith(DUPLICATE):
            outcome = await self._try(channel, self._unlike_the_last(channel, text), reply_to=reply_to)
        return outcome

    async def _try(self, channel: str, text: str, *, reply_to: str) -> Outcome:
        wait_s = self._paused_until - time.monotonic()
        if wait_s > 0:
            return Outcome.not_left("Twitch asked for a pause", timedelta(seconds=wait_s))
        try:
            said = await self._api.as_app(
                lambda client: client.say(channel, self._bot_user_id, text, reply_to=reply_to)
            )
        except NoAppToken as err:
            return self._pause(err.message, NO_TOKEN_PAUSE)
        except Refused as err:
            if err.is_about_token:
                return self._pause(err.message, NO_TOKEN_PAUSE)
            return Outcome(OutboxState.DROPPED, err.message)
        except Later as err:
            pause = timedelta(seconds=err.retry_after_s)
            return self._pause(err.message, pause) if err.status == TOO_MANY else Outcome.not_left(err.message, pause)
        except Away as err:
            return Outcome.not_left(err.message)
        except Unclear as err:
            self._remember(channel, text)
            return Outcome(OutboxState.UNKNOWN, err.message)
        if said.is_sent or said.code == DUPLICATE:
            self._remember(channel, text)
        if said.is_sent:
            return Outcome(OutboxState.SENT, said.message_id)
        return Outcome(OutboxState.DROPPED, _in_words(said.code, said.reason) if said.code else "not sent")

    def _unlike_the_last(self, channel: str, text: str) -> str:
        """The text, with an invisible end if it is what was said there last, less than 30 s ago."""
        last, at = self._said.get(channel, ("", 0.0))
        if last != text or time.monotonic() - at > SAME_TEXT_FOR_S:
            return text
        return text[: MAX_CHARS - len(INVISIBLE_TAIL)] + INVISIBLE_TAIL

    def _remember(self, channel: str, text: str) -> None:
        self._said.pop(channel, None)
        self._said[channel] = (text, time.monotonic())
        if len(self._said) > MAX_REMEMBERED:
            del self._said[next(iter(self._said))]  # Where nothing was said for the longest.

    def _pause(self, detail: str, pause: timedelta) -> Outcome:
        """Put back everything for a while: token and limit are the app's, so no other reply would fare better."""
        self._paused_until = time.monotonic() + pause.total_seconds()
        self._log.system("sending_paused", result="FAILED", detail=detail, pause_s=pause.total_seconds())
        return Outcome.not_left(detail, pause)


def _in_words(code: str, message: str) -> str:
    hint = HINTS.get(code)
    return f"{code}: {message}" + (f" ({hint})" if hint else "")


def split_message(text: str, limit: int = MAX_CHARS) -> list[str]:
    """The parts in which Twitch takes a text: one line each, split between words where there are any.

    No part begins with what another bot would take for a command to it.
    """
    lines = (" ".join(line.split()) for line in text.splitlines())
    rest = NEWLINE.join(line for line in lines if line)
    parts: list[str] = []
    while rest and len(parts) < MAX_PARTS:
        room = limit if not parts else limit - len(NEUTRAL)
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
