"""The web process of a fleet that kills itself with SIGKILL at a chosen database step.

`python tests/crashing_web.py FOLDER` reads lines `PORT` from standard input, and for each serves the fleet on that port
in a fork of itself until told the next. It dies at step N of a request that comes with `X-Crash-At: N`, or of what
follows it, if it comes with `X-Crash-Later: 1`, too. Steps are counted in the threads that serve requests, run commands
and do what labels ask for later: before each statement, before each commit and after each commit.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import pkgutil
import signal
import socketserver
import sys
import threading
import types
import wsgiref.simple_server
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

# What takes time to load is loaded once, before the forks; it opens no connection.
import waddlebot.data.database
import waddlebot.module.interaction
import waddlebot.web.app
from waddlebot.base.logs import configure_logging
from waddlebot.base.manifest import modules_dir
from waddlebot.base.settings import Settings
from waddlebot.module.interaction import MODULES
from waddlebot.module.service import SERVICES
from waddlebot.web.clients import set_own_app

# The threads that serve requests and run commands; a loop's is named for what it does.
COUNTED = (
    "Thread-",
    "target-",
    "ask-router",
    "jobs",
    "roles",
    "label-",
    *(f"{each}-out" for each in ("spotify", "youtube_music", "shoutout", "ai")),
)


class Crash:
    """Counts the steps once armed, and dies at the chosen one."""

    at = 0
    steps = itertools.count(1)
    armed = False

    @classmethod
    def step(cls) -> None:
        if cls.armed and threading.current_thread().name.startswith(COUNTED) and next(cls.steps) == cls.at:
            os.kill(os.getpid(), signal.SIGKILL)


class Cursor(psycopg2.extensions.cursor):
    def execute(self, *arguments: Any) -> Any:
        Crash.step()
        return super().execute(*arguments)


class Connection(waddlebot.data.database.Connection):
    def cursor(self, *arguments: Any, **options: Any) -> Any:
        return super().cursor(*arguments, cursor_factory=Cursor, **options)

    def commit(self) -> None:
        Crash.step()
        super().commit()
        Crash.step()


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    allow_reuse_address = True


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def serve(folder: Path, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    os.environ.update(CORE_API_URL=url, MODULE_URL=url, BASE_URL=url)
    connect = psycopg2.connect
    psycopg2.connect = lambda *a, **k: connect(*a, **{**k, "connection_factory": Connection})
    configure_logging(Settings.load())
    packages = os.environ["CRASHING_MODULES"].split(",")
    app = waddlebot.web.app.create_app(*packages, apps_folder=folder)
    set_own_app(app, url)
    if os.environ.get("CRASHING_ELSEWHERE"):  # The router calls every module as if it were in another process.
        MODULES.clear()
    for service in SERVICES:
        service.loops.start("service")

    def arm(environ: dict[str, Any], start_response: Any) -> Any:
        if "HTTP_X_CRASH_AT" not in environ:
            return app(environ, start_response)
        Crash.at, Crash.steps, Crash.armed = int(environ["HTTP_X_CRASH_AT"]), itertools.count(1), True
        answer = b"".join(app(environ, start_response))
        Crash.step()  # Everything is on record, and nobody has been told.
        Crash.armed = "HTTP_X_CRASH_LATER" in environ
        return [answer]

    server = Server(("127.0.0.1", port), Quiet)
    server.set_app(arm)
    print("ready", flush=True)
    server.serve_forever()


def preload(packages: list[str]) -> None:
    """Import what the modules are made of, once for all forks. Their apps do things, so each fork imports those."""
    for package in packages:
        name, folder = f"apps.{package}", modules_dir() / package
        for parent, where in (("apps", modules_dir()), (name, folder)):
            sys.modules[parent] = types.ModuleType(parent)
            sys.modules[parent].__path__ = [str(where)]
        for found in pkgutil.walk_packages([str(folder)], f"{name}."):
            if found.name.split(".")[2] not in ("app", "hub", "tests"):
                importlib.import_module(found.name)
    gc.freeze()


def main(folder: Path) -> None:
    preload(os.environ["CRASHING_MODULES"].split(","))
    child = 0
    for line in sys.stdin:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            try:
                serve(folder, int(line))
            finally:
                print("failed", flush=True)
                os._exit(1)
    if child:  # A signal to 0 would go to all that began with this one, the tests among them.
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
