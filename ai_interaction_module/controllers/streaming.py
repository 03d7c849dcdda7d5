"""An answer that goes on, from the thread that reads it from a provider to the loop that all streams share.

A provider is read as fast as it writes, whoever reads us: a slow reader holds a text of some KB and no place at the
gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from waddlebot.base.errors import WaddleBotError
from waddlebot.base.logs import AAALog

from ..services.asking import Piece

# As many as the edge lets streams be open; most wait for their turn at the gate.
STREAMS_AT_ONCE = 200


class AnswerStreams:
    def __init__(self, log: AAALog) -> None:
        self._log = log
        self._threads = ThreadPoolExecutor(STREAMS_AT_ONCE, "ai-stream")

    async def pieces(self, begin: Callable[[], Iterator[Piece]]) -> AsyncGenerator[Piece | WaddleBotError, None]:
        """The pieces of an answer, and at the end what went wrong, if something did."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Piece | WaddleBotError | None] = asyncio.Queue()
        is_left = threading.Event()

        def hand_on(what: Piece | WaddleBotError | None) -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended, and with it whoever listened.
                loop.call_soon_threadsafe(heard.put_nowait, what)

        self._threads.submit(self._read, begin, hand_on, is_left)
        try:
            while (piece := await heard.get()) is not None:
                yield piece
        finally:
            is_left.set()

    def _read(
        self,
        begin: Callable[[], Iterator[Piece]],
        hand_on: Callable[[Piece | WaddleBotError | None], None],
        is_left: threading.Event,
    ) -> None:
        try:
            pieces = begin()
            with contextlib.closing(pieces):  # type: ignore[type-var]
                for piece in pieces:
                    if is_left.is_set():
                        return
                    hand_on(piece)
        except WaddleBotError as err:
            hand_on(err)
        except Exception:  # noqa: BLE001 - nobody else would hear of it
            self._log.error("stream_failed", exc_info=True)
            hand_on(WaddleBotError("This is a bug on our side; it was logged."))
        finally:
            hand_on(None)
