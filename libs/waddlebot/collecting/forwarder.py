"""From a collector's store to the router, and what the router answers to the sender and the platform's moderation."""

from __future__ import annotations

import threading
import time
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
from .event_store import EventStore, Order, Result, StoredEvent
from .moderation import Action, ModerationAction
from .sender import Sender

MAX_BATCHES = 8
# A batch that is not full follows one of several events at least this far apart, so that load makes batches larger
# instead of more: each costs the router and the database as much as several events do. What comes alone goes at once.
GATHER_S = 0.02
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 5.0
# What the router says about the events themselves; sending them again would not change it.
CONTENT_REFUSED = frozenset({400, 413, 415, 422})
# What it says about us or about itself: nothing is wrong with the events.
ROUTER_AWAY = frozenset({None, 401, 403, 404, 405, 408, 429, 502, 503, 504})

Translate = Callable[[StoredEvent], Event]
Pair = tuple[StoredEvent, Event]


class Forwarder:
    """Hands stored events to the router in batches, and the replies that it answers to the sender.

    Delays an event for as long as the router is away; what the router refuses is recorded and never in the way.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        router: RouterClient,
        sender: Sender,
        translate: Translate,
        pools: TargetPools,
        moderates: bool,
        unanswered: Callable[[Event], None] | None = None,
        log: AAALog,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._router = router
        self._sender = sender
        self._translate = translate
        self._pools = pools
        self._moderates = moderates
        self._unanswered = unanswered
        self._log = log
        self._events = metrics.counter("forwarded", "Events, by how forwarding them ended.", ["state"])
        self._lock = threading.Lock()
        self._under_way: set[int] = set()
        self._batches = 0
        self._failures = 0
        self._paused_until = 0.0
        self._gather_until = 0.0
        self.wake = threading.Event()

    def gather(self) -> None:
        """Wait for more to come, if the last batch went only just now."""
        time.sleep(max(0.0, self._gather_until - time.monotonic()))

    def step(self) -> bool:
        """Take one batch and send it on its way. True when there may be more."""
        if self._batches >= MAX_BATCHES or time.monotonic() < self._paused_until:
            return False
        rows = self._store.claim()
        if not rows:
            return False
        is_full = len(rows) == MAX_BATCH
        if 1 < len(rows) < MAX_BATCH:
            self._gather_until = time.monotonic() + GATHER_S
        with self._lock:
            self._batches += 1
            self._under_way |= {row.id for row in rows}
        self._pools.submit("router", self._forward, rows)
        return is_full

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
        self._sender.ask(replies)
        self._sender.ask(self._store.finish(results, orders))
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
