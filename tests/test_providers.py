"""One policy for providers: what is tried again, what is not, and who is left alone for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
import requests
from pydantic import SecretStr
from waddlebot.base.bridge import shared_bridge
from waddlebot.base.errors import Away, Later, NotConfigured, Refused, Unclear
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.metrics import Metrics
from waddlebot.base.settings import Settings
from waddlebot.base.transactions import OpenTransaction
from waddlebot.data.cache import open_redis
from waddlebot.data.database import Database
from waddlebot.fleet.embedded import free_port
from waddlebot.testing.plugin import eventually
from waddlebot.web.helix import Helix
from waddlebot.web.http import HTTPClient
from waddlebot.web.provider import Provider, Providers, check_response
from waddlebot.web.twitch_app import TwitchApp

Answer = tuple[int, dict[str, str]] | None


class Somebody:
    """A provider on a real port. `answers` are given in turn, then 200; None breaks off after the request was read."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked = 0
        self.over = threading.Event()
        self.hangs = False
        somebody = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                somebody.asked += 1
                if somebody.hangs:
                    somebody.over.wait(30)
                answer = somebody.answers.pop(0) if somebody.answers else (200, {})
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                for name, value in {**answer[1], "Content-Length": "2"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Whoever asked may have given up."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/?key=secret-key"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(self, timeout_s: float) -> str:
        """As a library built on requests asks, without retries of its own."""
        answer = requests.get(self.url, timeout=timeout_s)
        answer.raise_for_status()
        return answer.text


@pytest.fixture
def somebody() -> Iterator[Somebody]:
    made = Somebody()
    yield made
    made.over.set()
    made.server.shutdown()
    made.server.server_close()


def client_of(stack, **changes: Any) -> redis.Redis:
    environment = {"database_url": stack.postgres.owner_url, "redis_host": "127.0.0.1", "redis_port": stack.valkey.port}
    # As the operator, whoever the fleet of other tests in this process is.
    environment |= {"redis_username": None, "redis_password": SecretStr(stack.valkey.password)}
    return open_redis(Settings(**{**environment, **changes}))


@pytest.fixture
def replica(stack) -> Iterator[Callable[..., Providers]]:
    """Another process's providers, by the same Redis unless another port is given."""
    clients = []

    def make(metrics: Metrics | None = None, **changes: Any) -> Providers:
        clients.append(client_of(stack, **changes))
        return Providers(clients[-1], AAALog("test", "1"), metrics or Metrics("test"), max_failures=3, rest_s=0.3)

    yield make
    for each in clients:
        each.close()


@pytest.fixture
def name() -> str:
    return "p" + new_id()


@pytest.fixture
def provider(replica, name):
    return replica().add(name, title="Somebody", timeout_s=2)


def test_a_look_up_is_made_again_when_it_broke_off(provider, somebody):
    somebody.answers = [None, (500, {})]

    assert provider.look_up(somebody.ask) == "ok"
    assert somebody.asked == 3


def test_an_effect_that_broke_off_is_unclear_and_not_made_again(provider, somebody):
    for answer in (None, (500, {})):
        somebody.answers, somebody.asked = [answer], 0
        with pytest.raises(Unclear, match="Somebody does not answer"):
            provider.effect(somebody.ask)
        assert somebody.asked == 1


def test_an_effect_that_certainly_did_not_happen_is_tried_again(provider, somebody):
    somebody.answers = [(503, {"Retry-After": "0"})]

    assert provider.effect(somebody.ask) == "ok"
    assert somebody.asked == 2


def test_nobody_at_the_other_end_is_away(provider):
    nobody = f"http://127.0.0.1:{free_port()}/"

    with pytest.raises(Away, match="Somebody cannot be reached"):
        provider.effect(lambda timeout_s: requests.get(nobody, timeout=timeout_s))
    with pytest.raises(Away):
        provider.look_up(lambda timeout_s: HTTPClient().request("GET", nobody, timeout_s=timeout_s))


def test_a_refusal_is_not_asked_again(provider, somebody):
    somebody.answers = [(404, {})]

    with pytest.raises(Refused) as raised:
        provider.look_up(somebody.ask)
    assert (raised.value.status, somebody.asked) == (404, 1)
    assert "secret-key" not in str(raised.value)


def test_a_provider_that_hangs_is_given_up_at_the_deadline(provider, somebody):
    somebody.hangs = True
    began = time.monotonic()

    with pytest.raises(Unclear):
        provider.look_up(somebody.ask, within_s=0.3)
    assert time.monotonic() - began < 1.5


def test_after_a_401_the_token_is_renewed_once(provider, somebody):
    renewals = []
    somebody.answers = [(401, {})]
    assert provider.effect(somebody.ask, renew=lambda: renewals.append(1)) == "ok"
    assert len(renewals) == 1

    somebody.answers = [(401, {}), (401, {})]
    with pytest.raises(Refused):
        provider.effect(somebody.ask, renew=lambda: renewals.append(1))
    assert len(renewals) == 2


def test_a_pause_that_was_asked_for_holds_for_all_replicas_and_that_account_alone(replica, name, somebody):
    one, other = replica().add(name, timeout_s=1), replica().add(name, timeout_s=1)
    somebody.answers = [(429, {"Retry-After": "30"})]
    with pytest.raises(Later) as raised:
        one.look_up(somebody.ask, account="a key")
    assert raised.value.retry_after_s == 30

    with pytest.raises(Later) as raised:
        other.effect(somebody.ask, account="a key")
    assert 25 < raised.value.retry_after_s <= 30
    assert somebody.asked == 1
    assert other.effect(somebody.ask, account="another key") == "ok"


def test_a_short_pause_is_waited_for_within_the_deadline(provider, somebody):
    somebody.answers = [(429, {"Retry-After": "1"})]
    began = time.monotonic()

    assert provider.look_up(somebody.ask) == "ok"
    assert 0.9 < time.monotonic() - began < 2


def test_without_redis_a_pause_holds_in_this_process(replica, name, somebody):
    provider = replica(redis_port=free_port()).add(name, timeout_s=1)
    somebody.answers = [(429, {"Retry-After": "30"})]

    for _ in range(2):
        with pytest.raises(Later):
            provider.look_up(somebody.ask)
    assert somebody.asked == 1


def test_one_that_does_not_answer_is_left_alone_for_a_while(replica, name, somebody):
    metrics = Metrics("test")
    provider = replica(metrics).add(name, timeout_s=1, tries=1)
    somebody.answers = [None] * 3
    for _ in range(3):
        with pytest.raises(Unclear):
            provider.look_up(somebody.ask)

    with pytest.raises(Away):
        provider.look_up(somebody.ask)
    assert somebody.asked == 3
    eventually(lambda: _answers(provider, somebody), what="it is asked again after its rest")
    assert somebody.asked == 4

    text = metrics.as_text()
    for outcome, count in {"unclear": 3, "ok": 1}.items():
        assert f'provider_calls_total{{outcome="{outcome}",provider="{name}"}} {count}.0' in text
    assert f'outcome="left_alone",provider="{name}"' in text


def _answers(provider: Provider, somebody: Somebody) -> bool:
    try:
        return provider.look_up(somebody.ask) == "ok"
    except Away:
        return False


def test_our_own_client_speaks_the_same_vocabulary(provider, somebody):
    http = HTTPClient()

    def ask(timeout_s: float) -> bytes:
        return check_response(http.request("GET", somebody.url, timeout_s=timeout_s, keep_headers=True)).body

    somebody.answers = [None]
    assert provider.look_up(ask) == b"ok"
    somebody.answers = [(429, {"Retry-After": "40"})]
    with pytest.raises(Later) as raised:
        provider.look_up(ask)
    assert raised.value.retry_after_s == 40


def test_a_bug_of_ours_is_raised_as_it_is(provider):
    with pytest.raises(ZeroDivisionError):
        provider.look_up(lambda _: str(1 / 0))


def test_nothing_is_called_in_a_transaction(provider, stack, somebody):
    database = Database(stack.postgres.owner_url)
    with pytest.raises(OpenTransaction), database.transaction():
        provider.look_up(somebody.ask)
    database.close()
    assert somebody.asked == 0


# Helix, for any module


@pytest.fixture
def twitch() -> Iterator[Any]:
    simulators = pytest.importorskip("simulators.twitch")
    with simulators.TwitchSimulator() as simulator:
        yield simulator


@pytest.fixture
def helix(twitch, replica, name, monkeypatch) -> Iterator[Helix]:
    settings = twitch.settings()
    app = TwitchApp(
        settings["TWITCH_APP_ID"],
        SecretStr(settings["TWITCH_APP_SECRET"]),
        settings["TWITCH_API_BASE_URL"],
        settings["TWITCH_AUTH_BASE_URL"],
    )
    providers = replica()
    add = providers.add
    monkeypatch.setattr(providers, "add", lambda _, **options: add(name, **options))  # A pause is the whole run's.
    made = Helix(app, providers, shared_bridge())
    yield made
    made.run(made.close())


async def name_user_seven(client: Any) -> str:
    (login,) = [user.login async for user in client.get_users(user_ids=["7"])]
    return login


def test_any_module_may_ask_helix_as_the_application(helix, twitch, caplog):
    caplog.set_level("INFO", "waddlebot.test")
    login = twitch.accounts.get("7").login

    assert helix.look_up(name_user_seven) == login
    for access in list(twitch.tokens):
        del twitch.tokens[access]
    assert helix.look_up(name_user_seven) == login
    told = [(each.aaa["category"], each.getMessage()) for each in caplog.records if "token" in each.getMessage()]
    assert told == [("AUTH", "app_token_made"), ("AUTH", "app_token_renewed")]


def test_a_limit_of_twitchs_is_kept_by_all(helix, twitch):
    helix.look_up(name_user_seven)
    twitch.fail_next(429, at="users", Ratelimit_Reset=str(int(time.time()) + 50))

    with pytest.raises(Later, match="Twitch has too much to do"):
        helix.look_up(name_user_seven)
    asked = len(twitch.requests)
    with pytest.raises(Later):
        helix.look_up(name_user_seven)
    assert len(twitch.requests) == asked


def test_helix_that_is_away_or_not_set_up_says_so(replica, name):
    nobody = f"http://127.0.0.1:{free_port()}/"
    providers = replica()
    away = Helix(TwitchApp("id", SecretStr("secret"), nobody, nobody), providers, shared_bridge())
    with pytest.raises(Away, match="Twitch cannot be reached"):
        away.effect(name_user_seven, within_s=1)
    away.run(away.close())
    with pytest.raises(NotConfigured, match="TWITCH_APP_ID"):
        Helix(None, replica(), shared_bridge()).look_up(name_user_seven)
