"""kill -9 at every database step of one command."""

from __future__ import annotations

import pytest
from crashing_fleet import crash_at_every_step, crashing_fleet


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("cold", "steps"), [(False, 12), pytest.param(True, 16, marks=pytest.mark.soak)])
def test_a_command_survives_a_crash_at_every_step(tmp_path, cold, steps):
    with crashing_fleet(tmp_path) as crashing:
        assert crash_at_every_step(crashing, '!inventory add "{}" x', cold=cold) >= steps
