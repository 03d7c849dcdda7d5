"""Data on its way in and out: JSON, what a database cannot hold, and what of it is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from .errors import BadRequest, Invalid

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def validate(check: Callable[[Any], Any], value: Any) -> Any:
    """Raises: Invalid, naming the first field that is wrong and listing the rest."""
    try:
        return check(value)
    except ValidationError as err:
        raise invalid(err) from err


def invalid(err: ValidationError) -> Invalid:
    problems = [
        {
            "field": ".".join(str(part) for part in each["loc"]) or "body",
            # pydantic puts this before what a validator of ours says.
            "problem": each["msg"].removeprefix("Value error, "),
        }
        for each in err.errors(include_url=False, include_context=False, include_input=False)[:20]
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


def parse_json(body: bytes) -> Any:
    """Read JSON from outside. Raises: BadRequest."""
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
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
