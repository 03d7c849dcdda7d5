"""What the simulators share: HTTP servers on loopback, for plain request and answer and for everything else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp import web

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; a body that is not bytes is sent as JSON. `hangs_up` ends the connection instead of answering."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs_up: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class LoopbackServer:
    """A thread for each connection, from when it is made until `stop`. Header names are lower case in a Request."""

    def __init__(self, answer: Callable[[Request], Reply], *, port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._send(answer(Request(self.command, self.path, headers, body)))

            def do_GET(self) -> None:
                self.do_POST()

            def _send(self, reply: Reply) -> None:
                self.close_connection = self.close_connection or reply.hangs_up
                if reply.hangs_up:
                    return
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                with contextlib.suppress(OSError):  # Whoever asked may have given up.
                    self.wfile.write(reply.content)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Whoever asked may have given up, at any point."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class AsyncLoopbackServer:
    """Serves an application in an event loop of its own, in a thread, from `start` to `stop`. `port` is 0 until then
    unless it was given; `middlewares` are for who keeps other sites out."""

    def __init__(self, *, port: int) -> None:
        self.port = port
        self.middlewares: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def make_app(self) -> web.Application:
        """The application to serve, made in the loop."""
        raise NotImplementedError

    async def closing(self) -> None:
        """Let go of what would keep connections open."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.result(10)
        return self

    def stop(self) -> None:
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, work: Coroutine[Any, Any, T], *, within_s: float = 60) -> T:
        """Do something in the server's loop, from any other thread."""
        assert self._loop is not None, "start the simulator first"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    def _run(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as err:
            if started.done():
                raise
            started.set_exception(err)

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        runner = web.AppRunner(self.make_app(), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.port = runner.addresses[0][1]
            started.set_result(None)
            await self._stop.wait()
            await self.closing()
        finally:
            await runner.cleanup()
