"""Saying what the outbox holds, on one platform: what was asked for at once, what is late as soon as it is known."""

from __future__ import annotations

import asyncio
import functools
import heapq
import logging
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

import psycopg2

from ..base.bridge import Bridge
from ..base.contracts import OutboxState
from ..base.logs import AAALog
from ..base.metrics import Metrics
from ..data import outbox
from ..data.database import Database, DatabaseUnavailable
from ..data.outbox import CHATTER_USEFUL_FOR, OUTBOX_CHANNEL, Ended, Outgoing, Priority, Waiting
from .pace import Pacer

LOOK_EVERY_S = 1.0
# Channels that one process speaks in at the same time, and replies that it has in mind; the outbox keeps the rest.
MAX_IN_FLIGHT = 100
MAX_QUEUED = 2000
# Sending ends well before the outbox's lease of 30 s does.
SEND_TIMEOUT_S = 20.0
PUT_BACK_FOR = timedelta(seconds=2)
FINISH_WITHIN_S = 4.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reply at its platform. PENDING: it certainly did not leave, and goes back for a while."""

    state: OutboxState
    detail: str = ""
    retry_after: timedelta = PUT_BACK_FOR
    # When sending it began, by the monotonic clock.
    began_at: float = field(default=0.0, compare=False)

    @classmethod
    def not_left(cls, detail: str, retry_after: timedelta = PUT_BACK_FOR) -> Self:
        return cls(OutboxState.PENDING, detail, retry_after)

    def broken_off(self, number: int, parts: int) -> Self:
        """A reply of which some parts were said is never repeated, so it ends here."""
        state = OutboxState.DROPPED if self.state is OutboxState.DROPPED else OutboxState.UNKNOWN
        return type(self)(state, f"after {number} of {parts} parts: {self.detail}")


Send = Callable[[Outgoing], Coroutine[Any, Any, Outcome]]
Said = Callable[[Outgoing, float], None]


@dataclass(order=True, slots=True)
class _Queued:
    """A reply in its channel's queue: what matters most first, then what is oldest."""

    priority: Priority
    id: int
    entity_id: str
    since: float = field(default_factory=time.monotonic)

    @property
    def waiting(self) -> Waiting:
        return Waiting(self.id, self.entity_id, self.priority)


