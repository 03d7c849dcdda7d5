"""OAuth tokens of a platform: kept encrypted, and refreshed once however many replicas find them expired.

The table `{platform}_tokens` is the platform's own (see migrations/twitch/0002_pre_oauth.sql); a token's `owner` is
whoever granted it there: a Twitch user, a Slack team.

Many refresh tokens work once, so what a refresh brought is never dropped: while the database does not take it, it is
used from memory, a sealed copy waits in Redis for whoever refreshes next, and storing is tried until it succeeds
(docs/adr/0023).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import redis
from psycopg2 import sql
from pydal import DAL, Field

from ..base.checks import Counted
from ..base.encryption import CannotOpen, Keyring
from ..base.errors import Busy, NotAllowed, NotFound, UpstreamError
from ..base.logs import AAALog
from ..base.transactions import check_no_transaction
from ..base.watched import Watched
from ..data.database import Database, DatabaseUnavailable, fetch, fetch_one

# A token that ends so soon is replaced now, so that no request is on its way with one that has just ended.
MARGIN = timedelta(minutes=5)
# Whoever refreshes has this long; a process that died in the middle is in nobody's way for longer.
LEASE = timedelta(seconds=20)
FIRST_LOOK_S = 0.02
MAX_LOOK_S = 0.5
MAX_REASON_CHARS = 300
# How soon what could not be stored is tried again, at first and at most.
FIRST_RETRY_S = 0.25
MAX_RETRY_S = 5.0
# Longer than anybody leaves a fleet without its database.
SPARE_KEPT_FOR = timedelta(days=30)
NOT_STORED = (DatabaseUnavailable, psycopg2.Error)


class NoToken(NotFound):
    """Nobody has granted access to that account, or they took it back."""

    code = "no_token"


class NeedsReauth(NotAllowed):
    """That account has to grant access again."""

    code = "needs_reauth"


class RefreshRefused(Exception):
    """A platform says that a refresh token is worth nothing any more. Its text is told to people: no secret in it."""


class RefreshPending(Busy):
    """Somebody else is refreshing this token. Try again in a moment."""

    code = "refresh_pending"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a platform hands out. Without `expires_at` it does not end by itself."""

    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    expires_at: datetime | None = None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept. `version` grows with each one that replaces it."""

    owner: str
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: datetime | None
    scopes: tuple[str, ...]
    version: int


@dataclass(frozen=True, slots=True)
class TokenState:
    """How it is with an account's consent: what may be shown to anybody who may see the account."""

    owner: str
    needs_reauth: bool
    reason: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    updated_at: datetime


# Given the token that is at hand; called without a transaction. Raises RefreshRefused, or an UpstreamError when the
# platform is away. What it does not say about scopes stays as it was.
Refresh = Callable[[Token], Grant]


