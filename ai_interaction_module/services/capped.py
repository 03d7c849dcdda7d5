"""HTTP transports that stop receiving an answer that is too long. httpx and httpx2 are two libraries of one shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from waddlebot.base.errors import Unclear

from .asking import MAX_ANSWER_BYTES


class AnswerTooLong(Unclear):
    """The answer is longer than anybody would read."""

    code = "too_long"


def capped_transport(httpx: Any, **options: Any) -> Any:
    """A transport for `httpx.Client`, for all threads, that raises AnswerTooLong in the middle of a long body."""

    class Body(httpx.SyncByteStream):  # type: ignore[misc]
        def __init__(self, body: Any) -> None:
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            received = 0
            for part in self._body:
                received += len(part)
                _check(received)
                yield part

        def close(self) -> None:
            self._body.close()

    class Transport(httpx.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            response.stream = Body(response.stream)
            return response

    return Transport(**options)


def capped_async_transport(httpx: Any, **options: Any) -> Any:
    """The same for `httpx.AsyncClient`."""

    class Body(httpx.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, body: Any) -> None:
            self._body = body

        async def __aiter__(self) -> AsyncIterator[bytes]:
            received = 0
            async for part in self._body:
                received += len(part)
                _check(received)
                yield part

        async def aclose(self) -> None:
            await self._body.aclose()

    class Transport(httpx.AsyncHTTPTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            response.stream = Body(response.stream)
            return response

    return Transport(**options)


def _check(received: int) -> None:
    if received > MAX_ANSWER_BYTES:
        raise AnswerTooLong(f"more than {MAX_ANSWER_BYTES} bytes")
