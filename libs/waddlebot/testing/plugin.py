"""Fixtures for every test of the fleet: `pytest_plugins = ["waddlebot.testing.plugin"]`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]
import pytest

from ..base import strangers, watched
from ..base.ids import new_id
from ..fleet.embedded import PostgresServer, free_port
from ..module.service import SERVICES
from .fleet import Bot, Fleet, Stack, load_fleet
from .module_stub import ModuleStub, chat, reply_to
from .simulated import SimulatedDatabase
from .surroundings import AS_STARTED  # noqa: F401 - taken before any fixture runs

T = TypeVar("T")


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Look for tests in a module's folder without importing the module: only py4web does that, once."""
    return pytest.Dir.from_parent(parent, path=path) if (path / "manifest.toml").exists() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests together ask for the most time, so that no worker begins with one at the end."""
    asked: Counter[Path] = Counter()
    for item in items:
        marked = item.get_closest_marker("timeout")
        asked[item.path] += marked.args[0] if marked else 0
    items.sort(key=lambda item: -asked[item.path])


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real PostgreSQL and a real Valkey for the whole run."""
    with Stack.running(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def simulated(stack: Stack) -> Iterator[SimulatedDatabase]:
    """A database of this test's own, where time passes when the test says so."""
    with SimulatedDatabase.on(stack.postgres.url) as database:
        yield database


@pytest.fixture(scope="session")
def module_stub_server() -> Iterator[ModuleStub]:
    stub = ModuleStub()
    yield stub
    stub.stop()


@pytest.fixture
def stub(fleet: Fleet, bot: Bot, module_stub_server: ModuleStub) -> ModuleStub:
    """An outside module, registered with the command !stub and installed in the bot's community; tell it what to do
    with `stub.behaviour`."""
    if "stub" not in fleet.keys:
        fleet.keys["stub"] = fleet.make_key("stub", "services", module_name="stub")
    # What a test did to it shall be no trouble of the next one's.
    importlib.import_module("apps.router_module.app").circuits.close_all()
    module_stub_server.reset(lambda call: reply_to(call, chat("hello")))
    module_stub_server.register(fleet)
    bot.install("stub")
    return module_stub_server


@pytest.fixture(scope="session")
def twitch_simulator() -> Iterator[Any]:
    """A local Twitch that the fleet's collector is pointed at; None in a checkout without simulators."""
    yield from _simulator("twitch", "TwitchSimulator")


@pytest.fixture(scope="session")
def slack_simulator() -> Iterator[Any]:
    """A local Slack that the fleet's collector is pointed at; None in a checkout without simulators."""
    yield from _simulator("slack", "SlackSimulator")


@pytest.fixture(scope="session")
def discord_simulator() -> Iterator[Any]:
    """A local Discord that the fleet's collector is pointed at; None in a checkout without simulators."""
    yield from _simulator("discord", "DiscordSimulator", hurried=True)


@pytest.fixture(scope="session")
def spotify_simulator() -> Iterator[Any]:
    """A local Spotify that the fleet is pointed at; None in a checkout without simulators."""
    yield from _simulator("spotify", "SpotifySimulator")


@pytest.fixture(scope="session")
def lambda_simulator() -> Iterator[Any]:
    """A local AWS Lambda that the fleet's router is pointed at; None in a checkout without simulators."""
    yield from _simulator("aws_lambda", "LambdaSimulator")


@pytest.fixture(scope="session")
def openwhisk_simulator() -> Iterator[Any]:
    """A local OpenWhisk that the fleet's router is pointed at; None in a checkout without simulators."""
    yield from _simulator("openwhisk", "OpenWhiskSimulator")


@pytest.fixture(scope="session")
def openai_simulator() -> Iterator[Any]:
    """A local OpenAI that the fleet's AI asks first; None in a checkout without simulators."""
    yield from _simulator("openai", "OpenAISimulator")


@pytest.fixture(scope="session")
def ollama_simulator() -> Iterator[Any]:
    """A local Ollama that the fleet's AI asks when OpenAI fails; None in a checkout without simulators."""
    yield from _simulator("ollama", "OllamaSimulator")


@pytest.fixture(scope="session")
def mcp_simulator() -> Iterator[Any]:
    """A local MCP server that the fleet's AI may be told to ask; None in a checkout without simulators."""
    yield from _simulator("mcp", "MCPSimulator")


@pytest.fixture(scope="session")
def youtube_simulator() -> Iterator[Any]:
    """A local YouTube that the fleet's music module is pointed at; None in a checkout without simulators."""
    yield from _simulator("youtube", "YouTubeSimulator")


@pytest.fixture(scope="session")
def kong_simulator() -> Iterator[Any]:
    """A local Kong's Admin API that the fleet's broker is pointed at; None in a checkout without simulators."""
    yield from _simulator("kong", "KongSimulator")


def _simulator(module: str, name: str, **options: Any) -> Iterator[Any]:
    if importlib.util.find_spec("simulators") is None:
        yield None
        return
    with getattr(importlib.import_module(f"simulators.{module}"), name)(**options) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def fleet(
    stack: Stack,
    module_stub_server: ModuleStub,
    twitch_simulator: Any,
    slack_simulator: Any,
    discord_simulator: Any,
    spotify_simulator: Any,
    lambda_simulator: Any,
    openwhisk_simulator: Any,
    openai_simulator: Any,
    ollama_simulator: Any,
    mcp_simulator: Any,
    youtube_simulator: Any,
    kong_simulator: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """All modules in this process, registered."""
    os.environ.update(EGRESS_ALLOW=module_stub_server.address, MODULE_URLS=module_stub_server.module_urls)
    for simulator in (
        twitch_simulator,
        discord_simulator,
        slack_simulator,
        lambda_simulator,
        openwhisk_simulator,
        youtube_simulator,
        spotify_simulator,
        openai_simulator,
        ollama_simulator,
        mcp_simulator,
        kong_simulator,
    ):
        os.environ.update(simulator.settings() if simulator else {})
    # A test that wants the local host of community modules starts it there.
    os.environ.update(MODULE_HOST_URL=f"http://127.0.0.1:{free_port()}", MODULE_HOST_KEY=new_id())
    os.environ.update(AI_PROVIDER="openai,ollama", AI_RESPOND_TO_EVENTS="false")
    # Twitch takes no other than https; the simulator posts to the fleet by itself. All tests together say a lot.
    os.environ.update(TWITCH_WEBHOOK_CALLBACK_URL="https://waddlebot.test/twitch/webhook", TWITCH_SEND_LIMIT="7500")
    loaded = load_fleet(stack, tmp_path_factory.mktemp("fleet"))
    eventually(lambda: all(_is_ready(loaded, service.manifest.prefix) for service in SERVICES))
    yield loaded
    for service in SERVICES:
        service.loops.stop()
        service.bus.stop()


@pytest.fixture(scope="module")
def forgiven() -> Iterator[None]:
    """For tests that do harm: after them health tells no more of what they did to this process."""
    yield
    forgive()


def forgive() -> None:
    """Have health tell no more of what went wrong in this process, which it would for a minute."""
    for each in list(watched._watched):
        each._last_at = None


@pytest.fixture(autouse=True)
def _a_minute_of_its_own() -> None:
    """What strangers may write in a minute is counted for each test by itself."""
    strangers.begin_anew()


@pytest.fixture
def bot(fleet: Fleet) -> Bot:
    """Somebody to talk to in a community that nobody else uses."""
    return fleet.bot()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A WADDLEBOT_HOME that does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def whole_log(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], str]]:
    """Have everybody tell everything, and libraries too, but those that our code has silenced for what they tell.

    Called with a module's name it returns all of it, records and files, once what that module has told is written.
    """
    known = [logging.getLogger(), *map(logging.getLogger, list(logging.Logger.manager.loggerDict))]
    loggers = [each for each in known if each.getEffectiveLevel() != logging.CRITICAL]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)

    def read(name: str) -> str:
        # On a busy machine the writer is behind what everybody tells at DEBUG, and a full queue takes no line.
        log, folder = next(each for each in SERVICES if each.name == name).log, Path(os.environ["LOG_DIR"])
        last, own = f"the_end_of_{new_id()}", folder / f"{name}.log"

        def is_written() -> bool:
            log.system(last)
            time.sleep(0.2)
            return last in own.read_text()

        eventually(is_written, within_s=60)
        records = "".join(str(record.__dict__) for record in caplog.records)
        return caplog.text + records + "".join(path.read_text() for path in folder.iterdir())

    yield read
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


def eventually(check: Callable[[], T | None], *, within_s: float = 10, what: str = "") -> T:
    """Wait until a check holds, and return what it found. For what other threads or processes do.

    Fails after `within_s`.
    """
    until = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < until, f"not within {within_s} s: {what or check}"
        time.sleep(0.01)
    return found


def _is_ready(fleet: Fleet, prefix: str) -> bool:
    return fleet.request("GET", f"{prefix}/ready", key=None).status == 200


@contextlib.contextmanager
def hanging(server: PostgresServer) -> Iterator[None]:
    """Every process of the server stopped: connections stay open, and nothing answers."""
    assert server.process is not None
    root = psutil.Process(server.process.pid)
    tree = [root, *root.children(recursive=True)]
    for each in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)
