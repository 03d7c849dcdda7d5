"""EventSub over WebSockets: one connection for each channel that this container has claimed, as its broadcaster.

Source: https://dev.twitch.tv/docs/eventsub/handling-websocket-events/
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from waddlebot.base.contracts import ClaimedEntity
from waddlebot.base.errors import Busy, ProviderError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.watched import Watched
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Holding
from waddlebot.community.tokens import NeedsReauth, NoToken

from .channel_service import ChannelService, SubscriptionRow
from .eventsub_socket import FIRST_PAUSE_S, MAX_PAUSE_S, EventSubSocket, SocketEnded, close_socket, socket_url
from .notification_service import NotificationService
from .subscription_kinds import Kind, Who, wanted_kinds
from .subscription_service import CHECK_EVERY, MADE, RateLimited, refused_row
from .translation import CHAT_MESSAGE
from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient


# Whoever has not consented is asked about again so often; consent itself is told at once.
CONSENT_PAUSE_S = 30.0
NO_CHAT = "its chat cannot be heard (they have not consented to user:read:chat)"


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
        self._url = socket_url(url)
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


class ChannelSocket(EventSubSocket):
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
        super().__init__(collector, notifications, entity_id=claim.entity_id, holding=claim, log=log)
        self.broadcaster_id = broadcaster_id
        self.is_open = False
        self._api = api
        self._channels = channels
        self._url = url
        self._session_id = ""
        self._rows: dict[str, SubscriptionRow] = {}
        self._subscribing = asyncio.Lock()
        self._was_open = False

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
                    "socket_ended", result="FAILED", entity_id=self.entity_id, why=err.message, failures=failures
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
            await close_socket(now.socket)

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

    def _note_revoked(self, type_: str) -> None:
        self._rows.pop(type_, None)

    async def _note_trouble(self, trouble: str) -> None:
        with contextlib.suppress(Busy):  # Without a database there is nobody to tell, and the socket goes on.
            await asyncio.to_thread(self._channels.note_trouble, {self.broadcaster_id: trouble})


def _trouble(rows: dict[str, SubscriptionRow]) -> str:
    chat = rows.get(CHAT_MESSAGE)
    if chat is None:
        return NO_CHAT
    return f"its chat cannot be heard ({chat.reason})" if chat.reason else ""
