"""Run in a network of its own: a Redis whose machine is gone, as a bus that listens to it notices."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from waddlebot.base.settings import Settings
from waddlebot.data.cache import Bus, open_redis
from waddlebot.fleet.embedded import ValkeyServer


def main(folder: str, within_s: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    valkey = ValkeyServer(Path(folder), "secret")
    valkey.start()
    os.environ.update(REDIS_HOST="127.0.0.1", REDIS_PORT=str(valkey.port), REDIS_PASSWORD=valkey.password)
    settings = Settings.load()
    bus = Bus(open_redis(settings), open_redis(settings, blocking=True))
    cache = bus.cache("people", ttl_s=600)
    bus.start()
    while not cache.get("a", lambda _fresh: time.monotonic()) < time.monotonic() - 2:
        time.sleep(0.1)  # It has begun to listen, and emptied its caches for that.
    for end in ("--sport", "--dport"):
        drop = ["iptables", "-A", "INPUT", "-p", "tcp", end, str(valkey.port), "-j", "DROP"]
        subprocess.run(drop, check=True)
    kept, until = cache.get("a", lambda _fresh: time.monotonic()), time.monotonic() + float(within_s)
    while cache.get("a", lambda _fresh: time.monotonic()) == kept and time.monotonic() < until:
        time.sleep(0.1)
    is_noticed = time.monotonic() < until
    bus.stop()
    valkey.stop()
    sys.exit(0 if is_noticed else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
