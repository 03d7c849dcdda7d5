"""What the local host asks of the fleet for a module: its state, and to take a late answer.

It is asked with the token that came with the execution, so a module reaches no further than that does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from ..base.errors import WaddleBotError
from ..base.logs import AAALog
from ..web.http import HTTPClient, HTTPResponse
from .worker import Call, Outcome

TIMEOUT_S = 5.0
MAX_KEY_CHARS = 200
THREADS = 16


class FleetOutside:
    def __init__(self, log: AAALog) -> None:
        self._http = HTTPClient()
        self._log = log
        # Its own, because those of the loop may all wait for a name that a module's author has look up for ever.
        self._threads = ThreadPoolExecutor(THREADS, "fleet")

    async def ask_state(self, call: Call, request: dict[str, Any]) -> dict[str, Any]:
        """Answer `context.state`: `{"value": …}` or `{"error": words}`."""
        callback = call.event.get("callback")
        key, op = request.get("key"), request.get("op")
        if not isinstance(callback, dict) or not callback.get("state_url"):
            return {"error": "This call has no state."}
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS or op not in ("get", "put", "delete"):
            return {"error": f"A key of state is a text of at most {MAX_KEY_CHARS} characters."}
        if op != "get" and call.event.get("mode") == "simulate":
            return {"value": None}  # Nothing is changed then.
        body = to_json({"value": request.get("value")}) if op == "put" else None
        url = f"{callback['state_url'].rstrip('/')}/{quote(key, safe='')}"
        try:
            answer = await self._in_thread(self._ask, op.upper(), url, str(callback.get("token")), body)
            if answer.status == 404 and op != "put":
                return {"value": None}
            told = answer.json() if answer.body else {}
        except WaddleBotError as err:
            return {"error": f"State is not reached: {err.message}"}
        if answer.status >= 300:
            return {"error": str(told.get("error", {}).get("message", f"HTTP {answer.status}"))}
        return {"value": told.get("value") if op == "get" else None}

    async def answer_late(self, call: Call, outcome: Outcome) -> None:
        """Post what came of a call that was answered with "later"."""
        callback = call.event.get("callback")
        if not isinstance(callback, dict):
            return
        body = outcome.body
        if outcome.failed:
            ids = {name: call.event.get(name) for name in ("session_id", "execution_id")}
            name = call.module_name
            body = to_json({**ids, "module_name": name, "success": False, "error_message": "It failed."})
        try:
            url, token = str(callback["responses_url"]), str(callback.get("token"))
            answer = await self._in_thread(self._ask, "POST", url, token, body)
            if answer.status != 200:
                self._log.error("late_answer_refused", status=answer.status)
        except (WaddleBotError, KeyError) as err:
            self._log.error("late_answer_lost", error=str(err))

    async def _in_thread(self, call: Callable[..., HTTPResponse], *arguments: Any) -> HTTPResponse:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _ask(self, method: str, url: str, token: str, body: bytes | None) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self._http.request(method, url, body=body, headers=headers, timeout_s=TIMEOUT_S)
