"""Whose turn it is: what one person asks of one module in one place is done in the order in which they asked."""

from __future__ import annotations

import threading
import time

from waddlebot.base.contracts import ExecutionStatus

from ..records.work import Job, Work
from ..rules.rule_webhook import RULES_MODULE

Key = tuple[str, int, bool]


class Turns:
    """The events under way, by who caused them and where.

    An answer that is late holds up only what the same person wants of the same module.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Key, list[Work]] = {}

    def begin(self, work: Work) -> bool:
        """Whether an event, with what follows it, may begin. If not it has been hung behind the one that it waits for,
        and `end` of that one returns it."""
        with self._lock:
            return self._begin(work)

    def end(self, work: Work) -> Work | None:
        """Note that nothing is left to do for an event. Returns the one that begins now."""
        with self._lock:
            self._remove(work)
            return self._begin_following(work)

    def hand_over(self, work: Work) -> Work | None:
        """Note that a module has taken what was asked of it, and answers when it likes. Returns the event that begins
        now."""
        with self._lock:
            return self._begin_following(work)

    def leave(self, work: Work) -> list[Work]:
        """Forget an event. Returns it and all that waited for it."""
        with self._lock:
            self._remove(work)
            return [work, *work.following]

    def is_asked(self, work: Work, job: Job) -> bool:
        """Whether the same person has asked the same module for something that is not done."""
        with self._lock:
            others = [each for each in self._under_way.get(key_of(work), ()) if each is not work]
            return any(_asks(each, {pool_of(work, job)}) for each in others)

    def waits_s(self, work: Work) -> float:
        """How long the one has been under way that an event waits for; 0 when it waits for none."""
        with self._lock:
            under_way = self._under_way.get(key_of(work), ())
            before = [each for each in under_way if any(waiting is work for waiting in each.following)]
        return max((time.monotonic() - each.begun_at for each in before), default=0.0)

    def _begin(self, work: Work) -> bool:
        self._remove(work)
        under_way = self._under_way.setdefault(key_of(work), [])
        wanted = _targets(work)
        before = next((each for each in reversed(under_way) if _asks(each, wanted)), None)
        if before is None:
            under_way.append(work)
            return True
        following, work.following = work.following, []
        before.following += [work, *following]
        return False

    def _begin_following(self, work: Work) -> Work | None:
        following, work.following = work.following, []
        if not following:
            return None
        following[0].following = following[1:]
        return following[0] if self._begin(following[0]) else None

    def _remove(self, work: Work) -> None:
        key = key_of(work)
        left = [each for each in self._under_way.get(key, ()) if each is not work]
        if left:
            self._under_way[key] = left
        else:
            self._under_way.pop(key, None)


def key_of(work: Work) -> Key:
    return (work.place.entity_id, work.person.own_id, work.is_simulated)


def _asks(work: Work, targets: set[str]) -> bool:
    """Whether an event under way, or what follows it, has something to do at one of these. What is not planned yet may
    have."""
    line = [work, *work.following]
    return any(each.deferred for each in line) or any(targets & _targets(each) for each in line)


def _targets(work: Work) -> set[str]:
    """Where it has something to do that has not been handed over."""
    todo = [job for job in list(work.jobs) if job.status is ExecutionStatus.PENDING and not job.put_off]
    return {pool_of(work, job) for job in todo}


def pool_of(work: Work, job: Job) -> str:
    """Whose threads a job runs in: its module's, and for a rule's webhook its community's."""
    name = job.command.module_name
    return f"{name}:{work.place.community_id}" if name == RULES_MODULE else name
