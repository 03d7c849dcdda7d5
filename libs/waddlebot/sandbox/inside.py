"""What runs inside the fence: Amazon's own runtime loop, over a socket to the host instead of HTTP.

So a handler sees the context, the errors and the JSON that it sees on Lambda. What is added is WaddleBot's: state, late
answers, plain strings as replies, and a network that is asked for. None of it fences anything; the kernel does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import sysconfig
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import frames

CALLS_FD, NETWORK_FD = 3, 4
# Packages that handlers may import beside Python's own; all of it is anybody's to read.
PACKAGES = (
    *("awslambdaric", "simplejson", "snapshot_restore_py"),
    *("certifi", "charset_normalizer", "idna", "requests", "urllib3"),
)
CERTIFICATES = ("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/usr/lib/ssl", "/etc/pki/tls/certs")
MAX_ANSWER_BYTES = 1000


def load() -> list[str]:
    """Import what `run` needs, in the template. Returns what a handler may read."""
    for name in ("bootstrap", "lambda_context", "lambda_runtime_marshaller", "lambda_literals"):
        importlib.import_module(f"awslambdaric.{name}")
    specs = [importlib.util.find_spec(name) for name in PACKAGES]
    folders = [folder for spec in specs if spec for folder in spec.submodule_search_locations or ()]
    python = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    return [*sorted(python), *folders, *CERTIFICATES, "/usr/share/zoneinfo", "/dev/null", "/dev/urandom"]


def run(folder: str, entry: str) -> None:
    """Load a handler and answer the host's calls with it until the host is gone."""
    from awslambdaric import bootstrap
    from awslambdaric.lambda_context import LambdaContext

    sys.path.insert(0, folder)
    sys.argv = [entry]
    sys.dont_write_bytecode = True
    os.environ.update(AWS_LAMBDA_FUNCTION_NAME=Path(folder).name, LAMBDA_TASK_ROOT=folder, HOME="/", TMPDIR="/")
    client = Client(Calls(socket.socket(fileno=CALLS_FD)))
    LambdaContext.state = State(client.calls)
    LambdaContext.reply_later = lambda _self, seconds: client.calls.later(float(seconds))
    use_broker(socket.socket(fileno=NETWORK_FD))
    bootstrap.run(entry, client)


class Calls:
    """The host's end of the calls. For all threads of the module."""

    def __init__(self, host: socket.socket) -> None:
        self._host = host
        self._lock = threading.Lock()
        self.current = frames.NO_CALL

    def read(self) -> tuple[bytes, bytes, bytes]:
        kind, call_id, size = frames.HEAD.unpack(self._exactly(frames.HEAD.size))
        return kind, call_id, self._exactly(size)

    def write(self, kind: bytes, call_id: bytes, body: bytes = b"") -> None:
        with self._lock:
            self._host.sendall(frames.pack(kind, call_id, body))

    def ask(self, request: dict[str, Any]) -> Any:
        """Raises: RuntimeError with the host's words."""
        with self._lock:
            self._host.sendall(frames.pack(frames.STATE, self.current, json.dumps(request).encode()))
            _kind, _call_id, body = self.read()
        answer = json.loads(body)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("value")

    def later(self, seconds: float) -> None:
        self.write(frames.LATER, self.current, json.dumps(seconds).encode())

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            chunk = self._host.recv(size - len(received))
            if not chunk:
                os._exit(0)  # The host is gone.
            received += chunk
        return bytes(received)


