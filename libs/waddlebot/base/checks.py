"""What a service's health checks find, for anybody and for those who may know whom it is about."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis

from .errors import WaddleBotError

T = TypeVar("T")

KEPT_S = 0.25


@dataclass(frozen=True, slots=True)
class Counted:
    """What a check found, in words for anybody, and whom it is about."""

    detail: str
    names: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a check."""

    ok: bool
    detail: str
    names: str = ""

    def shown(self, *, named: bool) -> dict[str, Any]:
        detail = f"{self.detail}: {self.names}" if named and self.names else self.detail
        return {"ok": self.ok, "detail": detail}


class ForAMoment(Generic[T]):
    """What was found out a moment ago, so that asking often costs nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._value: T | None = None

    def get(self, find_out: Callable[[], T]) -> T:
        with self._lock:
            if self._value is None or time.monotonic() >= self._until:
                self._value = find_out()
                self._until = time.monotonic() + KEPT_S
            return self._value


def run_check(run: Callable[[], str | Counted]) -> Checked:
    try:
        found = run()
    except WaddleBotError as err:
        return Checked(False, err.message, err.details.get("names", ""))
    except redis.RedisError as err:
        return Checked(False, str(err))
    return Checked(True, found.detail, found.names) if isinstance(found, Counted) else Checked(True, found)
