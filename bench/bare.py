"""A bare WSGI app behind the fleet's own edge: `python -m bench.bare MODULE:APP PORT`."""

from __future__ import annotations

import importlib
import socket
import sys

from waddlebot.base.logs import AAALog
from waddlebot.fleet.serve import THREADS
from waddlebot.web.auth import ANYBODY
from waddlebot.web.edge import Edge, serve
from waddlebot.web.endpoint import Endpoint


def main(target: str, port: int) -> None:
    module, _, name = target.partition(":")
    app = getattr(importlib.import_module(module), name)
    anything = [
        Endpoint(method, path, main, ANYBODY) for method in ("GET", "POST") for path in ("/", "/<anything:path>")
    ]
    edge = Edge(app, anything, threads=THREADS, log=AAALog("bench", "1"))
    serve(edge, socket.create_server(("127.0.0.1", port), backlog=1024))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
