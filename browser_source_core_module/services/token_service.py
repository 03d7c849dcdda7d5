"""Overlay tokens: bearer secrets, one for each community and source. Found by hash, kept sealed, shown on request."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from pydal import DAL
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import NotAllowed, NotFound
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import is_number
from waddlebot.data.audit import HIDDEN, Undo, record
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import Account

from .admission import FIND, WORKS, Admission, hash_token
from .frames import TOKENS

PREVIEWED_FOR = timedelta(minutes=15)


class UnknownToken(NotFound):
    """There is no such token, or it has ended."""

    code = "unknown_token"


class WrongToken(NotAllowed):
    """This address opens no overlay. It may have been regenerated; ask for the new one."""

    code = "wrong_token"


def mask(token: str) -> str:
    return f"{token[:4]}…"


class TokenService:
    def __init__(
        self, database: Database, bus: Bus, keyring: Keyring, log: AAALog, *, base_url: str, token_length: int
    ) -> None:
        self._database = database
        self._bus = bus
        self._keyring = keyring
        self._log = log
        self._base_url = base_url.rstrip("/")
        self._token_length = token_length

    def admit(self, token: str, source_type: str) -> Admission:
        """What this token opens for this source. Raises: WrongToken, whatever is wrong with it."""
        rows = self._database.statement(FIND, (hash_token(token), source_type))
        if not rows:
            raise WrongToken()
        return Admission(**rows[0])

    def ensure(self, community_id: int, source_types: tuple[str, ...], *, by: str) -> dict[str, dict[str, Any]]:
        """The tokens of a community, made where there are none, with their URLs."""
        with self._database.transaction() as db:
            made = [kind for kind in source_types if self._add(db, community_id, kind, by=by)]
            found = self._current(db, community_id)
            for row in found:
                if row["source_type"] in made:
                    _record(db, "overlay_token_made", community_id, row["source_type"], None, row["id"])
        self._log.audit("overlay_tokens_shown", community=community_id, user=by, created=made)
        return {row["source_type"]: self._shown(row) for row in found if row["source_type"] in source_types}

    def list_for(self, community_id: int, *, reveal: bool, by: str) -> list[dict[str, Any]]:
        """All working tokens, masked unless `reveal` asks for them, which is audited."""
        with self._database.transaction() as db:
            rows = fetch(
                db,
                "SELECT id, community_id, source_type, token, expires_at, created_by, last_seen, created_at"
                f" FROM browser_source_tokens WHERE community_id = %s AND {WORKS} AND NOT is_preview"
                " ORDER BY source_type, id",
                (community_id,),
            )
        if reveal:
            self._log.audit("overlay_tokens_shown", community=community_id, user=by)
        return [self._listed(row, reveal=reveal) for row in rows]

    def urls(self, community_id: int, *, by: str) -> dict[str, str]:
        """The URL of each overlay that the community has."""
        with self._database.transaction() as db:
            found = self._current(db, community_id)
        self._log.audit("overlay_tokens_shown", community=community_id, user=by)
        return {row["source_type"]: self._shown(row)["url"] for row in found}

    def preview(self, community_id: int, source_type: str, *, by: str) -> dict[str, Any]:
        """The URL of a page for looking only, for a quarter of an hour. Audited."""
        token = secrets.token_urlsafe(self._token_length)
        sealed = self._keyring.seal(token, purpose=_purpose(community_id, source_type))
        rows = self._database.statement(
            "INSERT INTO browser_source_tokens"
            " (community_id, source_type, token_hash, token, created_by, is_preview, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, true, now() + %s) RETURNING expires_at",
            (community_id, source_type, hash_token(token), sealed, by, PREVIEWED_FOR),
        )
        self._log.audit("overlay_previewed", community=community_id, user=by, source=source_type)
        url = f"{self._base_url}/browser/source/{token}/{source_type}"
        return {"url": url, "source_type": source_type, "expires_at": rows[0]["expires_at"]}

    def regenerate(self, reference: str, caller: Account, *, grace_s: float) -> dict[str, Any]:
        """Replace a token. The old one works for `grace_s` more, with 0 not at all. Raises: UnknownToken."""
        with self._database.transaction() as db:
            old = self._lock(db, reference, caller)
            ended = self._end(db, old["id"], grace_s=grace_s)
            self._add(db, old["community_id"], old["source_type"], by=caller.name)
            new = next(
                each for each in self._current(db, old["community_id"]) if each["source_type"] == old["source_type"]
            )
            _record(db, "overlay_token_regenerated", old["community_id"], old["source_type"], old["id"], new["id"])
        self._changed("overlay_token_regenerated", old, caller, grace_s=grace_s)
        return {
            "token": {**self._shown(new), "source_type": new["source_type"]},
            "previous": {"id": old["id"], "expires_at": ended},
        }

    def revoke(self, reference: str, caller: Account) -> dict[str, Any]:
        """End a token at once. Raises: UnknownToken."""
        with self._database.transaction() as db:
            old = self._lock(db, reference, caller)
            self._end(db, old["id"], grace_s=0)
            _record(db, "overlay_token_revoked", old["community_id"], old["source_type"], old["id"], None)
        self._changed("overlay_token_revoked", old, caller)
        return {"id": old["id"], "source_type": old["source_type"]}

    def _lock(self, db: DAL, reference: str, caller: Account) -> dict[str, Any]:
        """A working token that the caller may change, by itself or by its id."""
        is_id = is_number(reference)
        row = fetch_one(
            db,
            f"SELECT id, community_id, source_type FROM browser_source_tokens"
            f" WHERE {'id' if is_id else 'token_hash'} = %s AND {WORKS} AND NOT is_preview FOR UPDATE",
            (int(reference) if is_id else hash_token(reference),),
        )
        if row is None or caller.community_id not in (None, row["community_id"]):
            raise UnknownToken()
        return row

    def _add(self, db: DAL, community_id: int, source_type: str, *, by: str) -> bool:
        token = secrets.token_urlsafe(self._token_length)
        sealed = self._keyring.seal(token, purpose=_purpose(community_id, source_type))
        row = fetch_one(
            db,
            "INSERT INTO browser_source_tokens (community_id, source_type, token_hash, token, created_by)"
            " VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (community_id, source_type) WHERE is_active AND expires_at IS NULL DO NOTHING RETURNING id",
            (community_id, source_type, hash_token(token), sealed, by),
        )
        return row is not None

    @staticmethod
    def _end(db: DAL, token_id: int, *, grace_s: float) -> datetime | None:
        row = fetch_one(
            db,
            "UPDATE browser_source_tokens SET expires_at = now() + %s, is_active = %s WHERE id = %s"
            " RETURNING expires_at",
            (timedelta(seconds=grace_s), grace_s > 0, token_id),
        )
        return row["expires_at"] if row else None

    @staticmethod
    def _current(db: DAL, community_id: int) -> list[dict[str, Any]]:
        return fetch(
            db,
            "SELECT id, community_id, source_type, token FROM browser_source_tokens"
            " WHERE community_id = %s AND is_active AND expires_at IS NULL",
            (community_id,),
        )

    def _open(self, row: dict[str, Any]) -> str:
        return self._keyring.open(row["token"], purpose=_purpose(row["community_id"], row["source_type"]))

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        token = self._open(row)
        return {"id": row["id"], "token": token, "url": f"{self._base_url}/browser/source/{token}/{row['source_type']}"}

    def _listed(self, row: dict[str, Any], *, reveal: bool) -> dict[str, Any]:
        shown = self._shown(row)
        if not reveal:
            hidden = mask(shown["token"])
            shown = {**shown, "token": hidden, "url": shown["url"].replace(shown["token"], hidden)}
        return {**row, **shown}

    def _changed(self, action: str, old: dict[str, Any], caller: Account, **more: Any) -> None:
        """Tell the hubs, which close what the token no longer opens."""
        self._bus.invalidate(TOKENS, old["id"])
        self._log.audit(action, community=old["community_id"], user=caller.name, source=old["source_type"], **more)


def _record(db: DAL, action: str, community_id: int, source_type: str, old: int | None, new: int | None) -> None:
    """Write a change into the audit log. What was a token's secret cannot come back, so only a new one can go."""
    record(
        db,
        "browser_source_core",
        action,
        f"overlay-token/{source_type}",
        community_id=community_id,
        before={"id": old, "token": HIDDEN} if old else None,
        after={"id": new, "token": HIDDEN} if new else None,
        undo=Undo("DELETE", f"/browser/source/admin/tokens/{new}") if new and not old else None,
    )


def _purpose(community_id: int, source_type: str) -> str:
    return f"overlay:{community_id}:{source_type}"
