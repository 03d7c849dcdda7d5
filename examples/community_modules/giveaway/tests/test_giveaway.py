from __future__ import annotations

from waddlebot_sdk.testing import MemoryState, ask


def test_a_prize_is_won_by_somebody_who_joined_and_by_nobody_twice(handler):
    state = MemoryState()
    assert ask(handler, "join", state=state).startswith("Nothing is given away")
    assert ask(handler, "start a penguin", state=state) == "To be won: a penguin! Join with #giveaway join"
    assert ask(handler, "start another", state=state).startswith("a penguin is still to be won")

    for n in range(200):
        assert ask(handler, "join", state=state, name=f"P{n}", user_id=n).startswith("Good luck")
    assert ask(handler, "join", state=state, name="P7", user_id=7) == "You are in already, P7."
    assert ask(handler, "", state=state).startswith("To be won: a penguin. 200 joined.")

    winners = {ask(handler, "draw", state=state).split()[0] for _ in range(200)}
    assert winners == {f"P{n}" for n in range(200)}
    assert ask(handler, "draw", state=state) == "Nobody is left to win a penguin."
    assert state.kept == {}


def test_what_is_cancelled_leaves_nothing(handler):
    state = MemoryState()
    ask(handler, "start a penguin", state=state)
    ask(handler, "join", state=state)

    assert ask(handler, "cancel", state=state) == "a penguin is not given away after all."
    assert state.kept == {}


def test_it_says_how_it_is_used(handler):
    state = MemoryState()
    ask(handler, "start a penguin", state=state)

    assert ask(handler, "dance", state=state).startswith("Try: #giveaway")


def test_what_is_to_be_typed_is_what_was(handler):
    typed = {"args": ["start", "a", "duck"], "raw": "!giveaway start a duck"}
    assert ask(handler, trigger=typed) == "To be won: a duck! Join with !giveaway join"
