"""`/_control/*`: the simulator's buttons for programs in other processes, such as benchmarks and the demo's page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

from .state import Delivery

if TYPE_CHECKING:
    from .simulator import SlackSimulator

LOOK_EVERY_S = 0.1


@dataclass(slots=True)
class Load:
    """A traffic that is generated: who is asked what, how often, and for how long."""

    per_s: float = 50
    seconds: float = 10
    teams: int = 1
    channels: int = 10
    people: int = 500
    text: str = "good morning, everybody"
    # Of the messages this share is a command; each of these in its turn.
    share: float = 0.05
    commands: list[str] = field(default_factory=lambda: ["!help"])
    slash: bool = False
    # Waits this long at the end for replies that are still missing.
    patience_s: float = 15


class Control:
    def __init__(self, slack: SlackSimulator) -> None:
        self._slack = slack

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/_control/chat", self._chat),
            web.post("/_control/event", self._event),
            web.post("/_control/slash", self._slash),
            web.post("/_control/authorize", self._authorize),
            web.post("/_control/uninstall", self._uninstall),
            web.post("/_control/disconnect", self._disconnect),
            web.get("/_control/messages", self._messages),
            web.get("/_control/stream", self._stream),
            web.post("/_control/load", self._load),
            web.post("/_control/fail", self._fail),
            web.post("/_control/set", self._set),
            web.post("/_control/reset", self._reset),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        """`{channel, text, user?, team?, ts?, thread_ts?, event_id?, more?}` → `{statuses}`."""
        asked = await request.json()
        channel, text = asked.pop("channel"), asked.pop("text")
        statuses = await asyncio.to_thread(lambda: self._slack.say(channel, text, **asked))
        return web.json_response({"statuses": statuses})

    async def _event(self, request: web.Request) -> web.StreamResponse:
        """`{event, team?, event_id?}` → `{statuses}`."""
        asked = await request.json()
        statuses = await asyncio.to_thread(lambda: self._slack.happen(asked.pop("event"), **asked))
        return web.json_response({"statuses": statuses})

    async def _slash(self, request: web.Request) -> web.StreamResponse:
        """`{text, channel?, user?, team?}` → `{status, body, took_s}`."""
        asked = await request.json()
        started = time.perf_counter()
        answer = await asyncio.to_thread(lambda: self._slack.slash(asked.pop("text"), **asked))
        body = answer.body.decode(errors="replace")
        return web.json_response(
            {"status": answer.status, "body": body, "took_s": round(time.perf_counter() - started, 4)}
        )

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        """`{redirect_uri, team?, user?}` → `{code}`: somebody agreed, without a browser."""
        asked = await request.json()
        team, user = asked.get("team", self._slack.team_id), asked.get("user", "UINSTALLER")
        return web.json_response({"code": self._slack.pages.make_code(team, user, asked["redirect_uri"])})

    async def _uninstall(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        await asyncio.to_thread(lambda: self._slack.uninstall(asked.get("team", "")))
        return web.json_response({"success": True})

    async def _disconnect(self, request: web.Request) -> web.StreamResponse:
        """`{reason: warning|refresh_requested|link_disabled}`."""
        asked = await request.json()
        await self._slack.sockets.disconnect(asked.get("reason", "refresh_requested"))
        return web.json_response({"success": True})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        """What the bot said, and with `all=1` what people said too, from the message `since` on."""
        since = int(request.query.get("since", 0))
        said = self._slack.state.said
        shown = [asdict(each) for each in said[since:] if each.by_bot or "all" in request.query]
        return web.json_response({"total": len(said), "messages": shown})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The same as server-sent events, as they come."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await stream.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for said in self._said_from(int(request.query.get("since", 0))):
                await stream.write(f"data: {json.dumps(said, ensure_ascii=False)}\n\n".encode())
        return stream

    async def _said_from(self, number: int) -> AsyncIterator[dict[str, Any]]:
        while True:
            said = self._slack.state.said
            for each in said[number:]:
                yield asdict(each)
            number = len(said)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _fail(self, request: web.Request) -> web.StreamResponse:
        """`{kind, times?, method?, wait_s?}` breaks the next calls of a method of the Web API."""
        self._slack.fail_next(**(await request.json()))
        return web.json_response({"success": True})

    async def _set(self, request: web.Request) -> web.StreamResponse:
        """`{echoes?, rotates?, channel_pause_s?, answer_delay_s?, transport?, events_url?}`."""
        for name, value in (await request.json()).items():
            if name == "events_url":
                self._slack.point_at(value)
                continue
            if name not in ("echoes", "rotates", "token_ttl_s", "channel_pause_s", "answer_delay_s", "transport"):
                return web.json_response({"success": False, "error": f"there is no {name} to set"}, status=422)
            setattr(self._slack, name, value)
        return web.json_response({"success": True})

    async def _reset(self, _: web.Request) -> web.StreamResponse:
        self._slack.reset()
        return web.json_response({"success": True})

    async def _load(self, request: web.Request) -> web.StreamResponse:
        """Deliver messages over HTTP at a pace, each once, and see how soon each command is answered."""
        return web.json_response(await Traffic(self._slack, Load(**(await request.json()))).run())


class Traffic:
    def __init__(self, slack: SlackSimulator, load: Load) -> None:
        self._slack = slack
        self._load = load
        self._statuses: Counter[int] = Counter()
        self._acks_ms: list[float] = []
        self._asked_at: dict[tuple[str, str], float] = {}

    async def run(self) -> dict[str, Any]:
        load, first = self._load, len(self._slack.state.said)
        every = round(1 / load.share) if load.share else 0
        async with ClientSession(
            connector=TCPConnector(limit=200), timeout=ClientTimeout(total=self._slack.answer_within_s)
        ) as session:
            started = time.time()
            under_way: set[asyncio.Task[None]] = set()
            for number in range(round(load.per_s * load.seconds)):
                due = started + number / load.per_s
                await asyncio.sleep(max(0.0, due - time.time()))
                is_command = bool(every) and number % every == 0
                task = asyncio.create_task(self._post(session, number, is_command))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)
        until = time.time() + load.patience_s
        while self._missing(first) and time.time() < until:
            await asyncio.sleep(LOOK_EVERY_S)
        return self._report(first)

    async def _post(self, session: ClientSession, number: int, is_command: bool) -> None:
        delivery = self._delivery(number, is_command)
        url, at = str(self._slack.urls[delivery.to]), time.perf_counter()
        try:
            async with session.post(url, data=delivery.body, headers=delivery.headers) as answer:
                await answer.read()
                self._statuses[answer.status] += 1
        except (ClientError, TimeoutError):
            self._statuses[0] += 1
        self._acks_ms.append((time.perf_counter() - at) * 1e3)

    def _delivery(self, number: int, is_command: bool) -> Delivery:
        load, slack = self._load, self._slack
        # Commands come at even intervals, so that without the second part always the same channels would get them.
        place = (number + round(number * load.share)) % load.channels
        team, channel, user = f"T{place % load.teams}", f"C{place}", f"U{number % load.people}"
        if load.teams == 1:
            team = slack.team_id
        command = load.commands[number % len(load.commands)] if is_command else ""
        if load.slash:
            form = slack.slash_form(command or load.text, channel=channel, user=user, team=team, command="/waddlebot")
            return slack.sign("slash", form)
        event = slack.message(channel, command or load.text, user=user, team=team)
        if is_command:
            self._asked_at[channel, event["ts"]] = time.time()
        return slack.sign("events", slack.event(event, team=team))

    def _answers(self, first: int) -> dict[tuple[str, str], list[float]]:
        found: dict[tuple[str, str], list[float]] = {}
        for said in self._slack.state.said[first:]:
            key = said.channel, said.thread_ts
            if said.by_bot and key in self._asked_at:
                found.setdefault(key, []).append(said.at)
        return found

    def _missing(self, first: int) -> int:
        return len(self._asked_at) - len(self._answers(first))

    def _report(self, first: int) -> dict[str, Any]:
        answers = self._answers(first)
        waits_ms = [(at[0] - self._asked_at[key]) * 1e3 for key, at in answers.items()]
        return {
            "sent": sum(self._statuses.values()),
            "statuses": {str(status): count for status, count in self._statuses.items()},
            "ack_p50_ms": _percentile(self._acks_ms, 0.5),
            "ack_p99_ms": _percentile(self._acks_ms, 0.99),
            "commands": len(self._asked_at),
            "lost": len(self._asked_at) - len(answers),
            "doubled": sum(len(at) > 1 for at in answers.values()),
            "reply_p50_ms": _percentile(waits_ms, 0.5),
            "reply_p99_ms": _percentile(waits_ms, 0.99),
            "reply_max_ms": max(waits_ms, default=0.0),
        }


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else 0.0
