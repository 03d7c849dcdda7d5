"""From a collector's store to the router, and what the router answers to the sender and the platform's moderation.

take ─► stored and claimed in one statement ─► step ──────────────┐
         └ else pending, left to whoever claims it next ─► claim ─┴► _forward ─► router ─► finish
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict

from pydantic import ValidationError

from ..base.background import TargetPools
from ..base.contracts import MAX_BATCH, Answer, Event, MessageType
from ..base.errors import UpstreamError, WaddleBotError
from ..base.ids import new_traceparent
from ..base.logs import AAALog
from ..base.metrics import Metrics
from ..base.secret_words import without
from ..data.outbox import PRIVATE, Priority, Waiting
from ..web.clients import RouterClient
from .event_store import Delivery, EventStore, Intake, Order, Result, StoredEvent
from .moderation import Action, ModerationAction

MAX_BATCHES = 8
# A batch that is not full follows one of several events at least this far apart, so that load makes batches larger
# instead of more: each costs the router and the database as much as several events do. What comes alone goes at once.
GATHER_S = 0.02
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 5.0
FINISH_WITHIN_S = 3.0
# What the router says about the events themselves; sending them again would not change it.
CONTENT_REFUSED = frozenset({400, 413, 415, 422})
# What it says about us or about itself: nothing is wrong with the events.
ROUTER_AWAY = frozenset({None, 401, 403, 404, 405, 408, 429, 502, 503, 504})

Translate = Callable[[StoredEvent], Event]
Pair = tuple[StoredEvent, Event]


class Forwarder:
    """Hands stored events to the router in batches, and the replies that it answers to the sender, by `ask`.

    Delays an event for as long as the router is away; what the router refuses is recorded and never in the way. `ring`
    tells whoever claims that something may be free now.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        router: RouterClient,
        ask: Callable[[Sequence[Waiting]], None],
        ring: Callable[[], None],
        translate: Translate,
        pools: TargetPools,
        moderates: bool,
        unanswered: Callable[[Event], None] | None = None,
        log: AAALog,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._router = router
        self._ask = ask
        self._ring = ring
        self._translate = translate
        self._pools = pools
        self._moderates = moderates
        self._unanswered = unanswered
        self._log = log
        self._events = metrics.counter("forwarded", "Events, by how forwarding them ended.", ["state"])
        self._lock = threading.Lock()
        # Claimed as they were stored; what came together stays together, so that a person's order is kept.
        self._ready: deque[list[StoredEvent]] = deque()
        self._under_way: set[int] = set()
        self._batches = 0
        self._failures = 0
        self._paused_until = 0.0
        self._gather_until = 0.0
        self._is_ending = False
        # Something was left to whoever claims, perhaps because of what is under way here.
        self._left_some = False
        self.wake = threading.Event()

    def take(self, deliveries: Sequence[Delivery]) -> list[Intake]:
        """Store deliveries, and have them go on from memory where there is room."""
        outcomes, claimed = self._store.store(deliveries, goes_on=self._has_room())
        if claimed:
            with self._lock:
                self._ready.append(claimed)
                self._under_way |= {row.id for row in claimed}
            self.wake.set()
        if outcomes.count("stored") > len(claimed):
            self._left_some = True
            self._ring()
        return outcomes

    def gather(self) -> None:
        """Wait for more to come, if the last batch went only just now."""
        time.sleep(max(0.0, self._gather_until - time.monotonic()))

    def step(self) -> bool:
        """Send what is in memory on its way. True when there may be more."""
        if not self._may_send():
            return False
        rows: list[StoredEvent] = []
        with self._lock:
            while self._ready and len(rows) + len(self._ready[0]) <= MAX_BATCH:
                rows += self._ready.popleft()
        self._send_off(rows)
        return bool(self._ready)

    def claim(self) -> bool:
        """Take a batch that others left, and send it on its way. True when there may be more."""
        if not self._may_send():
            return False
        rows = self._store.claim()
        if rows:
            self._left_some = True
        with self._lock:
            self._under_way |= {row.id for row in rows}
        self._send_off(rows)
        return len(rows) == MAX_BATCH

    def finish(self) -> None:
        """Before the process ends: leave what has not gone on to others, and wait for what has."""
        self._is_ending = True
        until = time.monotonic() + FINISH_WITHIN_S
        ids = self._pop_ready()
        if ids:
            self._store.release(ids, detail="the process ended")
            self._ring()
        while self._batches and time.monotonic() < until:
            self.wake.wait(0.1)
            self.wake.clear()

    def _has_room(self) -> bool:
        return len(self._ready) < MAX_BATCHES and self._may_send()

    def _may_send(self) -> bool:
        return not self._is_ending and self._batches < MAX_BATCHES and time.monotonic() >= self._paused_until

    def _send_off(self, rows: list[StoredEvent]) -> None:
        if not rows:
            return
        if 1 < len(rows) < MAX_BATCH:
            self._gather_until = time.monotonic() + GATHER_S
        with self._lock:
            self._batches += 1
        self._pools.submit("router", self._forward, rows)

    def _pop_ready(self) -> list[int]:
        with self._lock:
            ids = [row.id for rows in self._ready for row in rows]
            self._ready.clear()
            self._under_way.difference_update(ids)
        return ids

    def renew(self) -> None:
        """Keep what is under way from being taken by others."""
        with self._lock:
            ids = list(self._under_way)
        if ids:
            self._store.renew(ids)

    def _forward(self, rows: list[StoredEvent]) -> None:
        try:
            pairs, failed = self._translated(rows)
            self._record(failed)
            if pairs:
                self._submit(pairs)
        finally:
            with self._lock:
                self._batches -= 1
                self._under_way -= {row.id for row in rows}
            self.wake.set()
            if self._left_some:
                self._left_some = False
                self._ring()

    def _translated(self, rows: list[StoredEvent]) -> tuple[list[Pair], list[Result]]:
        pairs: list[Pair] = []
        failed: list[Result] = []
        for row in rows:
            try:
                event = self._translate(row)
            except (WaddleBotError, ValidationError) as err:
                # It passed at the intake, so this code no longer agrees with the code that stored it.
                failed.append(Result(row.id, "failed", f"not translated: {err}"))
                continue
            pairs.append((row, event.model_copy(update={"traceparent": event.traceparent or new_traceparent()})))
        return pairs, failed

    def _submit(self, pairs: list[Pair]) -> None:
        try:
            answers = self._router.submit_batch([event for _, event in pairs])
        except UpstreamError as err:
            self._not_taken(pairs, err)
            return
        self._failures = 0
        results: list[Result] = []
        replies: list[Waiting] = []
        orders: list[Order] = []
        for (row, event), answer in zip(pairs, answers, strict=True):
            results.append(_result(row, answer))
            replies += _replies(event, answer)
            orders += _orders(row.id, event, answer) if self._moderates else []
        self._record(results, replies, orders)
        if self._unanswered is not None:
            for (_, event), answer in zip(pairs, answers, strict=True):
                if answer.success and not (answer.duplicate or answer.executions or answer.responses):
                    self._unanswered(event)

    def _not_taken(self, pairs: list[Pair], err: UpstreamError) -> None:
        status = err.details.get("status")
        if status not in ROUTER_AWAY and len(pairs) > 1:
            # One of them is more than the router can take: halves find it, and the others get through.
            middle = len(pairs) // 2
            self._submit(pairs[:middle])
            self._submit(pairs[middle:])
            return
        ids = [row.id for row, _ in pairs]
        self._log.error("events_not_taken", events=len(ids), code=err.code, message=err.message)
        if status in CONTENT_REFUSED:
            self._record([Result(id_, "failed", err.message) for id_ in ids])
            return
        if status in ROUTER_AWAY:
            self._paused_until = time.monotonic() + min(FIRST_PAUSE_S * 2 ** min(self._failures, 10), MAX_PAUSE_S)
            self._failures += 1
        self._events.labels("delayed").inc(len(ids))
        self._store.release(ids, detail=err.message)

    def _record(self, results: list[Result], replies: Sequence[Waiting] = (), orders: Sequence[Order] = ()) -> None:
        if not results:
            return
        # Nobody waits for our books: forwarded once more, an event has the same replies, and each is said once.
        self._ask(replies)
        self._ask(self._store.finish(results, orders))
        for each in results:
            self._events.labels(each.state).inc()
            if each.state == "failed":
                self._log.error("event_refused", row=each.id, detail=each.detail)


