"""What the tests of the AI share: simulators as new for each test, breakers that forget, the fleet on a port."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import threading

import pytest
import uvicorn
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually
from waddlebot.web.edge import Edge
from waddlebot.web.edge.server import Connection, _Server


def as_new(simulator):
    simulator.forget()
    yield simulator
    simulator.forget()


@pytest.fixture
def openai_server(openai_simulator, ai):
    yield from as_new(openai_simulator)


@pytest.fixture
def ollama_server(ollama_simulator, ai):
    yield from as_new(ollama_simulator)


@pytest.fixture
def mcp_server(mcp_simulator, ai):
    yield from as_new(mcp_simulator)


@pytest.fixture
def ai(fleet):
    """The module's composition root. Pauses and breakers are the process's; each test begins without."""
    app = importlib.import_module("apps.ai_interaction_module.app")
    begin_anew(app)
    return app


@pytest.fixture
def forgive(ai):
    """Forget again who has failed."""
    return lambda: begin_anew(ai)


def begin_anew(app):
    for _, guard in app.ai._models.values():
        guard._circuits._circuits.clear()
        guard._pauses._own.clear()
    for key in app.service.bus.client.scan_iter("waddlebot:pause:*"):
        app.service.bus.client.delete(key)


@pytest.fixture
def key(fleet, bot):
    """A key of a program of the bot's community."""
    return fleet.make_key(f"program-{bot.slug}", "api-users", community_id=bot.community_id)


class Server(_Server):
    """Not in the main thread, so without signals."""

    @contextlib.contextmanager
    def capture_signals(self):
        self._leaving = asyncio.Event()
        yield


@pytest.fixture(scope="module")
def front(fleet):
    """The fleet as others reach it: its own edge on a port."""
    log = SERVICES[0].log
    edge = Edge(fleet.app, [each for service in SERVICES for each in service.endpoints], threads=32, log=log)
    listening = socket.create_server(("127.0.0.1", 0))
    options = {"http": Connection, "ws": "none", "lifespan": "off", "interface": "asgi3", "log_config": None}
    server = Server(uvicorn.Config(edge, access_log=False, **options), edge)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def settings(bot):
    """Set something for the AI in the bot's community, as its owner does."""

    def set_(**config):
        answer = bot.fleet.request("PUT", f"/router/communities/{bot.slug}/modules/ai", {"config": config})
        assert answer.status == 200, answer.body

    return set_
