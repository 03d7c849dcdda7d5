"""The example modules, their handlers unchanged: on this fleet's own host, on AWS Lambda, on OpenWhisk, as webhooks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from waddlebot.cli.cli import cli
from waddlebot.fleet.embedded import free_port
from waddlebot.module.package import pack_folder, read_package
from waddlebot.testing.module_host import ModuleHost
from waddlebot.testing.plugin import eventually
from waddlebot.web.http import HTTPClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "community_modules"
SDK = EXAMPLES / "sdk"
NAMES = ("weather", "translate", "game", "quote", "giveaway")
SECRET = "whsec-of-a-test"
FOLDERS = {name: EXAMPLES / name for name in NAMES}
# What is said, and what the answer looks like.
TALKS: dict[str, list[tuple[str, str]]] = {
    "weather": [("Tokyo may", "Tokyo in May: usually 15 to 24 °C.*")],
    "translate": [("es good morning", "Buenos días")],
    "game": [("rock", "I have (rock|paper|scissors).*")],
    "quote": [("add Ship it", "Kept as quote 1."), ("add Later", "Kept as quote 2."), ("1", "Quote 1: Ship it")],
    "dice": [("2d6", r"[1-6] \+ [1-6] = \d+"), ("two", "Say how many dice.*")],
    "giveaway": [("start a duck", "To be won: a duck!.*"), ("join", "Good luck.*"), ("draw", "Alice wins a duck!.*")],
}
Ask = Callable[[str, dict[str, Any]], Any]


@pytest.fixture(scope="module")
def host() -> Iterator[ModuleHost]:
    running = ModuleHost().start()
    yield running
    running.stop()


@pytest.fixture
def platform(request: pytest.FixtureRequest, host: ModuleHost) -> Iterator[Ask]:
    """How a module is asked where it runs; returns the reply."""
    host.side.state.clear()
    with contextlib.ExitStack() as stack:
        yield {"local": locally, "lambda": on_lambda, "openwhisk": on_openwhisk, "webhook": as_webhook}[request.param](
            host, stack
        )


def locally(host: ModuleHost, _stack: contextlib.ExitStack) -> Ask:
    def ask(name: str, event: dict[str, Any]) -> Any:
        return host.invoke(host.publish_package(pack_folder(FOLDERS[name])), event).json()

    return ask


def on_lambda(_host: ModuleHost, stack: contextlib.ExitStack) -> Ask:
    aws = stack.enter_context(pytest.importorskip("simulators.aws_lambda").LambdaSimulator())
    told = aws.settings()
    client = boto3.client(
        "lambda",
        endpoint_url=told["AWS_ENDPOINT_URL_LAMBDA"],
        region_name=told["AWS_REGION"],
        aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
    )

    def ask(name: str, event: dict[str, Any]) -> Any:
        paths = [str(FOLDERS[name]), str(SDK)]
        aws.add(name, f"import sys; sys.path[:0] = {paths!r}; from waddlebot_sdk.aws_lambda import handler")
        return json.loads(client.invoke(FunctionName=name, Payload=json.dumps(event))["Payload"].read())

    return ask


def on_openwhisk(_host: ModuleHost, stack: contextlib.ExitStack) -> Ask:
    whisk = stack.enter_context(pytest.importorskip("simulators.openwhisk").OpenWhiskSimulator())
    script = "import json, sys; from waddlebot_sdk.openwhisk import main; print(json.dumps(main(json.load(sys.stdin))))"

    def ask(name: str, event: dict[str, Any]) -> Any:
        def action(params: dict[str, Any]) -> Any:
            environment = {"PYTHONPATH": f"{FOLDERS[name]}{os.pathsep}{SDK}", "PATH": os.environ["PATH"]}
            ran = subprocess.run([sys.executable, "-c", script], input=json.dumps(params), env=environment, **captured)
            return json.loads(ran.stdout)

        captured: dict[str, Any] = {"capture_output": True, "text": True, "check": True}
        whisk.add(name, action)
        headers = {"Authorization": "Basic " + base64.b64encode(whisk.auth_key.encode()).decode()}
        url = f"{whisk.url}/api/v1/namespaces/waddlebot/actions/{name}?blocking=true&result=true"
        return HTTPClient().request("POST", url, body=json.dumps(event).encode(), headers=headers).json()

    return ask


def as_webhook(_host: ModuleHost, stack: contextlib.ExitStack) -> Ask:
    urls: dict[str, str] = {}

    def ask(name: str, event: dict[str, Any]) -> Any:
        if name not in urls:
            urls[name] = stack.enter_context(webhook(FOLDERS[name]))
        return post(urls[name], event).json()

    return ask


@contextlib.contextmanager
def webhook(folder: Path) -> Iterator[str]:
    port = free_port()
    environment = {"PYTHONPATH": str(SDK), "WADDLEBOT_WEBHOOK_SECRET": SECRET, "PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [sys.executable, "-m", "waddlebot_sdk.webhook", "--port", str(port)], cwd=folder, env=environment
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        eventually(lambda: _answers(url))
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(Exception):
        return HTTPClient().request("GET", url).status == 405
    return False


def post(url: str, event: Any, *, secret: str = SECRET, at: float | None = None, raw: bytes | None = None) -> Any:
    body = raw if raw is not None else json.dumps(event).encode()
    timestamp = str(int(at or time.time()))
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"X-WaddleBot-Timestamp": timestamp, "X-WaddleBot-Signature": f"sha256={digest}"}
    return HTTPClient().request("POST", url, body=body, headers=headers)


@pytest.fixture(scope="module", autouse=True)
def begun(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `waddlebot module init dice` makes of nothing."""
    folder = tmp_path_factory.mktemp("begun")
    assert CliRunner().invoke(cli, ["module", "init", "dice", "--into", str(folder)]).exit_code == 0
    FOLDERS["dice"] = folder / "dice"


