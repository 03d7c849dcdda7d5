"""The broker's two doors, /api/broker/v1 and /broker, and what is noted of whoever comes in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from waddlebot.base.errors import RateLimited
from waddlebot.base.ids import new_id
from waddlebot.data.ratelimit import Limit, RateLimiter, Request
from waddlebot.web.auth import SUPER_ADMINS, Account
from waddlebot.web.endpoint import RawRequest, endpoint

from ..services.audit_log import By
from ..services.sessions import Sessions

Handler = TypeVar("Handler", bound=Callable[..., Any])
API, OWN = "/api/broker/v1", "/broker"
# What serves the second door, in the order of declaration.
SECOND_DOOR: list[Callable[..., Any]] = []
# Of one address at one endpoint, with a key or without: guessing keys is no use.
FROM_ONE_ADDRESS_PER_MINUTE = 600
MAX_AGENT = 200


def at_both_doors(method: str, path: str, **options: Any) -> Callable[[Handler], Handler]:
    """Serve a function at both, to super-admins, by their key in X-Broker-Key."""
    options = {
        "caller": SUPER_ADMINS,
        "key_in": ("X-Broker-Key",),
        "per_minute": FROM_ONE_ADDRESS_PER_MINUTE,
        **options,
    }

    def declare(function: Handler) -> Handler:
        @functools.wraps(function)
        def second(**arguments: Any) -> Any:
            return function(**arguments)

        # Routes are named after functions.
        second.__name__ = f"{function.__name__}_own"
        SECOND_DOOR.append(endpoint(method, OWN + path, **options)(second))
        return endpoint(method, API + path, **options)(function)

    return declare


@dataclass(frozen=True, slots=True)
class Desk:
    """Everybody with a key passes it: how often is limited, and from where is noted."""

    sessions: Sessions
    by_minute: RateLimiter
    by_hour: RateLimiter
    per_minute: int
    per_hour: int

    def enter(self, caller: Account, request: RawRequest) -> By:
        """Who it is, for the log. Raises: RateLimited."""
        by = origin(request, caller)
        self.sessions.note(by)
        request_id = new_id()
        for limiter, per, name in ((self.by_minute, self.per_minute, "minute"), (self.by_hour, self.per_hour, "hour")):
            limit = Limit(f"kong_admin_broker:{name}:{caller.id}", per, "you")
            (decision,) = limiter.reserve([Request(request_id, [limit])])
            if not decision.allowed:
                raise RateLimited(
                    f"That was too often: {per} requests a {name} of one key.",
                    retry_after_s=max(1, round(decision.retry_after_s)),
                )
        return by


def origin(request: RawRequest, caller: Account | None = None) -> By:
    """Where a request comes from; the agent is what it says of itself."""
    agent = "".join(each if each.isprintable() else "\ufffd" for each in request.headers.get("user-agent", ""))
    return By(caller.id if caller else None, request.address, agent[:MAX_AGENT])
