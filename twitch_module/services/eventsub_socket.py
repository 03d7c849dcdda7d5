"""One session of EventSub over a WebSocket, whatever it is for: hearing it, and moving with it without a loss.

Our own client instead of the library's (twitchAPI 4.5): that one has a thread for each object, gives up after nine
tries, forgets what is on its way while it moves to another connection, and loses a subscription whose renewal fails.

Source: https://dev.twitch.tv/docs/eventsub/handling-websocket-events/
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from waddlebot.base.contracts import OpaqueId, Wire
from waddlebot.base.errors import Busy, UpstreamError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import parse_json, validate
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Holding

from .eventsub import parse_timestamp
from .notification_service import NotificationService, Origin

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


KEEPALIVE_S = 20
# A keepalive may be late; a connection without one for so many of its intervals is dead.
MISSED = 2.0
CONNECT_TIMEOUT_S = 10.0
# What the old connection still holds after the new one was welcomed comes within this time.
DRAIN_S = 1.0
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
DATABASE_PAUSE_S = 0.5


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


class EventSubSocket:
    """A session, with all the connections that it moves to. Everything runs on the bridge's loop.

    `entity_id` is what its signs of life are noted of; under `holding`, where there is one, what it brings is kept.
    """

    def __init__(
        self,
        collector: Collector,
        notifications: NotificationService,
        *,
        entity_id: str,
        holding: Holding | None,
        log: AAALog,
    ) -> None:
        self.entity_id = entity_id
        self._collector = collector
        self._notifications = notifications
        self._holding = holding
        self._log = log
        self._wake = asyncio.Event()
        self._heard_at: datetime | None = None

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
                    await close_socket(socket)
                    raise
        except (OSError, TimeoutError, WebSocketException) as err:
            raise SocketEnded(f"no connection: {_why(err)}") from err
        keepalive_s = float(session.keepalive_timeout_seconds or KEEPALIVE_S)
        self._note_promise(keepalive_s)
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
                    await self._note_moved(moved)
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
        self._log.system("session_not_moved", result="FAILED", entity_id=self.entity_id, why=str(moving.exception()))
        return None

    async def _drain(self, old: Welcomed) -> None:
        """Take what Twitch had sent through the old connection before it welcomed the new one."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            while (await asyncio.wait({old.receive()}, timeout=DRAIN_S))[0]:
                await self._take(old.received())
        await close_socket(old.socket)

    async def _take(self, text: str | bytes) -> str:
        """Act on one message. Returns where to connect to, if that is what it says."""
        try:
            message = _read(text)
        except WaddleBotError:
            self._collector.count("unknown", "not understood")
            return ""
        self._heard_at = datetime.now(UTC)
        self._note_sign()
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
                origin = Origin(message.metadata.message_id, sent_at, self._holding)
                # It may look something up, for which the loop cannot wait.
                await asyncio.to_thread(handle, message.payload, origin, self._collector.keep)
                break
            except Busy:
                await asyncio.sleep(DATABASE_PAUSE_S)  # Twitch says it only once, so it is kept until it can be.
            except WaddleBotError:
                self._collector.count("unknown", "not understood")
                return
        if not is_notification:
            self._note_revoked(str(message.payload["subscription"]["type"]))

    async def _rest(self, pause_s: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._wake.wait()

    async def _note_gap(self) -> None:
        """Write down since when nothing was heard, if something was before."""
        if self._heard_at is None:
            return
        await asyncio.to_thread(
            self._collector.liveness.note_gap,
            self.entity_id,
            since=self._heard_at,
            until=datetime.now(UTC),
            why="The connection to Twitch was lost; it does not say again what happened meanwhile.",
        )

    def _note_promise(self, keepalive_s: float) -> None:
        """Twitch has said how often it gives a sign of life."""
        silent_after = timedelta(seconds=keepalive_s * MISSED + CONNECT_TIMEOUT_S)
        self._collector.liveness.expect(self.entity_id, silent_after=silent_after)

    def _note_sign(self) -> None:
        """Something has come."""
        self._collector.liveness.heard(self.entity_id)

    async def _note_moved(self, moved: Welcomed) -> None:
        """Twitch has welcomed the connection that the session moves to; the old one still delivers."""

    def _note_revoked(self, type_: str) -> None:
        """Twitch has ended a subscription of this type."""


def socket_url(url: str) -> str:
    return f"{url}?{urlencode({'keepalive_timeout_seconds': KEEPALIVE_S})}"


def _read(text: str | bytes) -> Message:
    """Raises: BadRequest; Invalid."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    message: Message = validate(Message.model_validate, parse_json(raw))
    return message


async def close_socket(socket: ClientConnection) -> None:
    from websockets.exceptions import WebSocketException

    with contextlib.suppress(OSError, WebSocketException):
        await socket.close()


def _why(err: BaseException) -> str:
    """What ended a connection: Twitch's close code and words, or the name of what went wrong."""
    received = getattr(err, "rcvd", None)
    return f"{received.code} {received.reason}"[:200] if received is not None else type(err).__name__
