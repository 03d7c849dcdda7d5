"""What a module owes the tests of all modules: `<name>_module/tests/owed.py`, next to its own tests.

`PREFIX` is its path. All else may be left out:
`SAMPLES` are bodies and queries for `tests/test_doors.py`, by endpoint, each a function of the World there:
`{"GET /dice": lambda world: {"query": {"community_id": world.mine.slug}}}`;
`furnish(world)` makes what its endpoints name, and gives it back by the name of the path's parameter;
`CARRIED` is how many items its export has after `carry(bot)`, for `tests/test_portability.py`.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from waddlebot.base.manifest import CHECKOUT


@cache
def owed_by_modules() -> tuple[ModuleType, ...]:
    """Read every module's `tests/owed.py`.

    By its path, since py4web loads modules as `apps.<folder>` and tests are no packages.
    """
    return tuple(_load(path) for path in sorted(CHECKOUT.glob("*/tests/owed.py")))


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"owed_by_{path.parts[-3]}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
