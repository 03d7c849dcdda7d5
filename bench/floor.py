"""The floor of a command's round trip: two bare WSGI apps, the first calling the second, each committing one INSERT.

Same server, same HTTP client, same database and about the same JSON sizes as the fleet, none of its work.
"""

from __future__ import annotations

import json
import os
import threading

import psycopg2
from waddlebot.http import HTTPClient

URL = os.environ["DATABASE_URL"].replace("postgres3:", "postgresql:")
NEXT = os.environ.get("FLOOR_NEXT", "")
# As long as the fleet's own ModuleReply and Answer.
REPLY = {"session_id": "s" * 36, "execution_id": "e" * 36, "responses": ["x" * 80], "padding": "p" * 150}

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
    answer = REPLY
    if NEXT:
        call = json.dumps({**body, "call": "c" * 500}).encode()
        headers = {"Content-Type": "application/json"}
        answer = {"answer": _http.request("POST", NEXT, body=call, headers=headers).json()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
