"""Logins that an owner asks for in chat: made with a password that is mailed, holds for a day and is the first thing to
be changed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydal.validators import CRYPT
from waddlebot.data import audit
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.signin import DIGEST, Login, WrongPassword

from .links import mask

CHANGE_PASSWORD = "/portal/auth/change-password"  # noqa: S105 - a page
OVER = "That password held for 24 hours, which are over. Ask for another one: !community portal login add"
HOLDS_FOR = timedelta(hours=24)
# 24 characters that are told apart on paper.
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
PASSWORD_CHARS = 24


@dataclass(frozen=True, slots=True)
class Made:
    """A login to tell somebody of; without a password they have one of their own."""

    login_id: int
    email: str
    password: str | None


class LoginService:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, email: str, *, community_id: int, own_id: int, ids: list[int]) -> Made:
        """Make a login for an address, with a password that holds for a day; of one that this person has the password
        is made anew. Somebody else's login is only given the right to edit; so is that of an owner by a badge alone,
        which counts in chat."""
        password = "-".join("".join(secrets.choice(LETTERS) for _ in range(6)) for _ in range(PASSWORD_CHARS // 6))
        hashed = str(CRYPT(digest_alg=DIGEST)(password)[0])
        with self._db.transaction() as db:
            fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"login:{email}",))
            known = fetch_one(
                db, "SELECT id, waddlebot_user_id, password FROM auth_user WHERE email = %s FOR UPDATE", (email,)
            )
            theirs = fetch_one(db, "SELECT id FROM auth_user WHERE waddlebot_user_id = ANY(%s)", (ids,))
            person = own_id if theirs is None else None
            if known is None:
                row = fetch_one(
                    db,
                    "INSERT INTO auth_user (email, password, waddlebot_user_id, temp_password_expires, created_by)"
                    " VALUES (%s, %s, %s, now() + %s, %s) RETURNING id",
                    (email, hashed, person, HOLDS_FOR, f"user:{own_id}"),
                )
                assert row is not None
                login_id = int(row["id"])
                if person is None or not _has_role(db, ids, community_id):
                    _let_edit(db, login_id, community_id)
            elif known["waddlebot_user_id"] in ids:
                login_id = known["id"]
                fetch(
                    db,
                    "UPDATE auth_user SET password = %s, temp_password_expires = now() + %s,"
                    " last_password_change = clock_timestamp() WHERE id = %s",
                    (hashed, HOLDS_FOR, login_id),
                )
                if not _has_role(db, ids, community_id):
                    _let_edit(db, login_id, community_id)
            else:
                login_id, password = known["id"], ""
                _let_edit(db, login_id, community_id)
            audit.record(
                db,
                "portal",
                "portal_login_added",
                f"login/{login_id}",
                community_id=community_id,
                after={"email": mask(email), "is_new": known is None},
            )
        return Made(login_id, email, password or None)


def check_password_holds(login: Login) -> None:
    """Raises: WrongPassword for one that somebody else made, and that has ended."""
    ends = login.more["temp_password_expires"]
    if ends is not None and ends <= datetime.now(UTC):
        raise WrongPassword(OVER)


def begins_at(login: Login) -> str:
    """Whoever came in by a password that somebody else made chooses one of their own before anything else."""
    return CHANGE_PASSWORD if login.more["temp_password_expires"] is not None else ""


def _has_role(db: Any, ids: list[int], community_id: int) -> bool:
    """Whether somebody has a seat in the portal by what they are in the community."""
    return bool(
        fetch(
            db,
            "SELECT FROM communities WHERE id = %(community)s AND owner_id = ANY(%(ids)s)"
            " UNION ALL SELECT FROM community_rbac WHERE community_id = %(community)s AND user_id = ANY(%(ids)s)"
            "  AND role IN ('owner', 'admin')",
            {"community": community_id, "ids": ids},
        )
    )


def _let_edit(db: Any, login_id: int, community_id: int) -> None:
    fetch(
        db,
        "INSERT INTO portal_access (auth_user_id, community_id, held) VALUES (%s, %s, 'editor') ON CONFLICT DO NOTHING",
        (login_id, community_id),
    )
