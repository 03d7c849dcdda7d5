"""Slack's SDK, made to say plainly whether something was done. Imported at first use only: it loads aiohttp.

What the SDK does by itself does not suit a sender (slack-sdk 3.47): it sends a request again when the connection broke
before an answer came, although Slack may have done it; with a session of its own for each call it opens a connection
for each; and it takes a proxy for loopback too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient
from waddlebot.base.errors import Away, Later, ProviderError, Refused, Unclear

CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 5.0
MAX_RETRY_AFTER_S = 300.0
NOT_REACHED_PAUSE_S = 2.0
# Open at the same time; more than a process speaks in channels at once.
MAX_CONNECTIONS = 120

# Raised before anything could reach Slack.
NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# Raised when nobody can know whether it did, or what it answered.
BROKEN_OFF = (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, KeyError, AttributeError)
# Words for: nothing has happened, and in a moment it may.
LATER = frozenset({"ratelimited", "rate_limited", "service_unavailable", "team_added_to_org"})
# Words for: perhaps it has happened.
UNCLEAR = frozenset({"internal_error", "fatal_error", "request_timeout"})
# Words for: this token is worth nothing, now or for good.
TOKEN_REFUSED = frozenset({"invalid_auth", "not_authed", "token_expired", "token_revoked", "account_inactive"})

Call = Callable[[AsyncWebClient], Coroutine[Any, Any, Any]]


class WebAPI:
    """One connection pool for everything that is asked of Slack. Everything here runs on the bridge's loop."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._origin = urlsplit(base_url)[:2]
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, call: Call) -> dict[str, Any]:
        """What a method answers: `ask(lambda slack: slack.auth_test(token=…))`.

        Raises: Refused; Later; Away; Unclear.
        """
        try:
            response = await call(self.client())
            data = response.data
        except SlackApiError as err:
            raise explain(err) from err
        except NOT_CONNECTED as err:
            raise Away("Slack is not reached", retry_after_s=NOT_REACHED_PAUSE_S) from err
        except BROKEN_OFF as err:
            raise Unclear(f"broken off: {type(err).__name__}") from err
        if not isinstance(data, dict):
            raise Unclear("answer not understood")
        return data

    async def answer(self, url: str, **message: Any) -> None:
        """Say something at a slash command's response_url.

        Raises: Refused when it is used up, old, or not Slack's; Later; Away; Unclear.
        """
        if not self.is_slacks(url):
            raise Refused("not an address of Slack's")
        try:
            webhook = AsyncWebhookClient(url, session=self._opened(), retry_handlers=[])
            webhook.proxy = self._proxy(webhook.proxy)
            response = await webhook.send(**message)
        except NOT_CONNECTED as err:
            raise Away("Slack is not reached", retry_after_s=NOT_REACHED_PAUSE_S) from err
        except BROKEN_OFF as err:
            raise Unclear(f"broken off: {type(err).__name__}") from err
        if response.status_code in (429, 503):
            pause_s = _seconds(response.headers.get("Retry-After"))
            raise Later(f"HTTP {response.status_code}", status=response.status_code, retry_after_s=pause_s)
        if response.status_code >= 500:
            raise Unclear(f"HTTP {response.status_code}", status=response.status_code)
        if response.status_code >= 300:
            raise Refused(f"HTTP {response.status_code} {str(response.body)[:60]}", status=response.status_code)

    def is_slacks(self, url: str) -> bool:
        """Whether a response_url is an address of Slack's, or of what stands in for it."""
        parts = urlsplit(url)
        return parts[:2] == ("https", "hooks.slack.com") or (
            parts[:2] == self._origin and self._origin[1] != "slack.com"
        )

    def ask_once(self, call: Callable[[WebClient], Any]) -> dict[str, Any]:
        """What a method answers that is asked in a request's own thread. Raises: as `ask` does."""
        try:
            data = call(self.client_for_threads()).data
        except SlackApiError as err:
            raise explain(err) from err
        except BROKEN_OFF as err:
            raise Unclear(f"broken off: {type(err).__name__}") from err
        if not isinstance(data, dict):
            raise Unclear("answer not understood")
        return data

    def client_for_threads(self) -> WebClient:
        """For OAuth: the SDK's asynchronous client signs its requests in a way that aiohttp gives up."""
        client = WebClient(base_url=self._base_url, timeout=int(REQUEST_TIMEOUT_S), retry_handlers=[])
        client.proxy = self._proxy(client.proxy)
        return client

    def client(self) -> AsyncWebClient:
        client = AsyncWebClient(base_url=self._base_url, session=self._opened(), retry_handlers=[])
        client.proxy = self._proxy(client.proxy)
        return client

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self._session

    def _proxy(self, found: str | None) -> str | None:
        return None if (self._origin[1].split(":")[0] in ("127.0.0.1", "localhost")) else found


def explain(err: SlackApiError) -> ProviderError:
    """What a refusal of the SDK's means; `words` is Slack's one word for it."""
    response = err.response
    status = getattr(response, "status_code", getattr(response, "status", 0))
    data = getattr(response, "data", None)
    error = str(data.get("error", "")) if isinstance(data, dict) else ""
    text = error or f"HTTP {status}"
    if status in (429, 503) or error in LATER:
        headers = getattr(response, "headers", None) or {}
        return Later(text, status=status, words=error, retry_after_s=_seconds(headers.get("Retry-After")))
    if status >= 500 or error in UNCLEAR or not error:
        return Unclear(text, status=status, words=error)
    # Slack answers 200 with a word for what HTTP has a status for.
    return Refused(text, status=401 if error in TOKEN_REFUSED else status, words=error)


def _seconds(text: str | None) -> float:
    try:
        return min(max(float(text or 1), 0.5), MAX_RETRY_AFTER_S)
    except ValueError:
        return 1.0
