"""#quote: a list of quotes for each community, ten of them under each key of state."""

from __future__ import annotations

import secrets
from typing import Any

PER_KEY = 10
MAX_QUOTES = 900
MAX_CHARS = 200


def handler(event: dict[str, Any], context: Any) -> str:
    words = event["trigger"]["args"]
    # Where a community has it answer to ! as well, what is to be typed is what was.
    name = "!quote" if event["trigger"].get("raw", "").lower().startswith("!quote") else "#quote"
    kept = Quotes(context.state, name)
    match words:
        case []:
            return kept.say_any()
        case ["add", _, *_]:
            return kept.add(" ".join(words[1:])[:MAX_CHARS])
        case ["delete", number] if number.isdecimal():
            return kept.delete(int(number))
        case [number] if number.isdecimal():
            return kept.say(int(number))
    return f"Try: {name}, {name} 3, {name} add TEXT or {name} delete 3"


class Quotes:
    """Quotes by number, from 1. A number is never given twice, so what was deleted leaves a gap."""

    def __init__(self, state: Any, name: str) -> None:
        self._state = state
        self._name = name
        self.count: int = state.get("count", 0)

    def say_any(self) -> str:
        """One that is still there: of a key by chance, and where all of that are gone, of the next one."""
        pages = -(-self.count // PER_KEY)
        first = secrets.randbelow(self.count) // PER_KEY if pages else 0
        for page in ((first + n) % pages for n in range(pages)):
            texts = self._page(page * PER_KEY + 1)
            there = [page * PER_KEY + n for n, text in enumerate(texts, start=1) if text]
            if there:
                return self.say(secrets.choice(there))
        return f"There are none yet. Try: {self._name} add TEXT"

    def say(self, number: int) -> str:
        text = self._page(number)[(number - 1) % PER_KEY] if 0 < number <= self.count else None
        return f"Quote {number}: {text}" if text else f"There is no quote {number}."

    def add(self, text: str) -> str:
        if self.count >= MAX_QUOTES:
            return f"{MAX_QUOTES} quotes are all that I can keep."
        number = self.count + 1
        page = self._page(number) if self.count % PER_KEY else []
        self._state.put(self._key(number), [*page, text])
        self._state.put("count", number)
        return f"Kept as quote {number}."

    def delete(self, number: int) -> str:
        if not 0 < number <= self.count:
            return f"There is no quote {number}."
        page = self._page(number)
        page[(number - 1) % PER_KEY] = ""
        self._state.put(self._key(number), page)
        return f"Quote {number} is forgotten."

    def _page(self, number: int) -> list[str]:
        return list(self._state.get(self._key(number), [""] * PER_KEY))

    @staticmethod
    def _key(number: int) -> str:
        return f"quotes-{(number - 1) // PER_KEY}"
