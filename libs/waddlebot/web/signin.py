"""Who is looking at a page: py4web's Auth with the holes of its defaults closed (docs/adr/0028).

It holds no transaction while a page is made, so that pages may call the rest of the fleet. The table is `auth_user`
with a column `action_token_expires_at` more; its owner's migration makes it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from py4web import Field, redirect, request
from py4web.core import Fixture
from py4web.utils.auth import Auth, AuthEnforcer
from pydal.validators import CRYPT, IS_STRONG

from ..base.errors import NotAllowed, UserError
from ..base.ids import new_id
from ..base.logs import AAALog
from ..base.strangers import PerMinute
from ..data.database import Database
from ..data.ratelimit import Limit, RateLimiter, Request
from .pages import prefers_html
from .sessions import PageFlash, PageSession

# 168 ms on a core of 2026, against 1 ms of py4web's own.
DIGEST = "pbkdf2(210000,64,sha512)"
# Compared with where there is no such account, so that both take as long.
NOBODYS_PASSWORD = str(CRYPT(digest_alg=DIGEST)(secrets.token_urlsafe(16))[0])
# Twelve small letters, or ten characters of all kinds.
ENTROPY_BITS = 60
WEAK = "Too easy to guess. Use twelve characters or more; a sentence is good."
RESET = "reset-password-request:"
RESET_USABLE_FOR = "1 hour"
SEEN_EVERY_S = 60
SECOND_STEP_WITHIN_S = 600
# Lines about refusals of one address.
REFUSALS_PER_MINUTE = 30
TRIES, TRIES_WITHIN_S, TRIES_FROM_ADDRESS = 10, 900.0, 100
PRIVATE = ("password", "action_token", "action_token_expires_at", "past_passwords_hash", "sso_id")


class SignedOut(NotAllowed):
    """Sign in first."""

    code, http_status = "signed_out", 401


class TooManyTries(UserError):
    """Too many tries. Wait a quarter of an hour, or ask for a new password."""

    code, http_status = "too_many_tries", 429


class WrongPassword(UserError):
    """That address and password do not belong together."""

    code = "wrong_password"


class ResetRefused(UserError):
    """This link was used already, or it is older than an hour. Ask for a new one."""

    code, http_status = "reset_refused", 410


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who is signed in. `more` has the other columns of their account, but for what is secret."""

    id: int
    email: str
    name: str
    more: Mapping[str, Any] = field(default_factory=dict)


