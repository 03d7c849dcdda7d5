"""Chat text: finding the command in it, its words, and what the bot may safely say back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .contracts import COMMAND_PREFIXES
from .errors import UsageError
from .text import BLANKS, SMART_QUOTES, SMART_SINGLE, UNSEEN, as_seen, fold
from .wire import for_chat

LEADING_DASHES = {"—": "--", "–": "-", "−": "-"}
# As a Japanese keyboard types them, and as they count.
FULLWIDTH = {"！": "!", "＃": "#"}
# A command begins with a letter or digit of any script, so that "!!!" and "# heading" stay plain chat. What nobody sees
# may stand anywhere around it.
_UNSEEN, _BLANKS = UNSEEN.pattern[1:-1], BLANKS.pattern[1:-1]
COMMAND = re.compile(
    rf"[\s{_UNSEEN}{_BLANKS}]*([!#！＃])[{_UNSEEN}]*([^\W_{_BLANKS}][^\s\"“”„!#！＃{_BLANKS}]{{0,63}})(?:[\s{_BLANKS}]+(.*))?",
    re.DOTALL,
)
# Other bots read these at the start of a line of ours as commands to them.
COMMAND_STARTS = ("!", "#", "/", ".", "！", "＃")
# Stands before them, in sight: what nobody sees is undone by whoever reads as we do.
NEUTRAL = "› "
# Mentions, commands, emotes and times, as Discord writes them.
DISCORDS_OWN = re.compile(r"<(?:[@#:/]|[at]:|id:)")
ZERO_WIDTH_SPACE = "\u200b"
# Source: https://support.discord.com/hc/en-us/articles/210298617
# Nobody mistypes a longer name by a letter or two, and comparing long names takes long.
MAX_GUESSED_CHARS = 64


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


# Each line is looked at by several, soon after one another.
@lru_cache(1_000)
def parse_command(text: str) -> CommandLine | None:
    """Find the command at the start of a chat message, or None for plain chat. Names ignore case."""
    match = COMMAND.fullmatch(text.strip())
    return CommandLine(FULLWIDTH.get(match[1], match[1]), fold(match[2]), match[3] or "") if match else None


def split_words(text: str) -> list[str]:
    """Split as a person would expect, not as a shell would.

    A quote counts only where a word begins or where it closes one, so `don't` and `6"` are words. Inside double quotes
    `\\"` is a quote. Smart quotes and leading smart dashes are read as the plain ones.
    Raises: UnbalancedQuotes.
    """
    return [word for word, _ in _read_words(text)]


def rest_after(text: str, words: int) -> str:
    """What follows the first words of a text, as it was written. Raises: UnbalancedQuotes."""
    ends = [0, *(end for _, end in _read_words(text))]
    return text[ends[words] :].strip() if words < len(ends) else ""


def quote_word(word: str) -> str:
    """Write a word so that split_words reads exactly it back."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def join_words(words: Sequence[str]) -> str:
    """Write words so that split_words reads exactly them back, with quotes only where they are needed."""
    return " ".join(quote_word(word) if _needs_quotes(word) else word for word in words)


def _needs_quotes(word: str) -> bool:
    return (
        not word
        or any(character.isspace() for character in word)
        or _plain_quote(word[0]) in ('"', "'")
        or _plain_dashes(word) != word
    )


def _read_words(text: str) -> Iterator[tuple[str, int]]:
    """Each word and where it ends. Takes time in proportion to the text, whatever is in it."""
    last_single = _last_closing_single(text)
    at, end = 0, len(text)
    while at < end:
        quote = _plain_quote(text[at])
        if text[at].isspace():
            at += 1
            continue
        if quote == '"':
            word, at = _read_double_quoted(text, at)
        elif quote == "'" and at < last_single:
            word, at = _read_single_quoted(text, at)
        else:
            start = at
            while at < end and not text[at].isspace():
                at += 1
            word = _plain_dashes(text[start:at])
        yield word, at


