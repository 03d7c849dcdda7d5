"""In-process caches that all replicas empty together, over Redis."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from ..base.errors import ConfigError
from ..base.settings import Settings
from ..base.watched import Watched
from .redis_users import INVALIDATIONS

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# What is committed without waiting for the disk is not counted as written for three times wal_writer_delay.
ASYNCHRONOUS_COMMIT_S = 1.0
RECONNECT_S = 1.0
# Half a minute, where TCP by itself takes two hours.
NOTICED_GONE = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 15_000,
}
# Of one cache; with more of them all of it is forgotten.
MAX_UNTOLD = 1_000


def open_redis(settings: Settings, *, blocking: bool = False) -> redis.Redis:
    """A client that gives up within a second or two; one for blocking reads waits as long as they do."""
    pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
        host=settings.redis_host,
        port=settings.redis_port,
        username=settings.redis_username or None,
        password=settings.redis_password.get_secret_value() if settings.redis_password else None,
        db=settings.redis_db,
        max_connections=32,
        timeout=1,
        socket_connect_timeout=1,
        socket_timeout=None if blocking else 1,
        # A subscription whose server's machine is gone is as silent as one of a quiet fleet.
        socket_keepalive=True,
        socket_keepalive_options=NOTICED_GONE,
        # A subscription must be able to read what makes no sense, or it would read it again for ever.
        encoding_errors="replace" if blocking else "strict",
        # The library's default of ten retries keeps a caller waiting 4.5 s while the server is down. A server that was
        # silent for that long is not asked a second time.
        retry=Retry(ExponentialWithJitterBackoff(cap=0.1, base=0.02), 1, supported_errors=(redis.ConnectionError,)),
        health_check_interval=30,
        decode_responses=True,
    )
    return redis.Redis(connection_pool=pool)


class Cache(Generic[K, V]):
    """A bounded TTL cache. Get one from a Bus. For `primary_for_s` after an invalidation reloads read the primary."""

    def __init__(self, name: str, *, ttl_s: float, max_size: int, primary_for_s: float) -> None:
        self.name = name
        self._ttl_s = ttl_s
        self._primary_for_s = primary_for_s
        self._max_size = max_size
        self._entries: dict[str, tuple[float, V]] = {}
        self._dropped_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._generation = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: K, load: Callable[[bool], V]) -> V:
        """The cached value, or what `load(fresh)` returns; `fresh` asks it to read the primary.

        A value that was loaded while an invalidation arrived is returned but not kept.
        """
        text = str(key)
        now = time.monotonic()
        # Read without the lock, because it is read for every message; a dict's own get is atomic.
        entry = self._entries.get(text)
        if entry is not None and entry[0] > now:
            self.hits += 1
            return entry[1]
        self.misses += 1
        generation = self._generation
        since = now - self._primary_for_s
        fresh = self._dropped_at.get(text, since) > since or self._dropped_at.get("*", since) > since
        value = load(fresh)
        with self._lock:
            if generation == self._generation:
                self._keep(text, value)
        return value

    def get_many(self, keys: Iterable[K], load: Callable[[list[K]], dict[K, V]]) -> dict[K, V]:
        """The cached values, and in one go what `load(missing)` returns for the others; it reads the primary."""
        now = time.monotonic()
        found: dict[K, V] = {}
        missing: list[K] = []
        for key in keys:
            entry = self._entries.get(str(key))
            if entry is not None and entry[0] > now:
                found[key] = entry[1]
            else:
                missing.append(key)
        self.hits += len(found)
        if missing:
            self.misses += len(missing)
            generation = self._generation
            loaded = load(missing)
            found |= loaded
            with self._lock:
                if generation == self._generation:
                    for key, value in loaded.items():
                        self._keep(str(key), value)
        return found

    def drop(self, *keys: str) -> None:
        """Forget some keys, or everything with `*`."""
        with self._lock:
            self._generation += 1
            now = time.monotonic()
            for key in keys:
                if key == "*":
                    self._entries.clear()
                    self._dropped_at.clear()
                else:
                    self._entries.pop(key, None)
                    if len(self._dropped_at) >= self._max_size:
                        self._dropped_at = {"*": now}
                self._dropped_at[key] = now

    def _keep(self, text: str, value: V) -> None:
        while len(self._entries) >= self._max_size:
            del self._entries[next(iter(self._entries))]  # The one that was kept first.
        self._entries[text] = time.monotonic() + self._ttl_s, value


class Bus:
    """The process's caches and the subscription that empties them.

    An invalidation works in this process before the call returns, and in the others as soon as Redis delivers it.
    While Redis is away nothing can be told: what was not is told once it is back, and a lost subscription empties
    everything. Who invalidates first finds out, and nobody else waits for it.
    `replica_max_lag_s` is how old a replica may be that values are loaded from.
    """

    def __init__(self, client: redis.Redis, blocking_client: redis.Redis, *, replica_max_lag_s: float = 5.0) -> None:
        self.client = client
        self._primary_for_s = replica_max_lag_s + ASYNCHRONOUS_COMMIT_S
        self._blocking_client = blocking_client
        self._caches: dict[str, list[Cache[Hashable, object]]] = {}
        self._listeners: dict[str, list[Callable[..., None]]] = {}
        self._untold: dict[str, set[str]] = {}
        self._lock = threading.Lock()  # Of _untold.
        self._watched: Watched | None = None
        self._stopping = threading.Event()

    def cache(self, name: str, *, ttl_s: float, max_size: int = 10_000) -> Cache[K, V]:
        made: Cache[K, V] = Cache(name, ttl_s=ttl_s, max_size=max_size, primary_for_s=self._primary_for_s)
        self._caches.setdefault(name, []).append(made)  # type: ignore[arg-type]
        return made

    def listen(self, name: str, forget: Callable[..., None]) -> None:
        """Call `forget` with the keys of that name that are invalidated, here or elsewhere, and with `*` for all."""
        self._listeners.setdefault(name, []).append(forget)

    def invalidate(self, name: str, *keys: object) -> None:
        """Drop keys, or everything without one, of every cache with this name, here and in all other processes. Call it
        after the commit."""
        self.invalidate_all({name: [str(key) for key in keys] or ["*"]})

    def invalidate_all(self, stale: Mapping[str, Sequence[str]]) -> None:
        """The same of several caches, by name, in one go."""
        for name, keys in stale.items():
            self._drop(name, *keys)
        if self._untold:
            self._tell_later(stale)
            return
        try:
            self._tell(stale)
        except (redis.ConnectionError, redis.TimeoutError):
            self._tell_later(stale)

    def start(self) -> None:
        """Begin to listen to the other processes."""
        if self._watched is None:
            self._watched = Watched("cache-bus")
            self._watched.start(self._listen, stopping=self._stopping)

    def stop(self) -> None:
        self._stopping.set()

    def _tell(self, stale: Mapping[str, Collection[str]]) -> None:
        """Raises: redis.ConnectionError, redis.TimeoutError. What this process may not tell is not told."""
        with contextlib.suppress(redis.ResponseError), self.client.pipeline(transaction=False) as pipeline:
            for name, keys in stale.items():
                pipeline.publish(INVALIDATIONS + name, json.dumps(list(keys)))
            pipeline.execute()

    def _tell_later(self, stale: Mapping[str, Collection[str]]) -> None:
        with self._lock:
            for name, keys in stale.items():
                untold = self._untold.setdefault(name, set())
                untold.update(keys)
                if len(untold) > MAX_UNTOLD:
                    self._untold[name] = {"*"}

    def _tell_untold(self) -> None:
        """Raises: redis.ConnectionError, redis.TimeoutError; all of it is still to be told then."""
        with self._lock:
            untold = {name: set(keys) for name, keys in self._untold.items()}
        if not untold:
            return
        self._tell(untold)
        with self._lock:
            left = {name: keys - untold.get(name, set()) for name, keys in self._untold.items()}
            self._untold = {name: keys for name, keys in left.items() if keys}

    def _drop(self, name: str, *keys: str) -> None:
        for cache in self._caches.get(name, []):
            cache.drop(*keys)
        for forget in self._listeners.get(name, []):
            forget(*keys)

    def _drop_all(self) -> None:
        for name in {*self._caches, *self._listeners}:
            self._drop(name, "*")

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                pubsub = self._blocking_client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                with pubsub as subscription:
                    subscription.psubscribe(INVALIDATIONS + "*")
                    self._drop_all()
                    while not self._stopping.is_set():
                        message = subscription.get_message(timeout=1.0)
                        if message:
                            self._hear(message["channel"], message["data"])
                        self._tell_untold()
            except (redis.RedisError, OSError):
                self._drop_all()
                self._stopping.wait(RECONNECT_S)

    def _hear(self, channel: str, message: str) -> None:
        try:
            keys = read_invalidation(message)
        except ValueError as err:
            assert self._watched
            self._watched.note(f"cannot read what {channel[:100]} says: {err}")
            return
        self._drop(channel.removeprefix(INVALIDATIONS), *keys)


def read_invalidation(message: str) -> list[str]:
    """The keys that are to be forgotten; `*` is all of them. Raises: ValueError."""
    try:
        said = json.loads(message)
    except RecursionError as err:
        raise ValueError("nested too deeply") from err
    if not isinstance(said, list) or not said or not all(isinstance(each, str) for each in said):
        raise ValueError("not a list of keys")
    return said


_buses: dict[tuple[str, int, int], Bus] = {}


def shared_bus(settings: Settings) -> Bus:
    """The process's one Bus for this Redis, listening."""
    address = (settings.redis_host, settings.redis_port, settings.redis_db)
    if address not in _buses:
        clients = open_redis(settings), open_redis(settings, blocking=True)
        bus = Bus(*clients, replica_max_lag_s=settings.replica_max_lag_s)
        try:
            bus.client.ping()
        except redis.AuthenticationError as err:
            given = "REDIS_USERNAME and REDIS_PASSWORD" if settings.redis_username else "REDIS_PASSWORD"
            raise ConfigError(f"Redis at {address[0]}:{address[1]} refuses {given}.") from err
        except redis.RedisError:
            pass  # Away at the start is the same as away later: bounded, counted in health, and it comes back.
        bus.start()
        _buses[address] = bus
    return _buses[address]
