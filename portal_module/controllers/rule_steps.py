"""The rows of a rule's form that say what is done when somebody does it again (contracts: `escalation[]`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydal.validators import IS_EMPTY_OR, IS_IN_SET, IS_INT_IN_RANGE, Validator
from waddlebot.web.forms import Field

DONE = (("warn", "warn"), ("delete", "delete"), ("timeout", "time out"), ("ban", "ban"))
UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
LASTING = re.compile(r"(\d{1,7})\s*([smhd]?)", re.IGNORECASE)
# What is meant when nothing is said.
WITHIN, LASTS = "1d", "10m"
MAX_WITHIN_S, MAX_TIMEOUT_S = 30 * 86_400, 14 * 86_400
MOST, SHOWN = 10, 3


class Lasting(Validator):  # type: ignore[misc]
    """A time such as 90s, 10m, 2h or 1d."""

    def __init__(self, most_s: int) -> None:
        self._most_s = most_s

    def validate(self, value: Any, record_id: Any = None) -> str:  # noqa: ARG002 - PyDAL's
        if not 1 <= _seconds(str(value)) <= self._most_s:
            self.translator(f"Such as 90s, 10m, 2h or 1d; {self._most_s // UNITS['d']}d at most.")
        return str(value)


def rows_of(steps: Sequence[Mapping[str, Any]]) -> range:
    """By number: those that are there, and at least one more while there may be."""
    return range(min(MOST, max(SHOWN, len(steps) + 1)))


def step_fields(steps: Sequence[Mapping[str, Any]]) -> list[Field]:
    return [field for row in rows_of(steps) for field in _fields(row, steps[row] if row < len(steps) else {})]


def read_steps(form: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As the API takes them. A row that does not say from which time on is none."""
    steps = []
    for row in range(MOST):
        after, within, action, lasts = (form.get(f"step{row}_{name}") for name in ("after", "within", "action", "for"))
        if after:
            step = {"after": int(after), "within_s": _seconds(within or WITHIN), "action": action}
            steps.append(step | ({"duration_s": _seconds(lasts or LASTS)} if action == "timeout" else {}))
    return steps


def _fields(row: int, step: Mapping[str, Any]) -> list[Field]:
    again = f", step {row + 1}"
    times = IS_INT_IN_RANGE(1, 1001, error_message="A number from 1 to 1000.")
    return [
        Field(
            f"step{row}_after",
            "integer",
            label="Time" + again,
            default=step.get("after"),
            requires=IS_EMPTY_OR(times),
            control={"_placeholder": "2"},
        ),
        Field(
            f"step{row}_within",
            label="Within" + again,
            default=_lasting(step.get("within_s")),
            requires=IS_EMPTY_OR(Lasting(MAX_WITHIN_S)),
            control={"_placeholder": WITHIN},
        ),
        Field(
            f"step{row}_action",
            label="Then" + again,
            default=step.get("action", "timeout"),
            requires=IS_IN_SET(DONE, zero=None),
        ),
        Field(
            f"step{row}_for",
            label="For" + again,
            default=_lasting(step.get("duration_s")),
            requires=IS_EMPTY_OR(Lasting(MAX_TIMEOUT_S)),
            control={"_placeholder": LASTS},
        ),
    ]


def _seconds(text: str) -> int:
    """0 for what is no time."""
    found = LASTING.fullmatch(text.strip())
    return int(found[1]) * UNITS[found[2].lower() or "s"] if found else 0


def _lasting(seconds: int | None) -> str:
    if not seconds:
        return ""
    unit = next(name for name, size in UNITS.items() if seconds % size == 0)
    return f"{seconds // UNITS[unit]}{unit}"
