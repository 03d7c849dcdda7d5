"""Commands wherever they run: each kind of target answers in chat, and whatever else it does is borne."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import CommandSpec, ModuleCall
from waddlebot.base.errors import ConfigError, Invalid
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAAFormatter, AAALog
from waddlebot.base.metrics import Metrics
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.service import SERVICES
from waddlebot.testing.fleet import Bot, Fleet, Heard
from waddlebot.testing.module_stub import SPARE_NAMES, ModuleStub, reply_to
from waddlebot.testing.plugin import eventually

# What a module's author writes. It runs in this process, or in a process of the simulated Lambda.
HANDLER = """
import time

def reply(call, message="Sunny", **fields):
    response = {"response_action": "chat", "response_data": {"message": message}}
    return {
        "session_id": call["session_id"],
        "execution_id": call["execution_id"],
        "module_name": call["trigger"]["command"],
        "success": True,
        "responses": [response],
        **fields,
    }

def handler(call, context=None):
    return ANSWER
"""
KINDS = ["container", "lambda", "openwhisk", "webhook"]
FUNCTIONS = ["lambda", "openwhisk"]


def handler_source(answer: str) -> str:
    return HANDLER.replace("ANSWER", answer)


def handler(answer: str) -> Callable[[dict[str, Any]], Any]:
    names: dict[str, Any] = {}
    exec(handler_source(answer), names)
    return names["handler"]


# MODULE_URLS has them, so that those that are containers may be called.
NAMES = iter(SPARE_NAMES)


@dataclass
class Weather:
    """Somebody's module with the one command `#<name>`, of one of the four kinds."""

    kind: str
    fleet: Fleet
    bot: Bot
    stub: ModuleStub
    aws: Any
    whisk: Any
    name: str = field(default_factory=lambda: next(NAMES))
    key: str = ""

    @property
    def location(self) -> str:
        return self.stub.url if self.kind in ("container", "webhook") else self.name

    def answers(self, answer: str) -> None:
        """Let the module answer a `call` with what this Python expression is."""
        if self.kind == "lambda":
            self.aws.add(f"waddlebot-{self.name}", handler_source(answer), timeout_s=10)
        elif self.kind == "openwhisk":
            self.whisk.add(self.name, handler(answer))
        else:
            self.stub.behaviour = handler(answer)

    def register(self, *, key: str | None = None, **spec: Any) -> Any:
        """Register the module with its command, and return the response."""
        command = {"command": self.name, "prefix": "#", "type": self.kind, "location_url": self.location, **spec}
        more = command.pop("registration", {})
        endpoint = self.stub.url if self.kind == "container" else ""
        body = {
            "module_name": self.name,
            "module_version": "1",
            "endpoint_url": endpoint,
            "commands": [command],
            **more,
        }
        self.key = self.key or self.fleet.make_key(self.name, "services", module_name=self.name)
        registered = self.fleet.request("POST", "/api/modules/register", body, key=key or self.key)
        if registered.status == 200:
            self.bot.install(self.name)
        return registered

    def say(self, words: str = "") -> Heard:
        """Ask for the weather and wait for what comes of it."""
        event = self.bot.event(f"#{self.name} {words}")
        heard = [self.bot.submit(event)]

        def is_over() -> bool:
            heard.append(self.bot.submit(event))
            return "pending" not in heard[-1].statuses

        eventually(is_over, within_s=30)
        return heard[-1]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What the module was sent."""
        if self.kind == "lambda":
            return [event for name, event in self.aws.runs if name.endswith(self.name)]
        if self.kind == "openwhisk":
            return [run.params for run in self.whisk.runs if run.action == self.name]
        return self.stub.calls

    def recorded(self, heard: Heard) -> dict[str, Any]:
        with self.fleet.database.transaction() as db:
            row = fetch_one(db, "SELECT * FROM command_executions WHERE session_id = %s", (heard.session_id,))
        assert row is not None
        return row


def error_of(heard: Heard) -> dict[str, Any]:
    return heard.answer["executions"][0]["error"]


@pytest.fixture
def weather_of(fleet, bot, module_stub_server, lambda_simulator, openwhisk_simulator):
    """Make a module of a kind, with nothing left of earlier ones."""
    if lambda_simulator is None:
        pytest.skip("simulators are not in this checkout")
    module_stub_server.__dict__.update(calls=[], headers=[])
    lambda_simulator.reset()
    openwhisk_simulator.reset()
    return lambda kind: Weather(kind, fleet, bot, module_stub_server, lambda_simulator, openwhisk_simulator)


@pytest.fixture
def weather(weather_of, request):
    """A registered module; tests that are about one kind name it."""
    made = weather_of(request.param)
    made.answers("reply(call)")
    assert made.register().status == 200
    return made


every_kind = pytest.mark.parametrize("weather", KINDS, indirect=True)
every_function = pytest.mark.parametrize("weather", FUNCTIONS, indirect=True)
on_lambda = pytest.mark.parametrize("weather", ["lambda"], indirect=True)
on_openwhisk = pytest.mark.parametrize("weather", ["openwhisk"], indirect=True)
on_webhook = pytest.mark.parametrize("weather", ["webhook"], indirect=True)


# Every kind of target


@every_kind
def test_a_command_is_answered_in_chat(weather):
    weather.answers("reply(call, 'Sunny in ' + call['trigger']['args'][0])")

    heard = weather.say('"New York"')

    assert (heard.statuses, heard.chat) == (["success"], "Sunny in New York")
    (call,) = weather.calls
    assert call["execution_id"] == heard.answer["executions"][0]["execution_id"]
    assert (call["entity"]["platform"], call["trigger"]["prefix"]) == ("console", "#")
    recorded = weather.recorded(heard)
    assert (recorded["response_status"], recorded["retry_count"]) == (200, 0)


@every_kind
def test_what_a_module_says_went_wrong_is_a_failure_that_it_may_explain(weather):
    weather.answers("reply(call, 'No such town.', success=False, error_message='town')")

    heard = weather.say()

    assert (heard.statuses, heard.chat) == (["failed"], "No such town.")
    assert error_of(heard) == {"code": "module", "message": "town", "details": None}


@every_kind
@pytest.mark.parametrize(
    "answer",
    [
        "reply(call, session_id='0198b2a4-0000-7000-8000-000000000000')",
        "reply(call, execution_id='0198b2a4-0000-7000-8000-000000000000')",
        "reply(call, module_name='inventory')",
        "reply(call, responses=[{'response_action': 'explode', 'response_data': {}}])",
        "reply(call, responses=[{'response_action': 'chat', 'response_data': {}}])",
        "reply(call, responses='all is well')",
        "{}",
    ],
)
def test_an_answer_that_is_no_reply_to_the_call_is_said_by_nobody(weather, answer):
    weather.answers(answer)

    heard = weather.say()

    assert heard.statuses == ["failed"]
    assert error_of(heard)["code"] == "bad_reply"
    assert heard.chat == f"Something went wrong with #{weather.name}; it was logged."
    assert len(weather.calls) == 1


@every_kind
def test_fifty_megabytes_are_not_read(weather):
    size = 5_000_000 if weather.kind == "lambda" else 50_000_000  # Lambda itself has a limit of 6 MB.
    weather.answers(f"reply(call, 'x' * {size})")

    heard = weather.say()

    assert heard.statuses == ["failed"]
    assert "larger than" in error_of(heard)["message"]
    assert len(weather.calls) == 1


@every_kind
def test_a_target_that_takes_too_long_times_out_and_is_not_called_again(weather):
    weather.answers("time.sleep(3)")
    assert weather.register(timeout=0.5).status == 200

    heard = weather.say()

    assert heard.statuses == ["timeout"]
    assert error_of(heard)["code"] == "upstream_timeout"
    assert heard.chat == f"{weather.name} did not answer in time. Try #{weather.name} again in a moment."
    assert len(weather.calls) == 1
    assert weather.recorded(heard)["retry_count"] == 0


@every_kind
def test_an_answer_may_say_several_things_and_one_may_stand_at_the_top(weather):
    weather.answers("reply(call, 'First', response_action='chat', response_data={'message': 'Second'})")

    assert weather.say().chat == "First\nSecond"


@pytest.mark.parametrize("weather", ["container", "webhook"], indirect=True)
@pytest.mark.parametrize(
    "answer",
    ["(200, b'<html>Hello</html>')", "(200, b'')", "(200, b'null')", "(204, b'')", "(500, b'Oh')", "(404, b'')"],
)
def test_an_answer_over_http_that_is_none_is_borne(weather, answer):
    weather.answers(answer)
    assert weather.register(timeout=0.5).status == 200

    assert weather.say().statuses == ["failed"]


@pytest.mark.parametrize("weather", ["container", "webhook"], indirect=True)
def test_a_target_that_is_down_for_a_moment_is_called_again_under_the_same_id(weather):
    sunny, troubles = weather.stub.behaviour, iter([(503, b""), (502, b"")])
    weather.stub.behaviour = lambda call: next(troubles, None) or sunny(call)

    heard = weather.say()

    assert heard.chat == "Sunny"
    assert weather.recorded(heard)["retry_count"] == 2
    assert len({call["execution_id"] for call in weather.calls}) == 1


@every_kind
def test_a_target_that_does_not_answer_again_and_again_is_left_alone(weather):
    simulator = weather.aws if weather.kind == "lambda" else weather.whisk
    simulator.fail_next(500, times=5)
    if weather.kind not in FUNCTIONS:
        weather.answers("(503, b'')")
    assert weather.register(timeout=0.2).status == 200
    for _ in range(5):
        assert error_of(weather.say())["code"] in ("upstream", "cut_off")
    called = len(weather.calls)

    heard = weather.say()

    assert (heard.statuses, error_of(heard)["code"]) == (["failed"], "circuit_open")
    assert len(weather.calls) == called
    metrics = weather.fleet.request("GET", "/router/metrics").json()["metrics"]
    assert {"module": weather.name, "value": 1} in metrics["waddlebot_router_circuits_open"]


@every_kind
def test_who_asks_for_what_fails_cannot_shut_a_module(weather):
    weather.answers("{}")
    for _ in range(6):
        assert error_of(weather.say())["code"] == "bad_reply"

    weather.answers("reply(call)")
    assert weather.say().chat == "Sunny"


# Functions


@every_function
@pytest.mark.parametrize(
    "answer",
    [
        "{'statusCode': 200, 'body': __import__('json').dumps(reply(call))}",
        "{'statusCode': '200', 'body': reply(call), 'headers': {}}",
        "{'statusCode': 200, 'isBase64Encoded': True, 'body':"
        " __import__('base64').b64encode(__import__('json').dumps(reply(call)).encode()).decode()}",
    ],
)
def test_what_is_wrapped_for_an_api_gateway_is_unwrapped(weather, answer):
    weather.answers(answer)

    assert weather.say().chat == "Sunny"


@every_function
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("{'statusCode': 500, 'body': 'Oh'}", "upstream_refused"),
        ("{'statusCode': 429, 'body': ''}", "upstream_refused"),
        ("{'statusCode': 'fine', 'body': ''}", "bad_reply"),
        ("{'statusCode': 200, 'body': '<html>'}", "upstream_refused"),
        ("{'statusCode': 200, 'isBase64Encoded': True, 'body': '*'}", "bad_reply"),
    ],
)
def test_what_is_wrapped_and_no_reply_is_a_failure_that_is_not_run_again(weather, answer, code):
    weather.answers(answer)

    heard = weather.say()

    assert (heard.statuses, error_of(heard)["code"]) == (["failed"], code)
    assert len(weather.calls) == 1


@every_function
def test_a_reply_may_have_a_status_code_in_what_it_shows(weather):
    weather.answers(
        "reply(call, responses=[{'response_action': 'chat', 'response_data': {'message': 'Hi', 'statusCode': 1}}])"
    )

    assert weather.say().chat == "Hi"


@every_function
def test_an_error_of_the_function_is_a_failure_that_is_not_run_again_nor_told(weather):
    weather.answers("call['no such thing']")

    heard = weather.say()

    assert (heard.statuses, error_of(heard)["code"]) == (["failed"], "function_error")
    assert "no such thing" not in json.dumps(heard.answer)
    assert len(weather.calls) == 1
    assert weather.recorded(heard)["retry_count"] == 0


@every_function
def test_a_function_that_is_throttled_did_not_run_and_is_tried_again(weather):
    simulator = weather.aws if weather.kind == "lambda" else weather.whisk
    simulator.fail_next(429, times=2)

    heard = weather.say()

    assert heard.chat == "Sunny"
    assert len(weather.calls) == 1
    assert weather.recorded(heard)["retry_count"] == 2


@on_lambda
@pytest.mark.parametrize("fault", [502, 409])
def test_a_function_that_aws_is_still_preparing_is_tried_again(fault, weather):
    weather.aws.fail_next(fault, times=2)
    heard = weather.say()
    assert (heard.chat, len(weather.calls)) == ("Sunny", 1)


@every_function
@pytest.mark.parametrize(("fault", "runs"), [(500, 0), (503, 0), ("hang up", 1), (404, 0), (403, 0), (413, 0)])
def test_what_may_have_run_or_never_can_is_not_tried_again(weather, fault, runs):
    simulator = weather.aws if weather.kind == "lambda" else weather.whisk
    simulator.fail_next(fault)

    heard = weather.say()

    assert heard.statuses == ["failed"]
    assert len(weather.calls) == runs
    assert weather.recorded(heard)["retry_count"] == 0
    assert weather.say().chat == "Sunny"


@every_function
def test_a_function_whose_router_died_is_unknown_and_not_run_again(weather):
    weather.answers("time.sleep(2) or reply(call)")
    event = weather.bot.event(f"#{weather.name}")
    session_id = weather.bot.submit(event).session_id
    eventually(lambda: weather.calls)

    weather.fleet.database.statement(
        "UPDATE router_work SET holder = 'dead', lease_until = now() - interval '1 minute' WHERE session_id = %s",
        (session_id,),
    )

    eventually(lambda: weather.bot.submit(event).statuses == ["unknown"])
    assert error_of(weather.bot.submit(event))["code"] == "begun_before"
    assert len(weather.calls) == 1


@on_webhook
def test_the_token_of_a_call_is_on_no_record_and_comes_anew_when_it_is_made_again(weather):
    weather.answers("time.sleep(2) or reply(call)")
    session_id = weather.bot.submit(weather.bot.event(f"#{weather.name}")).session_id
    eventually(lambda: weather.calls)
    [kept] = weather.fleet.database.statement(
        "SELECT request_payload::text AS payload FROM command_executions WHERE session_id = %s", (session_id,)
    )

    weather.fleet.database.statement(
        "UPDATE router_work SET holder = 'dead', lease_until = now() - interval '1 minute' WHERE session_id = %s",
        (session_id,),
    )

    eventually(lambda: len(weather.calls) == 2)
    first, again = weather.calls
    assert first["callback"]["token"].startswith("wbcall_")
    assert first["callback"]["token"] not in kept["payload"]
    assert json.loads(kept["payload"])["callback"]["token"] == "•"
    assert again["callback"]["token"].startswith("wbcall_")
    assert {**again, "callback": None} == {**first, "callback": None}


@every_function
def test_a_simulated_call_says_so_to_the_function(weather):
    weather.answers("reply(call, call['mode'])")

    heard = weather.bot.say(f"#{weather.name}", mode="simulate")

    eventually(lambda: weather.calls)
    assert weather.calls[0]["mode"] == "simulate"
    assert heard.statuses in (["success"], ["pending"])


# Lambda


@on_lambda
def test_environments_of_a_function_are_used_again(weather):
    weather.say()
    weather.say()

    assert weather.aws.functions[f"waddlebot-{weather.name}"].cold_starts == 1


@on_lambda
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("__import__('os')._exit(1)", "Runtime.ExitError"),
        ("object()", "Runtime.MarshalError"),
        ("1 / 0", "ZeroDivisionError"),
        ("(", "Runtime.UserCodeSyntaxError"),
    ],
)
def test_the_kind_of_a_functions_error_is_on_record(weather, answer, kind):
    weather.answers(answer)

    assert error_of(weather.say())["message"] == f"The function ended with an error ({kind})."


@on_lambda
def test_a_function_that_is_throttled_all_the_time_never_runs(weather):
    weather.aws.fail_next(429, times=100)
    assert weather.register(timeout=1).status == 200

    heard = weather.say()

    assert (heard.statuses, error_of(heard)["code"]) == (["failed"], "upstream")
    assert weather.calls == []
    assert weather.recorded(heard)["response_status"] == 429


@on_lambda
def test_a_function_that_is_not_there_is_named_as_that(weather):
    assert weather.register(location_url="nobody").status == 200

    assert "the call of waddlebot-nobody (ResourceNotFoundException)" in error_of(weather.say())["message"]


# OpenWhisk


@on_openwhisk
def test_an_action_that_takes_longer_than_openwhisk_waits_is_asked_for(weather):
    weather.whisk.blocking_wait_s = 0.01
    weather.answers("time.sleep(0.5) or reply(call)")

    heard = weather.say()

    assert heard.chat == "Sunny"
    assert len(weather.calls) == 1
    assert weather.recorded(heard)["response_status"] == 202


@on_openwhisk
def test_an_action_that_fails_after_a_while_is_a_failure(weather):
    weather.whisk.blocking_wait_s = 0.01
    weather.answers("time.sleep(0.2) or {'error': 'no wind'}")

    assert error_of(weather.say())["code"] == "function_error"


@on_openwhisk
def test_an_action_that_is_still_at_work_at_the_deadline_timed_out(weather):
    weather.whisk.blocking_wait_s = 0.01
    weather.answers("time.sleep(3)")
    assert weather.register(timeout=0.5).status == 200

    assert weather.say().statuses == ["timeout"]
    assert len(weather.calls) == 1


@on_openwhisk
@pytest.mark.parametrize(
    ("fault", "status", "code", "words"),
    [
        (401, "failed", "upstream_refused", "OPENWHISK_AUTH_KEY"),
        (403, "failed", "upstream_refused", "OPENWHISK_AUTH_KEY"),
        (404, "failed", "upstream_refused", "HTTP 404"),
        (408, "timeout", "upstream_timeout", "in time"),
        (413, "failed", "upstream_refused", "HTTP 413"),
        (500, "failed", "cut_off", "HTTP 500"),
        (502, "failed", "cut_off", "HTTP 502"),
        (503, "failed", "cut_off", "HTTP 503"),
        ("internal error", "failed", "cut_off", "OpenWhisk failed"),
    ],
)
def test_each_status_of_openwhisk_is_understood(weather, fault, status, code, words):
    weather.whisk.fail_next(fault)

    heard = weather.say()

    assert heard.statuses == [status]
    assert error_of(heard)["code"] == code
    assert words in error_of(heard)["message"]


@on_openwhisk
def test_an_action_may_be_in_a_package(weather):
    weather.whisk.add(f"sky/{weather.name}", handler("reply(call, 'Packed')"))
    assert weather.register(location_url=f"sky/{weather.name}").status == 200

    assert weather.say().chat == "Packed"


# Webhooks


@on_webhook
def test_a_webhook_can_tell_that_it_is_we_who_call(weather):
    secret = weather.register(registration={"rotate_webhook_secret": True}).json()["webhook_secret"]
    assert weather.register(headers={"X-Town": "Oslo"}).status == 200

    heard = weather.say()

    headers = {name.lower(): value for name, value in weather.stub.headers[-1].items()}
    execution_id = heard.answer["executions"][0]["execution_id"]
    body = json.dumps(weather.calls[-1], separators=(",", ":"), ensure_ascii=False)
    signed = f"{headers['x-waddlebot-timestamp']}.{body}".encode()
    assert headers["x-waddlebot-signature"] == "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert (headers["idempotency-key"], headers["x-town"]) == (execution_id, "Oslo")
    assert "x-api-key" not in headers


def test_the_secret_of_webhooks_is_told_once_and_kept_sealed(weather_of):
    weather = weather_of("webhook")
    secret = weather.register().json()["webhook_secret"]

    assert len(secret) >= 32
    assert "webhook_secret" not in weather.register().json()
    (row,) = weather.fleet.database.statement(
        "SELECT config FROM collector_modules WHERE module_name = %s", (weather.name,)
    )
    assert row["config"]["webhook_secret"]
    assert secret not in json.dumps(row["config"])
    assert weather.register(registration={"rotate_webhook_secret": True}).json()["webhook_secret"] != secret


@pytest.mark.parametrize("kind", ["container", *FUNCTIONS])
def test_who_has_no_webhooks_is_told_no_secret(weather_of, kind):
    assert "webhook_secret" not in weather_of(kind).register().json()


@on_webhook
def test_a_webhook_whose_name_leads_inside_is_not_called_nor_told_where(weather, caplog):
    port = weather.stub.address.partition(":")[2]
    assert weather.register(location_url=f"https://changed.localhost:{port}/").status == 200

    with caplog.at_level("WARNING", logger="waddlebot.router"):
        heard = weather.say()

    assert error_of(heard)["code"] == "egress_denied"
    assert heard.chat == f"Something went wrong with #{weather.name}; it was logged."
    lines = [AAAFormatter().format(record) for record in caplog.records]
    (logged,) = [each for each in lines if "action=command_executed" in each and f"#{weather.name}" in each]
    assert "code=egress_denied" in logged
    assert "127.0.0.1" not in json.dumps(heard.answer)
    assert weather.calls == []


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("webhook", {"location_url": ""}, "commands.location_url"),
        ("webhook", {"location_url": "http://93.184.216.34/hook"}, "commands.location_url"),
        ("webhook", {"location_url": "https://10.0.0.1/hook"}, "commands.location_url"),
        ("webhook", {"location_url": "https://user:pw@example.com/"}, "commands.location_url"),
        ("webhook", {"location_url": "file:///etc/passwd"}, "commands.location_url"),
        ("webhook", {"location_url": "https://example.com/" + "x" * 3000}, "commands.location_url"),
        ("webhook", {"headers": {"X-WaddleBot-Signature": "x"}}, "commands.headers"),
        ("webhook", {"headers": {"Host": "inside"}}, "commands.headers"),
        ("webhook", {"headers": {"X-A": "b\r\nHost: inside"}}, "commands.headers"),
        ("webhook", {"headers": {"X A": "b"}}, "commands.headers"),
        ("webhook", {"headers": {f"X-{n}": "b" for n in range(100)}}, "commands.headers"),
        ("lambda", {"location_url": ""}, "commands.location_url"),
        ("lambda", {"location_url": "https://example.com/"}, "commands.location_url"),
        ("lambda", {"location_url": "../other"}, "commands.location_url"),
        ("lambda", {"location_url": "arn:aws:lambda:us-east-1:1:function:x"}, "commands.location_url"),
        ("lambda", {"location_url": "x" * 60}, "commands.location_url"),
        ("openwhisk", {"location_url": ""}, "commands.location_url"),
        ("openwhisk", {"location_url": "../../x"}, "commands.location_url"),
        ("openwhisk", {"location_url": "a/b/c"}, "commands.location_url"),
        ("openwhisk", {"location_url": "x?blocking=false"}, "commands.location_url"),
    ],
)
def test_a_command_that_could_never_run_is_refused_and_the_field_named(weather_of, kind, spec, field):
    refused = weather_of(kind).register(**spec)

    assert refused.status == 422
    assert refused.json()["error"]["details"]["field"] == field


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_registers_its_own_commands_only(weather_of, fleet, kind):
    fleet.keys.setdefault("somebody", fleet.make_key(new_id(), "services", module_name="somebody"))

    assert weather_of(kind).register(key="somebody").status == 403
    assert weather_of(kind).register(key="console").status == 403


def test_a_container_is_an_address_of_the_fleet_or_one_that_the_operator_names(weather_of):
    weather = weather_of("container")

    assert weather.register(location_url="https://example.com/execute").status == 403
    assert weather.register(registration={"endpoint_url": ""}).status == 200
    assert weather.register(location_url="", registration={"endpoint_url": ""}).status == 403
    assert weather_of("lambda").register(registration={"endpoint_url": "https://example.com/"}).status == 403


def test_a_container_that_was_let_in_before_is_not_shown_the_key(weather_of, fleet):
    """As a home has it in which EGRESS_ALLOW named containers."""
    weather = weather_of("container")
    weather.stub.reset(lambda call: reply_to(call, module_name=weather.name))
    assert weather.register().status == 200
    elsewhere = weather.stub.url.replace("127.0.0.1", "localhost")
    with fleet.database.transaction() as db:
        fetch(db, "UPDATE commands SET location_url = %s WHERE module_name = %s", (elsewhere, weather.name))
    SERVICES[0].bus.invalidate("commands")

    heard = weather.say()
    assert error_of(heard)["code"] == "egress_denied"
    assert weather.calls == []


# What is not there


@pytest.fixture
def parts(fleet):
    """The router's classes, as the fleet has loaded them."""

    def part(name: str) -> Any:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(f"apps.router_module.{module}"), attribute)

    return part


