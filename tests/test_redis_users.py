"""What each kind of process may do at the fleet's Redis, and that this is all it needs (docs/adr/0064)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict

import pytest
import redis
from waddlebot.data.cache import Bus
from waddlebot.data.redis_users import CHANGED_BY_COLLECTORS, INVALIDATIONS, RULES, WAKE
from waddlebot.fleet.containers import password_setting
from waddlebot.fleet.embedded import ValkeyServer, dying_with_us, free_port, stop_process, valkey_binary
from waddlebot.fleet.home import Home, Secrets
from waddlebot.testing.plugin import eventually

from scripts.generate.containers import redis_secrets, redis_start

OPERATORS = [
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "requirepass"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("SHUTDOWN", "NOSAVE"),
    ("CLIENT", "LIST"),
    ("MONITOR",),
    ("SWAPDB", "0", "1"),
    ("SAVE",),
    ("REPLICAOF", "127.0.0.1", "1"),
]
# Sessions of people, whom an account is, calls that were permitted, and what is not the fleet's.
OTHERS = ["waddlebot:session:x", "waddlebot:permit:1:2", "waddlebot:portal:import:x", "waddlebot:labels:1", "elsewhere"]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"), "operator")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def who(valkey):
    """A client of a kind of process; nobody's name is the operator's."""

    def client(user: str = "default") -> redis.Redis:
        password = valkey.passwords.get(user, valkey.password)
        return redis.Redis(port=valkey.port, username=user, password=password, decode_responses=True)

    return client


@pytest.mark.parametrize("command", OPERATORS, ids=" ".join)
@pytest.mark.parametrize("user", RULES)
def test_only_the_operator_may_do_to_the_server(who, user, command):
    with pytest.raises(redis.exceptions.NoPermissionError):
        who(user).execute_command(*command)


@pytest.mark.parametrize("key", OTHERS)
@pytest.mark.parametrize("user", ["collectors", "hub", "kong"])
def test_others_keys_are_neither_read_nor_written(who, user, key):
    who("web").set(key, "secret")

    for command in (
        ("GET", key),
        ("SET", key, "mine"),
        ("DEL", key),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, key),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            who(user).execute_command(*command)
    assert who("web").get(key) == "secret"


@pytest.mark.parametrize("user", ["collectors", "hub", "kong"])
def test_names_of_keys_are_told_to_nobody_who_may_not_read_them(who, user):
    for command in ("SCAN", 0), ("RANDOMKEY",), ("DBSIZE",):
        with pytest.raises(redis.exceptions.NoPermissionError):
            who(user).execute_command(*command)


@pytest.mark.parametrize("cache", ["accounts", "commands", "credentials", "rules", "members", "overlay_tokens"])
@pytest.mark.parametrize("user", ["collectors", "hub", "kong"])
def test_what_others_cached_is_emptied_by_them_alone(who, user, cache):
    with pytest.raises(redis.exceptions.NoPermissionError):
        who(user).publish(INVALIDATIONS + cache, '["*"]')

    assert who("web").publish(INVALIDATIONS + cache, '["*"]') == 0


@pytest.mark.parametrize("name", CHANGED_BY_COLLECTORS)
def test_what_collectors_change_is_forgotten_by_the_web(who, name):
    web, collectors = (Bus(who(user), who(user)) for user in ("web", "collectors"))
    cache = web.cache(name, ttl_s=600)
    cache.get("a", lambda _fresh: 0)
    web.start()
    eventually(lambda: cache.get("a", lambda _fresh: 1))  # Emptied when it begins to listen.
    eventually(lambda: any(int(each["psub"]) for each in who().client_list(_type="pubsub")))

    collectors.invalidate(name, "a")

    eventually(lambda: cache.get("a", lambda _fresh: 2) == 2)
    web.stop()


@pytest.mark.parametrize("user", ["web", "collectors"])
def test_everybody_hears_what_is_to_be_forgotten(who, user):
    with who(user).pubsub() as subscription:
        subscription.psubscribe(INVALIDATIONS + "*")
        assert subscription.get_message(timeout=5)["type"] == "psubscribe"
        subscription.subscribe(WAKE + "twitch_events")
        assert subscription.get_message(timeout=5)["type"] == "subscribe"


def test_a_home_of_before_gets_the_passwords(tmp_path):
    home = Home(tmp_path)
    made = Secrets()
    before = {name: value for name, value in asdict(made).items() if name != "redis_passwords"}
    home.secrets_path.write_text(json.dumps(before))

    upgraded, is_new = home.load_secrets()
    home.save_secrets(upgraded)

    assert not is_new
    assert upgraded.redis_password == made.redis_password
    assert upgraded.redis_passwords.keys() == RULES.keys()
    assert home.load_secrets()[0].redis_passwords == upgraded.redis_passwords


def test_the_containers_redis_is_told_the_same(tmp_path, valkey):
    """By the command that the compose file and the cluster's manifest have, on the server that is here."""
    port = free_port()
    secrets = {name: f"secret-of-{name}" for name in redis_secrets()}
    command = redis_start().replace("redis-server", f"{valkey_binary()} --port {port}")
    server = subprocess.Popen(dying_with_us(15, ["sh", "-c", command]), cwd=tmp_path, env=secrets)
    try:
        operator = redis.Redis(port=port, password=secrets["REDIS_PASSWORD"], decode_responses=True)
        eventually(lambda: _answers(operator))
        here = redis.Redis(port=valkey.port, password=valkey.password, decode_responses=True)
        for user in RULES:
            assert _rules(operator, user) == _rules(here, user)
            assert redis.Redis(port=port, username=user, password=secrets[password_setting(user)]).ping()
    finally:
        stop_process(server, 15)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _rules(operator: redis.Redis, user: str) -> list[str]:
    line = next(each for each in operator.execute_command("ACL", "LIST") if each.split()[1] == user)
    return [word for word in line.split() if not word.startswith("#")]
