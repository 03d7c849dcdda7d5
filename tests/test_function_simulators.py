"""The simulated Lambda and OpenWhisk, as their platforms' own clients see them."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from waddlebot.testing.plugin import eventually

ECHO = "def handler(event, context): return {'event': event, 'id': context.aws_request_id}"


@pytest.fixture
def aws():
    simulators = pytest.importorskip("simulators.aws_lambda")
    with simulators.LambdaSimulator() as simulator:
        yield simulator


@pytest.fixture
def client_with(aws):
    def make(**changes: str) -> Any:
        settings = {**aws.settings(), **changes}
        return boto3.client(
            "lambda",
            endpoint_url=settings["AWS_ENDPOINT_URL_LAMBDA"],
            region_name=settings["AWS_REGION"],
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}),
        )

    return make


def test_lambda_runs_a_handler_and_keeps_its_environment(aws, client_with):
    function = aws.add("echo", ECHO)
    client = client_with()

    answers = [json.loads(client.invoke(FunctionName="echo", Payload=b'{"n":1}')["Payload"].read()) for _ in range(3)]

    assert [each["event"] for each in answers] == [{"n": 1}] * 3
    assert len({each["id"] for each in answers}) == 3
    assert function.cold_starts == 1


def test_lambda_tells_an_error_with_its_trace(aws, client_with):
    aws.add("broken", "def handler(event, context): raise ValueError('no wind')")

    answer = client_with().invoke(FunctionName="broken")

    error = json.loads(answer["Payload"].read())
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no wind")
    assert "main.py" in error["stackTrace"][0]


def test_lambda_ends_what_runs_too_long_and_begins_anew(aws, client_with):
    source = "import time\ndef handler(event, context): return time.sleep(event['s'])"
    function = aws.add("slow", source, timeout_s=0.3)

    answer = client_with().invoke(FunctionName="slow", Payload=b'{"s":60}')

    assert answer["FunctionError"] == "Unhandled"
    assert "timed out after 0.30 seconds" in json.loads(answer["Payload"].read())["errorMessage"]
    assert "FunctionError" not in client_with().invoke(FunctionName="slow", Payload=b'{"s":0}')
    assert function.cold_starts == 2


def test_lambda_runs_events_by_the_way_and_dry_runs_not_at_all(aws, client_with):
    aws.add("echo", ECHO)
    client = client_with()

    assert client.invoke(FunctionName="echo", InvocationType="DryRun", Payload=b"1")["StatusCode"] == 204
    assert client.invoke(FunctionName="echo", InvocationType="Event", Payload=b"2")["StatusCode"] == 202
    eventually(lambda: aws.runs == [("echo", 2)])


@pytest.mark.parametrize(
    ("changes", "call", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, {}, "InvalidSignatureException"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, {}, "InvalidSignatureException"),
        ({}, {"FunctionName": "nobody"}, "ResourceNotFoundException"),
        ({}, {"Payload": b"{"}, "InvalidRequestContentException"),
        ({}, {"Payload": b'"' + b"x" * 7_000_000 + b'"'}, "RequestTooLargeException"),
    ],
)
def test_lambda_refuses_as_aws_does(aws, client_with, changes, call, code):
    aws.add("echo", ECHO)

    with pytest.raises(ClientError) as caught:
        client_with(**changes).invoke(**{"FunctionName": "echo", **call})
    assert caught.value.response["Error"]["Code"] == code
    assert aws.runs == []


@pytest.fixture
def ask():
    """Ask a simulated OpenWhisk, and return the status and the JSON."""
    simulators = pytest.importorskip("simulators.openwhisk")
    with simulators.OpenWhiskSimulator() as whisk:
        whisk.add("double", lambda params: {"n": 2 * params["n"]})
        whisk.add("refuse", lambda params: {"error": "no"})

        def send(method: str, path: str, body: Any = None, *, key: str = whisk.auth_key) -> tuple[int, Any]:
            connection = http.client.HTTPConnection(whisk.url.removeprefix("http://"))
            headers = {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()}
            connection.request(method, f"/api/v1/namespaces/_/{path}", json.dumps(body), headers)
            response = connection.getresponse()
            answer = response.status, json.loads(response.read())
            connection.close()
            return answer

        yield send


def test_openwhisk_answers_with_the_record_or_only_the_result(ask):
    status, record = ask("POST", "actions/double?blocking=true", {"n": 2})

    assert (status, record["response"]["result"]) == (200, {"n": 4})
    assert ask("POST", "actions/double?blocking=true&result=true", {"n": 2}) == (200, {"n": 4})
    assert ask("GET", f"activations/{record['activationId']}")[1]["response"] == record["response"]


def test_openwhisk_answers_a_call_that_does_not_wait_at_once(ask):
    status, accepted = ask("POST", "actions/double", {"n": 2})

    assert status == 202
    eventually(lambda: ask("GET", f"activations/{accepted['activationId']}")[0] == 200)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("actions/refuse?blocking=true", {}, "application error"),
        ("actions/double?blocking=true", {}, "action developer error"),
    ],
)
def test_openwhisk_calls_a_failed_action_a_bad_gateway_and_tells_its_record(ask, path, body, said):
    status, record = ask("POST", path, body)

    assert (status, record["response"]["status"], record["response"]["success"]) == (502, said, False)


def test_openwhisk_refuses_as_the_platform_does(ask):
    assert ask("POST", "actions/double?blocking=true", {}, key="a:b")[0] == 401
    assert ask("POST", "actions/nobody?blocking=true", {})[0] == 404
    assert ask("GET", "activations/" + "0" * 32)[0] == 404
    assert ask("POST", "actions/double?blocking=true", {"n": "x" * 2_000_000})[0] == 413


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:lambda:us-east-1:000000000000:function:echo",
        "arn:aws:lambda:us-east-1:000000000000:function:echo:$LATEST",
        "000000000000:function:echo",
        "echo:$LATEST",
    ],
)
def test_a_function_goes_by_its_arn_too(aws, client_with, name):
    aws.add("echo", ECHO)
    client = client_with()

    assert json.loads(client.invoke(FunctionName=name, Payload=b"{}")["Payload"].read())["event"] == {}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="echo:42", Payload=b"{}")


def test_the_end_of_the_log_comes_along_where_it_is_asked_for(aws, client_with):
    client = client_with()
    aws.add("talk", "def handler(event, context):\n    print('I was here')\n    return 1")

    answer = client.invoke(FunctionName="talk", Payload=b"{}", LogType="Tail")

    log = base64.b64decode(answer["LogResult"]).decode()
    assert log.startswith("START RequestId: ")
    assert "\nREPORT RequestId: " in log
    assert "LogResult" not in client.invoke(FunctionName="talk", Payload=b"{}")


def test_without_the_runtime_client_the_simulator_does_not_start(monkeypatch):
    simulators = pytest.importorskip("simulators.aws_lambda")
    monkeypatch.setattr(simulators.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(RuntimeError, match="pip install awslambdaric"):
        simulators.LambdaSimulator().start()


def test_activations_are_listed_and_read_in_part(ask):
    _, first = ask("POST", "actions/double?blocking=true", {"n": 21})
    ask("POST", "actions/refuse?blocking=true", {})
    id_ = first["activationId"]

    assert ask("GET", f"activations/{id_}/result")[1]["result"] == {"n": 42}
    assert ask("GET", f"activations/{id_}/logs") == (200, {"logs": []})
    assert [each["name"] for each in ask("GET", "activations")[1]] == ["refuse", "double"]
    (listed,) = ask("GET", "activations?name=double&docs=true")[1]
    assert listed["response"]["result"] == {"n": 42}
    assert "response" not in ask("GET", "activations?limit=1&skip=1")[1][0]
    assert {each["name"] for each in ask("GET", "actions")[1]} == {"double", "refuse"}
