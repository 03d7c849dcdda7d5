"""#giveaway: one at a time in each community. Who joined is kept in pages, so that thousands fit into state."""

from __future__ import annotations

import secrets
from typing import Any

PAGES = 90
PER_PAGE = 60
MAX_NAME_CHARS = 40


def handler(event: dict[str, Any], context: Any) -> str:
    words = event["trigger"]["args"]
    # Where a community has it answer to ! as well, what is to be typed is what was.
    name = "!giveaway" if event["trigger"].get("raw", "").lower().startswith("!giveaway") else "#giveaway"
    state, user = context.state, event["user"]
    prize = state.get("prize")
    match words:
        case ["start", _, *_]:
            return start(state, " ".join(words[1:])[:200], prize, name)
        case _ if prize is None:
            return f"Nothing is given away just now. A moderator can: {name} start PRIZE"
        case []:
            return f"To be won: {prize}. {count(state)} joined. Join with {name} join"
        case ["join"]:
            return join(state, user["id"], user["display_name"][:MAX_NAME_CHARS], prize)
        case ["draw"]:
            return draw(state, prize)
        case ["cancel"]:
            forget(state)
            return f"{prize} is not given away after all."
    return f"Try: {name}, {name} join, {name} start PRIZE, {name} draw or {name} cancel"


def start(state: Any, prize: str, running: str | None, name: str) -> str:
    if running is not None:
        return f"{running} is still to be won. Draw or cancel first."
    state.put("prize", prize)
    return f"To be won: {prize}! Join with {name} join"


def join(state: Any, person: int, name: str, prize: str) -> str:
    key = f"page-{person % PAGES}"
    page = state.get(key, {})
    if str(person) in page:
        return f"You are in already, {name}."
    if len(page) >= PER_PAGE:
        return "So many joined that there is no more room."
    state.put(key, {**page, str(person): name})
    return f"Good luck, {name}! You may win {prize}."


def draw(state: Any, prize: str) -> str:
    """Who won is out, so that another draw finds another winner."""
    people = [(n, person, name) for n in range(PAGES) for person, name in state.get(f"page-{n}", {}).items()]
    if not people:
        forget(state)
        return f"Nobody is left to win {prize}."
    n, person, name = secrets.choice(people)
    page = state.get(f"page-{n}", {})
    page.pop(person)
    state.put(f"page-{n}", page)
    return f"{name} wins {prize}! Draw again for another winner, or cancel."


def count(state: Any) -> int:
    return sum(len(state.get(f"page-{n}", {})) for n in range(PAGES))


def forget(state: Any) -> None:
    for n in range(PAGES):
        state.delete(f"page-{n}")
    state.delete("prize")
