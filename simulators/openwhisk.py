"""A local Apache OpenWhisk on loopback: its REST API for invoking actions, with its records, words and statuses.

    with OpenWhiskSimulator() as whisk:
        whisk.add("weather", lambda params: {"greeting": f"hello {params['name']}"})
        whisk.settings()  # the OPENWHISK_* environment of a router

An action is a Python function from a dictionary to a dictionary, run in a thread. What it returns with the key `error`
is an application error; what it raises, or what is no dictionary, is a developer error.
"""

from __future__ import annotations

import argparse
import base64
import re
import runpy
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .server import LoopbackServer, Reply, Request

AUTH_KEY = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:simulated-openwhisk-key"
NAMESPACE = "waddlebot"
MAX_BODY_BYTES = 1024 * 1024
# How long a blocking call waits before it is answered with 202 (the platform's default).
BLOCKING_WAIT_S = 60.0
INVOKE = re.compile(r"/api/v1/namespaces/([^/]+)/actions/(.+)")
ACTIVATION = re.compile(r"/api/v1/namespaces/([^/]+)/activations/([^/]+)(?:/(result|logs))?")
LISTS = re.compile(r"/api/v1/namespaces/([^/]+)/(activations|actions)")
MAX_LISTED = 200
WORDS = {
    401: "The supplied authentication is invalid.",
    403: "The supplied authentication is not authorized to access this resource.",
    404: "The requested resource does not exist.",
    408: "The request timed out.",
    413: "Request larger than allowed.",
    429: "Too many requests in the last minute (count: 61, allowed: 60).",
    500: "There was an internal server error.",
    502: "<html><body>502 Bad Gateway</body></html>",
    503: "The service is temporarily unavailable.",
}

Action = Callable[[dict[str, Any]], Any]


@dataclass(slots=True)
class Run:
    """One activation."""

    action: str
    params: dict[str, Any]
    activation_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: float = field(default_factory=time.time)
    response: dict[str, Any] | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def record(self) -> dict[str, Any]:
        start, end = int(self.started_at * 1000), int(time.time() * 1000)
        return {
            "activationId": self.activation_id,
            "annotations": [{"key": "path", "value": f"{NAMESPACE}/{self.action}"}],
            "duration": end - start,
            "end": end,
            "logs": [],
            "name": self.action.rpartition("/")[2],
            "namespace": NAMESPACE,
            "publish": False,
            "response": self.response,
            "start": start,
            "subject": NAMESPACE,
            "version": "0.0.1",
        }


