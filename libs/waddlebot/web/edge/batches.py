"""Requests that are served together: whoever comes while a batch is at work is in the next one."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...base.errors import Busy
from ..endpoint import Raw, RawRequest
from .gateway import Request, Response
from .pool import MAX_WAIT_S, RETRY_AFTER_S

MAX_BATCH = 100
MAX_WAITING = 512


@dataclass(frozen=True, slots=True)
class _Asked:
    request: RawRequest
    done: asyncio.Future[Response]
    since: float


class Batches:
    """One endpoint's, served by one thread: two would make twice as many batches of half the size. `serve` answers each
    of the requests that it gets. Only the loop's thread submits, so nothing needs a lock."""

    def __init__(self, serve: Callable[[Sequence[RawRequest]], Sequence[Raw]]) -> None:
        self._serve = serve
        self._under_way = 0
        self._thread: threading.Thread | None = None
        self._waiting: queue.SimpleQueue[_Asked] = queue.SimpleQueue()

    def check_room(self) -> None:
        """Raises: Busy when too many wait."""
        if self._under_way >= MAX_WAITING:
            raise Busy(retry_after_s=RETRY_AFTER_S)

    async def run(self, request: Request, body: bytes | bytearray) -> Response:
        """Raises: Busy when too many wait, or this one has waited for too long."""
        self.check_room()
        self._under_way += 1
        try:
            if self._thread is None:
                # not watched: nothing that is served ends it; it becomes the answers.
                self._thread = threading.Thread(target=self._work, name="webhook-batch", daemon=True)
                self._thread.start()
            done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            address = (request.scope.get("client") or ("",))[0]
            self._waiting.put(_Asked(RawRequest(bytes(body), request.headers, address), done, time.monotonic()))
            return await done
        finally:
            self._under_way -= 1

    def _work(self) -> None:
        while True:
            self._do([self._waiting.get()])

    def _do(self, batch: list[_Asked]) -> None:
        with contextlib.suppress(queue.Empty):
            while len(batch) < MAX_BATCH:
                batch.append(self._waiting.get_nowait())
        # Whoever has waited for so long has most likely given up.
        too_late = time.monotonic() - MAX_WAIT_S
        fresh = [each for each in batch if each.since > too_late and not each.done.cancelled()]
        outcomes: dict[int, Response | Exception] = {id(each): Busy(retry_after_s=RETRY_AFTER_S) for each in batch}
        if fresh:
            outcomes |= zip(map(id, fresh), self._served([each.request for each in fresh]), strict=True)
        with contextlib.suppress(RuntimeError):  # The loop is closed when the process ends while some are served.
            batch[0].done.get_loop().call_soon_threadsafe(_settle, [(each, outcomes[id(each)]) for each in batch])

    def _served(self, requests: Sequence[RawRequest]) -> Sequence[Response | Exception]:
        try:
            return [_response(each) for each in self._serve(requests)]
        except Exception as err:  # noqa: BLE001 - it is raised where they are waited for
            return [err] * len(requests)


def _settle(ended: Sequence[tuple[_Asked, Response | Exception]]) -> None:
    for asked, outcome in ended:
        if asked.done.done():
            continue
        if isinstance(outcome, Exception):
            asked.done.set_exception(outcome)
        else:
            asked.done.set_result(outcome)


def _response(raw: Raw) -> Response:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in raw.headers.items()]
    return Response(raw.status, headers, raw.body.encode() if isinstance(raw.body, str) else raw.body)
