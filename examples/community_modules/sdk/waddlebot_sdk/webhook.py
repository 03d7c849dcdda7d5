"""As a webhook: `python -m waddlebot_sdk.webhook --port 8080`, or `app` for a WSGI server behind https.

WADDLEBOT_WEBHOOK_SECRET is what WaddleBot told once, when the module was registered. What is not signed with it, or
was signed more than five minutes ago, is refused; what comes again gets the answer that it got, and is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from .context import Context, request
from .handlers import Handler, load_handler

FRESH_S = 300
MAX_BODY_BYTES = 1024 * 1024
# Answers that are kept for what comes again.
KEPT = 1000

Answer = tuple[int, Any]


class Webhook:
    """A WSGI application around a handler."""

    def __init__(self, handler: Handler | None = None, *, secret: str | None = None) -> None:
        self._handler = handler
        self._secret = secret
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Future[Any]] = OrderedDict()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, answer = self._answer(environ)
        body = json.dumps(answer).encode()
        words = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 405: "Method Not Allowed", 413: "Too Large"}
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {words.get(status, 'Internal Server Error')}", fields)
        return [body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        if environ["REQUEST_METHOD"] != "POST":
            return 405, {"error": "POST only"}
        size = environ.get("CONTENT_LENGTH") or "0"
        if not size.isdigit() or int(size) > MAX_BODY_BYTES:
            return 413, {"error": "too large"}
        body = environ["wsgi.input"].read(int(size))
        timestamp, signature = (
            environ.get("HTTP_X_WADDLEBOT_TIMESTAMP", ""),
            environ.get("HTTP_X_WADDLEBOT_SIGNATURE", ""),
        )
        if not is_signed(self._secret or os.environ["WADDLEBOT_WEBHOOK_SECRET"], timestamp, body, signature):
            return 401, {"error": "not signed by WaddleBot, or too old"}
        try:
            event = json.loads(body)
            key = str(event["execution_id"])
        except (ValueError, TypeError, KeyError):
            return 400, {"error": "not a call"}
        return self._first_answer(key, event).result()

    def _first_answer(self, key: str, event: dict[str, Any]) -> Future[Answer]:
        """What the first call with this id is answered; it is begun once."""
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                return known
            first: Future[Answer] = Future()
            self._known[key] = first
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        threading.Thread(target=self._run, args=(event, first), daemon=True).start()
        return first

    def _run(self, event: dict[str, Any], first: Future[Answer]) -> None:
        """Call the handler. What it returns is the answer, or is posted if it said that it takes longer."""
        handler = self._handler or load_handler()
        ids = {"session_id": event.get("session_id"), "execution_id": event.get("execution_id")}
        ids["module_name"] = handler.module_name

        def later(seconds: float) -> None:
            if not first.done():
                first.set_result((200, {**ids, "success": True, "later_s": seconds}))

        try:
            reply = handler(event, Context(event, later=later))
        except Exception as err:  # noqa: BLE001 - whatever the handler raises is its failure
            print(f"{type(err).__name__}: {err}", file=sys.stderr)
            reply = {**ids, "success": False, "error_message": "It failed."}
        if not first.done():
            first.set_result((200, reply))
            return
        callback = event.get("callback") or {}
        request("POST", callback["responses_url"], callback["token"], reply)


def is_signed(secret: str, timestamp: str, body: bytes, signature: str) -> bool:
    """Whether WaddleBot sent this body within the last five minutes."""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(time.time() - int(timestamp[:12])) > FRESH_S:
        return False
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={digest}".encode(), signature.encode())


app = Webhook()


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer WaddleBot's webhooks with a handler.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    load_handler()
    with make_server(given.host, given.port, app, server_class=Server, handler_class=Quiet) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
