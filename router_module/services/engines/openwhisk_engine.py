"""Commands of modules that are actions of Apache OpenWhisk."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import quote

from pydantic import Field, ValidationError
from pydantic_core import to_json
from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import CommandSpec, Wire
from waddlebot.base.errors import (
    BadRequest,
    Invalid,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from waddlebot.base.wire import parse_json
from waddlebot.web.http import TARGET_IS_DOWN, HTTPClient, HTTPResponse, with_retries

from ...config import RouterSettings, missing
from .execution_engine import THROTTLED, CutOff, FunctionFailed, RemoteEngine, Task, TooLate, Tries, unwrap
from .starts import Starts

# https://github.com/apache/openwhisk/blob/master/docs/reference.md#openwhisk-entities, in plain ASCII.
ENTITY = r"[A-Za-z0-9_](?:[A-Za-z0-9_@ .-]{0,254}[A-Za-z0-9_@.-])?"
ACTION_NAME = re.compile(rf"(?:{ENTITY}/)?{ENTITY}")
ACCEPTED = 202
# An activation that goes on is asked for so often at least: chat waits for it.
MOST_WAIT_S = 0.5
# An activation that is not there yet is one that has not ended.
NOT_YET = TARGET_IS_DOWN | {404, 500}


class ActivationResponse(Wire):
    status: str = ""
    success: bool
    result: Any = None


class Activation(Wire):
    """The record of one run. Without a response it has not ended."""

    activation_id: str = Field(alias="activationId", pattern=r"^[A-Za-z0-9-]{1,64}$")
    response: ActivationResponse | None = None


class OpenWhiskEngine(RemoteEngine):
    """Invokes the action that location_url names and waits: in the call as long as OpenWhisk does, then by asking.

    An action may do its work again when it is invoked again. So it is invoked once; only what cannot have run, because
    OpenWhisk was not reached or throttled the call, is tried again.
    """

    def __init__(self, circuits: CircuitBreakers, starts: Starts, settings: RouterSettings) -> None:
        super().__init__(circuits, missing=missing(settings.openwhisk_credentials))
        self._starts = starts
        self._http = HTTPClient()
        self._base_url = f"{settings.openwhisk_api_host}/api/v1/namespaces/{quote(settings.openwhisk_namespace)}"
        key = settings.openwhisk_auth_key.get_secret_value() if settings.openwhisk_auth_key else ""
        self._headers = {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}

    def check(self, spec: CommandSpec) -> None:
        super().check(spec)
        if not ACTION_NAME.fullmatch(spec.location_url):
            raise Invalid(
                "commands.location_url: For openwhisk it is the name of an action, or package/action.",
                field="commands.location_url",
            )

    def call(self, task: Task, tries: Tries) -> HTTPResponse:
        action, body = quote(task.command.spec.location_url), task.payload.encode()
        self._starts.begin(task.call)
        answer = tries.repeat(lambda: self._invoke(action, body, tries), statuses={THROTTLED})
        if answer.status == THROTTLED:
            return answer
        if answer.status == ACCEPTED:
            answer = self._wait_for(read_activation(answer).activation_id, tries)
        return unwrap(read_result(answer))

    def _invoke(self, action: str, body: bytes, tries: Tries) -> HTTPResponse:
        try:
            return self._http.request(
                "POST",
                f"{self._base_url}/actions/{action}?blocking=true&result=false",
                body=body,
                headers={**self._headers, "Content-Type": "application/json"},
                timeout_s=tries.left_s,
                keep_headers=True,
                fresh=True,
            )
        except (UpstreamUnreachable, UpstreamRefused):
            raise
        except UpstreamTimeout as err:
            raise TooLate(err.message) from err
        except UpstreamError as err:
            raise CutOff("The connection to OpenWhisk broke.") from err

    def _wait_for(self, activation_id: str, tries: Tries) -> HTTPResponse:
        answer = with_retries(
            lambda: self._http.request(
                "GET",
                f"{self._base_url}/activations/{activation_id}",
                headers=self._headers,
                timeout_s=tries.left_s,
            ),
            until=tries.until,
            statuses=NOT_YET,
            most_wait_s=MOST_WAIT_S,
        )
        if answer.status == 404:
            raise TooLate(f"The action did not end within {tries.timeout_s:g} s.")
        return answer


def read_result(answer: HTTPResponse) -> bytes:
    """The result of an action that did its work, as JSON.

    Raises: FunctionFailed; UpstreamRefused; TooLate, CutOff when it may have run, or may still.
    """
    status = answer.status
    if status in (401, 403):
        raise UpstreamRefused("OpenWhisk refuses OPENWHISK_AUTH_KEY.")
    if status == 408:
        raise TooLate("OpenWhisk did not answer in time.")
    if status < 500 and status != 200:
        raise UpstreamRefused(f"OpenWhisk answered HTTP {status}.")
    if status not in (200, 502):
        raise CutOff(f"OpenWhisk failed (HTTP {status}).")
    # An action that fails is a 502 too, with its record; so is a proxy that fails, with whatever a proxy says.
    response = read_activation(answer).response
    if response is None or response.status == "whisk internal error":
        raise CutOff("OpenWhisk failed.")
    if not response.success:
        raise FunctionFailed("The action ended with an error.")
    return to_json(response.result)


def read_activation(answer: HTTPResponse) -> Activation:
    """Raises: CutOff for what is no record of a run."""
    try:
        return Activation.model_validate(parse_json(answer.body))
    except (BadRequest, ValidationError) as err:
        raise CutOff(f"OpenWhisk answered HTTP {answer.status} without saying what became of the action.") from err
