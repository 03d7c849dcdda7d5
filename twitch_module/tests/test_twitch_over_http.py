from __future__ import annotations

import json
import threading
import urllib.request
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from waddlebot.testing.plugin import eventually

from simulators.twitch import TwitchSimulator


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def callback(fleet):
    """The fleet behind a real port."""
    with make_server("127.0.0.1", 0, fleet.app, handler_class=QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/twitch/webhook"
        server.shutdown()
        thread.join()


@pytest.fixture
def control(callback):
    """A second simulator with the same secret, as a benchmark runs it in a process of its own."""
    with TwitchSimulator(callback=callback) as simulator:

        def ask(path, **body):
            data = json.dumps(body).encode() if body else None
            with urllib.request.urlopen(f"{simulator.url}/_control/{path}", data, timeout=30) as answer:
                return json.load(answer)

        yield ask


def test_twitch_delivers_over_http_and_is_answered(channel, control):
    assert control("chat", broadcaster=channel.id, text="!inventory list", chatter="5") == {"statuses": [204]}
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_a_load_is_counted(control):
    report = control("load", count=20, in_flight=4, channels=5, text="hello")
    assert report["statuses"] == {"204": 20}
    assert control("messages") == {"total": 0, "messages": []}


def test_challenge_and_retries_over_http(callback):
    with TwitchSimulator(callback=callback) as simulator:
        assert simulator.deliver(simulator.challenge()) == [200]
        simulator.secret = b"not the fleet's secret"
        assert simulator.say("1", "hello") == [403] * 5
    with TwitchSimulator(callback="http://127.0.0.1:9/") as simulator:
        assert simulator.deliver(simulator.revocation(), pauses_s=[0]) == [0, 0]
