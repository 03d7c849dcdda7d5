"""kill -9 at every database step of a command that an alias calls. In a file of its own for a worker of its own."""

from __future__ import annotations

import pytest
from crashing_fleet import crash_at_every_step, crashing_fleet, event_for


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("cold", "steps"), [(False, 15), pytest.param(True, 20, marks=pytest.mark.soak)])
def test_a_chain_of_commands_survives_a_crash_at_every_step(tmp_path, cold, steps):
    with crashing_fleet(tmp_path) as crashing:
        crashing.submit_until_done(event_for('!alias add !new "!inventory add {args} x"'))

        assert crash_at_every_step(crashing, '!new "{}"', cold=cold) >= steps
