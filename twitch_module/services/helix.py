"""What people consent to at Twitch, and subscriptions made with it. Imported at first use only: it loads aiohttp."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from twitchAPI.eventsub.webhook import EventSubWebhook
from twitchAPI.oauth import UserAuthenticator, refresh_access_token, revoke_token, validate_token
from twitchAPI.type import AuthScope, InvalidRefreshTokenException, TwitchAPIException, UnauthorizedException
from waddlebot.base.errors import Away, Unclear
from waddlebot.community.tokens import Grant, RefreshRefused, Token
from waddlebot.web.helix_client import HelixClient, default_timeout, in_our_words, new_client
from waddlebot.web.twitch_app import TwitchApp

from .refusals import CodeRefused

# The library knows scopes by this enumeration only.
KNOWN_SCOPES = {scope.value: scope for scope in AuthScope}


@dataclass(frozen=True, slots=True)
class Consent:
    """Who consented, and to what."""

    user_id: str
    login: str
    grant: Grant


class FleetEventSub(EventSubWebhook):
    """Makes subscriptions and receives nothing: it is never started, because our own webhook and sockets do that.

    Each `listen_…` returns the new subscription's id. Raises: Refused; Later; Unclear.
    """

    def __init__(self, client: HelixClient, transport: dict[str, str]) -> None:
        # It insists on the https address and the port of a server of its own, which there is not.
        super().__init__("https://localhost", 0, client)
        self.wait_for_subscription_confirm = False
        self._client = client
        self._transport = transport

    def _get_transport(self) -> dict[str, str]:
        return self._transport

    async def _build_request_header(self) -> dict[str, str]:
        """As the library does, without asking Twitch each time whether the token is valid."""
        return {"Client-ID": self._twitch.app_id, "Authorization": f"Bearer {self._twitch.get_used_token()}"}

    async def _api_post_request(
        self, _session: aiohttp.ClientSession, url: str, data: dict[str, Any] | None = None
    ) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await super()._api_post_request(self._client.connections, url, data)
        await self._client.check(response)
        return response

    def _add_callback(self, c_id: str, callback: Any, event: Any) -> None:
        """Nothing is called back, so nothing is kept."""


async def nobody(_: Any) -> None:
    """The callback that the library insists on."""


@dataclass(frozen=True, slots=True)
class Consents:
    """What people let the fleet's application do, and the tokens that they gave it."""

    app: TwitchApp

    async def open_user_client(self, token: Token, connections: aiohttp.ClientSession) -> HelixClient:
        """A client with somebody's token. Nothing is asked of Twitch."""
        client = new_client(self.app)
        client.connections = connections
        client.auto_refresh_auth = False
        await client.set_user_authentication(token.access, _known(token.scopes), validate=False)
        return client

    def authorize_url(self, scopes: Sequence[str], *, redirect_uri: str, state: str) -> str:
        return str(self._authenticator(scopes, redirect_uri, state).return_auth_url())  # type: ignore[no-untyped-call]

    async def exchange(self, code: str, *, redirect_uri: str) -> Consent:
        """What a code that the browser brought is worth. Raises: CodeRefused; Away; Unclear."""
        with in_our_words():
            try:
                access, refresh = await self._authenticator((), redirect_uri, "").authenticate(user_token=code)
            except TwitchAPIException as err:
                # Its text is the answer's body; a 5xx says nothing about the code.
                raise (CodeRefused() if "'status': 4" in str(err) else err) from err
            about = await self._validated(access)
        if about is None or "user_id" not in about:
            raise CodeRefused("Twitch does not say whose consent that is.")
        return Consent(str(about["user_id"]), str(about["login"]), _grant(access, refresh, about))

    async def renew(self, token: Token) -> Grant:
        """A new token for one that has ended. Raises: RefreshRefused; Away; Unclear."""
        with in_our_words():
            try:
                async with aiohttp.ClientSession(timeout=default_timeout()) as session:
                    access, refresh = await refresh_access_token(
                        token.refresh,
                        self.app.app_id,
                        self.app.app_secret.get_secret_value(),
                        session,
                        auth_base_url=self.app.auth_base_url,
                    )
            except (InvalidRefreshTokenException, UnauthorizedException) as err:
                if "token" not in str(err).lower():  # It is the application that Twitch refuses, not the person's word.
                    raise
                raise RefreshRefused(f"Twitch does not take their consent any more ({str(err)[:100]})") from err
        # The old refresh token may be worth nothing by now, so nothing may keep the new one from being kept.
        about = None
        with contextlib.suppress(Away, Unclear), in_our_words():
            about = await self._validated(access)
        return _grant(access, refresh, about or {})

    async def validate(self, token: Token) -> bool:
        """Whether Twitch still takes a token; it wants to be asked every hour. Raises: Away; Unclear."""
        with in_our_words():
            return await self._validated(token.access) is not None

    async def revoke(self, access: str) -> None:
        """Make a token worthless at Twitch; one that is already is left. Raises: Away; Unclear."""
        with in_our_words():
            async with aiohttp.ClientSession(timeout=default_timeout()) as session:
                await revoke_token(self.app.app_id, access, session, auth_base_url=self.app.auth_base_url)

    async def _validated(self, access: str) -> dict[str, Any] | None:
        """What Twitch says about a token; None for one that it does not take."""
        async with aiohttp.ClientSession(timeout=default_timeout()) as session:
            about: dict[str, Any] = await validate_token(access, session, auth_base_url=self.app.auth_base_url)
        if about.get("status") == 401:
            return None
        if "client_id" not in about:
            raise ValueError("neither a token's description nor a refusal")
        return about

    def _authenticator(self, scopes: Sequence[str], redirect_uri: str, state: str) -> UserAuthenticator:
        made = UserAuthenticator(
            new_client(self.app), _known(scopes), url=redirect_uri, auth_base_url=self.app.auth_base_url
        )
        made.state = state
        return made


def _grant(access: str, refresh: str, about: dict[str, Any]) -> Grant:
    expires_in = about.get("expires_in")
    expires_at = datetime.now(UTC) + timedelta(seconds=expires_in) if expires_in else None
    return Grant(access, refresh, expires_at, tuple(scope.value for scope in about.get("scopes") or () if scope))


def _known(scopes: Sequence[str]) -> list[AuthScope]:
    return [KNOWN_SCOPES[scope] for scope in scopes if scope in KNOWN_SCOPES]
