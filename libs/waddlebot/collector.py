"""What every collector is: durable intake, a forwarder to the router, and a sender of the replies.

platform ─► intake.store ─► {platform}_events ─► forwarder ─► router ─► answer ─► sender ─► platform
   the HTTP side: commit, then the platform's 2xx │ the collectors' process: batches, several in flight
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from .aaa import AAALog
from .background import TargetPools
from .bridge import shared_bridge
from .cache import Bus, Cache
from .clients import RouterClient
from .contracts import Answer, Event
from .database import Database, fetch_one
from .errors import ConfigError, NotConfigured, UpstreamError, WaddleBotError
from .event_store import LEASE, Delivery, EventStore, EventTable, Intake, Result, StoredEvent
from .ids import new_traceparent
from .metrics import Metrics
from .outbox import Waiting
from .retention import EVERY_S, delete_old
from .sender import OutboxListener, Send, Sender
from .service import Service
from .settings import Settings
from .wakeup import Wakeup
from .web import Endpoint, endpoint

SERVERS = "servers"
SERVERS_TTL_S = 30.0
POLL_S = 0.5
MAX_BATCHES = 8
# While a batch is under way the next one gathers this long, so that load makes batches larger instead of more.
LINGER_S = 0.005
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 5.0
# What the router says about the events themselves; sending them again would not change it.
CONTENT_REFUSED = frozenset({400, 413, 415, 422})
# What it says about us or about itself: nothing is wrong with the events.
ROUTER_AWAY = frozenset({None, 401, 403, 404, 405, 408, 429, 502, 503, 504})


Translate = Callable[[StoredEvent], Event]


class Forwarder:
    """Hands stored events to the router in batches, and the replies that it answers to the sender.

    Delays an event for as long as the router is away; what the router refuses is recorded and never in the way.
    """

    def __init__(
        self,
        store: EventStore,
        db: Database,
        *,
        router: RouterClient,
        sender: Sender,
        translate: Translate,
        pools: TargetPools,
        log: AAALog,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._db = db
        self._router = router
        self._sender = sender
        self._translate = translate
        self._pools = pools
        self._log = log
        self._events = metrics.counter("forwarded", "Events, by how forwarding them ended.", ["state"])
        self._lock = threading.Lock()
        self._batch_ended = threading.Event()
        self._under_way: set[int] = set()
        self._batches = 0
        self._failures = 0
        self._paused_until = 0.0
        self.wake = threading.Event()

    def step(self) -> bool:
        """Take one batch and send it on its way. True when there may be more."""
        if self._batches:
            self._batch_ended.wait(LINGER_S)
            self._batch_ended.clear()
        if self._batches >= MAX_BATCHES or time.monotonic() < self._paused_until:
            return False
        rows = self._store.claim()
        if not rows:
            return False
        with self._lock:
            self._batches += 1
            self._under_way |= {row.id for row in rows}
        self._pools.submit("router", self._forward, rows)
        return True

    def renew(self) -> None:
        """Keep what is under way from being taken by others."""
        with self._lock:
            ids = list(self._under_way)
        if ids:
            self._store.renew(ids)

    def _forward(self, rows: list[StoredEvent]) -> None:
        try:
            pairs, failed = self._translated(rows)
            self._record(failed, [])
            if pairs:
                self._submit(pairs)
        finally:
            with self._lock:
                self._batches -= 1
                self._under_way -= {row.id for row in rows}
            self._batch_ended.set()
            self.wake.set()

    def _translated(self, rows: list[StoredEvent]) -> tuple[list[tuple[int, Event]], list[Result]]:
        pairs: list[tuple[int, Event]] = []
        failed: list[Result] = []
        for row in rows:
            try:
                event = self._translate(row)
            except (WaddleBotError, ValidationError) as err:
                # It passed at the intake, so this code no longer agrees with the code that stored it.
                failed.append(Result(row.id, "failed", f"not translated: {err}"))
                continue
            pairs.append((row.id, event.model_copy(update={"traceparent": event.traceparent or new_traceparent()})))
        return pairs, failed

    def _submit(self, pairs: list[tuple[int, Event]]) -> None:
        try:
            answers = self._router.submit_batch([event for _, event in pairs])
        except UpstreamError as err:
            self._not_taken(pairs, err)
            return
        self._failures = 0
        results: list[Result] = []
        replies: list[Waiting] = []
        for (id_, event), answer in zip(pairs, answers, strict=True):
            results.append(_result(id_, answer))
            replies += _replies(event, answer)
        self._record(results, replies)

    def _not_taken(self, pairs: list[tuple[int, Event]], err: UpstreamError) -> None:
        status = err.details.get("status")
        if status not in ROUTER_AWAY and len(pairs) > 1:
            # One of them is more than the router can take: halves find it, and the others get through.
            middle = len(pairs) // 2
            self._submit(pairs[:middle])
            self._submit(pairs[middle:])
            return
        ids = [id_ for id_, _ in pairs]
        self._log.error("events_not_taken", events=len(ids), code=err.code, message=err.message)
        if status in CONTENT_REFUSED:
            self._record([Result(id_, "failed", err.message) for id_ in ids], [])
            return
        if status in ROUTER_AWAY:
            self._paused_until = time.monotonic() + min(FIRST_PAUSE_S * 2 ** min(self._failures, 10), MAX_PAUSE_S)
            self._failures += 1
        self._events.labels("delayed").inc(len(ids))
        self._store.release(ids, detail=err.message)

    def _record(self, results: list[Result], replies: list[Waiting]) -> None:
        if not results:
            return
        with self._db.transaction() as db:
            self._store.finish(db, results)
        self._sender.ask(replies)
        for each in results:
            self._events.labels(each.state).inc()
            if each.state == "failed":
                self._log.error("event_refused", row=each.id, detail=each.detail)


class ServedChannels:
    """Which channels of a platform this fleet serves: the shared table `servers`."""

    def __init__(self, db: Database, bus: Bus, platform: str) -> None:
        self._db = db
        self._platform = platform
        self._cache: Cache[str, bool] = bus.cache(SERVERS, ttl_s=SERVERS_TTL_S)

    def serves(self, channel: str) -> bool:
        return self._cache.get(channel, lambda fresh: self._load(channel, fresh))

    def _load(self, channel: str, fresh: bool) -> bool:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            row = fetch_one(
                db,
                "SELECT 1 FROM servers WHERE platform = %s AND channel = %s AND is_active",
                (self._platform, channel),
            )
        return row is not None


class Collector:
    """One platform's collector. `app.py` makes it; the module's webhook or socket gives it deliveries."""

    def __init__(self, service: Service, table: EventTable, *, translate: Translate, send: Send) -> None:
        platform = service.manifest.name
        holder = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
        db, log, metrics = service.database, service.log, service.metrics
        self.served = ServedChannels(db, service.bus, platform)
        self._deliveries = metrics.counter("deliveries", "Deliveries, by what they were.", ["type", "outcome"])
        self._store = EventStore(db, table, holder=holder)
        self._wakeup = Wakeup(service.settings, table.name)
        self._sender = Sender(db, shared_bridge(), send, platform=platform, holder=holder, log=log, metrics=metrics)
        self._forwarder = Forwarder(
            self._store,
            db,
            router=service.router,
            sender=self._sender,
            translate=translate,
            pools=TargetPools(log, workers_per_target=MAX_BATCHES),
            log=log,
            metrics=metrics,
        )
        self._add_loops(service, OutboxListener(service.settings.database_url, platform, self._sender.look))
        service.loops.add(
            "delete-events", lambda: delete_old(db, table.name, "received_at"), every_s=EVERY_S, kind="worker"
        )
        service.check("backlog", self._store.check)

    def take(self, delivery: Delivery) -> Intake:
        """Keep a delivery for good, and have it forwarded unless it is to be ignored or was here before."""
        outcome = self._store.store(delivery)
        if outcome == "stored":
            self._wakeup.ring()
        self.count(delivery.type, delivery.ignored or outcome)
        return outcome

    def count(self, type_: str, outcome: str) -> None:
        self._deliveries.labels(type_, outcome).inc()

    def _add_loops(self, service: Service, listener: OutboxListener) -> None:
        forwarder, sender = self._forwarder, self._sender

        def forward() -> bool:
            self._wakeup.listen(forwarder.wake)
            return forwarder.step()

        loops = service.loops
        loops.add("forwarder", forward, every_s=POLL_S, kind="worker", wake=forwarder.wake)
        loops.add("forwarder-leases", forwarder.renew, every_s=LEASE.total_seconds() / 3, kind="worker")
        loops.add("sender", sender.step, every_s=1.0, kind="worker", wake=sender.wake, finish=sender.finish)
        loops.add("outbox-listener", listener.step, every_s=1.0, kind="worker", finish=listener.close)


def answer_not_configured(service: Service, *controllers: ModuleType) -> None:
    """Serve 503 not_configured wherever these controllers would serve."""
    for controller in controllers:
        for function in vars(controller).values():
            declared = getattr(function, "__endpoint__", None)
            if isinstance(declared, Endpoint):
                service.mount(endpoint(declared.method, declared.path, caller=declared.caller)(_refusal(service)))


def _refusal(service: Service) -> Callable[..., dict[str, Any]]:
    def refuse_for_now(**_path: str) -> dict[str, Any]:
        """Say that this module has no credentials yet."""
        raise NotConfigured(f"{service.manifest.title} has no credentials yet; see its README.", retry_after_s=60)

    refuse_for_now.__annotations__.clear()  # It takes whatever the path holds.
    return refuse_for_now


def check_credentials(settings: Settings, platform: str, credentials: Mapping[str, object]) -> bool:
    """Whether a platform's credentials, by the names of their settings, are all there; False when none is.

    Raises: ConfigError when some are missing, or all are and WADDLEBOT_REQUIRE names the platform.
    """
    missing = [name for name, value in credentials.items() if not value]
    if not missing:
        return True
    if len(missing) < len(credentials):
        raise ConfigError(f"Only some of {platform}'s credentials are set; {', '.join(missing)} missing.")
    if platform in settings.require:
        raise ConfigError(f"WADDLEBOT_REQUIRE names {platform}; set {', '.join(missing)}.")
    return False


def _replies(event: Event, answer: Answer) -> list[Waiting]:
    """What the answer says in chat. Whether it is still to be sent is for the outbox to know."""
    return [
        Waiting(said.outbox_id, event.entity_id)
        for said in answer.responses
        if said.response_action == "chat" and said.outbox_id is not None
    ]


def _result(id_: int, answer: Answer) -> Result:
    if answer.success:
        return Result(id_, "forwarded", session_id=answer.session_id)
    error = answer.error
    return Result(id_, "failed", f"{error.code}: {error.message}" if error else "refused", answer.session_id)
