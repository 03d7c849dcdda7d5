"""#translate LANGUAGE TEXT: a traveller's phrasebook, longest phrase first; what it does not have stays as it is."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

with (Path(__file__).parent / "phrases.tsv").open(encoding="utf-8", newline="") as file:
    PHRASES = {row["en"]: row for row in csv.DictReader(file, delimiter="\t")}
LANGUAGES = [name for name in next(iter(PHRASES.values())) if name != "en"]
LONGEST = max(len(phrase.split()) for phrase in PHRASES)
PUNCTUATION = ".,!?;:"


def handler(event: dict[str, Any], context: Any) -> str:
    language, *words = event["trigger"]["args"] or [""]
    if language.casefold() not in LANGUAGES or not words:
        return f"Try: #translate es good morning. I have {', '.join(LANGUAGES)}."
    said, known = translate(words, language.casefold())
    return said if known else "I have none of that in my phrasebook."


def translate(words: list[str], language: str) -> tuple[str, int]:
    """The words in that language, and how many phrases were known."""
    said: list[str] = []
    known = 0
    while words:
        phrase, taken = find_phrase(words, language)
        known += phrase is not None
        said.append(phrase or words[0])
        words = words[taken:]
    text = " ".join(said)
    return text[:1].upper() + text[1:], known


def find_phrase(words: list[str], language: str) -> tuple[str | None, int]:
    """The longest known phrase that they begin with, and how many words it takes."""
    for count in range(min(LONGEST, len(words)), 0, -1):
        last = words[count - 1]
        bare = last.rstrip(PUNCTUATION)
        row = PHRASES.get(" ".join([*words[: count - 1], bare]).casefold())
        if row:
            return row[language] + last[len(bare) :], count
    return None, 1
