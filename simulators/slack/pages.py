"""The page on which somebody lets an app into their workspace, and the addresses that a slash command may answer to."""

from __future__ import annotations

import html
import json
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from .state import ResponseURL

if TYPE_CHECKING:
    from .simulator import SlackSimulator

PAGE = """<!doctype html><title>Slack (simulated)</title>
<h1>{app} asks to come into {team}</h1><p>It asks for: {scope}</p>
<form method="post"><button name="decision" value="allow">Allow</button>
<button name="decision" value="cancel">Cancel</button></form>"""
OPENID_PAGE = """<!doctype html><title>Slack (simulated)</title>
<h1>Sign in to {app} with Slack</h1><p>It asks for: {scope}</p>
<form method="post"><label>Who are you? <input name="who" list="people" autofocus autocomplete="off"></label>
<datalist id="people">{people}</datalist><button name="decision" value="allow">Allow</button>
<button name="decision" value="cancel">Cancel</button></form>"""
RESPONSE_URL_TTL_S = 30 * 60


class Pages:
    def __init__(self, slack: SlackSimulator) -> None:
        self._slack = slack

    def make_code(self, team: str, user: str, redirect_uri: str, user_scope: str = "") -> str:
        code = f"{team}.{secrets.token_hex(12)}"
        self._slack.state.codes[code] = (team, user, redirect_uri, user_scope)
        return code

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """GET shows the page; POST is the decision, as `decision`, and sends the browser back. `team` and `user` may be
        given, for who is not a browser."""
        query = request.query
        if query.get("client_id") != self._slack.client_id:
            return web.Response(status=400, text="invalid client_id")
        if not query.get("redirect_uri"):
            return web.Response(status=400, text="redirect_uri did not match any configured URIs")
        team = self._slack.state.team(query.get("team", self._slack.team_id))
        if request.method == "GET" and "decision" not in query:
            page = PAGE.format(app="WaddleBot", team=html.escape(team.name), scope=html.escape(query.get("scope", "")))
            return web.Response(text=page, content_type="text/html")
        form = await request.post()
        decision = str(form.get("decision") or query.get("decision", "allow"))
        answer = {"error": "access_denied"} if decision == "cancel" else {}
        if not answer:
            user, user_scope = query.get("user", "UINSTALLER"), query.get("user_scope", "")
            answer = {"code": self.make_code(team.id, user, query["redirect_uri"], user_scope)}
        back = {**answer, "state": query.get("state", "")}
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(back)}")

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Sign in with Slack: GET shows the page, POST is who somebody is, by name, and their decision."""
        query, team = request.query, self._slack.state.team(self._slack.team_id)
        if query.get("client_id") != self._slack.client_id:
            return web.Response(status=400, text="invalid client_id")
        if query.get("response_type") != "code" or "openid" not in query.get("scope", "").split():
            return web.Response(status=400, text="invalid_scope")
        if request.method == "GET":
            people = "".join(f'<option value="{html.escape(each.name)}">' for each in team.users.values())
            page = OPENID_PAGE.format(app="WaddleBot", scope=html.escape(query["scope"]), people=people)
            return web.Response(text=page, content_type="text/html")
        form = await request.post()
        back = {"state": query.get("state", "")}
        if form.get("decision") != "allow":
            raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode({'error': 'access_denied', **back})}")
        name = str(form.get("who", "")).strip()
        user = next((each.id for each in team.users.values() if each.name == name.lower()), "")
        if not user:
            user = f"U{secrets.token_hex(5).upper()}"
            team.users[user] = replace(team.user(user), name=name.lower(), display_name=name)
        code = self.make_code(team.id, user, query["redirect_uri"], query["scope"])
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode({'code': code, **back})}")

    def make_response_url(self, team: str, channel: str, user: str) -> str:
        token = f"{team}/{secrets.token_hex(8)}/{secrets.token_hex(12)}"
        expires_at = time.time() + RESPONSE_URL_TTL_S
        self._slack.state.response_urls[token] = ResponseURL(team, channel, user, expires_at)
        return f"{self._slack.url}/commands/{token}"

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """A slash command's later answer: five times at most, within half an hour."""
        state = self._slack.state
        state.requests.append("response_url")
        fault = state.fault("response_url")
        if fault and fault.kind.isdecimal():
            return web.Response(status=int(fault.kind), text="simulated", headers={"Retry-After": "1"})
        found = state.response_urls.get(request.match_info["token"])
        if found is None or found.expires_at <= time.time():
            return web.Response(status=404, text="expired_url")
        if found.uses_left <= 0:
            return web.Response(status=404, text="used_url")
        found.uses_left -= 1
        asked = json.loads(await request.text())
        if not asked.get("text"):
            return web.Response(status=500, text="no_text")
        in_channel = asked.get("response_type") == "in_channel"
        state.record(
            ts=state.make_ts(),
            team=found.team,
            channel=found.channel,
            text=asked["text"],
            user=state.team(found.team).bot_user_id,
            by_bot=True,
            thread_ts=asked.get("thread_ts", ""),
            ephemeral_to="" if in_channel else found.user,
            via="response_url",
        )
        return web.Response(text="ok")
