"""The ASGI app before py4web: refuse what is too much, read the body, then take a thread, then answer.

    head ─► static file? ─► too long? queue full? ─► body, under a deadline ─► a thread of its pool ─► answer, or stream
            from memory     413, 503, no "100"       408, 413, 503             503 after 5 s

Deliveries of a platform do not take a thread each: all that wait are served together (`batches`).

Nothing that a client does slowly holds a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from ...base.errors import Busy, WaddleBotError
from ...base.logs import AAALog
from ...base.wire import to_json
from ..endpoint import JSON_HEADERS, Bound, Endpoint, error_body, plain_error
from ..static import StaticFiles
from .batches import Batches
from .bodies import Bodies, ClientGone, Receive, check_length, receive_more
from .gateway import Request, Response, Scope, WSGIApp, call
from .pool import ThreadPool
from .routes import Routes
from .streams import Streams

Send = Callable[[dict[str, Any]], Awaitable[None]]

# Whoever is still sending when it is refused is listened to for so long; a reset would take the answer from it.
LINGER_S = 2.0


class Edge:
    """One process's front. It lives in the loop's thread; only the app runs in others."""

    def __init__(
        self,
        app: WSGIApp,
        endpoints: Iterable[Endpoint],
        *,
        takers: Iterable[Bound] = (),
        statics: Iterable[StaticFiles] = (),
        threads: int,
        log: AAALog,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        """`takers` are those of the endpoints that take all requests that wait for them; `elsewhere` has the addresses
        of what begins with other names, which browsers are sent on to.
        """
        self._app = app
        self._elsewhere = elsewhere or {}
        self._routes = Routes(endpoints)
        self._statics = {each.prefix: each for each in statics}
        self._log = log
        self._pools = {
            "webhook": ThreadPool("webhook", threads=min(8, threads), queued=512),
            "page": ThreadPool("page", threads=min(8, threads), queued=64),
            "api": ThreadPool("api", threads=threads, queued=256),
            # A stream only begins in a thread.
            "stream": ThreadPool("stream", threads=min(4, threads), queued=64),
        }
        self._batches = {(each.endpoint.method, each.endpoint.path): Batches(each.serve_many) for each in takers}
        self._bodies = Bodies()
        self._streams = Streams(log)

    def stop(self) -> None:
        """End the streams at once and what is still coming in soon. What has a thread, or waits for one, goes on."""
        self._bodies.stop()
        self._streams.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request.of(scope)
        try:
            await self._serve(request, receive, send)
        except ClientGone:
            return
        except WaddleBotError as err:
            await self._refuse(request, err, receive, send)
        except Exception:  # noqa: BLE001 - one request's bug is not the next one's
            self._log.error("request_failed", exc_info=True, path=request.path[:200])
            await _send(send, _json(500, plain_error(500, "This is a bug on our side; it was logged.")))

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        if file := self._find_static(request):
            await _send(send, file)
            return
        if moved := self._find_elsewhere(request):
            await _send(send, moved)
            return
        route = self._routes.find(request.method, request.path)
        batches = self._batches.get((request.method, request.path))
        pool = self._pools[route.pool]
        check_length(request.content_length, route.max_body_bytes)
        (batches or pool).check_room()
        body = await self._bodies.read(request, receive, max_bytes=route.max_body_bytes)
        response: Response
        try:
            if batches is not None:
                response = await batches.run(request, body)
            else:
                response = await pool.run(functools.partial(call, self._app, request, body))
        finally:
            self._bodies.release(body)
        if response.stream is None:
            await _send(send, response, is_head=request.method == "HEAD")
        else:
            await self._streams.run(response, response.stream, receive, send, request.scope)

    def _find_elsewhere(self, request: Request) -> Response | None:
        base = self._elsewhere.get(request.path.removeprefix("/").partition("/")[0])
        if base is None or request.method not in ("GET", "HEAD"):
            return None
        query = request.scope["query_string"]
        target = base.encode() + request.scope["raw_path"] + (b"?" + query if query else b"")
        return Response(307, [(b"location", target), (b"cache-control", b"no-store"), (b"content-length", b"0")], b"")

    def _find_static(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return None
        for prefix, files in self._statics.items():
            if request.path.startswith(prefix):
                answer = files.answer(request.path, request.headers)
                body = b"" if request.method == "HEAD" else answer.body
                return Response(answer.status, _encoded(answer.headers), body)
        return None

    async def _refuse(self, request: Request, err: WaddleBotError, receive: Receive, send: Send) -> None:
        response = _json(err.http_status, error_body(err))
        if isinstance(err, Busy):
            response.headers.append((b"retry-after", str(err.retry_after_s).encode()))
        if request.is_read:
            await _send(send, response)
            return
        response.headers.append((b"connection", b"close"))
        await _send(send, response, more=True)
        with contextlib.suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(LINGER_S):
                while (await receive_more(receive))["more_body"]:
                    pass
        await send({"type": "http.response.body"})


def _json(status: int, body: object) -> Response:
    return Response(status, _encoded(JSON_HEADERS), to_json(body).encode())


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def _send(send: Send, response: Response, *, is_head: bool = False, more: bool = False) -> None:
    has_length = any(name == b"content-length" for name, _ in response.headers)
    if not has_length and not is_head and response.status not in (204, 304):
        response.headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": more})
