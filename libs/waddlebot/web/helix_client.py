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
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from twitchAPI.helper import build_scope, build_url
from twitchAPI.object.api import ChannelVIP, Moderator, WarnResponse
from twitchAPI.twitch import Twitch
from twitchAPI.type import (
    AuthScope,
    AuthType,
    EventSubSubscriptionError,
    MissingScopeException,
    TwitchAPIException,
    TwitchAuthorizationException,
)

from ..base.errors import Away, ProviderError, Refused, Unclear
from .provider import failure_of
from .twitch_app import TwitchApp

CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 5.0
TOKEN_TIMEOUT_S = 4.0
MAX_RETRY_AFTER_S = 60.0

# Raised before anything could reach Twitch.
NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# Raised when nobody can know whether it did, or what it answered.
BROKEN_OFF = (aiohttp.ClientError, TimeoutError, OSError)
NOT_UNDERSTOOD = (KeyError, TypeError, ValueError, AttributeError, TwitchAPIException)

HOLDERS: dict[str, tuple[str, AuthScope, type[Any]]] = {
    "vip": ("channels/vips", AuthScope.CHANNEL_MANAGE_VIPS, ChannelVIP),
    "moderator": ("moderation/moderators", AuthScope.CHANNEL_MANAGE_MODERATORS, Moderator),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What Twitch made of a line: its id, or the code and the sentence of why it was dropped."""

    is_sent: bool
    message_id: str
    code: str
    reason: str


class HelixClient(Twitch):
    """One token, the app's or a user's. A refused token ends the object: make another."""

    # How many requests this token has left in its bucket, as of the latest answer.
    room: int | None = None
    connections: aiohttp.ClientSession

    async def _api_request(  # type: ignore[override]
        self, method: str, _session: aiohttp.ClientSession, *arguments: Any, **options: Any
    ) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await super()._api_request(method, self.connections, *arguments, **options)
        return response

    def holders(self, role: str, broadcaster_id: str, user_ids: list[str]) -> AsyncIterator[ChannelVIP | Moderator]:
        """Which of up to 100 people are `vip` or `moderator` of a channel. Twitch also takes the right to give that,
        which the library does not know."""
        path, scope, kind = HOLDERS[role]
        asked = {"broadcaster_id": broadcaster_id, "user_id": user_ids, "first": 100}
        return self._build_generator("GET", path, asked, AuthType.USER, [scope], kind, split_lists=True)

    async def _check_request_return(  # type: ignore[override]
        self, _session: aiohttp.ClientSession, response: aiohttp.ClientResponse, *_: Any, **__: Any
    ) -> aiohttp.ClientResponse:
        await self.check(response)
        return response

    async def check(self, response: aiohttp.ClientResponse) -> None:
        """Note what is left of the limit. Raises: Refused, Later or Unclear for all but success."""
        with contextlib.suppress(KeyError, ValueError):
            self.room = int(response.headers["Ratelimit-Remaining"])
        if response.status < 400:
            await response.read()  # Not everybody does, and until then nobody else has the connection.
            return
        message = ""
        with contextlib.suppress(*NOT_UNDERSTOOD, aiohttp.ClientError):
            message = str((await response.json(content_type=None)).get("message", ""))[:200]
        response.release()
        failure = failure_of(response.status, words=message, retry_after=_retry_after_s(response))
        assert failure is not None
        raise failure

    async def _generate_app_token(self) -> None:
        asked = {
            "client_id": self.app_id or "",
            "client_secret": self.app_secret or "",
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

    async def warn(self, broadcaster_id: str, moderator_id: str, user_id: str, reason: str) -> WarnResponse:
        """Warn somebody. twitchAPI's own function sends a list where Twitch documents an object (4.5)."""
        params = {"broadcaster_id": broadcaster_id, "moderator_id": moderator_id}
        warned: WarnResponse = await self._build_result(
            "POST",
            "moderation/warnings",
            params,
            AuthType.USER,
            [AuthScope.MODERATOR_MANAGE_WARNINGS],
            WarnResponse,
            body_data={"data": {"user_id": user_id, "reason": reason}},
        )
        return warned

    async def ask(
        self, method: str, path: str, params: dict[str, str], body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What the library does not know, as the application. `path` is below /helix/."""
        url = build_url(self.base_url + path, params)
        response = await self._api_request(method, self.connections, url, AuthType.APP, [], data=body)
        answer: dict[str, Any] = await response.json()
        return answer

    async def say(self, broadcaster_id: str, sender_id: str, text: str, *, reply_to: str) -> Said:
        """Say a line as the application. Every reply comes by here, and the library's objects are a quarter of what one
        costs."""
        body = {"broadcaster_id": broadcaster_id, "sender_id": sender_id, "message": text}
        if reply_to:
            body["reply_parent_message_id"] = reply_to
        headers = {"Client-ID": self.app_id or "", "Authorization": f"Bearer {self._app_auth_token}"}
        async with self.connections.post(f"{self.base_url}chat/messages", json=body, headers=headers) as response:
            await self.check(response)
            (said,) = (await response.json())["data"]
        reason = said.get("drop_reason") or {}
        return Said(said["is_sent"], said["message_id"], reason.get("code", ""), reason.get("message", ""))


def translate(err: Exception) -> ProviderError | None:
    """What the library's errors mean: Away when nothing can have reached Twitch, Unclear when something may have."""
    if isinstance(err, NOT_CONNECTED):
        return Away(f"Twitch is not reached: {type(err).__name__}.")
    if isinstance(err, MissingScopeException):
        return Refused(f"HTTP 401: missing scope: {err}", status=401, words=f"missing scope: {err}")
    if isinstance(err, EventSubSubscriptionError):
        return Refused(f"HTTP 400: {err}", status=400, words=str(err))
    if isinstance(err, BROKEN_OFF):
        return Unclear(f"broken off: {type(err).__name__}")
    if isinstance(err, NOT_UNDERSTOOD):
        return Unclear(f"answer not understood: {type(err).__name__}")
    return None


@contextlib.contextmanager
def in_our_words() -> Iterator[None]:
    """Raises: what the library's errors mean, as `translate` has it."""
    try:
        yield
    except (MissingScopeException, EventSubSubscriptionError, *BROKEN_OFF, *NOT_UNDERSTOOD) as err:
        failure = translate(err)
        assert failure is not None
        raise failure from err


def new_client(app: TwitchApp) -> HelixClient:
    """A client without a token or a connection."""
    return HelixClient(
        app.app_id,
        app.app_secret.get_secret_value(),
        authenticate_app=False,
        base_url=app.api_base_url,
        auth_base_url=app.auth_base_url,
        session_timeout=default_timeout(),
    )


async def open_client(app: TwitchApp, connections: aiohttp.ClientSession) -> HelixClient:
    """A client with a fresh app token."""
    client = new_client(app)
    client.connections = connections
    # The library compares with this list and does not ask Twitch; the app's real rights come from who consented.
    await client.authenticate_app([AuthScope.USER_WRITE_CHAT])
    return client


def open_connections() -> aiohttp.ClientSession:
    """For all requests to Helix of one loop, whoever they are made as."""
    return aiohttp.ClientSession(timeout=default_timeout(), cookie_jar=aiohttp.DummyCookieJar())


def default_timeout() -> aiohttp.ClientTimeout:
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
