"""What the tests of overlays are written with: a hub's process, a page's socket, a community's overlays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import psycopg2
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.fleet.embedded import DATABASE
from waddlebot.testing.fleet import Bot, Fleet, Stack
from waddlebot.testing.plugin import eventually
from websockets.sync.client import ClientConnection, connect


class HubProcess:
    """A hub as it runs in a fleet: a process of its own, on the fleet's Redis and database."""

    def __init__(self, **settings: str) -> None:
        self.environment = {**os.environ, "WADDLEBOT_MODULES": "browser_source_core_module", "LOG_ROLE": "hub"}
        self.environment |= settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.environment['WEBSOCKET_PORT']}"

    def start(self) -> HubProcess:
        self.process = subprocess.Popen([sys.executable, "-m", "waddlebot.fleet.serve", "hub"], env=self.environment)
        eventually(lambda: self.answers() or self.process.poll() is not None, within_s=60)
        assert self.process.poll() is None, "the hub does not start"
        return self

    def answers(self) -> bool:
        try:
            return bool(self.health()["success"])
        except OSError:
            return False

    def health(self) -> dict[str, Any]:
        with urlopen(self.url.replace("ws:", "http:") + "/healthz", timeout=2) as answer:
            return json.load(answer)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(15)

    def restart(self, number: int = signal.SIGTERM) -> None:
        self.end(number)
        self.start()


@dataclass
class Socket:
    """A page as the hub sees it."""

    connection: ClientConnection
    frames: list[dict[str, Any]] = field(default_factory=list)

    def receive(self, kind: str = "item", *, within_s: float = 20) -> dict[str, Any]:
        """The next frame of that kind."""
        while True:
            frame = json.loads(self.connection.recv(timeout=within_s))
            self.frames.append(frame)
            if frame["type"] == kind:
                return frame

    def receive_until_pong(self) -> list[dict[str, Any]]:
        """Everything that was on its way before the answer to a ping."""
        before = len(self.frames)
        self.send(type="ping")
        self.receive("pong")
        return self.frames[before:-1]

    def send(self, **frame: Any) -> None:
        self.connection.send(json.dumps(frame))

    def hello(self, last_seq: int = 0, **more: Any) -> Socket:
        self.receive("hello")
        self.send(type="hello", last_seq=last_seq, **more)
        return self

    def ack(self, seq: int, state: str) -> None:
        self.send(type="ack", seq=seq, state=state)

    def close(self) -> None:
        self.connection.close()


@dataclass
class Overlay:
    """One community's overlays."""

    bot: Bot
    hub: HubProcess | None = None
    open_sockets: ExitStack = field(default_factory=ExitStack)

    @property
    def fleet(self) -> Fleet:
        return self.bot.fleet

    def tokens(self) -> dict[str, dict[str, Any]]:
        made = self.fleet.request("POST", "/browser/source/admin/tokens", {"community_id": self.bot.slug})
        assert made.status == 200, made.body
        return made.json()["tokens"]

    def display(self, action: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.try_display(action, data, **more)
        assert answer.status == 200, answer.body
        return answer.json()

    def try_display(self, action: str, data: dict[str, Any], *, key: str = "router", **more: Any) -> Any:
        body = {
            "item_id": new_id(),
            "session_id": new_id(),
            "community_id": self.bot.community_id,
            "source_type": "general" if action == "form" else action,
            "response_action": action,
            "response_data": data,
            "mode": "live",
            **more,
        }
        return self.fleet.request("POST", "/browser/source/display", body, key=key)

    def ticker(self, text: str, **data: Any) -> int:
        return self.display("ticker", {"text": text, **data})["seq"]

    def alert(self, text: str, **data: Any) -> int:
        return self.display("general", {"kind": "alert", "text": text, "display_s": 5, **data})["seq"]

    def control(self, action: str, source_type: str = "ticker", **more: Any) -> dict[str, Any]:
        body = {"community_id": self.bot.community_id, "source_type": source_type, "action": action, **more}
        answer = self.fleet.request("POST", "/browser/source/admin/queue", body)
        assert answer.status == 200, answer.body
        return answer.json()

    def connect(self, source_type: str = "ticker", token: str | None = None, hub: HubProcess | None = None) -> Socket:
        where = hub or self.hub
        assert where is not None
        token = token or self.tokens()[source_type]["token"]
        connection = connect(f"{where.url}/ws/{token}/{source_type}", compression=None, open_timeout=10)
        return Socket(self.open_sockets.enter_context(connection))

    def rows(self, source_type: str = "ticker") -> list[dict[str, Any]]:
        with self.fleet.database.transaction() as db:
            return fetch(
                db,
                "SELECT * FROM browser_source_history WHERE community_id = %s AND source_type = %s ORDER BY seq",
                (self.bot.community_id, source_type),
            )

    def states(self, source_type: str = "ticker") -> list[str]:
        return [row["state"] for row in self.rows(source_type)]

    def stats(self, source_type: str, **query: str) -> dict[str, Any]:
        asked = {"community_id": self.bot.community_id, **query}
        answer = self.fleet.request("GET", "/browser/source/stats", query=asked)
        return next(each for each in answer.json()["sources"] if each["source_type"] == source_type)


@contextmanager
def redis_away(stack: Stack) -> Iterator[None]:
    """Redis is killed, and started again at the end."""
    stack.valkey.stop()
    try:
        yield
    finally:
        stack.valkey.start()


@contextmanager
def database_away(stack: Stack) -> Iterator[None]:
    """Every connection to the database is cut, and none is taken until the end."""
    connection = psycopg2.connect(stack.postgres.url.removesuffix(DATABASE) + "postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (DATABASE,))
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")
            connection.close()
