"""accounts.spotify.com: the page on which people consent, and tokens.

Source: https://developer.spotify.com/documentation/web-api/tutorials/code-flow and …/refreshing-tokens
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web

from .faults import Faults
from .player import Player

TOKEN_LIFE_S = 3600
CODE_LIFE_S = 600


@dataclass(slots=True)
class Person:
    """Somebody with an account. Who is not listed may consent, and the app may still do nothing for them."""

    id: str
    name: str
    is_premium: bool = True
    is_listed: bool = True
    player: Player = field(default_factory=Player)


@dataclass(slots=True)
class App:
    client_id: str
    client_secret: str
    # Anything goes while there is nothing, but for what Spotify takes from nobody.
    redirect_uris: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Token:
    access: str
    refresh: str
    person: Person
    app: App
    scopes: tuple[str, ...]
    expires_at: float


@dataclass(frozen=True, slots=True)
class Code:
    person: Person
    app: App
    scopes: tuple[str, ...]
    redirect_uri: str
    expires_at: float


class PageRefused(ValueError):
    """What Spotify says on a page of its own, because it cannot trust the address to send people back to."""


class GrantRefused(ValueError):
    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.body = {"error": error, "error_description": description}


class Accounts:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.people: dict[str, Person] = {}
        self.apps: dict[str, App] = {}
        self.tokens: dict[str, Token] = {}
        self.token_life_s: float = TOKEN_LIFE_S
        # Whether a refresh brings another refresh token, and ends the one before it.
        self.rotates = False
        self.refreshes = 0
        self._refresh: dict[str, Token] = {}
        self._codes: dict[str, Code] = {}
        self.add_app("simulated-app", secrets.token_hex(16))

    def add_app(self, client_id: str, client_secret: str) -> App:
        self.apps[client_id] = App(client_id, client_secret)
        return self.apps[client_id]

    def app(self) -> App:
        """The fleet's."""
        return next(iter(self.apps.values()))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/authorize", self._page),
            web.post("/authorize", self._decide),
            web.post("/api/token", self._token),
        ]

    def authorize(self, url: str, *, user: str, grant: Sequence[str] | None = None, deny: bool = False) -> str:
        """Decide as the person whose browser was sent to `url`. Returns where Spotify sends the browser.

        Raises: PageRefused.
        """
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
        app = self._check_asked(asked)
        state = {"state": asked["state"]} if "state" in asked else {}
        if deny:
            return f"{asked['redirect_uri']}?{urlencode({'error': 'access_denied', **state})}"
        wanted = asked.get("scope", "").split()
        scopes = tuple(each for each in wanted if grant is None or each in grant)
        code = secrets.token_urlsafe(120)
        person = self.people[user]
        self._codes[code] = Code(person, app, scopes, asked["redirect_uri"], time.time() + CODE_LIFE_S)
        return f"{asked['redirect_uri']}?{urlencode({'code': code, **state})}"

    def revoke(self, user: str) -> None:
        """They remove the app at their account's page."""
        for tokens in (self.tokens, self._refresh):
            for key in [key for key, each in tokens.items() if each.person.id == user]:
                del tokens[key]

    def expire(self, user: str) -> None:
        """Their access tokens end now, refresh tokens do not."""
        for key in [key for key, each in self.tokens.items() if each.person.id == user]:
            del self.tokens[key]

    def find(self, authorization: str) -> Token | None:
        token = self.tokens.get(authorization.removeprefix("Bearer "))
        return token if token and token.expires_at > time.time() else None

    def _check_asked(self, asked: dict[str, str]) -> App:
        app = self.apps.get(asked.get("client_id", ""))
        if app is None:
            raise PageRefused("INVALID_CLIENT: Invalid client")
        if asked.get("response_type") != "code":
            raise PageRefused("response_type must be code")
        redirect = urlsplit(asked.get("redirect_uri", ""))
        is_safe = redirect.scheme == "https" or redirect.hostname in ("127.0.0.1", "::1", "waddlebot.test")
        if not is_safe:
            raise PageRefused("INVALID_CLIENT: Insecure redirect URI")
        if app.redirect_uris and asked["redirect_uri"] not in app.redirect_uris:
            raise PageRefused("INVALID_CLIENT: Invalid redirect URI")
        return app

    async def _page(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check_asked(dict(request.query))
        except PageRefused as err:
            return web.Response(status=400, text=str(err))
        people = "".join(
            f'<button name="user" value="{escape(each)}">Agree as {escape(each)}</button>' for each in self.people
        )
        scopes = escape(request.query.get("scope", ""))
        page = (
            f"<!doctype html><title>Spotify</title><h1>Spotify (simulated)</h1><p>Wants: {scopes}</p>"
            f'<form method="post">{people}<button name="deny" value="1">Cancel</button></form>'
        )
        return web.Response(text=page, content_type="text/html")

    async def _decide(self, request: web.Request) -> web.StreamResponse:
        given = await request.post()
        user, deny = str(given.get("user", "")), "deny" in given
        if user not in self.people and not deny:
            return web.Response(status=400, text="nobody is called that")
        try:
            raise web.HTTPFound(self.authorize(str(request.url), user=user, deny=deny))
        except PageRefused as err:
            return web.Response(status=400, text=str(err))

    async def _token(self, request: web.Request) -> web.StreamResponse:
        if fault := self._faults.next("api/token"):
            return await fault.answer(request)
        asked = {name: str(value) for name, value in (await request.post()).items()}
        try:
            return web.json_response(self._grant(self._app_of(request, asked), asked))
        except GrantRefused as err:
            return web.json_response(err.body, status=400)

    def _app_of(self, request: web.Request, asked: dict[str, str]) -> App:
        given = f"{asked.get('client_id', '')}:{asked.get('client_secret', '')}"
        header = request.headers.get("Authorization", "")
        if header.startswith("Basic "):
            try:
                given = base64.b64decode(header.removeprefix("Basic ")).decode()
            except (binascii.Error, UnicodeDecodeError):
                given = ""
        client_id, _, secret = given.partition(":")
        app = self.apps.get(client_id)
        if app is None:
            raise GrantRefused("invalid_client", "Invalid client")
        if not secrets.compare_digest(secret, app.client_secret):
            raise GrantRefused("invalid_client", "Invalid client secret")
        return app

    def _grant(self, app: App, asked: dict[str, str]) -> dict[str, Any]:
        if asked.get("grant_type") == "authorization_code":
            code = self._codes.pop(asked.get("code", ""), None)
            if code is None or code.app is not app:
                raise GrantRefused("invalid_grant", "Invalid authorization code")
            if code.expires_at <= time.time():
                raise GrantRefused("invalid_grant", "Authorization code expired")
            if code.redirect_uri != asked.get("redirect_uri"):
                raise GrantRefused("invalid_grant", "Invalid redirect URI")
            return self._hand_out(code.person, app, code.scopes, refresh=secrets.token_urlsafe(90))
        if asked.get("grant_type") == "refresh_token":
            token = self._refresh.get(asked.get("refresh_token", ""))
            if token is None or token.app is not app:
                raise GrantRefused("invalid_grant", "Refresh token revoked")
            self.refreshes += 1
            if not self.rotates:
                return self._hand_out(token.person, app, token.scopes, refresh=token.refresh, is_new=False)
            del self._refresh[token.refresh]
            return self._hand_out(token.person, app, token.scopes, refresh=secrets.token_urlsafe(90))
        raise GrantRefused("unsupported_grant_type", "grant_type parameter is missing")

    def _hand_out(
        self, person: Person, app: App, scopes: tuple[str, ...], *, refresh: str, is_new: bool = True
    ) -> dict[str, Any]:
        token = Token(secrets.token_urlsafe(120), refresh, person, app, scopes, time.time() + self.token_life_s)
        self.tokens[token.access] = self._refresh[refresh] = token
        return {
            "access_token": token.access,
            "token_type": "Bearer",
            "scope": " ".join(scopes),
            "expires_in": int(self.token_life_s),
            **({"refresh_token": refresh} if is_new else {}),
        }
