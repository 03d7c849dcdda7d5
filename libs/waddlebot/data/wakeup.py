"""Telling a loop of another process that there is work, and which, over Redis.

Only ever a hint: the loop looks by itself from time to time, so a lost or late ring costs a moment and nothing else.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis

from ..base.settings import Settings
from ..base.watched import Watched
from .cache import open_redis
from .redis_users import WAKE

RETRY_S = 1.0
# Rings come closer together than this become one: each costs both sides more than most work that it announces.
PAUSE_S = 0.005
# What nobody could be told while Redis was away; the oldest goes first.
MAX_TO_SAY = 2000


class Wakeup:
    """A doorbell by name. Neither ringing nor listening ever waits for Redis."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._channel = WAKE + name
        self._rung = threading.Event()
        self._to_say: deque[Any] = deque(maxlen=MAX_TO_SAY)
        self._lock = threading.Lock()
        self._watched: dict[str, Watched] = {}
        self._stopping = threading.Event()

    def ring(self, *what: Any) -> None:
        """Wake whoever listens, soon, and tell what there is, which JSON can hold. Rings that come while one is being
        told become one."""
        self._to_say.extend(what)
        if not self._rung.is_set():
            self._rung.set()
        self._ensure("ring", self._tell)

    def listen(self, heard: Callable[[list[Any]], object]) -> None:
        """Call `heard` on each ring from now on, with what it tells; and with nothing when something may have been
        missed."""
        self._ensure("listen", lambda: self._hear(heard))

    def stop(self) -> None:
        self._stopping.set()
        self._rung.set()

    def _ensure(self, name: str, run: Callable[[], None]) -> None:
        if name in self._watched:
            return
        with self._lock:
            if name not in self._watched:
                self._watched[name] = Watched(f"wakeup-{name}")
                self._watched[name].start(run, stopping=self._stopping)

    def _tell(self) -> None:
        client = open_redis(self._settings)
        while not self._stopping.is_set():
            self._rung.wait()
            self._rung.clear()
            said = list(self._to_say)
            try:
                client.publish(self._channel, json.dumps(said))
                for _ in said:
                    self._to_say.popleft()
                time.sleep(PAUSE_S)
            except redis.RedisError:
                self._rung.set()
                self._stopping.wait(RETRY_S)

    def _hear(self, heard: Callable[[list[Any]], object]) -> None:
        client = open_redis(self._settings, blocking=True)
        while not self._stopping.is_set():
            try:
                with client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
                    subscription.subscribe(self._channel)
                    heard([])  # Whatever rang while nobody listened.
                    while not self._stopping.is_set():
                        message = subscription.get_message(timeout=1.0)
                        if message:
                            heard(_told(message["data"]))
            except (redis.RedisError, OSError):
                self._stopping.wait(RETRY_S)


def _told(data: Any) -> list[Any]:
    """What a ring tells. What is none of ours tells nothing."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return told if isinstance(told, list) else []
