from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from overlay_doubles import HubProcess, Overlay
from waddlebot.testing.fleet import Bot, Fleet

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()
