"""HTTP in and out. Beside the pages, the only place that knows py4web's request, response and routes.

`@endpoint` says what a handler serves and asks for; `mount` binds it: authenticate → validate → log context →
transaction → JSON. An exception of any kind rolls the transaction back before it becomes an answer.
"""

from __future__ import annotations

import inspect
import re
import time
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl

import ombott
from py4web import action, request, response
from pydal import DAL
from pydantic import BaseModel, TypeAdapter

from ..base.errors import (
    BadRequest,
    Busy,
    Invalid,
    NotAuthenticated,
    NotFound,
    RateLimited,
    TooLarge,
    UnsupportedMediaType,
    WaddleBotError,
)
from ..base.ids import as_traceparent
from ..base.logs import AAALog, log_context, new_log_context
from ..base.manifest import Area, Right
from ..base.metrics import Metrics
from ..base.strangers import PerMinute, Sampled
from ..base.wire import clean, parse_json, to_json, validate
from ..data.audit import UNDO_HEADER, Acting, acting_as
from ..data.database import Database
from .actor import WITHIN, Actors
from .auth import OPERATORS, OWNERS, PORTAL, PORTAL_ONLY, Account, Accounts, Caller
from .callback import PREFIX as CALL_PREFIX
from .callback import CallTokens
from .static import StaticFiles
from .stream import SSE_HEADERS, SSE_TYPE, Stream, hand_over

Handler = TypeVar("Handler", bound=Callable[..., Any])
# Where a key may stand. `Authorization` is `Bearer <key>`, as clients of other people's APIs send it.
KeyHeader = Literal["X-API-Key", "X-Broker-Key", "Authorization"]
BEARER = "bearer "
READS = ("GET", "HEAD")

# Whose threads serve an endpoint at the edge: a flood of pages leaves webhooks and the fleet's own calls alone.
Pool = Literal["webhook", "page", "api", "stream"]

MAX_BODY_BYTES = 16 * 1024 * 1024
# What an endpoint can ask for at most: a short video, with what a form puts around it.
LARGEST_BODY_BYTES = 21 * 1024 * 1024
# No platform sends a webhook as long as this.
MAX_WEBHOOK_BYTES = 1024 * 1024
JSON_TYPE = "application/json"
# What is answered is for the caller, for now, and never anything but JSON.
JSON_HEADERS = {"Content-Type": JSON_TYPE, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
A_BUG = "This is a bug on our side; it was logged."
KEY_ID = re.compile(r"wbot_([a-z0-9]{8})_")
# Lines about refusals: of one address or key, and of all. More would rotate the log away in minutes.
REFUSALS_PER_MINUTE, ALL_REFUSALS_PER_MINUTE = 30, 300
INTEGER = re.compile(r"<(\w+):int>")
CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    431: "headers_too_large",
    500: "internal",
    503: "busy",
}


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is not JSON. Each of `cookies` is the value of a Set-Cookie header."""

    body: str | bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()


# How a function says that it takes all requests that wait for it.
MANY = "Sequence[RawRequest]"


@dataclass(frozen=True, slots=True)
class RawRequest:
    """What a handler needs that checks a signature itself: the exact bytes and the headers, names in lower case; and
    the address that it came from."""

    body: bytes
    headers: Mapping[str, str]
    address: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a function serves; `method` may name several, with spaces between."""

    method: str
    path: str
    function: Callable[..., Any]
    caller: Caller
    body: Any = None
    query: type[BaseModel] | None = None
    status: int = 200
    max_body_bytes: int = MAX_BODY_BYTES
    pool: Pool = "api"
    area: Area | None = None
    key_in: tuple[KeyHeader, ...] = ("X-API-Key",)
    # Calls from one address; 0 is no limit.
    per_minute: int = 0
    # The token of a call opens it, too.
    in_call: bool = False
    # What a person asks for and what changes nothing.
    only_asks: bool = False

    @property
    def is_audited(self) -> bool:
        """Whether each call of it is a change that a person answers for."""
        return self.method not in READS and self.caller.of_people and not self.only_asks and not self.is_stream

    @property
    def is_stream(self) -> bool:
        return inspect.isasyncgenfunction(self.function)

    @property
    def takes_many(self) -> bool:
        """Whether it is served with all requests that wait for it."""
        return MANY in inspect.get_annotations(self.function, eval_str=False).values()

    @property
    def right(self) -> Right:
        """What a person in the portal needs for it."""
        if self.caller.name == OPERATORS.name:
            return "operator"
        if self.caller.name in (OWNERS.name, PORTAL_ONLY.name):
            return "owner"
        return "viewer" if self.method in READS else "editor"

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def answers(self) -> str:
        """The media type of what it answers when all is well."""
        return JSON_TYPE

    def bind(self, mount: Mount, services: Mapping[type, object]) -> Bound:
        return Bound(mount, self, services)


