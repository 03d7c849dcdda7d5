"""The floor of a command's round trip: two bare WSGI apps, the first calling the second, each committing one INSERT.

Same server, same HTTP client, same database and about the same JSON sizes as the fleet, none of its work.
"""

from __future__ import annotations

import json
import os
import threading

import psycopg2
from waddlebot.web.http import HTTPClient

URL = os.environ["DATABASE_URL"].replace("postgres3:", "postgresql:")
NEXT = os.environ.get("FLOOR_NEXT", "")
# How long the fleet's own ModuleCall, ModuleReply and Answer are for the same command.
CALL_BYTES, REPLY_BYTES, ANSWER_BYTES = (int(n) for n in os.environ.get("FLOOR_BYTES", "1000,400,800").split(","))

_local = threading.local()
_http = HTTPClient()


def commit_row(text: str) -> None:
    connection = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = psycopg2.connect(URL)
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO floor_rows (body) VALUES (%s)", (text,))


def app(environ, start_response):
    body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    commit_row(json.dumps(body))
    answer = sized({"success": True}, REPLY_BYTES)
    if NEXT:
        call = json.dumps(sized(body, CALL_BYTES)).encode()
        reply = _http.request("POST", NEXT, body=call, headers={"Content-Type": "application/json"}).json()
        answer = sized({"answer": reply}, ANSWER_BYTES)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def sized(value, size):
    """The value with as much padding as makes its JSON so long, in fields of the usual length."""
    missing = max(0, size - len(json.dumps(value)))
    return {**value, **{f"padding_{n}": "p" * 36 for n in range(missing // 52)}}