@pytest.fixture
def engine_of(parts, fleet, monkeypatch):
    """An engine of a router with these settings."""

    def make(kind: str, **environment: str) -> Any:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OPENWHISK_API_HOST", "OPENWHISK_AUTH_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = parts("config.RouterSettings").load()
        circuits = CircuitBreakers(AAALog("test", "1"), Metrics("test"), max_failures=5, rest_s=5)
        starts = parts("services.engines.starts.Starts")(fleet.database)
        engine = {"lambda": "lambda_engine.LambdaEngine", "openwhisk": "openwhisk_engine.OpenWhiskEngine"}[kind]
        return parts(f"services.engines.{engine}")(circuits, starts, settings)

    return make


@dataclass
class Task:
    """What an engine is given, for a command that is on nobody's record."""

    command: Any
    call: ModuleCall

    @property
    def payload(self) -> str:
        return self.call.model_dump_json()


@pytest.fixture
def task_of(parts, weather_of):
    def make(kind: str, *, timeout_s: float = 1) -> Task:
        weather = weather_of("container")
        weather.answers("reply(call)")
        assert weather.register(timeout=timeout_s).status == 200
        assert weather.bot.say(f"#{weather.name}", mode="simulate").statuses == ["success"]
        spec = CommandSpec(command="weather", prefix="#", type=kind, location_url="weather")
        return Task(
            parts("services.catalogue.cache_manager.Command")(None, "weather", False, spec),
            ModuleCall.model_validate(weather.calls[0]),
        )

    return make


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("lambda", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("openwhisk", "OPENWHISK_API_HOST and OPENWHISK_AUTH_KEY"),
    ],
)
def test_without_credentials_a_kind_is_refused_and_the_settings_are_named(engine_of, task_of, kind, names):
    engine = engine_of(kind)

    with pytest.raises(Invalid, match=names) as caught:
        engine.check(CommandSpec(command="weather", type=kind, location_url="weather"))
    assert caught.value.http_status == 422
    # A command that was registered while they were set.
    assert engine.execute(task_of(kind)).error.code == "not_configured"


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_ACCESS_KEY_ID": "AKIA1"},
        {"AWS_SECRET_ACCESS_KEY": "x"},
        {"AWS_ACCESS_KEY_ID": "your_access_key", "AWS_SECRET_ACCESS_KEY": "your_secret_key"},
        {"OPENWHISK_API_HOST": "openwhisk.example.com"},
        {"OPENWHISK_API_HOST": "openwhisk.example.com", "OPENWHISK_AUTH_KEY": "no colon"},
        {"OPENWHISK_API_HOST": "ftp://openwhisk.example.com", "OPENWHISK_AUTH_KEY": "a:b"},
    ],
)
def test_half_or_placeholder_credentials_end_the_process(engine_of, environment):
    with pytest.raises(ConfigError):
        engine_of("lambda", **environment)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_what_cannot_be_reached_did_not_run_and_is_tried_again(engine_of, task_of, kind):
    nobody = "http://127.0.0.1:9"
    engine = engine_of(
        kind,
        AWS_ACCESS_KEY_ID="AKIA1",
        AWS_SECRET_ACCESS_KEY="x",
        AWS_ENDPOINT_URL_LAMBDA=nobody,
        OPENWHISK_API_HOST=nobody,
        OPENWHISK_AUTH_KEY="a:b",
    )

    result = engine.execute(task_of(kind, timeout_s=3))

    assert (result.status, result.error.code) == ("failed", "upstream")
    assert result.retries > 0
