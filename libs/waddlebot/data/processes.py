"""What the fleet's processes say of themselves, so that one of them can tell of all.

A process that serves no HTTP, a hub or the collectors', is seen only through this.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..base import watched
from ..base.watched import State
from ..base.wire import to_json

SAVE_EVERY_S = 2.0
# Three reports may be late. With the two seconds above a death is seen after nine at most.
SILENT_AFTER_S = 7.0

# A process that ended without a word is told of for a minute, and for an hour if there is no other of its kind.
SAVE = """
WITH forgotten AS (
    DELETE FROM processes p WHERE seen_at < now() - interval '1 hour' OR (seen_at < now() - interval '1 minute'
        AND EXISTS (SELECT FROM processes s WHERE s.role = p.role AND s.modules = p.modules
            AND s.seen_at > now() - interval '30 seconds'))
)
INSERT INTO processes (process, role, modules, background)
VALUES (%(process)s, %(role)s, %(modules)s, %(background)s::jsonb)
ON CONFLICT (process) DO UPDATE SET modules = excluded.modules, background = excluded.background, seen_at = now()
"""
WITHDRAW = "DELETE FROM processes WHERE process = %(process)s"
OTHERS = """
SELECT process, role, extract(epoch FROM now() - seen_at)::float AS age_s, background
FROM processes WHERE process <> %(process)s AND %(module)s = ANY(modules) ORDER BY role, process
"""

Statement = Callable[[str, dict[str, Any]], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class OtherProcess:
    """One process of a module as it was heard of `age_s` ago."""

    process: str
    role: str
    age_s: float
    states: tuple[State, ...]

    @property
    def troubles(self) -> list[str]:
        who = f"{self.role} process {self.process.rpartition(':')[0]}"
        if self.age_s > SILENT_AFTER_S:
            return [f"{who}: not heard of for {self.age_s:.0f} s"]
        return [f"{who}: {each.name} {each.trouble}" for each in self.states if each.trouble]


class ProcessReports:
    """This process's reports, and the others'. `run` runs a statement of its own on the primary."""

    def __init__(self, run: Statement, role: str) -> None:
        self.role = role or "web"
        self._run = run
        self._process = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"

    def save(self, modules: Sequence[str]) -> None:
        """Raises: DatabaseUnavailable."""
        states = [each.as_json() for each in watched.states()]
        self._run(
            SAVE,
            {
                "process": self._process,
                "role": self.role,
                "modules": sorted(modules),
                "background": to_json(states),
            },
        )

    def withdraw(self) -> None:
        """Say that this process ends. Raises: DatabaseUnavailable."""
        self._run(WITHDRAW, {"process": self._process})

    def list_others(self, module: str) -> list[OtherProcess]:
        """The other processes of a module, with what is theirs of it. Raises: DatabaseUnavailable."""
        rows = self._run(OTHERS, {"process": self._process, "module": module})
        return [_read(row, module) for row in rows]


def _read(row: dict[str, Any], module: str) -> OtherProcess:
    states = tuple(State(**each) for each in row["background"] if each["owner"] in ("", module))
    return OtherProcess(row["process"], row["role"], row["age_s"], states)
