from __future__ import annotations

import pytest
from waddlebot_sdk.testing import ask


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("es good morning my friends", "Buenos días mis amigos"),
        ("DE Thank you, Alice!", "Danke, Alice!"),
        ("fr hello friends and welcome", "Bonjour amis et bienvenue"),
        ("it water", "Acqua"),
    ],
)
def test_the_longest_phrases_are_said_and_the_rest_stays(handler, words, said):
    assert ask(handler, words) == said


@pytest.mark.parametrize("words", ["", "es", "klingon hello", "en hello"])
def test_it_says_how_it_is_used(handler, words):
    assert ask(handler, words) == "Try: #translate es good morning. I have de, es, fr, it, pt."


def test_what_it_does_not_have_it_does_not_pretend_to(handler):
    assert ask(handler, "es quantum chromodynamics") == "I have none of that in my phrasebook."
