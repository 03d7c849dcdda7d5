"""What a handler can do beside answering: remember things, and take longer."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

TIMEOUT_S = 5.0


class StateError(RuntimeError):
    """State cannot be read or kept; the words are WaddleBot's."""


class State:
    """A small store of this module's in the community of the call: at most 100 keys of at most 8 KB of JSON.

    The module has to ask for the permission `state`. In a simulated call nothing is changed. All methods raise
    StateError.
    """

    def __init__(self, callback: dict[str, Any] | None, *, is_simulated: bool = False) -> None:
        self._callback = callback or {}
        self._is_simulated = is_simulated

    def get(self, key: str, default: Any = None) -> Any:
        value = self._ask("GET", key).get("value")
        return default if value is None else value

    def put(self, key: str, value: Any) -> None:
        if not self._is_simulated:
            self._ask("PUT", key, {"value": value})

    def delete(self, key: str) -> None:
        if not self._is_simulated:
            self._ask("DELETE", key)

    def _ask(self, method: str, key: str, body: Any = None) -> dict[str, Any]:
        url = self._callback.get("state_url")
        if not url:
            raise StateError("This call has no state.")
        try:
            answer = request(method, f"{url.rstrip('/')}/{quote(key, safe='')}", self._callback["token"], body)
        except urllib.error.HTTPError as err:
            if err.code == 404 and method != "PUT":
                return {}
            raise StateError(f"State answered HTTP {err.code}.") from err
        except OSError as err:
            raise StateError("State is not reached.") from err
        return answer if isinstance(answer, dict) else {}


class Context:
    """What a handler gets as its second argument. What the platform's own context has is there, too."""

    def __init__(
        self, event: dict[str, Any], *, native: Any = None, later: Callable[[float], None] | None = None
    ) -> None:
        self.state = State(event.get("callback"), is_simulated=event.get("mode") == "simulate")
        self.aws_request_id = str(event.get("execution_id", ""))
        self._deadline = event.get("deadline")
        self._native = native
        self._later = later

    def reply_later(self, seconds: float) -> None:
        """Say that the answer takes up to so many seconds, 300 at most. The handler goes on and returns that answer.

        The module has to ask for the permission `reply_later`. On Lambda and OpenWhisk nothing happens, because there
        WaddleBot waits for as long as the command's timeout is.
        """
        if self._later is not None:
            self._later(seconds)

    def get_remaining_time_in_millis(self) -> int:
        if self._native is not None and hasattr(self._native, "get_remaining_time_in_millis"):
            return int(self._native.get_remaining_time_in_millis())
        if not isinstance(self._deadline, str):
            return 0
        return max(0, int((datetime.fromisoformat(self._deadline).timestamp() - time.time()) * 1000))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_native"], name)


def request(method: str, url: str, token: str, body: Any = None) -> Any:
    """Ask WaddleBot with the token of a call. Raises: OSError, of which urllib.error.HTTPError is one."""
    sent = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = urllib.request.Request(url, data=sent, headers=headers, method=method)
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
        text = answer.read()
    return json.loads(text) if text else None
