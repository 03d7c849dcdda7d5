"""Commands that call out: a look-up may be repeated, an effect never is, and nobody else waits for either."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import Later, UpstreamError, UserError
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import CHECKOUT, load_manifest
from waddlebot.base.transactions import OpenTransaction
from waddlebot.community.communities import ensure_community
from waddlebot.data.database import Database, fetch
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import Child
from waddlebot.fleet.home import make_encryption_key
from waddlebot.module.outside import Effects, EffectUnclear, OutsideCall
from waddlebot.testing.fleet import Bot, Heard, Stack
from waddlebot.testing.plugin import eventually
from waddlebot.testing.routers import Router
from waddlebot.web.auth import create_account
from waddlebot.web.http import HTTPClient

pytestmark = pytest.mark.timeout(180)

OUTSIDE = Path(__file__).parent / "outside_module"
AT_ONCE = 8
# In one process, where a call goes straight into the module, and in two, where it goes over HTTP.
WAYS = ("together", "apart")


class Provider:
    """Somebody outside: answers each path as a test says, and counts who asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.behave: Callable[[str], tuple[int, str, dict[str, str]] | None] = lambda _: (200, "sunny", {})
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked[self.path] += 1
                answer = provider.behave(self.path)
                if answer is None:
                    self.close_connection = True  # It was read, and is not answered.
                    return
                status, body, headers = answer
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(body))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(slots=True)
class House:
    """A router and the module that calls out, in real processes, and whom it calls."""

    router: Router
    module: Router
    database: Database
    provider: Provider
    _over: threading.Event = field(default_factory=threading.Event)

    def bot(self) -> Bot:
        slug = "t" + new_id().replace("-", "")
        with self.database.transaction() as db:
            community_id = ensure_community(db, slug, slug)
        return Bot(self.router, slug, community_id)  # type: ignore[arg-type]

    def hang(self) -> Callable[[str], tuple[int, str, dict[str, str]]]:
        """A provider that answers when the test is over."""

        def behave(_: str) -> tuple[int, str, dict[str, str]]:
            self._over.wait(60)
            return 200, "too late", {}

        return behave

    def let_go(self) -> None:
        over, self._over = self._over, threading.Event()
        over.set()

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        with self.database.transaction() as db:
            return fetch(db, sql, parameters)

    def said(self, event: dict[str, Any]) -> list[str]:
        """Everything that the outbox has for an event."""
        rows = self.rows("SELECT response_data FROM outbox WHERE event_id = %s ORDER BY id", event["event_id"])
        return [row["response_data"]["message"].removeprefix("› ") for row in rows]

    def status(self, event: dict[str, Any]) -> str:
        rows = self.rows(
            "SELECT status FROM command_executions JOIN router_events USING (session_id) WHERE event_id = %s",
            event["event_id"],
        )
        return rows[0]["status"] if rows else ""

    def kill_and_restart(self) -> None:
        """kill -9 of whoever runs the module, in whatever it is doing."""
        self.module.kill()
        self.module.start()


def submit(bot: Bot, event: dict[str, Any]) -> Heard | None:
    """What the bot answers; None when it died before it could."""
    try:
        return bot.submit(event)
    except UpstreamError:
        return None


