"""Taking a change back for somebody: the one call that its entry in the audit log names, made in their name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.manifest import Area, all_manifests
from waddlebot.data.audit import UNDO_HEADER
from waddlebot.data.database import Database, fetch_one

from .fleet_api import FleetAPI
from .seats import Seat


class CannotUndo(Conflict):
    """That cannot be taken back from here."""

    code = "cannot_undo"


def undo(database: Database, fleet: FleetAPI, seat: Seat, entry_id: int) -> None:
    """Take an entry back. The module looks whether what it changed is still so, in the transaction of the change.

    Raises: NotFound for another community's; CannotUndo; FleetRefused, such as `changed_since`.
    """
    with database.reading() as db:
        entry = fetch_one(
            db, "SELECT undo FROM audit WHERE id = %s AND community_id = %s", (entry_id, seat.community_id)
        )
    if entry is None:
        raise NotFound("There is no such entry in this community's audit log.")
    call: dict[str, Any] | None = entry["undo"]
    if call is None:
        raise CannotUndo()
    path, _, query = call["path"].partition("?")
    area = area_of(call["method"], path)
    if area is None:
        raise CannotUndo()
    fleet.ask(
        seat,
        area,
        call["method"],
        path,
        call["body"],
        query=dict(parse_qsl(query)),
        headers={UNDO_HEADER: str(entry_id)},
    )


def area_of(method: str, path: str) -> Area | None:
    """What a person needs a right for to make a call, as its module's manifest says."""
    called = f"{method} {unquote(path)}"
    return next((area for pattern, area in _endpoints() if pattern.fullmatch(called)), None)


@lru_cache
def _endpoints() -> tuple[tuple[re.Pattern[str], Area], ...]:
    return tuple(_read_manifests())


def _read_manifests() -> Iterator[tuple[re.Pattern[str], Area]]:
    for manifest in all_manifests():
        for row in manifest.callers:
            for endpoint in row.endpoints:
                if row.area is not None:
                    yield re.compile(re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(endpoint))), row.area
