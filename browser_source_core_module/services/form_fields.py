"""The eleven kinds of field: how each is drawn for a viewer, and what counts as an answer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from urllib.parse import urlsplit

from waddlebot.base.contracts import FormField
from waddlebot.base.errors import UserError
from waddlebot.base.wire import for_screen

from .page_service import escape

MAX_LINE_CHARS = 500
MAX_TEXT_CHARS = 4000
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
CHOICES = ("select", "multiselect", "radio")

Answer = str | bool | float | list[str] | None


class FieldProblem(UserError):
    """Something in the form does not fit yet."""

    code = "form_invalid"


def read_answers(
    fields: Sequence[FormField], sent: Mapping[str, list[str]]
) -> tuple[dict[str, Answer], dict[str, str]]:
    """What a viewer answered, by field name, and what is wrong with it."""
    answers: dict[str, Answer] = {}
    problems: dict[str, str] = {}
    for field in fields:
        try:
            answers[field.name] = read_answer(field, [for_screen(value) for value in sent.get(field.name, [])])
        except FieldProblem as err:
            problems[field.name] = err.message
    return answers, problems


def read_answer(field: FormField, values: Sequence[str]) -> Answer:
    """Raises: FieldProblem, in words for the viewer."""
    given = [value for value in (each.strip() for each in values) if value]
    if field.type == "checkbox" and not field.options:
        if field.required and not given:
            raise FieldProblem("Please tick this.")
        return bool(given)
    if not given:
        if field.required:
            raise FieldProblem("Please fill this in.")
        return [] if field.type in ("multiselect", "checkbox") else None
    if field.type in CHOICES or field.type == "checkbox":
        return _choice(field, given)
    return READERS.get(field.type, _line)(given[0])


def _choice(field: FormField, given: list[str]) -> Answer:
    if any(value not in field.options for value in given):
        raise FieldProblem("Please choose one of the answers offered.")
    return list(dict.fromkeys(given)) if field.type in ("multiselect", "checkbox") else given[0]


def _line(text: str) -> str:
    line = " ".join(text.split())
    if len(line) > MAX_LINE_CHARS:
        raise FieldProblem(f"At most {MAX_LINE_CHARS} characters, please.")
    return line


def _text(text: str) -> str:
    if len(text) > MAX_TEXT_CHARS:
        raise FieldProblem(f"At most {MAX_TEXT_CHARS} characters, please.")
    return text.replace("\r\n", "\n")


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise FieldProblem("A number, please.")
    return number


def _email(text: str) -> str:
    if not EMAIL.fullmatch(text) or len(text) > 254:
        raise FieldProblem("An e-mail address, please.")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or len(text) > 2000 or re.search(r"\s", text):
        raise FieldProblem("A web address that begins with https://, please.")
    return text


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise FieldProblem("A date, please.") from None


def _time(text: str) -> str:
    try:
        return time.fromisoformat(text).isoformat("minutes")
    except ValueError:
        raise FieldProblem("A time such as 20:15, please.") from None


READERS: dict[str, Callable[[str], Answer]] = {
    "textarea": _text,
    "number": _number,
    "email": _email,
    "url": _url,
    "date": _date,
    "time": _time,
}


def draw(field: FormField, sent: Sequence[str], problem: str) -> str:
    """A field as HTML, with what the viewer had entered and what is wrong with it."""
    label = escape(field.label or field.name)
    name = escape(field.name)
    star = ' <abbr title="needed">*</abbr>' if field.required else ""
    error = f'<p class="error" id="{name}-error">{escape(problem)}</p>' if problem else ""
    marks = f' aria-invalid="true" aria-describedby="{name}-error"' if problem else ""
    if field.type in ("radio", "checkbox"):
        described = f' aria-describedby="{name}-error"' if problem else ""
        return f'<fieldset class="row"{described}><legend>{label}{star}</legend>{_ticks(field, sent)}{error}</fieldset>'
    control = _control(field, sent, f' id="{name}"{marks}')
    return f'<div class="row"><label for="{name}">{label}{star}</label>{control}{error}</div>'


def _ticks(field: FormField, sent: Sequence[str]) -> str:
    name = escape(field.name)
    needed = " required" if field.required and (field.type == "radio" or not field.options) else ""
    drawn = []
    for option in field.options or ["yes"]:
        checked = " checked" if option in sent else ""
        text = escape(option) if field.options else escape("Yes")
        drawn.append(
            f'<label class="choice"><input type="{field.type}" name="{name}" value="{escape(option)}"{checked}{needed}>'
            f"<span>{text}</span></label>"
        )
    return "".join(drawn)


def _control(field: FormField, sent: Sequence[str], marks: str) -> str:
    name = escape(field.name)
    needed = marks + (" required" if field.required else "")
    value = escape(sent[0]) if sent else ""
    if field.type == "textarea":
        return f'<textarea name="{name}" rows="4" maxlength="{MAX_TEXT_CHARS}"{needed}>{value}</textarea>'
    if field.type in ("select", "multiselect"):
        many = " multiple" if field.type == "multiselect" else ""
        first = "" if many else '<option value="">Choose …</option>'
        options = "".join(
            f'<option value="{escape(option)}"{" selected" if option in sent else ""}>{escape(option)}</option>'
            for option in field.options
        )
        return f'<select name="{name}"{many}{needed}>{first}{options}</select>'
    limit = (
        f' maxlength="{MAX_LINE_CHARS}"' if field.type == "text" else ' step="any"' if field.type == "number" else ""
    )
    return f'<input type="{field.type}" name="{name}" value="{value}"{limit}{needed}>'
