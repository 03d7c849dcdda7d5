"""Overlays in a fleet as a person runs it: `waddlebot up`, its URLs, a simulation, and what a kill does."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import pytest
from overlay_doubles import Socket
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import FLEET_PORTS
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(180)
CLI = [sys.executable, "-m", "waddlebot.cli.cli"]


class Up:
    def __init__(self, home: Path, *options: str) -> None:
        self.home, self.port, self.output = home, free_port(FLEET_PORTS), ""
        self.process = subprocess.Popen(
            [*CLI, "up", "--home", str(home), "--port", str(self.port), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=AS_STARTED,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        eventually(lambda: "Ctrl-C stops it" in self.output or self.process.poll() is not None, within_s=90)
        assert self.process.poll() is None, self.output

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self.output += line

    @property
    def urls(self) -> dict[str, str]:
        return dict(re.findall(r"(ticker|media|general) overlay +(\S+)", self.output))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, command[0], "--home", str(self.home), *command[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=AS_STARTED,
        )

    def child(self, name: str) -> psutil.Process:
        tree = psutil.Process(self.process.pid).children()
        return next(each for each in tree if each.cmdline()[-2:] == ["waddlebot.fleet.serve", name])

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(40) == 0
        self.reader.join(10)

    def page(self, source_type: str) -> connect:
        """What the page of that URL would connect to."""
        running = json.loads((self.home / "running.json").read_text())["environment"]
        token = self.urls[source_type].split("/")[-2]
        return connect(f"{running['WEBSOCKET_PUBLIC_URL']}/ws/{token}/{source_type}", compression=None)


@pytest.fixture(scope="module", params=[(), ("--per-module",)], ids=["one process", "per module"])
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("overlays") / "home", *request.param)
    yield running
    running.stop()


def test_up_prints_three_urls_and_each_is_a_page(up):
    assert set(up.urls) == {"ticker", "media", "general"}
    for source_type, url in up.urls.items():
        with urlopen(url, timeout=10) as answer:
            assert f"WaddleBot {source_type}" in answer.read().decode()


def test_modules_answer_and_call_each_other_in_one_process_and_in_one_each(up):
    as_owner = ("say", "--level", "owner")
    assert up.run(*as_owner, '!inventory add "Lamp" "bright"').stdout == "Added “Lamp”.\n"
    assert up.run(*as_owner, '!alias add !l "!inventory list"').returncode == 0
    assert up.run("say", "!l").stdout == "1 item: Lamp\n"


def test_an_address_of_obs_is_the_same_however_the_modules_run(up):
    """OBS follows from the fleet's own port to the module's."""
    port = urlsplit(up.urls["ticker"]).port

    assert port == up.port
    with urlopen(up.urls["ticker"], timeout=10) as answer:
        assert answer.status == 200
        assert b"/ws/" in answer.read()


def test_where_no_page_is_open_the_console_says_so(up):
    done = up.run("simulate", "media", "hello")

    assert done.returncode == 0
    assert done.stdout.startswith("→ for the media overlay, of which no page is open")


def test_a_simulation_is_shown_and_marked(up):
    with up.page("ticker") as connection:
        page = Socket(connection).hello()
        page.receive_until_pong()

        def says() -> str:
            return up.run("simulate", "ticker", "hello").stdout

        # The hub tells once a second which pages it has.
        eventually(lambda: says() == "→ shown on the ticker overlay, marked TEST\n", within_s=60)
        item = page.receive()
        assert (item["data"]["text"], item["test"]) == ("hello", True)


def test_the_hub_is_started_again_and_its_pages_come_back(up):
    with up.page("general") as connection:
        Socket(connection).hello().receive_until_pong()
        up.child("hub").send_signal(signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=30)
    assert up.run("simulate", "general", "while it was away").returncode == 0

    eventually(lambda: is_open(up), within_s=60)
    with up.page("general") as connection:
        assert Socket(connection).hello().receive()["data"]["text"] == "while it was away"


def test_pages_stay_while_the_http_side_is_started_again(up):
    with up.page("media") as connection:
        page = Socket(connection).hello()
        page.receive_until_pong()
        for child in psutil.Process(up.process.pid).children():
            if child.cmdline()[-2:] == ["waddlebot.fleet.serve", "web"]:
                child.kill()

        eventually(lambda: up.run("simulate", "media", "after").returncode == 0, within_s=60)

        assert page.receive()["data"]["title"] == "after"


def is_open(up: Up) -> bool:
    try:
        with up.page("general"):
            return True
    except (OSError, InvalidHandshake):
        return False


def test_a_port_of_the_sockets_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*CLI, "up", "--home", str(tmp_path), "--port", str(free_port(FLEET_PORTS)), "--ws-port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=AS_STARTED)

    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr and "--ws-port" in done.stderr
