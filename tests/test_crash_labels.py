"""kill -9 at every database step of giving a label. In a file of its own for a worker of its own."""

from __future__ import annotations

import pytest
from crashing_fleet import at_every_step, crashing_fleet, event_for
from waddlebot.base.ids import new_id


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
