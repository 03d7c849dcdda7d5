"""What an alias stands for, and what comes of it with a caller's words. Nothing in here asks anybody.

The template is split into words before any value is put into it, and nothing is split afterwards: whatever a caller
says stays inside the word that it was put into (contracts §3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from waddlebot.base.chat import CommandLine, is_prefixed, parse_command, shorten, split_words
from waddlebot.base.contracts import MAX_MESSAGE_CHARS
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.markup import as_written

PLACEHOLDER = re.compile(r"\{(user|args|all_args|arg[1-9])\}")
PLACEHOLDERS = "{user} {args} {arg1} … {arg9} {all_args}"
LOOKS_LIKE_ONE = re.compile(r"\{\w{1,20}(?::[^{}]*)?\}")
ALL_WORDS = ("{args}", "{all_args}")
MAX_TEMPLATE_CHARS = 500
# A command's name has a column and a field on the wire of this size (contracts §3).
MAX_COMMAND_CHARS = 64
# An alias of an alias of an alias, each with {args} eighty times, would make gigabytes of one message.
MAX_EXPANDED_CHARS = MAX_MESSAGE_CHARS


class BadTemplate(UserError):
    """An alias needs a command or a text to stand for."""

    code = "bad_template"


class MissingArgument(UsageError):
    """That alias needs more words."""

    code = "missing_argument"


class TooLong(UserError):
    """That would become too long."""

    code = "too_long"


@dataclass(frozen=True, slots=True)
class Expanded:
    """A command, ready to run: these words are its arguments, whatever they contain."""

    prefix: str
    command: str
    args: list[str]


@dataclass(frozen=True, slots=True)
class Template:
    """What an alias stands for: a command line, or without one a text to say."""

    text: str
    line: CommandLine | None

    @property
    def target(self) -> str | None:
        """The name of the command that it runs."""
        return self.line.prefix + self.line.command if self.line else None

    def expand(self, name: str, args: Sequence[str], *, user: str, platform: str = "") -> Expanded | str:
        """The command to run, or the text to say, for a caller's words, which are no markup on its platform.

        Raises: MissingArgument, TooLong.
        """
        if self.line is None:
            shown = _Values(self, name, [as_written(each, platform) for each in args], as_written(user, platform))
            return _checked_text(shown.put_into(self.text), shown)
        values = _Values(self, name, args, user)
        words: list[str] = []
        for word in self.line.words():
            words += args if word in ALL_WORDS else [values.put_into(word)]
        if not _takes_words(self.text):
            words += args
        if sum(len(word) + 1 for word in words) > MAX_EXPANDED_CHARS:
            raise TooLong(f"{name} with these words would become longer than {MAX_EXPANDED_CHARS} characters.")
        return Expanded(self.line.prefix, self.line.command, words)

    def usage(self, name: str) -> str:
        """How to call the alias of that name: `!hug <arg1> [words…]`."""
        used = set(PLACEHOLDER.findall(self.text))
        last = max((int(each[3:]) for each in used if each.startswith("arg") and each != "args"), default=0)
        words = [f"<arg{number}>" for number in range(1, last + 1)]
        if used & {"args", "all_args"} or (self.line and not _takes_words(self.text)):
            words.append("[words…]")
        return " ".join([name, *words])

    def unknown_placeholders(self) -> list[str]:
        """What looks like a placeholder and is none."""
        return [each for each in LOOKS_LIKE_ONE.findall(self.text) if not PLACEHOLDER.fullmatch(each)]


def parse_template(text: str) -> Template:
    """Read what an alias shall stand for. What begins with ! or # is a command, everything else is said.

    Raises: BadTemplate, UnbalancedQuotes.
    """
    text = text.strip()
    if not text:
        raise BadTemplate()
    if len(text) > MAX_TEMPLATE_CHARS:
        raise BadTemplate(f"An alias can stand for {MAX_TEMPLATE_CHARS} characters; this has {len(text)}.")
    if not is_prefixed(text):
        return Template(text, None)
    head = shorten(text.split()[0], 40)
    line = parse_command(text)
    # Whoever calls the alias would choose the command, with the alias's author to blame.
    if PLACEHOLDER.search(line.command if line else head):
        raise BadTemplate(f"The name of a command cannot be filled in: “{head}”.")
    if line is None or len(line.command) > MAX_COMMAND_CHARS:
        raise BadTemplate(f"“{head}” cannot be a command, and a text cannot begin with ! or #.")
    split_words(line.rest)
    return Template(text, line)


@dataclass(frozen=True, slots=True)
class _Values:
    """What a caller puts into the placeholders of a template."""

    template: Template
    name: str
    args: Sequence[str]
    user: str

    def put_into(self, text: str) -> str:
        """Fill in the placeholders of a text, once: what is filled in is not looked at again."""
        return PLACEHOLDER.sub(self._value, text)

    def refuse(self, what: str) -> MissingArgument:
        return MissingArgument(
            f"{self.name} {what}. Usage: {self.template.usage(self.name)} – it stands for “{self.template.text}”"
        )

    def _value(self, placeholder: re.Match[str]) -> str:
        key = placeholder[1]
        if key == "user":
            return self.user
        if key in ("args", "all_args"):
            return " ".join(self.args)
        number = int(key[3:])
        if number > len(self.args):
            raise self.refuse(f"is missing {{{key}}}")
        return self.args[number - 1]


def _takes_words(text: str) -> bool:
    return any(key != "user" for key in PLACEHOLDER.findall(text))


def _checked_text(text: str, values: _Values) -> str:
    if not text.strip():
        raise values.refuse("has nothing to say without words")
    if len(text) > MAX_EXPANDED_CHARS:
        raise TooLong(f"{values.name} with these words would become longer than {MAX_EXPANDED_CHARS} characters.")
    return text
