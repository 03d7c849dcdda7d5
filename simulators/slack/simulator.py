"""Slack, put together: a server on loopback, and the hands that press its buttons."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from ..server import AsyncLoopbackServer
from . import state as known
from .control import Control
from .pages import Pages
from .sockets import Acked, Sockets
from .state import Answered, Delivery, Fault, Said, State
from .web_api import WebAPI, user_object

T = TypeVar("T")

# Slack waits this long for an answer, and tries again at once, after a minute and after five; here it is sooner.
ANSWER_WITHIN_S = 3.0
RETRY_PAUSES_S = (0.05, 0.2, 0.5)
Post = Callable[[Delivery], Answered]


class SlackSimulator(AsyncLoopbackServer):
    """Everything is recorded in `said`, `acks` and `state`; `fail_next` breaks what comes.

    `echoes` sends the bot's own messages back as events, as Slack does. `channel_pause_s` is 1 on the real Slack, which
    takes one message a second in each channel.
    """

    def __init__(
        self,
        *,
        events_url: str | None = None,
        slash_url: str | None = None,
        port: int = 0,
        post: Post | None = None,
        signing_secret: str = known.SIGNING_SECRET,
        client_id: str = known.CLIENT_ID,
        client_secret: str = known.CLIENT_SECRET,
        team_id: str = known.TEAM_ID,
        bot_token: str = "",
        app_token: str = "",
        transport: str = "http",
    ) -> None:
        super().__init__(port=port)
        self.urls: dict[str, str] = {}
        self.point_at(events_url or "", slash_url)
        self.post = post or self._post_over_http
        self.signing_secret = signing_secret.encode()
        self.client_id = client_id
        self.client_secret = client_secret
        self.app_id = known.APP_ID
        self.team_id = team_id
        self.app_token = app_token or f"xapp-1-{self.app_id}-{secrets.token_hex(12)}"
        self.bot_token = bot_token or f"xoxb-{secrets.token_hex(16)}"
        self.transport = transport
        self.socket_mode_is_on = True
        self.echoes = True
        self.rotates = False
        self.token_ttl_s = float(known.ROTATES_AFTER_S)
        self.channel_pause_s = 0.0
        self.answer_delay_s = 0.0
        self.answer_within_s = ANSWER_WITHIN_S
        self.acks: list[Acked] = []
        self.sockets = Sockets(self)
        self.pages = Pages(self)
        self._api = WebAPI(self)
        self._control = Control(self)
        self._background = ThreadPoolExecutor(8, "slack-background")
        self.reset()

    def reset(self) -> None:
        """Forget everything but the keys; the workspace `team_id` has the app, with `bot_token`."""
        self.state = State()
        self.state.tokens[self.bot_token] = known.Token(
            self.team_id, "bot", self.state.team(self.team_id).bot_user_id, known.SCOPES
        )
        self.acks.clear()
        self.echoes, self.rotates = True, False
        self.channel_pause_s = self.answer_delay_s = 0.0
        self.answer_within_s = ANSWER_WITHIN_S
        self.token_ttl_s = float(known.ROTATES_AFTER_S)
        self.sockets.ack_within_s = ANSWER_WITHIN_S

    def point_at(self, events_url: str, slash_url: str | None = None) -> None:
        """Deliver there from now on; without a second address slash commands go beside the events."""
        self.urls = {"events": events_url, "slash": slash_url or events_url.replace("/events", "/slash")}

    def settings(self, *, socket_mode: bool = False) -> dict[str, str]:
        """The environment that points a Slack collector here."""
        return {
            "SLACK_BOT_TOKEN": self.bot_token,
            "SLACK_APP_TOKEN": self.app_token,
            "SLACK_CLIENT_ID": self.client_id,
            "SLACK_CLIENT_SECRET": self.client_secret,
            "SLACK_SIGNING_SECRET": self.signing_secret.decode(),
            "SLACK_SOCKET_MODE": str(socket_mode).lower(),
            "SLACK_API_BASE_URL": f"{self.url}/api/",
        }

    @property
    def said(self) -> list[Said]:
        """What the bot said."""
        return [each for each in self.state.said if each.by_bot]

    # Running

    def start(self) -> Self:
        self._background = ThreadPoolExecutor(8, "slack-background")
        return super().start()

    def stop(self) -> None:
        super().stop()
        self._background.shutdown(wait=False, cancel_futures=True)

    def make_app(self) -> web.Application:
        app = web.Application(middlewares=self.middlewares)
        app.add_routes(
            [
                web.route("*", "/api/{method}", self._api.serve),
                web.get("/link/", self.sockets.serve),
                web.route("*", "/oauth/v2/authorize", self.pages.authorize),
                web.route("*", "/openid/connect/authorize", self.pages.sign_in),
                web.post("/commands/{token:.+}", self.pages.respond),
                *self._control.routes(),
            ]
        )
        return app

    async def closing(self) -> None:
        for connection in list(self.sockets.connections):
            await connection.socket.close()

    def in_background(self, work: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # The simulator is being stopped.
            self._background.submit(work)

    # What happens in Slack

    def event(
        self,
        event: Mapping[str, Any],
        *,
        team: str = "",
        event_id: str = "",
        event_time: int = 0,
        authorizations: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """An event in its envelope, as it is posted and as it goes down a socket."""
        team_id = team or self.team_id
        bot = self.state.team(team_id).bot_user_id
        granted = {"enterprise_id": None, "team_id": team_id, "user_id": bot, "is_bot": True}
        return {
            "token": "verification-token-of-old",
            "team_id": team_id,
            "context_team_id": team_id,
            "context_enterprise_id": None,
            "api_app_id": self.app_id,
            "event": dict(event),
            "type": "event_callback",
            "event_id": event_id or f"Ev{secrets.token_hex(5).upper()}",
            "event_time": event_time or int(time.time()),
            "authorizations": list(authorizations) if authorizations is not None else [granted],
            "is_ext_shared_channel": False,
            "event_context": f"4-{secrets.token_hex(8)}",
        }

    def message(
        self,
        channel: str,
        text: str,
        *,
        user: str = "U1",
        team: str = "",
        ts: str = "",
        thread_ts: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A `message` event; `more` is put over its fields."""
        stamp = ts or self.state.make_ts()
        kinds = {"D": "im", "G": "group"}
        return {
            "type": "message",
            "channel": channel,
            "channel_type": kinds.get(channel[:1], "channel"),
            "user": user,
            "text": text,
            "ts": stamp,
            "event_ts": stamp,
            "team": team or self.team_id,
            **({"thread_ts": thread_ts} if thread_ts else {}),
            **(more or {}),
        }

    def say(self, channel: str, text: str, *, event_id: str = "", team: str = "", **options: Any) -> list[int]:
        """Somebody writes in a channel, and Slack delivers it. A mention of the bot is delivered a second time."""
        event = self.message(channel, text, team=team, **options)
        self._note(event, team or self.team_id)
        statuses = self.happen(event, team=team, event_id=event_id)
        if f"<@{self.state.team(team or self.team_id).bot_user_id}>" in text:
            mention = {**event, "type": "app_mention"}
            mention.pop("channel_type")
            self.happen(mention, team=team)
        return statuses

    def happen(self, event: Mapping[str, Any], *, team: str = "", event_id: str = "") -> list[int]:
        """Deliver an event as this app is set up: over HTTP or down a socket. Returns the status of each try."""
        envelope = self.event(event, team=team, event_id=event_id)
        if self.transport == "socket":
            return [self.run(self.sockets.deliver("events_api", envelope)).status]
        return [each.status for each in self.deliver(self.sign("events", envelope))]

    def slash(
        self, text: str, *, channel: str = "C1", user: str = "U1", team: str = "", command: str = "/waddlebot"
    ) -> Answered:
        """Somebody writes `/waddlebot text`. What comes back at once is the answer; Slack does not try again."""
        form = self.slash_form(text, channel=channel, user=user, team=team, command=command)
        if self.transport == "socket":
            return self.run(self.sockets.deliver("slash_commands", form, tries=1))
        return self.deliver(self.sign("slash", form), pauses_s=[])[0]

    def slash_form(self, text: str, *, channel: str, user: str, team: str = "", command: str) -> dict[str, Any]:
        workspace = self.state.team(team or self.team_id)
        return {
            "token": "verification-token-of-old",
            "team_id": workspace.id,
            "team_domain": workspace.id.lower(),
            "channel_id": channel,
            "channel_name": workspace.channel_names.get(channel, channel.lower()),
            "user_id": user,
            "user_name": workspace.user(user).name,
            "command": command,
            "text": text,
            "api_app_id": self.app_id,
            "is_enterprise_install": "false",
            "response_url": self.pages.make_response_url(workspace.id, channel, user),
            "trigger_id": f"{secrets.randbelow(10**13)}.{secrets.token_hex(8)}",
        }

    def change_user(self, id_: str, *, team: str = "", **fields: Any) -> list[int]:
        """Somebody changes, and whoever listens is told: `name`, `display_name`, `is_owner`, `is_admin`, `is_bot`."""
        workspace = self.state.team(team or self.team_id)
        user = workspace.user(id_)
        for name, value in fields.items():
            setattr(user, name, value)
        workspace.users[id_] = user
        return self.happen({"type": "user_change", "user": user_object(workspace, id_)}, team=workspace.id)

    def uninstall(self, team: str = "") -> None:
        """Take the app out of a workspace: its tokens end, and it is told so, in both of Slack's ways."""
        team_id = team or self.team_id
        self.state.end_tokens(team_id, "account_inactive")
        bot = self.state.team(team_id).bot_user_id
        self.happen({"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [bot]}}, team=team_id)
        self.happen({"type": "app_uninstalled"}, team=team_id)

    def echo(self, said: Said) -> None:
        """The bot's own message comes back as an event."""
        team = self.state.team(said.team)
        more = {"bot_id": team.bot_id, "app_id": self.app_id}
        if said.thread_ts:
            more["thread_ts"] = said.thread_ts
        event = self.message(said.channel, said.text, user=team.bot_user_id, team=said.team, ts=said.ts, more=more)
        self.happen(event, team=said.team)

    def fail_next(
        self, kind: str | int, times: int = 1, *, method: str = "chat.postMessage", wait_s: float = 1
    ) -> None:
        """Let the next calls of a method (`response_url` is one too) end with a status, an error's name, `hang`, or
        `cut`: done, and no answer."""
        self.state.faults.append(Fault(method, str(kind), times, wait_s))

    def _note(self, event: Mapping[str, Any], team: str) -> None:
        self.state.record(
            ts=event["ts"],
            team=team,
            channel=event["channel"],
            text=event["text"],
            user=event["user"],
            by_bot=False,
            thread_ts=event.get("thread_ts", ""),
            ephemeral_to="",
            via="person",
        )

    # Deliveries over HTTP

    def sign(
        self, to: str, body: Mapping[str, Any] | bytes, *, age_s: float = 0, timestamp: str = "", secret: bytes = b""
    ) -> Delivery:
        """Any body, signed as Slack signs: events are JSON, slash commands forms."""
        is_form = to == "slash"
        raw = body if isinstance(body, bytes) else (urlencode(body) if is_form else _json(body)).encode()
        stamp = timestamp or str(int(time.time() - age_s))
        digest = hmac.new(secret or self.signing_secret, f"v0:{stamp}:".encode() + raw, hashlib.sha256).hexdigest()
        return Delivery(
            to,
            {
                "Content-Type": "application/x-www-form-urlencoded" if is_form else "application/json",
                "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
                "X-Slack-Request-Timestamp": stamp,
                "X-Slack-Signature": f"v0={digest}",
            },
            raw,
        )

    def deliver(self, delivery: Delivery, *, pauses_s: Sequence[float] = RETRY_PAUSES_S) -> list[Answered]:
        """Post a delivery, and again with a higher Retry-Num until the answer is 2xx or asks to stop."""
        answers: list[Answered] = []
        reason = ""
        for number, pause_s in enumerate([*pauses_s, 0.0]):
            retry = {"X-Slack-Retry-Num": str(number), "X-Slack-Retry-Reason": reason} if number else {}
            answer = self.post(Delivery(delivery.to, {**delivery.headers, **retry}, delivery.body))
            answers.append(answer)
            if 200 <= answer.status < 300 or answer.headers.get("x-slack-no-retry") == "1":
                break
            reason = "http_timeout" if answer.status == 0 else "http_error"
            time.sleep(pause_s)
        return answers

    def _post_over_http(self, delivery: Delivery) -> Answered:
        url = self.urls[delivery.to]
        assert url, "where to? give the simulator an events_url"
        request = urllib.request.Request(url, delivery.body, dict(delivery.headers), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.answer_within_s) as answer:
                return Answered(answer.status, answer.read(), _lower(answer.headers))
        except urllib.error.HTTPError as err:
            with err:
                return Answered(err.code, err.read(), _lower(err.headers))
        except (OSError, http.client.HTTPException):
            return Answered(0)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