def endpoint(
    method: str,
    path: str,
    *,
    caller: Caller,
    body: Any = None,
    query: type[BaseModel] | None = None,
    status: int = 200,
    max_body_bytes: int | None = None,
    pool: Pool | None = None,
    area: Area | None = None,
    key_in: Sequence[KeyHeader] = ("X-API-Key",),
    per_minute: int = 0,
    in_call: bool = False,
    only_asks: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare what a function serves; `mount` makes it reachable. The module's manifest lists it with its caller.

    `area` is what a person in the portal needs a right for; without one the portal cannot call it for anybody. The key
    is taken from the first of `key_in` that is sent.

    The function's parameters are filled by type: the validated `body` and `query`, `Account` (the caller),
    `RawRequest`, `DAL` (a transaction around the call: only ask for it where nothing is called meanwhile), the
    services given to `mount`, and by name what the path holds in angle brackets. A `body` that may be None may be
    left out. A function of anybody's that takes a `Sequence[RawRequest]` gets all requests that wait for it at once,
    and returns for each in its order what it answers, or the exception that it is refused with.

    Without a `pool` a POST that anybody may make and that wants the raw request is a webhook, and a GET of anybody's
    that answers no JSON a page. With `per_minute` more calls than that from one address are refused: for what strangers
    make us write. With `in_call` a community module may call it by the token of a call of it (`Account.call`), sent as
    `Authorization: Bearer`. Each change that a person may ask for writes an AUDIT line named after the function, unless
    it `only_asks` (a preview, a dry run). A body is at most 1 MB for a webhook and 16 MB else, unless `max_body_bytes`
    says so.
    """

    def declare(function: Handler) -> Handler:
        chosen = pool or _pool_of(method, caller, function)
        most = max_body_bytes or (MAX_WEBHOOK_BYTES if chosen == "webhook" else MAX_BODY_BYTES)
        made = Endpoint(
            method,
            path,
            function,
            caller,
            body,
            query,
            status,
            most,
            chosen,
            area,
            tuple(key_in),
            per_minute,
            in_call,
            only_asks,
        )
        if inspect.iscoroutinefunction(function) or made.is_stream != (chosen == "stream"):
            raise TypeError(f"{path}: a function that yields and is async is a @stream, any other an @endpoint")
        function.__endpoint__ = made  # type: ignore[attr-defined]
        return function

    return declare


def stream(
    method: str,
    path: str,
    *,
    caller: Caller,
    body: Any = None,
    query: type[BaseModel] | None = None,
    max_body_bytes: int | None = None,
) -> Callable[[Handler], Handler]:
    """Declare an async generator that yields server-sent events, each as `sse` writes it.

    Its caller is checked and its parameters are filled as those of an `@endpoint`, but for `DAL`, in a thread. Then it
    runs in the loop that all streams of the process share, so whatever blocks goes into `asyncio.to_thread`. It is
    closed when the client leaves or reads nothing for 20 s, and when the process ends: give back in a `finally`.
    """
    return endpoint(method, path, caller=caller, body=body, query=query, max_body_bytes=max_body_bytes, pool="stream")


def _pool_of(method: str, caller: Caller, function: Callable[..., Any]) -> Pool:
    hints = inspect.get_annotations(function, eval_str=False)
    if not caller.open:
        return "api"
    if method == "POST" and any(hint in ("RawRequest", RawRequest, MANY) for hint in hints.values()):
        return "webhook"
    return "page" if method == "GET" and hints.get("return") in ("Raw", Raw) else "api"


@dataclass(slots=True)
class Mount:
    """One module's endpoints and what they are served with."""

    prefix: str
    accounts: Accounts
    actors: Actors
    database: Database
    log: AAALog
    metrics: Metrics
    calls: CallTokens
    endpoints: list[Endpoint] = field(default_factory=list)
    statics: list[StaticFiles] = field(default_factory=list)
    # Those that take all requests that wait for them.
    takers: list[Bound] = field(default_factory=list)
    grants: Sampled = field(default_factory=Sampled)
    refusals: PerMinute = field(default_factory=lambda: PerMinute(REFUSALS_PER_MINUTE, all=ALL_REFUSALS_PER_MINUTE))

    def mount_static(self, files: StaticFiles) -> None:
        """Serve these files. The edge answers them from memory; the route is for calls within the process."""

        def serve_static(path: str) -> bytes:
            try:
                answer = files.answer(files.prefix + path, read_headers(request.environ))
            except NotFound as err:
                raise ombott.HTTPError(404) from err
            response.status = answer.status
            response.headers.update(answer.headers)
            return answer.body

        self.statics.append(files)
        action(f"{files.prefix}<path:path>", method=["GET"])(serve_static)

    def mount(self, *controllers: ModuleType | Callable[..., Any], using: Iterable[object] = ()) -> None:
        """Serve every `@endpoint` of these modules or functions, with these services for their parameters; the
        database and the log are always among them."""
        services = {type(service): service for service in (self.database, self.log, *using)}
        for controller in controllers:
            functions = vars(controller).values() if isinstance(controller, ModuleType) else [controller]
            for function in functions:
                declared = getattr(function, "__endpoint__", None)
                if isinstance(declared, Endpoint):
                    self.endpoints.append(declared)
                    bound = declared.bind(self, services)
                    if declared.takes_many:
                        self.takers.append(bound)
                    action(bound.route, method=declared.method.split())(bound.serve)


class Bound:
    """An endpoint with its services, ready to serve requests."""

    def __init__(self, mount: Mount, declared: Endpoint, services: Mapping[type, object]) -> None:
        self.mount = mount
        self.endpoint = declared
        self.function = declared.function
        self.body = TypeAdapter(declared.body) if declared.body is not None else None
        self.body_is_optional = type(None) in typing.get_args(declared.body)
        self.fixed: dict[str, object] = {}
        self.asks: dict[str, str] = {}
        self.histograms: dict[int, Any] = {}
        self.gate = PerMinute(declared.per_minute) if declared.per_minute else None
        hints = typing.get_type_hints(declared.function)
        hints.pop("return", None)
        # Not the framework's own, which fails on numbers of thousands of digits; these fit the database's bigint.
        self.route = INTEGER.sub(r"<\1:re:[0-9]{1,18}>", declared.path)
        self.integers = INTEGER.findall(declared.path)
        in_path = set(re.findall(r"<(\w+)", declared.path))
        if declared.is_audited:
            told = sorted(in_path - {"community"})
            self.function = mount.log.audited(declared.function.__name__, telling=told)(declared.function)
        for name, kind in hints.items():
            if name in in_path:
                continue
            if kind in services:
                self.fixed[name] = services[kind]
            elif ask := self._ask_for(kind):
                if ask == "db" and declared.is_stream:
                    raise TypeError(f"{declared.path}: a stream has no transaction; open one in asyncio.to_thread")
                self.asks[ask] = name
            else:
                raise TypeError(f"{declared.path}: nothing to fill parameter {name}: {kind!r} with")
        if declared.takes_many and not (declared.caller.open and self.gate is None and not in_path):
            raise TypeError(f"{declared.path}: what takes many requests is for anybody, with no limit and a fixed path")
        # py4web names a route after its function.
        self.serve = self._named_after(declared.function)

    def _ask_for(self, kind: Any) -> str | None:
        if self.endpoint.body is not None and kind == self.endpoint.body:
            return "body"
        if self.endpoint.query is not None and kind is self.endpoint.query:
            return "query"
        return {Account: "account", RawRequest: "raw", Sequence[RawRequest]: "many", DAL: "db"}.get(kind)

    def _named_after(self, function: Callable[..., Any]) -> Callable[..., str | bytes]:
        def serve(**path: Any) -> str | bytes:
            return self._serve(path)

        serve.__name__ = function.__name__
        serve.__module__ = function.__module__
        return serve

    def _serve(self, path: dict[str, Any]) -> str | bytes:
        started = time.perf_counter()
        context = new_log_context()
        context.traceparent = as_traceparent(request.environ.get("HTTP_TRACEPARENT"))
        try:
            answer = self._answer(path)
        except Exception as err:  # noqa: BLE001 - each becomes an answer
            answer = self._refuse(err, request.environ, context.session_id)
        response.status = answer.status
        response.headers.update(_headers_of(answer))
        for cookie in answer.cookies:
            response.headers.append("Set-Cookie", cookie)
        self._note_served(answer, time.perf_counter() - started)
        return answer.body

    def serve_many(self, requests: Sequence[RawRequest]) -> list[Raw]:
        """Serve requests together, for the edge; each is answered as if it were alone."""
        started = time.perf_counter()
        new_log_context()
        outcomes: Sequence[Any]
        try:
            outcomes = self.function(**self.fixed, **{self.asks["many"]: requests})
        except Exception as err:  # noqa: BLE001 - each becomes an answer
            outcomes = [err] * len(requests)
        answers = [
            self._refuse(outcome, {"REMOTE_ADDR": asked.address}, new_log_context().session_id)
            if isinstance(outcome, Exception)
            else outcome
            for asked, outcome in zip(requests, outcomes, strict=True)
        ]
        took_s = time.perf_counter() - started
        for answer in answers:
            self._note_served(answer, took_s)
        return [replace(each, headers=_headers_of(each)) for each in answers]

    def _refuse(self, err: Exception, environ: Mapping[str, Any], session_id: str | None) -> Raw:
        """The answer to a request that could not be served, which is noted."""
        if isinstance(err, WaddleBotError):
            answer = self._refusal(err.http_status, error_body(err, session_id))
            if isinstance(err, Busy):
                answer = replace(answer, headers={**answer.headers, "Retry-After": str(err.retry_after_s)})
            self._log_refusal(err, environ)
            return answer
        if isinstance(err, ombott.HTTPError):
            return self._refusal(err.status_code, plain_error(err.status_code, str(err.body)))
        self.mount.log.error("request_failed", exc_info=err, path=self.endpoint.path)
        return self._refusal(500, plain_error(500, A_BUG))

    def _note_served(self, answer: Raw, took_s: float) -> None:
        self._durations(answer.status).observe(took_s)
        self.mount.log.debug(
            "request_served",
            method=self.endpoint.method,
            path=self.endpoint.path,
            status=answer.status,
            execution_time_ms=round(took_s * 1e3, 2),
        )

    def _answer(self, path: dict[str, Any]) -> Raw:
        result = self._call(path)
        if isinstance(result, Raw):
            return result
        if isinstance(result, Stream):
            return Raw(hand_over(request.environ, result), SSE_TYPE, self.endpoint.status, SSE_HEADERS)
        return Raw(to_json(result), JSON_TYPE, self.endpoint.status, JSON_HEADERS)

    def _refusal(self, status: int, body: dict[str, Any]) -> Raw:
        """How a client is told of an error."""
        return Raw(to_json(body), JSON_TYPE, status, JSON_HEADERS)

    def _durations(self, status: int) -> Any:
        """The histogram of this endpoint and status; finding it anew costs more than adding to it."""
        if status not in self.histograms:
            requests = self.mount.metrics.requests
            self.histograms[status] = requests.labels(self.endpoint.method, self.endpoint.path, str(status))
        return self.histograms[status]

    def _call(self, path: dict[str, Any]) -> Any:
        arguments = {**self.fixed, **clean(path)}
        arguments |= {name: int(path[name]) for name in self.integers}
        owner = request.environ.get("REMOTE_ADDR") or ""
        if self.gate and not self.gate.lets(owner):
            raise RateLimited("That was too often. Try again in a minute.", retry_after_s=60)
        if not self.endpoint.caller.open and (account := self._authenticate()):
            owner = f"account {account.id}"
            if "account" in self.asks:
                arguments[self.asks["account"]] = account
            with acting_as(_acting(account, self.endpoint.method)):
                return self._run(arguments, owner)
        return self._run(arguments, owner)

    def _run(self, arguments: dict[str, Any], owner: str) -> Any:
        if "raw" in self.asks:
            arguments[self.asks["raw"]] = self._read_raw()
        if "many" in self.asks:
            (outcome,) = self.function(**arguments, **{self.asks["many"]: [self._read_raw()]})
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        if "body" in self.asks and self.body is not None:
            sent = _read_json(self.endpoint.max_body_bytes, may_be_empty=self.body_is_optional)
            arguments[self.asks["body"]] = validate(self.body.validate_python, sent)
        if "query" in self.asks and self.endpoint.query is not None:
            arguments[self.asks["query"]] = validate(self.endpoint.query.model_validate, _read_query())
        if self.endpoint.is_stream:
            return Stream(self.endpoint.function(**arguments), owner)
        if "db" in self.asks:
            database = self.mount.database
            # What only reads needs no round trips for the beginning and the end of a transaction.
            with database.reading() if self.endpoint.method == "GET" else database.transaction() as db:
                return self.function(**arguments, **{self.asks["db"]: db})
        return self.function(**arguments)

    def _read_raw(self) -> RawRequest:
        environ = request.environ
        body = _read_body(self.endpoint.max_body_bytes)
        return RawRequest(body, read_headers(environ), environ.get("REMOTE_ADDR") or "")

    def _authenticate(self) -> Account | None:
        """Who calls, if they may. Raises: NotAuthenticated; NotAllowed.

        The environ and not `request.headers`: that and the environ hold each other, and the body, until the garbage
        collector comes by.
        """
        declared, environ = self.endpoint, request.environ
        if declared.in_call and (token := _find_key(environ, ["Authorization"]) or "").startswith(CALL_PREFIX):
            return Account.of_call(self.mount.calls.read(token))
        try:
            account = self.mount.accounts.authenticate(_find_key(environ, declared.key_in))
        except NotAuthenticated as err:
            raise NotAuthenticated(f"Send a valid key in the header {' or '.join(declared.key_in)}.") from err
        said, header = environ.get(WITHIN), environ.get("HTTP_X_WADDLEBOT_ACTOR")
        if said is not None or header is not None:
            account.check_acts_for_people()
            actors, wanted = self.mount.actors, {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"]}
            account = account.acting_for(
                actors.read(header, **wanted) if said is None else actors.check(said, **wanted)
            )
        declared.caller.check(account, area=declared.area, right=declared.right)
        log_context().actor = account.name
        if count := self.mount.grants.count(account.name, declared.method, declared.path):
            self.mount.log.authz("request_allowed", method=declared.method, path=declared.path, count=count)
        return account

    def _log_refusal(self, err: WaddleBotError, environ: Mapping[str, Any]) -> None:
        log = self.mount.log
        if err.http_status in (401, 403):
            self._log_who(err, environ)
        elif err.http_status >= 500 and not isinstance(err, Busy):
            log.error("request_failed", path=self.endpoint.path, code=err.code, message=err.message)

    def _log_who(self, err: WaddleBotError, environ: Mapping[str, Any]) -> None:
        """Say who was refused, as often as that can be of use: a stranger's requests are as many as they like."""
        log = self.mount.log
        address = environ.get("REMOTE_ADDR") or ""
        key_id = key_id_of(_find_key(environ, self.endpoint.key_in))
        if not self.mount.refusals.lets(address if err.http_status == 401 else key_id or address):
            return
        if left_out := self.mount.refusals.take_left_out():
            log.system("refusals_not_logged", result="FAILED", count=left_out)
        told: dict[str, Any] = {"path": self.endpoint.path, "address": address, "key_id": key_id}
        if err.http_status == 401:
            log.auth("key_refused", result="FAILED", **told)
        else:
            log.authz("request_refused", result="DENIED", **told, reason=err.message)


def key_id_of(api_key: str | None) -> str | None:
    """The part of a key that names it and opens nothing; None for what is no key."""
    found = KEY_ID.match(api_key or "")
    return found[1] if found else None


def _headers_of(answer: Raw) -> dict[str, str]:
    return {"Content-Type": answer.content_type, "X-Content-Type-Options": "nosniff", **answer.headers}


def _find_key(environ: Mapping[str, Any], headers: Sequence[KeyHeader]) -> str | None:
    for header in headers:
        sent: str | None = environ.get(f"HTTP_{header.upper().replace('-', '_')}")
        if header == "Authorization" and sent is not None:
            sent = sent[len(BEARER) :].strip() if sent.lower().startswith(BEARER) else None
        if sent:
            return sent
    return None


def _acting(account: Account, method: str) -> Acting:
    """Who the audit log says it was."""
    undoes, call = _read_undo(), (method, request.path)
    if account.actor is None:
        return Acting(account.name, undoes=undoes, request=call)
    actor = account.actor
    login_id = actor.login_id if isinstance(actor.login_id, int) else None
    return Acting(PORTAL, login_id=login_id, own_id=actor.own_id, undoes=undoes, request=call)


def _read_undo() -> int | None:
    """The entry of the audit log that a request says it takes back."""
    text = request.environ.get(f"HTTP_{UNDO_HEADER.upper().replace('-', '_')}")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(f"{UNDO_HEADER} is the number of an entry in the audit log.", field=UNDO_HEADER)
    return int(text)


def read_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """All headers of a request, names in lower case."""
    named = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    named |= {name: environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if name in environ}
    return {name.replace("_", "-").lower(): value for name, value in named.items()}


def _read_body(max_bytes: int) -> bytes:
    if int(request.environ.get("CONTENT_LENGTH") or 0) > max_bytes:
        raise TooLarge(f"At most {max_bytes} bytes are taken.")
    body: bytes = request.body.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise TooLarge(f"At most {max_bytes} bytes are taken.")
    return body


def _read_query() -> Any:
    """The query's values by name. One that is given several times is as if written once, with commas."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(request.query_string, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    return clean(query)


def _read_json(max_bytes: int, *, may_be_empty: bool) -> Any:
    body = _read_body(max_bytes)
    if not body and may_be_empty:
        return None
    if body and (request.content_type or "").split(";")[0].strip().lower() != JSON_TYPE:
        raise UnsupportedMediaType()
    if body and request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
    if not body:
        raise BadRequest("The body is empty; send JSON.")
    return parse_json(body)


def error_body(err: WaddleBotError, session_id: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "success": False,
        "error": {"code": err.code, "message": err.message, "details": err.details or None},
    }
    return {**body, "session_id": session_id} if session_id else body


def plain_error(status: int, message: str) -> dict[str, Any]:
    code = CODES.get(status, "error")
    return {"success": False, "error": {"code": code, "message": message, "details": None}}
