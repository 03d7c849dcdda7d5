"""From an ASGI request to py4web's WSGI app and back. All of `call` runs in one thread, as the framework needs it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from ..stream import HANDED_OVER, Stream, at_the_edge

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Scope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

# What only a gateway before us may say (who is calling, for whom), and what is between two hops only. A body is whole
# when it gets to the app, which would undo its chunks once more.
NOT_FOR_THE_APP = frozenset(
    {b"transfer-encoding", b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"upgrade"}
    | {b"proxy", b"proxy-connection", b"forwarded", b"x-real-ip"}
)
NOT_FOR_THE_APP_BY_PREFIX = (b"x-consumer-", b"x-forwarded-")


@dataclass(slots=True)
class Request:
    """What came in, and how much of it has been read."""

    scope: Scope
    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    has_body: bool = False
    content_length: int = 0
    is_read: bool = True

    @classmethod
    def of(cls, scope: Scope) -> Request:
        headers: dict[str, str] = {}
        request = cls(scope, scope["method"], unquote_to_bytes(scope["raw_path"]).decode("latin-1"), headers)
        for name, value in scope["headers"]:
            if name == b"content-length":
                request.content_length = int(value)
                request.has_body = request.content_length > 0
            elif name == b"transfer-encoding":
                request.has_body = True
            # An underscore would become the same name as a hyphen.
            if b"_" in name or name in NOT_FOR_THE_APP or name.startswith(NOT_FOR_THE_APP_BY_PREFIX):
                continue
            key, text = name.decode("latin-1"), value.decode("latin-1")
            if key in headers:
                text = f"{headers[key]}{'; ' if key == 'cookie' else ', '}{text}"
            headers[key] = text
        request.is_read = not request.has_body
        return request


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Headers
    body: bytes = b""
    stream: Stream | None = None


def call(app: WSGIApp, request: Request, body: bytes | bytearray) -> Response:
    """Have the app answer a request whose body is whole."""
    environ = _environ(request, body)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        started[:] = [(status, headers)]

    parts = app(environ, start_response)
    try:
        answer = b"".join(parts)
    finally:
        if close := getattr(parts, "close", None):
            close()
    line, fields = started[0]
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    return Response(int(line[:3]), headers, answer, environ.get(HANDED_OVER))


def _environ(request: Request, body: bytes | bytearray) -> dict[str, Any]:
    scope = request.scope
    client = scope.get("client") or ("", 0)
    server = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **at_the_edge(),
    }
    if request.has_body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        if key != "CONTENT_LENGTH":
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ
