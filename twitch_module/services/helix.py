"""Twitch's library, made to say plainly what Helix answered. Imported at first use only: it loads aiohttp.

What the library does with an answer that is not a success does not suit a sender (twitchAPI 4.5): it sleeps through a
429 and then fails on the missing `data`, sleeps after a success that used up the limit, repeats a request after a 503,
one failed token refresh makes every later call of the object hang, and an app token that arrives after its headers is
lost, because it is read when its session is closed.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import aiohttp
from twitchAPI.helper import build_scope
from twitchAPI.object.api import SendMessageResponse
from twitchAPI.twitch import Twitch
from twitchAPI.type import AuthScope, TwitchAPIException, TwitchAuthorizationException

CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 5.0
TOKEN_TIMEOUT_S = 4.0
MAX_RETRY_AFTER_S = 60.0

# Raised before anything could reach Twitch.
NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# Raised when nobody can know whether it did, or what it answered.
BROKEN_OFF = (aiohttp.ClientError, TimeoutError, OSError)
NOT_UNDERSTOOD = (KeyError, TypeError, ValueError, AttributeError)
NO_TOKEN = (TwitchAPIException, *BROKEN_OFF, *NOT_UNDERSTOOD)


class HelixRefusal(Exception):
    """Helix answered with another status than success."""

    def __init__(self, status: int, message: str, retry_after_s: float) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.retry_after_s = retry_after_s


class ChatClient(Twitch):  # type: ignore[misc]
    """One app token, good for sending chat. A refused token ends the object: make another."""

    async def _check_request_return(
        self, _session: aiohttp.ClientSession, response: aiohttp.ClientResponse, *_: Any, **__: Any
    ) -> aiohttp.ClientResponse:
        if response.status < 400:
            return response
        message = ""
        with contextlib.suppress(*NOT_UNDERSTOOD, aiohttp.ClientError):
            message = str((await response.json(content_type=None)).get("message", ""))[:200]
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


async def open_client(app_id: str, app_secret: str, *, api_base_url: str, auth_base_url: str) -> ChatClient:
    """A client with a fresh app token. Raises: one of NO_TOKEN; some of their messages contain the secret."""
    client = ChatClient(
        app_id,
        app_secret,
        authenticate_app=False,
        base_url=api_base_url,
        auth_base_url=auth_base_url,
        session_timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
    )
    # The library compares with this list and does not ask Twitch; the app's real rights come from who consented.
    await client.authenticate_app([AuthScope.USER_WRITE_CHAT])
    return client


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    try:
        wait_s = float(response.headers["Ratelimit-Reset"]) - time.time()
    except (KeyError, ValueError):
        wait_s = 1.0
    return min(max(wait_s, 0.5), MAX_RETRY_AFTER_S)