class SignIn(Auth):  # type: ignore[misc]
    """py4web's Auth: `signin` as a fixture knows who looks, `signin.user` lets nobody else in."""

    def __init__(
        self,
        session: PageSession,
        flash: PageFlash,
        database: Database,
        *,
        route: str,
        limiter: RateLimiter,
        log: AAALog,
        extra_fields: Sequence[Any] = (),
        two_factor_required: Callable[[Login], bool] | None = None,
        two_factor_validate: Callable[[Login, str], bool] | None = None,
        check_login: Callable[[Login], None] = lambda _: None,
        begins_at: Callable[[Login], str] = lambda _: "",
    ) -> None:
        """`check_login` may refuse whose password is right, by raising WrongPassword; `begins_at` names the one page
        that somebody has to pass before any other, if there is one."""
        expiry = Field("action_token_expires_at", "datetime", readable=False, writable=False)
        super().__init__(
            session,
            None,
            define_tables=False,
            use_username=False,
            allowed_actions=["login"],
            two_factor_required=two_factor_required,
            two_factor_validate=two_factor_validate,
            logger=logging.getLogger("waddlebot.signin"),
        )
        self.__prerequisites__ = [session, flash]
        self.flash, self.route = flash, route
        self._database, self._limiter, self._log = database, limiter, log
        self._refusals = PerMinute(REFUSALS_PER_MINUTE)
        self._check_login, self.begins_at = check_login, begins_at
        self.db = database.primary
        self.extra_auth_user_fields = [each.clone() for each in (expiry, *extra_fields)]
        self.define_tables()
        strong = IS_STRONG(entropy=ENTROPY_BITS, invalid="", error_message=WEAK)
        self.db.auth_user.password.requires = [strong, CRYPT(digest_alg=DIGEST)]

    # Who looks

    def on_request(self, context: dict[str, Any]) -> None:  # noqa: ARG002 - py4web's
        """Unlike py4web's, write nothing about who is not signed in, and once a minute about who is."""
        Fixture.local_initialize(self)
        self.local.login = self._read_login()
        user = self.session.get("user")
        if self.local.login and time.time() - user.get("seen", 0) > SEEN_EVERY_S:
            self.session["user"] = {**user, "seen": int(time.time())}

    def on_success(self, context: dict[str, Any]) -> None:
        context["template_inject"]["login"] = self.login_now

    @property
    def login_now(self) -> Login | None:
        """Who is signed in, read once for each request."""
        login: Login | None = self.local.login
        return login

    def get_user(self, safe: bool = True) -> dict[str, Any]:  # noqa: ARG002 - py4web's
        login = self.login_now
        return {**login.more, "id": login.id, "email": login.email} if login else {}

    @property
    def user(self) -> AuthEnforcer:
        return SignedInOnly(self)

    def condition(self, condition: Callable[[Any], bool]) -> AuthEnforcer:
        return SignedInOnly(self, condition)

    def _read_login(self) -> Login | None:
        """The session's person, unless their account was blocked or their password changed since they signed in."""
        user = self.session.get("user")
        if not isinstance(user, dict) or "id" not in user:
            return None
        row = self._find("id = %s", user["id"])
        if row is None or _since(row) != user.get("since"):
            self.session.clear()
            return None
        return _login(row)

    # Coming and going

    def check_password(self, email: str, password: str) -> Login:
        """Who has this password. Raises: WrongPassword, after the same time whatever is wrong; TooManyTries."""
        email = email.strip().lower()
        tried = self._check_tries(email)
        row = self._find("email = %s", email)
        stored = (row and row["password"]) or NOBODYS_PASSWORD
        is_right = CRYPT(digest_alg=DIGEST)(password)[0] == stored
        if row is None or not is_right:
            self._log_refusal("signin_refused", result="FAILED")
            raise WrongPassword()
        self._check_login(_login(row))
        self._limiter.refund([tried])
        return _login(row)

    def store_user_in_session(self, user_id: int) -> None:
        """Sign somebody in, in a session that nobody can have known before."""
        row = self._find("id = %s", user_id)
        if row is None:
            raise WrongPassword()
        self.session.begin_anew()
        now, agent = int(time.time()), str(request.environ.get("HTTP_USER_AGENT") or "")[:200]
        begun = {"began": now, "address": _address(), "agent": agent}
        self.session["user"] = {"id": user_id, "since": _since(row), "seen": now, **begun}
        self._log.auth("signed_in", login=user_id)

    def find_login(self, user_id: int) -> Login | None:
        """Who has that number, unless their account is blocked."""
        row = self._find("id = %s", user_id)
        return _login(row) if row else None

    def needs_second_step(self, login: Login) -> bool:
        required = self.param.two_factor_required
        return self.param.two_factor_validate is not None and (required is None or bool(required(login)))

    def begin_second_step(self, login: Login, following: str) -> None:
        """Remember whose password was right. Nobody is signed in by that."""
        self.session.begin_anew()
        self.session["second_step"] = {"id": login.id, "until": time.time() + SECOND_STEP_WITHIN_S, "next": following}

    def take_second_step(self, code: str) -> str:
        """Sign in whose code is right, and say where they wanted to go.

        Raises: WrongPassword; TooManyTries; SignedOut.
        """
        begun = self.session.get("second_step") or {}
        row = self._find("id = %s", begun["id"]) if begun.get("until", 0) > time.time() else None
        if row is None:
            raise SignedOut("That took too long. Sign in again.")
        tried = self._check_tries(f"second:{row['id']}")
        if not self.param.two_factor_validate(_login(row), code.strip()):
            self._log.auth("second_step_refused", result="FAILED", login=row["id"])
            raise WrongPassword("That code is not right. Take the newest one.")
        self._limiter.refund([tried])
        self.store_user_in_session(row["id"])
        return str(begun["next"])

    # A new password

    def begin_reset(self, email: str) -> tuple[Login, str] | None:
        """A token that sets a new password, once, within the hour; None if there is no such account, or a blocked one.

        Raises: TooManyTries.
        """
        email = email.strip().lower()
        self._check_tries(f"reset:{email}")
        token = secrets.token_urlsafe(32)
        rows = self._database.statement(
            f"UPDATE auth_user SET action_token = %s, action_token_expires_at = now() + interval '{RESET_USABLE_FOR}'"
            " WHERE email = %s AND (coalesce(action_token, '') = '' OR action_token LIKE %s) RETURNING *",
            (RESET + _hash(token), email, RESET + "%"),
        )
        return (_login(rows[0]), token) if rows else None

    def reset_password(self, token: str, new_password: str) -> Login:
        """Set a password and end all sessions of before. Raises: ResetRefused; UserError for a weak password."""
        rows = self._database.statement(
            "UPDATE auth_user SET password = %s, action_token = NULL, action_token_expires_at = NULL,"
            " last_password_change = clock_timestamp() WHERE action_token = %s AND action_token_expires_at > now()"
            " RETURNING *",
            (self._hashed(new_password), RESET + _hash(token)),
        )
        if not rows:
            raise ResetRefused()
        self._log.auth("password_reset", login=rows[0]["id"])
        return _login(rows[0])

    def check_reset(self, token: str) -> None:
        """Raises: ResetRefused."""
        if not self._database.statement(
            "SELECT 1 FROM auth_user WHERE action_token = %s AND action_token_expires_at > now()",
            (RESET + _hash(token),),
        ):
            raise ResetRefused()

    def set_password(self, login: Login, old_password: str, new_password: str) -> None:
        """Change it, and end all other sessions. Raises: WrongPassword; TooManyTries; UserError for a weak one."""
        hashed = self._hashed(new_password)
        self.check_password(login.email, old_password)
        if new_password == old_password:
            raise UserError("That is the password that you have. Choose another one.")
        self._database.statement(
            "UPDATE auth_user SET password = %s, last_password_change = clock_timestamp() WHERE id = %s",
            (hashed, login.id),
        )
        self._log.auth("password_changed", login=login.id)
        self.store_user_in_session(login.id)

    def _hashed(self, password: str) -> str:
        value, problem = self.db.auth_user.password.validate(password)
        if problem:
            raise UserError(str(problem))
        return str(value)

    def _find(self, where: str, value: Any) -> dict[str, Any] | None:
        """An account that may sign in."""
        rows = self._database.statement(
            f"SELECT * FROM auth_user WHERE {where} AND (coalesce(action_token, '') = '' OR action_token LIKE %s)",
            (value, RESET + "%"),
        )
        return rows[0] if rows else None

    def _log_refusal(self, action: str, *, result: str) -> None:
        address = _address()
        if self._refusals.lets(address):
            left_out = self._refusals.take_left_out()
            self._log.auth(action, result=result, address=address, left_out=left_out)

    def _check_tries(self, what: str) -> Request:
        """One more try; whoever was right gets it back. Raises: TooManyTries."""
        limits = [Limit(f"signin:{_hash(what)}", TRIES, "you")]
        address = _address()
        # A proxy's is everybody's.
        if address and ipaddress.ip_address(address).is_global:
            limits.append(Limit(f"signin:{address}", TRIES_FROM_ADDRESS, "this address"))
        tried = Request(new_id(), limits)
        if not self._limiter.reserve([tried])[0].allowed:
            self._log_refusal("signin_limited", result="DENIED")
            raise TooManyTries()
        return tried


