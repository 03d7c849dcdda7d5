"""A text as its reader takes it (contracts §7): what nobody sees, and which quotes somebody's phone types, makes no
difference when texts or names are compared. What is stored or said stays as it was written."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from functools import cache
from importlib.resources import files

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 16.0) without the Hangul fillers, which take up
# room; and control characters that are no white space.
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# These look like spaces and are none to Python.
BLANKS = re.compile("[\u115f\u1160\u2800\u3164\uffa0]")
# Phones turn "quotes" into these while people type.
SMART_QUOTES = {"“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "＂": '"'}
SMART_SINGLE = {"‘": "'", "’": "'", "‚": "'", "‛": "'", "＇": "'", "ʼ": "'", "´": "'"}
STRAIGHT = str.maketrans(SMART_QUOTES | SMART_SINGLE)
DIGITS = str.maketrans("01|", "oll")
PAIRS = (("rn", "m"), ("vv", "w"))
LETTERS = frozenset(string.ascii_letters)
MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u20d0-\u20ff]")


def as_seen(text: str) -> str:
    """A text without what its reader does not see: `bad\\u200bword` is `badword`, a braille blank is a space."""
    if text.isascii() and text.isprintable():
        return text
    return BLANKS.sub(" ", UNSEEN.sub("", text))


def as_compared(text: str) -> str:
    """The same with straight quotes, in Unicode's composed form: what two texts that look the same have in common."""
    text = as_seen(text)
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(STRAIGHT))


def fold(name: str) -> str:
    """A name as it is compared: straße, STRASSE and Strasse are one, and so are é and e with an accent after it."""
    name = as_compared(name)
    if name.isascii():
        return name.lower()
    folded = name.casefold()
    # Source: Unicode 3.13, D145, canonical caseless matching. That decomposes first, for the sake of the iota subscript
    # alone, which folds to an iota. Without one that can be left out; with some scripts it takes most of the time.
    if "ι" in folded:
        folded = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", folded)


def skeleton(text: str) -> str:
    """What look-alikes have in common: `bаdword` with a Cyrillic а, fullwidth and in letters of mathematics.

    Two texts whose skeletons are the same can be taken for each other; digits stand for no letters, and accents
    are left out.
    Source: Unicode's confusables (UTS 39), from the package confusable-homoglyphs.
    """
    if text.isascii():
        return fold(text)
    bare = MARKS.sub("", unicodedata.normalize("NFKD", as_seen(text)))
    # Before the case is folded, since В is taken for B and в is not; and after it, for what only looks alike in small.
    return fold(fold(bare.translate(_look_alikes())).translate(_look_alikes()))


def at_a_glance(name: str) -> str:
    """What a name is read as at a glance: its skeleton, with 0 for o and 1 for l, and rn for m."""
    read = skeleton(name).translate(DIGITS)
    for pair, single in PAIRS:
        read = read.replace(pair, single)
    return read


@cache
def _look_alikes() -> dict[int, str]:
    """For each character beyond ASCII the letter of ASCII that it can be taken for. Read once: 0.9 MB of JSON."""
    data = json.loads(files("confusable_homoglyphs").joinpath("confusables.json").read_text())
    beyond = (each for each in data.items() if len(each[0]) == 1 and not each[0].isascii())
    letters = ((character, LETTERS.intersection(each["c"] for each in others)) for character, others in beyond)
    return {ord(character): min(plain) for character, plain in letters if plain}
