"""A fleet in the test's own process: real PostgreSQL and Valkey, the modules' WSGI app, and chat through its API."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ..base.chat import NEUTRAL
from ..base.contracts import CONSOLE
from ..base.ids import new_id
from ..base.logs import configure_logging
from ..base.manifest import Area, Right, all_manifests
from ..base.settings import Settings
from ..community.communities import ensure_community
from ..data.database import Database
from ..data.migrate import migrate
from ..data.roles import ensure_owner
from ..fleet.embedded import PostgresServer, ValkeyServer, free_port
from ..fleet.home import make_encryption_key
from ..web.actor import HEADER, ActorKey, sign_actor
from ..web.auth import NewKey, create_account
from ..web.clients import call_wsgi, set_own_app
from ..web.http import HTTPResponse

URL = "http://waddlebot.test"
# What the simulated payment provider signs with.
PAYMENTS = "whsec_test"
ANSWER_WITHIN_S = 10.0
# Tests survive a crash of nothing, so they need not wait for the disk.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(slots=True)
class Stack:
    """The servers behind a fleet, empty but for the schema."""

    postgres: PostgresServer
    valkey: ValkeyServer

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Stack]:
        postgres = PostgresServer(folder / "postgres", new_id(), FAST, owner_password=new_id())
        stack = cls(postgres, ValkeyServer(folder / "valkey", new_id()))
        try:
            stack.postgres.start()
            stack.valkey.start()
            ensure_owner(stack.postgres.url, stack.postgres.owner_url)
            migrate(stack.postgres.owner_url, post=True)
            yield stack
        finally:
            stack.valkey.stop()
            stack.postgres.stop()

    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.postgres.owner_url, **self.valkey.environment("web")}


@dataclass(slots=True)
class Fleet:
    """The modules of this checkout in one WSGI app, and the keys of their accounts."""

    app: Any
    database: Database
    stack: Stack
    keys: dict[str, str] = field(default_factory=dict)
    # Both halves: tests sign for people as the portal does.
    actor_key: ActorKey = field(default_factory=ActorKey.make)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "console",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> HTTPResponse:
        """Make a request with an account's key (by the account's name, or the key itself, or None for no key)."""
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("X-API-Key", self.keys.get(key, key))
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        url = URL + path + (f"?{urlencode(query)}" if query else "")
        return call_wsgi(self.app, method, url, body=raw, headers=sent)

    def request_for(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        community_id: int | None,
        right: Right = "owner",
        area: Area = "bot",
        key: str = "portal",
        query: Mapping[str, Any] | None = None,
    ) -> HTTPResponse:
        """Make a request as the portal does for somebody who has that right there."""
        actor = sign_actor(
            self.actor_key,
            login_id=1,
            community_id=community_id,
            right=right,
            area=area,
            method=method,
            path=path,
        )
        return self.request(method, path, body, key=key, headers={HEADER: actor}, query=query)

    def make_key(self, name: str, group: str, **options: Any) -> str:
        """Add an account and return its key."""
        with self.database.transaction() as db:
            made: NewKey = create_account(db, name=name, groups=[group], **options)
        return made.api_key

    def tables_with(self, text: str) -> list[str]:
        """The tables, of all, that have a text in them."""
        known = self.database.statement(
            "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        )
        count = 'SELECT count(*) AS n FROM "{}" t WHERE strpos(t::text, %s) > 0'
        return [each["name"] for each in known if self.database.statement(count.format(each["name"]), (text,))[0]["n"]]

    def bot(self, community: str | None = None) -> Bot:
        """Somebody to talk to, in a community of its own unless one is named."""
        slug = community or "t" + new_id().replace("-", "")
        with self.database.transaction() as db:
            community_id = ensure_community(db, slug, slug)
        return Bot(self, slug, community_id)


@dataclass(slots=True)
class Heard:
    """What came back for one line of chat."""

    answer: dict[str, Any]

    @property
    def chat(self) -> str:
        """Everything that was said, a line each."""
        said = (each for each in self.answer["responses"] if each["response_action"] == "chat")
        return "\n".join(each["response_data"]["message"].removeprefix(NEUTRAL) for each in said)

    @property
    def statuses(self) -> list[str]:
        return [each["status"] for each in self.answer["executions"]]

    @property
    def session_id(self) -> str:
        return str(self.answer["session_id"])


@dataclass(slots=True)
class Bot:
    """A community's console, as a collector sees it."""

    fleet: Fleet
    slug: str
    community_id: int

    def event(self, text: str, *, by: str = "alice", level: str = "member", channel: str = "general") -> dict[str, Any]:
        return {
            "event_id": new_id(),
            "message_type": "chatMessage",
            "platform": CONSOLE,
            "server_id": self.slug,
            "channel_id": channel,
            "user": {"platform_user_id": by, "name": by, "display_name": by.title(), "badges": [level]},
            "message": text,
        }

    def say(
        self, text: str, *, by: str = "alice", level: str = "member", channel: str = "general", **more: Any
    ) -> Heard:
        """Say something in the community's chat and hear what the bot answers, however busy the machine is.

        What must be `pending` is asked for by `submit`, which does not wait for more than the router does.
        """
        event = {**self.event(text, by=by, level=level, channel=channel), **more}
        heard = self.submit(event)
        until = time.monotonic() + ANSWER_WITHIN_S
        while "pending" in heard.statuses and time.monotonic() < until:
            time.sleep(0.02)
            heard = self.submit(event)
        return heard

    def install(self, module_name: str) -> None:
        """Switch a module on in this community."""
        done = self.fleet.request("PUT", f"/router/communities/{self.slug}/modules/{module_name}", {"enabled": True})
        assert done.status == 200, done.body

    def submit(self, event: Mapping[str, Any]) -> Heard:
        response = self.fleet.request("POST", "/router/events", event)
        assert response.status == 200, response.body
        return Heard(response.json())


