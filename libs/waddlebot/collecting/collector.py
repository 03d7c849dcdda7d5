"""What every collector is: durable intake, a forwarder to the router, and a sender of the replies.

platform ─► take ─► {platform}_events ─► forwarder ─► router ─► answer ─► sender ─► platform
            committed, then the platform's 2xx │ from memory, where it was taken; what had  │ in the collectors'
                                               │ no room there, in the collectors' process  │ process
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any, Literal

import psycopg2
from pydantic import Field, TypeAdapter, ValidationError

from ..base.background import Kind, TargetPools
from ..base.bridge import shared_bridge
from ..base.combine import OUTAGE_S, FairCombiner
from ..base.contracts import MAX_BATCH, Event
from ..base.errors import Busy, ConfigError, NotConfigured
from ..base.settings import Settings
from ..base.watched import Watched
from ..data.cache import Bus, Cache
from ..data.database import Database, fetch_one
from ..data.outbox import Outgoing, Priority, Waiting
from ..data.ratelimit import RateLimiter
from ..data.retention import EVERY_S, delete_old
from ..data.wakeup import Wakeup
from ..module.service import Service
from ..web.auth import Account, of_platform
from ..web.endpoint import Endpoint, endpoint
from ..web.lists import Page, list_answer
from .claims import Claims, Told
from .event_store import LEASE, Delivery, EventStore, EventTable, Intake
from .forwarder import MAX_BATCHES, Forwarder, Translate
from .liveness import LOOK_EVERY_S, SAVE_EVERY_S, Liveness, LivenessMetrics
from .moderation import Act, say_or_act
from .pace import Pace, Pacer
from .sender import OutboxListener, Send, Sender

SERVERS = "servers"
SERVERS_TTL_S = 30.0
POLL_S = 0.5
# Soon enough for a reply that had to wait for its turn.
SENDER_POLL_S = 0.25
# What a socket has brought and the database has not taken, before the oldest is given up: some 20 MB.
MAX_KEPT = 20_000
# What one process tells another of replies: numbers in the outbox, where they are said, and what goes first.
REPLIES = TypeAdapter(list[tuple[Annotated[int, Field(gt=0, lt=2**63)], str, Priority]])


class ServedChannels:
    """Which channels of a platform this fleet serves: the shared table `servers`."""

    def __init__(self, db: Database, bus: Bus, platform: str) -> None:
        self._db = db
        self._platform = platform
        self._cache: Cache[str, bool] = bus.cache(SERVERS, ttl_s=SERVERS_TTL_S)

    def serves(self, channel: str, server_id: str = "") -> bool:
        """Whether this channel is served, or the whole of its server."""
        return self._cache.get(f"{server_id}:{channel}", lambda fresh: self._load(channel, server_id, fresh))

    def _load(self, channel: str, server_id: str, fresh: bool) -> bool:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            row = fetch_one(
                db,
                "SELECT 1 FROM servers WHERE platform = %s AND server_id = %s AND channel IN (%s, '') AND is_active",
                (self._platform, server_id, channel),
            )
        return row is not None


class Collector:
    """One platform's collector. `app.py` makes it; the module's webhook or socket gives it deliveries.

    `send` says a reply, `whisper` says one to the person in its data's `to` and to nobody else, and `act` carries out
    moderation, each once; without `act` the platform cannot moderate, without `whisper` nothing private is said. `pace`
    is how fast the bot may speak. `echo_in` says, where the platform lets the bot hear itself, at which entity of
    `liveness` what was said in an entity comes back. `intake` is the kind of process that hears the platform.
    `unanswered` is told of what the router took and had nothing to say to.
    """

    def __init__(
        self,
        service: Service,
        table: EventTable,
        *,
        translate: Translate,
        send: Send,
        act: Act | None = None,
        whisper: Send | None = None,
        pace: Pace | None = None,
        echo_in: Callable[[str], str] | None = None,
        intake: Kind = "service",
        unanswered: Callable[[Event], None] | None = None,
    ) -> None:
        self.platform = table.platform
        self.holder = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
        self._service = service
        self._table = table
        self._intake = intake
        self._echo_in = echo_in
        db, log, metrics = service.database, service.log, service.metrics
        self.served = ServedChannels(db, service.bus, self.platform)
        self.liveness = Liveness(db, self.platform, log)
        self.pacer = self._make_pacer(pace) if pace else None
        self._deliveries = metrics.counter("deliveries", "Deliveries, by what they were.", ["type", "outcome"])
        store = EventStore(db, table, holder=self.holder)
        self._kept: deque[Delivery] = deque()
        self._is_ending = False
        self._keeping = threading.Lock()
        self._ever_kept = 0
        self._to_tell: deque[tuple[int, Callable[[], None]]] = deque()
        self._lost = Watched("intake-room", log.module)
        # Other processes hear of what waits in the table, and of replies that may be said.
        self._backlog = Wakeup(service.settings, table.name)
        self._replies = Wakeup(service.settings, f"{self.platform}_replies")
        self._sender = Sender(
            db,
            shared_bridge(),
            say_or_act(send, act, whisper),
            pacer=self.pacer,
            said=self._note_said,
            platform=self.platform,
            holder=self.holder,
            log=log,
            metrics=metrics,
        )
        self._forwarder = Forwarder(
            store,
            router=service.router,
            ask=self._ask,
            ring=self._backlog.ring,
            translate=translate,
            pools=TargetPools(log, workers_per_target=MAX_BATCHES),
            moderates=act is not None,
            unanswered=unanswered,
            log=log,
            metrics=metrics,
        )
        # Nothing that it stores waits for another's lock, so batches need not pass each other.
        self._combined = FairCombiner(self._forwarder.take, max_batch=MAX_BATCH, patience_s=None)
        self._add_loops()
        service.check("backlog", store.check)
        service.check("channels", self.liveness.check)
        metrics.registry.register(LivenessMetrics(self.liveness, metrics.module))
        service.mount(self._make_channels_endpoint())

    def take(self, delivery: Delivery) -> Intake:
        """Keep a delivery for good, and have it forwarded unless it is to be ignored or was here before."""
        outcome = self._combined(delivery)
        self.count(delivery.type, delivery.ignored or outcome)
        return outcome

    def take_all(self, deliveries: Sequence[Delivery]) -> list[Intake | Exception]:
        """Keep deliveries that came together, in one statement. Returns for each what became of it, or why it could not
        be kept; what is wrong with one harms no other."""
        if not deliveries:
            return []
        began = time.monotonic()
        outcomes: list[Intake | Exception]
        try:
            outcomes = [*self._forwarder.take(deliveries)]
        except Exception as err:  # noqa: BLE001 - it is the outcome
            # Who has waited for a database that does not answer need not wait for it once more.
            is_away = len(deliveries) == 1 or (isinstance(err, Busy) and time.monotonic() - began > OUTAGE_S)
            outcomes = [err if is_away else self._take_alone(each) for each in deliveries]
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            if isinstance(outcome, str):
                self.count(delivery.type, delivery.ignored or outcome)
        return outcomes

    def keep(self, delivery: Delivery) -> None:
        """Take a delivery that nobody waits for: it is stored within moments, and when the process ends at once.

        While the database is away it waits here. When there is no room left, the oldest is lost, counted and logged.
        Raises: DatabaseUnavailable, when the process ends.
        """
        with self._keeping:
            if not self._is_ending:
                self._keep(delivery)
                return
        self.take(delivery)  # Nobody is left to store what is only kept.

    def when_stored(self, tell: Callable[[], None]) -> None:
        """Call that once all that was kept until now is stored. Call it from where `keep` is called."""
        self._to_tell.append((self._ever_kept, tell))
        self._forwarder.wake.set()

    def count(self, type_: str, outcome: str) -> None:
        self._deliveries.labels(type_, outcome).inc()

    def claim(
        self,
        *,
        gained: Told,
        lost: Told,
        max_claims: int,
        container_id: str | None = None,
        shard_count: int | None = None,
    ) -> Claims:
        """Hold as many of the platform's channels, shards or teams as this container may (contracts §7)."""
        claims = Claims(
            self._service.router,
            self._service.database,
            platform=self.platform,
            container_id=container_id or self.holder,
            max_claims=max_claims,
            gained=gained,
            lost=lost,
            log=self._service.log,
            shard_count=shard_count,
        )
        self._service.loops.add("claims", claims.step, every_s=claims.every_s, kind="worker", finish=claims.finish)
        return claims

    def _keep(self, delivery: Delivery) -> None:
        if len(self._kept) >= MAX_KEPT:
            lost = self._kept.popleft()
            self.count(lost.type, "lost")
            self._lost.note("deliveries are lost: the database has been away for too long")
        self._kept.append(delivery)
        self._ever_kept += 1
        self._forwarder.wake.set()

    def _take_alone(self, delivery: Delivery) -> Intake | Exception:
        try:
            return self._forwarder.take([delivery])[0]
        except Exception as err:  # noqa: BLE001 - it is the outcome
            return err

    def _store_kept(self) -> bool:
        """Store a batch of what was kept. Raises: DatabaseUnavailable, and then it is all still here."""
        batch = [self._kept[at] for at in range(min(len(self._kept), MAX_BATCH))]
        if not batch:
            return False
        for delivery, outcome in zip(batch, self._store_together_or_alone(batch), strict=True):
            if self._kept and self._kept[0] is delivery:  # Unless it was pushed out meanwhile.
                self._kept.popleft()
            self.count(delivery.type, delivery.ignored or outcome)
        return True

    def _tell_stored(self) -> None:
        while self._to_tell and self._to_tell[0][0] <= self._ever_kept - len(self._kept):
            self._to_tell.popleft()[1]()

    def _store_together_or_alone(self, batch: list[Delivery]) -> Sequence[Intake | Literal["failed"]]:
        """One that cannot be stored at all may not stay in front of the others for ever."""
        try:
            return self._forwarder.take(batch)
        except (psycopg2.Error, ValueError):
            return [self._store_alone(each) for each in batch]

    def _store_alone(self, delivery: Delivery) -> Intake | Literal["failed"]:
        try:
            return self._forwarder.take([delivery])[0]
        except (psycopg2.Error, ValueError) as err:
            self._service.log.error("delivery_not_stored", type=delivery.type, error=type(err).__name__)
            return "failed"

    def _ask(self, replies: Sequence[Waiting]) -> None:
        """Have replies said, by this process if it says any."""
        if self._service.loops.runs("worker"):
            self._sender.ask(replies)
        elif replies:
            self._replies.ring(*((each.id, each.entity_id, each.priority) for each in replies))

    def _hear_replies(self, told: Sequence[Any]) -> None:
        if not told:
            self._sender.look()
        with contextlib.suppress(ValidationError):  # Told by whoever can.
            self._sender.ask([Waiting(*each) for each in REPLIES.validate_python(told)])

    def _note_said(self, reply: Outgoing, began_at: float) -> None:
        if self._echo_in is not None and reply.response_action == "chat":
            self.liveness.said(self._echo_in(reply.entity_id), began_at=began_at)

    def _make_pacer(self, pace: Pace) -> Pacer:
        service = self._service
        limiter = RateLimiter(service.bus.client, service.log, service.metrics, window_s=pace.per_s)
        return Pacer(pace, limiter, platform=self.platform)

    def _make_channels_endpoint(self) -> Callable[..., dict[str, Any]]:
        path = f"{self._service.manifest.prefix}/channels"

        @endpoint("GET", path, caller=of_platform(self.platform), area="channels", query=Page)
        def channels(query: Page, caller: Account) -> dict[str, Any]:
            """List the channels with the age of their last sign of life, deaf ones first, and what was missed."""
            community_id = caller.community_id
            listed = self.liveness.list_channels(query, community_id=community_id)
            return list_answer("channels", listed, query, gaps=self.liveness.list_gaps(community_id))

        return channels

    def _add_loops(self) -> None:
        forwarder, sender, liveness, db = self._forwarder, self._sender, self.liveness, self._service.database
        left = threading.Event()

        def forward() -> bool:
            forwarder.gather()
            has_more = self._store_kept() | forwarder.step()
            self._tell_stored()
            return has_more

        def claim() -> bool:
            self._backlog.listen(lambda _: left.set())
            forwarder.gather()
            return forwarder.claim()

        def say() -> bool:
            self._replies.listen(self._hear_replies)
            return sender.step()

        def clean() -> bool:
            return delete_old(db, self._table.name, "received_at") | delete_old(
                db, self._table.activities, "created_at"
            )

        def finish() -> None:
            with self._keeping:
                self._is_ending = True
            while self._store_kept():
                pass
            forwarder.finish()

        loops = self._service.loops
        loops.add("forwarder", forward, every_s=POLL_S, kind="both", wake=forwarder.wake, finish=finish)
        loops.add("forwarder-leases", forwarder.renew, every_s=LEASE.total_seconds() / 3, kind="both")
        loops.add("backlog", claim, every_s=POLL_S, kind="worker", wake=left)
        loops.add("sender", say, every_s=SENDER_POLL_S, kind="worker", wake=sender.wake, finish=sender.finish)
        listener = OutboxListener(self._service.settings.database_url, self.platform, sender.look)
        loops.add("outbox-listener", listener.step, every_s=1.0, kind="worker", finish=listener.close)
        loops.add("delete-events", clean, every_s=EVERY_S, kind="worker", once=True)
        loops.add("liveness", liveness.save, every_s=SAVE_EVERY_S, kind="both", finish=liveness.save)
        loops.add("intake", liveness.open_intake, every_s=SAVE_EVERY_S, kind=self._intake)
        loops.add("deafness", liveness.judge, every_s=LOOK_EVERY_S, kind="worker")


def answer_not_configured(service: Service, *controllers: ModuleType) -> None:
    """Serve 503 not_configured wherever these controllers would serve."""
    for controller in controllers:
        for function in vars(controller).values():
            declared = getattr(function, "__endpoint__", None)
            if isinstance(declared, Endpoint):
                stand_in = endpoint(
                    declared.method,
                    declared.path,
                    caller=declared.caller,
                    area=declared.area,
                    pool="api" if declared.is_stream else declared.pool,
                )
                service.mount(stand_in(_refusal(service)))


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
