"""kill -9 at every database step of giving a label. In a file of its own for a worker of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashing_fleet import MAX_STEPS, CrashingFleet, crashing_fleet, event_for
from waddlebot.base.ids import new_id


def at_every_step(crashing: CrashingFleet, prepare: Callable[[], str], check: Callable[[str], None]) -> int:
    """Say what `prepare` returns once for each step, dying at that step; returns how many steps there were."""
    for step in range(1, MAX_STEPS):
        text = prepare()
        event = event_for(text)
        crashed = crashing.crash(event, at=step)
        answer = crashing.submit_until_done(event)
        assert {each["status"] for each in answer["executions"]} == {"success"}, f"after dying at step {step}"
        said = crashing.rows("SELECT response_data FROM outbox WHERE event_id = %s", event["event_id"])
        assert len(said) == 1, f"after dying at step {step}"
        check(said[0]["response_data"]["message"])
        if not crashed:
            return step
    raise AssertionError(f"more than {MAX_STEPS} steps")


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_label_is_given_once(tmp_path):
    with crashing_fleet(tmp_path) as crashing:
        crashing.submit_until_done(event_for("!label list"))
        name = ""

        def label() -> str:
            nonlocal name
            name = f"l{new_id()[-12:]}"
            return f"!label add @alice {name}"

        def is_given(said: str) -> None:
            assert said == f"alice has “{name}”."
            (row,) = crashing.rows("SELECT given_by_id, own_id FROM labels_of_people WHERE name = %s", name)
            assert row["given_by_id"] == row["own_id"]
            assert len(crashing.rows("SELECT 1 FROM audit WHERE subject LIKE %s", f"label/user/%/{name}")) == 1
            crashing.rows("DELETE FROM labels_of_people WHERE name = %s RETURNING 1", name)

        assert at_every_step(crashing, label, is_given) > 10
