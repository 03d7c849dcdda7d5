"""Executions whose module has said "not yet": they are pending, and no thread waits for them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from waddlebot.base.contracts import ExecutionStatus

from ..records.work import Job, Work


@dataclass(frozen=True, slots=True)
class Awaited:
    work: Work
    job: Job
    until: float

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.until


class AwaitedReplies:
    """Only in this process's mind. What dies with it is pending on record, and whoever takes that over calls again."""

    def __init__(self) -> None:
        self._awaited: dict[str, Awaited] = {}

    def put_off(self, work: Work, job: Job, later_s: float) -> bool:
        """Wait so long for the reply. False when it was posted before we had heard that it would be."""
        with work.lock:
            if job.status is not ExecutionStatus.PENDING:
                return False
            job.put_off += 1
            self._awaited[job.execution_id] = Awaited(work, job, time.monotonic() + later_s)
            return True

    def pop(self, execution_id: str) -> Awaited | None:
        """Stop waiting. Of several who want to go on with it only one gets it."""
        return self._awaited.pop(execution_id, None)

    def list(self) -> list[Awaited]:
        return list(self._awaited.values())
