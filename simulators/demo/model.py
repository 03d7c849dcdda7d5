"""The model that the demo's AI asks: it answers what people try, and says what it is."""

from __future__ import annotations

import re
from typing import Any

from ..openai import OpenAISimulator

# Counted from the demo's page, behind the platforms.
PORT = 5
QUOTED = re.compile(r"<chat[^>]*>(.*)</chat>", re.DOTALL)
ANSWERS = {
    "hello": "Hello! I am a simulated model, so I know little. Ask me why ducks float.",
    "why": "Because nobody told them that they could not.",
    "who": "A model that is only simulated. With OPENAI_API_KEY or AI_HOST a real one answers here.",
}


def make_model(page_port: int) -> OpenAISimulator:
    """A simulated OpenAI, not started yet."""
    made = OpenAISimulator(port=page_port + PORT)
    made.script.say = answer
    return made


def settings_of(model: OpenAISimulator) -> dict[str, str]:
    return {**model.settings(), "AI_PROVIDER": "openai"}


def answer(messages: list[dict[str, Any]]) -> str:
    asked = str(messages[-1]["content"])
    if asked.startswith("<event"):
        return "How nice of you, thank you!"
    quoted = QUOTED.search(asked)
    words = re.findall(r"\w+", (quoted[1] if quoted else asked).lower())
    return next((ANSWERS[each] for each in words if each in ANSWERS), "I would have to think about that for a while.")
