"""The server: the official SDK's application, behind a front that asks for a token and fails when it is told to."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

import uvicorn

from ..models import HTML, Script, huge

BODIES: dict[object, Callable[[], bytes]] = {
    "html": lambda: HTML.encode(),
    "truncated": lambda: b'{"jsonrpc":"2.0","id":1,"resu',
    "huge": huge,
}
TYPES: dict[object, str] = {"html": "text/html"}
TOKEN = "mcp-simulated-token-0123456789"


class MCPSimulator:
    """`script.requests` are the arguments of each call of the tool; `stolen` those of the tool that nobody may call."""

    def __init__(self, *, port: int = 0, token: str = TOKEN) -> None:
        self.script = Script()
        self.token = token
        self.stolen: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = int(self._socket.getsockname()[1])
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self) -> dict[str, str]:
        return {"MCP_SERVER_URL": self.url, "MCP_TOOL": "chat", "AI_API_KEY": self.token}

    def forget(self) -> None:
        self.script.forget()
        self.stolen.clear()

    def __enter__(self) -> Self:
        # Signals are the process's own; the server is told to stop.
        config = uvicorn.Config(self._front(), log_config=None, lifespan="on", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the simulated MCP server does not start"
            threading.Event().wait(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join(5)

    def _front(self) -> Any:
        app = self._make_app()

        async def front(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.script.headers.append(headers)
            if self.token and headers.get("authorization") != f"Bearer {self.token}":
                await _answer(send, 401, b'{"error":"invalid_token"}')
                return
            body = await _read(receive)
            fault = self.script.take_fault() if b'"tools/call"' in body else None
            if fault is None or fault.kind in ("empty", "no content"):
                self._is_empty = fault is not None
                await app(scope, _once(body, receive), send)
            elif isinstance(fault.kind, int):
                await _answer(send, fault.kind, b"{}", fault.headers)
            elif fault.kind in BODIES:
                await _answer(
                    send, 200, BODIES[fault.kind](), {"Content-Type": TYPES.get(fault.kind, "application/json")}
                )
            elif fault.kind in ("drop", "stops"):
                await _break_off(send, in_answer=fault.kind == "stops")
            elif fault.kind == "hang":
                await asyncio.sleep(fault.pause_s)
            else:
                raise ValueError(f"an MCP server does not fail by {fault.kind!r}")

        return front

    def _make_app(self) -> Any:
        from mcp.server.mcpserver import MCPServer

        server = MCPServer("simulated")
        self._is_empty = False

        @server.tool()
        async def chat(message: str, user: str = "", history: str = "", system: str = "") -> str:
            """Answer somebody in a chat."""
            self.script.note({}, {"message": message, "user": user, "history": history, "system": system})
            with self.script:
                await asyncio.sleep(self.script.first_s)
                if self._is_empty:
                    return ""
                return self.script.say([{"role": "user", "content": message}])

        @server.tool()
        def delete_everything(what: str) -> str:
            """Delete everything."""
            self.stolen.append(what)
            return "gone"

        return server.streamable_http_app(stateless_http=True, json_response=True)


async def _read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _once(body: bytes, receive: Any) -> Any:
    """Gives a body that was read already, and then what comes after it."""
    given: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Any:
        return given.pop() if given else await receive()

    return receive_again


async def _break_off(send: Any, *, in_answer: bool) -> None:
    """Close the connection where an answer was promised: its head, or a piece of it, is all that there is."""
    fields = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if in_answer:
        await send({"type": "http.response.body", "body": b'{"jsonrpc":"2.0",', "more_body": True})


async def _answer(send: Any, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    encoded = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
