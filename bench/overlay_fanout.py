"""One display call, a thousand sockets: how long until the last one has it, beside a bare `websockets.broadcast`.

Both halves have the same clients, in one process of their own, and the same payload. The clients do not acknowledge.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import psutil
import redis
from waddlebot.base.ids import new_id
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.home import Home
from waddlebot.web.http import HTTPClient
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.common import RunningFleet, fleet, table

SOCKETS = 1000
SINGLE_CALLS = 40
ROUNDS = 3
SUSTAINED_CALLS = 100
PACED_ITEMS = 200
LAST_SOCKET_BAR, SUSTAINED_BAR, MEMORY_BAR_KIB, LOADED_BAR = 1.5, 0.7, 25, 2.0
PATIENCE_S = 60
# First bytes of whole frames. Source: RFC 6455 §5.2.
PING, PONG = 0x89, 0x8A
CLIP = {
    "media_type": "music",
    "title": "Penguin Parade",
    "artist": "The Waddles",
    "album": "Antarctica",
    "service": "Spotify",
    "progress_ms": 42_000,
    "duration_ms": 185_000,
    "display_s": 30,
}


# The clients: as little as a client can do, so that what is measured is the server.


class Client(asyncio.Protocol):
    """Counts the text frames that hold an item, and answers pings. Says nothing else."""

    def __init__(self, crowd: Crowd, host: str, path: str) -> None:
        self.crowd, self.host, self.path = crowd, host, path
        self.buffer = bytearray()
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head, bytes(head)
            self.is_open, self.buffer = True, bytearray(rest)
            self.crowd.opened += 1
        self.read_frames()

    def read_frames(self) -> None:
        buffer, at = self.buffer, 0
        while len(buffer) - at >= 2:
            size, head = buffer[at + 1] & 127, 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
            if len(buffer) - at < head + size:
                break
            if buffer.startswith(b'{"type":"item"', at + head):
                self.crowd.count()
            elif buffer[at] == PING:
                # A mask of zeros leaves the payload as it is.
                self.transport.write(bytes([PONG, 128 | size, 0, 0, 0, 0]) + buffer[at + head : at + head + size])
            at += head + size
        del buffer[:at]


class Crowd:
    """A thousand of them, and when each expected number of items was there."""

    def __init__(self) -> None:
        self.opened = 0
        self.items = 0
        self.goal = 0
        self.reached = asyncio.Event()

    def count(self) -> None:
        self.items += 1
        if self.items == self.goal:
            self.reached.set()


def run_clients(url: str, sockets: int, pipe: Connection) -> None:
    """In a process of its own: connect, say "open", then answer each goal with the moment at which it was reached."""
    asyncio.run(_clients(url, sockets, pipe))


async def _clients(url: str, sockets: int, pipe: Connection) -> None:
    parts = urlsplit(url)
    loop, crowd = asyncio.get_running_loop(), Crowd()
    for _ in range(sockets):
        await loop.create_connection(lambda: Client(crowd, parts.netloc, parts.path), parts.hostname, parts.port)
    while crowd.opened < sockets:
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.5)  # A page that says nothing of itself joins after a second.
    pipe.send("open")
    while (more := await loop.run_in_executor(None, pipe.recv)) is not None:
        crowd.goal = crowd.items + more * sockets
        crowd.reached.clear()
        pipe.send("ready")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(crowd.reached.wait(), PATIENCE_S)
        pipe.send((time.perf_counter(), crowd.goal - crowd.items))


@dataclass
class Audience:
    pipe: Connection

    def time_s(self, calls: int, show: Callable[[], None]) -> float:
        """How long from before `show`, which makes so many calls, until every socket has everything."""
        self.pipe.send(calls)
        assert self.pipe.recv() == "ready"
        started = time.perf_counter()
        show()
        ended, missing = self.pipe.recv()
        if missing:
            raise SystemExit(f"{missing} messages did not arrive")
        return ended - started


@contextlib.contextmanager
def audience(url: str, sockets: int = SOCKETS) -> Iterator[Audience]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_clients, args=(url, sockets, theirs))
    process.start()
    try:
        assert ours.recv() == "open"
        yield Audience(ours)
        ours.send(None)
    finally:
        process.join(10)
        process.kill()


# The floor: a server that does nothing but broadcast what it is told to.


def run_floor(port: int, payload: str, pipe: Connection) -> None:
    asyncio.run(_floor(port, payload, pipe))


async def _floor(port: int, payload: str, pipe: Connection) -> None:
    pages: set[ServerConnection] = set()

    async def hold(page: ServerConnection) -> None:
        pages.add(page)
        await page.wait_closed()
        pages.discard(page)

    async with serve(hold, "127.0.0.1", port, compression=None):
        pipe.send("open")
        loop = asyncio.get_running_loop()
        while (calls := await loop.run_in_executor(None, pipe.recv)) is not None:
            for _ in range(calls):
                broadcast(pages, payload)
                await asyncio.sleep(0)


@contextlib.contextmanager
def floor(payload: str) -> Iterator[tuple[str, Callable[[int], None], psutil.Process]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    port = free_port()
    process = context.Process(target=run_floor, args=(port, payload, theirs))
    process.start()
    try:
        assert ours.recv() == "open"
        yield f"ws://127.0.0.1:{port}/", ours.send, psutil.Process(process.pid)
        ours.send(None)
    finally:
        process.join(5)
        process.kill()


# The fleet


@dataclass
class Overlays:
    """The demo community's overlays, shown to as the router does it."""

    running: RunningFleet
    router_key: str
    _local = threading.local()

    def request(self, method: str, path: str, body: dict | None, key: str) -> dict:
        client = self._local.__dict__.setdefault("client", HTTPClient())
        answer = client.request(
            method,
            f"{self.running.url}/browser/source/{path}",
            body=json.dumps(body).encode() if body is not None else None,
            headers={"X-API-Key": key, "Content-Type": "application/json"},
        )
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {answer.body[:300]!r}")
        return answer.json()

    def socket_url(self) -> str:
        made = self.request("POST", "admin/tokens", {"community_id": "demo"}, self.running.headers()["X-API-Key"])
        return f"{self.running.environment['WEBSOCKET_PUBLIC_URL']}/ws/{made['tokens']['media']['token']}/media"

    def community_id(self) -> int:
        key = self.running.headers()["X-API-Key"]
        return self.request("GET", "api/communities/demo/urls", None, key)["community_id"]

    def show(self, community_id: int) -> dict:
        body = {
            "item_id": new_id(),
            "session_id": new_id(),
            "community_id": community_id,
            "source_type": "media",
            "response_action": "media",
            "response_data": CLIP,
        }
        return self.request("POST", "display", body, self.router_key)

    @property
    def hub(self) -> psutil.Process:
        """The process that holds the sockets."""
        tree = self.running.tree.children(recursive=True)
        return next(each for each in tree if each.cmdline()[-1:] == ["hub"])


