"""What the edge has to know of a request before it reads the body."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..endpoint import Endpoint, Pool

WILDCARD = re.compile(r"(<[^>]+>)")


@dataclass(frozen=True, slots=True)
class Route:
    """Whose threads serve it, and how long its body may be."""

    pool: Pool
    max_body_bytes: int


# What nobody declared is answered 404 or 405 by the app, which needs no body for that.
UNKNOWN = Route("page", 64 * 1024)


class Routes:
    """Finds an endpoint's route by method and path. The app decides for itself what it serves; this is only ahead."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        found: dict[str, dict[str, Route]] = {}
        for each in endpoints:
            for method in each.method.split():
                found.setdefault(each.path, {})[method] = Route(each.pool, each.max_body_bytes)
        self._exact = {path: methods for path, methods in found.items() if "<" not in path}
        patterns = {_pattern(path): methods for path, methods in found.items() if "<" in path}
        self._by_group = list(patterns.values())
        self._patterns = re.compile("|".join(f"({pattern})" for pattern in patterns) or r"(?!)", re.DOTALL)

    def find(self, method: str, path: str) -> Route:
        """The route of a path, as its percent-encoding is undone; UNKNOWN where there is none."""
        methods = self._exact.get(path)
        if methods is None:
            match = self._patterns.fullmatch(path)
            if match is None or match.lastindex is None:
                return UNKNOWN
            methods = self._by_group[match.lastindex - 1]
        return methods.get("GET" if method == "HEAD" else method, UNKNOWN)


def _pattern(path: str) -> str:
    parts = WILDCARD.split(path)
    return "".join(_wildcard(part) if part.startswith("<") else re.escape(part) for part in parts)


def _wildcard(part: str) -> str:
    return ".+" if part.endswith(":path>") else "[^/]+"
