"""Calling the fleet's own services: the same calls, over HTTP or, within one process, straight into the WSGI app."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from ..base.contracts import (
    Announced,
    Announcement,
    Answer,
    Event,
    Heartbeat,
    ModuleRegistration,
    ModuleReply,
    ModuleResponse,
    Playback,
    Wire,
)
from ..base.errors import Invalid, UpstreamError, UpstreamRefused
from ..base.logs import log_context
from ..base.transactions import check_no_transaction
from .http import HTTPClient, HTTPResponse

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_local = threading.local()


class Transport(Protocol):
    """Carries one request. Raises: UpstreamError and its kinds, as HTTPClient does."""

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30,
    ) -> HTTPResponse: ...


class FleetTransport:
    """Serves URLs of this very process by calling its WSGI app in the caller's thread, the rest over HTTP.

    Through its own port the process would wait for a thread of the server that is waiting for it.
    """

    def __init__(self, http: HTTPClient) -> None:
        self._http = http

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30,
        within: Mapping[str, Any] | None = None,
    ) -> HTTPResponse:
        """`within` is for the environment of a request of this process."""
        if _own_app is not None and is_within(url):
            return call_wsgi(_own_app, method, url, body=body, headers=headers, within=within)
        return self._http.request(method, url, body=body, headers=headers, timeout_s=timeout_s)


_own_app: WSGIApp | None = None
_own_url: str | None = None


def set_own_app(app: WSGIApp | None, url: str | None) -> None:
    """Tell the process's transports which app this process serves, and at which base URL others reach it."""
    global _own_app, _own_url
    _own_app, _own_url = app, url.rstrip("/") if url else None


def is_within(url: str) -> bool:
    """Whether this very process serves an address."""
    return _own_url is not None and url.startswith(_own_url + "/")


def call_wsgi(
    app: WSGIApp,
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    within: Mapping[str, Any] | None = None,
) -> HTTPResponse:
    """Make one request of a WSGI app without a server.

    The web framework keeps the request in the thread, so a handler must not do this in its own.
    """
    check_no_transaction()
    assert not getattr(_local, "inside", False), "a request may not be served inside another one of this thread"
    parts = urlsplit(url)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path, encoding="latin-1"),
        "QUERY_STRING": parts.query,
        "SERVER_NAME": parts.hostname or "localhost",
        "SERVER_PORT": str(parts.port or 80),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme or "http",
        "wsgi.input": io.BytesIO(body or b""),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **(within or {}),
    }
    if body is not None:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    started: list[tuple[str, list[tuple[str, str]]]] = []
    _local.inside = True
    try:
        answer = b"".join(app(environ, lambda status, fields, *_: started.append((status, fields))))
    finally:
        _local.inside = False
    status, fields = started[0]
    return HTTPResponse(int(status.split()[0]), answer, {name.lower(): value for name, value in fields})


class FleetClient:
    """Calls with this service's own key, as a part of the trace at hand.

    Never tells a key to an address that is not the fleet's.
    """

    def __init__(self, transport: Transport, api_key: str | None) -> None:
        self._transport = transport
        self._headers = {"Content-Type": "application/json"} | ({"X-API-Key": api_key} if api_key else {})

    def post(
        self, url: str, body: bytes, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        return self.request("POST", url, body, timeout_s=timeout_s, headers=headers or {})

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None,
        *,
        timeout_s: float,
        headers: Mapping[str, str],
        within: Mapping[str, Any] | None = None,
    ) -> HTTPResponse:
        """Any call; `headers` may bring another key than this service's, that of whom it is made for, and `within` what
        only a request of this process can."""
        traceparent = log_context().traceparent
        trace = {"traceparent": traceparent} if traceparent else {}
        sent = {**self._headers, **trace, **headers}
        more = {"within": within} if within else {}
        return self._transport.request(method, url, body=body, headers=sent, timeout_s=timeout_s, **more)

    def get(self, url: str, *, timeout_s: float) -> HTTPResponse:
        return self.request("GET", url, None, timeout_s=timeout_s, headers={})


class ModuleClient:
    """What the router calls a module with."""

    def __init__(self, client: FleetClient) -> None:
        self._client = client

    def execute(self, url: str, body: bytes, traceparent: str, *, timeout_s: float) -> HTTPResponse:
        """Send a ModuleCall, as JSON."""
        return self._client.post(url, body, timeout_s=timeout_s, headers={"traceparent": traceparent})


