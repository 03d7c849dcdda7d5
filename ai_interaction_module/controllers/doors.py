"""The module's two doors: /api/ai/v1, where a key may be a Bearer as OpenAI's clients send it, and /ai."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from waddlebot.web.endpoint import endpoint

Handler = TypeVar("Handler", bound=Callable[..., Any])
API, OWN = "/api/ai/v1", "/ai"
# What serves the second door, in the order of declaration.
SECOND_DOOR: list[Callable[..., Any]] = []


def at_both_doors(method: str, path: str, **options: Any) -> Callable[[Handler], Handler]:
    """Serve a function at both, as `endpoint` does at one."""

    def declare(function: Handler) -> Handler:
        @functools.wraps(function)
        def second(**arguments: Any) -> Any:
            return function(**arguments)

        # Routes are named after functions.
        second.__name__ = f"{function.__name__}_own"
        SECOND_DOOR.append(endpoint(method, OWN + path, **options)(second))
        return endpoint(method, API + path, key_in=("X-API-Key", "Authorization"), **options)(function)

    return declare