class Client:
    """What Amazon's loop takes for its runtime API."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.marshaller = Marshaller()
        self._is_ready = False

    def wait_next_invocation(self) -> SimpleNamespace:
        if not self._is_ready:
            self._is_ready = True
            self.calls.write(frames.READY, frames.NO_CALL)
        _kind, call_id, body = self.calls.read()
        self.calls.current = call_id
        head, _, event = body.partition(b"\n")
        about = json.loads(head)
        self.marshaller.module_name = about["module_name"]
        return SimpleNamespace(
            invoke_id=about["execution_id"],
            x_amzn_trace_id=None,
            invoked_function_arn=about["function"],
            deadline_time_in_ms=about["deadline_ms"],
            client_context=None,
            cognito_identity=None,
            tenant_id=None,
            content_type="application/json",
            event_body=event,
            invocation_id=None,
        )

    def post_invocation_result(self, _invoke_id: str, result: str | bytes, _type: str, _invocation: Any = None) -> None:
        body = result.encode() if isinstance(result, str) else result
        self.calls.write(frames.RESULT, self.calls.current, body)

    def post_invocation_error(self, _invoke_id: str, error: str, _xray: str, _invocation: Any = None) -> None:
        self.calls.write(frames.ERROR, self.calls.current, error.encode())

    def post_init_error(self, error: dict[str, Any], _kind: str | None = None) -> None:
        self.calls.write(frames.INIT_ERROR, frames.NO_CALL, json.dumps(error).encode())


class Marshaller:
    """JSON as on Lambda; what a handler returns is completed to a reply to its call."""

    def __init__(self) -> None:
        from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

        self._own = LambdaMarshaller()
        self._event: Any = None
        self.module_name = ""

    def unmarshal_request(self, request: bytes, content_type: str) -> Any:
        self._event = self._own.unmarshal_request(request, content_type)
        return self._event

    def marshal_response(self, response: Any) -> tuple[str | bytes, str]:
        event = self._event if isinstance(self._event, dict) else {}
        marshalled: tuple[str | bytes, str] = self._own.marshal_response(as_reply(response, event, self.module_name))
        return marshalled


def as_reply(result: Any, event: dict[str, Any], module_name: str) -> Any:
    """A plain string is said in chat, None says nothing, and a reply need not repeat which call it answers."""
    if "execution_id" not in event or (isinstance(result, dict) and "statusCode" in result):
        return result
    if result is None:
        result = {}
    elif isinstance(result, str):
        said = {"response_action": "chat", "response_data": {"message": result}}
        result = {"responses": [said] if result else []}
    if not isinstance(result, dict):
        return result
    ids = {name: event.get(name) for name in ("session_id", "execution_id")}
    return {**ids, "module_name": module_name, "success": True, **result}


class State:
    """A small store of the module's in the community of the call: `context.state`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def get(self, key: str, default: Any = None) -> Any:
        value = self._calls.ask({"op": "get", "key": key})
        return default if value is None else value

    def put(self, key: str, value: Any) -> None:
        self._calls.ask({"op": "put", "key": key, "value": value})

    def delete(self, key: str) -> None:
        self._calls.ask({"op": "delete", "key": key})


def use_broker(broker: socket.socket) -> None:
    """Let sockets connect by asking the host, which looks at what the module declared. There is no other way out."""
    lock = threading.Lock()

    def ask(host: str, port: int) -> int:
        with lock:
            broker.sendall(json.dumps([host, port]).encode() + b"\n")
            answer, descriptors, _flags, _address = socket.recv_fds(broker, MAX_ANSWER_BYTES, 1)
        if not descriptors:
            raise ConnectionRefusedError(answer.decode() or "The host has no connection for this module.")
        return descriptors[0]

    class BrokeredSocket(socket.socket):
        """A TCP socket that is nowhere until it is connected."""

        def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            if fileno is None:
                if family not in (-1, socket.AF_INET, socket.AF_INET6) or type not in (-1, socket.SOCK_STREAM):
                    raise PermissionError("A module has TCP to the hosts that it declared, and nothing else.")
                here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                there.close()
                fileno = here.detach()
                family = socket.AF_INET if family == -1 else family
                type = socket.SOCK_STREAM if type == -1 else type
            super().__init__(family, type, proto, fileno)

        def connect(self, address: Any) -> None:
            if not isinstance(address, tuple):
                raise PermissionError("A module connects to the hosts that it declared, by name and port.")
            timeout = self.gettimeout()
            descriptor = ask(str(address[0]), int(address[1]))
            os.dup2(descriptor, self.fileno(), inheritable=False)
            os.close(descriptor)
            self.settimeout(timeout)

        def connect_ex(self, address: Any) -> int:
            try:
                self.connect(address)
            except OSError as err:
                return err.errno or 111
            return 0

    def getaddrinfo(host: Any, port: Any, *_rest: Any, **_more: Any) -> list[Any]:
        """Names are the broker's to look up."""
        name = host.decode() if isinstance(host, bytes) else str(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, int(port or 0)))]

    socket.socket = BrokeredSocket  # type: ignore[misc]
    socket.getaddrinfo = getaddrinfo
