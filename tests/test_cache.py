"""Caches that all processes empty together."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from waddlebot.base.settings import Settings
from waddlebot.data.cache import Bus, Cache, open_redis
from waddlebot.fleet.embedded import ValkeyServer
from waddlebot.testing.plugin import eventually


@pytest.fixture
def buses(stack, monkeypatch):
    """Two processes' buses on one Redis. The second has begun to listen, and so has emptied its caches for that."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    first, second = (Bus(open_redis(settings), open_redis(settings, blocking=True)) for _ in range(2))
    second.start()
    cache = second.cache("listening", ttl_s=60)

    def hears() -> bool:
        dropped, kept = is_kept(cache, "dropped"), is_kept(cache, "kept")
        first.invalidate("listening", "dropped")
        return kept and not dropped

    eventually(hears)
    yield first, second
    second.stop()


def is_kept(cache: Cache[str, int], key: str) -> bool:
    """Whether a cache has that key; it has it from now on."""
    hits = cache.hits
    cache.get(key, lambda _fresh: 1)
    return cache.hits > hits


def test_keys_are_forgotten_everywhere_and_the_others_are_kept(buses):
    here, there = (bus.cache("people", ttl_s=60) for bus in buses)
    for key in ("a", "b", "c"):
        is_kept(here, key)
        is_kept(there, key)

    buses[0].invalidate("people", "a", "b")

    assert [is_kept(here, key) for key in ("a", "b", "c")] == [False, False, True]
    eventually(lambda: not is_kept(there, "b"))
    assert not is_kept(there, "a")
    assert is_kept(there, "c")


def test_without_a_key_everything_is_forgotten(buses):
    here, there = (bus.cache("people", ttl_s=60) for bus in buses)
    is_kept(here, "a")
    is_kept(there, "a")

    buses[0].invalidate("people")

    assert not is_kept(here, "a")
    eventually(lambda: not is_kept(there, "a"))


def test_a_redis_that_hangs_is_waited_for_once_and_told_when_it_goes_on(stack, tmp_path, monkeypatch):
    valkey = ValkeyServer(tmp_path / "valkey", "secret")
    valkey.start()
    for name, value in {
        **stack.environment(),
        "REDIS_PORT": str(valkey.port),
        "REDIS_USERNAME": "",
        "REDIS_PASSWORD": valkey.password,
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    first, second = (Bus(open_redis(settings), open_redis(settings, blocking=True)) for _ in range(2))
    there = second.cache("people", ttl_s=60)
    first.start()
    second.start()
    try:
        eventually(lambda: [is_kept(there, key) for key in ("a", "b", "c")] == [True] * 3)
        assert valkey.process
        os.kill(valkey.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            first.invalidate("people", "a")
            found_out_s = time.monotonic() - began
            for key in ("b", "c"):
                first.invalidate("people", key)
            all_s = time.monotonic() - began
        finally:
            os.kill(valkey.process.pid, signal.SIGCONT)

        assert found_out_s < 1.5
        assert all_s - found_out_s < 0.5
        assert [is_kept(there, key) for key in ("b", "c")] == [True, True]
        eventually(lambda: not is_kept(there, "b"))
        eventually(lambda: not is_kept(there, "c"))
    finally:
        first.stop()
        second.stop()
        valkey.stop()


@pytest.mark.parametrize("blocking", [False, True])
def test_a_connection_asks_whether_its_server_is_still_there(stack, monkeypatch, blocking):
    """That it is then begun anew is seen by `make interop`, in a network of its own."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    connection = open_redis(Settings.load(), blocking=blocking).connection_pool.get_connection()
    connection.connect()
    sock = connection._sock
    try:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, every, times = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + every * times <= 30
    finally:
        connection.disconnect()