@pytest.mark.parametrize("platform", ["local", "lambda", "openwhisk", "webhook"], indirect=True)
@pytest.mark.parametrize("name", [*NAMES, "dice"])
def test_each_module_answers_the_same_wherever_it_runs(host, platform, name):
    for words, expected in TALKS[name]:
        event = host.call_of(name, *words.split())

        reply = platform(name, event)

        assert {key: reply[key] for key in ("session_id", "execution_id", "module_name", "success")} == {
            "session_id": event["session_id"],
            "execution_id": event["execution_id"],
            "module_name": name,
            "success": True,
        }
        (response,) = reply["responses"]
        assert re.fullmatch(expected, response["response_data"]["message"]), response


@pytest.mark.parametrize("name", NAMES)
def test_each_module_is_a_package_that_could_be_published(name):
    package = read_package(pack_folder(EXAMPLES / name))

    assert package.manifest.name == name
    assert not package.manifest.hosts
    assert all(each.examples for each in package.manifest.commands)
    assert not [path for path in package.files if "test" in path]


def test_many_who_join_at_once_are_all_in(host):
    """State is read, changed and written again; in one community that is done by one at a time."""
    host.side.state.clear()
    function = host.publish_package(pack_folder(EXAMPLES / "giveaway"))

    def ask(*words: str, person: int = 0) -> str:
        event = host.call_of("giveaway", *words, community=5)
        event["user"] |= {"id": person * 90, "display_name": f"P{person}"}  # All in one page.
        return str(host.invoke(function, event).json()["responses"][0]["response_data"]["message"])

    ask("start", "a", "duck")
    threads = [threading.Thread(target=ask, args=("join",), kwargs={"person": n}) for n in range(30)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert "30 joined" in ask()


@pytest.fixture(scope="module")
def quotes() -> Iterator[str]:
    with webhook(EXAMPLES / "quote") as url:
        yield url


def test_a_webhook_takes_only_what_was_signed_just_now(host, quotes):
    event = host.call_of("quote")

    assert post(quotes, event, secret="another").status == 401
    assert post(quotes, event, at=time.time() - 400).status == 401
    assert post(quotes, event, at=time.time() + 400).status == 401
    assert HTTPClient().request("POST", quotes, body=json.dumps(event).encode()).status == 401
    assert post(quotes, None, raw=b"not json").status == 400
    assert post(quotes, []).status == 400
    assert HTTPClient().request("GET", quotes).status == 405


def test_a_webhook_that_is_called_again_answers_the_same_and_does_nothing_twice(host, quotes):
    host.side.state.clear()
    event = host.call_of("quote", "add", "Once")

    answers = [post(quotes, event).json() for _ in range(3)]

    assert answers == [answers[0]] * 3
    assert host.side.state["count"] == 1


SLOW = """
import time

def handler(event, context):
    context.reply_later(30)
    time.sleep(0.5)
    return "at last"
"""


def test_a_webhook_that_takes_longer_says_so_and_posts_its_answer(host, tmp_path):
    (tmp_path / "handler.py").write_text(SLOW)
    (tmp_path / "module.toml").write_text('name = "slow"')
    event = host.call_of("slow")

    with webhook(tmp_path) as url:
        first = post(url, event).json()
        eventually(lambda: host.side.posted)

    assert (first["later_s"], first["module_name"]) == (30, "slow")
    path, late, token = host.side.posted[-1]
    assert (path, token) == ("/router/responses", "Bearer wcall_test")
    assert (late["execution_id"], late["responses"][0]["response_data"]["message"]) == (
        event["execution_id"],
        "at last",
    )
