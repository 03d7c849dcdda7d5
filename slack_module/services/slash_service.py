"""`/waddlebot`: acknowledged at once whatever the router does; the answer follows through the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from waddlebot.base.bridge import Bridge
from waddlebot.base.chat import count_of
from waddlebot.base.contracts import Event
from waddlebot.base.errors import BadRequest, BadSignature, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import clean, validate
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Delivery
from waddlebot.data.database import Database

from .bot_service import BotService
from .installations import team_entity
from .questions import Questions
from .requests import check_signature
from .text import write_text
from .translation import SLASH, SlashForm

# Only who asked sees the answers to these; what is in a channel's chat otherwise, everybody sees.
PRIVATE = frozenset({"help", "points", "status"})
BEHIND_AFTER_S = 3
NOT_SERVED = (
    "I am not at work in this channel. Whoever runs this WaddleBot adds it with `waddlebot servers add --platform slack"
    " --server {team} --channel {channel}`, or lets me into the whole workspace at {url}."
)
CANNOT_NOW = "I cannot take commands right now. Please try again in a moment."
BEHIND = "I am a little behind; your answer follows."
STATUS = """
SELECT c.name AS community,
    (SELECT count(*) FROM slack_events WHERE state IN ('pending', 'forwarding')) AS waiting,
    (SELECT count(*) FROM slack_events WHERE channel_id = %(channel)s AND state <> 'ignored'
        AND received_at > now() - interval '1 day') AS heard
FROM servers s JOIN communities c ON c.id = s.community_id
WHERE s.platform = 'slack' AND s.server_id = %(team)s AND s.channel IN (%(channel)s, '') AND s.is_active
ORDER BY s.channel DESC LIMIT 1
"""
# Whether answers are late, and whether a command of that name is only to be had with a #.
LOOK = """
SELECT EXISTS (SELECT FROM slack_events WHERE state IN ('pending', 'forwarding')
        AND received_at < now() - %(behind)s * interval '1 second') AS is_behind,
    coalesce((SELECT bool_and(prefix = '#') FROM commands
        WHERE command = %(word)s AND trigger_type <> 'event' AND (is_active OR EXISTS (SELECT FROM module_switches s
            WHERE s.module_name = commands.module_name AND s.version = for_version))), false) AS takes_hash
"""


class SlashService:
    def __init__(
        self,
        collector: Collector,
        questions: Questions,
        bot: BotService,
        bridge: Bridge,
        db: Database,
        *,
        secret: str,
        install_url: str,
        log: AAALog,
    ) -> None:
        self._collector = collector
        self._questions = questions
        self._bot = bot
        self._bridge = bridge
        self._db = db
        self._secret = secret
        self._install_url = install_url
        self._log = log

    def receive(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
        """Take a posted command. Returns what only who asked sees at once, if anything.

        Raises: BadSlackSignature; BadRequest and Invalid for a signed form that is not as documented.
        """
        try:
            check_signature(self._secret, headers, body)
        except BadSignature:
            self._collector.count(SLASH, "bad_signature")
            raise
        try:
            form = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100))
        except ValueError as err:
            raise BadRequest("The body is not a form.") from err
        if form.get("ssl_check") == "1":
            return None
        return self.take(form)

    def take(self, form: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take a command, whichever way it came. Raises: Invalid."""
        asked: SlashForm = validate(SlashForm.model_validate, clean(dict(form)))
        try:
            return self._take(asked)
        except WaddleBotError as err:
            if not err.retryable:
                raise
            # Slack does not send a command again, so who gave it has to know.
            self._log.error("slash_command_not_taken", code=err.code, message=err.message)
            self._collector.count(SLASH, "not_taken")
            return _privately(CANNOT_NOW)

    def unanswered(self, event: Event) -> None:
        """The router had nothing to say or to run: whoever types a slash command expects an answer all the same."""
        if "slash_command" in event.data:
            word = event.message.split()[0].lstrip("!") if event.message.split() else ""
            text = (
                f"There is no `{write_text(word[:60])}` here. `{event.data['slash_command']} help` lists what there is."
            )
            self._bridge.start(self._tell(event.event_id, text))

    def _take(self, form: SlashForm) -> dict[str, Any] | None:
        if not self._collector.served.serves(form.channel_id, form.team_id):
            self._collector.count(SLASH, "channel not served")
            text = NOT_SERVED.format(team=form.team_id, channel=form.channel_id, url=self._install_url)
            return _privately(text)
        self._collector.liveness.heard(team_entity(form.team_id))
        if form.word == "status":
            self._collector.count(SLASH, "answered")
            return _privately(self._status(form))
        self._questions.remember(
            form.event_id,
            team=form.team_id,
            channel=form.channel_id,
            user=form.user_id,
            command=form.word or "?",
            is_private=form.word in PRIVATE,
            response_url=form.response_url if self._bot.may_answer_at(form.response_url) else "",
        )
        found = self._db.statement(LOOK, {"behind": BEHIND_AFTER_S, "word": form.word})[0]
        self._collector.take(_delivery(form.with_hash() if found["takes_hash"] else form))
        return _privately(BEHIND) if found["is_behind"] else None

    def _status(self, form: SlashForm) -> str:
        rows = self._db.statement(STATUS, {"team": form.team_id, "channel": form.channel_id})
        found: dict[str, Any] = rows[0] if rows else {"community": "?", "waiting": 0, "heard": 0}
        waiting = (
            f"{count_of(found['waiting'], 'message waits', 'messages wait')} for an answer"
            if found["waiting"]
            else "Nothing waits"
        )
        return (
            f"I am here. This channel belongs to *{write_text(found['community'])}*.\n"
            f"{waiting}; I took in {count_of(found['heard'], 'thing')} from this channel in the last day."
        )

    async def _tell(self, event_id: str, text: str) -> None:
        url = await asyncio.to_thread(self._questions.take_url, event_id)
        if url:
            await self._bot.tell(url, text)


def _delivery(form: SlashForm) -> Delivery:
    return Delivery(
        delivery_id=f"slash:{form.trigger_id}",
        event_id=form.event_id,
        type=SLASH,
        channel_id=form.channel_id,
        person_id=form.user_id,
        # Without response_url: whoever reads the table could speak there.
        data=form.model_dump(exclude={"response_url"}),
        occurred_at=datetime.now(UTC),
    )


def _privately(text: str) -> dict[str, Any]:
    return {"response_type": "ephemeral", "text": text}
