"""Calling the other modules for somebody in the portal: each call is signed for one person, one right and one request
(contracts §4), so that the module decides and its audit log knows who it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, unquote, urlencode

from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import ConfigError, NotAllowed, UpstreamError, UserError
from waddlebot.base.manifest import Area, Right
from waddlebot.data.cache import Cache
from waddlebot.data.database import Database
from waddlebot.web.actor import HEADER, ActorKey, actor_within, sign_actor
from waddlebot.web.clients import FleetClient, is_within
from waddlebot.web.http import HTTPResponse
from waddlebot.web.signin import Login

from .seats import Seat

Answer = Callable[[], dict[str, Any]]
TIMEOUT_S = 15.0
BASES_KEPT_S = 30


class FleetRefused(UserError):
    """The module did not take it. Nothing was changed."""

    code = "fleet_refused"

    def __init__(self, message: str, status: int, code: str, details: Mapping[str, Any]) -> None:
        super().__init__(message, **details)
        self.reason = code
        self.http_status = status  # type: ignore[misc]

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with which fields of the request, if it is fields."""
        listed = self.details.get("fields") or []
        found = {str(each["field"]): f"{each['problem']}." for each in listed}
        return found or ({str(self.details["field"]): self.message} if self.details.get("field") else {})


class NotServed(UpstreamError):
    """No module of this fleet serves that."""

    code = "not_served"


class FleetAPI:
    def __init__(
        self,
        database: Database,
        client: FleetClient,
        key: ActorKey | None,
        bases: Cache[str, str],
        *,
        core: str,
        broker: str | None,
        at_once: int,
    ) -> None:
        self._db = database
        self._client = client
        self._key = key
        self._bases = bases
        core, broker = core.rstrip("/"), (broker or "").rstrip("/")
        # Those that do not register as modules.
        self._known = {"/router": core, "/api": core, "/broker": broker}
        # The web framework keeps the request in its thread, so a call within the process needs another one.
        self._threads = ThreadPoolExecutor(at_once, "fleet-call")

    def ask(
        self,
        seat: Seat,
        area: Area,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make one call for somebody, with the right that they have in that area.

        Raises: FleetRefused with the module's own words; UpstreamError; NotAllowed without any right there.
        """
        return self._ask(_actor(seat, area), method, path, body, query=query, headers=headers)

    def begin(self, seat: Seat, area: Area, path: str, query: Mapping[str, Any] | None = None) -> Answer:
        """Begin to read something for somebody; what is returned waits for it. A page asks for all that it needs and
        then waits, so that it takes as long as the slowest.

        Raises: as `ask`, here or from what is returned.
        """
        sent = self._send(_actor(seat, area), "GET", path, None, query=query)
        return lambda: _read(sent.result())

    def ask_as_operator(self, login: Login, area: Area, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Make one call about the whole fleet. Raises: as `ask`."""
        if not login.more["is_operator"]:
            raise NotAllowed("Only who runs this fleet may do that.")
        own_id = login.more["waddlebot_user_id"]
        actor = {"login_id": login.id, "own_id": own_id, "community_id": None, "right": "operator", "area": area}
        return self._ask(actor, method, path, body)

    def ask_as_portal(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Any]:
        """Make one call for the portal itself, which no right of anybody's is needed for. Raises: as `ask`."""
        url = self._base_of(path) + path + (f"?{urlencode(query)}" if query else "")
        raw = None if body is None else json.dumps(body).encode()
        return _read(self._threads.submit(self._call, method, url, raw, {}, timeout_s).result())

    def ask_as(
        self,
        call: ModuleCall,
        community_id: int,
        right: Right,
        area: Area,
        method: str,
        path: str,
        body: Any = None,
    ) -> dict[str, Any]:
        """Make one call for whoever said something in chat, who was found to have that right.

        Raises: as `ask`.
        """
        own_id = call.user.own_id
        actor = {"login_id": "chat", "own_id": own_id, "community_id": community_id, "right": right, "area": area}
        return self._ask(actor, method, path, body)

    def ask_signed(
        self,
        actor: Mapping[str, Any],
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Any]:
        """Make one call as an actor whose right the caller has looked at.

        Raises: as `ask`.
        """
        return self._ask(actor, method, path, body, query=query, headers=headers, timeout_s=timeout_s)

    def _ask(
        self,
        actor: Mapping[str, Any],
        method: str,
        path: str,
        body: Any,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Any]:
        return _read(self._send(actor, method, path, body, query=query, headers=headers, timeout_s=timeout_s).result())

    def _send(
        self,
        actor: Mapping[str, Any],
        method: str,
        path: str,
        body: Any,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Future[HTTPResponse]:
        if self._key is None:
            raise ConfigError("The portal needs WADDLEBOT_ACTOR_KEY, the private half.")
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body, default=str).encode()
        said = {name: value for name, value in (query or {}).items() if value is not None}
        url = self._base_of(path) + path + (f"?{urlencode(said)}" if said else "")
        about: Any = {"method": method, "path": unquote(path), **actor}
        if is_within(url):
            return self._threads.submit(self._call, method, url, raw, headers or {}, timeout_s, actor_within(**about))
        sent = {HEADER: sign_actor(self._key, **about), **(headers or {})}
        return self._threads.submit(self._call, method, url, raw, sent, timeout_s)

    def _call(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        within: Mapping[str, Any] | None = None,
    ) -> HTTPResponse:
        return self._client.request(method, url, body, timeout_s=timeout_s, headers=headers, within=within)

    def _base_of(self, path: str) -> str:
        """Where the module is that serves a path: the core, or as it has registered."""
        prefix = "/" + path.lstrip("/").partition("/")[0]
        base = self._known.get(prefix)
        if base is None:
            base = self._bases.get(prefix, lambda _fresh: self._find_base(prefix))
        if not base:
            raise NotServed(f"Nobody serves {prefix} at the moment.")
        return base

    def _find_base(self, prefix: str) -> str:
        rows = self._db.statement(
            "SELECT substring(endpoint_url FROM '^[a-z]+://[^/]+') AS base FROM collector_modules"
            " WHERE endpoint_url ~ ('^[a-z]+://[^/]+' || %(prefix)s || '(/|$)')"
            # Collectors register without a path: they are at home under their name.
            "  OR '/' || module_name = %(prefix)s AND endpoint_url ~ '^[a-z]+://[^/]+/?$'"
            " ORDER BY last_heartbeat DESC LIMIT 1",
            {"prefix": prefix},
        )
        return str(rows[0]["base"]) if rows else ""


def _actor(seat: Seat, area: Area) -> dict[str, Any]:
    """Raises: NotAllowed without any right there."""
    seat.check(area)
    return {
        "login_id": seat.login.id,
        "own_id": seat.login.more["waddlebot_user_id"],
        "community_id": seat.community_id,
        "right": seat.right(area),
        "area": area,
    }


def quoted(text: object) -> str:
    """A part of a path."""
    return quote(str(text), safe="")


def _read(response: HTTPResponse) -> dict[str, Any]:
    try:
        answer = response.json()
        error = answer.get("error") or {}
    except (ValueError, AttributeError) as err:
        raise UpstreamError(f"A module answered HTTP {response.status}.") from err
    if response.status < 300:
        return dict(answer)
    if response.status >= 500 and response.status != 503:
        raise UpstreamError(f"A module failed: {error.get('message', response.status)} Nothing was changed.")
    raise FleetRefused(
        error.get("message", "That was refused."), response.status, error.get("code", ""), error.get("details") or {}
    )
