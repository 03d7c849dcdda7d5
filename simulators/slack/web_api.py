"""Slack's Web API: POST or GET /api/<method>, 200 with `ok` whether it worked or not."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .state import ROTATES_AFTER_S, Fault, Said, Team, Token

if TYPE_CHECKING:
    from .simulator import SlackSimulator

MAX_TEXT_CHARS, MAX_BLOCKS = 40_000, 50
# Channels, groups and direct messages; people, to whom one may write as well.
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
CHANNEL = re.compile(r"[CDGUW][A-Z0-9]+")
Handler = Callable[[Token, Mapping[str, str]], dict[str, Any]]


class SlackError(Exception):
    """`ok: false`, with this word for why."""

    def __init__(self, error: str, **more: Any) -> None:
        super().__init__(error)
        self.body = {"ok": False, "error": error, **more}


class WebAPI:
    def __init__(self, slack: SlackSimulator) -> None:
        self._slack = slack
        self._methods: dict[str, Handler] = {
            "auth.test": self._auth_test,
            "auth.revoke": self._auth_revoke,
            "apps.uninstall": self._uninstall,
            "chat.postMessage": self._post_message,
            "chat.postEphemeral": self._post_ephemeral,
            "chat.delete": self._delete,
            "chat.update": self._update,
            "users.info": self._users_info,
            "conversations.info": self._conversations_info,
            "conversations.list": self._conversations_list,
            "conversations.open": self._conversations_open,
            "usergroups.list": self._groups_list,
            "usergroups.users.list": self._group_users,
            "usergroups.users.update": self._group_update,
            "usergroups.disable": self._group_disable,
            "usergroups.enable": self._group_enable,
            "openid.connect.userInfo": self._openid_user,
        }

    async def serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        state = self._slack.state
        state.requests.append(method)
        try:
            asked = await _arguments(request)
        except SlackError as err:
            return web.json_response(err.body)
        if self._slack.answer_delay_s:
            await asyncio.sleep(self._slack.answer_delay_s)
        fault = state.fault(method)
        if fault and fault.kind == "hang":
            await asyncio.sleep(60)
        if fault and fault.kind != "cut":
            return _broken(fault)
        try:
            body = await self._answer(request, method, asked)
        except SlackError as err:
            body = err.body
        if body.get("error") == "ratelimited":
            return web.json_response(body, status=429, headers={"Retry-After": str(body.pop("retry_after", 1))})
        if fault and request.transport is not None:
            request.transport.close()  # It is done, and whoever asked will never know.
        return web.json_response(body)

    async def _answer(self, request: web.Request, method: str, asked: Mapping[str, str]) -> dict[str, Any]:
        if method == "oauth.v2.access":
            return self._oauth_access(request, asked)
        if method == "openid.connect.token":
            return self._openid_token(request, asked)
        if method == "apps.connections.open":
            return self._slack.sockets.open(_bearer(request, asked))
        handler = self._methods.get(method)
        if handler is None:
            raise SlackError("unknown_method", req_method=method)
        answer = handler(self._token(_bearer(request, asked)), asked)
        later = answer.pop("_later", None)
        if later:
            self._slack.in_background(later)
        return answer

    def _token(self, text: str) -> Token:
        if not text:
            raise SlackError("not_authed")
        token = self._slack.state.tokens.get(text)
        if token is None:
            raise SlackError("invalid_auth")
        if token.ended:
            raise SlackError(token.ended)
        if token.expires_at is not None and token.expires_at <= time.time():
            raise SlackError("token_expired")
        return token

    def _auth_test(self, token: Token, _: Mapping[str, str]) -> dict[str, Any]:
        team = self._slack.state.team(token.team)
        return {
            "ok": True,
            "url": f"https://{team.id.lower()}.slack.com/",
            "team": team.name,
            "user": "waddlebot",
            "team_id": team.id,
            "user_id": token.user,
            "bot_id": team.bot_id,
            "is_enterprise_install": False,
        }

    def _auth_revoke(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        if asked.get("test") not in ("1", "true"):
            token.ended = "token_revoked"
        return {"ok": True, "revoked": bool(token.ended)}

    def _uninstall(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        if (asked.get("client_id"), asked.get("client_secret")) != (self._slack.client_id, self._slack.client_secret):
            raise SlackError("invalid_client_id")
        return {"ok": True, "_later": lambda: self._slack.uninstall(token.team)}

    # Chat

    def _post_message(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        team, channel = self._place(token, asked)
        self._check_pace(team, channel)
        said = self._say(token, team, channel, asked, via="chat.postMessage")
        message = {"type": "message", "user": team.bot_user_id, "text": said.text, "ts": said.ts, "team": team.id}
        later = (lambda: self._slack.echo(said)) if self._slack.echoes else None
        return {"ok": True, "channel": channel, "ts": said.ts, "message": message, "_later": later}

    def _post_ephemeral(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        team, channel = self._place(token, asked)
        if not asked.get("user"):
            raise SlackError("user_not_found")
        self._check_pace(team, channel)
        said = self._say(token, team, channel, asked, via="chat.postEphemeral", ephemeral_to=asked["user"])
        return {"ok": True, "message_ts": said.ts}

    def _delete(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        team, channel, ts = token.team, asked.get("channel", ""), asked.get("ts", "")
        found = self._slack.state.find_said(team, channel, ts)
        if found is None:
            raise SlackError("message_not_found")
        person = self._slack.state.team(team).user(token.user)
        may_delete_others = token.kind == "user" and (person.is_admin or person.is_owner)
        if found.user != token.user and not may_delete_others:
            raise SlackError("cant_delete_message")
        self._slack.state.deleted.append((channel, ts))
        return {"ok": True, "channel": channel, "ts": ts}

    def _place(self, token: Token, asked: Mapping[str, str]) -> tuple[Team, str]:
        team, channel = self._slack.state.team(token.team), asked.get("channel", "")
        if not CHANNEL.fullmatch(channel):
            raise SlackError("channel_not_found")
        if channel in team.closed:
            raise SlackError(team.closed[channel])
        return team, channel

    def _check_pace(self, team: Team, channel: str) -> None:
        state, key = self._slack.state, (team.id, channel)
        wait_s = state.spoke_at.get(key, 0.0) + self._slack.channel_pause_s - time.time()
        if wait_s > 0:
            raise SlackError("ratelimited", retry_after=max(1, round(wait_s)))
        state.spoke_at[key] = time.time()

    def _say(
        self, token: Token, team: Team, channel: str, asked: Mapping[str, str], *, via: str, ephemeral_to: str = ""
    ) -> Said:
        text, blocks = _checked_text(asked)
        return self._slack.state.record(
            ts=self._slack.state.make_ts(),
            team=team.id,
            channel=channel,
            text=text,
            user=token.user,
            by_bot=True,
            thread_ts=asked.get("thread_ts", ""),
            ephemeral_to=ephemeral_to,
            via=via,
            attachments=asked.get("attachments", ""),
            blocks=blocks,
        )

    def _update(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        team, channel = self._place(token, asked)
        text, blocks = _checked_text(asked)
        found = self._slack.state.find_said(team.id, channel, asked.get("ts", ""))
        if found is None or (channel, found.ts) in self._slack.state.deleted:
            raise SlackError("message_not_found")
        if found.user != token.user:
            raise SlackError("cant_update_message")
        self._slack.state.replace_said(found, text=text, blocks=blocks, attachments=asked.get("attachments", ""))
        message = {"type": "message", "user": found.user, "text": text, "blocks": blocks, "team": team.id}
        return {"ok": True, "channel": channel, "ts": found.ts, "text": text, "message": message}

    # People and channels

    def _users_info(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        id_ = asked.get("user", "")
        if not id_ or id_.startswith("UGONE"):
            raise SlackError("user_not_found")
        return {"ok": True, "user": user_object(self._slack.state.team(token.team), id_)}

    def _conversations_info(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        team, channel = self._place(token, asked)
        return {"ok": True, "channel": _channel_object(team, channel)}

    def _conversations_list(self, token: Token, _: Mapping[str, str]) -> dict[str, Any]:
        team = self._slack.state.team(token.team)
        channels = [_channel_object(team, each) for each in team.channel_names]
        return {"ok": True, "channels": channels, "response_metadata": {"next_cursor": ""}}

    def _conversations_open(self, _: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        users = [each for each in asked.get("users", "").split(",") if each]
        if not users or any(each.startswith("UGONE") for each in users):
            raise SlackError("user_not_found" if users else "users_list_not_supplied")
        channel = f"D{''.join(sorted(users))}" if len(users) == 1 else f"G{''.join(sorted(users))}"
        return {"ok": True, "no_op": False, "already_open": False, "channel": {"id": channel}}

    def _groups_list(self, token: Token, _: Mapping[str, str]) -> dict[str, Any]:
        groups = self._slack.state.team(token.team).groups
        return {"ok": True, "usergroups": [{"id": id_, "handle": id_.lower(), "users": groups[id_]} for id_ in groups]}

    def _group_users(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        groups = self._slack.state.team(token.team).groups
        if asked.get("usergroup", "") not in groups:
            raise SlackError("no_such_subteam")
        return {"ok": True, "users": groups[asked["usergroup"]]}

    def _group_update(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        groups = self._slack.state.team(token.team).groups
        if asked.get("usergroup", "") not in groups:
            raise SlackError("no_such_subteam")
        users = [each for each in asked.get("users", "").split(",") if each]
        if not users:
            raise SlackError("no_users_provided")
        groups[asked["usergroup"]] = users
        return {"ok": True, "usergroup": {"id": asked["usergroup"], "users": groups[asked["usergroup"]]}}

    def _group_disable(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        groups = self._slack.state.team(token.team).groups
        if asked.get("usergroup", "") not in groups:
            raise SlackError("no_such_subteam")
        # A group that is off shows nobody.
        groups[asked["usergroup"]] = []
        return {"ok": True, "usergroup": {"id": asked["usergroup"], "users": []}}

    def _group_enable(self, token: Token, asked: Mapping[str, str]) -> dict[str, Any]:
        return self._group_users(token, asked)

    # OAuth

    def _check_client(self, request: web.Request, asked: Mapping[str, str]) -> None:
        client = _basic(request) or (asked.get("client_id", ""), asked.get("client_secret", ""))
        if client[0] != self._slack.client_id:
            raise SlackError("invalid_client_id")
        if client[1] != self._slack.client_secret:
            raise SlackError("bad_client_secret")

    def _oauth_access(self, request: web.Request, asked: Mapping[str, str]) -> dict[str, Any]:
        self._check_client(request, asked)
        if asked.get("grant_type") == "refresh_token":
            return self._refresh(asked.get("refresh_token", ""))
        return self._exchange(asked.get("code", ""), asked.get("redirect_uri", ""))

    def _use(self, code: str, redirect_uri: str) -> tuple[str, str, str]:
        """The workspace, the person and the scope that a code is for."""
        state = self._slack.state
        if code in state.used_codes:
            raise SlackError("code_already_used")
        if code not in state.codes:
            raise SlackError("invalid_code")
        team_id, user, asked_for, user_scope = state.codes.pop(code)
        state.used_codes.add(code)
        if asked_for != redirect_uri:
            raise SlackError("bad_redirect_uri")
        return team_id, user, user_scope

    def _openid_token(self, request: web.Request, asked: Mapping[str, str]) -> dict[str, Any]:
        self._check_client(request, asked)
        team, user, scope = self._use(asked.get("code", ""), asked.get("redirect_uri", ""))
        token = self._slack.state.make_token(team, kind="user", user=user, scope=scope)
        claims = {"iss": "https://slack.com", "sub": user, "aud": self._slack.client_id}
        signed = ".".join([_base64({"alg": "RS256"}), _base64(claims), "unsigned"])
        return {"ok": True, "access_token": token, "token_type": "Bearer", "id_token": signed}

    def _openid_user(self, token: Token, _: Mapping[str, str]) -> dict[str, Any]:
        if "openid" not in token.scope:
            raise SlackError("missing_scope", needed="openid")
        team = self._slack.state.team(token.team)
        user = team.user(token.user)
        return {
            "ok": True,
            "sub": token.user,
            "https://slack.com/user_id": token.user,
            "https://slack.com/team_id": team.id,
            "https://slack.com/team_name": team.name,
            "name": user.display_name or user.name,
            "locale": "en-US",
        }

    def _exchange(self, code: str, redirect_uri: str) -> dict[str, Any]:
        team_id, user, user_scope = self._use(code, redirect_uri)
        team = self._slack.state.team(team_id)
        return {
            "ok": True,
            **self._granted(team_id),
            "bot_user_id": team.bot_user_id,
            "app_id": self._slack.app_id,
            "team": {"id": team.id, "name": team.name},
            "enterprise": None,
            "is_enterprise_install": False,
            "authed_user": {"id": user, **self._granted_by(team_id, user, user_scope)},
        }

    def _granted_by(self, team_id: str, user: str, scope: str) -> dict[str, Any]:
        """A token of the person's own, if the app has asked for one."""
        if not scope:
            return {}
        token = self._slack.state.make_token(team_id, kind="user", user=user, scope=scope)
        return {"access_token": token, "token_type": "user", "scope": scope}

    def _refresh(self, refresh_token: str) -> dict[str, Any]:
        state = self._slack.state
        team_id = state.refresh_tokens.pop(refresh_token, None)
        if team_id is None:
            raise SlackError("invalid_refresh_token")
        return {"ok": True, **self._granted(team_id), "team": {"id": team_id}, "app_id": self._slack.app_id}

    def _granted(self, team_id: str) -> dict[str, Any]:
        state = self._slack.state
        ttl_s = self._slack.token_ttl_s if self._slack.rotates else 0
        token = state.make_token(team_id, ttl_s=ttl_s)
        granted = {"access_token": token, "token_type": "bot", "scope": state.tokens[token].scope}
        if not self._slack.rotates:
            return granted
        refresh = f"xoxe-1-{state.make_ts()}-{token[-12:]}"
        state.refresh_tokens[refresh] = team_id
        return {**granted, "refresh_token": refresh, "expires_in": round(ttl_s or ROTATES_AFTER_S)}


