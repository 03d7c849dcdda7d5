"""Runs one execution where it lives. What the engines share is here; each kind of target has a file of its own."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import Field, ValidationError
from pydantic_core import from_json, to_json
from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import (
    PRIVATE_PLATFORMS,
    CommandSpec,
    ErrorInfo,
    ExecutionStatus,
    ModuleCall,
    ModuleReply,
    ModuleResponse,
    Wire,
)
from waddlebot.base.errors import (
    BadRequest,
    Conflict,
    Invalid,
    NotConfigured,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from waddlebot.base.wire import parse_json
from waddlebot.data.outbox import NOT_PRIVATE_HERE
from waddlebot.module.package import ACTION_PERMISSIONS
from waddlebot.web.http import TARGET_IS_DOWN, HTTPResponse, with_retries

from ..catalogue.catalogue import Command
from .starts import BegunBefore

# Nobody can connect, ask and be answered in less; a try that is begun gets this much.
LEAST_TIMEOUT_S = 0.05
THROTTLED = 429
ERROR_KIND = re.compile(r"[A-Za-z0-9_.]{1,80}")


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
    # It is pending: the module posts its reply itself, within so many seconds.
    later_s: float | None = None


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


class NotPrivateHere(Conflict):
    """That text is for one person alone, and here everybody would read it. Say something else, or say it elsewhere."""

    code = NOT_PRIVATE_HERE


def check_private(responses: Sequence[ModuleResponse], platform: str) -> None:
    """Raises: NotPrivateHere when something is private and the platform has no way to say it so."""
    if platform not in PRIVATE_PLATFORMS and any(each.is_private for each in responses):
        raise NotPrivateHere()


def without_what_others_would_read(result: Result, platform: str) -> Result:
    """A result without the private texts that cannot be said privately on a platform; it has failed then."""
    try:
        check_private(result.responses, platform)
    except NotPrivateHere as err:
        rest = [each for each in result.responses if not each.is_private]
        error = ErrorInfo(code=err.code, message=err.message)
        return replace(result, status=ExecutionStatus.FAILED, responses=rest, error=error)
    return result


def within_permissions(result: Result, permissions: Collection[str] | None) -> Result:
    """A result without what a module may not answer with; it has failed then. None: it may do anything."""
    if permissions is None:
        return result
    needed = {each for response in result.responses if (each := _permission_for(response))}
    needed |= {"reply_later"} if result.later_s is not None else set()
    missing = sorted(needed - set(permissions))
    if not missing:
        return result
    rest = [each for each in result.responses if _permission_for(each) not in missing]
    error = ErrorInfo(code="not_permitted", message=f"It does not have the permission {', '.join(missing)}.")
    return replace(result, status=ExecutionStatus.FAILED, responses=rest, error=error, later_s=None)


def _permission_for(response: ModuleResponse) -> str | None:
    return "private" if response.is_private else ACTION_PERMISSIONS.get(response.response_action)


class BadReply(UpstreamRefused):
    """The module's reply is not one to this call."""

    code = "bad_reply"


class FunctionFailed(UpstreamRefused):
    """The function ended with an error."""

    code = "function_error"


class CutOff(UpstreamError):
    """The call was begun, and nobody can know how it ended, so it is not made again."""

    code = "cut_off"
    retryable = False


class TooLate(UpstreamTimeout):
    """The call was begun and did not end in time, so it is not made again."""

    retryable = False


@dataclass(slots=True)
class Tries:
    """How often one execution has called its target, and how long it still may."""

    timeout_s: float
    started_at: float = field(default_factory=time.monotonic)
    made: int = 0
    http_status: int | None = None

    @property
    def until(self) -> float:
        return self.started_at + self.timeout_s

    @property
    def left_s(self) -> float:
        return max(LEAST_TIMEOUT_S, self.until - time.monotonic())

    def repeat(
        self,
        send: Callable[[], HTTPResponse],
        *,
        statuses: Collection[int] = TARGET_IS_DOWN,
        until: float | None = None,
    ) -> HTTPResponse:
        """Call, and again while that is safe: see with_retries."""

        def attempt() -> HTTPResponse:
            self.made += 1
            response = send()
            self.http_status = response.status
            return response

        return with_retries(attempt, until=until or self.until, statuses=statuses)


