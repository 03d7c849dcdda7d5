"""All accounts with their keys, as Kong has them: sealed with WADDLEBOT_ENCRYPTION_KEYS, and put back by a plan that is
shown first. What was ended since a backup was made stays ended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from waddlebot.base.api_key import hash_key
from waddlebot.base.encryption import CannotOpen, Keyring
from waddlebot.base.errors import Invalid, NotConfigured, NotFound
from waddlebot.base.wire import to_json
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import create_account
from waddlebot.web.lists import Listed, Page, fetch_page

from .audit_log import AuditLog, By
from .kong_client import TAG, KongClient
from .progress import Progress
from .user_manager import GROUPS, Tier, User, UserManager

PURPOSE = "kong_admin_backup"


class SavedUser(BaseModel):
    username: str
    email: str | None
    full_name: str | None
    notes: str | None
    tier: Tier
    custom_id: str
    # As Kong has them, which is the only place where they are whole.
    keys: list[str]


class Saved(BaseModel):
    version: int = 1
    made_at: datetime
    # The log's last row at that time.
    audit_head: dict[str, Any]
    users: list[SavedUser]


@dataclass(frozen=True, slots=True)
class Restoring:
    """What is done for one of a backup."""

    saved: SavedUser
    action: str
    why: str
    user: User | None = None

    @property
    def shown(self) -> dict[str, str]:
        return {"username": self.saved.username, "action": self.action, "why": self.why}


class Backups:
    def __init__(
        self, database: Database, kong: KongClient, users: UserManager, audit: AuditLog, keyring: Keyring
    ) -> None:
        self._database = database
        self._kong = kong
        self._users = users
        self._audit = audit
        self._keyring = keyring

    def make(self, by: By) -> dict[str, Any]:
        """Save everybody who is active, and return it sealed, to be kept where the database is not.

        Raises: NotConfigured without WADDLEBOT_ENCRYPTION_KEYS; KongUnavailable.
        """
        if not self._keyring.can_seal:
            raise NotConfigured("WADDLEBOT_ENCRYPTION_KEYS is not set, and a backup is never kept in clear.")
        with Progress("the backup").step():
            keys = self._keys_in_kong()
        with self._database.transaction() as db:
            users = [User.read(row) for row in fetch(db, ACTIVE)]
            head = self._audit.head(db)
            saved = [_save(user, keys.get(user.custom_id, [])) for user in users]
            content = self._seal(Saved(made_at=datetime.now(UTC), audit_head=head, users=saved))
            row = fetch_one(
                db,
                "INSERT INTO kong_admin_backups (account_id, user_count, key_count, sha256, content)"
                " VALUES (%s, %s, %s, %s, %s) RETURNING id, created_at",
                (by.account_id, len(saved), sum(len(each.keys) for each in saved), _sha256(content), content),
            )
            assert row is not None
            self._audit.record(db, by, "backed_up", None, after={"backup": row["id"], "users": len(saved)})
        return {
            "id": row["id"],
            "created_at": row["created_at"],
            "users": len(saved),
            "keys": sum(len(each.keys) for each in saved),
            "sha256": _sha256(content),
            "content": content,
        }

    def read_page(self, page: Page) -> Listed[dict[str, Any]]:
        with self._database.transaction() as db:
            return fetch_page(lambda sql, values: fetch(db, sql, values), LIST, {}, page)

    def restore(self, backup_id: int | None, content: str | None, by: By, *, apply: bool) -> dict[str, Any]:
        """Say what would become of everybody in a backup, and with `apply` do it. Raises: NotFound; Invalid."""
        saved = self._open(content if content is not None else self._content_of(backup_id))
        with Progress("the plan").step():
            plan = list(self._plan(saved))
        if apply:
            wanted = [each for each in plan if each.action in ("create", "update")]
            progress = Progress(*(each.saved.username for each in wanted))
            for each in wanted:
                with progress.step():
                    self._put_back(each, by)
            with self._database.transaction() as db:
                self._audit.record(db, by, "restored", None, after={"users": len(plan), "made_at": saved.made_at})
        return {"applied": apply, "made_at": saved.made_at, "plan": [each.shown for each in plan]}

    def _plan(self, saved: Saved) -> Iterator[Restoring]:
        in_kong = self._keys_in_kong()
        with self._database.transaction() as db:
            known = {row["username"].lower(): User.read(row) for row in fetch(db, "SELECT * FROM kong_admin_users")}
            taken = {row["name"].lower() for row in fetch(db, "SELECT name FROM service_accounts")}
            live = {row["key_hash"] for row in fetch(db, LIVE_HASHES)}
        for each in saved.users:
            user = known.get(each.username.lower())
            yield self._plan_one(each, user, in_kong, is_taken=each.username.lower() in taken, live=live)

    def _plan_one(
        self, saved: SavedUser, user: User | None, in_kong: Mapping[str, list[str]], *, is_taken: bool, live: set[str]
    ) -> Restoring:
        if user is None:
            if is_taken:
                return Restoring(saved, "conflict", "an account of that name is here, and none of the broker's")
            if not saved.keys:
                return Restoring(saved, "conflict", "it had no key in Kong when it was saved; make it anew")
            return Restoring(saved, "create", "it is not here any more")
        if user.custom_id != saved.custom_id:
            return Restoring(saved, "conflict", "somebody else has that name now")
        if user.state != "active":
            return Restoring(saved, "skip", f"it is {user.state} since, and stays so")
        lost = [key for key in saved.keys if hash_key(key) in live and key not in in_kong.get(user.custom_id, [])]
        if user.custom_id not in in_kong or lost:
            return Restoring(saved, "update", "its consumer or key is not in Kong any more", user)
        return Restoring(saved, "skip", "it is as it was")

    def _put_back(self, each: Restoring, by: By) -> None:
        saved = each.saved
        consumer_id = self._kong.ensure_consumer(saved.username, saved.custom_id)
        keys = saved.keys if each.user is None else self._still_live(saved.keys)
        for key in keys:
            self._kong.put_key(consumer_id, key, key_id=key.split("_")[1])
        self._kong.put_group(consumer_id, self._users.kong_group(saved.tier))
        with self._database.transaction() as db:
            user_id = each.user.id if each.user else None
            if each.user is None:
                user_id = _put_back_here(db, saved, consumer_id)
            else:
                fetch(db, "UPDATE kong_admin_users SET consumer_id = %s WHERE id = %s", (consumer_id, user_id))
            self._audit.record(db, by, "restored", user_id, after={"tier": saved.tier, "keys": len(keys)})

    def _still_live(self, keys: list[str]) -> list[str]:
        with self._database.transaction() as db:
            live = {row["key_hash"] for row in fetch(db, LIVE_HASHES)}
        return [key for key in keys if hash_key(key) in live]

    def _keys_in_kong(self) -> dict[str, list[str]]:
        """The keys of the broker's consumers, by the mark of those; a key that is to end is not kept."""
        marks = {each.id: each.custom_id or "" for each in self._kong.all_consumers(tag=TAG)}
        found: dict[str, list[str]] = {mark: [] for mark in marks.values()}
        for each in self._kong.all_credentials():
            if each.consumer_id in marks and each.ttl_s is None:
                found[marks[each.consumer_id]].append(each.key)
        return found

    def _seal(self, saved: Saved) -> str:
        return self._keyring.seal(to_json(saved.model_dump(mode="json")), purpose=PURPOSE)

    def _open(self, content: str) -> Saved:
        try:
            return Saved.model_validate_json(self._keyring.open(content.strip(), purpose=PURPOSE))
        except (CannotOpen, ValidationError) as err:
            raise Invalid(
                "content: this is no backup, or it was sealed with a key that WADDLEBOT_ENCRYPTION_KEYS no longer has.",
                field="content",
            ) from err

    def _content_of(self, backup_id: int | None) -> str:
        with self._database.transaction() as db:
            row = fetch_one(db, "SELECT content FROM kong_admin_backups WHERE id = %s", (backup_id,))
        if row is None:
            raise NotFound(f"There is no backup {backup_id}.")
        return str(row["content"])


