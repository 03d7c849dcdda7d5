"""Commands of modules that this fleet runs itself, behind the fence of the process `modules`."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import quote

from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import CommandSpec
from waddlebot.base.errors import Invalid, UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from waddlebot.web.http import TARGET_IS_DOWN, HTTPClient, HTTPResponse

from ...config import RouterSettings, missing
from .execution_engine import CutOff, RemoteEngine, Task, TooLate, Tries, error_kind, failed_function, unwrap
from .starts import Starts

# `<module>:<version>:<sha256>` of a package of the marketplace.
FUNCTION = re.compile(r"([a-z][a-z0-9_]{0,62}):[0-9A-Za-z.-]{1,32}:[0-9a-f]{64}")
FUNCTION_ERROR = "x-amz-function-error"
# The host ends a call when its time is over, and says so; this is for its answer to arrive.
ANSWERS_WITHIN_S = 0.5
WAKES_WITHIN_S = 5.0


class Ended(UpstreamRefused, UpstreamTimeout):
    """The function took too long and was ended.

    The host answered, so it is well: one community's trouble is no reason to leave the module alone in all.
    """

    code = UpstreamTimeout.code


class Parked(UpstreamRefused):
    """This module kept failing here, so it is left alone for a while."""

    code = "parked"


class LocalEngine(RemoteEngine):
    """Invokes the function that location_url names at the local host, which speaks Lambda's API.

    A function may do its work again when it is called again. So it is called once; only what cannot have run, because
    the host was not reached, is down or has no room, is tried again.
    """

    def __init__(self, circuits: CircuitBreakers, starts: Starts, settings: RouterSettings) -> None:
        super().__init__(circuits, missing=missing(settings.local_host_credentials))
        self._starts = starts
        self._http = HTTPClient()
        self._host_url = settings.module_host_url.rstrip("/")
        self._base_url = f"{self._host_url}/2015-03-31/functions"
        key = settings.module_host_key.get_secret_value() if settings.module_host_key else ""
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}

    def wake_host(self) -> None:
        """Have the host started, which tries its fence first, before anybody waits for an answer."""
        if self._missing:
            return
        with contextlib.suppress(UpstreamError):
            self._http.request("GET", f"{self._host_url}/ready", timeout_s=WAKES_WITHIN_S)

    def check(self, spec: CommandSpec) -> None:
        super().check(spec)
        if not FUNCTION.fullmatch(spec.location_url):
            raise Invalid(
                "commands.location_url: For local it is <module>:<version>:<sha256> of a published package.",
                field="commands.location_url",
            )

    def call(self, task: Task, tries: Tries) -> HTTPResponse:
        name, body = task.command.spec.location_url, task.payload.encode()
        if name.partition(":")[0] != task.command.module_name:
            raise UpstreamRefused(f"{task.command.module_name} runs no code of another module.")
        self._starts.begin(task.call)
        answer = tries.repeat(lambda: self._invoke(name, body, tries), statuses=TARGET_IS_DOWN)
        if answer.status in TARGET_IS_DOWN:
            return answer
        return unwrap(read_result(answer))

    def _invoke(self, name: str, body: bytes, tries: Tries) -> HTTPResponse:
        try:
            # Over a kept connection: one that breaks while a function runs means that the host is gone, and with it
            # whatever could be asked twice.
            return self._http.request(
                "POST",
                f"{self._base_url}/{quote(name)}/invocations",
                body=body,
                headers=self._headers,
                timeout_s=tries.left_s + ANSWERS_WITHIN_S,
                keep_headers=True,
            )
        except (UpstreamUnreachable, UpstreamRefused):
            raise
        except UpstreamTimeout as err:
            raise TooLate(err.message) from err
        except UpstreamError as err:
            raise CutOff("The connection to the host of community modules broke.") from err


def read_result(answer: HTTPResponse) -> bytes:
    """The result of a function that did its work. Raises: FunctionFailed, Ended, Parked; UpstreamRefused."""
    if answer.status != 200:
        raise UpstreamRefused(f"The host of community modules refused the call (HTTP {answer.status}).")
    if FUNCTION_ERROR not in answer.headers:
        return answer.body
    kind = error_kind(answer.body)
    if kind == "Sandbox.Timedout":
        raise Ended()
    if kind == "Sandbox.Parked":
        raise Parked()
    raise failed_function(kind)
