"""Socket mode: takes from WebSockets what Slack would post otherwise. Runs in the collectors' process.

Slack's sockets are an app's, not a workspace's: it sends each event down one of them, whichever workspace it is from.
So a container has a socket while it holds a claim on any workspace, and takes whatever comes down: nobody else gets it.
No epoch refuses it for that reason; that it counts once is the database's doing. What is not stored, or comes when
nothing is held here any more, is not acknowledged, and then Slack sends it again, down another socket.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from waddlebot.base.bridge import Bridge
from waddlebot.base.contracts import ClaimedEntity
from waddlebot.base.errors import UpstreamError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.collecting.liveness import Liveness

from .intake import EventIntake
from .slack_calls import SlackCalls
from .slash_service import SlashService

if TYPE_CHECKING:
    from slack_sdk.socket_mode.aiohttp import SocketModeClient
    from slack_sdk.socket_mode.request import SocketModeRequest

LOOK_EVERY_S = 1.0
OPEN_WITHIN_S = 10.0
CLOSE_WITHIN_S = 5.0
# The SDK pings every five seconds.
PONG_WITHIN_S = 20.0
SILENT_AFTER = timedelta(seconds=60)
# Deliveries being stored at once; one commit serves many.
WORKERS = 16


class SocketService:
    def __init__(
        self,
        events: EventIntake,
        commands: SlashService,
        calls: SlackCalls,
        bridge: Bridge,
        liveness: Liveness,
        *,
        app_token: SecretStr,
        log: AAALog,
    ) -> None:
        self._events = events
        self._commands = commands
        self._calls = calls
        self._bridge = bridge
        self._liveness = liveness
        self._app_token = app_token
        self._log = log
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._client: SocketModeClient | None = None
        self._workers = ThreadPoolExecutor(WORKERS, "slack-socket")

    # Claims

    def gain(self, entity: ClaimedEntity) -> None:
        with self._lock:
            self._held.add(entity.entity_id)
        self._liveness.expect(entity.entity_id, silent_after=SILENT_AFTER)

    def lose(self, entity: ClaimedEntity) -> None:
        with self._lock:
            self._held.discard(entity.entity_id)

    def step(self) -> None:
        """Have a socket while any workspace is held, and none otherwise. Raises: UpstreamError."""
        with self._lock:
            held = set(self._held)
        if held and self._client is None:
            self._wait(self._open(), OPEN_WITHIN_S)
        elif not held and self._client is not None:
            self.close()
        if self._is_alive():
            for entity_id in held:
                self._liveness.heard(entity_id)

    def repair(self, _entity_id: str) -> None:
        """Something that comes down the socket is not heard any more: the next step opens another one."""
        self.close()

    def _is_alive(self) -> bool:
        """Whether Slack has answered a ping of late; that a socket is open says nothing."""
        client = self._client
        if client is None or client.current_session is None or client.current_session.closed:
            return False
        return time.time() - (client.last_ping_pong_time or time.time()) < PONG_WITHIN_S

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._wait(client.close(), CLOSE_WITHIN_S)  # type: ignore[no-untyped-call]
            self._log.system("socket_closed")

    # The socket

    async def _open(self) -> None:
        from slack_sdk.errors import SlackApiError
        from slack_sdk.socket_mode.aiohttp import SocketModeClient

        client = SocketModeClient(
            self._app_token.get_secret_value(),
            logger=logging.getLogger("slack_sdk"),
            web_client=self._calls.api.client(),
        )
        client.proxy = client.web_client.proxy
        client.socket_mode_request_listeners.append(self._heard)
        try:
            await client.connect_to_new_endpoint()
        except SlackApiError as err:
            await client.close()  # type: ignore[no-untyped-call]
            raise UpstreamError(f"Slack opens no socket: {err.response.get('error')}.") from err
        except (OSError, TimeoutError) as err:
            await client.close()  # type: ignore[no-untyped-call]
            raise UpstreamError(f"Slack opens no socket: {type(err).__name__}.") from err
        except BaseException:  # Cancelled, because it took too long, among others.
            await client.close()  # type: ignore[no-untyped-call]
            raise
        self._client = client
        self._log.system("socket_opened")

    async def _heard(self, client: Any, request: SocketModeRequest) -> None:
        from slack_sdk.socket_mode.response import SocketModeResponse

        if not self._held:
            return
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._workers, self._take, request.type, request.payload)
        except WaddleBotError as err:
            if err.retryable:
                # Without an acknowledgement Slack sends it again.
                self._log.error("envelope_not_taken", kind=request.type, code=err.code, message=err.message)
                return
            self._log.error("envelope_refused", kind=request.type, code=err.code, message=err.message)
            answer = None
        await client.send_socket_mode_response(SocketModeResponse(request.envelope_id, answer))

    def _take(self, kind: str, payload: dict[str, Any]) -> dict[str, Any] | None:
        if kind == "slash_commands":
            return self._commands.take(payload)
        if kind == "events_api":
            self._events.take(payload)
        return None

    def _wait(self, coroutine: Any, within_s: float) -> Any:
        future: Future[Any] = self._bridge.submit(coroutine)
        try:
            return future.result(within_s)
        except TimeoutError as err:
            future.cancel()
            raise UpstreamError("Slack's socket does not answer.") from err
