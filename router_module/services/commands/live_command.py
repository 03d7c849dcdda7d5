"""!live add|remove|list|preview: whether the channel that it is typed in is told when a stream begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydal import DAL
from pydantic import ValidationError
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.variables import remarks_on
from waddlebot.base.wire import problem_of
from waddlebot.data.database import Database

from ..records.live_notice_fields import MESSAGE, LiveNoticeFields
from ..records.live_notice_service import (
    IN_NOTICES,
    OWN,
    create_notice,
    delete_notice,
    get_notice,
    list_notices,
    preview,
)
from .rehearsing import changing

Handler = Callable[[DAL, ModuleCall, Sequence[str]], str]


class LiveCommand:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._handlers: dict[str, Handler] = {"add": _add, "remove": _remove, "list": _list, "preview": _preview}

    def __call__(self, call: ModuleCall) -> str:
        word, *args = call.trigger.args or [""]
        handler = self._handlers.get(word.lower())
        if handler is None:
            raise UsageError("Usage: !live add [text] | remove | list | preview [text]")
        return changing(self._db, call, lambda db: handler(db, call, args))


def _add(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    fields = _fields(call, args)
    made = create_notice(db, call.community.id, fields.model_dump())
    remarks = remarks_on(made["message"], IN_NOTICES, also=OWN)
    return " ".join(["This channel is told when a stream begins, and when it ends.", *remarks])


def _remove(db: DAL, call: ModuleCall, _args: Sequence[str]) -> str:
    delete_notice(db, get_notice(db, call.community.id, entity_id=call.entity.entity_id))
    return "This channel is told of streams no more."


def _list(db: DAL, call: ModuleCall, _args: Sequence[str]) -> str:
    notices = list_notices(db, call.community.id)
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
    try:
        return LiveNoticeFields(entity_id=call.entity.entity_id, message=" ".join(words) or MESSAGE)
    except ValidationError as err:
        raise UserError(f"A notice has at most 500 characters: {problem_of(err.errors()[0])}.") from err
