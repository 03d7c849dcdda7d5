"""uvicorn with the limits that it lacks (heads, silent and stuck connections, their number), and an end in order."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ...base.wire import to_json
from ..endpoint import JSON_HEADERS, plain_error
from .front import Edge

MAX_CONNECTIONS = 1000
OPEN_FILES = 4096
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
# Requests of one connection that wait for the one before.
MAX_PIPELINED = 16
# How long a connection may be silent at first, or a request's head may take.
HEAD_TIMEOUT_S = 10.0
# Longer than proxies keep an idle connection (Kong: 60 s), so that they do not meet one that is just being closed.
KEEP_ALIVE_S = 75
# Who takes nothing of what is written for so long is cut off; so is a closed connection that does not empty.
STUCK_S = 20.0
PROGRESS_BYTES = 16 * 1024
LOOK_EVERY_S = 1.0
# With the loops' 5 s after it, less than the supervisor waits before it kills.
STOP_TIMEOUT_S = 8


class _Unfit(Exception):
    """This request is not served, and the connection ends with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Connection(HttpToolsProtocol):
    """One connection. What the parser calls back may raise _Unfit."""

    # Since when: a request's head is awaited or coming in, the connection is idle, nothing of what is written is taken.
    head_since: float | None = None
    idle_since: float | None = None
    stuck_since: float | None = None
    unwritten = 0
    # Of a head: what the parser has told, and what it was fed without telling.
    head_bytes = 0
    untold_bytes = 0
    in_head = False
    unfit: _Unfit | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.head_since = self.loop.time()
        # A cap for each address belongs here; `self.client` is the peer.
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            self._answer(503, "Too many connections.")

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest."""
        idle = [each for each in self.connections if isinstance(each, Connection) and each.idle_since is not None]
        if not idle:
            return False
        min(idle, key=lambda each: each.idle_since or 0).transport.abort()
        return True

    def data_received(self, data: bytes) -> None:
        if self.unfit is not None:
            return
        was_in_head = self.in_head
        try:
            self.parser.feed_data(data)
            if was_in_head and self.in_head:
                self.untold_bytes += len(data)
                _check_head(self.untold_bytes)
        except httptools.HttpParserUpgrade:
            pass  # Nothing is upgraded here; `on_headers_complete` has seen to it.
        except httptools.HttpParserError as err:
            cause = err.__context__
            self._give_up(cause if isinstance(cause, _Unfit) else _Unfit(400, "This is not HTTP as it is served here."))
        except _Unfit as err:
            self._give_up(err)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self.in_head, self.idle_since, self.head_bytes, self.untold_bytes = True, None, 0, 0
        self.head_since = self.head_since or self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self.head_bytes += len(url)
        _check_head(self.head_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # A trailer, which nobody asked for and which must not become a header.
        super().on_header(name, value)
        self.head_bytes += len(name) + len(value)
        _check_head(self.head_bytes)
        if len(self.headers) > MAX_HEADERS:
            raise _Unfit(431, f"At most {MAX_HEADERS} headers are taken.")

    def on_headers_complete(self) -> None:
        self.in_head, self.head_since = False, None
        _check_framing(self.headers, is_upgrade=self.parser.should_upgrade())
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Unfit(400, "Wait for answers before you send more requests.")
        self.scope["waddlebot.cut_off"] = self.cut_off  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # The parser lets go of what comes after it.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self.idle_since = self.loop.time()
            if self.in_head:  # The next request is already coming in.
                self._unset_keepalive_if_required()
                self.head_since, self.idle_since = self.loop.time(), None

    def cut_off(self) -> None:
        """End the connection at once, what was written or not."""
        self.cycle.disconnected = True
        self.transport.abort()

    def _unsupported_upgrade_warning(self) -> None:
        pass

    def _give_up(self, unfit: _Unfit) -> None:
        """Serve what came before, say what was wrong if that is possible, and close."""
        self.unfit = unfit
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(unfit.status, unfit.message)
        elif cycle.more_body and not self.in_head and not cycle.response_started:
            # What is wrong is in the body that is being read.
            cycle.disconnected = True
            cycle.message_event.set()
            self._answer(unfit.status, unfit.message)
        else:
            cycle.keep_alive = False
            cycle.disconnected = cycle.more_body
            cycle.message_event.set()

    def _answer(self, status: int, message: str) -> None:
        body = to_json(plain_error(status, message)).encode()
        fields = {**JSON_HEADERS, "Content-Length": str(len(body)), "Connection": "close"}
        lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in fields.items())
        self.transport.write(STATUS_LINE[status] + lines.encode() + b"\r\n" + body)
        self.transport.close()

    def look(self, now: float) -> None:
        """Close it if it has been silent, or slow, for too long."""
        if self._is_stuck(now):
            self.transport.abort()
        elif self.head_since is not None and now - self.head_since > HEAD_TIMEOUT_S and not self._is_serving():
            if self.in_head:
                self._answer(408, "The head of the request did not come in time.")
            else:
                self.transport.close()

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_stuck(self, now: float) -> bool:
        size = self.transport.get_write_buffer_size()
        if not size:
            self.stuck_since = None
        elif self.stuck_since is None or size <= self.unwritten - PROGRESS_BYTES:
            self.stuck_since, self.unwritten = now, size
        return self.stuck_since is not None and now - self.stuck_since > STUCK_S

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stuck_since = None


def _check_head(size: int) -> None:
    if size > MAX_HEAD_BYTES:
        raise _Unfit(431, f"At most {MAX_HEAD_BYTES} bytes of headers are taken.")


def _check_framing(headers: Sequence[tuple[bytes, bytes]], *, is_upgrade: bool) -> None:
    """Raises: _Unfit where it is not plain how long the body is, or for whom the request is."""
    names = [name for name, _ in headers]
    encodings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if encodings and encodings != [b"chunked"]:
        raise _Unfit(400, "The only Transfer-Encoding that is taken is chunked, once.")
    if encodings and b"content-length" in names:
        raise _Unfit(400, "Send Content-Length or Transfer-Encoding, not both.")
    if is_upgrade and (encodings or any(name == b"content-length" and value != b"0" for name, value in headers)):
        raise _Unfit(400, "A request with a body is not upgraded.")
    if names.count(b"host") > 1:
        raise _Unfit(400, "Send one Host.")


class _Server(uvicorn.Server):
    """uvicorn's server, that looks after its connections and ends the edge first."""

    def __init__(self, config: uvicorn.Config, edge: Edge) -> None:
        super().__init__(config)
        self._edge = edge
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The library's raises the signal anew at the end, and the process would be gone before its loops are."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave)
        yield

    def _leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            now = asyncio.get_running_loop().time()
            for each in list(self.server_state.connections):
                assert isinstance(each, Connection)
                each.look(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._edge.stop()
        await super().shutdown(sockets)


def _allow_open_files() -> None:
    """Many systems begin with 1 024, which connections and the database's would use up together."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


def serve(edge: Edge, listening: socket.socket, *, trusted_proxies: Sequence[str] = ()) -> None:
    """Serve until SIGTERM or SIGINT; then take nothing new, end the streams, and let what is being served finish, for
    8 s at most.

    `trusted_proxies` are addresses or networks whose X-Forwarded-For is believed.
    """
    _allow_open_files()
    config = uvicorn.Config(
        edge,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    _Server(config, edge).run(sockets=[listening])
