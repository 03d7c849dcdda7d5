"""Find which of a community's string rules a message hits, however many there are, in time linear in the message.

Only RE2 ever runs a user's pattern, never Python's `re`, so none can take exponential time (docs/adr/0010). All are
searched for in one pass over the message, by a set that may name too many of them but never too few; what it names is
then checked one by one. Most messages hit nothing and end after that pass.

- exact, contains and word compare `waddlebot.base.text.fold` of both sides: by full case folding; é is e with an accent
  after it, quotes are straight, what nobody sees is not there. With `case_sensitive` case counts; with `look_alikes`
  they compare skeletons, to which а is a.
- contains ends where a character ends, never before a mark that combines with its last one.
- ends_with is contains at the end; spaces may follow.
- word has no letter, mark, digit or underscore directly before or after it; its own ends may be anything ("c++").
- A regex is RE2's syntax, searched for in NFC, both without what nobody sees and with it. `.` is any
  character, line breaks too; `^` and `$` are the ends of the
  message; `\\w` and `\\d` are Unicode's, `\\s` and `\\b` are ASCII's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import re2
from waddlebot.base.errors import Invalid
from waddlebot.base.text import STRAIGHT, as_compared, as_seen, fold, skeleton

MatchType = Literal[
    "exact",
    "contains",
    "word",
    "regex",
    "*",
    "ends_with",
    # Filters, which the matcher leaves to `filters`.
    "caps",
    "links",
    "symbols",
    "emotes",
    "length",
    "repeats",
    "mentions",
    "zalgo",
]
EVERYTHING = "*"
MAX_PATTERN_CHARS = 2_000
# A regex costs the instructions of its program, for the worst that it can do is keep all of them busy at each byte of a
# message, for 5 to 25 ns (docs/adr/0010). Ordinary ones have 20 to 150, .{100} has 700.
MAX_COST = 5_000
MAX_TOTAL_COST = 100_000
# What all regexes may cost for one message, as cost times characters: a few seconds of one core at the very worst.
MAX_WORK = 200_000_000
# Unicode's \w takes 1 400 instructions, but only messages that are not ASCII and that nearly hit run them.
FULL_INSTRUCTIONS_PER_COST = 40
# RE2 compiles a program of at most an instruction for 64 of these bytes; the rest is for states, as messages need them.
MAX_ENGINE_BYTES = 16 << 20
# A longer text is looked for by its beginning first, which keeps the set small.
MAX_SEARCHED_CHARS = 64
# Every set has this pattern too. It always matches, so a set that names nothing has failed (docs/adr/0010).
ALWAYS = r"\A"
# Stands in a text where something can begin or end. A lone surrogate is never part of a text that we search.
EDGE = "\ud800"
MAX_REMEMBERED_CHARACTERS = 20_000


class BadPattern(Invalid):
    """That pattern cannot be used."""

    code = "bad_pattern"

    def __init__(self, reason: str, *, position: int | None = None, field: str = "string") -> None:
        place = "" if position is None else f" See character {position + 1}."
        super().__init__(reason + place, field=field, reason=reason, position=position)


@dataclass(frozen=True, slots=True)
class Pattern:
    text: str
    match_type: MatchType
    case_sensitive: bool = False
    look_alikes: bool = False

    @property
    def matches_everything(self) -> bool:
        return EVERYTHING in (self.match_type, self.text)


def check_pattern(pattern: Pattern) -> None:
    """Raises: BadPattern, with the reason and, where the engine tells it, the offset of what is wrong."""
    if pattern.matches_everything:
        return
    if len(pattern.text) > MAX_PATTERN_CHARS:
        raise BadPattern(f"A pattern has at most {MAX_PATTERN_CHARS} characters; this has {len(pattern.text)}.")
    looked_for = pattern.text if pattern.match_type == "regex" else as_seen(pattern.text)
    if not looked_for.strip():
        raise BadPattern("A pattern needs something to look for.")
    if no_text := NO_TEXT.search(pattern.text):
        raise BadPattern("NUL and half a surrogate pair are no text.", position=no_text.start())
    if pattern_cost(pattern) > MAX_COST:
        raise BadPattern(TOO_LARGE)


def check_patterns(patterns: Sequence[Pattern]) -> None:
    """Check all patterns of a community, each by itself and what they cost together. Raises: BadPattern."""
    for pattern in patterns:
        check_pattern(pattern)
    if (total := _total_cost(patterns)) > MAX_TOTAL_COST:
        raise BadPattern(
            f"The regexes of a community together cost at most {MAX_TOTAL_COST}; these cost {total}."
            " Shorten repeats such as .{100}, or use contains and word instead."
        )


class Matcher:
    """All patterns of a community, compiled. Threads may share it.

    Building takes 10 ms for an ordinary community, 2 s for 10 000 patterns, and less when their regexes are known.

    regex_reach: how many characters of a message the regexes look at, so that many or large ones cannot hold up the
    router. At least 2 000 for patterns that `check_patterns` lets pass; 40 000 for some 100 ordinary regexes.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """Raises: BadPattern for a regex that the engine refuses."""
        self.regex_reach = MAX_WORK // max(_total_cost(patterns), 1)
        searched = [each for each in enumerate(patterns) if not each[1].matches_everything]
        regexes = [each for each in searched if each[1].match_type == "regex"]
        texts = [each for each in searched if each[1].match_type != "regex"]
        alike = [each for each in texts if each[1].look_alikes]
        folded = [each for each in texts if not each[1].look_alikes and not each[1].case_sensitive]
        written = [each for each in texts if not each[1].look_alikes and each[1].case_sensitive]
        self._everything = [index for index, pattern in enumerate(patterns) if pattern.matches_everything]
        self._searched: list[_Texts | _Regexes] = []
        if alike:
            self._searched.append(_Texts(alike, skeleton))
        if folded:
            self._searched.append(_Texts(folded, fold))
        if written:
            self._searched.append(_Texts(written, as_compared))
        self._regexes = _Regexes(regexes, self.regex_reach) if regexes else None
        if self._regexes:
            self._searched.append(self._regexes)
        self._sieve = _make_sieve(texts, regexes) if len(self._searched) > 1 else None

    def match(self, text: str) -> list[int]:
        """Find all patterns that hit; their indices, ascending."""
        try:
            return self._match(text)
        except UnicodeEncodeError:
            # JSON can bring half a surrogate pair, which cannot be encoded. That is too rare to look for it each time.
            return self._match(HALF_PAIR.sub("\ufffd", text))

    def _match(self, text: str) -> list[int]:
        seen = as_seen(text)
        hits = self._match_seen(seen if seen.isascii() else _nfc(seen))
        if seen == text or self._regexes is None:
            return hits
        # Somebody may look for just what nobody sees.
        return sorted({*hits, *self._regexes.hits(_nfc(text))})

    def _match_seen(self, text: str) -> list[int]:
        hits = list(self._everything)
        if self._may_hit(text):
            for patterns in self._searched:
                hits += patterns.hits(text)
            hits.sort()
        return hits

    def _may_hit(self, text: str) -> bool:
        """Whether a closer look is due. Most messages hit nothing, and that takes one search instead of several."""
        if self._sieve is None or len(text) > self.regex_reach:
            return True
        folded = _fold_in_place(text)
        return folded is None or bool(self._sieve.search(folded.encode()))


