"""Runs one execution where it lives. Containers today; Lambda, OpenWhisk and webhooks take the same seat."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError
from waddlebot.clients import ModuleClient
from waddlebot.contracts import ErrorInfo, ExecutionStatus, ModuleCall, ModuleReply, ModuleResponse
from waddlebot.errors import BadRequest, UpstreamError, UpstreamRefused, UpstreamTimeout
from waddlebot.http import HTTPResponse, with_retries
from waddlebot.web import parse_json

from .catalogue import Command


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an execution."""

    status: ExecutionStatus
    responses: list[ModuleResponse]
    error: ErrorInfo | None = None
    http_status: int | None = None
    took_ms: float = 0
    module_ms: float | None = None
    retries: int = 0
    # Of a reply that the module posted itself, to know the same one again.
    digest: str | None = None


class Task(Protocol):
    """What an engine is given: the command, the call and its JSON, made once for the record and for the wire."""

    @property
    def command(self) -> Command: ...
    @property
    def call(self) -> ModuleCall: ...
    @property
    def payload(self) -> str: ...


class Engine(Protocol):
    def execute(self, task: Task) -> Result: ...


class ContainerEngine:
    """POSTs the call to the module and repeats it while the module is down, because it answers a repeat the same."""

    def __init__(self, client: ModuleClient) -> None:
        self._client = client

    def execute(self, task: Task) -> Result:
        command, call, body = task.command, task.call, task.payload.encode()
        started = time.monotonic()
        until = started + call.timeout_ms / 1000
        attempts = 0

        def attempt() -> HTTPResponse:
            nonlocal attempts
            attempts += 1
            timeout_s = max(0.05, until - time.monotonic())
            return self._client.execute(command.spec.location_url, body, call.traceparent, timeout_s=timeout_s)

        http_status: int | None = None
        try:
            response = with_retries(attempt, until=until)
            http_status = response.status
            reply = read_reply(response, call, command.module_name)
            responses = reply.all_responses()
            error = None if reply.success else ErrorInfo(code="module", message=reply.error_message or "It failed.")
            status = ExecutionStatus.SUCCESS if reply.success else ExecutionStatus.FAILED
            module_ms: float | None = reply.processing_time_ms
        except UpstreamTimeout as err:
            status, responses, module_ms = ExecutionStatus.TIMEOUT, [], None
            error = ErrorInfo(code=err.code, message=err.message)
        except (UpstreamError, ValidationError) as err:
            status, responses, module_ms = ExecutionStatus.FAILED, [], None
            message = err.message if isinstance(err, UpstreamError) else f"The reply is not valid: {first_problem(err)}"
            error = ErrorInfo(code=getattr(err, "code", "bad_reply"), message=message)
        took_ms = (time.monotonic() - started) * 1e3
        return Result(status, responses, error, http_status, round(took_ms, 2), module_ms, attempts - 1)


class BadReply(UpstreamRefused):
    """The module's reply is not one to this call."""

    code = "bad_reply"


def read_reply(response: HTTPResponse, call: ModuleCall, module_name: str) -> ModuleReply:
    """Raises: UpstreamRefused, BadReply, ValidationError."""
    if response.status != 200:
        raise UpstreamRefused(f"{module_name} answered HTTP {response.status}.")
    try:
        # Read like anything else from outside: what the database cannot hold is replaced.
        reply = ModuleReply.model_validate(parse_json(response.body))
    except BadRequest as err:
        raise UpstreamRefused(f"{module_name}: {err.message}") from err
    if (reply.session_id, reply.execution_id, reply.module_name) != (call.session_id, call.execution_id, module_name):
        raise BadReply()
    return reply


def first_problem(err: ValidationError) -> str:
    problem = err.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
