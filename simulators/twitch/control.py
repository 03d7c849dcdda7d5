"""/_control: the simulator's strings, for pages and benchmarks in other processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, ClientTimeout, web

from .traffic import Plan, Traffic
from .wire import seconds_timestamp

if TYPE_CHECKING:
    from .simulator import TwitchSimulator

MAX_WAIT_S = 30.0
DELIVERY_TIMEOUT_S = 10
# What `POST /_control/event` takes, each with the simulator's own arguments.
EVENTS = frozenset(
    {
        *("follow", "subscribe", "resub", "gift", "cheer", "raid", "ban", "unban", "online", "offline", "clip"),
        *("add_moderator", "remove_moderator"),
    }
)


class Control:
    def __init__(self, twitch: TwitchSimulator) -> None:
        self._twitch = twitch
        self._traffic: Traffic | None = None

    def routes(self) -> list[web.RouteDef]:
        gets = {
            "messages": self._messages,
            "feed": self._feed,
            "stream": self._stream,
            "state": self._state,
            "traffic": self._traffic_report,
        }
        posts = {
            "chat": self._chat,
            "event": self._event,
            "user": self._user,
            "callback": self._callback,
            "token": self._token,
            "load": self._load,
            "traffic": self._start_traffic,
            "fail": self._fail,
            "deaf": self._deaf,
            "drop": self._drop,
            "reconnect": self._reconnect,
            "revoke": self._revoke,
            "disconnect": self._disconnect,
            "reset": self._reset,
        }
        return [
            *(web.get(f"/_control/{name}", _open(handler)) for name, handler in gets.items()),
            *(web.post(f"/_control/{name}", _open(handler)) for name, handler in posts.items()),
            web.route("OPTIONS", "/_control/{name}", _open(self._preflight)),
        ]

    async def _preflight(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    # Looking

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        """What the bot said; with `wait`, seconds, once there is something after `since`."""
        since, messages = int(request.query.get("since", 0)), self._twitch.messages
        until = time.monotonic() + min(float(request.query.get("wait", 0)), MAX_WAIT_S)
        while len(messages) <= since and (left_s := until - time.monotonic()) > 0 and not self._twitch.feed.is_closed:
            await self._twitch.feed.wait(left_s)
        return web.json_response({"total": len(messages), "messages": [asdict(each) for each in messages[since:]]})

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        """Everything that happened after number `since`: chat of everybody, and events."""
        since, feed = int(request.query.get("since", 0)), self._twitch.feed
        until = time.monotonic() + min(float(request.query.get("wait", 0)), MAX_WAIT_S)
        while not (found := feed.since(since)) and (left_s := until - time.monotonic()) > 0 and not feed.is_closed:
            await feed.wait(left_s)
        return web.json_response({"last": found[-1]["number"] if found else since, "feed": found})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The same as server-sent events."""
        since = int(request.headers.get("Last-Event-ID") or request.query.get("since", "0"))
        feed = self._twitch.feed
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        answer.headers["Access-Control-Allow-Origin"] = "*"
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            while not feed.is_closed:
                for each in feed.since(since):
                    since = each["number"]
                    await answer.write(f"id: {since}\ndata: {json.dumps(each, ensure_ascii=False)}\n\n".encode())
                await feed.wait(15)
                await answer.write(b": alive\n\n")
        return answer

    async def _state(self, _: web.Request) -> web.StreamResponse:
        twitch = self._twitch
        return web.json_response(
            {
                "now": seconds_timestamp(),
                "users": [
                    {
                        "id": each.id,
                        "login": each.login,
                        "name": each.name,
                        "is_live": each.stream is not None,
                        "consents": sorted(each.consents),
                        "moderators": sorted(each.moderators),
                    }
                    for each in twitch.accounts
                    if each.is_made
                ],
                "subscriptions": [each.to_wire() for each in twitch.eventsub],
                "sessions": twitch.sockets.sessions,
                "actions": [asdict(each) for each in twitch.actions],
            }
        )

    # Doing

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        statuses = await asyncio.to_thread(self._twitch.say, asked.pop("broadcaster"), asked.pop("text"), **asked)
        return web.json_response({"statuses": statuses})

    async def _event(self, request: web.Request) -> web.StreamResponse:
        """`{"kind": "follow", "channel": …, "user": …}` and so on."""
        asked = await request.json()
        kind = asked.pop("kind", "")
        if kind not in EVENTS:
            return web.json_response({"message": f"kind must be one of {', '.join(sorted(EVENTS))}"}, status=400)
        try:
            await asyncio.to_thread(getattr(self._twitch, kind), **asked)
        except TypeError as err:
            return web.json_response({"message": str(err)}, status=400)
        return web.json_response({"success": True})

    async def _user(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        made = self._twitch.user(asked.pop("login"), **asked)
        return web.json_response({"id": made.id, "login": made.login})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        """Tokens of somebody who consents to these scopes, without a browser."""
        asked = await request.json()
        account = self._twitch.accounts.get(asked["user"])
        return web.json_response(self._twitch.oauth.token_for(account, asked.get("scopes", ())))

    async def _callback(self, request: web.Request) -> web.StreamResponse:
        """For a fleet that starts after its Twitch; with `of`, where addresses that begin so really are."""
        asked = await request.json()
        if "of" in asked:
            self._twitch.callbacks[asked["of"]] = asked["url"]
        else:
            self._twitch.callback = asked["url"]
        return _done()

    async def _load(self, request: web.Request) -> web.StreamResponse:
        """Deliver `count` messages with `in_flight` at a time, over `channels` channels."""
        asked = {"count": 100, "in_flight": 16, "channels": 1, "text": "!help", **(await request.json())}
        url = self._twitch.real_url("")
        started = time.perf_counter()
        took: list[float] = []
        statuses: dict[str, int] = {}
        numbers = iter(range(asked["count"]))

        async def post_some(session: ClientSession) -> None:
            for n in numbers:
                channel, chatter = str(1 + n % asked["channels"]), str(10_000 + n)
                delivery = self._twitch.chat_message(channel, asked["text"], chatter=chatter)
                at = time.perf_counter()
                async with session.post(url, data=delivery.body, headers=delivery.headers) as answer:
                    statuses[str(answer.status)] = statuses.get(str(answer.status), 0) + 1
                took.append(time.perf_counter() - at)

        async with ClientSession(timeout=ClientTimeout(total=DELIVERY_TIMEOUT_S)) as session:
            await asyncio.gather(*(post_some(session) for _ in range(asked["in_flight"])))
        took.sort()
        return web.json_response(
            {
                "seconds": time.perf_counter() - started,
                "statuses": statuses,
                "p50_ms": took[len(took) // 2] * 1e3,
                "p99_ms": took[int(len(took) * 0.99)] * 1e3,
            }
        )

    async def _start_traffic(self, request: web.Request) -> web.StreamResponse:
        """The fields of a `Plan`; `GET /_control/traffic` tells how it goes. Another plan ends the one before."""
        if self._traffic is not None:
            self._traffic.stop()
        try:
            self._traffic = Traffic(self._twitch, Plan(**await _asked(request)))
        except TypeError as err:
            return web.json_response({"message": str(err)}, status=400)
        self._traffic.start()
        return _done()

    async def _traffic_report(self, _: web.Request) -> web.StreamResponse:
        if self._traffic is None:
            return web.json_response({"message": "there is no traffic"}, status=404)
        return web.json_response(self._traffic.report())

    # Breaking

    async def _fail(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self._twitch.fail_next(
            asked["kind"], asked.get("times", 1), at=asked.get("at", "chat/messages"), **asked.get("headers", {})
        )
        return _done()

    async def _deaf(self, request: web.Request) -> web.StreamResponse:
        self._twitch.sockets.deafen((await _asked(request)).get("session", ""))
        return _done()

    async def _drop(self, request: web.Request) -> web.StreamResponse:
        self._twitch.sockets.drop((await _asked(request)).get("session", ""))
        return _done()

    async def _reconnect(self, request: web.Request) -> web.StreamResponse:
        self._twitch.sockets.reconnect((await _asked(request)).get("session", ""))
        return _done()

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request)
        status = asked.get("status", "version_removed")
        ended = self._twitch.revoke(asked.get("type", ""), asked.get("channel", ""), status=status)
        return web.json_response({"revoked": len(ended)})

    async def _disconnect(self, request: web.Request) -> web.StreamResponse:
        self._twitch.disconnect((await request.json())["user"])
        return _done()

    async def _reset(self, request: web.Request) -> web.StreamResponse:
        self._twitch.reset(everything=(await _asked(request)).get("everything", False))
        return _done()


async def _asked(request: web.Request) -> dict[str, Any]:
    text = await request.text()
    asked = json.loads(text) if text else {}
    return asked if isinstance(asked, dict) else {}


def _done() -> web.Response:
    return web.json_response({"success": True})


def _open(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Let pages of other origins in, since the demo's page is served by the fleet."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = await handler(request)
        if not answer.prepared:
            answer.headers["Access-Control-Allow-Origin"] = "*"
            answer.headers["Access-Control-Allow-Headers"] = "Content-Type"
        return answer

    return handle