class SignedInOnly(AuthEnforcer):  # type: ignore[misc]
    """Sends whoever is not signed in to the page for that, and tells programs so in JSON."""

    def on_request(self, context: dict[str, Any]) -> None:  # noqa: ARG002 - py4web's
        login = self.auth.login_now
        if login is None:
            if not prefers_html(request.environ.get("HTTP_ACCEPT", "")):
                raise SignedOut()
            here = request.path + (f"?{request.query_string}" if request.query_string else "")
            redirect(f"{self.auth.route}/login?{urlencode({'next': here})}")
        first = self.auth.begins_at(login)
        if first and request.path != first:
            redirect(first)
        if self.condition is not None and not self.condition(login):
            raise NotAllowed("Your account may not see this.")

    def on_success(self, context: dict[str, Any]) -> None:
        """`auth` itself does it."""


def _login(row: Mapping[str, Any]) -> Login:
    name = " ".join(part for part in (row.get("first_name"), row.get("last_name")) if part)
    more = {column: value for column, value in row.items() if column not in PRIVATE}
    return Login(row["id"], row["email"] or "", name or row["email"] or "Somebody", more)


def _since(row: Mapping[str, Any]) -> str:
    return str(row["last_password_change"] or "")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _address() -> str:
    return str(request.environ.get("REMOTE_ADDR") or "")
