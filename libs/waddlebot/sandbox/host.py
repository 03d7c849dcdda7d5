"""The process `modules`: runs what communities installed from the marketplace, for the router, behind the fence.

`python -m waddlebot.sandbox.host`. It speaks Lambda's Invoke over plain HTTP, with the fleet's key in place of a
signature: `POST /2015-03-31/functions/{name}/invocations`. It stays down, and says why, where the kernel has no fence
or one of the attacks of its self-test comes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

import uvicorn
from pydantic_core import to_json

from ..base.errors import ConfigError
from ..base.logs import AAALog, configure_logging, stop_logging
from ..base.metrics import CONTENT_TYPE, Metrics
from ..base.watched import Watched, states
from ..web.http import EgressGuard
from . import fence
from .identity import find_identity
from .outside import FleetOutside
from .packages import Packages
from .pool import NO_FUNCTION, THROTTLED, UNAVAILABLE, Outside, Pool
from .selftest import FOLDER_PREFIX, Attack, Checked, try_attacks
from .settings import HostSettings
from .worker import Outcome, Template

VERSION = "1.0.0"
INVOKE = "/2015-03-31/functions/"
INVOCATIONS = "/invocations"
MAX_EVENT_BYTES = 6 * 1024 * 1024
KEEP_ALIVE_S = 75
LOOKUPS = 64
TRIED_WITHIN_S = 8.0
STOP_TIMEOUT_S = 8
# Of what Lambda answers with another status than 200.
STATUSES = {NO_FUNCTION: 404, THROTTLED: 429, UNAVAILABLE: 503, "InvalidRequestContentException": 400}
JSON = "application/json"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes, str, dict[str, str]]


class Host:
    """The process's HTTP, its pool, and what it knows of its fence."""

    def __init__(self, settings: HostSettings, folder: Path, log: AAALog) -> None:
        self._settings = settings
        self._log = log
        self._key = settings.host_key.get_secret_value() if settings.host_key else ""
        own_key = settings.api_key.get_secret_value() if settings.api_key else ""
        packages = Packages(folder, settings.where_packages_are, own_key)
        outside = FleetOutside(log)
        # As root it drops to a user who may do nothing.
        self._template = Template(run_as=find_identity(), is_required=not settings.unfenced)
        self._packages = packages
        guard = EgressGuard(settings.egress_allow)
        asked = Outside(outside.ask_state, outside.answer_late)
        self.pool = Pool(settings, self._template, packages, guard, asked)
        self.fence = "not tried yet"
        self.trouble = "The self-test has not ended."
        self.attacks: list[Attack] = []
        self._tried = asyncio.Event()
        self._since = time.monotonic()
        self._watched = Watched("modules-look", "modules")
        self._metrics = Metrics("modules")
        self._calls = self._metrics.counter("calls", "Calls of functions.", ["outcome"])
        self._seconds = self._metrics.histogram("call_seconds", "How long calls of functions took.")
        self._processes = self._metrics.gauge("processes", "Processes of modules.")
        self._cold = self._metrics.gauge("cold_starts", "Processes that were begun.")
        self._refused = self._metrics.gauge("refused_connections", "Connections that no module may have.")
        self._fenced = self._metrics.gauge("fenced", "1 while the self-test's attacks were all refused.")

    async def start(self) -> None:
        """Try the fence, and serve if it holds. Raises nothing: what is wrong is told by health."""
        try:
            await self._start()
        finally:
            self._tried.set()

    async def _start(self) -> None:
        checked = await self._check()
        self.fence, self.trouble, self.attacks = checked.fence, checked.trouble, checked.attacks
        self._fenced.set(not checked.trouble and not self._settings.unfenced)
        if self.trouble:
            self._log.error("modules_stay_down", trouble=self.trouble)
        else:
            self._log.system("fenced", fence=self.fence, attacks=len(self.attacks))

    async def _check(self) -> Checked:
        try:
            in_force = fence.check_kernel()
        except fence.CannotFence as err:
            if not self._settings.unfenced:
                return Checked("none", f"{err}. COMMUNITY_MODULES_UNFENCED=true runs strangers' code all the same.")
            await self._template.start()
            return Checked(f"NONE, because COMMUNITY_MODULES_UNFENCED is set: {err}")
        try:
            await self._template.start()
            checked = await try_attacks(self.pool, self._packages, in_force)
            self.pool.end_idle()
            return checked
        except (OSError, TimeoutError) as err:
            return Checked(in_force, f"The self-test cannot be made: {type(err).__name__}: {err}")

    def keep_looking(self) -> asyncio.Task[None]:
        return self._watched.start_task(self.pool.look)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, body, kind, more = await self._answer(scope, receive)
        headers = {"content-type": kind, "content-length": str(len(body)), **more}
        fields = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        if path != "/ready":  # Whoever asks first has it started, and waits for its self-test.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._tried.wait(), TRIED_WITHIN_S)
        if method == "GET" and path in ("/health", "/ready"):
            is_ready = not self.trouble
            status = 200 if is_ready or path == "/health" else 503
            return status, to_json(self._health() if path == "/health" else {"ready": is_ready}), JSON, {}
        if not self._may(scope) and not (path == "/metrics" and self._settings.metrics_public):
            return _refusal(401, "AccessDeniedException", "Show the key of MODULE_HOST_KEY as X-API-Key.")
        if method == "GET" and path == "/metrics":
            return 200, self._figures().encode(), CONTENT_TYPE, {}
        if method == "GET" and path == "/functions":
            return 200, to_json({"functions": self._functions()}), JSON, {}
        if method == "POST" and path.startswith(INVOKE) and path.endswith(INVOCATIONS):
            name = unquote(path.removeprefix(INVOKE).removesuffix(INVOCATIONS))
            return await self._invoke(name, receive)
        return _refusal(404, NO_FUNCTION, "There is no such thing here.")

    async def _invoke(self, name: str, receive: Receive) -> Answer:
        body = await _read(receive)
        if body is None:
            return _refusal(413, "RequestTooLargeException", f"An event has at most {MAX_EVENT_BYTES} bytes.")
        if self.trouble:
            return _refusal(503, UNAVAILABLE, f"No community module is run here: {self.trouble}")
        began = time.monotonic()
        outcome = await self.pool.invoke(name, body)
        self._seconds.observe(time.monotonic() - began)
        self._calls.labels("ended" if outcome.is_harm else "failed" if outcome.failed else "success").inc()
        return _answer_of(outcome)

    def _may(self, scope: Scope) -> bool:
        shown = next((value for name, value in scope["headers"] if name == b"x-api-key"), b"")
        return bool(self._key) and hmac.compare_digest(shown, self._key.encode())

    def _health(self) -> dict[str, Any]:
        through = [each.name for each in self.attacks if not each.is_held]
        background = [each.trouble for each in states("modules") if each.trouble]
        checks = {
            "fence": {"ok": not self.trouble, "detail": self.trouble or self.fence},
            "background": {"ok": not background, "detail": "; ".join(background)},
        }
        return {
            "status": "healthy" if all(each["ok"] for each in checks.values()) else "unhealthy",
            "module": "modules",
            "version": VERSION,
            "uptime_s": round(time.monotonic() - self._since, 1),
            "fence": self.fence,
            "is_fenced": not self.trouble and not self._settings.unfenced,
            "attacks": {"tried": len(self.attacks), "through": through},
            "processes": self.pool.processes,
            "checks": checks,
        }

    def _functions(self) -> list[dict[str, Any]]:
        return [
            {"function": name, "community_id": community_id, **record.as_json()}
            for (name, community_id), record in sorted(self.pool.records.items())
        ]

    def _figures(self) -> str:
        self._processes.set(self.pool.processes)
        self._cold.set(self.pool.cold_starts)
        self._refused.set(sum(each.traffic.refused.total() for each in self.pool.records.values()))
        return self._metrics.as_text()