class MatchFailed(RuntimeError):
    """A set of patterns gave up on a message, which it must not."""


class _PatternSet:
    """RE2 patterns that are searched for together, in as few sets as their size allows."""

    def __init__(self, regexes: Sequence[str]) -> None:
        self._chunks = _compile_chunks(regexes)

    def search(self, text: bytes) -> list[int]:
        """The numbers of the patterns that match."""
        found: list[int] = []
        for first, chunk in self._chunks:
            numbers = chunk.Match(text)
            # RE2 says None too when it runs out of memory, and that must never pass for "nothing found".
            if numbers is None:
                raise MatchFailed
            if len(numbers) > 1:
                found += [first + number - 1 for number in numbers if number]
        return found


def _compile_chunks(regexes: Sequence[str], first: int = 0) -> list[tuple[int, re2.Set]]:
    """Compile one set of all, or halve them until each half fits. A set that did not compile must not be searched."""
    if not regexes:
        return []
    compiled = re2.Set.SearchSet(_options())
    for regex in (ALWAYS, *regexes):
        compiled.Add(regex)
    try:
        compiled.Compile()
    except re2.error as err:
        if len(regexes) == 1:
            raise BadPattern(TOO_LARGE) from err
        half = len(regexes) // 2
        return _compile_chunks(regexes[:half], first) + _compile_chunks(regexes[half:], first + half)
    return [(first, compiled)]


