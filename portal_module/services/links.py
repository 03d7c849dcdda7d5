"""Links that open the portal once: for the operator to sign in by, and for who is invited."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydal import DAL
from waddlebot.base.errors import Invalid, UserError
from waddlebot.data.database import Database, fetch, fetch_one

SIGN_IN_FOR, INVITED_FOR = timedelta(minutes=10), timedelta(days=7)
MAX_ADDRESS_CHARS = 254


class LinkOver(UserError):
    """This link was used before, or it is too old. Ask for another one."""

    code, http_status = "link_over", 410


@dataclass(frozen=True, slots=True)
class Opened:
    """What a link was good for."""

    kind: str
    auth_user_id: int | None
    community_id: int | None
    area: str
    held: str


class LinkService:
    def __init__(self, db: Database) -> None:
        self._db = db

    def operator_link(self, email: str) -> str:
        """A token that signs an operator in, once, within ten minutes; the login is made where there is none.

        Raises: Invalid for what is no address.
        """
        address = read_address(email)
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "INSERT INTO auth_user (email, is_operator, created_by) VALUES (%s, true, 'command line')"
                " ON CONFLICT (email) DO UPDATE SET is_operator = true RETURNING id",
                (address,),
            )
            assert row is not None
            return keep_link(db, "sign_in", SIGN_IN_FOR, auth_user_id=row["id"])

    def is_open(self, token: str) -> bool:
        """Whether a link still works, without using it."""
        return bool(
            self._db.statement(
                "SELECT 1 FROM portal_links WHERE token_hash = %s AND used_at IS NULL AND expires_at > now()",
                (_hash(token),),
            )
        )

    def use(self, token: str, kind: str) -> Opened:
        """Use a link up. Raises: LinkOver, also for one that was never there."""
        rows = self._db.statement(
            "UPDATE portal_links SET used_at = now() WHERE token_hash = %s AND kind = %s AND used_at IS NULL"
            " AND expires_at > now() RETURNING kind, auth_user_id, community_id, area, held",
            (_hash(token), kind),
        )
        if not rows:
            raise LinkOver()
        return Opened(**rows[0])

    def forget_old(self) -> None:
        """Delete what nobody can use any more."""
        self._db.statement("DELETE FROM portal_links WHERE expires_at < now() - interval '1 day'")


def keep_link(db: DAL, kind: str, lasts: timedelta, **more: Any) -> str:
    """Make a link; its token is returned here and kept nowhere."""
    token = secrets.token_urlsafe(32)
    columns = {"token_hash": _hash(token), "kind": kind, **more}
    fetch(
        db,
        f"INSERT INTO portal_links ({', '.join(columns)}, expires_at)"
        f" VALUES ({', '.join(f'%({name})s' for name in columns)}, now() + %(lasts)s)",
        {**columns, "lasts": lasts},
    )
    return token


def read_address(text: str) -> str:
    """An e-mail address, in lower case. Raises: Invalid."""
    address = text.strip().lower()
    local, at, domain = address.partition("@")
    good = at and local and domain and not set(address) & set(" \t\r\n,;<>()[]\"'\\") and "@" not in domain
    if not good or not address.isprintable() or len(address) > MAX_ADDRESS_CHARS or domain.startswith("."):
        raise Invalid("That is not an e-mail address such as pip@example.org.", field="email")
    return address


def mask(address: str) -> str:
    """An address as records may have it."""
    local, _, domain = address.partition("@")
    return f"{local[:1]}…@{domain[:1]}…"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