class OpenWhiskSimulator:
    """`runs` are the activations in order; `fail_next` breaks what comes."""

    def __init__(self, *, port: int = 0, auth_key: str = AUTH_KEY, blocking_wait_s: float = BLOCKING_WAIT_S) -> None:
        self.auth_key = auth_key
        self.blocking_wait_s = blocking_wait_s
        self.runs: list[Run] = []
        self._actions: dict[str, Action] = {}
        self._faults: list[int | str] = []
        self._port = port
        self._server: LoopbackServer | None = None

    def start(self) -> Self:
        self._server = LoopbackServer(self._answer, port=self._port)
        return self

    def stop(self) -> None:
        if self._server:
            self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        assert self._server, "start it first"
        return self._server.url

    def settings(self) -> dict[str, str]:
        """The environment that points a router here."""
        return {
            "OPENWHISK_API_HOST": self.url,
            "OPENWHISK_AUTH_KEY": self.auth_key,
            "OPENWHISK_NAMESPACE": NAMESPACE,
        }

    def add(self, name: str, action: Action) -> None:
        """Offer an action, as `name` or `package/name`."""
        self._actions[name] = action

    def fail_next(self, kind: int | str, times: int = 1) -> None:
        """Let the next invocations end with this status without a run, run and then `hang up`, or be an
        `internal error` of the platform."""
        self._faults += [kind] * times

    def reset(self) -> None:
        self.runs.clear()
        self._faults.clear()
        self.blocking_wait_s = BLOCKING_WAIT_S

    def _answer(self, request: Request) -> Reply:
        expected = "Basic " + base64.b64encode(self.auth_key.encode()).decode()
        if request.headers.get("authorization") != expected:
            return _refusal(401)
        invoked = INVOKE.fullmatch(request.path)
        if invoked and request.method == "POST":
            return self._invoke(request, invoked[1], invoked[2])
        asked = ACTIVATION.fullmatch(request.path)
        if asked and request.method == "GET":
            run = next((each for each in self.runs if each.activation_id == asked[2]), None)
            return Reply(200, _part(run.record(), asked[3])) if run and run.ended.is_set() else _refusal(404)
        listed = LISTS.fullmatch(request.path)
        if listed and request.method == "GET":
            return self._list(request, listed[2])
        return _refusal(404)

    def _list(self, request: Request, what: str) -> Reply:
        """The newest activations first, or all actions."""
        if what == "actions":
            rows = [
                {"name": name.rpartition("/")[2], "namespace": f"{NAMESPACE}/{package}".rstrip("/"), "version": "0.0.1"}
                for name in self._actions
                for package in [name.rpartition("/")[0]]
            ]
        else:
            name = request.query.get("name")
            ended = [each for each in reversed(self.runs) if each.ended.is_set() and name in (None, each.action)]
            rows = [each.record() for each in ended]
            if request.query.get("docs") != "true":
                rows = [{key: row[key] for key in row if key not in ("response", "logs")} for row in rows]
        skip, limit = int(request.query.get("skip") or 0), int(request.query.get("limit") or 30)
        return Reply(200, rows[skip : skip + min(limit, MAX_LISTED)])

    def _invoke(self, request: Request, namespace: str, name: str) -> Reply:
        fault = self._faults.pop(0) if self._faults else None
        if isinstance(fault, int):
            return _refusal(fault)
        if namespace not in (NAMESPACE, "_"):
            return _refusal(403)
        if len(request.body) > MAX_BODY_BYTES:
            return _refusal(413)
        action = self._actions.get(name)
        if action is None:
            return _refusal(404)
        run = Run(name, request.json())
        self.runs.append(run)
        threading.Thread(target=_perform, args=(action, run, fault == "internal error"), daemon=True).start()
        if request.query.get("blocking") != "true" or not run.ended.wait(self.blocking_wait_s):
            return Reply(202, {"activationId": run.activation_id})
        if fault == "hang up":
            return Reply(0, hangs_up=True)
        assert run.response is not None
        status = {"success": 200, "whisk internal error": 500}.get(run.response["status"], 502)
        return Reply(status, run.response["result"] if request.query.get("result") == "true" else run.record())


def _part(record: dict[str, Any], which: str | None) -> dict[str, Any]:
    if which == "logs":
        return {"logs": record["logs"]}
    return dict(record["response"]) if which == "result" else record


def _perform(action: Action, run: Run, is_broken: bool) -> None:
    status, result = "success", None
    try:
        result = action(run.params)
    except Exception as err:  # noqa: BLE001 - whatever an action raises is its developer's error
        status, result = "action developer error", {"error": f"An error has occurred: {err}"}
    if status == "success" and not isinstance(result, dict):
        status, result = "action developer error", {"error": "The action did not return a dictionary."}
    elif status == "success" and "error" in result:
        status = "application error"
    if is_broken:
        status, result = "whisk internal error", {"error": WORDS[500]}
    run.response = {"result": result, "status": status, "success": status == "success", "size": 0}
    run.ended.set()


def _refusal(status: int) -> Reply:
    words = WORDS.get(status, "Simulated.")
    if words.startswith("<"):  # A proxy's words, not OpenWhisk's.
        return Reply(status, words.encode(), {"Content-Type": "text/html"})
    return Reply(status, {"code": uuid.uuid4().hex, "error": words})


def main() -> None:
    parser = argparse.ArgumentParser(description="A local OpenWhisk on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--actions", type=Path, required=True, help="folder of Python files with main(params)")
    given = parser.parse_args()
    with OpenWhiskSimulator(port=given.port) as simulator:
        for path in sorted(given.actions.glob("*.py")):
            simulator.add(path.stem, runpy.run_path(str(path))["main"])
        for name, value in simulator.settings().items():
            print(f"{name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
