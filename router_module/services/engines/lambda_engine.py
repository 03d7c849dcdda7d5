"""Commands of modules that are functions of AWS Lambda."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from typing import Any

from pydantic import SecretStr
from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import CommandSpec
from waddlebot.base.errors import Invalid, UpstreamRefused, UpstreamUnreachable
from waddlebot.base.transactions import check_no_transaction
from waddlebot.web.http import MAX_RESPONSE_BYTES, HTTPResponse

from ...config import RouterSettings, missing
from .execution_engine import THROTTLED, CutOff, RemoteEngine, Task, TooLate, Tries, error_kind, failed_function, unwrap
from .starts import Starts

# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
MAX_NAME_CHARS = 64
FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]+")
CONNECT_TIMEOUT_S = 2
CHUNK_BYTES = 64 * 1024
# A client has one timeout for all of its calls, so each timeout that a command has takes a client: 5 ms and 0.25 MB,
# after half a second and 34 MB for the first.
MAX_CLIENTS = 64


class LambdaEngine(RemoteEngine):
    """Invokes `LAMBDA_FUNCTION_PREFIX` + location_url and waits for the result.

    A function may do its work again when it is called again. So it is called once; only what cannot have run, because
    AWS was not reached or throttled the call, is tried again.
    """

    def __init__(self, circuits: CircuitBreakers, starts: Starts, settings: RouterSettings) -> None:
        super().__init__(circuits, missing=missing(settings.aws_credentials))
        self._starts = starts
        self._settings = settings
        self._session: Any = None
        self._clients: dict[float, Any] = {}
        self._lock = threading.Lock()

    def check(self, spec: CommandSpec) -> None:
        super().check(spec)
        name = self._function_name(spec)
        if not FUNCTION_NAME.fullmatch(spec.location_url) or len(name) > MAX_NAME_CHARS:
            raise Invalid(
                "commands.location_url: For lambda it is the function's name without"
                f" {self._settings.lambda_function_prefix}: letters, digits, - and _, at most {MAX_NAME_CHARS} in all.",
                field="commands.location_url",
            )

    def call(self, task: Task, tries: Tries) -> HTTPResponse:
        check_no_transaction()
        client = self._client(tries.timeout_s)
        name, payload = self._function_name(task.command.spec), task.payload.encode()
        self._starts.begin(task.call)
        response = tries.repeat(
            lambda: invoke(client, name, payload, tries),
            statuses={THROTTLED},
            # A try may take the whole of the command's time whenever it begins, so none begins late.
            until=tries.started_at + tries.timeout_s / 2,
        )
        return response if response.status == THROTTLED else unwrap(response.body)

    def _function_name(self, spec: CommandSpec) -> str:
        return self._settings.lambda_function_prefix + spec.location_url

    def _client(self, timeout_s: float) -> Any:
        with self._lock:
            client = self._clients.get(timeout_s)
            if client is None:
                self._session = self._session or open_session(self._settings)
                if len(self._clients) >= MAX_CLIENTS:
                    self._clients.clear()
                client = self._clients[timeout_s] = make_client(self._session, self._settings, timeout_s)
            return client


def open_session(settings: RouterSettings) -> Any:
    """What boto3's clients share. It is loaded at first use, and never by who has no functions."""
    import boto3

    return boto3.session.Session(
        aws_access_key_id=_plain(settings.aws_access_key_id),
        aws_secret_access_key=_plain(settings.aws_secret_access_key),
        aws_session_token=_plain(settings.aws_session_token),
        region_name=settings.aws_region,
    )


def make_client(session: Any, settings: RouterSettings, timeout_s: float) -> Any:
    """A client for calls that may take this long. Its own retries would run a slow function three times."""
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=timeout_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=settings.max_workers,
        tcp_keepalive=True,
    )
    return session.client("lambda", endpoint_url=settings.aws_endpoint_url_lambda, config=config)


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def invoke(client: Any, name: str, payload: bytes, tries: Tries) -> HTTPResponse:
    """Run a function and return its result as 200, or 429 when AWS did not run it.

    Raises: UpstreamUnreachable, also not run; FunctionFailed; TooLate, CutOff; UpstreamRefused.
    """
    from botocore import exceptions

    until = time.monotonic() + tries.timeout_s
    try:
        answer = client.invoke(FunctionName=name, InvocationType="RequestResponse", Payload=payload)
        result = _read(answer["Payload"], until=until)
    except exceptions.ClientError as err:
        return _refusal(err.response, name)
    except exceptions.ReadTimeoutError as err:
        raise TooLate(f"No answer within {tries.timeout_s:g} s.") from err
    except (exceptions.ConnectTimeoutError, exceptions.EndpointConnectionError) as err:
        raise UpstreamUnreachable("AWS Lambda cannot be reached.") from err
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as err:
        raise CutOff("The connection to AWS Lambda broke.") from err
    except exceptions.BotoCoreError as err:
        raise UpstreamRefused(f"The call to AWS Lambda cannot be made ({type(err).__name__}).") from err
    if answer.get("FunctionError"):
        raise failed_function(error_kind(result))
    return HTTPResponse(200, result)


def _read(body: Any, *, until: float) -> bytes:
    received = bytearray()
    with contextlib.closing(body):
        for chunk in body.iter_chunks(CHUNK_BYTES):
            received += chunk
            if len(received) > MAX_RESPONSE_BYTES:
                raise UpstreamRefused(f"The answer is larger than {MAX_RESPONSE_BYTES} bytes.")
            if time.monotonic() > until:
                raise TooLate("The answer did not end in time.")
    return bytes(received)


def _refusal(response: dict[str, Any], name: str) -> HTTPResponse:
    """What an error of AWS' own is: 429 for a call that was throttled, else raised."""
    code, about = response["Error"].get("Code", ""), response["ResponseMetadata"]
    if about["HTTPStatusCode"] == THROTTLED or code in NOT_RUN:
        return HTTPResponse(THROTTLED, b"", about.get("HTTPHeaders", {}))
    if about["HTTPStatusCode"] >= 500:
        raise CutOff(f"AWS Lambda failed ({code}).")
    raise UpstreamRefused(f"AWS Lambda refused the call of {name} ({code}).")


# AWS names these where the function did not begin: its network is being made ready, or it is being changed.
# Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
NOT_RUN = frozenset(
    {"EC2ThrottledException", "EC2UnexpectedException", "ENILimitReachedException", "ResourceConflictException"}
    | {"ResourceNotReadyException", "SnapStartNotReadyException", "SubnetIPAddressLimitReachedException"}
)
