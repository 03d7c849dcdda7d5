"""Who may use a command or an alias, when, and how long it rests then: the same fields and the same words in chat for
both (contracts §7)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints

from .contracts import Level, LevelName
from .errors import UsageError
from .text import fold

MAX_COOLDOWN_S: Final = 86_400
Cooldown = Annotated[int, Field(ge=0, le=MAX_COOLDOWN_S)]
# As labels are kept: without regard to case and spacing.
Label = Annotated[
    str, StringConstraints(min_length=1, max_length=50), AfterValidator(lambda name: fold(" ".join(name.split())))
]
ExemptLevel = LevelName

# What is set for nothing at all.
USUAL: Final[Mapping[str, Any]] = {
    "cooldown_s": 0,
    "cooldown_person_s": 0,
    # Whom cooldowns leave alone, that level and above; None: nobody.
    "cooldown_exempt": "moderator",
    "level": "member",
    "label": None,
    "only_live": False,
}
NAMES: Final = tuple(USUAL)
# Of a command only: whose doings it is told of, by any of these labels; without one everybody's.
EVENT_LABELS: Final = "event_labels"
EventLabels = Annotated[list[Label], Field(max_length=20)]
USAGE: Final = (
    "cooldown=<seconds> person=<seconds> exempt=<level|nobody> level=<level> label=<label|none> live=<yes|no>"
)
IN_CHAT: Final = {
    "cooldown": "cooldown_s",
    "person": "cooldown_person_s",
    "exempt": "cooldown_exempt",
    "level": "level",
    "label": "label",
    "live": "only_live",
}
# A command's, which an alias does not have.
COMMAND_USAGE: Final = f"{USAGE} events=<label,label|none>"
COMMAND_IN_CHAT: Final = {**IN_CHAT, "events": EVENT_LABELS}
SECONDS = re.compile(r"(\d{1,5})\s*(s|m|h)?", re.IGNORECASE)
UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def read_terms(words: Sequence[str], usage: str, *, fields: Mapping[str, str] = IN_CHAT) -> dict[str, Any]:
    """What `cooldown=30 person=5m level=vip` says, by the names of the fields. Raises: UsageError."""
    if not words:
        raise UsageError(usage)
    terms: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        field = fields.get(name.lower())
        if field is None or not equals or not value:
            raise UsageError(f"“{word[:40]}” is not one of these. {usage}")
        terms[field] = _read(field, value, usage)
    return terms


def terms_in_words(terms: Mapping[str, Any]) -> list[str]:
    """What is set, but for what is usual: `rests 30 s for everybody`, `for vips and above`."""
    words = []
    if terms["cooldown_s"]:
        words.append(f"rests {terms['cooldown_s']} s for everybody")
    if terms["cooldown_person_s"]:
        words.append(f"rests {terms['cooldown_person_s']} s for each person")
    if words and terms["cooldown_exempt"] != USUAL["cooldown_exempt"]:
        words.append(
            f"never for {terms['cooldown_exempt']}s and above" if terms["cooldown_exempt"] else "for all alike"
        )
    if terms["level"] not in (None, USUAL["level"]):
        words.append(f"for {terms['level']}s and above")
    if terms["label"]:
        words.append(f"for everybody labelled {terms['label']}")
    if terms["only_live"]:
        words.append("only while live")
    if labels := terms.get(EVENT_LABELS):
        words.append(f"told only of what those do who are labelled {' or '.join(labels)}")
    return words


def _read(field: str, value: str, usage: str) -> Any:
    lower = value.lower()
    if field in ("cooldown_s", "cooldown_person_s"):
        found = SECONDS.fullmatch(lower)
        seconds = int(found[1]) * UNITS[found[2] or "s"] if found else MAX_COOLDOWN_S + 1
        if seconds > MAX_COOLDOWN_S:
            raise UsageError(
                f"A cooldown is 0 to {MAX_COOLDOWN_S} seconds, such as 30 or 5m, not {value[:20]}. {usage}"
            )
        return seconds
    if field == "only_live":
        if lower not in ("yes", "no"):
            raise UsageError(f"live is yes or no. {usage}")
        return lower == "yes"
    if field in ("label", EVENT_LABELS):
        labels = [] if lower == "none" else [fold(" ".join(each.split())) for each in value.split(",")]
        if any(not 1 <= len(each) <= 50 for each in labels):
            raise UsageError(f"A label has 1 to 50 characters. {usage}")
        if len(labels) > 20:
            raise UsageError(f"That are more than 20 labels. {usage}")
        return labels if field == EVENT_LABELS else fold(value) if labels else None
    if field == "cooldown_exempt" and lower == "nobody":
        return None
    if lower.upper() not in Level.__members__:
        raise UsageError(f"{value[:20]} is no level. Levels are {', '.join(each.label for each in Level)}. {usage}")
    return lower
