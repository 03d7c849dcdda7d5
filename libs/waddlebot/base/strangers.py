"""How much strangers may have us write: so much for each address and minute, and so much for all of them."""

from __future__ import annotations

import ipaddress
import threading
import time
import weakref
from collections.abc import Callable

MINUTE_S = 60.0
_made: weakref.WeakSet[PerMinute] = weakref.WeakSet()


class PerMinute:
    """Counts by source, in whole minutes of this process. It remembers no more sources than `all` are let through."""

    def __init__(self, each: int, *, all: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = each
        self._all = all or each * 20
        self._clock = clock
        self._began = clock()
        self._counts: dict[str, int] = {}
        self._total = 0
        self._left_out = 0
        self._lock = threading.Lock()
        _made.add(self)

    def lets(self, source: str) -> bool:
        """Whether there is room for one more of this source, an address or a name of ours."""
        source = network_of(source)
        with self._lock:
            if self._clock() - self._began >= MINUTE_S:
                self._begin()
            done = self._counts.get(source, 0)
            if done >= self._each or self._total >= self._all:
                self._left_out += 1
                return False
            self._counts[source] = done + 1
            self._total += 1
            return True

    def _begin(self) -> None:
        self._began, self._total = self._clock(), 0
        self._counts.clear()

    def take_left_out(self) -> int:
        """How many there was no room for since this was last asked."""
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        return left_out


class Sampled:
    """Counts what happens often, so that it is told once a minute and name, with how often it was."""

    def __init__(self, *, names: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._names = names
        self._clock = clock
        self._counts: dict[tuple[object, ...], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def count(self, *name: object) -> int:
        """How often it was since it was last told, if that is to be told now, else 0."""
        now = self._clock()
        with self._lock:
            told_at, count = self._counts.get(name, (now - MINUTE_S, 0))
            if now - told_at < MINUTE_S:
                self._counts[name] = told_at, count + 1
                return 0
            if len(self._counts) >= self._names:
                self._counts.clear()
            self._counts[name] = now, 0
            return count + 1


def begin_anew() -> None:
    """A minute begins for all of this process; for tests, which all come from one address."""
    for each in list(_made):
        with each._lock:
            each._begin()


def network_of(address: str) -> str:
    """An address as its owner has it: of IPv6 everybody has 2^64."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