def frame_like(seq: int) -> str:
    data = {name: CLIP[name] for name in CLIP if name != "display_s"}
    data |= {"media_url": "", "artwork_url": "", "is_playing": True, "requested_by": ""}
    return json.dumps(
        {"type": "item", "seq": seq, "item_id": new_id(), "action": "media", "data": data, "display_s": 30.0,
         "test": False, "expires_in_s": 900.0},
        separators=(",", ":"),
    )  # fmt: skip


def measure_both(overlays: Overlays, rows: list[tuple[str, ...]]) -> None:
    community_id = overlays.community_id()
    before = overlays.hub.memory_info().rss
    with floor(frame_like(1)) as (floor_url, tell_floor, floor_process):
        floor_before = floor_process.memory_info().rss
        with audience(overlays.socket_url()) as ours, audience(floor_url) as bare:
            per_socket = (overlays.hub.memory_info().rss - before) / SOCKETS / 1024
            floor_per_socket = (floor_process.memory_info().rss - floor_before) / SOCKETS / 1024
            for _ in range(5):  # Warm both up.
                ours.time_s(1, lambda: overlays.show(community_id))
                bare.time_s(1, lambda: tell_floor(1))

            singles = [
                (ours.time_s(1, lambda: overlays.show(community_id)), bare.time_s(1, lambda: tell_floor(1)))
                for _ in range(SINGLE_CALLS)
            ]
            mine, floors = (statistics.median(times) * 1e3 for times in zip(*singles, strict=True))
            rows.append(row("last of 1 000 sockets, ms", mine, floors, mine / floors, f"<= {LAST_SOCKET_BAR}",
                            mine / floors <= LAST_SOCKET_BAR))  # fmt: skip

            hub_before = overlays.hub.memory_info().rss
            ratios = []
            for _ in range(ROUNDS):
                took = ours.time_s(SUSTAINED_CALLS, lambda: show_many(overlays, community_id))
                floor_took = bare.time_s(SUSTAINED_CALLS, lambda: tell_floor(SUSTAINED_CALLS))
                ratios.append((SUSTAINED_CALLS * SOCKETS / took, SUSTAINED_CALLS * SOCKETS / floor_took))
            grown = (overlays.hub.memory_info().rss - hub_before) / 1024 / 1024
            mine, floors = (statistics.median(rates) for rates in zip(*ratios, strict=True))
            rows.append(row("messages per s, sustained", mine, floors, mine / floors, f">= {SUSTAINED_BAR}",
                            mine / floors >= SUSTAINED_BAR))  # fmt: skip
            rows.append(row("KiB per connection", per_socket, floor_per_socket, per_socket / floor_per_socket,
                            f"{MEMORY_BAR_KIB} KiB", per_socket <= MEMORY_BAR_KIB))  # fmt: skip
            messages = ROUNDS * SUSTAINED_CALLS * SOCKETS
            rows.append((f"MiB grown by {messages:,} messages", f"{grown:.1f}", "", "", "< 8", verdict(grown < 8)))


