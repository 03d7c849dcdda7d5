"""id.twitch.tv: the page on which people consent, and tokens.

Source: https://dev.twitch.tv/docs/authentication/getting-tokens-oauth/
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web

from .accounts import Account, Accounts
from .wire import BROKEN, Faults, Refused, encode, error

CODE_LIFE_S = 600
USER_TOKEN_LIFE_S = 4 * 3600
APP_TOKEN_LIFE_S = 60 * 24 * 3600
REMEMBERED_LOGIN = "simulated_login"


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; without a `user_id` it is the app's."""

    access: str
    user_id: str
    scopes: tuple[str, ...]
    expires_at: float
    refresh: str = ""

    @property
    def is_app(self) -> bool:
        return not self.user_id

    @property
    def is_expired(self) -> bool:
        return self.expires_at <= time.time()


@dataclass(frozen=True, slots=True)
class Code:
    user_id: str
    scopes: tuple[str, ...]
    redirect_uri: str
    expires_at: float


class AuthorizePageRefused(ValueError):
    """What Twitch says on a page of its own, because it cannot trust the address to send people back to."""


class OAuth:
    """Codes, tokens and refresh tokens. What somebody consented to stays in their account until they disconnect."""

    def __init__(self, accounts: Accounts, faults: Faults, *, client_id: str, client_secret: str) -> None:
        self._accounts = accounts
        self._faults = faults
        self.client_id = client_id
        self.client_secret = client_secret
        self.user_token_life_s: float = USER_TOKEN_LIFE_S
        self.app_token_life_s: float = APP_TOKEN_LIFE_S
        # Twitch may give a new refresh token with each use, and then the old one is worth nothing.
        self.rotates = True
        # What the app has registered; anything goes while there is nothing.
        self.redirect_uris: set[str] = set()
        self.requests: list[str] = []
        self.consented: Callable[[Account], None] = lambda _: None
        self.tokens: dict[str, Token] = {}
        self._refresh: dict[str, Token] = {}
        self._codes: dict[str, Code] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/oauth2/authorize", self._page),
            web.post("/oauth2/authorize", self._decide),
            web.post("/oauth2/token", self._token),
            web.get("/oauth2/validate", self._validate),
            web.post("/oauth2/revoke", self._revoke),
        ]

    # Consent

    def authorize(self, url: str, *, user: str, grant: Sequence[str] | None = None, deny: bool = False) -> str:
        """Decide as the person whose browser was sent to `url`. Returns where Twitch sends the browser.

        `grant` is less than was asked for, as if the address had been tampered with: Twitch's page knows only all.
        Raises: AuthorizePageRefused.
        """
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
        self._check_asked(asked)
        answer = {"state": asked["state"]} if "state" in asked else {}
        if deny:
            refused = {"error": "access_denied", "error_description": "The user denied you access"}
            return _add_query(asked["redirect_uri"], {**refused, **answer})
        wanted = asked.get("scope", "").split()
        scopes = tuple(scope for scope in wanted if grant is None or scope in grant)
        account = self._accounts.get(user)
        self._accounts.make(account.login, id=account.id, name=account.name)
        account.consents.update(scopes)
        self.consented(account)
        code = secrets.token_hex(15)
        self._codes[code] = Code(account.id, scopes, asked["redirect_uri"], time.time() + CODE_LIFE_S)
        return _add_query(asked["redirect_uri"], {"code": code, "scope": " ".join(scopes), **answer})

    def _check_asked(self, asked: dict[str, str]) -> None:
        if asked.get("client_id") != self.client_id:
            raise AuthorizePageRefused("invalid client")
        if asked.get("response_type") != "code":
            raise AuthorizePageRefused("invalid response type")
        redirect_uri = asked.get("redirect_uri", "")
        if not redirect_uri or (self.redirect_uris and redirect_uri not in self.redirect_uris):
            raise AuthorizePageRefused("Parameter redirect_uri does not match registered URI")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        asked = dict(request.query)
        try:
            self._check_asked(asked)
        except AuthorizePageRefused as err:
            return error(400, str(err))
        login = request.cookies.get(REMEMBERED_LOGIN, "")
        account = self._accounts.find_login(login)
        scopes = asked.get("scope", "").split()
        known = account is not None and account.is_made and account.consents.issuperset(scopes)
        if known and asked.get("force_verify") != "true":
            raise web.HTTPFound(self.authorize(str(request.url), user=login))
        logins = sorted(each.login for each in self._accounts if each.is_made)
        return web.Response(text=_consent_page(scopes, logins, login), content_type="text/html")

    async def _decide(self, request: web.Request) -> web.StreamResponse:
        given = await request.post()
        login = str(given.get("login", "")).strip().lower()
        deny = given.get("decision") != "authorize"
        if not deny and not login.replace("_", "").isalnum():
            return error(400, "who are you? fill in a login")
        try:
            answer = web.HTTPFound(self.authorize(str(request.url), user=login, deny=deny))
        except AuthorizePageRefused as err:
            return error(400, str(err))
        if not deny:
            answer.set_cookie(REMEMBERED_LOGIN, login, httponly=True, samesite="Lax")
        raise answer

    # Tokens

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("token")
        asked = {**request.query, **(await request.post())}
        fault = self._faults.next("oauth2/token")
        if fault and fault.kind == "hang":
            await asyncio.sleep(60)
        if fault and fault.kind.isdecimal():
            return error(int(fault.kind), "simulated", fault.headers)
        if fault and fault.kind in BROKEN:
            return web.Response(text=BROKEN[fault.kind], content_type="application/json")
        try:
            granted = self._grant({name: str(value) for name, value in asked.items()})
        except Refused as err:
            return err.answer()
        if not fault:
            return web.json_response(granted)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        await asyncio.sleep(0.05)
        await answer.write(encode(granted))
        return answer

    def _grant(self, asked: dict[str, str]) -> dict[str, Any]:
        """Raises: Refused."""
        if not asked.get("client_id"):
            raise Refused(400, "missing client id")
        if asked["client_id"] != self.client_id:
            raise Refused(400, "invalid client")
        if asked.get("client_secret") != self.client_secret:
            raise Refused(403, "invalid client secret")
        grants = {
            "client_credentials": self._grant_to_app,
            "authorization_code": self._grant_for_code,
            "refresh_token": self._grant_for_refresh,
        }
        grant = grants.get(asked.get("grant_type", ""))
        if grant is None:
            raise Refused(400, "invalid grant type")
        return grant(asked)

    def _grant_to_app(self, _: dict[str, str]) -> dict[str, Any]:
        token = Token(secrets.token_hex(15), "", (), time.time() + self.app_token_life_s)
        self.tokens[token.access] = token
        return {"access_token": token.access, "expires_in": int(self.app_token_life_s), "token_type": "bearer"}

    def _grant_for_code(self, asked: dict[str, str]) -> dict[str, Any]:
        code = self._codes.get(asked.get("code", ""))
        if code is None or code.expires_at <= time.time():
            raise Refused(400, "Invalid authorization code")
        if asked.get("redirect_uri") != code.redirect_uri:
            raise Refused(400, "Parameter redirect_uri does not match registered URI")
        del self._codes[asked["code"]]
        return self._issue(code.user_id, code.scopes, secrets.token_hex(25))

    def _grant_for_refresh(self, asked: dict[str, str]) -> dict[str, Any]:
        used = asked.get("refresh_token", "")
        old = self._refresh.get(used)
        if old is None:
            raise Refused(400, "Invalid refresh token")
        if self.rotates:
            del self._refresh[used]
        return self._issue(old.user_id, old.scopes, secrets.token_hex(25) if self.rotates else used)

    def _issue(self, user_id: str, scopes: tuple[str, ...], refresh: str) -> dict[str, Any]:
        token = Token(secrets.token_hex(15), user_id, scopes, time.time() + self.user_token_life_s, refresh)
        self.tokens[token.access] = self._refresh[refresh] = token
        return {
            "access_token": token.access,
            "expires_in": int(self.user_token_life_s),
            "refresh_token": refresh,
            "scope": list(scopes),
            "token_type": "bearer",
        }

    def token_for(self, user: Account, scopes: Sequence[str] = ()) -> dict[str, Any]:
        """Tokens of somebody who has consented, without a browser."""
        self._accounts.make(user.login, id=user.id, name=user.name)
        user.consents.update(scopes)
        return self._issue(user.id, tuple(scopes), secrets.token_hex(25))

    async def _validate(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("validate")
        token = self.bearer(request)
        if token is None:
            return error(401, "invalid access token")
        about = {
            "client_id": self.client_id,
            "scopes": list(token.scopes),
            "expires_in": int(token.expires_at - time.time()),
        }
        account = None if token.is_app else self._accounts.find(token.user_id)
        if account is not None:
            about |= {"login": account.login, "user_id": account.id}
        return web.json_response(about)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("revoke")
        asked = {**request.query, **(await request.post())}
        if asked.get("client_id") != self.client_id:
            return error(404, "client does not exist")
        token = self.tokens.pop(str(asked.get("token", "")), None)
        if token is None:
            return error(400, "Invalid token")
        self._refresh.pop(token.refresh, None)
        return web.Response()

    def bearer(self, request: web.Request) -> Token | None:
        """The token that a request came with, if it is worth anything."""
        scheme, _, access = request.headers.get("Authorization", "").partition(" ")
        token = self.tokens.get(access) if scheme.lower() in ("bearer", "oauth") else None
        return None if token is None or token.is_expired else token

    def revoke(self, user: Account | None = None) -> None:
        """Make everybody's tokens worthless, as a new client secret does, or those of one, as a new password does."""
        for tokens in (self.tokens, self._refresh):
            for key in [key for key, token in tokens.items() if user is None or token.user_id == user.id]:
                del tokens[key]

    def expire(self, user: Account | None = None) -> None:
        """End the access tokens, everybody's or one's; their refresh tokens stay good."""
        for key in [key for key, token in self.tokens.items() if user is None or token.user_id == user.id]:
            del self.tokens[key]


def _add_query(url: str, values: dict[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(values)}"


def _consent_page(scopes: Sequence[str], logins: Sequence[str], login: str) -> str:
    items = "".join(f"<li><code>{escape(scope)}</code></li>" for scope in scopes) or "<li>who you are</li>"
    options = "".join(f'<option value="{escape(each)}">' for each in logins)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Authorize · simulated Twitch</title>
<style>
  :root {{ color-scheme: light dark; --accent: #8a4fff; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 30rem; margin: 8vh auto; padding: 0 1.25rem; }}
  h1 {{ font-size: 1.35rem; }}
  ul {{ padding-left: 1.2rem; }}
  label {{ display: block; margin: 1.5rem 0 .3rem; font-weight: 600; }}
  input, button {{ font: inherit; padding: .55rem .9rem; border-radius: .4rem; border: 1px solid #8886; }}
  input {{ width: 100%; box-sizing: border-box; }}
  .buttons {{ display: flex; gap: .6rem; margin-top: 1.25rem; }}
  button[value=authorize] {{ background: var(--accent); color: #fff; border-color: var(--accent); }}
  small {{ opacity: .7; }}
</style>
<h1>WaddleBot wants to access your account</h1>
<p>It asks for:</p>
<ul>{items}</ul>
<form method="post">
  <label for="login">Who are you?</label>
  <input id="login" name="login" list="logins" value="{escape(login)}" autocomplete="off" autofocus>
  <datalist id="logins">{options}</datalist>
  <div class="buttons">
    <button name="decision" value="authorize">Authorize</button>
    <button name="decision" value="cancel">Cancel</button>
  </div>
</form>
<p><small>This is a simulated Twitch on this machine. Any login will do; a new one becomes a new account.</small></p>
</html>
"""
