"""!timer add|edit|remove|list|preview|pause|resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydal import DAL
from pydantic import ValidationError
from waddlebot.base.chat import count_of, shorten
from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.text import fold
from waddlebot.base.variables import remarks_on
from waddlebot.base.wire import problem_of
from waddlebot.data.database import Database

from ..records.timer_fields import TimerFields
from ..records.timer_service import IN_TIMERS, TIMERS, get_timer, preview
from .rehearsing import changing

USAGE = "Usage: !timer add <name> <minutes> [lines=5] [always] [here] <text>"
EDIT_USAGE = "Usage: !timer edit <name> [minutes=30] [lines=5] [live=yes|no] [where=here|everywhere] [text]"
# How an option is spelled, and what it sets.
OPTIONS = {"minutes": "minutes", "lines": "min_lines", "live": "only_live", "where": "entity_id"}
SHORT = {"always": "live=no", "here": "where=here"}
Handler = Callable[[DAL, ModuleCall, Sequence[str]], str]


class TimerCommand:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._handlers: dict[str, Handler] = {
            "add": _add,
            "edit": _edit,
            "remove": _remove,
            "list": _list,
            "preview": _preview,
            "pause": _pause,
            "resume": _resume,
        }

    def __call__(self, call: ModuleCall) -> str:
        word, *args = call.trigger.args or [""]
        handler = self._handlers.get(fold(word))
        if handler is None:
            raise UsageError("Usage: !timer add | edit | remove | list | pause | resume | preview")
        return changing(self._db, call, lambda db: handler(db, call, args))


def _add(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    if len(args) < 3:
        raise UsageError(USAGE)
    name, minutes, *words = args
    options, text = _options(call, words, SHORT)
    values = _values({"name": name, "minutes": minutes, **options, "message": text}, USAGE)
    made = TIMERS.create(db, call.community.id, values)
    return " ".join([f"Timer {made['name']} is said {_when(made)}.", *remarks_on(made["message"], IN_TIMERS)])


def _edit(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    """Only what is typed changes."""
    if len(args) < 2:
        raise UsageError(EDIT_USAGE)
    before = get_timer(db, call.community.id, args[0])
    options, text = _options(call, args[1:], {})
    changed = {**options, **({"message": text} if text else {})}
    values = _values({column: before[column] for column in TIMERS.columns} | changed, EDIT_USAGE)
    made = TIMERS.update(db, before, {name: values[name] for name in changed})
    paused = "" if made["is_active"] else ", once it is resumed"
    said = f"Timer {made['name']} is said {_when(made)}{paused}: “{shorten(made['message'], 200)}”"
    return " ".join([said, *remarks_on(made["message"], IN_TIMERS)])


def _options(call: ModuleCall, words: Sequence[str], short: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """What stands before the text, and the text."""
    options: dict[str, Any] = {}
    places = {"here": call.entity.entity_id, "everywhere": None}
    for at, word in enumerate(words):
        name, _, said = short.get(fold(word), fold(word)).partition("=")
        if not said or name not in OPTIONS:
            return options, " ".join(words[at:])
        options[OPTIONS[name]] = places.get(said, said) if name == "where" else said
    return options, ""


def _values(fields: dict[str, Any], usage: str) -> dict[str, Any]:
    try:
        return TimerFields(**fields).model_dump()
    except ValidationError as err:
        wrong = err.errors()[0]
        raise UserError(f"{wrong['loc'][0]}: {problem_of(wrong)}. {usage}") from err


def _when(timer: dict[str, Any]) -> str:
    minutes = "every minute" if timer["minutes"] == 1 else f"every {timer['minutes']} minutes"
    lines = f" after at least {count_of(timer['min_lines'], 'line')} of chat" if timer["min_lines"] else ""
    live = ", while live" if timer["only_live"] else ""
    return f"{minutes}{lines}{live}{', in one channel' if timer['entity_id'] else ''}"


def _named(db: DAL, call: ModuleCall, args: Sequence[str], what: str) -> dict[str, Any]:
    if len(args) != 1:
        raise UsageError(f"Usage: !timer {what} <name>")
    return get_timer(db, call.community.id, args[0])


def _remove(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    timer = _named(db, call, args, "remove")
    TIMERS.delete(db, timer)
    return f"Timer {timer['name']} is gone. It said “{shorten(timer['message'], 200)}”"


def _preview(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    timer = _named(db, call, args, "preview")
    texts = preview(db, call.community.id, timer["message"], timer["entity_id"])
    if not texts:
        return "No channel of this community hears announcements."
    here = next((each for each in texts if each["entity_id"] == call.entity.entity_id), texts[0])
    where = "1 channel" if len(texts) == 1 else f"{len(texts)} channels"
    return f"In {where}: {here['message']}"


def _pause(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    return _switch(db, _named(db, call, args, "pause"), is_active=False)


def _resume(db: DAL, call: ModuleCall, args: Sequence[str]) -> str:
    return _switch(db, _named(db, call, args, "resume"), is_active=True)


def _switch(db: DAL, timer: dict[str, Any], *, is_active: bool) -> str:
    if timer["is_active"] is is_active:
        return f"Timer {timer['name']} is {'on' if is_active else 'paused'} already."
    made = TIMERS.update(db, timer, {"is_active": is_active})
    again = f"Timer {made['name']} is said again, {_when(made)}."
    return again if is_active else f"Timer {made['name']} is paused. !timer resume {made['name']} has it said again."


def _list(db: DAL, call: ModuleCall, _args: Sequence[str]) -> str:
    timers = TIMERS.list_all(db, call.community.id)
    if not timers:
        return f"There are no timers here. {USAGE}"
    listed = (
        f"{each['name']} ({_when(each) if each['is_active'] else 'paused'}): {shorten(each['message'], 60)}"
        for each in timers
    )
    return shorten(" · ".join(listed), 1500)