class RouterClient:
    """What collectors and modules call the router with."""

    def __init__(self, client: FleetClient, *, core_url: str, router_url: str, timeout_s: float) -> None:
        self._client = client
        self._core = core_url.rstrip("/")
        self._router = router_url.rstrip("/")
        self._timeout_s = timeout_s

    def submit_batch(self, events: Sequence[Event]) -> list[Answer]:
        """Hand events over and get an answer for each, in order. Raises: UpstreamError; nothing is known then."""
        body = "[" + ",".join(event.model_dump_json() for event in events) + "]"
        answers = self._post(f"{self._router}/events/batch", body.encode())
        if not isinstance(answers, list) or len(answers) != len(events):
            raise UpstreamRefused(f"The router did not answer each of {len(events)} events.")
        try:
            return [Answer.model_validate(each) for each in answers]
        except ValidationError as err:
            raise UpstreamRefused("The router's answers are not of this contract.") from err

    def register(self, registration: ModuleRegistration) -> None:
        self._post(f"{self._core}/api/modules/register", registration.model_dump_json().encode())

    def heartbeat(self, beat: Heartbeat) -> None:
        self._post(f"{self._core}/api/modules/heartbeat", beat.model_dump_json().encode())

    def respond(self, reply: ModuleReply) -> HTTPResponse:
        """Post the reply to a call that was answered with "not yet". Raises: UpstreamError."""
        return self._client.post(
            f"{self._router}/responses", reply.model_dump_json().encode(), timeout_s=self._timeout_s
        )

    def announce(
        self,
        announcement_id: str,
        responses: Sequence[ModuleResponse],
        *,
        community_id: int | str | None = None,
        entity_id: str | None = None,
        to: Literal["channels", "owner"] = "channels",
    ) -> Announced:
        """Say something unasked, in a community or in one channel, once however often it is called with that id.

        Not in a command's handler, whose transaction is open. Raises: UpstreamError, also for too many in a minute;
        UpstreamRefused where the module is off.
        """
        said = Announcement(
            announcement_id=announcement_id,
            community_id=community_id,
            entity_id=entity_id,
            responses=list(responses),
            to=to,
        )
        body = said.model_dump_json(exclude_none=True).encode()
        return Announced.model_validate(self._post(f"{self._router}/announcements", body))

    def may_say(self, entity_id: str, text: str) -> bool:
        """Whether a text may be said in a channel, by the rules that hold there. Raises: UpstreamError."""
        body = json.dumps({"entity_id": entity_id, "text": text}).encode()
        return bool(self._post(f"{self._router}/string-rules/check", body)["allowed"])

    def change_settings(
        self, community_id: int, changes: Mapping[str, Any], *, account: str, login_id: int | None, own_id: int | None
    ) -> None:
        """Change what is named of a community's settings for this module, in the name of who asked this module.

        Raises: Invalid, in the router's words; UpstreamError.
        """
        acting = {"account": account, "login_id": login_id, "own_id": own_id}
        body = json.dumps({"community_id": community_id, "config": dict(changes), "acting": acting}).encode()
        url = f"{self._router}/module-settings"
        response = self._client.post(url, body, timeout_s=self._timeout_s)
        if response.status == Invalid.http_status:
            error = response.json()["error"]
            raise Invalid(error["message"], **(error["details"] or {}))
        _check_answered(url, response)

    def playback(self, said: Playback) -> None:
        """Tell what became of a track on an overlay. Raises: UpstreamError; UpstreamRefused when it is nobody's."""
        self._post(f"{self._router}/playback", said.model_dump_json().encode())

    def report(self, event: Event) -> dict[str, Any]:
        """Tell of something that happened and that is no chat; the same id again changes nothing.

        Raises: UpstreamError; UpstreamRefused when it is not taken.
        """
        answer: dict[str, Any] = self._post(f"{self._core}/api/events", event.model_dump_json().encode())
        return answer

    def coordinate(self, action: str, request: Wire) -> dict[str, Any]:
        """Ask about claims: `claim`, `heartbeat` and the rest. Raises: UpstreamError; a refusal has its `status`."""
        answer: dict[str, Any] = self._post(
            f"{self._router}/coordination/{action}", request.model_dump_json(exclude_none=True).encode()
        )
        return answer

    def _post(self, url: str, body: bytes) -> Any:
        response = self._client.post(url, body, timeout_s=self._timeout_s)
        _check_answered(url, response)
        return response.json()


def _check_answered(url: str, response: HTTPResponse) -> None:
    """Raises: UpstreamError; UpstreamRefused."""
    if response.status == 200:
        return
    kind = UpstreamRefused if 400 <= response.status < 500 and response.status != 429 else UpstreamError
    raise kind(
        f"{urlsplit(url).path} answered HTTP {response.status}: {response.body[:300].decode(errors='replace')}",
        status=response.status,
    )
