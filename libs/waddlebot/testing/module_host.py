"""The local host of community modules as a process, and beside it as much of the fleet as it asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from ..base.errors import UpstreamError
from ..base.ids import new_id
from ..fleet.embedded import free_port
from ..module.package import pack, read_package
from ..web.http import HTTPClient, HTTPResponse

STARTS_WITHIN_S = 30.0
TOKEN = "wcall_test"  # noqa: S105 - of tests

Answer = tuple[int, bytes]


class FleetSide:
    """What the host asks a fleet for: packages by their checksum, state by a call's token, late answers, words to
    owners. `answer_elsewhere` takes what is asked beside those."""

    def __init__(self) -> None:
        self.packages: dict[str, bytes] = {}
        self.state: dict[str, Any] = {}
        self.posted: list[tuple[str, dict[str, Any], str]] = []
        self.keys: list[str] = []
        self.answer_elsewhere: Callable[[str, str, bytes, Mapping[str, str]], Answer] | None = None
        side = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = side._answer(self.command, self.path, body, dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_DELETE = do_POST = _serve  # noqa: N815 - as the library wants it

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        parts = path.strip("/").split("/")
        if parts[:2] == ["marketplace", "packages"] and parts[2] in self.packages:
            self.keys.append(headers.get("X-API-Key", ""))
            return 200, self.packages[parts[2]]
        if parts[:2] == ["marketplace", "state"]:
            return self._answer_state(method, unquote(parts[2]), body, headers)
        if self.answer_elsewhere:
            return self.answer_elsewhere(method, path, body, headers)
        if method == "POST":
            self.posted.append((path, json.loads(body), headers.get("Authorization", "")))
            return 200, b"{}"
        return 404, b"{}"

    def _answer_state(self, method: str, key: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, b"{}"
        if method == "GET":
            known = key in self.state
            return (200, json.dumps({"value": self.state[key]}).encode()) if known else (404, b"{}")
        if method == "PUT":
            self.state[key] = json.loads(body)["value"]
        else:
            self.state.pop(key, None)
        return 200, b"{}"


class ModuleHost:
    """One process `modules`, at a port and for a key that a router may have been told before."""

    def __init__(self, *, url: str | None = None, key: str | None = None, **environment: str) -> None:
        self.url = url or f"http://127.0.0.1:{free_port()}"
        self.key = key or new_id()
        self.side = FleetSide()
        self._environment = environment
        self._http = HTTPClient()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, launcher: Sequence[str] = (), wait: bool = True) -> ModuleHost:
        """Start it, and wait until it serves, or says why it does not."""
        told = {
            "PATH": os.environ.get("PATH", ""),
            "CORE_API_URL": self.side.url,
            "WADDLEBOT_PORT": self.url.rpartition(":")[2],
            "WADDLEBOT_API_KEY": "wbot_of_the_module_host",
            "MODULE_HOST_KEY": self.key,
            "LOG_DIR": os.devnull,
            "LOG_CONSOLE_LEVEL": "ERROR",
            **self._environment,
        }
        command = [sys.executable, *(launcher or ("-m", "waddlebot.sandbox.host"))]
        self.process = subprocess.Popen(command, env=told, stdin=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + STARTS_WITHIN_S
        while wait and time.monotonic() < until and not self._has_tried():
            assert self.process.poll() is None, "it does not start"
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
        self.side.stop()

    def publish(self, files: Mapping[str, str | bytes]) -> str:
        """Have a package at the marketplace. Returns the name of its function."""
        content = pack({name: text.encode() if isinstance(text, str) else text for name, text in files.items()})
        return self.publish_package(content)

    def publish_package(self, content: bytes) -> str:
        package = read_package(content)
        self.side.packages[package.sha256] = content
        return f"{package.manifest.name}:{package.manifest.version}:{package.sha256}"

    def invoke(self, function: str, event: Any, *, key: str | None = None) -> HTTPResponse:
        return self.request(
            "POST", f"/2015-03-31/functions/{quote(function)}/invocations", json.dumps(event).encode(), key=key
        )

    def request(self, method: str, path: str, body: bytes | None = None, *, key: str | None = None) -> HTTPResponse:
        return self._http.request(
            method,
            self.url + path,
            body=body,
            headers={"X-API-Key": self.key if key is None else key},
            timeout_s=30,
            keep_headers=True,
        )

    def health(self) -> dict[str, Any]:
        return dict(self.request("GET", "/health").json())

    def call_of(self, module_name: str, *arguments: str, community: int = 1, **more: Any) -> dict[str, Any]:
        return call_of(self.side.url, module_name, *arguments, community=community, **more)

    def _has_tried(self) -> bool:
        try:
            return "has not ended" not in self.health()["checks"]["fence"]["detail"]
        except UpstreamError:
            return False


def said(response: HTTPResponse) -> str:
    """What a function's reply says in chat."""
    reply = response.json()
    assert "x-amz-function-error" not in response.headers, reply
    return "\n".join(each["response_data"]["message"] for each in reply["responses"])


def call_of(url: str, module_name: str, *arguments: str, community: int = 1, **more: Any) -> dict[str, Any]:
    """A ModuleCall for `#<module_name> <arguments>`."""
    return {
        "session_id": new_id(),
        "execution_id": new_id(),
        "community": {"id": community, "name": f"c{community}"},
        "entity": {"entity_id": "console:c:g", "platform": "console", "server_id": "c", "channel_id": "g"},
        "user": {"id": 7, "platform_user_id": "alice", "name": "alice", "display_name": "Alice", "level": "member"},
        "trigger": {"type": "command", "command": module_name, "prefix": "#", "args": list(arguments)},
        "timeout_ms": 5000,
        "callback": {
            "token": TOKEN,
            "state_url": f"{url}/marketplace/state",
            "responses_url": f"{url}/router/responses",
        },
        **more,
    }
