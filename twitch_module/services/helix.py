"""Twitch's library, made to say plainly what Twitch answered. Imported at first use only: it loads aiohttp.

What the library does with an answer that is not a success does not suit a fleet (twitchAPI 4.5): it sleeps through a
429 and then fails on the missing `data`, sleeps after a success that used up the limit, repeats a request after a 503,
takes a 403 for an empty list, one failed token refresh makes every later call of the object hang, an object with an app
and a user token renews the wrong one, an app token that arrives after its headers is lost, because it is read when its
session is closed, and each request makes a connection of its own. So a client here has one token, never renews it,
raises whatever is no success, and uses connections that stay open.

The texts of aiohttp's exceptions may hold a URL with the app's secret in its query: only their names are ever told.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from twitchAPI.eventsub.webhook import EventSubWebhook
from twitchAPI.helper import build_scope
from twitchAPI.oauth import UserAuthenticator, refresh_access_token, revoke_token, validate_token
from twitchAPI.object.api import SendMessageResponse
from twitchAPI.twitch import Twitch
from twitchAPI.type import (
    AuthScope,
    EventSubSubscriptionError,
    InvalidRefreshTokenException,
    MissingScopeException,
    TwitchAPIException,
    TwitchAuthorizationException,
    UnauthorizedException,
)
from waddlebot.community.tokens import Grant, RefreshRefused, Token

from .refusals import CodeRefused, HelixRefusal, TwitchAway, TwitchUnclear

CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 5.0
TOKEN_TIMEOUT_S = 4.0
MAX_RETRY_AFTER_S = 60.0

# Raised before anything could reach Twitch.
NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# Raised when nobody can know whether it did, or what it answered.
BROKEN_OFF = (aiohttp.ClientError, TimeoutError, OSError)
NOT_UNDERSTOOD = (KeyError, TypeError, ValueError, AttributeError, TwitchAPIException)
# The library knows scopes by this enumeration only.
KNOWN_SCOPES = {scope.value: scope for scope in AuthScope}


@dataclass(frozen=True, slots=True)
class Consent:
    """Who consented, and to what."""

    user_id: str
    login: str
    grant: Grant


class HelixClient(Twitch):  # type: ignore[misc]
    """One token, the app's or a user's. A refused token ends the object: make another."""

    # How many requests this token has left in its bucket, as of the latest answer.
    room: int | None = None
    connections: aiohttp.ClientSession

    async def _api_request(
        self, method: str, _session: aiohttp.ClientSession, *arguments: Any, **options: Any
    ) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await super()._api_request(method, self.connections, *arguments, **options)
        return response

    async def _check_request_return(
        self, _session: aiohttp.ClientSession, response: aiohttp.ClientResponse, *_: Any, **__: Any
    ) -> aiohttp.ClientResponse:
        await self.check(response)
        return response

    async def check(self, response: aiohttp.ClientResponse) -> None:
        """Note what is left of the limit. Raises: HelixRefusal for all but success."""
        with contextlib.suppress(KeyError, ValueError):
            self.room = int(response.headers["Ratelimit-Remaining"])
        if response.status < 400:
            await response.read()  # Not everybody does, and until then nobody else has the connection.
            return
        message = ""
        with contextlib.suppress(*NOT_UNDERSTOOD, aiohttp.ClientError):
            message = str((await response.json(content_type=None)).get("message", ""))[:200]
        response.release()
        raise HelixRefusal(response.status, message, _retry_after_s(response))

    async def _generate_app_token(self) -> None:
        asked = {
            "client_id": self.app_id,
            "client_secret": self.app_secret,
            "grant_type": "client_credentials",
            "scope": build_scope(self._app_auth_scope),
        }
        url = f"{self.auth_base_url}token"
        async with (
            aiohttp.ClientSession(timeout=self.session_timeout) as session,
            session.post(url, params=asked) as response,
        ):
            if response.status != 200:
                raise TwitchAuthorizationException(f"HTTP {response.status}")
            self._app_auth_token = (await response.json(content_type=None))["access_token"]

    async def say(self, broadcaster_id: str, sender_id: str, text: str, *, reply_to: str) -> SendMessageResponse:
        return await self.send_chat_message(broadcaster_id, sender_id, text, reply_parent_message_id=reply_to or None)


class FleetEventSub(EventSubWebhook):  # type: ignore[misc]
    """Makes subscriptions and receives nothing: it is never started, because our own webhook and sockets do that.

    Each `listen_…` returns the new subscription's id. Raises: HelixRefusal.
    """

    def __init__(self, client: HelixClient, transport: dict[str, str]) -> None:
        # It insists on the https address and the port of a server of its own, which there is not.
        super().__init__("https://localhost", 0, client)
        self.wait_for_subscription_confirm = False
        self._transport = transport

    def _get_transport(self) -> dict[str, str]:
        return self._transport

    async def _build_request_header(self) -> dict[str, str]:
        """As the library does, without asking Twitch each time whether the token is valid."""
        return {"Client-ID": self._twitch.app_id, "Authorization": f"Bearer {self._twitch.get_used_token()}"}

    async def _api_post_request(
        self, _session: aiohttp.ClientSession, url: str, data: dict[str, Any] | None = None
    ) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await super()._api_post_request(self._twitch.connections, url, data)
        await self._twitch.check(response)
        return response

    def _add_callback(self, c_id: str, callback: Any, event: Any) -> None:
        """Nothing is called back, so nothing is kept."""


async def nobody(_: Any) -> None:
    """The callback that the library insists on."""


@contextlib.contextmanager
def in_our_words() -> Iterator[None]:
    """Raises: TwitchAway when nothing can have reached Twitch, TwitchUnclear when something may have."""
    try:
        yield
    except NOT_CONNECTED as err:
        raise TwitchAway(f"Twitch is not reached: {type(err).__name__}.") from err
    except MissingScopeException as err:
        raise HelixRefusal(401, f"missing scope: {err}") from err
    except EventSubSubscriptionError as err:
        raise HelixRefusal(400, str(err)) from err
    except BROKEN_OFF as err:
        raise TwitchUnclear(f"broken off: {type(err).__name__}") from err
    except NOT_UNDERSTOOD as err:
        raise TwitchUnclear(f"answer not understood: {type(err).__name__}") from err


@dataclass(frozen=True, slots=True)
class Application:
    """The fleet's application at Twitch, and where Twitch is."""

    app_id: str
    app_secret: str
    api_base_url: str
    auth_base_url: str

    async def open_client(self, connections: aiohttp.ClientSession) -> HelixClient:
        """A client with a fresh app token."""
        client = self._client()
        client.connections = connections
        # The library compares with this list and does not ask Twitch; the app's real rights come from who consented.
        await client.authenticate_app([AuthScope.USER_WRITE_CHAT])
        return client

    async def open_user_client(self, token: Token, connections: aiohttp.ClientSession) -> HelixClient:
        """A client with somebody's token. Nothing is asked of Twitch."""
        client = self._client()
        client.connections = connections
        client.auto_refresh_auth = False
        await client.set_user_authentication(token.access, _known(token.scopes), validate=False)
        return client

    def authorize_url(self, scopes: Sequence[str], *, redirect_uri: str, state: str) -> str:
        return str(self._authenticator(scopes, redirect_uri, state).return_auth_url())

    async def exchange(self, code: str, *, redirect_uri: str) -> Consent:
        """What a code that the browser brought is worth. Raises: CodeRefused; TwitchAway; TwitchUnclear."""
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
        """A new token for one that has ended. Raises: RefreshRefused; TwitchAway; TwitchUnclear."""
        with in_our_words():
            try:
                async with aiohttp.ClientSession(timeout=_timeout()) as session:
                    access, refresh = await refresh_access_token(
                        token.refresh, self.app_id, self.app_secret, session, auth_base_url=self.auth_base_url
                    )
            except (InvalidRefreshTokenException, UnauthorizedException) as err:
                if "token" not in str(err).lower():  # It is the application that Twitch refuses, not the person's word.
                    raise
                raise RefreshRefused(f"Twitch does not take their consent any more ({str(err)[:100]})") from err
        # The old refresh token may be worth nothing by now, so nothing may keep the new one from being kept.
        about = None
        with contextlib.suppress(TwitchAway, TwitchUnclear), in_our_words():
            about = await self._validated(access)
        return _grant(access, refresh, about or {})

    async def validate(self, token: Token) -> bool:
        """Whether Twitch still takes a token; it wants to be asked every hour. Raises: TwitchAway; TwitchUnclear."""
        with in_our_words():
            return await self._validated(token.access) is not None

    async def revoke(self, access: str) -> None:
        """Make a token worthless at Twitch; one that is already is left. Raises: TwitchAway; TwitchUnclear."""
        with in_our_words():
            async with aiohttp.ClientSession(timeout=_timeout()) as session:
                await revoke_token(self.app_id, access, session, auth_base_url=self.auth_base_url)

    async def _validated(self, access: str) -> dict[str, Any] | None:
        """What Twitch says about a token; None for one that it does not take."""
        async with aiohttp.ClientSession(timeout=_timeout()) as session:
            about: dict[str, Any] = await validate_token(access, session, auth_base_url=self.auth_base_url)
        if about.get("status") == 401:
            return None
        if "client_id" not in about:
            raise ValueError("neither a token's description nor a refusal")
        return about

    def _authenticator(self, scopes: Sequence[str], redirect_uri: str, state: str) -> UserAuthenticator:
        made = UserAuthenticator(self._client(), _known(scopes), url=redirect_uri, auth_base_url=self.auth_base_url)
        made.state = state
        return made

    def _client(self) -> HelixClient:
        return HelixClient(
            self.app_id,
            self.app_secret,
            authenticate_app=False,
            base_url=self.api_base_url,
            auth_base_url=self.auth_base_url,
            session_timeout=_timeout(),
        )


def open_connections() -> aiohttp.ClientSession:
    """For all requests to Helix of one loop, whoever they are made as."""
    return aiohttp.ClientSession(timeout=_timeout(), cookie_jar=aiohttp.DummyCookieJar())


def _grant(access: str, refresh: str, about: dict[str, Any]) -> Grant:
    expires_in = about.get("expires_in")
    expires_at = datetime.now(UTC) + timedelta(seconds=expires_in) if expires_in else None
    return Grant(access, refresh, expires_at, tuple(scope.value for scope in about.get("scopes") or () if scope))


def _known(scopes: Sequence[str]) -> list[AuthScope]:
    return [KNOWN_SCOPES[scope] for scope in scopes if scope in KNOWN_SCOPES]


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    """How long to wait: until the limit's reset, or as long as is asked for; a second where nothing says."""
    try:
        wait_s = float(response.headers["Ratelimit-Reset"]) - time.time()
    except (KeyError, ValueError):
        try:
            wait_s = float(response.headers["Retry-After"])
        except (KeyError, ValueError):
            wait_s = 1.0
    return min(max(wait_s, 0.5), MAX_RETRY_AFTER_S)
