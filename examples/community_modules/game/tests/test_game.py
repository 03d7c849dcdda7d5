from __future__ import annotations

import pytest
from waddlebot_sdk.testing import ask


@pytest.mark.parametrize(
    ("theirs", "mine", "said"),
    [
        ("rock", "scissors", "I have scissors: rock crushes scissors. Alice wins!"),
        ("scissors", "rock", "I have rock: rock crushes scissors. I win!"),
        ("paper", "rock", "I have rock: paper wraps rock. Alice wins!"),
        ("SCISSORS", "paper", "I have paper: scissors cut paper. Alice wins!"),
        ("rock", "rock", "I have rock too, Alice. Again?"),
    ],
)
def test_who_wins_is_as_everybody_knows(handler, monkeypatch, theirs, mine, said):
    monkeypatch.setitem(handler.__globals__, "secrets", type("Chance", (), {"choice": staticmethod(lambda _: mine)}))

    assert ask(handler, theirs) == said


@pytest.mark.parametrize("words", ["", "lizard"])
def test_another_hand_is_none(handler, words):
    assert ask(handler, words) == "Choose rock, paper or scissors. Try: #game rock"