class RemoteEngine:
    """An engine that calls something outside of the router, and takes whatever comes back for what it is.

    A kind of target says how it is called. Without its settings an engine runs nothing and says which are `missing`.
    """

    def __init__(self, circuits: CircuitBreakers, *, missing: Sequence[str] = ()) -> None:
        self._circuits = circuits
        self._missing = missing

    def check(self, spec: CommandSpec) -> None:
        """Refuse a command that could never run here. Raises: Invalid."""
        if self._missing:
            names = " and ".join(self._missing)
            raise Invalid(f"This fleet runs no {spec.type} commands: set {names}.", field="commands.type")

    def call(self, task: Task, tries: Tries) -> HTTPResponse:
        """Make the call, with as many tries as are safe. Raises: UpstreamError, UpstreamRefused for an answer."""
        raise NotImplementedError

    def execute(self, task: Task) -> Result:
        tries = Tries(task.call.timeout_ms / 1000)
        try:
            result = self._ask(task, tries)
        except ValidationError as err:
            result = _failed(ExecutionStatus.FAILED, "bad_reply", f"The reply is not valid: {first_problem(err)}")
        except BegunBefore as err:
            result = _failed(ExecutionStatus.UNKNOWN, err.code, err.message)
        except UpstreamTimeout as err:
            result = _failed(ExecutionStatus.TIMEOUT, err.code, err.message)
        except (UpstreamError, NotConfigured) as err:
            result = _failed(ExecutionStatus.FAILED, err.code, err.message)
        took_ms = round((time.monotonic() - tries.started_at) * 1e3, 2)
        return replace(result, took_ms=took_ms, retries=max(0, tries.made - 1), http_status=tries.http_status)

    def _ask(self, task: Task, tries: Tries) -> Result:
        module_name = task.command.module_name
        if self._missing:
            raise NotConfigured(f"This fleet runs no {task.command.spec.type} commands.")
        with self._circuits.watching(module_name, task.command.spec.location_url, task.call.community.id):
            response = self.call(task, tries)
            if response.status in TARGET_IS_DOWN:
                raise UpstreamError(f"{module_name} answered HTTP {response.status}.")
        reply = read_reply(response, task.call, module_name)
        if reply.later_s is not None:
            return Result(ExecutionStatus.PENDING, [], later_s=reply.later_s)
        return result_of(reply)


def result_of(reply: ModuleReply, *, digest: str | None = None) -> Result:
    """What a module says came of an execution. Raises: pydantic.ValidationError for bad response data."""
    if reply.is_unknown:
        status = ExecutionStatus.UNKNOWN
    else:
        status = ExecutionStatus.SUCCESS if reply.success else ExecutionStatus.FAILED
    error = None
    if status is not ExecutionStatus.SUCCESS:
        error = ErrorInfo(
            code=status.value if reply.is_unknown else "module", message=reply.error_message or "It failed."
        )
    return Result(status, reply.all_responses(), error, module_ms=reply.processing_time_ms, digest=digest)


def _failed(status: ExecutionStatus, code: str, message: str) -> Result:
    return Result(status, [], ErrorInfo(code=code, message=message))


def read_reply(response: HTTPResponse, call: ModuleCall, module_name: str) -> ModuleReply:
    """Raises: UpstreamRefused, BadReply, ValidationError."""
    if response.status != 200:
        raise UpstreamRefused(f"{module_name} answered HTTP {response.status}.")
    try:
        # Read like anything else from outside: what the database cannot hold is replaced.
        said = parse_json(response.body)
    except BadRequest as err:
        raise UpstreamRefused(f"{module_name}: {err.message}") from err
    return check_reply(said, call, module_name)


def check_reply(said: Any, call: ModuleCall, module_name: str) -> ModuleReply:
    """A reply to this call. Raises: BadReply, ValidationError."""
    reply = ModuleReply.model_validate(said)
    if (reply.session_id, reply.execution_id, reply.module_name) != (call.session_id, call.execution_id, module_name):
        raise BadReply()
    return reply


class GatewayAnswer(Wire):
    """What a function returns that was written for an API gateway."""

    status: int = Field(alias="statusCode", ge=100, le=599)
    body: str | dict[str, Any] = ""
    is_base64: bool = Field(False, alias="isBase64Encoded")

    @property
    def content(self) -> bytes:
        if isinstance(self.body, dict):
            return to_json(self.body)
        return base64.b64decode(self.body, validate=True) if self.is_base64 else self.body.encode()


def unwrap(result: bytes) -> HTTPResponse:
    """What a function answered: its result, or what that wraps for an API gateway.

    Raises: BadReply; UpstreamRefused for a status other than 200.
    """
    try:
        answered = parse_json(result)
        if not isinstance(answered, dict) or "statusCode" not in answered:
            return HTTPResponse(200, result)
        wrapped = GatewayAnswer.model_validate(answered)
        if wrapped.status != 200:
            raise UpstreamRefused(f"The function answered HTTP {wrapped.status}.")
        return HTTPResponse(200, wrapped.content)
    except ValidationError as err:
        raise BadReply(f"The result is not one for an API gateway: {first_problem(err)}") from err
    except (BadRequest, binascii.Error) as err:
        raise BadReply(f"The result cannot be read: {err}") from err


def error_kind(result: bytes) -> str:
    """The kind of a function's error. Its message and trace stay where they are: what is said here is said in chat."""
    try:
        error = from_json(result)
    except ValueError:
        return ""
    kind = error.get("errorType") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) and ERROR_KIND.fullmatch(kind) else ""


def failed_function(kind: str, what: str = "function") -> FunctionFailed:
    return FunctionFailed(f"The {what} ended with an error{f' ({kind})' if kind else ''}.")


def first_problem(err: ValidationError) -> str:
    problem = err.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
