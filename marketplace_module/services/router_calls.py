"""What the marketplace asks of the router: to keep a version, and to have it in a place."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json
from waddlebot.base.contracts import VersionRegistration
from waddlebot.base.errors import Conflict, Invalid, NotFound, UpstreamError, UpstreamRefused, WaddleBotError
from waddlebot.web.clients import FleetClient
from waddlebot.web.http import HTTPResponse

AT_ONCE = 16
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Where:
    """A whole community, or one of its channels."""

    community_id: int
    entity_id: str | None = None

    @property
    def path(self) -> str:
        if self.entity_id is None:
            return f"/communities/{self.community_id}"
        return f"/entities/{quote(self.entity_id, safe=':')}"


class Refused(Conflict):
    """The router does not take that."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.code = code  # type: ignore[misc] # The router's own.


class RouterCalls:
    """In threads of its own: within one process the router may not be called in the thread of a request."""

    def __init__(self, client: FleetClient, router_url: str) -> None:
        self._client = client
        self._url = router_url
        self._threads = ThreadPoolExecutor(AT_ONCE, "ask-router")

    def register(self, module_id: str, version: str, wanted: VersionRegistration) -> dict[str, Any]:
        """Raises: Refused, Invalid; UpstreamError when nobody knows whether it was done."""
        body = wanted.model_dump(mode="json")
        return self._ask("PUT", f"/modules/{module_id}/versions/{version}", body)

    def choose(self, where: Where, module_id: str, version: str, replaces: Sequence[str], *, enabled: bool) -> None:
        """Have a version in a place from the next line of chat on. Raises: as register."""
        body = {"enabled": enabled, "version": version, "replaces": list(replaces)}
        self._ask("PUT", f"{where.path}/modules/{module_id}", body)

    def switch(self, where: Where, module_id: str, *, enabled: bool) -> None:
        """Raises: as register, and NotFound."""
        self._ask("PUT", f"{where.path}/modules/{module_id}", {"enabled": enabled})

    def configure(self, where: Where, module_id: str, config: dict[str, Any]) -> None:
        self._ask("PUT", f"{where.path}/modules/{module_id}", {"config": config})

    def remove(self, where: Where, module_id: str) -> None:
        """Take a module away; one that is not there is gone. Raises: as register."""
        try:
            self._ask("DELETE", f"{where.path}/modules/{module_id}", None)
        except NotFound:
            return

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        response = self._threads.submit(self._call, method, path, body).result()
        if response.status == 200:
            answer: dict[str, Any] = response.json()
            return answer
        raise _refusal(response)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> HTTPResponse:
        raw = None if body is None else to_json(body)
        return self._client.request(method, f"{self._url}{path}", raw, timeout_s=TIMEOUT_S, headers={})


def _refusal(response: HTTPResponse) -> WaddleBotError:
    try:
        error = response.json()["error"]
        code, message, details = str(error["code"]), str(error["message"]), dict(error.get("details") or {})
    except (ValueError, KeyError, TypeError):
        return UpstreamError(f"The router answered HTTP {response.status}.")
    if response.status == 409:
        return Refused(code, message, **details)
    if response.status == 404:
        return NotFound(message)
    if response.status == 422:
        return Invalid(message, **details)
    kind = UpstreamRefused if response.status < 500 and response.status != 429 else UpstreamError
    return kind(f"The router answered HTTP {response.status}: {message}")
