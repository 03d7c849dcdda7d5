"""py4web's session and its one-time message, made safe: ids that cannot be guessed, change at signing in and are gone
after signing out, and nothing stored for somebody about whom there is nothing to store."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

import redis
from py4web import Session, request, response
from py4web.core import Flash

from ..base.chat import shorten
from ..base.errors import Busy
from .endpoint import Raw

PREFIX = "waddlebot:session:"
ID_BYTES = 32
ID = re.compile(r"[A-Za-z0-9_-]{43}")
# Long enough to fill a form in; somebody who signs in stays for the store's own lifetime.
ANONYMOUS_LIFETIME_S = 3600
FLASH_COOKIE = "py4web-flash"


class SessionsUnavailable(Busy):
    """We cannot tell who you are at the moment. Try again in a moment."""

    code = "sessions_unavailable"


class SessionStore:
    """Sessions in Redis, and the cookie that holds a session's id."""

    def __init__(self, client: redis.Redis, *, cookie: str, secure: bool, lifetime_s: int) -> None:
        """`secure` when browsers reach the pages over https; `lifetime_s` counts from the last look at a page."""
        self._client = client
        self.cookie = cookie
        self.secure = secure
        self.lifetime_s = lifetime_s

    def get(self, session_id: str) -> dict[str, Any]:
        """What is known under an id; nothing, for one that is unknown or was ended. Raises: SessionsUnavailable."""
        if not ID.fullmatch(session_id):
            return {}
        try:
            found: Any = json.loads(self._client.get(PREFIX + session_id) or "{}")
        except redis.RedisError as err:
            raise SessionsUnavailable() from err
        return found if isinstance(found, dict) else {}

    def put(self, session_id: str, data: dict[str, Any], *, is_new: bool) -> bool:
        """Keep a session; a known one only if nobody has ended it meanwhile. Raises: SessionsUnavailable."""
        lifetime_s = self.lifetime_s if "user" in data else min(ANONYMOUS_LIFETIME_S, self.lifetime_s)
        try:
            return bool(self._client.set(PREFIX + session_id, json.dumps(data), ex=lifetime_s, xx=not is_new))
        except redis.RedisError as err:
            raise SessionsUnavailable() from err

    def list_for(self, user_id: int) -> dict[str, dict[str, Any]]:
        """Somebody's sessions by their ids, which are secrets. It looks at all sessions, so ask seldom.

        Raises: SessionsUnavailable.
        """
        found = {}
        try:
            for key in self._client.scan_iter(match=PREFIX + "*", count=1000):
                session_id = str(key).removeprefix(PREFIX)
                user = self.get(session_id).get("user")
                if isinstance(user, dict) and user.get("id") == user_id:
                    found[session_id] = user
        except redis.RedisError as err:
            raise SessionsUnavailable() from err
        return found

    def delete(self, session_id: str) -> None:
        """Raises: SessionsUnavailable."""
        try:
            self._client.delete(PREFIX + session_id)
        except redis.RedisError as err:
            raise SessionsUnavailable() from err


class PageSession(Session):  # type: ignore[misc]
    """A fixture, and while a request is served its session, a dict. Clearing it ends it."""

    def __init__(self, store: SessionStore) -> None:
        # py4web wants a secret, though nothing is signed with it where sessions are stored on the server.
        super().__init__(secret=secrets.token_urlsafe(ID_BYTES), storage=store, name=store.cookie)

    @property
    def store(self) -> SessionStore:
        store: SessionStore = self.params.storage
        return store

    def load(self) -> None:
        """Only the cookie tells the session; py4web would also take its id from a request's body."""
        local = self.local
        sent = request.get_cookie(self.store.cookie) or ""
        local.data = self.store.get(sent)
        local.changed, local.known_id = False, sent if local.data else ""

    def save(self) -> None:
        local = self.local
        if not local.data:
            self._end()
            return
        session_id = local.known_id or secrets.token_urlsafe(ID_BYTES)
        if not self.store.put(session_id, local.data, is_new=not local.known_id):
            return  # Somebody has signed out in another tab while this was served.
        if not local.known_id:
            response.set_cookie(
                self.store.cookie, session_id, path="/", secure=self.store.secure, same_site="Lax", httponly=True
            )

    @property
    def id(self) -> str:
        """The id under which this request's session was found; empty for a new one."""
        known: str = self.local.known_id
        return known

    def begin_anew(self) -> None:
        """Forget all and go on under another id: what an attacker may have planted or seen is worth nothing after."""
        if self.local.known_id:
            self.store.delete(self.local.known_id)
        self.local.known_id = ""
        self.clear()

    def _end(self) -> None:
        if self.local.known_id:
            self.store.delete(self.local.known_id)
            response.delete_cookie(self.store.cookie, path="/", same_site="Lax", httponly=True)


# A cookie holds 4096 bytes, and an emoji takes fourteen of them.
MAX_FLASH_CHARS = 280


class PageFlash(Flash):  # type: ignore[misc]
    """A text that is shown once, on this page or on the one that this request leads to. It is text, not HTML: the
    template escapes it, and nobody else."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure

    def set(self, message: str, _class: str = "good", sanitize: bool = False) -> None:  # noqa: ARG002 - py4web's
        self.local.flash = {"message": shorten(message, MAX_FLASH_CHARS), "class": _class}

    def on_request(self, context: dict[str, Any]) -> None:
        super().on_request(context)
        if not _is_flash(self.local.flash):
            self.local.flash = None
        self.local.was_sent = request.get_cookie(FLASH_COOKIE) is not None

    def on_success(self, context: dict[str, Any]) -> None:
        output, flash = context["output"], self.local.flash
        status = output.status if isinstance(output, Raw) else context["status"]
        if isinstance(output, dict):
            context["template_inject"]["flash"] = flash
        if status == 303 and flash:
            value = json.dumps(flash)
            response.set_cookie(
                FLASH_COOKIE, value, path="/", same_site="Lax", httponly=True, secure=self._secure, max_age=60
            )
        elif isinstance(output, dict) and self.local.was_sent:
            response.delete_cookie(FLASH_COOKIE, path="/", same_site="Lax", httponly=True)


def _is_flash(found: object) -> bool:
    return isinstance(found, dict) and isinstance(found.get("message"), str) and isinstance(found.get("class"), str)
