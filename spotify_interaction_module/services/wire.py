"""Spotify's HTTP below its SDK: one place that says what an answer means, before spotipy makes something else of it.

spotipy raises AttributeError for `{"error": "text"}`, loses the status of what goes wrong at the accounts service,
takes a page of HTML for "nothing", and by itself sleeps for as long as a Retry-After says and then calls everything a
429.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from waddlebot.base.errors import ProviderError, Refused, Unclear
from waddlebot.web.http import HTTPResponse, retry_after_s
from waddlebot.web.provider import failure_of

CONNECT_S = 3.0
MAX_BYTES = 2 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
MAX_WORDS = 120
# In words of ours where it is no JSON: https://developer.spotify.com/documentation/web-api/concepts/quota-modes
NOT_REGISTERED = "NOT_REGISTERED"

# At DEBUG it writes tokens and secrets; what fails is logged by the provider's policy.
logging.getLogger("spotipy").setLevel(logging.CRITICAL)


class SpotifyAdapter(HTTPAdapter):
    """Reads answers up to a size and a time, and raises what their status means. Never repeats a request."""

    def send(  # type: ignore[override]
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - requests' signature
        timeout: Any = None,
        **options: Any,
    ) -> requests.Response:
        until = time.monotonic() + timeout
        answer = super().send(request, stream=True, timeout=(min(CONNECT_S, timeout), timeout), **options)
        body = _read(answer, until)
        if failure := _failure(answer, body):
            raise failure
        if request.method == "GET" and body:
            _check_json(body)
        answer.raw = io.BytesIO(body)
        # It is decoded already.
        answer.headers.pop("content-encoding", None)
        return answer


def open_session() -> requests.Session:
    """A session for Spotify; its connections are kept, and threads may share it."""
    session = requests.Session()
    # As many as commands that call out at once.
    adapter = SpotifyAdapter(pool_maxsize=32)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _read(answer: requests.Response, until: float) -> bytes:
    """All of an answer, decoded. What fails here is urllib3's error, which the provider's policy knows."""
    body = bytearray()
    try:
        for chunk in answer.raw.stream(CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > MAX_BYTES:
                raise Unclear(f"an answer of more than {MAX_BYTES} bytes", status=answer.status_code)
            if time.monotonic() > until:
                raise Unclear("an answer that does not end", status=answer.status_code)
    except BaseException:
        answer.raw.close()
        raise
    return bytes(body)


def _failure(answer: requests.Response, body: bytes) -> ProviderError | None:
    if answer.status_code < 400:
        return None
    message, reason = _said(body)
    asked_s = retry_after_s(HTTPResponse(answer.status_code, b"", {k.lower(): v for k, v in answer.headers.items()}))
    words = reason or message
    detail = f"HTTP {answer.status_code}: {words}"
    return failure_of(answer.status_code, words=words, retry_after=asked_s or 1.0, detail=detail)


def _said(body: bytes) -> tuple[str, str]:
    """What an error says, and the code that it gives as its reason; nothing for what is no error of Spotify's."""
    text = body.decode(errors="replace").strip()
    if "not registered" in text.lower():
        return text[:MAX_WORDS], NOT_REGISTERED
    with contextlib.suppress(ValueError):
        error = json.loads(text)
        error = error.get("error") if isinstance(error, dict) else None
        if isinstance(error, str):
            return "", error[:MAX_WORDS]
        if isinstance(error, dict):
            message, reason = error.get("message"), error.get("reason")
            # UNKNOWN says less than the message.
            known = reason if isinstance(reason, str) and reason != "UNKNOWN" else ""
            return str(message or "")[:MAX_WORDS].rstrip("."), known[:MAX_WORDS]
    return "", ""


def _check_json(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError as err:
        raise Unclear("an answer that is no JSON") from err


__all__ = ["NOT_REGISTERED", "Refused", "SpotifyAdapter", "open_session"]
