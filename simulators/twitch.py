"""A local Twitch on loopback: it signs and delivers EventSub notifications, retries them, hands out app tokens and
takes chat messages, with Twitch's own words and statuses.

    with TwitchSimulator(callback="http://127.0.0.1:8002/twitch/webhook") as twitch:
        twitch.say("12826", "!inventory list", chatter="42", badges=["moderator"])
        twitch.messages
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from aiohttp import ClientSession, ClientTimeout, web

CLIENT_ID = "simulated-client"
CLIENT_SECRET = "simulated-client-key"
WEBHOOK_SECRET = "simulated-signing-key"
BOT_USER_ID = "900"
DELIVERY_TIMEOUT_S = 10
# Twitch tries about five times, over minutes; here it is as often and sooner.
RETRY_PAUSES_S = (0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signed POST of EventSub."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """A message that the bot sent through Helix."""

    message_id: str
    broadcaster_id: str
    sender_id: str
    message: str
    reply_parent_message_id: str
    at: float


@dataclass(slots=True)
class Fault:
    """How the next requests to /helix/chat/messages end: a status, `dropped` (is_sent false) or `hang`."""

    kind: str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


# How a delivery is posted: by default over HTTP to the callback. Returns the status.
Post = Callable[[Delivery], int]


class TwitchSimulator:
    """Everything is recorded in `messages`, `tokens` and `requests`; `fail_next` breaks what comes."""

    def __init__(
        self,
        *,
        callback: str | None = None,
        secret: str = WEBHOOK_SECRET,
        port: int = 0,
        post: Post | None = None,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        bot_user_id: str = BOT_USER_ID,
    ) -> None:
        self.callback = callback
        self.secret = secret.encode()
        self.port = port
        self.client_id = client_id
        self.client_secret = client_secret
        self.bot_user_id = bot_user_id
        self.messages: list[Said] = []
        self.tokens: set[str] = set()
        self.requests: list[str] = []
        self.send_delay_s = 0.0
        self.post = post or self._post_over_http
        self._faults: list[Fault] = []
        self._token_faults: list[Fault] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def settings(self) -> dict[str, str]:
        """The environment that points a Twitch collector here."""
        return {
            "TWITCH_APP_ID": self.client_id,
            "TWITCH_APP_SECRET": self.client_secret,
            "TWITCH_WEBHOOK_SECRET": self.secret.decode(),
            "TWITCH_BOT_USER_ID": self.bot_user_id,
            "TWITCH_API_BASE_URL": f"{self.url}/helix/",
            "TWITCH_AUTH_BASE_URL": f"{self.url}/oauth2/",
        }

    # Running

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        started.result(10)
        return self

    def stop(self) -> None:
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        app = web.Application()
        app.add_routes(
            [
                web.post("/oauth2/token", self._token),
                web.get("/oauth2/validate", self._validate),
                web.get("/helix/users", self._users),
                web.post("/helix/chat/messages", self._chat_messages),
                web.get("/_control/messages", self._control_messages),
                web.post("/_control/chat", self._control_chat),
                web.post("/_control/load", self._control_load),
                web.post("/_control/fail", self._control_fail),
                web.post("/_control/reset", self._control_reset),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        started.set_result(None)
        await self._stop.wait()
        await runner.cleanup()

    # EventSub

    def sign(
        self, body: bytes, *, kind: str, subscription_type: str, delivery_id: str = "", age_s: float = 0
    ) -> Delivery:
        """Any body, signed as Twitch signs."""
        delivery_id = delivery_id or str(uuid.uuid4())
        sent_at = datetime.fromtimestamp(time.time() - age_s, UTC)
        timestamp = sent_at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"
        digest = hmac.new(self.secret, (delivery_id + timestamp).encode() + body, hashlib.sha256).hexdigest()
        return Delivery(
            {
                "Content-Type": "application/json",
                "Twitch-Eventsub-Message-Id": delivery_id,
                "Twitch-Eventsub-Message-Retry": "0",
                "Twitch-Eventsub-Message-Type": kind,
                "Twitch-Eventsub-Message-Signature": "sha256=" + digest,
                "Twitch-Eventsub-Message-Timestamp": timestamp,
                "Twitch-Eventsub-Subscription-Type": subscription_type,
                "Twitch-Eventsub-Subscription-Version": "1",
            },
            body,
        )

    def notification(self, type_: str, event: Mapping[str, Any], **options: Any) -> Delivery:
        body = {"subscription": self._subscription(type_, event), "event": event}
        return self.sign(_json(body), kind="notification", subscription_type=type_, **options)

    def chat_message(
        self,
        broadcaster: str,
        text: str,
        *,
        chatter: str = "42",
        name: str = "Alice",
        badges: Sequence[str] = (),
        message_id: str = "",
        more: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Delivery:
        """`channel.chat.message` as documented; `more` is put over the event's fields."""
        event = {
            "broadcaster_user_id": broadcaster,
            "broadcaster_user_login": f"channel{broadcaster}",
            "broadcaster_user_name": f"Channel{broadcaster}",
            "chatter_user_id": chatter,
            "chatter_user_login": name.lower(),
            "chatter_user_name": name,
            "message_id": message_id or str(uuid.uuid4()),
            "message": {
                "text": text,
                "fragments": [{"type": "text", "text": text, "cheermote": None, "emote": None, "mention": None}],
            },
            "color": "#00FF7F",
            "badges": [{"set_id": badge, "id": "1", "info": ""} for badge in badges],
            "message_type": "text",
            "cheer": None,
            "reply": None,
            "channel_points_custom_reward_id": None,
            "source_broadcaster_user_id": None,
            "source_broadcaster_user_login": None,
            "source_broadcaster_user_name": None,
            "source_message_id": None,
            "source_badges": None,
            **(more or {}),
        }
        return self.notification("channel.chat.message", event, **options)

    def challenge(self, text: str = "", **options: Any) -> Delivery:
        type_ = "channel.chat.message"
        subscription = {**self._subscription(type_, {}), "status": "webhook_callback_verification_pending"}
        body = {"challenge": text or secrets.token_urlsafe(32), "subscription": subscription}
        return self.sign(_json(body), kind="webhook_callback_verification", subscription_type=type_, **options)

    def revocation(self, status: str = "authorization_revoked", broadcaster: str = "12826", **options: Any) -> Delivery:
        type_ = "channel.chat.message"
        subscription = {**self._subscription(type_, {"broadcaster_user_id": broadcaster}), "status": status}
        return self.sign(_json({"subscription": subscription}), kind="revocation", subscription_type=type_, **options)

    def deliver(self, delivery: Delivery, *, pauses_s: Sequence[float] = RETRY_PAUSES_S) -> list[int]:
        """Post a delivery, and again with the same id and a higher Message-Retry until the answer is 2xx.

        Returns the status of each try; 0 is a try without an answer.
        """
        statuses: list[int] = []
        for retry, pause_s in enumerate([*pauses_s, 0.0]):
            headers = {**delivery.headers, "Twitch-Eventsub-Message-Retry": str(retry)}
            statuses.append(self.post(replace(delivery, headers=headers)))
            if 200 <= statuses[-1] < 300:
                break
            time.sleep(pause_s)
        return statuses

    def say(self, broadcaster: str, text: str, **options: Any) -> list[int]:
        """Somebody writes in a channel's chat, and Twitch delivers it."""
        return self.deliver(self.chat_message(broadcaster, text, **options))

    def _subscription(self, type_: str, event: Mapping[str, Any]) -> dict[str, Any]:
        broadcaster = str(event.get("broadcaster_user_id", "12826"))
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{type_}:{broadcaster}")),
            "type": type_,
            "version": "1",
            "status": "enabled",
            "cost": 0,
            "condition": {"broadcaster_user_id": broadcaster, "user_id": self.bot_user_id},
            "transport": {"method": "webhook", "callback": self.callback or "https://example.com/twitch/webhook"},
            "created_at": "2026-11-22T10:00:00.123456789Z",
        }

    def _post_over_http(self, delivery: Delivery) -> int:
        assert self.callback, "where to? give the simulator a callback"
        request = urllib.request.Request(self.callback, delivery.body, dict(delivery.headers), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=DELIVERY_TIMEOUT_S) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as err:
            err.close()
            return err.code
        except (OSError, http.client.HTTPException):
            return 0

    # Helix

    def fail_next(self, kind: str | int, times: int = 1, **headers: str) -> None:
        """Let the next chat messages end with this status, `dropped` or `hang`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(str(kind), times, named))

    def fail_next_token(self, kind: str | int, times: int = 1) -> None:
        """Let the next requests for a token end with this status, `hang`, or come in `pieces`."""
        self._token_faults.append(Fault(str(kind), times))

    def revoke_tokens(self) -> None:
        """Make every token worthless, as Twitch does when the client secret changes."""
        self.tokens.clear()

    def reset(self) -> None:
        self.messages.clear()
        self.requests.clear()
        self._faults.clear()
        self._token_faults.clear()
        self.send_delay_s = 0.0

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("token")
        asked = {**request.query, **(await request.post())}
        fault = _next(self._token_faults)
        if fault and fault.kind == "hang":
            await asyncio.sleep(60)
        if fault and fault.kind.isdigit():
            return _error(int(fault.kind), "simulated")
        if asked.get("client_id") != self.client_id:
            return _error(400, "invalid client")
        if asked.get("client_secret") != self.client_secret:
            return _error(403, "invalid client secret")
        if asked.get("grant_type") != "client_credentials":
            return _error(400, "invalid grant type")
        token = secrets.token_hex(15)
        self.tokens.add(token)
        granted = {"access_token": token, "expires_in": 5184000, "token_type": "bearer"}
        if not fault:
            return web.json_response(granted)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        await asyncio.sleep(0.05)
        await answer.write(_json(granted))
        return answer

    async def _validate(self, request: web.Request) -> web.StreamResponse:
        if self._bearer(request) is None:
            return _error(401, "invalid access token")
        return web.json_response({"client_id": self.client_id, "scopes": [], "expires_in": 5184000})

    async def _users(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refusal(request):
            return refusal
        ids, logins = request.query.getall("id", []), request.query.getall("login", [])
        users = [_user(each, f"channel{each}") for each in ids] + [_user(str(abs(hash(each))), each) for each in logins]
        return web.json_response({"data": users})

    async def _chat_messages(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("chat")
        text = await request.text()
        asked = {**request.query, **(json.loads(text) if text else {})}
        if self.send_delay_s:
            await asyncio.sleep(self.send_delay_s)
        fault = _next(self._faults)
        if fault and fault.kind == "hang":
            await asyncio.sleep(60)
        if fault and fault.kind.isdigit():
            return _error(int(fault.kind), "simulated", fault.headers)
        if refusal := self._refusal(request):
            return refusal
        if problem := _problem(asked):
            return _error(*problem)
        if fault and fault.kind == "dropped":
            reason = {"code": "msg_rejected", "message": "Your message is being checked by mods."}
            return web.json_response({"data": [{"message_id": "", "is_sent": False, "drop_reason": reason}]})
        said = Said(
            str(uuid.uuid4()),
            asked["broadcaster_id"],
            asked["sender_id"],
            asked["message"],
            asked.get("reply_parent_message_id", ""),
            time.time(),
        )
        self.messages.append(said)
        sent = {"message_id": said.message_id, "is_sent": True, "drop_reason": None}
        return web.json_response({"data": [sent]}, headers=fault.headers if fault else None)

    def _bearer(self, request: web.Request) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token if scheme in ("Bearer", "OAuth") and token in self.tokens else None

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self._bearer(request) is None:
            return _error(401, "Invalid OAuth token")
        if request.headers.get("Client-Id") != self.client_id:
            return _error(401, "Client ID and OAuth token do not match")
        return None

    # Control, for benchmarks in another process

    async def _control_messages(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("since", 0))
        return web.json_response({"total": len(self.messages), "messages": [asdict(m) for m in self.messages[since:]]})

    async def _control_chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        delivery = self.chat_message(asked.pop("broadcaster"), asked.pop("text"), **asked)
        return web.json_response({"statuses": await asyncio.to_thread(self.deliver, delivery)})

    async def _control_load(self, request: web.Request) -> web.StreamResponse:
        """Deliver `count` messages with `in_flight` at a time, over `channels` channels."""
        asked = {"count": 100, "in_flight": 16, "channels": 1, "text": "!help", **(await request.json())}
        assert self.callback
        started = time.perf_counter()
        took: list[float] = []
        statuses: dict[str, int] = {}
        numbers = iter(range(asked["count"]))

        async def post_some(session: ClientSession) -> None:
            for n in numbers:
                delivery = self.chat_message(str(1 + n % asked["channels"]), asked["text"], chatter=str(10_000 + n))
                at = time.perf_counter()
                async with session.post(str(self.callback), data=delivery.body, headers=delivery.headers) as answer:
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

    async def _control_fail(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.fail_next(asked["kind"], asked.get("times", 1))
        return web.json_response({"success": True})

    async def _control_reset(self, _: web.Request) -> web.StreamResponse:
        self.reset()
        return web.json_response({"success": True})


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _next(faults: list[Fault]) -> Fault | None:
    if not faults:
        return None
    fault = faults[0]
    fault.times -= 1
    if fault.times <= 0:
        faults.pop(0)
    return fault


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    words = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 422: "Unprocessable", 429: "Too Many Requests"}
    limits = {"Ratelimit-Reset": str(int(time.time()) + 1), "Ratelimit-Remaining": "0"} if status == 429 else {}
    body = {"error": words.get(status, "Internal Server Error"), "status": status, "message": message}
    return web.json_response(body, status=status, headers={**limits, **(headers or {})})


def _problem(asked: Mapping[str, Any]) -> tuple[int, str] | None:
    for name in ("broadcaster_id", "sender_id", "message"):
        if not asked.get(name):
            return 400, f'Missing required parameter "{name}"'
    if len(asked["message"]) > 500:
        return 422, "The message is too large."
    return None


def _user(user_id: str, login: str) -> dict[str, str]:
    return {
        "id": user_id,
        "login": login,
        "display_name": login.title(),
        "type": "",
        "broadcaster_type": "",
        "description": "",
        "profile_image_url": "",
        "offline_image_url": "",
        "created_at": "2020-01-01T00:00:00Z",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="A local Twitch on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--callback", required=True, help="where /twitch/webhook is")
    parser.add_argument("--secret", default=WEBHOOK_SECRET, help="TWITCH_WEBHOOK_SECRET")
    parser.add_argument("--client-id", default=CLIENT_ID, help="TWITCH_APP_ID")
    parser.add_argument("--client-secret", default=CLIENT_SECRET, help="TWITCH_APP_SECRET")
    given = parser.parse_args()
    simulator = TwitchSimulator(
        callback=given.callback,
        secret=given.secret,
        port=given.port,
        client_id=given.client_id,
        client_secret=given.client_secret,
    )
    with simulator:
        for name, value in simulator.settings().items():
            print(f"{name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
