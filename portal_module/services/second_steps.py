"""The code beside the password, for who wants one: time-based, as every app for that makes them.

Source: https://www.rfc-editor.org/rfc/rfc6238 and https://www.rfc-editor.org/rfc/rfc4226
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
import time
from urllib.parse import quote, urlencode

from waddlebot.base.encryption import Keyring
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, fetch
from waddlebot.web.signin import Login

STEP_S, DIGITS = 30, 6
# Clocks differ by a step.
AROUND = (-1, 0, 1)
SECRET_BYTES = 20


class SecondSteps:
    def __init__(self, db: Database, keyring: Keyring, log: AAALog) -> None:
        self._db = db
        self._keyring = keyring
        self._log = log

    def is_required(self, login: Login) -> bool:
        return bool(login.more["has_totp"])

    def is_right(self, login: Login, code: str) -> bool:
        """Whether a code is one of now, and of a step that none was used of before."""
        rows = self._db.statement("SELECT secret FROM portal_totp WHERE auth_user_id = %s", (login.id,))
        step = find_step(self._open(login.id, rows[0]["secret"]), code) if rows else None
        if step is None:
            return False
        used = self._db.statement(
            "UPDATE portal_totp SET used_step = %s WHERE auth_user_id = %s AND used_step < %s RETURNING 1 AS taken",
            (step, login.id, step),
        )
        return bool(used)

    def switch_on(self, login: Login, secret: str, code: str) -> bool:
        """Ask for codes from now on, if whoever asks has an app that makes them."""
        step = find_step(secret, code)
        if step is None:
            return False
        sealed = self._keyring.seal(secret, purpose=_purpose(login.id))
        with self._db.transaction() as db:
            fetch(
                db,
                "INSERT INTO portal_totp (auth_user_id, secret, used_step) VALUES (%s, %s, %s)"
                " ON CONFLICT (auth_user_id) DO UPDATE SET secret = excluded.secret, used_step = excluded.used_step",
                (login.id, sealed, step),
            )
            fetch(db, "UPDATE auth_user SET has_totp = true WHERE id = %s", (login.id,))
        self._log.auth("second_step_switched_on", login=login.id)
        return True

    def switch_off(self, login: Login) -> None:
        with self._db.transaction() as db:
            fetch(db, "DELETE FROM portal_totp WHERE auth_user_id = %s", (login.id,))
            fetch(db, "UPDATE auth_user SET has_totp = false WHERE id = %s", (login.id,))
        self._log.auth("second_step_switched_off", login=login.id)

    def _open(self, login_id: int, sealed: str) -> str:
        return self._keyring.open(sealed, purpose=_purpose(login_id))


def new_secret() -> str:
    """A secret as apps take it."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def address_for(login: Login, secret: str) -> str:
    """What apps open, on the same device, to know a secret."""
    named = quote(f"WaddleBot:{login.email}")
    return f"otpauth://totp/{named}?{urlencode({'secret': secret, 'issuer': 'WaddleBot'})}"


def find_step(secret: str, code: str) -> int | None:
    """The step that a code is of, if it is about now."""
    now = int(time.time()) // STEP_S
    typed = code.replace(" ", "").encode("utf-8", "replace")
    return next((now + n for n in AROUND if hmac.compare_digest(code_of(secret, now + n).encode(), typed)), None)


def code_of(secret: str, step: int) -> str:
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), hashlib.sha1)
    place = digest[-1] & 15
    number: int = struct.unpack(">I", digest[place : place + 4])[0] & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def _purpose(login_id: int) -> str:
    return f"portal-totp:{login_id}"
