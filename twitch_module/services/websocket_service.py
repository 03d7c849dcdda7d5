"""EventSub over WebSockets: one connection for each channel that this container has claimed, as its broadcaster.

Our own client instead of the library's (twitchAPI 4.5): that one has a thread for each object, gives up after nine
tries, forgets what is on its way while it moves to another connection, and loses a subscription whose renewal fails.

Source: https://dev.twitch.tv/docs/eventsub/handling-websocket-events/
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from waddlebot.base.contracts import ClaimedEntity, OpaqueId, Wire
from waddlebot.base.errors import Busy, ProviderError, UpstreamError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.watched import Watched
from waddlebot.base.wire import parse_json, validate
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Holding
from waddlebot.community.tokens import NeedsReauth, NoToken

from .channel_service import ChannelService, SubscriptionRow
from .eventsub import parse_timestamp
from .notification_service import NotificationService, Origin
from .subscription_kinds import Kind, Who, wanted_kinds
from .subscription_service import CHECK_EVERY, MADE, RateLimited, refused_row
from .translation import CHAT_MESSAGE
from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient
    from websockets.asyncio.client import ClientConnection


KEEPALIVE_S = 20
# A keepalive may be late; a connection without one for so many of its intervals is dead.
MISSED = 2.0
CONNECT_TIMEOUT_S = 10.0
# What the old connection still holds after the new one was welcomed comes within this time.
DRAIN_S = 1.0
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
# Whoever has not consented is asked about again so often; consent itself is told at once.
CONSENT_PAUSE_S = 30.0
DATABASE_PAUSE_S = 0.5
NO_CHAT = "its chat cannot be heard (they have not consented to user:read:chat)"


class Metadata(Wire):
    message_id: OpaqueId
    message_type: str
    message_timestamp: str


class Session(Wire):
    id: OpaqueId
    keepalive_timeout_seconds: int | None = None
    reconnect_url: str | None = None


class Message(Wire):
    metadata: Metadata
    payload: dict[str, Any]

    @property
    def session(self) -> Session:
        session: Session = validate(Session.model_validate, self.payload.get("session"))
        return session


class SocketEnded(UpstreamError):
    """The connection to EventSub ended."""


@dataclass(slots=True)
class Welcomed:
    """A connection on which Twitch has said hello. What is being received goes on while others are waited for."""

    socket: ClientConnection
    session_id: str
    keepalive_s: float
    receiving: asyncio.Task[str | bytes] | None = None

    def receive(self) -> asyncio.Task[str | bytes]:
        if self.receiving is None:
            self.receiving = asyncio.create_task(self.socket.recv())  # not watched: `received` has its error
        return self.receiving

    def received(self) -> str | bytes:
        """What has been received. Raises: ConnectionClosed."""
        assert self.receiving is not None
        done, self.receiving = self.receiving, None
        return done.result()


class WebSocketService:
    """Opens a socket for each channel that is gained and closes it when it is lost. For the claims' thread."""

    def __init__(
        self,
        api: TwitchAPI,
        channels: ChannelService,
        collector: Collector,
        notifications: NotificationService,
        *,
        url: str,
        log: AAALog,
    ) -> None:
        self._api = api
        self._channels = channels
        self._collector = collector
        self._notifications = notifications
        self._url = f"{url}?{urlencode({'keepalive_timeout_seconds': KEEPALIVE_S})}"
        self._log = log
        self._sockets: dict[str, tuple[ChannelSocket, Future[None]]] = {}

    def gained(self, entity: ClaimedEntity) -> None:
        socket = ChannelSocket(
            self._api,
            self._channels,
            self._collector,
            self._notifications,
            url=self._url,
            claim=Holding(entity.entity_id, entity.epoch),
            broadcaster_id=entity.channel_id,
            log=self._log,
        )
        running = self._api.bridge.keep(Watched("channel-socket", self._log.module), socket.run)
        self._sockets[entity.entity_id] = socket, running

    def lost(self, entity: ClaimedEntity) -> None:
        found = self._sockets.pop(entity.entity_id, None)
        if found:
            found[1].cancel()
        if not self._channels.served_among([entity.channel_id]):
            self._collector.liveness.forget([entity.entity_id])  # Nobody will hear it, and nobody is to miss it.

    def step(self) -> None:
        """Have those channels looked at again whose consent or subscriptions have changed."""
        by_channel = {socket.broadcaster_id: socket for socket, _ in list(self._sockets.values())}
        for id_ in self._channels.take_due(by_channel, every=CHECK_EVERY, limit=len(by_channel)):
            self._api.bridge.start(by_channel[id_].look_again())

    def check(self) -> str:
        """Say how many of the sockets are open."""
        sockets = [socket for socket, _ in list(self._sockets.values())]
        return f"{sum(socket.is_open for socket in sockets)} of {len(sockets)} open"


