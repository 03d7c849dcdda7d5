"""For OpenWhisk: the action's `__main__.py` says `from waddlebot_sdk.openwhisk import main`."""

from __future__ import annotations

from typing import Any

from .context import Context
from .handlers import load_handler


def main(params: dict[str, Any]) -> Any:
    """What OpenWhisk calls. It takes a key `error` for a failure, so a reply never has one."""
    return load_handler()(params, Context(params))
