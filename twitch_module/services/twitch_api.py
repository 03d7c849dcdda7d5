"""Calling Twitch: as the application, or as somebody who consented. The one place that knows whose token is used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from waddlebot.base.bridge import Bridge
from waddlebot.base.errors import Refused
from waddlebot.community.tokens import Grant, Token, Tokens
from waddlebot.web.helix import Call, Helix
from waddlebot.web.provider import Providers
from waddlebot.web.twitch_app import TwitchApp

if TYPE_CHECKING:
    from .helix import Consent, Consents

T = TypeVar("T")


class TwitchAPI(Helix):
    """Whoever calls from a thread does it through `run`; what is awaited runs on the bridge's loop."""

    def __init__(self, app: TwitchApp, tokens: Tokens, providers: Providers, bridge: Bridge) -> None:
        super().__init__(app, providers, bridge)
        self.tokens = tokens

    async def as_user(self, user_id: str, call: Call[T]) -> T:
        """Call with the token of somebody who consented, renewed if need be.

        Raises: NoToken; NeedsReauth; Refused, also for a scope that they did not grant; Away;
        Unclear; RefreshPending.
        """
        from waddlebot.web.helix_client import in_our_words

        token = await self.user_token(user_id)
        try:
            with in_our_words():
                return await call(await self._consents.open_user_client(token, self.connections))
        except Refused as err:
            if not err.is_about_token or "scope" in err.words:
                raise
        token = await self.user_token(user_id, refused=token)
        with in_our_words():
            return await call(await self._consents.open_user_client(token, self.connections))

    async def user_token(self, user_id: str, *, refused: Token | None = None) -> Token:
        """Raises: NoToken; NeedsReauth; Away; Unclear; RefreshPending."""
        return await asyncio.to_thread(self.tokens.fresh, user_id, self._renew, refused=refused)

    async def check_user(self, token: Token) -> None:
        """Ask Twitch whether it still takes a token, and renew one that it does not take. Raises as `user_token`."""
        if not await self._consents.validate(token):
            await self.user_token(token.owner, refused=token)

    def authorize_url(self, scopes: tuple[str, ...], *, redirect_uri: str, state: str) -> str:
        return self._consents.authorize_url(scopes, redirect_uri=redirect_uri, state=state)

    async def exchange(self, code: str, *, redirect_uri: str) -> Consent:
        """Raises: CodeRefused; Away; Unclear."""
        return await self._consents.exchange(code, redirect_uri=redirect_uri)

    async def revoke(self, access: str) -> None:
        """Raises: Away; Unclear."""
        await self._consents.revoke(access)

    def _renew(self, token: Token) -> Grant:
        """In a thread that may wait, because the loop does the work."""
        return self.run(self._consents.renew(token))

    @property
    def _consents(self) -> Consents:
        from .helix import Consents

        return Consents(self.app)
