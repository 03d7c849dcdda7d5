from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from market import Market


@pytest.fixture
def market(fleet, bot, stub) -> Market:
    return Market(fleet, bot, stub)
