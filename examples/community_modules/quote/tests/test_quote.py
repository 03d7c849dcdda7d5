from __future__ import annotations

import pytest
from waddlebot_sdk.testing import MemoryState, ask


def test_quotes_are_kept_said_and_forgotten(handler):
    state = MemoryState()
    assert ask(handler, "", state=state) == "There are none yet. Try: #quote add TEXT"

    assert ask(handler, "add It works on my machine", state=state) == "Kept as quote 1."
    assert ask(handler, "add Ship it", state=state) == "Kept as quote 2."
    assert ask(handler, "2", state=state) == "Quote 2: Ship it"
    assert ask(handler, "delete 2", state=state) == "Quote 2 is forgotten."
    assert ask(handler, "2", state=state) == "There is no quote 2."
    assert ask(handler, "add Again", state=state) == "Kept as quote 3."
    assert ask(handler, "1", state=state) == "Quote 1: It works on my machine"
    assert {ask(handler, "", state=state)[:7] for _ in range(40)} == {"Quote 1", "Quote 3"}, "never one that is gone"
    for number in (1, 3):
        ask(handler, f"delete {number}", state=state)
    assert ask(handler, "", state=state) == "There are none yet. Try: #quote add TEXT"
    for n in range(12):
        ask(handler, f"add {n}", state=state)
    assert ask(handler, "delete 12", state=state) == "Quote 12 is forgotten."


def test_nine_hundred_long_quotes_fit_and_no_more(handler):
    state = MemoryState()
    for n in range(1, 901):
        assert ask(handler, f"add {n} {'🦆' * 300}", state=state) == f"Kept as quote {n}."

    assert ask(handler, "add one more", state=state) == "900 quotes are all that I can keep."
    assert ask(handler, "777", state=state).startswith("Quote 777: 777 🦆🦆🦆")


@pytest.mark.parametrize("words", ["add", "delete", "delete x", "one two"])
def test_it_says_how_it_is_used(handler, words):
    assert ask(handler, words).startswith("Try: #quote")


@pytest.mark.parametrize("number", ["0", "1", "99999999999999999999"])
def test_a_number_that_there_is_not_is_said(handler, number):
    assert ask(handler, number) == f"There is no quote {number}."
    assert ask(handler, f"delete {number}") == f"There is no quote {number}."


def test_what_is_to_be_typed_is_what_was(handler):
    typed = {"args": [], "raw": "!Quote"}
    assert ask(handler, trigger=typed) == "There are none yet. Try: !quote add TEXT"
