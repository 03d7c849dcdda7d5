"""The web process of a fleet, with a few endpoints more that are slow, or that stream. `tests/test_edge.py` runs it.

What it listens on and whom it serves is in the environment, as for any web process.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from waddlebot.base.errors import BadSignature
from waddlebot.base.settings import load
from waddlebot.fleet import serve
from waddlebot.module.service import SERVICES
from waddlebot.web.auth import ANY_KEY, ANYBODY, Account
from waddlebot.web.edge import serve as serve_edge
from waddlebot.web.endpoint import Raw, RawRequest, endpoint, stream
from waddlebot.web.static import StaticFiles
from waddlebot.web.stream import sse

held = threading.Event()


class Wanted(BaseModel):
    count: int = 3


@endpoint("POST", "/t/echo", caller=ANYBODY, pool="api", max_body_bytes=2_000_000)
def echo(request: RawRequest) -> dict[str, Any]:
    """Say what came in."""
    headers = {name: value for name, value in request.headers.items() if name != "content-type"}
    body = request.body[:200].decode("latin-1")
    return {"length": len(request.body), "address": request.address, "body": body, "headers": headers}


@endpoint("POST", "/t/hook", caller=ANYBODY)
def hook(request: RawRequest) -> Raw:
    """Take a webhook."""
    return Raw("", status=204)


@endpoint("POST", "/t/deliveries", caller=ANYBODY)
def take_deliveries(requests: Sequence[RawRequest]) -> list[Raw | Exception]:
    """Take what is delivered, all that waits at once; the first of them waits to be let go."""
    bodies = [each.body.decode() for each in requests]
    print("deliveries:", *bodies, flush=True)
    if "wait" in bodies:
        held.wait(60)
    if "break" in bodies:
        raise RuntimeError("a bug")
    return [BadSignature() if each == "forged" else Raw(f"{each} of {len(bodies)}") for each in bodies]


@endpoint("GET", "/t/wait", caller=ANYBODY)
def wait() -> Raw:
    """Serve a page once it is let go."""
    print("a page is wanted", flush=True)
    held.wait(60)
    return Raw("<p>here</p>", "text/html; charset=utf-8")


@endpoint("POST", "/t/go", caller=ANYBODY)
def go() -> dict[str, Any]:
    """Let the pages go."""
    held.set()
    return {"success": True}


@stream("GET", "/t/count", caller=ANY_KEY, query=Wanted)
async def count(query: Wanted, account: Account) -> AsyncIterator[str]:
    """Count, and say for whom."""
    yield sse({"for": account.name}, event="hello")
    for n in range(query.count):
        yield sse(str(n), event_id=str(n))


@stream("GET", "/t/forever/<size:int>", caller=ANYBODY)
async def forever(size: int) -> AsyncIterator[str]:
    """Never end; with a size, never stop talking either."""
    try:
        yield sse("begun")
        while size:
            yield sse("x" * size)
        await asyncio.Event().wait()
    finally:
        print("a stream was closed", flush=True)


@stream("GET", "/t/broken", caller=ANYBODY)
async def broken() -> AsyncIterator[str]:
    """Fail on the way."""
    yield sse("so far so good")
    raise RuntimeError("a bug")


def main(statics: Path) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: held.set())
    settings = load(serve.ProcessSettings)
    listening = serve._listen(settings.host, settings.port)
    app = serve._start(settings)
    more = (echo, hook, take_deliveries, wait, go, count, forever, broken)
    for function in more:
        function.__module__ = "apps.router_module.edge_process"  # py4web serves nothing that is in no app.
    SERVICES[0].mount(*more)
    SERVICES[0].mount_static(StaticFiles("/t/static/", statics))
    print("ready", SERVICES[0].statics[0].version, flush=True)
    serve_edge(serve._make_edge(app, settings), listening, trusted_proxies=settings.trusted_proxies)
    serve._finish()
    print("ended in order", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
