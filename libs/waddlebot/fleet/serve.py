"""What the fleet's processes run: `python -m waddlebot.fleet.serve web`, `… collectors` and `… hub`."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..base.errors import ConfigError
from ..base.settings import CommaList, Settings, WebURL, load
from .home import SAID

if TYPE_CHECKING:
    from ..web.edge import Edge

# Connections that wait to be taken: all that a flood may open, and all that come while the modules load.
BACKLOG = 1024
# A request for an event waits up to a second for its answer, so there are more threads than the cores could use.
THREADS = 32
# A request leaves few cycles behind, so looking for them can wait for many requests.
GC_ALLOCATIONS = 20_000
# The processes of a fleet start together, which takes a while on a busy machine.
SAID_WITHIN_S = 60.0


class ProcessSettings(BaseSettings):
    """What this process is, set by whoever starts it: the supervisor, or a container's entry point."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    modules: CommaList = Field(alias="WADDLEBOT_MODULES", description="Folders of the modules to serve.")
    role: Literal["all", "web", "collectors"] = Field(
        "all", alias="WADDLEBOT_ROLE", description="Serve HTTP, run the collectors' loops, or both."
    )
    host: str = Field("127.0.0.1", alias="WADDLEBOT_HOST", description="Address to listen on.")
    port: int = Field(8000, alias="WADDLEBOT_PORT", ge=1, le=65535, description="Port to listen on.")
    own_url: WebURL | None = Field(
        None, alias="WADDLEBOT_OWN_URL", description="Calls to this URL stay inside the process."
    )
    threads: int = Field(
        THREADS, alias="WADDLEBOT_THREADS", ge=1, le=500, description="Requests for the API that are served at once."
    )
    trusted_proxies: CommaList = Field(
        default_factory=list,
        alias="WADDLEBOT_TRUSTED_PROXIES",
        description="Addresses or networks of proxies whose X-Forwarded-For is believed; none by default.",
    )
    elsewhere: CommaList = Field(
        default_factory=list,
        alias="WADDLEBOT_ELSEWHERE",
        description="name=URL of what begins with /name and is served there; browsers are sent on.",
    )
    run_dir: Path | None = Field(None, alias="WADDLEBOT_RUN_DIR", description="Folder for files of this process.")


def serve_web() -> NoReturn:
    """Serve the modules over HTTP until SIGTERM, then finish what is being served."""
    from ..web.edge import serve

    try:
        settings = load(ProcessSettings)
        # Whoever comes while the modules load waits instead of being refused.
        listening = _listen(settings.host, settings.port)
        app = _start(settings)
    except ConfigError as err:
        _leave(err)
    serve(_make_edge(app, settings), listening, trusted_proxies=settings.trusted_proxies)
    _finish()
    sys.exit(0)


def _make_edge(app: Any, settings: ProcessSettings) -> Edge:
    from ..module.service import SERVICES
    from ..web.edge import Edge

    return Edge(
        app,
        [endpoint for service in SERVICES for endpoint in service.endpoints],
        takers=[taker for service in SERVICES for taker in service.takers],
        statics=[files for service in SERVICES for files in service.statics],
        threads=settings.threads,
        log=SERVICES[0].log,
        elsewhere=dict(each.split("=", 1) for each in settings.elsewhere),
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as err:
        raise ConfigError(f"Cannot listen on {host}, port {port}: {err.strerror}.") from err


def run_collectors() -> NoReturn:
    """Run the collectors' loops until SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        _start(load(ProcessSettings))
    except ConfigError as err:
        _leave(err)
    stopping.wait()
    _finish()
    sys.exit(0)


def run_hub() -> NoReturn:
    """Hold the sockets of one module until SIGTERM. Its hub.py runs without its app, which a hub has no use for."""
    from ..base.logs import configure_logging, stop_logging
    from ..base.manifest import load_part

    try:
        process = load(ProcessSettings)
        os.umask(0o077)
        configure_logging(Settings.load())
        load_part(process.modules[0], "hub").main()
    except ConfigError as err:
        _leave(err)
    stop_logging()
    sys.exit(0)


def _start(process: ProcessSettings) -> Any:
    from ..base.logs import configure_logging
    from ..module.service import SERVICES
    from ..web.app import create_app
    from ..web.clients import set_own_app

    os.umask(0o077)  # The framework's session.secret, and whatever else comes to lie in the folder, is ours alone.
    configure_logging(Settings.load())
    folder = process.run_dir or Path(tempfile.mkdtemp(prefix="waddlebot-"))
    app = create_app(*process.modules, apps_folder=folder)
    set_own_app(app, process.own_url)
    for service in SERVICES:
        if process.role in ("all", "web"):
            service.loops.start("service")
        if process.role in ("all", "collectors"):
            service.loops.start("worker")
        service.log.system("started", role=process.role, pid=os.getpid())
    settle()
    return app


def settle() -> None:
    """What is loaded by now stays for good; the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)


def _finish() -> None:
    """Let the loops end what they are at, and write the last log lines."""
    from ..base.background import stop_loops
    from ..base.logs import stop_logging
    from ..module.service import SERVICES

    stop_loops([service.loops for service in SERVICES])
    for service in SERVICES:
        service.log.system("stopped", pid=os.getpid())
    stop_logging()


def _check_writable() -> None:
    """Raises: ConfigError on a disk that is read-only throughout, of which imports would say in a traceback only."""
    try:
        tempfile.gettempdir()
    except OSError as err:
        raise ConfigError("Nothing can be written anywhere; give it a folder, such as a tmpfs at /tmp.") from err


def _leave(err: ConfigError) -> NoReturn:
    if not _was_said(err.message):
        print(f"waddlebot: {err.message}", file=sys.stderr, flush=True)  # noqa: T201 - there may be no log yet
    os._exit(1)


def _was_said(text: str) -> bool:
    """Whether another process of this fleet has just said so: all of them read the same settings."""
    folder = os.environ.get("WADDLEBOT_RUN_DIR")
    if not folder:
        return False
    with contextlib.suppress(OSError), (Path(folder).parent / SAID).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if time.time() - os.fstat(file.fileno()).st_mtime > SAID_WITHIN_S:
            file.truncate(0)
        file.seek(0)
        if text in file.read().splitlines():
            return True
        file.write(f"{text}\n")
    return False


if __name__ == "__main__":
    try:
        _check_writable()
    except ConfigError as err:
        _leave(err)
    {"web": serve_web, "collectors": run_collectors, "hub": run_hub}[sys.argv[1]]()