def _plain_quote(character: str) -> str:
    return SMART_QUOTES.get(character, SMART_SINGLE.get(character, character))


def _closes_single(text: str, at: int) -> bool:
    return _plain_quote(text[at]) == "'" and (at + 1 == len(text) or text[at + 1].isspace())


def _last_closing_single(text: str) -> int:
    """Where the last single quote is that can end 'Blue Sword'. One that begins a word after it is an apostrophe."""
    return next((at for at in range(len(text) - 1, -1, -1) if _closes_single(text, at)), -1)


def _read_single_quoted(text: str, start: int) -> tuple[str, int]:
    at = next(at for at in range(start + 1, len(text)) if _closes_single(text, at))
    return text[start + 1 : at], at + 1


def _read_double_quoted(text: str, start: int) -> tuple[str, int]:
    # A plain quote is closed by a plain one only, so that "He said “hi”" is one word; a smart one by any.
    closers = {'"'} if text[start] == '"' else {'"', *SMART_QUOTES}
    word: list[str] = []
    at = start + 1
    while at < len(text):
        character = text[at]
        if character == "\\" and at + 1 < len(text) and (text[at + 1] == "\\" or text[at + 1] in closers):
            word.append(text[at + 1])
            at += 2
        elif character in closers:
            return "".join(word), at + 1
        else:
            word.append(character)
            at += 1
    raise UnbalancedQuotes(f"The quote before “{text[start + 1 : start + 21]}” is never closed.")


def _plain_dashes(word: str) -> str:
    first = LEADING_DASHES.get(word[0])
    return first + word[1:] if first and len(word) > 1 else word


def neutralise(message: str) -> str:
    """Keep a message of ours from being a command to another bot or to the platform, whatever a viewer put into it."""
    message = for_chat(message)
    return NEUTRAL + message if as_seen(message).lstrip().startswith(COMMAND_STARTS) else message


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a mistyped one most likely means."""
    if len(name) > MAX_GUESSED_CHARS:
        return None
    short = [each for each in known if len(each) <= MAX_GUESSED_CHARS]
    matches = difflib.get_close_matches(name, short, n=1, cutoff=0.6)
    return matches[0] if matches else None


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def without_brackets(words: Sequence[str], *, free_text: bool = False) -> list[str]:
    """Words whose <brackets> or [brackets] were copied from a usage, without them: `<Blue Sword>` is one word.

    Of a free text, in which people write brackets for their own ends, only `<one> <after the other>` at its end.
    Mentions and emotes of Discord are in such brackets and stay: `<@12>`, `<#3>`, `<:duck:4>`.
    """
    plain: list[str] = []
    bare_after = seen = False
    at = 0
    while at < len(words):
        last = _closing(words, at, "<" if free_text else "<[")
        seen = seen or last is not None
        bare_after = bare_after or (seen and last is None)
        plain.append(words[at] if last is None else " ".join(words[at : last + 1])[1:-1].strip())
        at = at + 1 if last is None else last + 1
    return list(words) if free_text and bare_after else plain


def _closing(words: Sequence[str], first: int, openers: str) -> int | None:
    """Which word closes the bracket that a word opens."""
    opens = words[first][:1]
    if not opens or opens not in openers or DISCORDS_OWN.match(words[first]):
        return None
    closes = {"<": ">", "[": "]"}[opens]
    last = next((n for n in range(first, len(words)) if words[n].endswith(closes)), None)
    inside = "" if last is None else " ".join(words[first : last + 1])[1:-1].strip()
    return last if inside and opens not in inside and closes not in inside else None


def count_of(number: int, one: str, several: str | None = None) -> str:
    """`1 song`, `2 songs`; `several` where that is no plain s."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def is_prefixed(text: str) -> bool:
    return as_seen(text).lstrip().startswith((*COMMAND_PREFIXES, *FULLWIDTH))
