"""A module of somebody else's, on a real port, that does whatever a test asks of it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fleet import Fleet

Behaviour = Callable[[dict[str, Any]], "dict[str, Any] | tuple[int, bytes]"]


# Modules that the router's setting `music` names; a test makes them until they are there.
SHARING = ("youtube_music", "spotify")
SPARE_NAMES = tuple(f"outside{number:03}" for number in range(400))


def reply_to(call: dict[str, Any], *responses: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A ModuleReply to a call."""
    return {
        "session_id": call["session_id"],
        "execution_id": call["execution_id"],
        "module_name": "stub",
        "success": True,
        "responses": list(responses),
        **fields,
    }


def chat(message: str, **data: Any) -> dict[str, Any]:
    return {"response_action": "chat", "response_data": {"message": message, **data}}


class ModuleStub:
    """Serves module `stub`. Set `behaviour`; `calls`, `bodies`, `headers` and `paths` hold what it was sent."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.behaviour: Behaviour = lambda call: reply_to(call, chat("stub says hello"))
        # What a server that has lost count sends after its response.
        self.excess = b""
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                body = json.loads(sent)
                stub.bodies.append(sent)
                stub.calls.append(body)
                stub.headers.append(dict(self.headers.items()))
                stub.paths.append(self.path)
                answer = stub.behaviour(body)
                status, raw = answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode())
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                with contextlib.suppress(OSError):  # The router may have given up waiting.
                    self.wfile.write(raw + stub.excess)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A router that gives up on a connection is part of some tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def reset(self, behaviour: Behaviour) -> None:
        """Forget what was sent before and behave so from now on."""
        self.calls, self.headers, self.bodies, self.paths = [], [], [], []
        self.behaviour, self.excess = behaviour, b""

    def register(
        self, fleet: Fleet, *commands: dict[str, Any], more: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        """Register these commands, or only !stub with these fields; what is not among them any more is gone.

        `more` is said of the module itself.
        """
        wanted = commands or ({"command": "stub", "description": "whatever a test asks for", **fields},)
        registration = {
            "module_name": "stub",
            "module_version": "1",
            "endpoint_url": self.url,
            "commands": [{"timeout": 2, **command} for command in wanted],
            **(more or {}),
        }
        registered = fleet.request("POST", "/api/modules/register", registration, key="stub")
        assert registered.status == 200, registered.body

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def module_urls(self) -> str:
        """What MODULE_URLS has to say for what tests make of this one: `stub`, and modules of spare names."""
        return ",".join(f"{name}=http://{self.address}" for name in ("stub", *SHARING, *SPARE_NAMES))

    @property
    def url(self) -> str:
        return f"http://{self.address}/execute"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