def _make_sieve(texts: Sequence[tuple[int, Pattern]], regexes: Sequence[tuple[int, Pattern]]) -> _PatternSet | None:
    """What finds something in a folded text if any of the patterns hits, or None if no set could know."""
    if any(pattern.case_sensitive or CASE_SWITCH.search(pattern.text) for _, pattern in regexes):
        return None
    if any(pattern.look_alikes for _, pattern in texts):
        return None
    looked_for = [_text_regex(pattern, fold(pattern.text)) for _, pattern in texts]
    return _PatternSet(looked_for + [_wide_regex(pattern) for _, pattern in regexes])


def _fold_in_place(text: str) -> str | None:
    """The folded text if each of its characters stands for the one in its place, else None.

    Regexes that ignore case find the same there as in the text itself.
    """
    if text.isascii():
        return text.lower()
    folded = text.casefold()
    if len(folded) != len(text) or not unicodedata.is_normalized("NFC", folded):
        return None
    # To \b, ſ is no letter, but the s that it becomes is one. With iotas, fold may do more.
    if "ſ" in text or ("ι" in folded and folded != fold(text)) or text.translate(STRAIGHT) != text:
        return None
    return folded


# Exact, contains, word


@dataclass(frozen=True, slots=True)
class _Needle:
    """A text to find, as it stands in a text whose edges are marked."""

    index: int
    edged: str
    mark_edges: Callable[[str], str]
    at_the_end: bool = False

    def is_in(self, edged: str) -> bool:
        """Whether it stands in a text whose edges are marked the same way."""
        return edged.endswith(self.edged) if self.at_the_end else self.edged in edged


class _Texts:
    """The exact, contains, ends_with and word patterns that compare in one form of the text."""

    def __init__(self, patterns: Sequence[tuple[int, Pattern]], form: Callable[[str], str]) -> None:
        self._form = form
        self._exact: dict[str, list[int]] = {}
        self._needles: list[_Needle] = []
        regexes: list[str] = []
        for index, pattern in patterns:
            text = form(pattern.text)
            if pattern.match_type == "exact":
                self._exact.setdefault(text.strip(), []).append(index)
                continue
            mark_edges = _mark_word_edges if pattern.match_type == "word" else _mark_ends
            at_the_end = pattern.match_type == "ends_with"
            text = text.rstrip() if at_the_end else text
            self._needles.append(_Needle(index, mark_edges(text), mark_edges, at_the_end))
            regexes.append(_text_regex(pattern, text))
        self._set = _PatternSet(regexes)

    def hits(self, text: str) -> list[int]:
        text = self._form(text)
        hits = list(self._exact.get(text.strip(), ())) if self._exact else []
        if found := self._set.search(text.encode()):
            hits += self._check([self._needles[number] for number in found], text)
        return hits

    @staticmethod
    def _check(needles: Sequence[_Needle], text: str) -> list[int]:
        wanted = {(needle.mark_edges, needle.at_the_end) for needle in needles}
        edged = {(mark, at_end): mark(text.rstrip() if at_end else text) for mark, at_end in wanted}
        return [needle.index for needle in needles if needle.is_in(edged[needle.mark_edges, needle.at_the_end])]


def _text_regex(pattern: Pattern, text: str) -> str:
    r"""What finds an exact, contains or word pattern wherever it hits, and in some places where it does not.

    To RE2 a letter beyond ASCII is no part of a word. So where a word really ends its \b holds, or its \B if the word
    ends with a sign, and in ASCII only there.
    """
    text = text.strip() if pattern.match_type == "exact" else text
    text = text.rstrip() if pattern.match_type == "ends_with" else text
    searched = text[:MAX_SEARCHED_CHARS]
    if pattern.match_type != "word":
        return str(re2.escape(searched))
    end = _boundary(text[-1]) if searched == text else ""
    return f"{_boundary(text[0])}{re2.escape(searched)}{end}"


def _boundary(character: str) -> str:
    return r"\b" if character.isascii() and _is_word_character(character) else r"\B"


def _is_word_character(character: str) -> bool:
    return character == "_" or character.isalpha() or character.isdecimal() or _is_mark(character)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


