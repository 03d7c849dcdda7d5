from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from overlay_doubles import HubProcess, Overlay
from screens import WATCH, Screen, launched
from waddlebot.testing.fleet import Bot, Fleet


@pytest.fixture(scope="session")
def hub(fleet: Fleet) -> Iterator[HubProcess]:
    started = HubProcess().start()
    yield started
    started.end()


@pytest.fixture
def overlay(bot: Bot) -> Overlay:
    """The overlays of a community that nobody else uses."""
    return Overlay(bot)


@pytest.fixture
def live(overlay: Overlay, hub: HubProcess) -> Iterator[Overlay]:
    """The same with a hub, which pages can connect to."""
    overlay.hub = hub
    with overlay.open_sockets:
        yield overlay


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A browser opens several connections at once; with the usual 5 some would be turned away.
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A browser that leaves in the middle of an answer is part of some tests."""


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def site(fleet: Fleet) -> Iterator[str]:
    """The fleet's HTTP side on a real port, for a browser."""
    with make_server("127.0.0.1", 0, fleet.app, Server, Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for a file of tests; while it lives, this thread has an event loop that others would trip over."""
    with launched() as chromium:
        yield chromium


@pytest.fixture
def show(browser: Any, live: Overlay, site: str) -> Iterator[Callable[..., Screen]]:
    """Opens an overlay in a browser of its own."""
    contexts = []

    def open_screen(
        source_type: str, *, size: tuple[int, int] = (1280, 720), host: str = "127.0.0.1", **options: Any
    ) -> Screen:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        context.add_init_script(WATCH)
        context.add_init_script(
            "window.lines = []; const Real = WebSocket;"
            " window.WebSocket = class extends Real { constructor(url) { super(url); window.lines.push(this); } };"
        )
        page = context.new_page()
        screen = Screen(page, live, source_type)
        page.on("pageerror", lambda error: screen.problems.append(str(error)))
        page.on("request", lambda request: screen.requests.append(request.url))
        token = live.tokens()[source_type]["token"]
        page.on("console", lambda message: screen.heard.append(message.text))
        page.on("requestfailed", lambda request: screen.heard.append(f"{request.url}: {request.failure}"))
        page.goto(f"{site.replace('127.0.0.1', host)}/browser/source/{token}/{source_type}")
        screen.until(lambda: page.evaluate("document.documentElement.dataset.line") == "open", within_s=30)
        return screen

    yield open_screen
    for context in contexts:
        context.close()