def _checked_text(asked: Mapping[str, str]) -> tuple[str, list[Any]]:
    """What is said, as text and as blocks; of blocks Slack makes no text."""
    text = asked.get("text", "")
    try:
        blocks = json.loads(asked.get("blocks") or "[]")
    except ValueError:
        raise SlackError("invalid_blocks_format") from None
    if not isinstance(blocks, list) or not all(isinstance(each, dict) and each.get("type") for each in blocks):
        raise SlackError("invalid_blocks")
    if len(blocks) > MAX_BLOCKS:
        raise SlackError("invalid_blocks")
    if not text and not blocks:
        raise SlackError("no_text")
    if len(text) > MAX_TEXT_CHARS:
        raise SlackError("msg_too_long")
    return text, blocks


def user_object(team: Team, id_: str) -> dict[str, Any]:
    user = team.user(id_)
    return {
        "id": id_,
        "team_id": team.id,
        "name": user.name,
        "deleted": False,
        "real_name": user.display_name or user.name,
        # What nobody has said of themselves is null.
        "tz": None,
        "tz_label": None,
        "profile": {
            "display_name": user.display_name,
            "real_name": user.display_name or user.name,
            "title": None,
            "status_text": None,
            "image_72": None,
        },
        "is_admin": user.is_admin or user.is_owner,
        "is_owner": user.is_owner,
        "is_primary_owner": False,
        "is_bot": user.is_bot,
        "is_app_user": False,
    }