class Tokens:
    """One platform's tokens. Secrets are sealed for their table, owner and kind, so none opens in another's row."""

    def __init__(
        self,
        db: Database,
        table: str,
        keyring: Keyring,
        *,
        log: AAALog,
        spare: redis.Redis | None = None,
        margin: timedelta = MARGIN,
    ) -> None:
        """`spare` keeps what could not be stored when this process dies before it can be; a token that ends within
        `margin` is replaced."""
        self._db = db
        self._table = table
        self._keyring = keyring
        self._log = log
        self._spare = spare
        self._margin = margin
        # What refreshes brought and the database has not taken, each with the version that it will have there.
        self._held: dict[str, Token] = {}
        self._lock = threading.Lock()
        # Set when nothing is held any more; there is a thread while it is not.
        self._all_stored: threading.Event | None = None

    def keep(self, db: DAL, owner: str, grant: Grant) -> None:
        """Keep what an owner has just granted, instead of whatever was there. In the caller's transaction.

        Raises: NotConfigured without a key to seal with.
        """
        fetch_one(
            db,
            self._sql(
                "INSERT INTO {table} AS t (owner_id, access_token, refresh_token, expires_at, scopes)"
                " VALUES (%(owner)s, %(access)s, %(refresh)s, %(expires_at)s, %(scopes)s)"
                " ON CONFLICT (owner_id) DO UPDATE SET access_token = excluded.access_token,"
                " refresh_token = excluded.refresh_token, expires_at = excluded.expires_at,"
                " scopes = excluded.scopes, state = 'ok', reason = '', version = t.version + 1,"
                " refresh_holder = '', refresh_until = NULL, checked_at = now(), updated_at = now()"
            ),
            {**self._sealed(owner, grant), "expires_at": grant.expires_at, "scopes": list(grant.scopes)},
        )
        self._log.auth("consent_given", table=self._table, owner=owner)

    def find(self, owner: str) -> Token | None:
        """An owner's token as it is, expired or not; None without one that works. Raises: CannotOpen."""
        if held := self._held.get(owner):
            return held
        row = self._read(owner)
        return self._open(row) if row and row["state"] == "ok" else None

    def open(self, owner: str, sealed: str) -> str:
        """The access token of an owner that somebody has read from the table. Raises: CannotOpen."""
        return self._keyring.open(sealed, purpose=self._purpose(owner, "access"))

    def fresh(self, owner: str, refresh: Refresh, *, refused: Token | None = None) -> Token:
        """A token that works, refreshed by one caller if it has to be. All others wait and get that one.

        `refused` is the token that the platform has just refused: whatever its expiry says, another one is needed.
        Nothing is locked while the platform is asked: who refreshes holds a lease on the row, and what comes of it
        counts only if the row is still the version that it was for.
        Raises: NoToken; NeedsReauth, in words for people; RefreshPending; what `refresh` raises when the platform is
        away and the token at hand has ended.
        """
        check_no_transaction()
        if held := self._held.get(owner):
            if not _ends_soon(held, self._margin) and (refused is None or refused.version != held.version):
                return held
            self._store(held, is_late=True)
        give_up_at = time.monotonic() + LEASE.total_seconds() + MAX_LOOK_S
        look_s = FIRST_LOOK_S
        while True:
            token, is_usable = self._look(owner, refused)
            if is_usable:
                return token
            if not token.refresh:
                self.refuse(owner, "it has ended and cannot be renewed", version=token.version)
            elif spare := self._find_spare(owner, token.version + 1):
                self._store(spare, is_late=True)
            elif lease := self._take_lease(token):
                return self._refresh(token, lease, refresh, refused)
            elif time.monotonic() > give_up_at:
                raise RefreshPending()
            else:
                threading.Event().wait(look_s)
                look_s = min(look_s * 2, MAX_LOOK_S)

    def refuse(self, owner: str, reason: str, *, version: int | None = None, known_at: datetime | None = None) -> bool:
        """Note that an owner has to consent again, and why. False if that is known, or if another token has come since:
        since `version`, or since `known_at`, when the platform said so; what it says may arrive late."""
        rows = self._db.statement(
            self._sql(
                "UPDATE {table} SET state = 'needs_reauth', reason = %(reason)s, version = version + 1,"
                " refresh_holder = '', refresh_until = NULL, updated_at = now() WHERE owner_id = %(owner)s"
                " AND state = 'ok' AND version = coalesce(%(version)s::bigint, version)"
                " AND updated_at <= coalesce(%(known_at)s::timestamptz, updated_at) RETURNING owner_id"
            ),
            {"owner": owner, "reason": reason[:MAX_REASON_CHARS], "version": version, "known_at": known_at},
        )
        if rows:
            self._log.auth("consent_lost", result="FAILED", table=self._table, owner=owner, reason=reason)
        return bool(rows)

    def forget(self, db: DAL, owner: str) -> None:
        """Delete an owner's token, in the caller's transaction."""
        if fetch(db, self._sql("DELETE FROM {table} WHERE owner_id = %(owner)s RETURNING owner_id"), {"owner": owner}):
            self._log.auth("consent_withdrawn", table=self._table, owner=owner)
        with self._lock:
            self._held.pop(owner, None)
        # Or it would be taken for what follows the first token of a later consent.
        self._delete_spare(owner)

    def take_unchecked(self, *, older_than: timedelta, limit: int) -> list[Token]:
        """Tokens that nobody has checked for so long, as checked from now on: no two replicas get the same.

        Those that do not open, because their key is gone, are logged and left out.
        """
        rows = self._db.statement(
            self._sql(
                "UPDATE {table} SET checked_at = now() WHERE owner_id IN (SELECT owner_id FROM {table}"
                "  WHERE state = 'ok' AND checked_at <= now() - %(age)s ORDER BY checked_at LIMIT %(limit)s"
                "  FOR UPDATE SKIP LOCKED) RETURNING *"
            ),
            {"age": older_than, "limit": limit},
        )
        opened: list[Token] = []
        for row in rows:
            try:
                opened.append(self._open(row))
            except CannotOpen as err:
                self._log.error("token_not_opened", table=self._table, owner=row["owner_id"], why=err.message)
        return opened

    def states(self, owners: Sequence[str]) -> dict[str, TokenState]:
        """How it is with these owners' consent; those without any are left out."""
        rows = self._db.statement(
            self._sql(
                "SELECT owner_id, state, reason, scopes, expires_at, updated_at FROM {table}"
                " WHERE owner_id = ANY(%(owners)s)"
            ),
            {"owners": list(owners)},
        )
        return {
            row["owner_id"]: TokenState(
                row["owner_id"],
                row["state"] == "needs_reauth",
                row["reason"],
                tuple(row["scopes"]),
                row["expires_at"],
                row["updated_at"],
            )
            for row in rows
        }

    def check(self) -> Counted:
        """Say how many accounts have granted access, and which of them must do so again."""
        rows = self._db.statement(
            self._sql(
                "SELECT count(*) AS kept, count(*) FILTER (WHERE state <> 'ok') AS refused,"
                " (array_agg(owner_id ORDER BY updated_at DESC) FILTER (WHERE state <> 'ok'))[1:5] AS latest"
                " FROM {table}"
            )
        )
        kept, refused, latest = rows[0]["kept"], rows[0]["refused"], rows[0]["latest"]
        if not refused:
            return Counted(f"{kept} kept")
        return Counted(f"{kept} kept; {refused} must consent again", ", ".join(latest))

    def check_all(self) -> Counted:
        """As `check`, where nothing works without each of them. Raises: UpstreamError while one must consent again."""
        found = self.check()
        if found.names:
            raise UpstreamError(found.detail, names=found.names)
        return found

    def _look(self, owner: str, refused: Token | None) -> tuple[Token, bool]:
        row = self._read(owner)
        if row is None:
            raise NoToken(f"{owner} has not granted access.")
        if row["state"] != "ok" and (spare := self._find_spare(owner, row["version"])):
            # What was refused was the refresh token that this one was bought with.
            self._store(spare, is_late=True)
            return self._look(owner, refused)
        if row["state"] != "ok":
            raise NeedsReauth(f"{owner} has to grant access again: {row['reason']}.", owner=owner)
        token = self._open(row)
        if refused is not None:
            return token, token.version != refused.version
        return token, not row["ends_soon"]

    def _read(self, owner: str) -> dict[str, Any] | None:
        rows = self._db.statement(
            self._sql(
                "SELECT *, coalesce(expires_at <= now() + %(margin)s, false) AS ends_soon FROM {table}"
                " WHERE owner_id = %(owner)s"
            ),
            {"owner": owner, "margin": self._margin},
        )
        return rows[0] if rows else None

    def _take_lease(self, token: Token) -> str:
        """A lease on refreshing this very token, empty while somebody else has one."""
        lease = secrets.token_hex(8)
        rows = self._db.statement(
            self._sql(
                "UPDATE {table} SET refresh_holder = %(lease)s, refresh_until = now() + %(lasts)s"
                " WHERE owner_id = %(owner)s AND version = %(version)s AND state = 'ok'"
                " AND (refresh_until IS NULL OR refresh_until <= now()) RETURNING owner_id"
            ),
            {"lease": lease, "lasts": LEASE, "owner": token.owner, "version": token.version},
        )
        return lease if rows else ""

    def _refresh(self, token: Token, lease: str, refresh: Refresh, refused: Token | None) -> Token:
        try:
            grant = refresh(token)
        except RefreshRefused as err:
            self.refuse(token.owner, str(err), version=token.version)
            return self._current(token.owner)  # Unless they consented meanwhile, this raises NeedsReauth.
        except UpstreamError:
            if self._release(token, lease) and refused is None:
                return token  # The platform is away, but the token at hand has not ended yet.
            raise
        except BaseException:
            self._release(token, lease)
            raise
        kept = Token(
            token.owner,
            grant.access,
            grant.refresh or token.refresh,
            grant.expires_at,
            grant.scopes or token.scopes,
            token.version + 1,
        )
        try:
            is_stored = self._store(kept)
            self._log.auth("token_refreshed", table=self._table, owner=token.owner)
        except NOT_STORED as err:
            self._hold(kept, err)
            return kept
        return kept if is_stored else self._current(token.owner)

    def _store(self, kept: Token, *, is_late: bool = False) -> bool:
        """Keep what a refresh brought. False if somebody has consented anew or has left, and it is worth nothing.

        If it `is_late`, others may have tried the refresh token that was used up for it; their being refused says
        nothing about this one. Raises: NOT_STORED.
        """
        rows = self._db.statement(
            self._sql(
                "UPDATE {table} SET access_token = %(access)s, refresh_token = %(refresh)s,"
                " expires_at = %(expires_at)s, scopes = %(scopes)s, version = %(version)s, state = 'ok', reason = '',"
                " refresh_holder = '', refresh_until = NULL, checked_at = now(), updated_at = now()"
                " WHERE owner_id = %(owner)s AND (version = %(version)s - 1"
                "  OR %(is_late)s AND version = %(version)s AND state = 'needs_reauth') RETURNING owner_id"
            ),
            {
                **self._sealed(kept.owner, kept),
                "expires_at": kept.expires_at,
                "scopes": list(kept.scopes),
                "version": kept.version,
                "is_late": is_late,
            },
        )
        self._let_go(kept)
        return bool(rows)

    # What the database does not take

    def _hold(self, kept: Token, why: Exception) -> None:
        """Keep it here until the database takes it, and where others find it if this process dies before."""
        has_spare = self._save_spare(kept)
        with self._lock:
            self._held[kept.owner] = kept
            is_first = self._all_stored is None
            all_stored = self._all_stored = self._all_stored or threading.Event()
        self._log.error(
            "token_not_stored", table=self._table, owner=kept.owner, why=type(why).__name__, spare=has_spare
        )
        if is_first:
            atexit.register(self._try_a_last_time)
            Watched("held-tokens").start(lambda: self._keep_trying(all_stored), stopping=all_stored)

    def _keep_trying(self, all_stored: threading.Event) -> None:
        retry_s = FIRST_RETRY_S
        while not all_stored.wait(retry_s):
            try:
                self._store_held()
            except NOT_STORED:
                retry_s = min(retry_s * 2, MAX_RETRY_S)
                continue
            with self._lock:
                if not self._held:
                    self._all_stored = None
                    atexit.unregister(self._try_a_last_time)
                    all_stored.set()

    def _try_a_last_time(self) -> None:
        with contextlib.suppress(*NOT_STORED):
            self._store_held()

    def _store_held(self) -> None:
        for kept in list(self._held.values()):
            is_stored = self._store(kept, is_late=True)
            self._log.system("token_stored_late", table=self._table, owner=kept.owner, was_needed=is_stored)

    def _let_go(self, kept: Token) -> None:
        with self._lock:
            was_held = self._held.get(kept.owner)
            if was_held is not None and was_held.version <= kept.version:
                del self._held[kept.owner]
        self._delete_spare(kept.owner)

    def _save_spare(self, kept: Token) -> bool:
        if self._spare is None:
            return False
        sealed = self._sealed(kept.owner, kept)
        ends_at = kept.expires_at.isoformat() if kept.expires_at else None
        sealed |= {"expires_at": ends_at, "scopes": list(kept.scopes), "version": kept.version}
        try:
            self._spare.set(self._spare_key(kept.owner), json.dumps(sealed), ex=SPARE_KEPT_FOR)
        except redis.RedisError:
            return False
        return True

    def _find_spare(self, owner: str, version: int) -> Token | None:
        """The token of this version, if a process brought it that could not store it."""
        found = None
        if self._spare is not None:
            with contextlib.suppress(redis.RedisError):
                found = self._spare.get(self._spare_key(owner))
        if not found:
            return None
        row = json.loads(str(found))
        if row["version"] != version:
            return None
        ends_at = datetime.fromisoformat(row["expires_at"]) if row["expires_at"] else None
        spare = {"owner_id": owner, "access_token": row["access"], "refresh_token": row["refresh"]}
        try:
            return self._open({**row, **spare, "expires_at": ends_at})
        except CannotOpen:
            return None

    def _delete_spare(self, owner: str) -> None:
        if self._spare is not None:
            with contextlib.suppress(redis.RedisError):
                self._spare.delete(self._spare_key(owner))

    def _spare_key(self, owner: str) -> str:
        return f"waddlebot:token:{self._table}:{owner}"

    def _release(self, token: Token, lease: str) -> bool:
        """Give the lease back. True if the token at hand still works."""
        rows = self._db.statement(
            self._sql(
                "UPDATE {table} SET refresh_holder = '', refresh_until = NULL WHERE owner_id = %(owner)s"
                " AND version = %(version)s AND refresh_holder = %(lease)s"
                " RETURNING expires_at > now() AS still_works"
            ),
            {"owner": token.owner, "version": token.version, "lease": lease},
        )
        return bool(rows and rows[0]["still_works"])

    def _current(self, owner: str) -> Token:
        return self._look(owner, None)[0]

    def _sealed(self, owner: str, grant: Grant | Token) -> dict[str, Any]:
        refresh = self._keyring.seal(grant.refresh, purpose=self._purpose(owner, "refresh")) if grant.refresh else ""
        access = self._keyring.seal(grant.access, purpose=self._purpose(owner, "access"))
        return {"owner": owner, "access": access, "refresh": refresh}

    def _open(self, row: dict[str, Any]) -> Token:
        owner, refresh = row["owner_id"], row["refresh_token"]
        return Token(
            owner,
            self.open(owner, row["access_token"]),
            self._keyring.open(refresh, purpose=self._purpose(owner, "refresh")) if refresh else "",
            row["expires_at"],
            tuple(row["scopes"]),
            row["version"],
        )

    def _purpose(self, owner: str, kind: str) -> str:
        return f"{self._table}:{owner}:{kind}"

    def _sql(self, text: str) -> Any:
        return sql.SQL(text).format(table=sql.Identifier(self._table))


def _ends_soon(token: Token, margin: timedelta) -> bool:
    """By this machine's clock, for when the database's cannot be asked."""
    return token.expires_at is not None and token.expires_at <= datetime.now(UTC) + margin


def define_tokens(db: DAL, table: str, *more: Field) -> None:
    """PyDAL's view of a platform's tokens, with `more` columns of its own; the module's migrations make the table."""
    db.define_table(
        table,
        Field("owner_id", "text"),
        Field("access_token", "text"),
        Field("refresh_token", "text"),
        Field("expires_at", "datetime"),
        Field("scopes", "list:string"),
        Field("state", "text"),
        Field("reason", "text"),
        Field("version", "bigint"),
        Field("refresh_holder", "text"),
        Field("refresh_until", "datetime"),
        Field("checked_at", "datetime"),
        Field("created_at", "datetime"),
        Field("updated_at", "datetime"),
        *more,
        primarykey=["owner_id"],
    )
