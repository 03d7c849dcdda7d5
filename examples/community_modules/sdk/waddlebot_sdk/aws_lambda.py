"""For AWS Lambda: set the function's handler to `waddlebot_sdk.aws_lambda.handler`."""

from __future__ import annotations

from typing import Any

from .context import Context
from .handlers import load_handler


def handler(event: dict[str, Any], context: Any) -> Any:
    """What Lambda calls."""
    return load_handler()(event, Context(event, native=context))
