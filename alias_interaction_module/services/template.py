"""What an alias stands for, and what comes of it with a caller's words. Nothing in here asks anybody; variables are
`waddlebot.base.variables`.

The template is split into words before any value is put into it, and nothing is split afterwards: whatever a caller
says stays inside the word that it was put into (contracts §3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from waddlebot.base.chat import CommandLine, is_prefixed, parse_command, shorten, split_words
from waddlebot.base.contracts import MAX_MESSAGE_CHARS
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.markup import as_written
from waddlebot.base.variables import MEANINGS, OF_WORDS, MissingWord, Variable, plain, read, unknown_in

ALL_NAMES = ("args", "all_args")
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
class Values:
    """What a caller puts into a template: who they are, their words, and what was looked up for it."""

    user: str
    args: Sequence[str] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""

    def all(self) -> dict[str, str]:
        touser = self.args[0].removeprefix("@") if self.args else ""
        return {"user": self.user, "touser": touser or self.user, **self.others}


@dataclass(frozen=True, slots=True)
class Template:
    """What an alias stands for: a command line, or without one a text to say."""

    text: str
    line: CommandLine | None

    @property
    def target(self) -> str | None:
        """The name of the command that it runs."""
        return self.line.prefix + self.line.command if self.line else None

    @property
    def names(self) -> frozenset[str]:
        """The variables in it."""
        return read(self.text).names

    def expand(self, name: str, values: Values) -> Expanded | str:
        """The command to run, or the text to say, for a caller's words, which are no markup on its platform.

        Raises: MissingArgument, TooLong.
        """
        if self.line is None:
            words = [as_written(each, values.platform) for each in values.args]
            said = _Filling(self, name, words, plain(values.all(), values.platform))
            return _checked_text(said.put_into(self.text), said)
        filling = _Filling(self, name, values.args, values.all())
        filled: list[str] = []
        for word in self.line.words():
            filled += values.args if word in ALL_WORDS else [filling.put_into(word)]
        if not self.names & OF_WORDS:
            filled += values.args
        if sum(len(word) + 1 for word in filled) > MAX_EXPANDED_CHARS:
            raise TooLong(f"{name} with these words would become longer than {MAX_EXPANDED_CHARS} characters.")
        return Expanded(self.line.prefix, self.line.command, filled)

    def usage(self, name: str) -> str:
        """How to call the alias of that name: `!hug <arg1> [arg2] [words…]`."""
        last = max((int(each[3:]) for each in self.names if each[:3] == "arg" and each != "args"), default=0)
        optional = {each.name for each in read(self.text).pieces if isinstance(each, Variable) and each.parameter}
        words = [f"[{each}]" if each in optional else f"<{each}>" for each in (f"arg{n}" for n in range(1, last + 1))]
        if self.names & set(ALL_NAMES) or (self.line and not self.names & OF_WORDS):
            words.append("[words…]")
        return " ".join([name, *words])

    def unknown(self) -> list[str]:
        """What looks like a variable and is none, also since a space in it makes two words of it."""
        return [each for part in (self.line.words() if self.line else [self.text]) for each in unknown_in(part)]


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
    if read(line.command if line else head).names & MEANINGS.keys():
        raise BadTemplate(f"The name of a command cannot be filled in: “{head}”.")
    if line is None or len(line.command) > MAX_COMMAND_CHARS:
        raise BadTemplate(f"“{head}” cannot be a command, and a text cannot begin with ! or #.")
    split_words(line.rest)
    return Template(text, line)


@dataclass(frozen=True, slots=True)
class _Filling:
    """A template that is being filled in for one caller."""

    template: Template
    name: str
    args: Sequence[str]
    values: Mapping[str, str]

    def put_into(self, text: str) -> str:
        """Fill in the variables of a text, once: what is filled in is not looked at again."""
        try:
            return read(text).fill(self.values, args=self.args)
        except MissingWord as err:
            raise self.refuse(f"is missing {{{err.name}}}") from None

    def refuse(self, what: str) -> MissingArgument:
        return MissingArgument(
            f"{self.name} {what}. Usage: {self.template.usage(self.name)} – it stands for “{self.template.text}”"
        )


def _checked_text(text: str, filling: _Filling) -> str:
    if not text.strip():
        raise filling.refuse("has nothing to say without words")
    if len(text) > MAX_EXPANDED_CHARS:
        raise TooLong(f"{filling.name} with these words would become longer than {MAX_EXPANDED_CHARS} characters.")
    return text