class Sender:
    """Sends a platform's replies; those of one channel one after the other.

    A reply is taken from the outbox only when its channel's turn has come and the pace allows it, so that a crash
    leaves no more of them `unknown` than were really on their way. There is only ever one `holder` of a name. `send`
    says what became of a reply; only PENDING is ever tried again. `said` is told of each that was sent.
    """

    def __init__(
        self,
        db: Database,
        bridge: Bridge,
        send: Send,
        *,
        pacer: Pacer | None,
        said: Said,
        platform: str,
        holder: str,
        log: AAALog,
        metrics: Metrics,
        chatter_useful_for: timedelta = CHATTER_USEFUL_FOR,
    ) -> None:
        self._db = db
        self._chatter_useful_for = chatter_useful_for
        self._bridge = bridge
        self._send = send
        self._pacer = pacer
        self._said = said
        self._platform = platform
        self._holder = holder
        self._log = log
        self._replies = metrics.counter("replies", "Replies, by what became of them and why.", ["state", "reason"])
        self._lock = threading.Lock()
        self._queues: dict[str, list[_Queued]] = {}
        self._known: set[int] = set()
        self._busy: set[str] = set()
        self._ended: deque[tuple[Outgoing, Outcome]] = deque()
        self._look_at = 0.0
        self.wake = threading.Event()

    def ask(self, replies: Iterable[Waiting]) -> None:
        """Have replies sent that wait in the outbox."""
        with self._lock:
            for reply in replies:
                if reply.id not in self._known and len(self._known) < MAX_QUEUED:
                    self._known.add(reply.id)
                    queued = _Queued(reply.priority, reply.id, reply.entity_id)
                    heapq.heappush(self._queues.setdefault(reply.entity_id, []), queued)
                    self.wake.set()

    def look(self) -> None:
        """Look into the outbox now: something late is in it."""
        self._look_at = 0.0
        self.wake.set()

    def step(self) -> bool:
        """Record what was sent and begin what comes next. True when there is more to do at once."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            self._look()
        ended = self._pop_ended()
        following = self._next()
        if not ended and not following:
            return False
        taken: list[Outgoing] | None = None
        try:
            taken = self._record(ended, take=[each.id for each in following])
        finally:
            if taken is None:
                self._restore(ended, following)
        # Until its end is on record a reply is ours, so that nobody who asks again has it taken again.
        self._release(set(), [reply.id for reply, _ in ended])
        self._count(ended)
        self._begin(taken)
        mine = {reply.id for reply in taken}
        self._let_go([each for each in following if each.id not in mine])
        return len(taken) < len(following)

    def _look(self) -> None:
        """See what waits in the outbox, and give up what nobody would understand any more."""
        stale = self._pop_stale()
        with self._db.transaction() as db:
            dropped = outbox.drop(db, [each.id for each in stale], detail="too much to say") if stale else []
            waiting = outbox.list_waiting(db, self._platform, except_ids=list(self._known), limit=MAX_IN_FLIGHT)
        if dropped:
            self._replies.labels(OutboxState.DROPPED.value, "pace").inc(len(dropped))
            self._log.system("chatter_dropped", result="FAILED", level=logging.WARNING, replies=len(dropped))
        self.ask(waiting)

    def _pop_stale(self) -> list[_Queued]:
        until = time.monotonic() - self._chatter_useful_for.total_seconds()
        with self._lock:
            stale = [
                each
                for queue in self._queues.values()
                for each in queue
                if each.priority is Priority.CHATTER and each.since <= until
            ]
            for each in stale:
                self._queues[each.entity_id].remove(each)
                self._known.discard(each.id)
            for entity_id in {each.entity_id for each in stale}:
                heapq.heapify(self._queues[entity_id])
                if not self._queues[entity_id]:
                    del self._queues[entity_id]
        return stale

    def finish(self) -> None:
        """Before the process ends: wait for what is on its way and record it."""
        until = time.monotonic() + FINISH_WITHIN_S
        while len(self._busy) > len(self._ended) and time.monotonic() < until:
            self.wake.wait(0.1)
            self.wake.clear()
        ended = self._pop_ended()
        if ended:
            self._record(ended, take=[])

    def _next(self) -> list[_Queued]:
        """The next reply of each channel that is not being spoken in, which is from now on, as far as the pace goes."""
        with self._lock:
            heads = sorted(queue[0] for entity_id, queue in self._queues.items() if entity_id not in self._busy)
            heads = heads[: max(0, MAX_IN_FLIGHT - len(self._busy))]
        if not heads or self._pacer is None:
            chosen = {each.id for each in heads}
        else:
            chosen = self._pacer.choose([each.waiting for each in heads])
        following = [each for each in heads if each.id in chosen]
        with self._lock:
            for each in following:
                self._busy.add(each.entity_id)
                queue = self._queues[each.entity_id]
                queue.remove(each)
                heapq.heapify(queue)
                if not queue:
                    del self._queues[each.entity_id]
        return following

    def _let_go(self, replies: list[_Queued]) -> None:
        """Somebody else had taken these."""
        self._release({each.entity_id for each in replies}, [each.id for each in replies])
        if replies and self._pacer is not None:
            self._pacer.refund([each.waiting for each in replies])

    def _begin(self, replies: list[Outgoing]) -> None:
        for reply in replies:
            future = self._bridge.submit(self._send_in_time(reply))
            future.add_done_callback(functools.partial(self._sent, reply))

    async def _send_in_time(self, reply: Outgoing) -> Outcome:
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                return replace(await self._send(reply), began_at=began_at)
        except TimeoutError:
            return Outcome(OutboxState.UNKNOWN, "timed out")

    def _sent(self, reply: Outgoing, done: Future[Outcome]) -> None:
        bug = done.exception()
        if bug is not None:
            self._log.error("send_failed", outbox_id=reply.id, error=type(bug).__name__)
        self._ended.append((reply, Outcome(OutboxState.UNKNOWN, "failed on our side") if bug else done.result()))
        self.wake.set()

    def _pop_ended(self) -> list[tuple[Outgoing, Outcome]]:
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        self._release({reply.entity_id for reply, _ in ended}, [])
        return ended

    def _release(self, entities: set[str], ids: list[int]) -> None:
        with self._lock:
            self._busy -= entities
            self._known.difference_update(ids)

    def _restore(self, ended: list[tuple[Outgoing, Outcome]], following: list[_Queued]) -> None:
        """The database did not take it: nothing of this step has happened."""
        self._ended.extendleft(reversed(ended))
        with self._lock:
            for each in following:
                heapq.heappush(self._queues.setdefault(each.entity_id, []), each)
            self._busy -= {each.entity_id for each in following}

    def _record(self, ended: list[tuple[Outgoing, Outcome]], *, take: list[int]) -> list[Outgoing]:
        results = [Ended(reply.id, outcome.state, outcome.detail, outcome.retry_after) for reply, outcome in ended]
        return outbox.step(self._db, take=take, ended=results, sender=self._holder)

    def _count(self, ended: list[tuple[Outgoing, Outcome]]) -> None:
        for reply, outcome in ended:
            if outcome.state is OutboxState.SENT:
                self._replies.labels(OutboxState.SENT.value, "").inc()
                self._said(reply, outcome.began_at)
            else:
                state = "put_back" if outcome.state is OutboxState.PENDING else outcome.state.value
                self._replies.labels(state, "platform").inc()
                self._log.system(
                    "reply_not_sent",
                    result="FAILED",
                    level=logging.WARNING,
                    outbox_id=reply.id,
                    state=outcome.state.value,
                    detail=outcome.detail,
                )


class OutboxListener:
    """Hears PostgreSQL say that a platform has a late reply (contracts §5)."""

    def __init__(self, url: str, platform: str, heard: Callable[[], None]) -> None:
        self._url = re.sub(r"^postgres[23]?:", "postgresql:", url)
        self._platform = platform
        self._heard = heard
        self._connection: Any = None

    def step(self) -> bool:
        """Listen for a second. Raises: DatabaseUnavailable."""
        try:
            connection = self._connection = self._connection or self._connect()
            if select.select([connection], [], [], LOOK_EVERY_S)[0]:
                connection.poll()
        except psycopg2.Error as err:
            self.close()
            raise DatabaseUnavailable() from err
        platforms = {notice.payload for notice in connection.notifies}
        connection.notifies.clear()
        if self._platform in platforms:
            self._heard()
        return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> Any:
        connection = psycopg2.connect(
            self._url,
            connect_timeout=5,
            application_name="waddlebot-outbox",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {OUTBOX_CHANNEL}")
        self._heard()
        return connection