def show_many(overlays: Overlays, community_id: int) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: overlays.show(community_id), range(SUSTAINED_CALLS)))


def measure_under_load(overlays: Overlays, rows: list[tuple[str, ...]]) -> None:
    """The way from Redis to the last socket, with and without requests that keep the HTTP side busy.

    The bare loop beside it says how much of the difference is the machine's, whose cores the requests take.
    """
    community_id = overlays.community_id()
    numbers = itertools.count(overlays.show(community_id)["seq"] + 1)
    environment = overlays.running.environment
    bus = redis.Redis(
        host=environment["REDIS_HOST"], port=int(environment["REDIS_PORT"]), password=environment["REDIS_PASSWORD"]
    )

    def publish() -> None:
        number = next(numbers)
        bus.publish(f"waddlebot:overlay:item:{community_id}:media", f"{number} {frame_like(number)}")

    with (
        floor(frame_like(1)) as (floor_url, tell_floor, _),
        audience(overlays.socket_url()) as ours,
        audience(floor_url) as bare,
    ):

        def p99_ms() -> tuple[float, float]:
            pairs = [(ours.time_s(1, publish), bare.time_s(1, lambda: tell_floor(1))) for _ in range(PACED_ITEMS)]
            mine, floors = (sorted(times)[int(PACED_ITEMS * 0.99)] * 1e3 for times in zip(*pairs, strict=True))
            return mine, floors

        p99_ms()
        idle = p99_ms()
        with busy(f"{overlays.running.url}/browser/source/health"):
            loaded = p99_ms()
    ratio = loaded[0] / idle[0]
    rows.append(("p99 to the last socket, idle, ms", f"{idle[0]:.1f}", f"{idle[1]:.1f}", "", "", ""))
    rows.append(("the same while HTTP is busy, ms", f"{loaded[0]:.1f}", f"{loaded[1]:.1f}", "", "", ""))
    rows.append(
        (
            "busy / idle",
            f"{ratio:.2f}",
            f"{loaded[1] / idle[1]:.2f}",
            "",
            f"<= {LOADED_BAR:g}",
            verdict(ratio <= LOADED_BAR),
        )
    )


@contextlib.contextmanager
def busy(url: str) -> Iterator[None]:
    """Requests of the HTTP side, four at a time, from a process of their own."""
    process = multiprocessing.get_context("spawn").Process(target=keep_busy, args=(url,))
    process.start()
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.join()


def keep_busy(url: str) -> None:
    def ask() -> None:
        http = HTTPClient()
        while True:
            http.request("GET", url)

    for _ in range(4):
        threading.Thread(target=ask).start()


def row(what: str, mine: float, floors: float, ratio: float, bar: str, met: bool) -> tuple[str, ...]:
    return what, f"{mine:.1f}", f"{floors:.1f}", f"{ratio:.2f}", bar, verdict(met)


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def main() -> None:
    rows: list[tuple[str, ...]] = []
    with fleet() as running:
        overlays = Overlays(running, Home(running.home).load_secrets()[0].keys["router"])
        measure_both(overlays, rows)
        measure_under_load(overlays, rows)
    table(f"Overlays, {SOCKETS} sockets", ("what", "fleet", "floor", "ratio", "bar", ""), rows)


if __name__ == "__main__":
    main()
