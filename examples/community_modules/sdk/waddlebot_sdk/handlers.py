"""Which handler is called, and what becomes of what it returns."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .context import Context

Function = Callable[[dict[str, Any], Any], Any]


@dataclass(frozen=True)
class Handler:
    """A module's function and the module's name."""

    function: Function
    module_name: str

    def __call__(self, event: dict[str, Any], context: Context) -> Any:
        return as_reply(self.function(event, context), event, self.module_name)


@lru_cache
def load_handler(entry: str | None = None) -> Handler:
    """The handler that `entry`, else WADDLEBOT_HANDLER, names as `module.function`.

    The module's name is WADDLEBOT_MODULE, else what the module.toml beside the handler says.
    """
    module, _, function = (entry or os.environ.get("WADDLEBOT_HANDLER") or "handler.handler").rpartition(".")
    loaded = importlib.import_module(module)
    name = os.environ.get("WADDLEBOT_MODULE") or _name_beside(sys.modules[module].__file__)
    return Handler(getattr(loaded, function), name)


def _name_beside(file: str | None) -> str:
    manifest = Path(file or ".").resolve().with_name("module.toml")
    if not manifest.exists():
        raise RuntimeError(f"Set WADDLEBOT_MODULE to the module's name, or have {manifest} say it.")
    return str(tomllib.loads(manifest.read_text(encoding="utf-8"))["name"])


def as_reply(result: Any, event: dict[str, Any], module_name: str) -> Any:
    """A plain text is said in chat, None says nothing, and a reply need not repeat which call it answers."""
    if isinstance(result, dict) and "statusCode" in result:
        return result
    if result is None:
        result = {}
    elif isinstance(result, str):
        said = {"response_action": "chat", "response_data": {"message": result}}
        result = {"responses": [said] if result else []}
    if not isinstance(result, dict):
        raise TypeError(f"A handler returns a text, None or a dictionary, not {type(result).__name__}.")
    ids = {name: event.get(name) for name in ("session_id", "execution_id")}
    return {**ids, "module_name": module_name, "success": True, **result}
