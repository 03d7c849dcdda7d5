"""The overlays' hub: a process of its own, because sockets beside py4web's threads wait for them too long
(docs/adr/0015). Run by `python -m waddlebot.fleet.serve hub`."""

from __future__ import annotations

import asyncio
import gc

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from waddlebot.base.logs import AAALog

from .config import BrowserSourceSettings
from .services.hub_store import HubStore
from .services.websocket_service import Hub

VERSION = "1.0.0"


def main() -> None:
    """Serve until SIGTERM. Raises: ConfigError."""
    settings = BrowserSourceSettings.load()
    # The database wants no more connections at once than there are threads that ask it.
    threads = min(settings.max_workers, 8)
    hub = Hub(
        HubStore(settings.database_url, pool_size=threads),
        open_bus(settings),
        AAALog("browser_source_core", settings.module_version or VERSION),
        max_connections=settings.max_connections,
        max_workers=threads,
        look_every_s=settings.queue_interval_s,
        role=settings.log_role or "hub",
    )
    gc.freeze()
    asyncio.run(hub.run(settings.websocket_host, settings.websocket_port))


def open_bus(settings: BrowserSourceSettings) -> redis.asyncio.Redis:
    password = settings.redis_password
    return redis.asyncio.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        username=settings.redis_username or None,
        password=password.get_secret_value() if password else None,
        db=settings.redis_db,
        socket_connect_timeout=1,
        socket_timeout=None,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=10,
        # What makes no sense must be read all the same, or it would be read again for ever.
        encoding_errors="replace",
        decode_responses=True,
    )
