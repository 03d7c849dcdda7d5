"""Events in, answers out: what collectors call."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from waddlebot.base.contracts import MAX_BATCH, Answer, ErrorInfo, Event
from waddlebot.base.errors import Invalid, WaddleBotError
from waddlebot.base.wire import validate
from waddlebot.web.auth import COLLECTORS, EVENT_SOURCES, Account
from waddlebot.web.endpoint import endpoint

from ..services.commands.command_processor import CommandProcessor

EVENT = TypeAdapter(Event)


class BatchSize(Invalid):
    """A batch has 1 to 100 events."""

    code = "batch_size"


@endpoint("POST", "/router/events", caller=EVENT_SOURCES, area="bot", body=Event, only_asks=True)
def submit_event(event: Event, caller: Account, processor: CommandProcessor) -> Answer:
    """Process one event and answer within a second.

    What is not finished by then is `pending` and comes through the outbox. The same event again gets the same session
    and its outcome so far. The portal only simulates, in the community of the person who asks.
    """
    return answer_one(event, caller, processor)


def answer_one(event: Event, caller: Account, processor: CommandProcessor) -> Answer:
    answer = processor.process([event], caller)[0]
    if isinstance(answer, WaddleBotError):
        raise answer
    return answer


@endpoint("POST", "/router/events/batch", caller=COLLECTORS, body=Any)
def submit_batch(batch: Any, caller: Account, processor: CommandProcessor) -> list[Answer]:
    """Process 1 to 100 events and answer each, in order.

    An entry that is wrong or not allowed is an answer with `success: false`; the others are processed.
    """
    entries = batch.get("events") if isinstance(batch, dict) else batch
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_BATCH:
        raise BatchSize()
    checked = [_check(entry) for entry in entries]
    answers = iter(processor.process([each for each in checked if isinstance(each, Event)], caller))
    return [_as_answer(next(answers)) if isinstance(each, Event) else each for each in checked]


def _check(entry: Any) -> Event | Answer:
    try:
        event: Event = validate(EVENT.validate_python, entry)
        return event
    except WaddleBotError as err:
        return _as_answer(err)


def _as_answer(answer: Answer | WaddleBotError) -> Answer:
    if isinstance(answer, Answer):
        return answer
    error = ErrorInfo(code=answer.code, message=answer.message, details=answer.details or None)
    return Answer(success=False, session_id=None, error=error)
