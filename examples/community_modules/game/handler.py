"""#game rock|paper|scissors: one round against the bot."""

from __future__ import annotations

import secrets
from typing import Any

# Each beats the next one.
HANDS = {"rock": "crushes", "scissors": "cut", "paper": "wraps"}
NAMES = list(HANDS)


def handler(event: dict[str, Any], context: Any) -> str:
    words = event["trigger"]["args"]
    theirs = words[0].casefold() if words else ""
    if theirs not in HANDS:
        return "Choose rock, paper or scissors. Try: #game rock"
    return play(theirs, secrets.choice(NAMES), event["user"]["display_name"])


def play(theirs: str, mine: str, name: str) -> str:
    if theirs == mine:
        return f"I have {mine} too, {name}. Again?"
    they_win = NAMES[(NAMES.index(theirs) + 1) % len(NAMES)] == mine
    winner, loser = (theirs, mine) if they_win else (mine, theirs)
    return f"I have {mine}: {winner} {HANDS[winner]} {loser}. {f'{name} wins!' if they_win else 'I win!'}"
