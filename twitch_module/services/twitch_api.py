"""Calling Twitch: as the application, or as somebody who consented. The one place that knows whose token is used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr
from waddlebot.base.bridge import Bridge
from waddlebot.community.tokens import Grant, Token, Tokens
from waddlebot.data.database import check_no_transaction

from .refusals import HelixRefusal, NoAppToken

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from .helix import Application, Consent, HelixClient

T = TypeVar("T")

# Longer than anything here may take, so that only a bug ever meets it.
CALL_TIMEOUT_S = 60.0

Call = Callable[["HelixClient"], Awaitable[T]]


class TwitchAPI:
    """Whoever calls from a thread does it through `run`; what is awaited runs on the bridge's loop."""

    def __init__(
        self,
        *,
        app_id: str,
        app_secret: SecretStr,
        api_base_url: str,
        auth_base_url: str,
        tokens: Tokens,
        bridge: Bridge,
    ) -> None:
        self.tokens = tokens
        self.app_id = app_id
        self.bridge = bridge
        self._app_secret = app_secret
        self._api_base_url = api_base_url
        self._auth_base_url = auth_base_url
        # All three belong to the bridge's loop.
        self._open_connections: ClientSession | None = None
        self._client: HelixClient | None = None
        self._opening: asyncio.Lock | None = None

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        """Wait in this thread for what runs on the bridge's loop."""
        check_no_transaction()
        return self.bridge.submit(coroutine).result(timeout_s)

    @property
    def app_room(self) -> int | None:
        """How many more requests the app may make this minute, if that is known."""
        return self._client.room if self._client else None

    async def as_app(self, call: Call[T]) -> T:
        """Call with the app's token, or with a new one if Twitch refuses the one at hand.

        Raises: HelixRefusal; TwitchAway and NoAppToken when nothing was done; TwitchUnclear.
        """
        from .helix import in_our_words

        client = await self._client_other_than(None)
        try:
            with in_our_words():
                return await call(client)
        except HelixRefusal as err:
            if err.status != 401:
                raise
        client = await self._client_other_than(client)
        try:
            with in_our_words():
                return await call(client)
        except HelixRefusal as err:
            if err.status == 401 and self._client is client:
                self._client = None
            raise

    async def as_user(self, user_id: str, call: Call[T]) -> T:
        """Call with the token of somebody who consented, renewed if need be.

        Raises: NoToken; NeedsReauth; HelixRefusal, also for a scope that they did not grant; TwitchAway;
        TwitchUnclear; RefreshPending.
        """
        from .helix import in_our_words

        token = await self.user_token(user_id)
        try:
            with in_our_words():
                return await call(await self._application.open_user_client(token, self._connections))
        except HelixRefusal as err:
            if err.status != 401 or "scope" in err.words:
                raise
        token = await self.user_token(user_id, refused=token)
        with in_our_words():
            return await call(await self._application.open_user_client(token, self._connections))

    async def user_token(self, user_id: str, *, refused: Token | None = None) -> Token:
        """Raises: NoToken; NeedsReauth; TwitchAway; TwitchUnclear; RefreshPending."""
        return await asyncio.to_thread(self.tokens.fresh, user_id, self._renew, refused=refused)

    async def check_user(self, token: Token) -> None:
        """Ask Twitch whether it still takes a token, and renew one that it does not take. Raises as `user_token`."""
        if not await self._application.validate(token):
            await self.user_token(token.owner, refused=token)

    def authorize_url(self, scopes: tuple[str, ...], *, redirect_uri: str, state: str) -> str:
        return self._application.authorize_url(scopes, redirect_uri=redirect_uri, state=state)

    async def exchange(self, code: str, *, redirect_uri: str) -> Consent:
        """Raises: CodeRefused; TwitchAway; TwitchUnclear."""
        return await self._application.exchange(code, redirect_uri=redirect_uri)

    async def revoke(self, access: str) -> None:
        """Raises: TwitchAway; TwitchUnclear."""
        await self._application.revoke(access)

    def _renew(self, token: Token) -> Grant:
        """In a thread that may wait, because the loop does the work."""
        return self.run(self._application.renew(token))

    @property
    def _application(self) -> Application:
        from .helix import Application

        return Application(self.app_id, self._app_secret.get_secret_value(), self._api_base_url, self._auth_base_url)

    @property
    def _connections(self) -> ClientSession:
        from .helix import open_connections

        if self._open_connections is None:
            self._open_connections = open_connections()
        return self._open_connections

    async def _client_other_than(self, refused: HelixClient | None) -> HelixClient:
        """The app's client at hand, or a new one. Of many that are refused at once only the first asks for a token.

        Raises: NoAppToken.
        """
        from . import helix

        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._client is None or self._client is refused:
                self._client = None
                try:
                    async with asyncio.timeout(helix.TOKEN_TIMEOUT_S):
                        self._client = await self._application.open_client(self._connections)
                except (*helix.NOT_UNDERSTOOD, *helix.BROKEN_OFF) as err:
                    # Its message may contain the secret.
                    raise NoAppToken(f"no app token: {type(err).__name__}") from err
            return self._client