class _Edges(dict[int, str]):
    """A table for `str.translate` that works out what becomes of a character when it first meets it."""

    def __init__(self, edged: Callable[[str], str]) -> None:
        super().__init__()
        self._edged = edged

    def __missing__(self, code: int) -> str:
        edged = self._edged(chr(code))
        if len(self) < MAX_REMEMBERED_CHARACTERS:
            self[code] = edged
        return edged


_WORD_EDGES = _Edges(lambda character: character if _is_word_character(character) else EDGE + character + EDGE)
_ENDS = _Edges(lambda character: character if _is_mark(character) else EDGE + character)


def _mark_word_edges(text: str) -> str:
    """An edge at both sides of all that is no part of a word, so that a word by itself has one at both sides too."""
    return EDGE + text.translate(_WORD_EDGES) + EDGE


def _mark_ends(text: str) -> str:
    """An edge before each character with its marks, and at the end."""
    return text.translate(_ENDS) + EDGE


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# Regexes


class _Regexes:
    def __init__(self, patterns: Sequence[tuple[int, Pattern]], reach: int) -> None:
        self._patterns = patterns
        self._reach = reach
        self._full: dict[int, Any] = {}
        self._set = _PatternSet([_wide_regex(pattern) for _, pattern in patterns])

    def hits(self, text: str) -> list[int]:
        text = text[: self._reach]
        found = self._set.search(text.encode())
        if found and not text.isascii():
            found = [number for number in found if self._search_full(number, text)]
        return [self._patterns[number][0] for number in found]

    def _search_full(self, number: int, text: str) -> bool:
        pattern = self._patterns[number][1]
        if not _has_classes(pattern):
            return True
        # Two threads may both compile it, which does no harm.
        if number not in self._full:
            self._full[number] = _compile_regex(_full_regex(pattern), pattern)
        return self._full[number].search(text) is not None