def _answer_of(outcome: Outcome) -> Answer:
    if not outcome.failed:
        return 200, outcome.body, JSON, {}
    kind = _error_type(outcome.body)
    if kind in STATUSES:
        return STATUSES[kind], outcome.body, JSON, {"x-amzn-errortype": kind}
    return 200, outcome.body, JSON, {"x-amz-function-error": "Unhandled"}


def _error_type(body: bytes) -> str:
    from pydantic_core import from_json

    try:
        error = from_json(body)
    except ValueError:
        return ""
    return str(error.get("errorType", "")) if isinstance(error, dict) else ""


def _refusal(status: int, kind: str, message: str) -> Answer:
    return status, to_json({"Type": "User", "Message": message}), JSON, {"x-amzn-errortype": kind}


async def _read(receive: Receive) -> bytes | None:
    """A request's body; None when it is larger than an event may be."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_EVENT_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


class _Server(uvicorn.Server):
    """uvicorn raises the signal that ended it anew; this process ends by itself, in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave)
        yield

    def _leave(self) -> None:
        self.should_exit = True


async def serve(settings: HostSettings, listening: socket.socket, folder: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    host = Host(settings, folder, AAALog("modules", VERSION))
    config = uvicorn.Config(
        host,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    # Names that modules have looked up are all that the loop's own threads do.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(LOOKUPS, "names"))
    looking = host.keep_looking()
    starting = asyncio.create_task(host.start())  # not watched: it ends, and health tells how
    try:
        await _Server(config).serve(sockets=[listening])
    finally:
        for each in (looking, starting):
            each.cancel()
        host.pool.close()


def make_folder() -> Path:
    """Where packages are unpacked. What hosts that were killed have left there goes."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        pid = left.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    folder.chmod(0o711)  # Whoever the modules run as passes through.
    return folder


def main() -> NoReturn:
    folder = make_folder()
    try:
        settings = HostSettings.load()
        configure_logging(settings)
        handed = os.environ.get("WADDLEBOT_LISTEN_FD")
        listening = (
            socket.socket(fileno=int(handed))
            if handed
            else socket.create_server((settings.host, settings.port), backlog=1024)
        )
        # asyncio does so only for sockets that name their protocol, as this does not; an answer would wait for 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asyncio.run(serve(settings, listening, folder))
    except (ConfigError, OSError) as err:
        print(f"waddlebot: {err}", file=sys.stderr)  # noqa: T201 - there may be no log yet
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        stop_logging()
    sys.exit(0)


if __name__ == "__main__":
    main()