@pytest.fixture(scope="module", params=WAYS)
def house(request, tmp_path_factory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp(request.param)
    modules = folder / "modules"
    modules.mkdir()
    for package in (CHECKOUT / "router_module", CHECKOUT / "inventory_interaction_module", OUTSIDE):
        (modules / package.name).symlink_to(package)
    provider = Provider()
    with Stack.running(folder / "stack") as stack:
        database = Database(stack.postgres.owner_url)
        made = list(_processes(folder, modules, stack, database, provider, together=request.param == "together"))
        router, module = made
        try:
            router.start()
            if module is not router:
                module.start()
            yield House(router, module, database, provider)
        finally:
            for each in made:
                each.process.stop()
            database.close()
    provider.stop()


def _processes(
    folder: Path, modules: Path, stack: Stack, database: Database, provider: Provider, *, together: bool
) -> Iterator[Router]:
    ports = {"router": free_port(), "outside": free_port()}
    if together:
        ports["outside"] = ports["router"]
    keys = {}
    with database.transaction() as db:
        fetch(db, "CREATE TABLE outside_notes (id bigserial, community_id bigint, note text)")
        made = create_account(db, name="console", groups=["collectors", "admins"], platforms=["console"])
        keys["console"] = made.api_key
        for name in (*ports, "inventory"):
            keys[name] = create_account(db, name=name, groups=["services"], module_name=name).api_key
    common = {
        **stack.environment(),
        "WADDLEBOT_MODULES_DIR": str(modules),
        "CORE_API_URL": f"http://127.0.0.1:{ports['router']}",
        "WADDLEBOT_ENCRYPTION_KEYS": make_encryption_key("test"),
        "LOG_DIR": str(folder / "logs"),
        "LOG_CONSOLE_LEVEL": "ERROR",
        "MODULE_URLS": f"outside=http://127.0.0.1:{ports['outside']}",
        "ROUTER_LEASE": "0.5",
        "ROUTER_DEFAULT_RATE_LIMIT": "0",
        "OUTSIDE_PROVIDER_URL": provider.url,
        "CALLS_OUT_AT_ONCE": str(AT_ONCE),
        **{f"{name.upper()}_WADDLEBOT_API_KEY": keys[name] for name in (*ports, "inventory")},
    }
    packages = {"router": "router_module,inventory_interaction_module", "outside": "outside_module"}
    served = {"both": ",".join(packages.values())} if together else packages
    routers = {}
    for name, folders in served.items():
        port = ports["router"] if together else ports[name]
        url = f"http://127.0.0.1:{port}"
        own = {"WADDLEBOT_MODULES": folders, "WADDLEBOT_PORT": str(port), "WADDLEBOT_OWN_URL": url, "MODULE_URL": url}
        ready = [f"{url}{load_manifest(modules / each).prefix}/ready" for each in folders.split(",")]
        run = {"WADDLEBOT_RUN_DIR": str(folder / name), "LOG_ROLE": name}
        child = Child(name, ["waddlebot.fleet.serve", "web"], {**common, **own, **run}, ready)
        routers[name] = Router(child, url, keys, HTTPClient())
    yield routers.get("router") or routers["both"]
    yield routers.get("outside") or routers["both"]


@pytest.fixture
def bot(house) -> Iterator[Bot]:
    house.provider.asked.clear()
    house.provider.behave = lambda path: (200, "receipt 7" if path.startswith("/pay") else "sunny", {})
    yield house.bot()
    house.let_go()


def test_it_reads_asks_writes_and_says(house, bot):
    assert bot.say("!weather Berlin").chat == "Berlin: sunny, asked 0 times before."
    assert bot.say("!weather Berlin", by="bob").chat == "Berlin: sunny, asked 1 times before."
    assert bot.say("!pay coffee", by="carol").chat == "Paid for coffee: receipt 7."


@pytest.fixture
def call(house) -> OutsideCall:
    """A call as a handler gets it, with nobody behind it."""
    payload = ModuleCall.model_validate(
        {
            "session_id": new_id(),
            "execution_id": new_id(),
            "traceparent": "00-0-0-01",
            "timeout_ms": 1000,
            "community": {"id": 1, "name": "c"},
            "entity": {"entity_id": "console:c:g", "platform": "console", "server_id": "c", "channel_id": "g"},
            "user": {"id": 1, "platform_user_id": "a", "name": "a", "display_name": "A", "level": "member"},
            "trigger": {"type": "command", "command": "pay"},
            "deadline": datetime.now(UTC),
        }
    )
    effects = Effects(house.database, "outside")
    return OutsideCall(payload, {}, database=house.database, effects=effects, until=time.monotonic() + 5)


def test_nothing_is_called_while_the_handler_reads_or_after_it_wrote(house, call):
    for open_unit in (call.reading, call.writing):
        with open_unit(), pytest.raises(OpenTransaction):
            call.effect("pay", lambda _: "done")
    with pytest.raises(OpenTransaction):
        call.look_up("look", lambda _: "found")
    call.end(None)

    assert call.effect("pay", lambda _: "done") == "done"
    with pytest.raises(EffectUnclear):
        call.effect("pay", lambda _: "twice")


def test_what_was_written_before_an_error_is_undone(house, call):
    with pytest.raises(UserError), call.keeping(), call.writing() as db:
        fetch(db, "INSERT INTO outside_notes (note) VALUES ('undone')")
        raise UserError
    assert house.rows("SELECT 1 FROM outside_notes WHERE note = 'undone'") == []


def test_a_call_without_time_is_not_begun(call):
    call.until = time.monotonic()
    with pytest.raises(Later):
        call.effect("pay", lambda _: "done")
    call.until += 5
    assert call.effect("pay", lambda _: "done") == "done"


def test_an_event_that_comes_again_asks_nobody_again(house, bot):
    event = bot.event("!pay tea")
    bot.submit(event)

    assert bot.submit(event).chat == "Paid for tea: receipt 7."
    assert house.provider.asked["/pay/tea"] == 1
    assert len(house.rows("SELECT 1 FROM outside_notes WHERE note = 'tea'")) == 1


def test_a_simulated_call_describes_and_asks_nobody(house, bot):
    heard = bot.say("!pay cake", mode="simulate")

    assert heard.chat == "Simulated, so nobody was asked to: pay for cake."
    assert bot.say("!weather Oslo", mode="simulate").chat.endswith("look up the weather of Oslo.")
    assert not house.provider.asked
    assert house.rows("SELECT 1 FROM outside_notes WHERE note IN ('cake', 'Oslo')") == []


def test_what_was_certainly_not_done_may_be_done_later(house, bot):
    house.provider.behave = lambda _: (402, "no money", {})
    refused = bot.say("!pay rent")

    assert refused.statuses == ["failed"]
    assert refused.chat == "The Weather Office refuses: no reason given."
    assert house.rows("SELECT 1 FROM module_effects WHERE effect = 'pay for rent'") == []


def test_a_connection_that_breaks_after_an_effect_was_asked_for_is_unknown_and_said(house, bot):
    house.provider.behave = lambda _: None
    heard = bot.say("!pay wine")

    assert heard.statuses == ["unknown"]
    assert heard.chat == "Nobody can say whether this came about: pay for wine. It is not tried again."
    assert house.provider.asked["/pay/wine"] == 1


def test_a_connection_that_breaks_during_a_look_up_is_made_again(house, bot):
    house.provider.behave = lambda path: None if house.provider.asked[path] == 1 else (200, "fog", {})

    assert bot.say("!weather London").chat.startswith("London: fog")
    assert house.provider.asked["/weather/London"] == 2


def test_after_kill_9_between_the_record_and_the_write_it_is_unknown_once_and_never_repeated(house, bot):
    house.provider.behave = house.hang()
    event = bot.event("!pay gold")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(submit, bot, event)
        eventually(lambda: house.provider.asked["/pay/gold"] == 1)
        house.kill_and_restart()
        first.result()
    eventually(lambda: submit(bot, event) and house.status(event) not in ("", "pending"), within_s=30)

    assert house.status(event) == "unknown"
    assert house.said(event) == ["Nobody can say whether this came about: pay for gold. It is not tried again."]
    assert house.provider.asked["/pay/gold"] == 1
    assert house.rows("SELECT 1 FROM outside_notes WHERE note = 'gold'") == []


def test_after_kill_9_a_look_up_is_repeated(house, bot):
    house.provider.behave = lambda path: house.hang()(path) if house.provider.asked[path] == 1 else (200, "snow", {})
    event = bot.event("!weather Riga")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(submit, bot, event)
        eventually(lambda: house.provider.asked["/weather/Riga"] == 1)
        house.kill_and_restart()
        first.result()
    eventually(lambda: submit(bot, event) and house.status(event) not in ("", "pending"), within_s=30)

    assert house.said(event) == ["Riga: snow, asked 0 times before."]
    assert len(house.rows("SELECT 1 FROM outside_notes WHERE note = 'Riga'")) == 1


def test_a_late_answer_arrives_by_itself(house, bot):
    house.provider.behave = house.hang()
    event = bot.event("!slow")
    assert bot.submit(event).statuses == ["pending"]
    time_is_over = time.monotonic() + 1.2
    eventually(lambda: time.monotonic() > time_is_over)
    assert house.status(event) == "pending"

    house.let_go()
    eventually(lambda: house.status(event) == "success")
    assert house.said(event) == ["At last: too late"]
    assert bot.say("!quick").chat == "Quick."


def test_a_provider_that_hangs_is_given_up_within_the_deadline(house, bot):
    house.provider.behave = house.hang()
    event = bot.event("!weather Rome")
    bot.submit(event)

    eventually(lambda: house.status(event) == "failed", within_s=6)
    assert house.said(event) == ["The Weather Office does not answer. Try again in a moment."]


def test_others_are_answered_while_50_hang_and_what_does_not_fit_is_told_to_try_again(house, bot):
    house.provider.behave = house.hang()
    events = [bot.event("!slow", by=f"viewer{n}") for n in range(50)]
    with ThreadPoolExecutor(50) as pool:
        hanging = [pool.submit(bot.submit, event) for event in events]
        eventually(lambda: house.provider.asked["/slow"] == AT_ONCE, what="all places are taken")
        for text in ("!quick", "!inventory list"):
            event = bot.event(text, by="zoe")
            eventually(lambda event=event: bot.submit(event).statuses == ["success"], what=text)
        assert house.provider.asked["/slow"] == AT_ONCE
        for each in hanging:
            each.result()
    assert house.provider.asked["/slow"] == AT_ONCE

    house.let_go()
    eventually(lambda: all(house.status(event) in ("success", "failed") for event in events), within_s=30)
    said = Counter(text for event in events for text in house.said(event))
    assert said.pop("At last: too late") >= AT_ONCE
    assert set(said) <= {"Too many are asking for this right now. Try again in a moment."}