def _channel_object(team: Team, id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "name": team.channel_names.get(id_, id_.lower()),
        "is_channel": not id_.startswith("D"),
        "is_im": id_.startswith("D"),
        "is_member": True,
        "is_archived": False,
        "context_team_id": team.id,
    }


async def _arguments(request: web.Request) -> dict[str, str]:
    """Arguments as Slack takes them: in the query, as a form, or as JSON."""
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.text() or "{}")
        except ValueError as err:
            raise SlackError("invalid_json") from err
        if not isinstance(body, dict):
            raise SlackError("json_not_object")
        return {**request.query, **{name: _as_text(value) for name, value in body.items() if value is not None}}
    if request.can_read_body and request.content_type not in FORMS:
        raise SlackError("invalid_post_type")
    return {**request.query, **{name: str(value) for name, value in (await request.post()).items()}}


def _as_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _base64(data: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


def _bearer(request: web.Request, asked: Mapping[str, str]) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else asked.get("token", "")


def _basic(request: web.Request) -> tuple[str, str] | None:
    header = request.headers.get("Authorization", "")
    if not header.startswith("Basic "):
        return None
    login, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return login, password


def _broken(fault: Fault) -> web.Response:
    if not fault.kind.isdecimal():
        return web.json_response({"ok": False, "error": fault.kind})
    headers = {"Retry-After": f"{fault.retry_after_s:g}"} if fault.kind == "429" else {}
    error = "ratelimited" if fault.kind == "429" else "internal_error"
    return web.json_response({"ok": False, "error": error}, status=int(fault.kind), headers=headers)
