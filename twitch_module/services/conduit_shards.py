"""The shards of the conduit that this container has claimed: a socket for each, bound, watched and handed over.

The router's epochs fence who may bind a shard, and nothing else: what a socket has brought is kept whoever holds the
claim by then, because Twitch says it once (docs/adr/0062).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from waddlebot.base.contracts import ClaimedEntity
from waddlebot.base.errors import Busy, UpstreamError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.watched import Watched
from waddlebot.collecting.claims import Claims
from waddlebot.collecting.collector import Collector

from .conduit_service import ENABLED, BoundShard, ConduitGone, ConduitService, ShardState
from .eventsub_socket import (
    DRAIN_S,
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    EventSubSocket,
    SocketEnded,
    Welcomed,
    close_socket,
    socket_url,
)
from .notification_service import NotificationService
from .twitch_api import TwitchAPI

# A dead replica's shards are others' after this time; meanwhile Twitch hands what is theirs to one other shard each.
ALIVE_FOR_S = 10.0
CHECK_EVERY_S = 10.0
# How long a shard that is no longer ours is heard on until somebody else has bound it.
HAND_OVER_S = 20.0
LOOK_EVERY_S = 0.5
# Within what a process has to end.
CLOSING_S = 4.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What all shards of this container have in common."""

    api: TwitchAPI
    conduit: ConduitService
    collector: Collector
    notifications: NotificationService
    url: str
    log: AAALog
    # Asks the router whether this holding is still ours; while the router is away it is.
    is_held: Callable[[ClaimedEntity], bool]
    # The session of another of our shards that is open, to lend to one whose own has died.
    find_open_session: Callable[[], str]