def load_fleet(stack: Stack, folder: Path, modules: Sequence[str] | None = None) -> Fleet:
    """Load modules into this process, once: py4web's routes and the modules' services are the process's own."""
    from ..module.service import SERVICES
    from ..web.app import create_app

    keys = {"console": _account(stack, "console", ["collectors", "admins"], platforms=["console"])}
    keys["admin"] = _account(stack, "admin", ["admins"])
    # These modules have accounts before they have code.
    for name in ("portal", "labels_core", "module_host"):
        keys[name] = _account(stack, name, ["services"], module_name=name)
    manifests = [each for each in all_manifests() if modules is None or each.package in modules]
    for manifest in manifests:
        if manifest.name in keys:
            os.environ[f"{manifest.settings_prefix}_WADDLEBOT_API_KEY"] = keys[manifest.name]
            continue
        group = "collectors" if manifest.kind == "collector" else "services"
        platforms = [manifest.name] if manifest.kind == "collector" else []
        keys[manifest.name] = _account(stack, manifest.name, [group], module_name=manifest.name, platforms=platforms)
        os.environ[f"{manifest.settings_prefix}_WADDLEBOT_API_KEY"] = keys[manifest.name]
    os.environ.update(stack.environment())
    os.environ.update(BROWSER_SOURCE_API_URL=f"{URL}/browser/source", WEBSOCKET_HOST="127.0.0.1")
    os.environ.update(WEBSOCKET_PORT=str(free_port()))
    os.environ.update(WEBSOCKET_PUBLIC_URL=f"ws://127.0.0.1:{os.environ['WEBSOCKET_PORT']}")
    os.environ.update(
        BROKER_URL=URL, CORE_API_URL=URL, MODULE_URL=URL, BASE_URL=URL, LOG_DIR=str(folder / "logs"), LOG_LEVEL="INFO"
    )
    os.environ.update(PAYMENTS_WEBHOOK_SECRET=PAYMENTS)
    # So small that a test can fill a module's queue.
    os.environ.update(ROUTER_MAX_CONCURRENT="10")
    os.environ.update(LOG_CONSOLE_LEVEL="ERROR", WADDLEBOT_ENCRYPTION_KEYS=make_encryption_key("test"))
    actor_key = ActorKey.make()
    os.environ["WADDLEBOT_ACTOR_KEY"] = actor_key.public_text
    os.environ["PORTAL_WADDLEBOT_ACTOR_KEY"] = actor_key.private_text
    configure_logging(Settings.load())
    app = create_app(*(manifest.package for manifest in manifests), apps_folder=folder)
    set_own_app(app, URL)
    fleet = Fleet(app, SERVICES[0].database, stack, keys, actor_key)
    for service in SERVICES:
        service.loops.start("service", "worker")
    return fleet


def _account(stack: Stack, name: str, groups: list[str], **options: Any) -> str:
    database = Database(stack.postgres.owner_url)
    with database.transaction() as db:
        made = create_account(db, name=name, groups=groups, **options)
    database.close()
    return made.api_key


def cut_off(bot: Bot, module: str, text: str, effect: str) -> dict[str, Any]:
    """Call a module for a command whose effect somebody has begun before who did not live to say how it ended, as
    after kill -9 between the effect and its record. Returns the module's reply."""
    execution_id, (word, *args) = new_id(), text.lstrip("!").split()
    bot.fleet.database.statement(
        "INSERT INTO module_effects (module_name, execution_id, effect) VALUES (%s, %s, %s)",
        (module, execution_id, effect),
    )
    (prefix,) = (each.prefix for each in all_manifests() if each.name == module)
    call = {
        "session_id": new_id(),
        "execution_id": execution_id,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "community": {"id": bot.community_id, "name": bot.slug},
        "entity": {
            "entity_id": f"console:{bot.slug}:general",
            "platform": CONSOLE,
            "server_id": bot.slug,
            "channel_id": "general",
        },
        "user": {"id": 7, "platform_user_id": "boss", "name": "boss", "display_name": "Boss", "level": "owner"},
        "trigger": {"type": "command", "command": word, "prefix": "!", "args": args},
        "deadline": (datetime.now(UTC) + timedelta(seconds=20)).isoformat(),
        "timeout_ms": 20_000,
    }
    answer = bot.fleet.request("POST", f"{prefix}/execute", call, key="router")
    assert answer.status == 200, answer.body
    reply: dict[str, Any] = answer.json()
    return reply