# RE2's own \w and \d are ASCII. In full, Unicode's take a thousand instructions each. So the set that all messages run
# takes every character beyond ASCII for a letter, a digit and neither: exact for ASCII, and never too narrow.
# In a negated class that has to be turned around.
WORD = r"\p{L}\p{M}_\p{Nd}"
BEYOND_ASCII = r"\x{80}-\x{10FFFF}"
# Without ſ and the Kelvin sign, which bring s and k along where case does not count.
BEYOND_ASCII_CASELESS = r"\x{80}-\x{17E}\x{180}-\x{2129}\x{212B}-\x{10FFFF}"
WIDE = {
    r"\w": f"{BEYOND_ASCII}[:word:]",
    r"\W": "[:^word:]",
    r"\d": f"{BEYOND_ASCII_CASELESS}[:digit:]",
    r"\D": "[:^digit:]",
}
NARROW = {
    r"\w": "[:word:]",
    r"\W": r"\x00-/:-@\[-^`{-\x7F",
    r"\d": "[:digit:]",
    r"\D": r"\x00-/:-\x7F",
}
OUTSIDE_A_CLASS = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?|[^\\\[]+", re.DOTALL)
INSIDE_A_CLASS = re.compile(r"\[:\^?[a-z]+:\]|\\.|\]|\[|[^\\\[\]]+", re.DOTALL)
# Inside a regex, (?-i) makes case count.
CASE_SWITCH = re.compile(r"\(\?[A-Za-z]*-[A-Za-z]*i")
HALF_PAIR = re.compile("[\ud800-\udfff]")
NO_TEXT = re.compile("[\0\ud800-\udfff]")


def _plain_regex(pattern: Pattern) -> str:
    """A user's regex, with RE2's own meaning of classes."""
    return ("" if pattern.case_sensitive else "(?i)") + _nfc(pattern.text)


def _wide_regex(pattern: Pattern) -> str:
    """A regex that finds all that a user's does, and in ASCII nothing else."""
    return _replace_classes(_plain_regex(pattern), lambda name, negated: (NARROW if negated else WIDE)[name])


def _has_classes(pattern: Pattern) -> bool:
    return _wide_regex(pattern) != _plain_regex(pattern)


def _full_regex(pattern: Pattern) -> str:
    r"""A user's regex with Unicode's \w and \d in RE2's terms."""
    return _replace_classes(_plain_regex(pattern), lambda name, _: _full_class(name))


def _full_class(name: str) -> str:
    if name == r"\W":
        return _no_word_characters()
    return {r"\w": WORD, r"\d": r"\p{Nd}", r"\D": r"\P{Nd}"}[name]


@cache
def _no_word_characters() -> str:
    r"""The ranges of all that is not \w, because RE2 cannot say that inside a class. They follow RE2's own tables."""
    outside = re2.compile(f"[^{WORD}]+", _options())
    everything = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    runs = (match[0] for match in outside.finditer(everything))
    return "".join(rf"\x{{{ord(run[0]):X}}}-\x{{{ord(run[-1]):X}}}" for run in runs)


def _replace_classes(regex: str, meaning: Callable[[str, bool], str]) -> str:
    r"""Write \w, \W, \d and \D of a valid regex as what they mean inside a class, which may be a negated one."""
    pieces: list[str] = []
    at, opened = 0, ""
    while token := (INSIDE_A_CLASS if opened else OUTSIDE_A_CLASS).match(regex, at):
        at, piece = token.end(), token[0]
        if piece in WIDE:
            members = meaning(piece, opened.startswith("[^"))
            pieces.append(members if opened else f"[{members}]")
            continue
        if not opened and piece.startswith("["):
            opened = piece
        elif opened and piece == "]":
            opened = ""
        pieces.append(piece)
    return "".join(pieces)


# The engine


TOO_LARGE = "This regex is too large to be run for every message. Shorten its repeats."
LINEAR = "The engine takes linear time whatever the regex, so it has no look-around, back-references or conditions."
# RE2's words for what is wrong, in the form "words: piece of the pattern".
REASONS = {
    "invalid perl operator": f"“{{piece}}” is not supported. {LINEAR}",
    "invalid named capture group": "“{piece}” does not name a group as (?P<name>…) does.",
    "missing )": "A ( is never closed.",
    "unexpected )": "A ) closes nothing.",
    "missing ]": "The [ of “{piece}” is never closed.",
    "invalid character class range": "“{piece}” is not a class or range of characters.",
    "no argument for repetition operator": "“{piece}” has nothing before it to repeat.",
    "bad repetition operator": "“{piece}” repeats a repeat.",
    "invalid repetition size": "“{piece}” is more than 1000 repeats; those within others count multiplied.",
    "invalid escape sequence": "“{piece}” has no meaning.",
    "trailing \\": "A \\ ends the pattern.",
    "pattern too large - compile failed": TOO_LARGE,
}
# Of these RE2 names the whole pattern, which is no place.
PLACELESS = ("missing )", "unexpected )")
BACK_REFERENCE = re.compile(r"\\[1-9k]|\(\?P=")


def pattern_cost(pattern: Pattern) -> int:
    """What a pattern adds to the work for a message, in instructions; only regexes count. Raises: BadPattern."""
    return 0 if pattern.match_type != "regex" or pattern.matches_everything else _regex_cost(pattern)


# A save checks all of a community's regexes and builds a matcher of them, all but one the same as before.
@lru_cache(maxsize=4_000)
def _regex_cost(pattern: Pattern) -> int:
    _compile_regex(_plain_regex(pattern), pattern)
    size: int = _compile_regex(_wide_regex(pattern), pattern).programsize
    if _has_classes(pattern):
        size += _compile_regex(_full_regex(pattern), pattern).programsize // FULL_INSTRUCTIONS_PER_COST
    return size


def _total_cost(patterns: Sequence[Pattern]) -> int:
    return sum(pattern_cost(pattern) for pattern in patterns)


def _compile_regex(regex: str, pattern: Pattern) -> Any:
    """An RE2 regex. Raises: BadPattern, in terms of the user's pattern."""
    try:
        return re2.compile(regex, _options())
    except re2.error as err:
        raise _explain(err.args[0].decode(errors="replace"), pattern.text) from err
    finally:
        # Else re2 would keep the last 128 of them, each with megabytes of its own.
        re2.purge()


def _explain(problem: str, pattern: str) -> BadPattern:
    words, _, piece = problem.partition(": ")
    if piece == "(?P" and "(?P=" in pattern:
        piece = "(?P="
    at = pattern.find(piece) if piece and words not in PLACELESS else -1
    position = at if at >= 0 else None
    if position is not None and (reference := BACK_REFERENCE.match(pattern, position)):
        return BadPattern(f"“{reference[0]}” is not supported. {LINEAR}", position=position)
    return BadPattern(REASONS.get(words, problem).format(piece=piece), position=position)


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = MAX_ENGINE_BYTES
    options.log_errors = False
    options.never_capture = True
    options.dot_nl = True
    return options
