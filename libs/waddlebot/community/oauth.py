"""The way to a platform's consent page and back: single-use states, each bound to the browser that it began in."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg2.extras import Json

from ..base.errors import NotAllowed
from ..data.database import Database

USABLE_FOR = timedelta(minutes=10)
# Kept a while longer, to tell an old link from a forged one.
KEPT_FOR = timedelta(hours=1)
# Each writes a row that stays for KEPT_FOR, and nobody has to be known for it.
STARTS_PER_MINUTE = 30
STATE_BYTES = 32
DELETED_AT_ONCE = 100
COOKIE = re.compile(r"(?:^|;)\s*([!-:<>-~]+)=([!-:<-~]*)")


class BadState(NotAllowed):
    """This link is not one that we made. Begin again."""

    code, http_status = "bad_state", 400


class StateUsed(BadState):
    """This link was used before; each one works once. Begin again if something is still missing."""

    code, http_status = "state_used", 409


class StateExpired(BadState):
    """This link is older than ten minutes. Begin again."""

    code, http_status = "state_expired", 410


class OtherBrowser(BadState):
    """This link was made in another browser or under another address (localhost and 127.0.0.1 are two), or cookies are
    blocked. Begin again here, and allow cookies."""

    code, http_status = "other_browser", 403


@dataclass(frozen=True, slots=True)
class Started:
    """What the consent page is asked to bring back, and the header that the answer has to carry."""

    state: str
    set_cookie: str


class OAuthStates:
    """One platform's states. Each browser tab has a cookie of its own, so that several may be under way."""

    def __init__(self, db: Database, platform: str, *, path: str, secure: bool) -> None:
        """`path` is where the pages are, such as `/twitch/auth`; `secure` when browsers reach them over https."""
        self._db = db
        self._platform = platform
        self._attributes = f"Path={path}; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")

    def start(self, data: dict[str, Any]) -> Started:
        """A state that brings `data` back, once, within ten minutes, in this browser."""
        state, browser = secrets.token_urlsafe(STATE_BYTES), secrets.token_urlsafe(STATE_BYTES)
        self._db.statement(
            "WITH old AS (DELETE FROM oauth_states WHERE state_hash IN (SELECT state_hash FROM oauth_states"
            "  WHERE created_at < now() - %s ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED))"
            " INSERT INTO oauth_states (state_hash, platform, browser_hash, data) VALUES (%s, %s, %s, %s)",
            (KEPT_FOR, DELETED_AT_ONCE, _hash(state), self._platform, _hash(browser), Json(data)),
        )
        lasts_s = int(USABLE_FOR.total_seconds())
        return Started(state, f"{_cookie_name(state)}={browser}; Max-Age={lasts_s}; {self._attributes}")

    def finish(self, state: str, cookies: str) -> dict[str, Any]:
        """What a state was made with; `cookies` is the request's header. It is used up by this, whatever comes of it.

        Raises: BadState, and its kinds for one that is used, old, or another browser's.
        """
        rows = self._db.statement(
            "WITH found AS (SELECT state_hash, used_at FROM oauth_states"
            "  WHERE state_hash = %(hash)s AND platform = %(platform)s FOR UPDATE)"
            " UPDATE oauth_states s SET used_at = coalesce(s.used_at, now()) FROM found"
            " WHERE s.state_hash = found.state_hash RETURNING s.browser_hash, s.data,"
            " found.used_at IS NOT NULL AS was_used, s.created_at <= now() - %(usable)s AS is_old",
            {"hash": _hash(state), "platform": self._platform, "usable": USABLE_FOR},
        )
        if not rows:
            raise BadState()
        if rows[0]["is_old"]:
            raise StateExpired()
        if rows[0]["was_used"]:
            raise StateUsed()
        browser = dict(COOKIE.findall(cookies)).get(_cookie_name(state), "")
        if not hmac.compare_digest(_hash(browser), rows[0]["browser_hash"]):
            raise OtherBrowser()
        data: dict[str, Any] = rows[0]["data"]
        return data

    def forget_cookie(self, state: str) -> str:
        """The Set-Cookie header that ends a state's cookie."""
        return f"{_cookie_name(state)}=; Max-Age=0; {self._attributes}"


def _cookie_name(state: str) -> str:
    return f"waddlebot_oauth_{_hash(state)[:12]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
