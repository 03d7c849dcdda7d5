"""Streams under way: written as fast as they are read, capped, and ended with the process."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import Counter
from typing import Any

from ...base.errors import Busy, RateLimited
from ...base.logs import AAALog, new_log_context
from ..stream import Stream
from .gateway import Response, Scope

MAX_STREAMS = 200
MAX_STREAMS_OF_ONE = 20
# A comment so often tells proxies that the stream lives, and us when nobody is there any more.
QUIET_S = 15.0
# Who does not take what is sent for so long is cut off.
WRITE_TIMEOUT_S = 20.0
RETRY_AFTER_S = 5
# The longest that a generator may take to end when it is told to.
CLOSE_TIMEOUT_S = 2.0


class _Broken(Exception):
    """A stream's generator failed after its head was sent."""


class Streams:
    """All streams of the process."""

    def __init__(self, log: AAALog) -> None:
        self._log = log
        self._open: Counter[str] = Counter()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self, response: Response, stream: Stream, receive: Any, send: Any, scope: Scope) -> None:
        """Send what the generator yields until it ends, the client leaves or does not read, or the process ends.

        Raises: Busy or RateLimited, before anything is sent.
        """
        self._check_room(stream)
        self._open[stream.owner] += 1
        headers = [each for each in response.headers if each[0] != b"content-length"]
        try:
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            gone = asyncio.create_task(_gone(receive))  # not watched: the writer waits for it
            await _Writer(stream, send, self._log).run(gone, self._stopping)
        except (TimeoutError, _Broken):
            # Not ended in order: whoever reads it knows that something is missing.
            scope["waddlebot.cut_off"]()
        finally:
            self._open[stream.owner] -= 1
            if not self._open[stream.owner]:
                del self._open[stream.owner]

    def _check_room(self, stream: Stream) -> None:
        if self._stopping.is_set() or self._open.total() >= MAX_STREAMS:
            raise Busy("Too many streams are open. Try again in a moment.", retry_after_s=RETRY_AFTER_S)
        if self._open[stream.owner] >= MAX_STREAMS_OF_ONE:
            raise RateLimited(f"At most {MAX_STREAMS_OF_ONE} streams for one caller.", retry_after_s=RETRY_AFTER_S)


class _Writer:
    """One stream being written."""

    def __init__(self, stream: Stream, send: Any, log: AAALog) -> None:
        self._pieces = stream.pieces
        self._send = send
        self._log = log
        # Every step of the generator has the same log context, and none of the others'.
        self._context = contextvars.copy_context()
        self._context.run(new_log_context)

    async def run(self, gone: asyncio.Task[None], stopping: asyncio.Event) -> None:
        """Raises: TimeoutError when the client does not read; _Broken."""
        stopped = asyncio.create_task(stopping.wait())  # not watched: waited for below
        try:
            while (piece := await self._next_unless({gone, stopped})) is not None:
                await self._write(piece)
        finally:
            gone.cancel()
            stopped.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._pieces.aclose()
        await self._write("", more=False)

    async def _next_unless(self, ending: set[asyncio.Task[Any]]) -> str | None:
        """What is yielded next; None when nothing is, or one of these tasks is done first."""
        step = asyncio.create_task(self._step(), context=self._context)  # not watched: waited for here
        try:
            while True:
                done, _ = await asyncio.wait({step, *ending}, timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)
                if done & ending:
                    return None
                if done:
                    return step.result()
                await self._write(":\n\n")
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait({step}, timeout=CLOSE_TIMEOUT_S)

    async def _step(self) -> str | None:
        try:
            return await anext(self._pieces, None)
        except Exception as err:
            self._log.error("stream_failed", exc_info=True)
            raise _Broken from err

    async def _write(self, text: str, *, more: bool = True) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._send({"type": "http.response.body", "body": text.encode(), "more_body": more})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
