"""What a community may set for a module, and what it may give it: the specs in manifests, and what fits them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from .errors import Invalid

SpecName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
MAX_TEXT_CHARS = 2_000
MAX_SECRET_CHARS = 4_096
MAX_ENTRIES = 200
MAX_CONFIG_CHARS = 16_384
# What stands for a secret wherever one is shown; sent back, it leaves the secret as it is.
HIDDEN = "•"


class SettingSpec(BaseModel):
    """One setting. `min` and `max` bound numbers, a map's numbers, the length of a text or the entries of a list;
    without a default it is null until it is set."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: SpecName
    type: Literal["bool", "int", "float", "text", "choice", "list", "map", "secret"]
    default: Any = None
    min: float | None = None
    max: float | None = None
    choices: list[str] = Field(default_factory=list, max_length=MAX_ENTRIES)
    description: Annotated[str, StringConstraints(max_length=500)] = ""

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        if self.type == "choice" and not self.choices:
            raise ValueError("a choice needs choices")
        if self.type == "secret" and self.default is not None:
            raise ValueError("a secret has no default")
        if self.default is not None and (problem := self.find_problem(self.default)):
            raise ValueError(f"the default {problem}")
        return self

    def find_problem(self, value: Any) -> str | None:
        """What keeps a value from being this setting's, in words."""
        return _CHECKS[self.type](self, value)


class CredentialSpec(BaseModel):
    """What a module wants of a community at another service: secrets with these fields, all of them; without fields a
    token, which the module gets by a consent of its own."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    provider: SpecName
    fields: list[SpecName] = Field(default_factory=list, max_length=10)
    why: Annotated[str, StringConstraints(max_length=500)] = ""


def defaults_of(specs: Sequence[SettingSpec]) -> dict[str, Any]:
    """Every setting's default, secrets left out."""
    return {spec.name: spec.default for spec in specs if spec.type != "secret"}


def check_config(specs: Sequence[SettingSpec] | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """A module's config without what is null; anything goes where the module has no specs.

    Raises: Invalid, naming every field that is unknown or does not fit.
    """
    given = {name: value for name, value in config.items() if value is not None}
    if len(json.dumps(given)) > MAX_CONFIG_CHARS:
        raise Invalid(f"config has more than {MAX_CONFIG_CHARS} characters of JSON.", field="config")
    if specs is None:
        return given
    by_name = {spec.name: spec for spec in specs}
    given = {name: _whole(by_name[name], value) if name in by_name else value for name, value in given.items()}
    problems = [
        {"field": f"config.{name[:64]}", "problem": problem}
        for name, value in given.items()
        if (problem := by_name[name].find_problem(value) if name in by_name else _unknown(by_name))
    ]
    if problems:
        first = problems[0]
        raise Invalid(f"{first['field']} {first['problem']}.", field=first["field"], fields=problems)
    return given


def _whole(spec: SettingSpec, value: Any) -> Any:
    """JSON has one kind of number: some programs write 2 as 2.0."""
    return int(value) if spec.type == "int" and isinstance(value, float) and value.is_integer() else value


def fitting(specs: Sequence[SettingSpec] | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stored config still fits; a module may have changed its specs since."""
    if specs is None:
        return dict(config)
    by_name = {spec.name: spec for spec in specs}
    return {
        name: value for name, value in config.items() if name in by_name and by_name[name].find_problem(value) is None
    }


def check_secrets(fields: Sequence[str], secrets: Mapping[str, str]) -> None:
    """Raises: Invalid unless these are all of the fields, and none of them is an address."""
    for name in secrets.keys() | set(fields):
        problem = None
        if name not in fields:
            problem = f"is not known; it takes {', '.join(fields)}"
        elif not (value := secrets.get(name, "").strip()):
            problem = "is missing"
        elif "://" in value:
            # Where a provider is comes from the operator alone: else a community could have its modules call anything.
            problem = "must not be an address"
        if problem:
            raise Invalid(f"secrets.{name[:64]} {problem}.", field=f"secrets.{name[:64]}")


def _unknown(known: Mapping[str, SettingSpec]) -> str:
    return f"is not a setting of this module; it has {', '.join(known) or 'none'}"


def _bounded(spec: SettingSpec, number: float, what: str = "") -> str | None:
    if spec.min is not None and number < spec.min:
        return f"must be at least {spec.min:g}{what}"
    if spec.max is not None and number > spec.max:
        return f"must be at most {spec.max:g}{what}"
    return None


def _check_bool(_: SettingSpec, value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _check_int(spec: SettingSpec, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**53:
        return "must be a whole number"
    return _bounded(spec, value)


def _check_float(spec: SettingSpec, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "must be a number"
    return _bounded(spec, value)


def _check_text(spec: SettingSpec, value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a text"
    if len(value) > MAX_TEXT_CHARS:
        return f"must be at most {MAX_TEXT_CHARS} characters"
    return _bounded(spec, len(value), " characters")


def _check_choice(spec: SettingSpec, value: Any) -> str | None:
    return None if value in spec.choices else f"must be one of {', '.join(spec.choices)}"


def _check_list(spec: SettingSpec, value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return "must be a list of texts"
    if len(value) > MAX_ENTRIES:
        return f"must be at most {MAX_ENTRIES} entries"
    if any(len(each) > MAX_TEXT_CHARS for each in value):
        return f"must have entries of at most {MAX_TEXT_CHARS} characters"
    if spec.choices and not set(value) <= set(spec.choices):
        return f"may only have {', '.join(spec.choices)}"
    return _bounded(spec, len(value), " entries")


def _check_map(spec: SettingSpec, value: Any) -> str | None:
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        return f"must be an object of at most {MAX_ENTRIES} names and numbers"
    for name, number in value.items():
        # `twitch.follow` is what `follow` is on Twitch.
        if spec.choices and name.rpartition(".")[2] not in spec.choices:
            return f"may not have {name[:64]}; known are {', '.join(spec.choices)}"
        if problem := _check_float(spec, number):
            return f"has {name[:64]}, which {problem}"
    return None


def _check_secret(_: SettingSpec, value: Any) -> str | None:
    if isinstance(value, str) and len(value) <= MAX_SECRET_CHARS:
        return None
    return f"must be a text of at most {MAX_SECRET_CHARS} characters"


_CHECKS: dict[str, Callable[[SettingSpec, Any], str | None]] = {
    "bool": _check_bool,
    "int": _check_int,
    "float": _check_float,
    "text": _check_text,
    "choice": _check_choice,
    "list": _check_list,
    "map": _check_map,
    "secret": _check_secret,
}
