"""Data on its way in and out: JSON, what a database, a terminal or a chat cannot be given, and what is wrong."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, StringConstraints, ValidationError
from pydantic_core import ErrorDetails, from_json

from .errors import BadRequest, Invalid

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
# C0 but newline, DEL and C1, which terminals and Twitch's chat obey; embeddings, overrides and isolates, which make a
# person read something else than what is there.
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What some programs end a line at and JSON leaves as it is.
LINES = re.compile("[\u2028\u2029]")
NOT_IN_LOGS = re.compile(f"{CONTROLS.pattern}|{LINES.pattern}")


# What a pattern asks for, in words: nobody reads a regular expression off a form.
SHAPES: dict[str, str] = {}


def shaped(pattern: str, words: str, **more: Any) -> StringConstraints:
    """Constraints of a text by a pattern, with words for it that follow “has to be”."""
    SHAPES[pattern] = words
    return StringConstraints(pattern=pattern, **more)


def problem_of(error: ErrorDetails) -> str:
    """What is wrong with a value, in words."""
    if error["type"] == "string_pattern_mismatch":
        words = SHAPES.get(error.get("ctx", {}).get("pattern", ""))
        return f"Has to be {words}" if words else "Is not of the form that is asked for"
    # pydantic puts this before what a validator of ours says.
    return error["msg"].removeprefix("Value error, ")


def validate(check: Callable[[Any], Any], value: Any) -> Any:
    """Raises: Invalid, naming the first field that is wrong and listing the rest."""
    try:
        return check(value)
    except ValidationError as err:
        raise invalid(err) from err


def invalid(err: ValidationError) -> Invalid:
    problems = [
        {"field": ".".join(str(part) for part in each["loc"]) or "body", "problem": problem_of(each)}
        for each in err.errors(include_url=False, include_input=False)[:20]
    ]
    return Invalid(f"{problems[0]['field']}: {problems[0]['problem']}.", fields=problems)


def clean(value: Any) -> Any:
    """Replace NUL and lone surrogates, which PostgreSQL and UTF-8 cannot hold, by U+FFFD. Ids refuse that later."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub(REPLACEMENT, value).replace("\x00", REPLACEMENT)
    if isinstance(value, dict):
        return {clean(key): clean(each) for key, each in value.items()}
    if isinstance(value, list):
        return [clean(each) for each in value]
    return value


def for_terminal(text: str) -> str:
    """A text from anywhere as it may be printed: nothing in it moves the cursor or turns the line around."""
    return CONTROLS.sub(REPLACEMENT, text.replace("\r\n", "\n").replace("\t", "    "))


def for_chat(text: str) -> str:
    """A text as a platform's chat may be given it: without what could be a command to the platform or its apps."""
    return CONTROLS.sub("", text.replace("\r\n", "\n").replace("\t", " "))


def for_screen(text: str) -> str:
    """A text as a page may show it, where texts have a direction of their own."""
    return LINES.sub("", for_chat(text))


def for_log(text: str) -> str:
    """A text as JSON on one line, with everything escaped that is no plain character."""
    escaped = json.dumps(text, ensure_ascii=False)
    return NOT_IN_LOGS.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped)


def is_number(text: str, *, digits: int = 18) -> bool:
    """Whether a text is a number in ASCII digits. `²` and `٣` are digits to Python; 18 of them fit a bigint."""
    return text.isascii() and text.isdigit() and len(text) <= digits


def parse_json(body: bytes) -> Any:
    """Read JSON from outside, with or without a byte order mark. Raises: BadRequest."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        # Only an escape can smuggle in what clean() removes: raw NUL is not JSON, raw surrogates are not UTF-8.
        if b"\\u" not in body:
            return from_json(body, allow_inf_nan=False)
        return clean(json.loads(body.decode("utf-8"), parse_constant=_refuse_constant))
    except UnicodeDecodeError as err:
        raise BadRequest("The body is not UTF-8.") from err
    except RecursionError as err:
        raise BadRequest("The body is nested too deeply.") from err
    except ValueError as err:
        raise BadRequest(f"The body is not valid JSON: {err}.") from err


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def to_json(value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return "[" + ",".join(each.model_dump_json() for each in value) + "]"
    return json.dumps(value, default=_jsonable, separators=(",", ":"), ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
