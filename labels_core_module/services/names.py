"""What a label may be called, and which names look alike."""

from __future__ import annotations

import unicodedata

from waddlebot.base.errors import Invalid
from waddlebot.base.text import as_seen, fold

MAX_CHARS = 50
PUNCTUATION = frozenset(" -_.")
# It only makes Arabic letters wider.
TATWEEL = "\u0640"
# Scripts that one word may well have together; of any others only one.
TOGETHER = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "LATIN"})


class BadLabel(Invalid):
    """A label is a name of up to 50 letters, digits, spaces, and - _ . between them."""

    code = "bad_label"


def check_label(text: str) -> str:
    """A label's name as it is kept and compared: without regard to case or form. Raises: BadLabel."""
    text = " ".join(text.split())
    if unseen := next(filter(_is_invisible, text), None):
        raise BadLabel(f"A label may not have what nobody sees (U+{ord(unseen):04X}) in it.", field="label")
    name = fold(unicodedata.normalize("NFKC", text)).replace(TATWEEL, "")
    name = "".join("-" if unicodedata.category(each) == "Pd" else each for each in name)
    if not name or len(name) > MAX_CHARS:
        raise BadLabel(f"A label has 1 to {MAX_CHARS} characters.", field="label")
    for each in name:
        if not (each.isalnum() or each in PUNCTUATION or unicodedata.category(each)[0] == "M"):
            raise BadLabel(f"A label has letters, digits, spaces, and - _ . in it, not {each!r}.", field="label")
    if not any(each.isalnum() for each in name):
        raise BadLabel("A label needs a letter or a digit.", field="label")
    scripts = {unicodedata.name(each, "?").split()[0] for each in name if each.isalpha()}
    if len(scripts) > 1 and not scripts <= TOGETHER:
        raise BadLabel("A label may not mix alphabets: it could be taken for another one.", field="label")
    return name


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character)[0] == "C" or as_seen(character) != character