def _put_back_here(db: Any, saved: SavedUser, consumer_id: str) -> int:
    made = create_account(
        db,
        name=saved.username,
        groups=[GROUPS[saved.tier]],
        module_name=saved.username if saved.tier == "service" else None,
        api_key=saved.keys[-1],
    )
    row = fetch_one(
        db,
        "INSERT INTO kong_admin_users"
        " (username, email, full_name, notes, tier, state, account_id, custom_id, consumer_id)"
        " VALUES (%s, %s, %s, %s, %s, 'active', %s, %s, %s) RETURNING id",
        (
            saved.username,
            saved.email,
            saved.full_name,
            saved.notes,
            saved.tier,
            made.account.id,
            saved.custom_id,
            consumer_id,
        ),
    )
    assert row is not None
    return int(row["id"])


def _save(user: User, keys: list[str]) -> SavedUser:
    return SavedUser(
        username=user.username,
        email=user.email,
        full_name=user.full_name,
        notes=user.notes,
        tier=user.tier,
        custom_id=user.custom_id,
        keys=keys,
    )


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


ACTIVE = "SELECT * FROM kong_admin_users WHERE state = 'active' ORDER BY id"
LIST = """
SELECT b.id, a.name AS created_by, b.user_count AS users, b.key_count AS keys, b.sha256, b.created_at,
    count(*) OVER () AS total
FROM kong_admin_backups b LEFT JOIN service_accounts a ON a.id = b.account_id
ORDER BY b.id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
LIVE_HASHES = """
SELECT key_hash FROM service_account_keys WHERE is_active AND (expires_at IS NULL OR expires_at > now())
"""
