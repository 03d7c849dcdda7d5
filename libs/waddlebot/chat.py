"""Chat text: finding the command in it, its words, and what the bot may safely say back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .contracts import COMMAND_PREFIXES
from .errors import UsageError

# Phones turn "quotes" and --dashes into these while people type.
SMART_QUOTES = {"“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "＂": '"'}
SMART_SINGLE = {"‘": "'", "’": "'", "‚": "'", "‛": "'"}
LEADING_DASHES = {"—": "--", "–": "-", "−": "-"}
# A command begins with a letter or digit of any script, so that "!!!" and "# heading" stay plain chat.
COMMAND = re.compile(r"([!#])([^\W_][^\s\"“”„!#]{0,63})(?:\s+(.*))?", re.DOTALL)
# Other bots read these at the start of a line of ours as commands to them.
COMMAND_STARTS = ("!", "#", "/", ".")
ZERO_WIDTH_SPACE = "\u200b"


class UnbalancedQuotes(UsageError):
    """A quote in that command is never closed."""

    code = "unbalanced_quotes"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`!Inventory add "Blue Sword"` → prefix `!`, command `inventory`, rest `add "Blue Sword"`."""

    prefix: str
    command: str
    rest: str

    def words(self) -> list[str]:
        """The arguments. Raises: UnbalancedQuotes."""
        return split_words(self.rest)


def parse_command(text: str) -> CommandLine | None:
    """Find the command at the start of a chat message, or None for plain chat. Names ignore case."""
    match = COMMAND.fullmatch(text.strip())
    return CommandLine(match[1], fold(match[2]), match[3] or "") if match else None


def fold(name: str) -> str:
    """A name as it is compared: straße, STRASSE and Strasse are one."""
    return name.casefold()


def split_words(text: str) -> list[str]:
    """Split as a person would expect, not as a shell would.

    A quote counts only where a word begins or where it closes one, so `don't` and `6"` are words. Inside quotes
    `\\"` is a quote. Smart quotes and leading smart dashes are read as the plain ones.
    Raises: UnbalancedQuotes.
    """
    words: list[str] = []
    at, end = 0, len(text)
    while at < end:
        if text[at].isspace():
            at += 1
        elif _plain_quote(text[at]) == '"' or _closing_single(text, at):
            word, at = _read_quoted(text, at)
            words.append(word)
        else:
            stop = at
            while stop < end and not text[stop].isspace():
                stop += 1
            words.append(_plain_dashes(text[at:stop]))
            at = stop
    return words


def quote_word(word: str) -> str:
    """Write a word so that split_words reads exactly it back."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain_quote(character: str) -> str:
    return SMART_QUOTES.get(character, SMART_SINGLE.get(character, character))


def _closing_single(text: str, at: int) -> bool:
    """Whether a single quote that begins a word is closed before another word ends, as in 'Blue Sword'."""
    return _plain_quote(text[at]) == "'" and any(
        _plain_quote(text[i]) == "'" and (i + 1 == len(text) or text[i + 1].isspace()) for i in range(at + 1, len(text))
    )


def _read_quoted(text: str, start: int) -> tuple[str, int]:
    quote = _plain_quote(text[start])
    closers = (
        {text[start]}
        if text[start] == quote
        else {c for c in (quote, *SMART_QUOTES, *SMART_SINGLE) if _plain_quote(c) == quote}
    )
    word: list[str] = []
    at = start + 1
    while at < len(text):
        character = text[at]
        if character == "\\" and at + 1 < len(text) and (text[at + 1] == "\\" or _plain_quote(text[at + 1]) == quote):
            word.append(text[at + 1])
            at += 2
        elif character in closers and (quote == '"' or at + 1 == len(text) or text[at + 1].isspace()):
            return "".join(word), at + 1
        else:
            word.append(character)
            at += 1
    raise UnbalancedQuotes(f"The quote before “{text[start + 1 : start + 21]}” is never closed.")


def _plain_dashes(word: str) -> str:
    first = LEADING_DASHES.get(word[0])
    return first + word[1:] if first and len(word) > 1 else word


def neutralise(message: str) -> str:
    """Keep a message of ours from being a command to another bot, whatever a viewer put into it."""
    return ZERO_WIDTH_SPACE + message if message.lstrip().startswith(COMMAND_STARTS) else message


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a mistyped one most likely means."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def is_prefixed(text: str) -> bool:
    return text.lstrip().startswith(COMMAND_PREFIXES)
