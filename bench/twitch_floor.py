"""The floor of Twitch's webhook: a bare WSGI app that verifies the signature and commits one row. Nothing else."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading

import psycopg2

URL = os.environ["DATABASE_URL"].replace("postgres3:", "postgresql:")
SECRET = os.environ["TWITCH_WEBHOOK_SECRET"].encode()
HEADER = "HTTP_TWITCH_EVENTSUB_MESSAGE_"

_local = threading.local()


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    delivery_id = environ.get(f"{HEADER}ID", "")
    signed = (delivery_id + environ.get(f"{HEADER}TIMESTAMP", "")).encode() + body
    expected = "sha256=" + hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, environ.get(f"{HEADER}SIGNATURE", "")):
        start_response("403 Forbidden", [])
        return [b""]
    connection = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = psycopg2.connect(URL)
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO floor_rows (id, body) VALUES (%s, %s)", (delivery_id, body.decode()))
    start_response("204 No Content", [])
    return []
