"""A busy evening: chat of many channels at a steady pace, or as fast as it is taken, every reply counted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from . import events
from .eventsub import RETRY_PAUSES_S, Subscription, sign_for
from .wire import Delivery, Said, encode

if TYPE_CHECKING:
    from .simulator import TwitchSimulator

CHAT = "channel.chat.message"
DELIVERY_TIMEOUT_S = 10
LINES = (
    "that was so close",
    "hello from work, what did I miss?",
    "LUL",
    "play the song again please",
    "I have never seen anybody do it this way and I have watched for years",
    "gg",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Channels are first_channel … first_channel + channels - 1. Without `per_s` it is as fast as it is taken."""

    count: int
    channels: int = 1000
    first_channel: int = 1
    per_s: float | None = 200.0
    # The share of commands among the messages.
    commands: float = 0.05
    command: str = "!help"
    people: int = 20_000
    # Deliveries at once, and commands without an answer, when there is no pace.
    in_flight: int = 16
    window: int = 64
    # Each delivery comes so often, with the same id.
    copies: int = 1
    # How long answers may take after the last message.
    settle_s: float = 15.0
    seed: int = 1


class Traffic:
    """One plan under way. Belongs to the simulator's loop."""

    def __init__(self, twitch: TwitchSimulator, plan: Plan) -> None:
        self._twitch = twitch
        self._plan = plan
        self._dice = random.Random(plan.seed)
        self._prefix = f"traffic-{time.time_ns():x}"
        # Commands without an answer: when they were due, by message, and in their order by channel.
        self._waiting: dict[str, float] = {}
        self._order: dict[str, deque[str]] = {}
        self._slots = asyncio.Semaphore(plan.window)
        self._answered: set[str] = set()
        self._statuses: Counter[int] = Counter()
        self._acks, self._lags, self._replies = array("d"), array("d"), array("d")
        self._sent = self._commands = self._lost_deliveries = self._doubled = self._unexpected = 0
        self._begun = self._last_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    @property
    def is_done(self) -> bool:
        return self._task is not None and self._task.done()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def report(self) -> dict[str, Any]:
        """What went in and came out so far. Times are from when a message was due, in ms."""
        took = (self._last_at or time.perf_counter()) - self._begun
        failed = None
        if self.is_done and self._task is not None and not self._task.cancelled():
            failed = self._task.exception()
        return {
            "done": self.is_done,
            "failed": repr(failed) if failed else None,
            "seconds": took,
            "sent": self._sent,
            "per_s": self._sent / took if took > 0 else 0,
            "statuses": {str(status): count for status, count in self._statuses.items()},
            "lost_deliveries": self._lost_deliveries,
            "commands": self._commands,
            "answered": len(self._answered),
            "lost": len(self._waiting),
            "doubled": self._doubled,
            "unexpected": self._unexpected,
            "ack_ms": _percentiles(self._acks),
            "reply_ms": _percentiles(self._replies),
            "lag_ms": _percentiles(self._lags),
        }

    async def _run(self) -> None:
        self._twitch.on_said = self._note_reply
        self._begun = time.perf_counter()
        connector = TCPConnector(limit=256 if self._plan.per_s else self._plan.in_flight)
        try:
            async with ClientSession(timeout=ClientTimeout(total=DELIVERY_TIMEOUT_S), connector=connector) as session:
                await (self._run_paced(session) if self._plan.per_s else self._run_fast(session))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._plan.settle_s):
                        while self._waiting:
                            await asyncio.sleep(0.05)
        finally:
            self._last_at = self._last_at or time.perf_counter()
            self._twitch.on_said = None

    async def _run_paced(self, session: ClientSession) -> None:
        assert self._plan.per_s
        under_way: set[asyncio.Task[None]] = set()
        for number in range(self._plan.count):
            due = self._begun + number / self._plan.per_s
            wait_s = due - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self._lags.append(max(0.0, time.perf_counter() - due) * 1e3)
            task = asyncio.create_task(self._send(session, number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _run_fast(self, session: ClientSession) -> None:
        numbers = itertools.count()

        async def work() -> None:
            while (number := next(numbers)) < self._plan.count:
                await self._send(session, number, None)

        await asyncio.gather(*(work() for _ in range(self._plan.in_flight)))

    async def _send(self, session: ClientSession, number: int, due: float | None) -> None:
        plan = self._plan
        channel = str(plan.first_channel + self._dice.randrange(plan.channels))
        is_command = self._dice.random() < plan.commands
        text = plan.command if is_command else self._dice.choice(LINES)
        chatter = f"{10_000_000 + self._dice.randrange(plan.people)}"
        if is_command and due is None:
            await self._slots.acquire()
        message_id = f"{self._prefix}-{number}"
        due = time.perf_counter() if due is None else due
        if is_command:
            self._commands += 1
            self._waiting[message_id] = due
            self._order.setdefault(channel, deque()).append(message_id)
        self._sent += 1
        name = f"viewer{chatter}"
        somebody = {"chatter_user_id": chatter, "chatter_user_login": name, "chatter_user_name": name.title()}
        place = events.broadcaster(self._twitch.accounts.get(channel))
        event = events.chat_message(place, somebody, text, message_id=message_id)
        for delivery in self._deliveries(event):
            for _ in range(plan.copies):
                await self._post(session, delivery, due)
        if plan.per_s is None:
            # A socket takes everything at once: let it and the answers have their turn.
            await asyncio.sleep(0)
        self._last_at = time.perf_counter()

    def _deliveries(self, event: dict[str, Any]) -> list[Delivery]:
        """What has to be posted for a message; sockets have got it then already."""
        listening = self._twitch.eventsub.listening(CHAT, event)
        if not listening:
            return [self._twitch.notification(CHAT, event)]
        eventsub = self._twitch.eventsub
        return [_delivery_for(each, event) for each in listening if not eventsub.notify_by_socket(each, event)]

    async def _post(self, session: ClientSession, delivery: Delivery, due: float) -> None:
        url = self._twitch.real_url(delivery.url)
        for retry, pause_s in enumerate((*RETRY_PAUSES_S, 0.0)):
            tried = replace(delivery, headers={**delivery.headers, "Twitch-Eventsub-Message-Retry": str(retry)})
            try:
                async with session.post(url, data=tried.body, headers=tried.headers) as answer:
                    status = answer.status
            except (ClientError, TimeoutError):
                status = 0
            self._statuses[status] += 1
            if 200 <= status < 300:
                self._acks.append((time.perf_counter() - due) * 1e3)
                return
            await asyncio.sleep(pause_s)
        self._lost_deliveries += 1

    def _note_reply(self, said: Said) -> None:
        """Match a reply by what it answers, and where it does not say, by the order in its channel."""
        message_id = said.reply_parent_message_id
        order = self._order.get(said.broadcaster_id, deque())
        if not message_id:
            while order and order[0] in self._answered:
                order.popleft()
            message_id = order[0] if order else ""
        due = self._waiting.pop(message_id, None)
        if due is not None:
            self._answered.add(message_id)
            self._last_at = time.perf_counter()
            self._replies.append((self._last_at - due) * 1e3)
            self._slots.release()
        elif message_id in self._answered:
            self._doubled += 1
        else:
            self._unexpected += 1


def _delivery_for(subscription: Subscription, event: dict[str, Any]) -> Delivery:
    body = encode({"subscription": subscription.to_wire(), "event": event})
    return sign_for(subscription, body, "notification")


def _percentiles(values: array[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    points = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {name: ordered[int(len(ordered) * share)] for name, share in points.items()} | {"max": ordered[-1]}