class ChannelSocket:
    """One channel's session of EventSub. Everything runs on the bridge's loop."""

    def __init__(
        self,
        api: TwitchAPI,
        channels: ChannelService,
        collector: Collector,
        notifications: NotificationService,
        *,
        url: str,
        claim: Holding,
        broadcaster_id: str,
        log: AAALog,
    ) -> None:
        self.broadcaster_id = broadcaster_id
        self.is_open = False
        self._api = api
        self._channels = channels
        self._collector = collector
        self._notifications = notifications
        self._url = url
        self._claim = claim
        self._log = log
        self._session_id = ""
        self._rows: dict[str, SubscriptionRow] = {}
        self._subscribing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._was_open = False
        self._heard_at: datetime | None = None

    async def run(self) -> None:
        """Hear the channel until this is cancelled, connecting anew as often as it takes."""
        failures = 0
        while True:
            try:
                await self._hear()
            except (NoToken, NeedsReauth) as err:
                await self._note_trouble(f"nobody can hear it ({err.message.rstrip('.')})")
                await self._rest(CONSENT_PAUSE_S)
                continue
            except WaddleBotError as err:
                failures = 0 if self._was_open else failures + 1
                self._log.system(
                    "socket_ended", result="FAILED", entity_id=self._claim.entity_id, why=err.message, failures=failures
                )
            pause_s = min(FIRST_PAUSE_S * 2 ** min(failures, 10), MAX_PAUSE_S)
            await self._rest(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret

    async def look_again(self) -> None:
        """Subscribe to what is missing, or connect, if that was only waiting for something to change."""
        self._wake.set()
        if self.is_open:
            with contextlib.suppress(WaddleBotError):  # What is wrong is in the rows, or ends the session itself.
                await self._subscribe()

    async def _hear(self) -> None:
        """One session, with all the connections that it moves to. Raises: WaddleBotError when it ends."""
        self._was_open = False
        await self._api.user_token(self.broadcaster_id)
        now = await self._connect(self._url)
        try:
            self._session_id, self._rows = now.session_id, {}
            await self._subscribe()
            await self._note_gap()
            self.is_open = self._was_open = True
            self._heard_at = datetime.now(UTC)
            while True:
                now = await self._follow(now)
        finally:
            self.is_open = False
            await _close(now.socket)

    async def _connect(self, url: str) -> Welcomed:
        """A connection that Twitch has welcomed. Raises: SocketEnded."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                # Proxies of the environment are not for this; Twitch pings by itself.
                socket = await connect(url, proxy=None, ping_interval=None, max_size=2**20, close_timeout=1)
                try:
                    message = _read(await socket.recv())
                    if message.metadata.message_type != "session_welcome":
                        raise SocketEnded(f"Twitch said {message.metadata.message_type[:32]} instead of a welcome.")
                    session = message.session
                except BaseException:
                    await _close(socket)
                    raise
        except (OSError, TimeoutError, WebSocketException) as err:
            raise SocketEnded(f"no connection: {_why(err)}") from err
        keepalive_s = float(session.keepalive_timeout_seconds or KEEPALIVE_S)
        self._collector.liveness.expect(
            self._claim.entity_id, silent_after=timedelta(seconds=keepalive_s * MISSED + CONNECT_TIMEOUT_S)
        )
        return Welcomed(socket, session.id, keepalive_s)

    async def _follow(self, now: Welcomed) -> Welcomed:
        """Take what comes until Twitch has moved the session to another connection, and return that one.

        Raises: SocketEnded.
        """
        moving: asyncio.Task[Welcomed] | None = None
        try:
            while True:
                text = await self._next(now, moving)
                if text is not None:
                    url = await self._take(text)
                    if url and moving is None:
                        moving = asyncio.create_task(self._connect(url))  # not watched: it is waited for here
                    continue
                assert moving is not None
                moved, moving = self._finish_moving(moving), None
                if moved is not None:
                    await self._drain(now)
                    return moved
        finally:
            for task in (moving, now.receiving):
                if task is not None:
                    task.cancel()

    async def _next(self, now: Welcomed, moving: asyncio.Task[Welcomed] | None) -> str | bytes | None:
        """The next message, or None when the connection to move to is there or cannot be had.

        Raises: SocketEnded, unless there is another connection to come.
        """
        from websockets.exceptions import ConnectionClosed

        silence_s = now.keepalive_s * MISSED
        tasks: set[asyncio.Task[Any]] = {now.receive(), *([moving] if moving else [])}
        done, _ = await asyncio.wait(tasks, timeout=silence_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise SocketEnded(f"silent for {silence_s:.0f} s")
        if moving in done:
            return None
        try:
            return now.received()
        except ConnectionClosed as err:
            if moving is None:
                raise SocketEnded(f"closed: {_why(err)}") from err
            await asyncio.wait({moving})  # The old one may go as soon as the new one is asked for.
            if moving.exception() is not None:
                raise SocketEnded(f"closed: {_why(err)}") from err
            return None

    def _finish_moving(self, moving: asyncio.Task[Welcomed]) -> Welcomed | None:
        if moving.exception() is None:
            return moving.result()
        # Until Twitch closes the old connection everything still comes through it; then it is a new session.
        self._log.system(
            "session_not_moved", result="FAILED", entity_id=self._claim.entity_id, why=str(moving.exception())
        )
        return None

    async def _drain(self, old: Welcomed) -> None:
        """Take what Twitch had sent through the old connection before it welcomed the new one."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            while (await asyncio.wait({old.receive()}, timeout=DRAIN_S))[0]:
                await self._take(old.received())
        await _close(old.socket)

    async def _take(self, text: str | bytes) -> str:
        """Act on one message. Returns where to connect to, if that is what it says."""
        try:
            message = _read(text)
        except WaddleBotError:
            self._collector.count("unknown", "not understood")
            return ""
        self._heard_at = datetime.now(UTC)
        self._collector.liveness.heard(self._claim.entity_id)
        kind = message.metadata.message_type
        if kind == "session_reconnect":
            return message.session.reconnect_url or ""
        if kind in ("notification", "revocation"):
            await self._keep(message)
        elif kind != "session_keepalive":
            self._collector.count("unknown", "ignored")
        return ""

    async def _keep(self, message: Message) -> None:
        is_notification = message.metadata.message_type == "notification"
        handle = self._notifications.notify if is_notification else self._notifications.revoke
        while True:
            try:
                sent_at = parse_timestamp(message.metadata.message_timestamp)
                origin = Origin(message.metadata.message_id, sent_at, self._claim)
                # It may look something up, for which the loop cannot wait.
                await asyncio.to_thread(handle, message.payload, origin, self._collector.keep)
                break
            except Busy:
                await asyncio.sleep(DATABASE_PAUSE_S)  # Twitch says it only once, so it is kept until it can be.
            except WaddleBotError:
                self._collector.count("unknown", "not understood")
                return
        if not is_notification:
            self._rows.pop(str(message.payload["subscription"]["type"]), None)

    async def _subscribe(self) -> None:
        """Subscribe to whatever the broadcaster's consent allows and is not there yet.

        Raises: NoToken; NeedsReauth; UpstreamError.
        """
        async with self._subscribing:
            token = await self._api.user_token(self.broadcaster_id)
            session_id = self._session_id
            for kind in wanted_kinds(token.scopes, "websocket"):
                row = self._rows.get(kind.type)
                if row is None or not row.subscription_id:
                    self._rows[kind.type] = await self._subscribe_to(kind, session_id)
            rows = list(self._rows.values())
            await asyncio.to_thread(self._channels.save_subscriptions, [self.broadcaster_id], rows)
            await self._note_trouble(_trouble(self._rows))

    async def _subscribe_to(self, kind: Kind, session_id: str) -> SubscriptionRow:
        who = Who(self.broadcaster_id, self.broadcaster_id)
        row = SubscriptionRow(self.broadcaster_id, kind.type, kind.version, "refused", "websocket")

        async def listen(client: HelixClient) -> str:
            from .helix import FleetEventSub

            return await kind.listen(FleetEventSub(client, {"method": "websocket", "session_id": session_id}), who)

        while True:
            try:
                made = await self._api.as_user(self.broadcaster_id, listen)
                return SubscriptionRow(self.broadcaster_id, kind.type, kind.version, MADE, "websocket", made)
            except ProviderError as err:
                if not err.status:
                    raise
                if "session" in err.words and err.status == 400:
                    raise SocketEnded(err.words) from err
                try:
                    return refused_row(row, err)
                except RateLimited as limited:
                    await asyncio.sleep(limited.pause_s)

    async def _note_gap(self) -> None:
        """Write down since when nothing was heard, if something was before."""
        if self._heard_at is None:
            return
        await asyncio.to_thread(
            self._collector.liveness.note_gap,
            self._claim.entity_id,
            since=self._heard_at,
            until=datetime.now(UTC),
            why="The connection to Twitch was lost; it does not say again what happened meanwhile.",
        )

    async def _note_trouble(self, trouble: str) -> None:
        with contextlib.suppress(Busy):  # Without a database there is nobody to tell, and the socket goes on.
            await asyncio.to_thread(self._channels.note_trouble, {self.broadcaster_id: trouble})

    async def _rest(self, pause_s: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._wake.wait()


def _read(text: str | bytes) -> Message:
    """Raises: BadRequest; Invalid."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    message: Message = validate(Message.model_validate, parse_json(raw))
    return message


def _trouble(rows: dict[str, SubscriptionRow]) -> str:
    chat = rows.get(CHAT_MESSAGE)
    if chat is None:
        return NO_CHAT
    return f"its chat cannot be heard ({chat.reason})" if chat.reason else ""


async def _close(socket: ClientConnection) -> None:
    from websockets.exceptions import WebSocketException

    with contextlib.suppress(OSError, WebSocketException):
        await socket.close()


def _why(err: BaseException) -> str:
    """What ended a connection: Twitch's close code and words, or the name of what went wrong."""
    received = getattr(err, "rcvd", None)
    return f"{received.code} {received.reason}"[:200] if received is not None else type(err).__name__
