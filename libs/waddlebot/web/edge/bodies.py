"""Reading bodies: whole before a thread is taken, within a time, a length, and a budget that all of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ...base.errors import Busy, TooLarge, WaddleBotError
from .gateway import Request

Receive = Callable[[], Awaitable[dict[str, Any]]]

# How long a body may be silent, or behind this pace.
GRACE_S = 10.0
SLOWEST_BYTES_PER_S = 32 * 1024
# So much of each body is its connection's own; what is beyond that, all of them share.
OWN_BYTES = 64 * 1024
SHARED_BYTES = 64 * 1024 * 1024
# Bodies that are coming in when the process is to end get so much longer.
STOP_GRACE_S = 2.0


class TooSlow(WaddleBotError):
    """The body of the request did not come in time."""

    code = "timeout"
    http_status = 408


class ClientGone(Exception):
    """The client has left; there is nobody to answer."""


class Bodies:
    """All bodies that are being read, or held while they are served."""

    def __init__(self) -> None:
        self._shared_bytes = 0
        self._deadlines: set[asyncio.Timeout] = set()
        self._stop_at: float | None = None

    def stop(self) -> None:
        self._stop_at = asyncio.get_running_loop().time() + STOP_GRACE_S
        for deadline in self._deadlines:
            deadline.reschedule(self._stop_at)

    async def read(self, request: Request, receive: Receive, *, max_bytes: int) -> bytearray:
        """The whole body; give it to `release` when it was served.

        Raises: TooLarge, TooSlow, ClientGone, Busy when too much is coming in at once.
        """
        body = bytearray()
        if request.is_read:
            return body
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        deadline = asyncio.timeout_at(self._stop_at or started_at + GRACE_S)
        try:
            async with deadline:
                self._deadlines.add(deadline)
                while not request.is_read:
                    message = await receive_more(receive)
                    self._add(body, message["body"], max_bytes)
                    if self._stop_at is None:
                        behind_at = started_at + len(body) / SLOWEST_BYTES_PER_S
                        deadline.reschedule(min(behind_at, loop.time()) + GRACE_S)
                    request.is_read = not message["more_body"]
        except BaseException as err:
            self.release(body)
            if isinstance(err, TimeoutError):
                raise TooSlow() from err
            raise
        finally:
            self._deadlines.discard(deadline)
        return body

    def release(self, body: bytearray) -> None:
        self._shared_bytes -= _shared(body)

    def _add(self, body: bytearray, piece: bytes, max_bytes: int) -> None:
        self._shared_bytes -= _shared(body)
        body += piece
        self._shared_bytes += _shared(body)
        check_length(len(body), max_bytes)
        if _shared(body) and self._shared_bytes > SHARED_BYTES:
            raise Busy("Too many large requests are coming in. Try again in a moment.", retry_after_s=5)


def check_length(length: int, max_bytes: int) -> None:
    """Raises: TooLarge."""
    if length > max_bytes:
        raise TooLarge(f"At most {max_bytes} bytes are taken.")


async def receive_more(receive: Receive) -> dict[str, Any]:
    """Raises: ClientGone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _shared(body: bytearray) -> int:
    return max(0, len(body) - OWN_BYTES)
