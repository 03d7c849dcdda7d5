"""The words of a line that are for a module alone, and for no record: the arguments that its manifest marks `secret`,
also where the line was mistyped (contracts §6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import pairwise
from typing import Any

from .chat import CommandLine, UnbalancedQuotes, closest, split_words
from .contracts import CommandSpec, SubcommandSpec
from .module_settings import HIDDEN
from .text import SMART_QUOTES, SMART_SINGLE, fold

# What may stand around a word without being part of it.
AROUND = "".join({*SMART_QUOTES, *SMART_SINGLE, *"\"'<>[]"})


@dataclass(frozen=True, slots=True)
class Form:
    """A command, or one subcommand of it, with secret arguments."""

    name: str
    subcommand: str | None
    usage: tuple[str, ...]
    secret: frozenset[str]

    @property
    def literals(self) -> frozenset[str]:
        """The words of the usage that are typed as they stand there."""
        return frozenset(fold(part) for each in self.usage if each[0] not in "<[" for part in each.split("|"))

    @property
    def phrase(self) -> list[str]:
        """The words with which a line of it begins."""
        end = next((n for n, each in enumerate(self.usage) if each[0] in "<["), len(self.usage))
        return [*filter(None, (self.name, self.subcommand)), *map(fold, self.usage[:end])]

    def secrets_in(self, words: Sequence[str]) -> Iterator[str]:
        """The secret words of a line that fits, else all but those of the usage."""
        if len(words) == len(self.usage) and all(
            each[0] in "<[" or fold(word) in each.split("|") for each, word in zip(self.usage, words, strict=True)
        ):
            yield from (word for each, word in zip(self.usage, words, strict=True) if each[1:-1] in self.secret)
        else:
            yield from (word for word in words if fold(word) not in self.literals)


class Secrets:
    """Finds the secret words of a line, by the commands that are known where it is said."""

    def __init__(self, specs: Iterable[CommandSpec]) -> None:
        self._forms: dict[str, list[Form]] = {}
        self._subcommands: dict[str, set[str]] = {}
        for spec in specs:
            forms: list[tuple[str | None, CommandSpec | SubcommandSpec]] = [(None, spec)]
            forms += [(each.name, each) for each in spec.subcommands]
            for subcommand, said in forms:
                if said.secret:
                    form = Form(spec.command, subcommand, tuple(said.usage.split()), frozenset(said.secret))
                    self._forms.setdefault(spec.command, []).append(form)
                    self._subcommands.setdefault(spec.command, set()).update(each.name for each in spec.subcommands)
        self._names = tuple(self._forms)
        said_so = {pair for forms in self._forms.values() for form in forms for pair in pairwise(form.phrase)}
        # Where it stands in the middle of a line, or without its sign.
        self._said_so = (
            re.compile("|".join(rf"\b{re.escape(a)}\s+{re.escape(b)}\b" for a, b in sorted(said_so)), re.IGNORECASE)
            if said_so
            else None
        )

    def __bool__(self) -> bool:
        return bool(self._forms)

    def find(self, message: str, line: CommandLine | None, runs: Sequence[str]) -> tuple[str, ...]:
        """The words of a message that no record may have, the longest first.

        `runs` is the command that its line asks for, and of an alias its first word; empty for one that nobody knows.
        """
        name = fold(runs[0][1:]) if runs else line and _meant(line.command, self._names)
        found: list[str] = []
        if line and name in self._forms:
            given = list(runs[1:])
            found = [each for words in _ways_to_split(line.rest) for each in self._of_command(name, [*given, *words])]
        elif self._said_so and (begins := self._said_so.search(message)):
            literals = {word for forms in self._forms.values() for form in forms for word in _known(form)}
            words = (word for words in _ways_to_split(message[begins.end() :]) for word in words)
            found = [word for word in words if fold(word) not in literals]
        bare = {each.strip(AROUND) for each in found}
        return tuple(sorted(bare - {""}, key=len, reverse=True))

    def _of_command(self, name: str, words: Sequence[str]) -> Iterator[str]:
        forms = self._forms[name]
        known = self._subcommands[name]
        typed = fold(words[0]) if words and known else ""
        subcommand = typed if typed in known else closest(typed, known)
        if not known or subcommand:
            for form in forms:
                if form.subcommand == (subcommand if known else None):
                    yield from form.secrets_in(words[1:] if known else words)
            return
        literals = {word for form in forms for word in _known(form)}
        yield from (word for word in words if fold(word) not in literals)


# The same unknown names are typed again and again: a community's own commands are among them.
@lru_cache(1_000)
def _meant(name: str, known: tuple[str, ...]) -> str | None:
    return closest(name, known)


def without(said: Any, secrets: Sequence[str]) -> Any:
    """A text, or anything that JSON can hold, without these words."""
    if not secrets:
        return said
    if isinstance(said, str):
        return _pattern(tuple(secrets)).sub(HIDDEN, said)
    if isinstance(said, dict):
        return {name: without(each, secrets) for name, each in said.items()}
    if isinstance(said, list | tuple):
        return [without(each, secrets) for each in said]
    return said


@lru_cache(maxsize=64)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    # Slack writes & < > as in HTML.
    spelled = dict.fromkeys(way for each in secrets for way in (each, escape(each, quote=False)))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, spelled))})(?!\w)")


def _known(form: Form) -> Iterator[str]:
    yield from (form.name, form.subcommand or "", *form.literals)


def _ways_to_split(text: str) -> list[list[str]]:
    """A text's words between blanks, and as a module gets them."""
    bare = text.split()
    try:
        return [bare, split_words(text)]
    except UnbalancedQuotes:
        return [bare]