def _replies(event: Event, answer: Answer) -> list[Waiting]:
    """What the answer says in chat. Whether it is still to be sent is for the outbox to know."""
    asked = Priority.REPLY if event.message_type is MessageType.CHAT_MESSAGE else Priority.EVENT
    return [
        Waiting(said.outbox_id, event.entity_id, asked if said.execution_id else Priority.CHATTER)
        for said in answer.responses
        if said.response_action in ("chat", PRIVATE) and said.outbox_id is not None
    ]


def _result(row: StoredEvent, answer: Answer) -> Result:
    if answer.success:
        kept = without(row.data, answer.secrets) if answer.secrets else None
        return Result(row.id, "forwarded", session_id=answer.session_id, kept=kept)
    error = answer.error
    return Result(row.id, "failed", f"{error.code}: {error.message}" if error else "refused", answer.session_id)


# Who is put away has said that for the last time, too; not every platform takes it away by itself.
WHAT_TO_DO: dict[str, Sequence[Action]] = {
    "warn": ["warn"],
    "block": ["delete"],
    "timeout": ["delete", "timeout"],
    "ban": ["delete", "ban"],
}


def _orders(id_: int, event: Event, answer: Answer) -> list[Order]:
    """What the platform is to do about an event that broke a rule."""
    if answer.moderation is None or answer.session_id is None:
        return []
    wanted, session_id = answer.moderation, answer.session_id

    def order(nth: int, action: Action) -> Order:
        todo = ModerationAction(
            entity_id=event.entity_id,
            action=action,
            platform_user_id=event.user.platform_user_id,
            message_id=event.event_id,
            duration_s=wanted.duration_s if action == "timeout" else None,
            reason=wanted.message,
        )
        return Order(id_, event.event_id, event.entity_id, session_id, asdict(todo), nth)

    return [order(nth, action) for nth, action in enumerate(WHAT_TO_DO[wanted.action])]
