"""What the fleet's processes run: `python -m waddlebot.fleet.serve web`, `… collectors` and `… hub`."""

from __future__ import annotations

import gc
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..base.errors import ConfigError
from ..base.settings import CommaList, Settings, load
from .embedded import die_with_parent

# A request for an event waits up to a second for its answer, so there are more threads than the cores could use.
THREADS = 32
# A request leaves few cycles behind, so looking for them can wait for many requests.
GC_ALLOCATIONS = 20_000


class ProcessSettings(BaseSettings):
    """What this process is, set by whoever starts it: the supervisor, or a container's entry point."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    modules: CommaList = Field(alias="WADDLEBOT_MODULES", description="Folders of the modules to serve.")
    role: Literal["all", "web", "collectors"] = Field(
        "all", alias="WADDLEBOT_ROLE", description="Serve HTTP, run the collectors' loops, or both."
    )
    host: str = Field("127.0.0.1", alias="WADDLEBOT_HOST", description="Address to listen on.")
    port: int = Field(8000, alias="WADDLEBOT_PORT", ge=1, le=65535, description="Port to listen on.")
    own_url: str | None = Field(
        None, alias="WADDLEBOT_OWN_URL", description="Calls to this URL stay inside the process."
    )
    threads: int = Field(THREADS, alias="WADDLEBOT_THREADS", ge=1, le=500, description="Requests served at once.")
    run_dir: Path | None = Field(None, alias="WADDLEBOT_RUN_DIR", description="Folder for files of this process.")


def load_app() -> Any:
    """The WSGI app of a worker process, with its loops running. Ends the process when a module does not load."""
    die_with_parent(signal.SIGTERM)
    # The server runs workers as multiprocessing does, which leaves without atexit.
    multiprocessing.util.Finalize(None, _finish, exitpriority=10)
    try:
        return _start(load(ProcessSettings))
    except ConfigError as err:
        _leave(err)


def serve_web() -> NoReturn:
    """Serve the modules over HTTP until SIGTERM, then finish what is being served."""
    from granian.constants import Interfaces
    from granian.server import Server

    settings = load(ProcessSettings)
    Server(
        "waddlebot.fleet.serve:load_app",
        factory=True,
        interface=Interfaces.WSGI,
        address=settings.host,
        port=settings.port,
        workers=1,
        blocking_threads=settings.threads,
        websockets=False,
        log_enabled=False,
        workers_kill_timeout=10,
    ).serve()
    sys.exit(0)


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
    # What is loaded by now stays for good; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    return app


def _finish() -> None:
    """Let the loops end what they are at, and write the last log lines."""
    from ..base.logs import stop_logging
    from ..module.service import SERVICES

    for service in SERVICES:
        service.loops.stop()
    stop_logging()


def _leave(err: ConfigError) -> NoReturn:
    print(f"waddlebot: {err.message}", file=sys.stderr, flush=True)  # noqa: T201 - there may be no log yet
    os._exit(1)


if __name__ == "__main__":
    {"web": serve_web, "collectors": run_collectors, "hub": run_hub}[sys.argv[1]]()
