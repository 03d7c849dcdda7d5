"""Says the bot's replies on Slack, and does what of moderation Slack lets a bot do.

Source: https://docs.slack.dev/reference/methods/chat.postMessage
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import Away, Later, NotAllowed, NotFound, ProviderError, Refused, Unclear, WaddleBotError
from waddlebot.base.ids import EntityId, parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import is_number
from waddlebot.collecting.moderation import ModerationAction
from waddlebot.collecting.pace import Pacer
from waddlebot.collecting.sender import Outcome
from waddlebot.data.outbox import Outgoing

from .installations import Installations
from .questions import Question, Questions
from .slack_calls import SlackCalls
from .text import write_help, write_parts, write_text

NO_TOKEN_PAUSE = timedelta(seconds=5)
COMMAND = "/waddlebot"
# What Slack's words mean for whoever reads why a reply was dropped.
WORDS = {
    "not_in_channel": "the bot is not in that channel; somebody there has to /invite it",
    "channel_not_found": "there is no such channel, or the bot was never let into it",
    "is_archived": "that channel is archived",
    "restricted_action": "the workspace lets only some people write in that channel",
    "missing_scope": "the app lacks a scope; install it again at /slack/install",
    "msg_too_long": "the text is too long for Slack",
    "cant_delete_message": "Slack lets a bot delete only its own messages",
    "message_not_found": "that message is already gone",
    "user_not_in_channel": "that person is not in the channel",
}
MAY_NOT_DELETE = (
    "Slack lets a bot delete only its own messages. An admin of the workspace can allow more: install the app again at"
    " /slack/install with “delete messages”."
)
NOTHING_LIKE_IT = "Slack has nothing like a {action} that an app could do; an admin does it in Slack."


class BotService:
    """Sends with each workspace's own token. `pacer` and `said` are the collector's."""

    def __init__(
        self,
        installations: Installations,
        questions: Questions,
        calls: SlackCalls,
        *,
        log: AAALog,
    ) -> None:
        self._installations = installations
        self._questions = questions
        self._calls = calls
        self._log = log
        self.pacer: Pacer | None = None
        self.said: Callable[[str, float], None] = lambda _team, _began_at: None

    # Saying

    async def send(self, reply: Outgoing) -> Outcome:
        """Say a reply where it was asked for, in as many parts as it needs. PENDING only when no part can have left."""
        return await self._send(reply)

    async def whisper(self, reply: Outgoing) -> Outcome:
        """Say a reply where it was asked for, so that only the person sees it for whom it is."""
        return await self._send(reply, only_to=str(reply.response_data["to"]))

    async def _send(self, reply: Outgoing, *, only_to: str = "") -> Outcome:
        place = parse_entity_id(reply.entity_id)
        try:
            question = await asyncio.to_thread(self._questions.of_reply, reply.id)
        except WaddleBotError as err:
            return Outcome.not_left(err.message)
        if only_to:
            question = replace(question, is_private=True, user_id=only_to)
        text = str(reply.response_data.get("message", ""))
        parts = write_parts(write_help(text, COMMAND) if question.command == "help" else text)
        if not parts:
            return Outcome(OutboxState.DROPPED, "nothing to say")
        thread_ts = question.thread_ts or (question.ts if reply.reply_to else "")
        for number, part in enumerate(parts):
            if number and self.pacer is not None:
                await self.pacer.more(reply)
            more = _with_card(reply) if number == 0 else {}
            outcome = await self._say(place, part, question, thread_ts, more)
            while number and outcome.state is OutboxState.PENDING:
                # The beginning is said, so the rest is not left for later; the sender's own time limit ends this.
                await asyncio.sleep(outcome.retry_after.total_seconds())
                outcome = await self._say(place, part, question, thread_ts)
            if outcome.state is not OutboxState.SENT:
                return outcome if number == 0 else outcome.broken_off(number, len(parts))
        return outcome

    async def _say(
        self, place: EntityId, text: str, question: Question, thread_ts: str, more: Mapping[str, Any] | None = None
    ) -> Outcome:
        if question.is_slash:
            outcome = await self._answer(text, question)
            if outcome is not None:
                return outcome
        if question.is_private:
            said: dict[str, Any] = {"channel": place.channel_id, "user": question.user_id, "text": text}
            return await self._with_token(place, lambda slack, token: slack.chat_postEphemeral(token=token, **said))
        said = {"channel": place.channel_id, "text": text, **(more or {})}
        if ts := said.pop("ts", ""):
            change = {name: said[name] for name in ("channel", "text", "attachments") if name in said}
            edited = await self._with_token(place, lambda slack, token: slack.chat_update(token=token, ts=ts, **change))
            # What Slack does not let it edit is said anew.
            if edited.state is not OutboxState.DROPPED:
                return edited
        if thread_ts:
            said["thread_ts"] = thread_ts
        began_at = time.monotonic()
        outcome = await self._with_token(place, lambda slack, token: slack.chat_postMessage(token=token, **said))
        if outcome.state is OutboxState.SENT:
            self.said(place.server_id, began_at)
        return outcome

    async def _answer(self, text: str, question: Question) -> Outcome | None:
        """Answer a slash command at its own address; None when that is used up, old or unknown."""
        try:
            url = await asyncio.to_thread(self._questions.take_url, question.event_id)
            if url is None:
                return None
            shown_to = "ephemeral" if question.is_private else "in_channel"
            await self._calls.api.answer(url, text=text, response_type=shown_to, replace_original=False)
        except Unclear as err:
            return Outcome(OutboxState.UNKNOWN, err.message)
        except WaddleBotError:
            return None  # It was not said there, so it can be said in the channel.
        return Outcome(OutboxState.SENT, "response_url")

    async def _with_token(self, place: EntityId, call: Callable[[Any, str], Any]) -> Outcome:
        """Do something in a workspace, with a new token if Slack refuses the one at hand."""
        refused = error = ""
        while True:
            try:
                token = await asyncio.to_thread(self._installations.token, place.server_id, refused=refused)
            except (NotFound, NotAllowed) as err:
                return await self._lost(place.server_id, error) if error else Outcome(OutboxState.DROPPED, err.message)
            except WaddleBotError as err:
                return Outcome.not_left(f"no token: {err.message}", NO_TOKEN_PAUSE)
            try:
                answer = await self._calls.api.ask(lambda slack, token=token: call(slack, token))  # type: ignore[misc]
                return Outcome(OutboxState.SENT, str(answer.get("ts") or answer.get("message_ts") or ""))
            except (Later, Away) as err:
                return Outcome.not_left(err.message, timedelta(seconds=err.retry_after_s))
            except Unclear as err:
                return Outcome(OutboxState.UNKNOWN, err.message)
            except Refused as err:
                if not err.is_about_token:
                    return Outcome(OutboxState.DROPPED, _in_words(err.words))
                if refused:
                    return await self._lost(place.server_id, err.words)
                refused, error = token, err.words

    async def _lost(self, team_id: str, error: str) -> Outcome:
        reason = f"Slack refuses the app's token ({error})"
        try:
            await asyncio.to_thread(self._installations.revoke, team_id, reason)
        except WaddleBotError as err:
            self._log.error("revocation_not_noted", team=team_id, message=err.message)
        return Outcome(OutboxState.DROPPED, f"{reason}; install it again at /slack/install")

    def may_answer_at(self, url: str) -> bool:
        return self._calls.api.is_slacks(url)

    async def tell(self, url: str, text: str) -> None:
        """Say something at a response_url that nobody has to repeat when it fails."""
        try:
            await self._calls.api.answer(url, text=text, response_type="ephemeral", replace_original=False)
        except ProviderError as err:
            self._log.system("slash_hint_not_sent", result="FAILED", detail=err.message)

    # Moderating

    async def act(self, action: ModerationAction) -> Outcome:
        """Carry out what the router has decided. Its warnings are replies in chat, and Slack has none besides."""
        if action.action == "warn":
            return Outcome(OutboxState.SENT, "told by the reply in chat")
        return await self.moderate(action)

    async def moderate(self, action: ModerationAction) -> Outcome:
        """Delete a message, or warn somebody in words that only they see."""
        place = parse_entity_id(action.entity_id)
        if action.action == "warn":
            text = write_text(action.reason or "Please mind the rules of this channel.")
            said = {"channel": place.channel_id, "user": action.platform_user_id, "text": text}
            return await self._with_token(place, lambda slack, token: slack.chat_postEphemeral(token=token, **said))
        if action.action == "delete":
            return await self._delete(place, action.message_id)
        return Outcome(OutboxState.DROPPED, NOTHING_LIKE_IT.format(action=action.action))

    async def _delete(self, place: EntityId, message_id: str) -> Outcome:
        ts = message_ts(message_id)
        if not ts:
            return Outcome(OutboxState.DROPPED, "there is no message to delete")
        try:
            token = await asyncio.to_thread(self._installations.admin_token, place.server_id)
        except WaddleBotError as err:
            return Outcome.not_left(f"no token: {err.message}", NO_TOKEN_PAUSE)
        if token is None:
            return Outcome(OutboxState.DROPPED, MAY_NOT_DELETE)
        try:
            await self._calls.api.ask(lambda slack: slack.chat_delete(token=token, channel=place.channel_id, ts=ts))
        except (Later, Away) as err:
            return Outcome.not_left(err.message, timedelta(seconds=err.retry_after_s))
        except Unclear as err:
            return Outcome(OutboxState.UNKNOWN, err.message)
        except Refused as err:
            if err.is_about_token:
                await asyncio.to_thread(self._installations.revoke_admin, place.server_id)
                return Outcome(OutboxState.DROPPED, MAY_NOT_DELETE)
            return Outcome(OutboxState.DROPPED, _in_words(err.words))
        return Outcome(OutboxState.SENT, ts)


def _with_card(reply: Outgoing) -> dict[str, Any]:
    """The card of a reply as Slack has it, and which message it is the new text of.

    Source: https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments
    """
    data = reply.response_data
    more: dict[str, Any] = {"ts": data["edits"]} if data.get("edits") else {}
    if card := data.get("card"):
        shown = {"title": write_text(card["title"]), "text": write_text(card.get("text", ""))}
        shown |= {"fallback": shown["title"], "title_link": card.get("url"), "image_url": card.get("image")}
        more["attachments"] = [{name: value for name, value in shown.items() if value}]
        more |= {"unfurl_links": False, "unfurl_media": False}
    return more


def message_ts(event_id: str) -> str:
    """The message that an event is about: `T1:C1:1700000000.000100`, and `…:files` of the same; else nothing."""
    parts = event_id.split(":")
    ts = parts[2] if len(parts) >= 3 else event_id
    whole, _, fraction = ts.partition(".")
    return ts if is_number(whole) and is_number(fraction) else ""


def _in_words(error: str) -> str:
    return f"{error}: {WORDS[error]}" if error in WORDS else f"Slack says {error}"
