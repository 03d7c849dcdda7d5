"""What the tests of the AI share: simulators that are as new for each test, and a breaker that has forgotten the last one."""

from __future__ import annotations

import importlib

import pytest


@pytest.fixture
def openai_server(openai_simulator, ai):
    openai_simulator.forget()
    yield openai_simulator
    openai_simulator.forget()


@pytest.fixture
def ollama_server(ollama_simulator, ai):
    ollama_simulator.forget()
    yield ollama_simulator
    ollama_simulator.forget()


@pytest.fixture
def mcp_server(mcp_simulator, ai):
    mcp_simulator.forget()
    yield mcp_simulator
    mcp_simulator.forget()


@pytest.fixture
def ai(fleet):
    """The module's composition root. Pauses and breakers are the process's; each test begins without."""
    app = importlib.import_module("apps.ai_interaction_module.app")
    for _, guard in app.ai._models.values():
        guard._circuits._circuits.clear()
        guard._pauses._own.clear()
    for key in app.service.bus.client.scan_iter("waddlebot:pause:*"):
        app.service.bus.client.delete(key)
    return app