class ShardSocket(EventSubSocket):
    """One claimed shard's session. Everything runs on the bridge's loop."""

    def __init__(self, parts: Parts, entity: ClaimedEntity) -> None:
        super().__init__(parts.collector, parts.notifications, entity_id=entity.entity_id, holding=None, log=parts.log)
        self.id = int(entity.channel_id)
        self.state: Literal["connecting", "bound", "lent"] = "connecting"
        # Why it is not bound.
        self.detail = ""
        self.session_id = ""
        self._parts = parts
        self._entity = entity
        self._url = socket_url(parts.url)
        # Its own session's binding and its lending may not pass each other.
        self._binding = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self.state == "bound"

    def is_bound_right(self, there: BoundShard | None) -> bool:
        """Whether what comes for the shard comes to its own session, or while that is lost to any."""
        if there is None or there.status != ENABLED:
            return False
        return there.session_id == self.session_id or not self.is_open

    def say_state(self) -> ShardState:
        return ShardState(self.id, self.state, self.detail, self._heard_at)

    async def run(self) -> None:
        """Hear the shard until this is cancelled, connecting anew as often as it takes."""
        failures = 0
        while True:
            try:
                await self._hear()
            except WaddleBotError as err:
                failures = 0 if self.is_open else failures + 1
                self.session_id, self.state, self.detail = "", "connecting", err.message
                self._log.system(
                    "shard_ended", result="FAILED", entity_id=self.entity_id, why=err.message, failures=failures
                )
                await self._lend()
            pause_s = min(FIRST_PAUSE_S * 2 ** min(failures, 10), MAX_PAUSE_S) if failures else 0.05
            await self._rest(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret

    async def rebind(self) -> None:
        """Have the shard come here again after Twitch, or another holder by then, had it elsewhere or nowhere."""
        if not self.is_open:
            await self._lend()
            return
        with contextlib.suppress(WaddleBotError):
            await self._bind(self.session_id)
            self._log.system("shard_rebound", entity_id=self.entity_id)

    async def _hear(self) -> None:
        """One session, with all the connections that it moves to. Raises: WaddleBotError when it ends."""
        before = (await self._parts.conduit.prepare()).get(self.id)
        now = await self._connect(self._url)
        try:
            await self._bind(now.session_id)
            if self._heard_at is None and before is not None and before.status != ENABLED:
                with contextlib.suppress(Busy):
                    self._heard_at = await asyncio.to_thread(self._parts.conduit.last_heard, self.id)
            await self._note_gap()
            self._heard_at = datetime.now(UTC)
            while True:
                now = await self._follow(now)
        finally:
            await close_socket(now.socket)

    async def _bind(self, session_id: str) -> None:
        """Raises: SocketEnded when the claim is lost, or Twitch refuses; as `ConduitService.bind`."""
        async with self._binding:
            if not await self._is_held():
                raise SocketEnded("The claim of this shard is lost.")
            try:
                await self._parts.conduit.bind(self.id, session_id)
            except ConduitGone:
                await asyncio.to_thread(self._parts.conduit.ensure)
                await self._parts.conduit.bind(self.id, session_id)
            self.session_id, self.state, self.detail = session_id, "bound", ""

    async def _lend(self) -> None:
        """Until there is a session anew, what is the shard's comes by another of ours."""
        async with self._binding:
            session_id = self._parts.find_open_session()
            if self.is_open or not session_id:
                return
            with contextlib.suppress(WaddleBotError):
                if await self._is_held():
                    await self._parts.conduit.bind(self.id, session_id)
                    self.state = "lent"
                    await self._note_gap()
                    self._heard_at = None

    async def _is_held(self) -> bool:
        return await asyncio.to_thread(self._parts.is_held, self._entity)

    async def _note_gap(self) -> None:
        try:
            await super()._note_gap()
        except Busy as err:  # Without a database there is nowhere to note it, and the session goes on.
            self._log.system(
                "gap_not_noted", result="FAILED", entity_id=self.entity_id, since=self._heard_at, code=err.code
            )

    def _note_promise(self, keepalive_s: float) -> None:
        """A shard is no channel: `ConduitService.check` tells of it, by what is reported here."""

    def _note_sign(self) -> None:
        """See `heard_at`."""

    async def _note_moved(self, moved: Welcomed) -> None:
        if moved.session_id == self.session_id:
            return
        try:
            await self._bind(moved.session_id)
        except WaddleBotError as err:
            await close_socket(moved.socket)
            raise SocketEnded(f"the session moved and could not be bound: {err.message}") from err


class ShardService:
    """Opens a socket for each shard that is gained, and hands over those that are lost."""

    def __init__(
        self,
        api: TwitchAPI,
        conduit: ConduitService,
        collector: Collector,
        notifications: NotificationService,
        *,
        url: str,
        container_id: str,
        log: AAALog,
    ) -> None:
        self.claims: Claims | None = None
        self._api = api
        self._conduit = conduit
        self._collector = collector
        self._container = container_id
        self._log = log
        self._sockets: dict[str, tuple[ShardSocket, Future[None]]] = {}
        self._leaving: dict[Future[None], ShardSocket] = {}
        # Nobody else is there to take a shard over.
        self._is_alone = False
        self._parts = Parts(api, conduit, collector, notifications, url, log, self._is_held, self._find_open_session)

    def step(self) -> None:
        """Claim this replica's share and say how its shards are. Twitch is not asked: it may be away, claims go on.

        Raises: UpstreamError.
        """
        assert self.claims is not None
        conduit = self._conduit.find()
        if conduit is None:
            return
        self.claims.shard_count = conduit.shard_count
        self.claims.max_claims = self._conduit.share(self._container, conduit.shard_count)
        # Before the router is asked, which may be away while the shards are well.
        self._conduit.report(self._container, [socket.say_state() for socket, _ in list(self._sockets.values())])
        self.claims.step()

    def check_bound(self) -> None:
        """Have a conduit, and bind anew what Twitch has elsewhere or disabled. Raises: ProviderError."""
        self._conduit.ensure()
        bound = self._api.run(self._conduit.list_shards())
        for socket, _ in list(self._sockets.values()):
            if not socket.is_bound_right(bound.get(socket.id)):
                self._api.bridge.start(socket.rebind())

    def finish(self) -> None:
        """Have others bind the shards, and hear on until they have. The conduit stays."""
        assert self.claims is not None
        self._is_alone = self._conduit.leave(self._container) == 0
        self.claims.finish()
        until = time.monotonic() + CLOSING_S
        for leaving in list(self._leaving):
            with contextlib.suppress(NotInTime):
                leaving.result(max(0.0, until - time.monotonic()))
        for leaving in list(self._leaving):
            leaving.cancel()

    def gained(self, entity: ClaimedEntity) -> None:
        socket = ShardSocket(self._parts, entity)
        running = self._api.bridge.keep(Watched("conduit-shard", self._log.module), socket.run)
        self._sockets[entity.entity_id] = socket, running

    def lost(self, entity: ClaimedEntity) -> None:
        found = self._sockets.pop(entity.entity_id, None)
        if found is None:
            return
        socket, running = found
        leaving = self._api.bridge.submit(self._hand_over(socket, running))
        self._leaving[leaving] = socket
        leaving.add_done_callback(lambda done: self._leaving.pop(done, None))

    async def _hand_over(self, socket: ShardSocket, running: Future[None]) -> None:
        """Hear a shard on until another session is bound to it, and then what is still on its way here."""
        until = time.monotonic() + HAND_OVER_S
        try:
            while socket.is_open and time.monotonic() < until and not self._is_alone:
                await asyncio.sleep(LOOK_EVERY_S)
                with contextlib.suppress(WaddleBotError):
                    bound = (await self._conduit.list_shards()).values()
                    if all(each.session_id != socket.session_id for each in bound):
                        break
            await asyncio.sleep(DRAIN_S)
        finally:
            running.cancel()

    def _is_held(self, entity: ClaimedEntity) -> bool:
        assert self.claims is not None
        mine = self.claims.held.get(entity.entity_id)
        if mine is None or mine.epoch != entity.epoch:
            return False
        try:
            return self.claims.report(entity.entity_id)
        except UpstreamError:
            return True  # Nobody else can have it while the router is away.

    def _find_open_session(self) -> str:
        return next((each.session_id for each, _ in list(self._sockets.values()) if each.is_open), "")
