"""A real browser, for the tests of what people see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# The first is the same engine without the browser around it, and opens a page in half the time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage")


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """A Chromium; while it lives, this thread has an event loop that others would trip over. Without one the test is
    skipped."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: scripts/ensure_chromium.sh")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *options])
        yield launched
        launched.close()
