"""Lets the examples' tests find the SDK and the handler beside them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "sdk"))


@pytest.fixture
def handler(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The handler of the module that a test lies in."""
    path = request.path.parent.parent / "handler.py"
    spec = importlib.util.spec_from_file_location(f"handler_of_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] = module.handler
    return function
