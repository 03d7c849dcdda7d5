"""Asking Twitch as the fleet's application, for every module that has a question. Users' tokens stay in the collector.

twitch = Helix(settings.twitch_app, service.providers, shared_bridge())

async def find_clips(client: HelixClient) -> list[Clip]:
    return [clip async for clip in client.get_clips(broadcaster_id=id_, first=20)]

clips = twitch.look_up(find_clips, within_s=left_s)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..base.bridge import Bridge
from ..base.errors import Away, NotConfigured, ProviderError, Refused
from ..base.transactions import check_no_transaction
from .provider import Providers
from .twitch_app import TwitchApp

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from .helix_client import HelixClient

T = TypeVar("T")

# Longer than anything here may take, so that only a bug ever meets it.
CALL_TIMEOUT_S = 60.0

Call = Callable[["HelixClient"], Awaitable[T]]


class NoAppToken(Away):
    """Twitch gives this application no token: it is away, or TWITCH_APP_ID and TWITCH_APP_SECRET are wrong."""


class Helix:
    """Calls Helix with the app's token. A module's threads use `look_up` and `effect`, which keep to the policy for
    providers; what is awaited runs on the bridge's loop and leaves the policy to whoever awaits it."""

    def __init__(self, app: TwitchApp | None, providers: Providers, bridge: Bridge) -> None:
        self.bridge = bridge
        self._app = app
        self._log = providers.log
        self._provider = providers.add("twitch", title="Twitch", translate=_translate)
        # All three belong to the bridge's loop.
        self._open_connections: ClientSession | None = None
        self._client: HelixClient | None = None
        self._opening: asyncio.Lock | None = None

    def look_up(self, call: Call[T], *, within_s: float | None = None) -> T:
        """Ask for something. Raises: Refused; Away; Later; Unclear; NotConfigured without an application."""
        return self._provider.look_up(lambda timeout_s: self._within(call, timeout_s), within_s=within_s)

    def effect(self, call: Call[T], *, within_s: float | None = None) -> T:
        """Have something done, once. Raises as `look_up`."""
        return self._provider.effect(lambda timeout_s: self._within(call, timeout_s), within_s=within_s)

    def _within(self, call: Call[T], timeout_s: float) -> T:
        async def ask() -> T:
            async with asyncio.timeout(timeout_s):
                return await self.as_app(call)

        return self.run(ask())

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        """Wait in this thread for what runs on the bridge's loop."""
        check_no_transaction()
        return self.bridge.submit(coroutine).result(timeout_s)

    @property
    def app(self) -> TwitchApp:
        """Raises: NotConfigured."""
        if self._app is None:
            raise NotConfigured("Twitch is not set up here: set TWITCH_APP_ID and TWITCH_APP_SECRET.")
        return self._app

    @property
    def app_room(self) -> int | None:
        """How many more requests the app may make this minute, if that is known."""
        return self._client.room if self._client else None

    async def as_app(self, call: Call[T]) -> T:
        """Call with the app's token, or with a new one if Twitch refuses the one at hand.

        Raises: Refused; Later, Away and NoAppToken when nothing was done; Unclear.
        """
        from .helix_client import in_our_words

        client = await self._client_other_than(None)
        try:
            with in_our_words():
                return await call(client)
        except Refused as err:
            if not err.is_about_token:
                raise
        client = await self._client_other_than(client)
        try:
            with in_our_words():
                return await call(client)
        except Refused as err:
            if err.is_about_token and self._client is client:
                self._client = None
            raise

    @property
    def connections(self) -> ClientSession:
        """For all requests to Helix, whoever they are made as. On the bridge's loop."""
        from .helix_client import open_connections

        if self._open_connections is None:
            self._open_connections = open_connections()
        return self._open_connections

    async def close(self) -> None:
        """Close the connections. On the bridge's loop."""
        if self._open_connections is not None:
            await self._open_connections.close()
            self._open_connections = None

    async def _client_other_than(self, refused: HelixClient | None) -> HelixClient:
        """The app's client at hand, or a new one. Of many that are refused at once only the first asks for a token.

        Raises: NoAppToken; NotConfigured.
        """
        from . import helix_client

        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._client is None or self._client is refused:
                self._client = None
                try:
                    async with asyncio.timeout(helix_client.TOKEN_TIMEOUT_S):
                        self._client = await helix_client.open_client(self.app, self.connections)
                except (*helix_client.NOT_UNDERSTOOD, *helix_client.BROKEN_OFF) as err:
                    # Its message may contain the secret.
                    raise NoAppToken(f"no app token: {type(err).__name__}") from err
                self._log.auth("app_token_renewed" if refused else "app_token_made", provider="twitch")
            return self._client


def _translate(err: Exception) -> ProviderError | None:
    from .helix_client import translate

    return translate(err)
