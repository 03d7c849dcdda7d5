"""Webhooks: signed POSTs to addresses that a module or a community gave, wherever those lead."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from waddlebot.base.errors import Invalid
from waddlebot.web.http import TARGET_IS_DOWN, EgressGuard, HTTPClient, HTTPResponse, with_retries

MAX_URL_CHARS = 2048
MAX_ANSWER_BYTES = 1024 * 1024
# A receiver knows a repeat by its Idempotency-Key, so that even an error of its own is worth another try.
REPEATABLE = TARGET_IS_DOWN | {500}
# Nobody can connect, ask and be answered in less; a try that is begun gets this much.
LEAST_TIMEOUT_S = 0.05
# What no URL needs unescaped. Backslashes and escapes in a host are read differently by different libraries.
PLAIN = re.compile(r"[!-\[\]-~]+")


class WebhookClient:
    """Posts to a URL of somebody else's. The guard sees each address that the name leads to, when it is connected to;
    redirects are not followed, answers are neither unpacked nor read beyond a limit, and all of it has a deadline."""

    def __init__(self, guard: EgressGuard, *, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._http = HTTPClient(guard, max_response_bytes=max_answer_bytes)

    def post(
        self,
        url: str,
        body: bytes,
        *,
        secret: str,
        idempotency_key: str,
        until: float,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a JSON body until it is answered or `until` (time.monotonic) is over, and return the last answer.

        What cannot be reached, 429 and 5xx of the passing kind are tried again, as Retry-After asks.

        Raises: as post_once.
        """

        def send() -> HTTPResponse:
            return self.post_once(
                url,
                body,
                secret=secret,
                idempotency_key=idempotency_key,
                timeout_s=max(LEAST_TIMEOUT_S, until - time.monotonic()),
                headers=headers,
            )

        return with_retries(send, until=until, statuses=REPEATABLE)

    def post_once(
        self,
        url: str,
        body: bytes,
        *,
        secret: str,
        idempotency_key: str,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a JSON body, signed now, and return whatever status comes back.

        Raises: EgressDenied for an address that is not public nor in EGRESS_ALLOW; UpstreamTimeout; UpstreamError when
        nobody is reached; UpstreamRefused for an answer that is too large.
        """
        timestamp = str(int(time.time()))
        own = {
            "Content-Type": "application/json",
            "X-WaddleBot-Timestamp": timestamp,
            "X-WaddleBot-Signature": signature(secret, timestamp, body),
            "Idempotency-Key": idempotency_key,
        }
        return self._http.request(
            "POST", url, body=body, headers={**(headers or {}), **own}, timeout_s=timeout_s, keep_headers=True
        )


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-WaddleBot-Signature (contracts §3); receivers compute the same and compare in constant time."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def check_webhook_url(url: str, guard: EgressGuard, *, field: str = "webhook_url") -> None:
    """Refuse at once what could never be called. Where a name leads is checked when it is called, because it changes.

    Raises: Invalid, which names `field` and what is wrong with it.
    """
    problem = _problem(url, guard)
    if problem:
        raise Invalid(f"{field}: {problem}", field=field)


def _problem(url: str, guard: EgressGuard) -> str | None:
    if len(url) > MAX_URL_CHARS:
        return f"At most {MAX_URL_CHARS} characters are taken."
    if not PLAIN.fullmatch(url):
        return "Only plain ASCII characters without spaces and backslashes are taken; encode the others."
    try:
        parts = urlsplit(url)
        host, _port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as err:
        return f"This is not a URL: {err}."
    if parts.scheme not in ("http", "https"):
        return "It must begin with https:// or http://."
    if "@" in parts.netloc:
        return "A user name or password in the address is not taken; the signature says who calls."
    if not host or "%" in host:
        return "It must name a host."
    if not guard.names(url) and _is_refused(host, guard):
        return f"{host} is not a public address, and EGRESS_ALLOW does not name it."
    return None


def _is_refused(host: str, guard: EgressGuard) -> bool:
    """Whether a host is an address, in any way of writing one, that the guard would refuse."""
    if host == "localhost":
        return not guard.allows("127.0.0.1")
    if ":" in host:
        return not guard.allows(host)
    try:
        # As the system's resolver reads it: 127.1, 2130706433 and 0x7f.1 are addresses too.
        return not guard.allows(socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        return False
