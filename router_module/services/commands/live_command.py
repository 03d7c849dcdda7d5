"""!live add|edit|end|remove|list|preview: what the channel that it is typed in is told of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydal import DAL
from pydantic import ValidationError
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.text import fold
from waddlebot.base.variables import remarks_on
from waddlebot.base.wire import problem_of
from waddlebot.data.database import Database

from ..records.live_notice_fields import MESSAGE, LiveNoticeFields
from ..records.live_notice_service import IN_NOTICES, NOTICES, OWN, get_notice, preview
from .rehearsing import changing

Handler = Callable[[DAL, ModuleCall, Sequence[str]], str]


class LiveCommand:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._handlers: dict[str, Handler] = {
            "add": _add,
            "edit": _edit,
            "end": _end,
            "remove": _remove,
            "list": _list,
            "preview": _preview,
        }

    def __call__(self, call: ModuleCall) -> str:
        word, *args = call.trigger.args or [""]
        handler = self._handlers.get(fold(word))
        if handler is None:
            raise UsageError("Usage: !live add [text] | edit <text> | end [text] | remove | list | preview [text]")
        return changing(self._db, call, lambda db: handler(db, call, args))


def _add(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    fields = _fields(call, args)
    made = NOTICES.create(db, call.community.id, fields.model_dump())
    remarks = remarks_on(made["message"], IN_NOTICES, also=OWN)
    return " ".join(["This channel is told when a stream begins, and when it ends.", *remarks])


def _edit(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    if not args:
        raise UsageError("Usage: !live edit <text>")
    return f"When a stream begins this is told: {_change(db, call, 'message', ' '.join(args))}"


def _end(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    said = _change(db, call, "end_message", " ".join(args))
    return f"When it ends this is told: {said}" if args else "When it ends nothing is told."


def _change(db: DAL, call: ModuleCall, name: str, text: str) -> str:
    _checked(call, **{name: text})
    NOTICES.update(db, get_notice(db, call.community.id, call.entity.entity_id), {name: text})
    return " ".join([f"“{shorten(text, 200)}”", *remarks_on(text, IN_NOTICES, also=OWN)])


def _remove(db: DAL, call: ModuleCall, _args: Sequence[str]) -> str:
    NOTICES.delete(db, get_notice(db, call.community.id, call.entity.entity_id))
    return "This channel is told of streams no more."


def _list(db: DAL, call: ModuleCall, _args: Sequence[str]) -> str:
    notices = NOTICES.list_all(db, call.community.id)
    if not notices:
        return "No channel is told of streams. Type !live add in one that shall be."
    here = call.entity.entity_id
    listed = (
        f"{'here' if each['entity_id'] == here else each['entity_id']}: {shorten(each['message'], 60)}"
        for each in notices
    )
    return shorten(" · ".join(listed), 1500)


def _preview(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    return preview(db, call.community.id, _fields(call, args).message, call.entity.entity_id)


def _fields(call: ModuleCall, words: Sequence[str]) -> LiveNoticeFields:
    return _checked(call, message=" ".join(words) or MESSAGE)


def _checked(call: ModuleCall, **texts: str) -> LiveNoticeFields:
    try:
        return LiveNoticeFields(entity_id=call.entity.entity_id, **texts)
    except ValidationError as err:
        raise UserError(f"A notice has at most 500 characters: {problem_of(err.errors()[0])}.") from err
