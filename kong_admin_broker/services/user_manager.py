"""The accounts that administer Kong: each is a service account here and a consumer there, with the same keys.

The database decides, since every service checks keys itself; Kong follows. A change that Kong did not hear to its end
is either taken back at once or marked, and `Reconciliation` goes on with it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydal import DAL
from waddlebot.base.api_key import make_key
from waddlebot.base.errors import Conflict, Invalid, NotFound, WaddleBotError
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import ACCOUNTS, change_account, create_account, end_keys, rotate_key
from waddlebot.web.lists import Listed, Page, fetch_page

from .audit_log import AuditLog, By
from .kong_client import KongClient, KongSilent, credential_id
from .progress import Progress

Tier = Literal["super-admin", "admin", "service"]
State = Literal["making", "pending", "active", "inactive"]
GROUPS: Mapping[Tier, str] = {"super-admin": "super-admins", "admin": "admins", "service": "services"}
USERNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{1,62}[A-Za-z0-9])")
LOOKS_LIKE_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# A request that died in the middle leaves its mark for so long.
LAPSES_S = 300
# One row decides whether somebody is the last; whoever wants to know waits for the other one who does.
LAST_ONE_LOCK = "kong_admin_broker last super-admin"


class BeingChanged(Conflict):
    """Somebody is changing that account at this moment. Look at it, and try again."""

    code = "being_changed"


class LastSuperAdmin(Conflict):
    """That is the last super-admin who can sign in; make another one first."""

    code = "last_super_admin"


class NotActive(Conflict):
    """That account is not active."""

    code = "not_active"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may administer, as the database has them."""

    id: int
    username: str
    email: str | None
    full_name: str | None
    notes: str | None
    tier: Tier
    state: State
    account_id: int | None
    custom_id: str
    consumer_id: str | None
    is_unfinished: bool
    verification: str | None
    verified_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> User:
        return cls(**{name: row[name] for name in cls.__slots__})

    @property
    def recorded(self) -> dict[str, Any]:
        """For the audit log, which has no names in it."""
        return {"tier": self.tier, "state": self.state}


@dataclass(frozen=True, slots=True)
class Made:
    """An account with its new key, which is shown now and never again. `not_done` is what Kong has yet to be told."""

    user: User
    key_id: str
    api_key: str
    not_done: Sequence[str] = ()


class UserManager:
    def __init__(
        self,
        database: Database,
        bus: Bus,
        kong: KongClient,
        audit: AuditLog,
        *,
        super_admin_group: str,
        key_length: int,
        reserved: frozenset[str],
    ) -> None:
        self._database = database
        self._bus = bus
        self._kong = kong
        self._audit = audit
        self._group_in_kong = super_admin_group
        self._key_length = key_length
        self._reserved = reserved

    def kong_group(self, tier: Tier) -> str:
        """What a tier is called in Kong."""
        return self._group_in_kong if tier == "super-admin" else GROUPS[tier]

    def read_page(self, page: Page, **filters: Any) -> Listed[dict[str, Any]]:
        with self._database.transaction() as db:
            listed = fetch_page(lambda sql, values: fetch(db, sql, values), LIST, filters, page)
            keys = _keys_of(db, [row["account_id"] for row in listed.rows])
        return listed.map(lambda row: self.shown(User.read(row), keys.get(row["account_id"], [])))

    def get(self, username: str) -> dict[str, Any]:
        """Raises: NotFound."""
        with self._database.transaction() as db:
            user = _get(db, username)
            return self.shown(user, _keys_of(db, [user.account_id]).get(user.account_id, []))

    def shown(self, user: User, keys: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """An account for whoever may see it; of its keys the ids, which open nothing."""
        return {
            "id": user.id,
            "username": user.username,
            "email": user.email,
            "full_name": user.full_name,
            "notes": user.notes,
            "tier": user.tier,
            "groups": [self.kong_group(user.tier)],
            "state": user.state,
            "is_active": user.state == "active",
            "is_unfinished": user.is_unfinished,
            "kong_consumer_id": user.consumer_id,
            "verified_at": user.verified_at,
            "created_at": user.created_at,
            "updated_at": user.updated_at,
            "keys": list(keys),
        }

    def create(
        self,
        username: str,
        by: By,
        *,
        tier: Tier,
        email: str | None = None,
        full_name: str | None = None,
        notes: str | None = None,
        verification: str | None = None,
        api_key: str | None = None,
    ) -> Made:
        """Make an account, its consumer in Kong and its key. With a `verification` it opens nothing until that is used.

        Raises: Conflict for a name that is taken, here or in Kong; KongUnavailable, and then nothing of it is left, or
        will be.
        """
        self.check_name(username)
        self._kong.check_there()
        api_key = api_key or make_key(self._key_length)[1]
        if left := self._find_given_up(username):
            self.forget_unfinished(left, by)
        user = self._reserve(username, tier, email, full_name, notes, verification)
        progress = Progress("the consumer in Kong", "its key", "its group", "the account here")
        consumer_id = ""
        try:
            consumer_id = self._kong.ensure_consumer(user.username, user.custom_id)
            progress.did()
            self._kong.put_key(consumer_id, api_key, key_id=_key_id(api_key))
            progress.did()
            if not verification:
                self._kong.put_group(consumer_id, self.kong_group(tier))
            progress.did()
            made = self._finish_creation(user, consumer_id, api_key, by)
        except WaddleBotError as err:
            progress.stop(err, taken_back=self._take_back(user, by, after=err))
        return made

    def regenerate(self, username: str, by: By, *, overlap_s: int) -> Made:
        """Another key; the one before ends after the overlap, or at once. Raises: NotActive; BeingChanged."""
        with self._changing(username, "regenerate") as user:
            if user.state != "active":
                raise NotActive(f"{user.username} is {user.state}; only an active account gets another key.")
            api_key = make_key(self._key_length)[1]
            progress = Progress("the new key in Kong", "the new key here", "the end of the old one in Kong")
            consumer_id = self._known_consumer(user, progress)
            with progress.step():
                self._kong.put_key(consumer_id, api_key, key_id=_key_id(api_key))
            try:
                ended = self._rotate(user, api_key, by, overlap_s=overlap_s)
            except WaddleBotError as err:
                progress.stop(err, taken_back=self._end_in_kong(user, consumer_id, [_key_id(api_key)]))
            progress.did()
            done = self._end_in_kong(user, consumer_id, ended, after_s=overlap_s)
            return Made(self._read(user), _key_id(api_key), api_key, () if done else progress.not_done)

    def deactivate(self, username: str, by: By) -> dict[str, Any]:
        """End what somebody may, here first and then in Kong; the consumer stays. Twice is once.

        Raises: LastSuperAdmin; KongUnavailable when only the services refuse the keys by now.
        """
        with self._changing(username, "deactivate") as user:
            progress = Progress("its keys and rights here", "its group in Kong", "its keys in Kong")
            if user.state != "inactive":
                self._end_here(user, by)
            progress.did()
            try:
                consumer = self._kong.find_consumer(user.custom_id)
                for group in sorted(self._kong.groups_of(consumer.id)) if consumer else ():
                    self._kong.remove_group(consumer.id, group) if consumer else None
                progress.did()
                for key in self._kong.keys_of(consumer.id) if consumer else ():
                    self._kong.end_key(key.consumer_id, key.id)
                progress.did()
            except WaddleBotError as err:
                self.mark(user.id, unfinished=True)
                progress.stop(err)
            self.mark(user.id, unfinished=False)
            return self.get(user.username)

    def reactivate(self, username: str, by: By, *, verification: str) -> Made:
        """Let somebody in again, with a new key. Whose address was never verified waits for a mail with `verification`.

        Raises: Conflict when they are not inactive.
        """
        with self._changing(username, "reactivate") as user:
            if user.state != "inactive":
                raise Conflict(f"{user.username} is {user.state} already.")
            waits_for = verification if user.verification else None
            api_key = make_key(self._key_length)[1]
            progress = Progress("the consumer in Kong", "its key", "its group", "the account here")
            consumer_id = ""
            try:
                consumer_id = self._kong.ensure_consumer(user.username, user.custom_id)
                progress.did()
                self._kong.put_key(consumer_id, api_key, key_id=_key_id(api_key))
                progress.did()
                if not waits_for:
                    self._kong.put_group(consumer_id, self.kong_group(user.tier))
                progress.did()
                self._begin_here(user, consumer_id, api_key, by, waits_for)
            except WaddleBotError as err:
                taken_back = self._end_in_kong(user, consumer_id, [_key_id(api_key)], groups=True)
                progress.stop(err, taken_back=taken_back)
            return Made(self._read(user), _key_id(api_key), api_key)

    def update(self, username: str, by: By, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change what is named. Another tier changes what the key opens, at Kong and here."""
        with self._changing(username, "update") as user:
            if "username" in changes and changes["username"] != user.username:
                raise Invalid("A username stays; make another account.", field="username")
            tier: Tier = changes.get("tier") or user.tier
            progress = Progress("its new group in Kong", "the account here", "the end of its old group in Kong")
            moves = tier != user.tier and user.state == "active"
            if moves:
                consumer_id = self._known_consumer(user, progress)
                with progress.step():
                    self._kong.put_group(consumer_id, self.kong_group(tier))
            else:
                progress.did()
            try:
                self._write(user, {**changes, "tier": tier}, by)
            except WaddleBotError as err:
                self.mark(user.id, unfinished=moves)
                progress.stop(err) if moves else None
                raise
            progress.did()
            if moves:
                try:
                    self._kong.remove_group(consumer_id, self.kong_group(user.tier))
                except WaddleBotError as err:
                    self.mark(user.id, unfinished=True)
                    progress.stop(err)
            return self.get(user.username)

    def verify(self, user_id: int, verification: str, by: By) -> User | None:
        """Let in whoever has the link of a mail; None for one that was used, or is of another mail.

        Raises: KongUnavailable, and then the link still works.
        """
        with self._database.transaction() as db:
            row = fetch_one(
                db,
                "SELECT * FROM kong_admin_users WHERE id = %s AND verification = %s AND state = 'pending'",
                (user_id, verification),
            )
        if row is None:
            return None
        user = User.read(row)
        self._kong.put_group(user.consumer_id or "", self.kong_group(user.tier))
        with self._database.transaction() as db:
            done = fetch_one(
                db,
                "UPDATE kong_admin_users SET state = 'active', verification = NULL, verified_at = now(),"
                " updated_at = now() WHERE id = %s AND verification = %s AND state = 'pending' RETURNING *",
                (user_id, verification),
            )
            if done is None:
                return None
            key_ids = change_account(db, done["account_id"], groups=[GROUPS[user.tier]], is_active=True)
            self._audit.record(db, by, "verified", user.id, before=user.recorded, after=User.read(done).recorded)
        self._bus.invalidate(ACCOUNTS, *key_ids)
        return User.read(done)

    def is_known(self, username: str) -> bool:
        """Whether there is somebody of that name, or is going to be."""
        with self._database.transaction() as db:
            return bool(fetch(db, KNOWN, {"username": username}))

    def find_pending(self, username: str) -> User | None:
        """Somebody who has a mail to answer. Raises: NotFound."""
        with self._database.transaction() as db:
            user = _get(db, username)
        return user if user.state == "pending" else None

    def check_name(self, username: str) -> None:
        """Raises: Invalid for what could not be addressed in Kong, or would be taken for one of the fleet's own."""
        if not USERNAME.fullmatch(username) or LOOKS_LIKE_UUID.fullmatch(username):
            raise Invalid(
                "username: 3 to 64 letters, digits, dots, hyphens or underscores, no UUID, and a letter or digit at"
                " both ends.",
                field="username",
            )
        if username.lower() in self._reserved:
            raise Invalid(f"username: {username} is one of the fleet's own accounts.", field="username")

    def mark(self, user_id: int, *, unfinished: bool) -> None:
        """Note whether Kong still has to be told something."""
        with self._database.transaction() as db:
            fetch(
                db,
                "UPDATE kong_admin_users SET is_unfinished = %s, updated_at = now() WHERE id = %s",
                (unfinished, user_id),
            )

    def ensure_consumer(self, user: User) -> str:
        """The id of an active account's consumer in Kong, which somebody may have deleted behind our back."""
        consumer_id = self._kong.ensure_consumer(user.username, user.custom_id)
        if consumer_id != user.consumer_id:
            self._kong.put_group(consumer_id, self.kong_group(user.tier))
            with self._database.transaction() as db:
                fetch(db, "UPDATE kong_admin_users SET consumer_id = %s WHERE id = %s", (consumer_id, user.id))
        return consumer_id

    def settle(self, user: User) -> None:
        """Note that Kong has it as it is here, unless that was changed since. A request that died leaves go of it."""
        with self._database.transaction() as db:
            fetch(db, SETTLE, {"id": user.id, "updated_at": user.updated_at, "lapses": LAPSES_S})

    def forget_unfinished(self, user: User, by: By) -> None:
        """Take back a creation that never came to its end: its key was shown to nobody."""
        if consumer := self._kong.find_consumer(user.custom_id):
            self._kong.remove_consumer(consumer.id)
        with self._database.transaction() as db:
            fetch(db, "DELETE FROM kong_admin_users WHERE id = %s AND state = 'making'", (user.id,))
            self._audit.record(db, by, "created", user.id, after=user.recorded, result="taken back")

    def count_active(self) -> int:
        """The super-admins who may come in."""
        with self._database.transaction() as db:
            return int(fetch(db, ACTIVE, {"except": 0})[0]["count"])

    def _reserve(
        self,
        username: str,
        tier: Tier,
        email: str | None,
        full_name: str | None,
        notes: str | None,
        verification: str | None,
    ) -> User:
        with self._database.transaction() as db:
            if fetch_one(db, "SELECT 1 FROM service_accounts WHERE lower(name) = lower(%s)", (username,)):
                raise Conflict(f"There is already an account named {username}.")
            row = fetch_one(
                db,
                "INSERT INTO kong_admin_users"
                " (username, tier, email, full_name, notes, verification, custom_id, state, doing, doing_since)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, 'making', 'create', now())"
                " ON CONFLICT DO NOTHING RETURNING *",
                (username, tier, email, full_name, notes, verification, f"waddlebot-{uuid.uuid4()}"),
            )
        if row is None:
            raise Conflict(f"There is already an account named {username}.")
        return User.read(row)

    def _finish_creation(self, user: User, consumer_id: str, api_key: str, by: By) -> Made:
        state: State = "pending" if user.verification else "active"
        with self._database.transaction() as db:
            made = create_account(
                db,
                name=user.username,
                groups=[GROUPS[user.tier]],
                module_name=user.username if user.tier == "service" else None,
                api_key=api_key,
            )
            if state == "pending":
                change_account(db, made.account.id, groups=[GROUPS[user.tier]], is_active=False)
            row = fetch_one(
                db,
                "UPDATE kong_admin_users SET state = %s, account_id = %s, consumer_id = %s, doing = NULL,"
                " updated_at = now() WHERE id = %s AND state = 'making' RETURNING *",
                (state, made.account.id, consumer_id, user.id),
            )
            if row is None:
                raise BeingChanged("This took so long that it was given up; nothing of it is left.")
            done = User.read(row)
            self._audit.record(db, by, "created", done.id, after={**done.recorded, "key": made.key_id})
        return Made(done, made.key_id, api_key)

    def _find_given_up(self, username: str) -> User | None:
        """What is left of a creation that Kong did not even let be taken back, so that the name can be had again."""
        with self._database.transaction() as db:
            row = fetch_one(db, GIVEN_UP, {"username": username})
        return User.read(row) if row else None

    def _take_back(self, user: User, by: By, *, after: WaddleBotError) -> bool:
        """Whether nothing is left of a creation that failed. What is left is marked."""
        if not isinstance(after, KongSilent):
            with suppress(WaddleBotError):
                self.forget_unfinished(user, by)
                return True
        self.mark(user.id, unfinished=True)
        return False

    def _rotate(self, user: User, api_key: str, by: By, *, overlap_s: int) -> Sequence[str]:
        """The keys that end."""
        with self._database.transaction() as db:
            before = [] if overlap_s or user.account_id is None else end_keys(db, user.account_id)
            made = rotate_key(db, user.username, overlap=timedelta(seconds=overlap_s), api_key=api_key)
            ended = [*before, *made.ended]
            _touch(db, user.id)
            self._audit.record(
                db,
                by,
                "key_regenerated",
                user.id,
                before={"keys": ended},
                after={"key": made.key_id, "overlap_s": overlap_s},
            )
        self._bus.invalidate(ACCOUNTS, *ended)
        return ended

    def _end_here(self, user: User, by: By) -> None:
        with self._database.transaction() as db:
            self._check_not_last(db, user)
            ended = end_keys(db, user.account_id) if user.account_id is not None else []
            if user.account_id is not None:
                change_account(db, user.account_id, groups=[GROUPS[user.tier]], is_active=False)
            fetch(
                db,
                "UPDATE kong_admin_users SET state = 'inactive', updated_at = now() WHERE id = %s",
                (user.id,),
            )
            after = {**user.recorded, "state": "inactive"}
            self._audit.record(db, by, "deactivated", user.id, before={**user.recorded, "keys": ended}, after=after)
        self._bus.invalidate(ACCOUNTS, *ended)

    def _begin_here(self, user: User, consumer_id: str, api_key: str, by: By, waits_for: str | None) -> None:
        assert user.account_id is not None
        state: State = "pending" if waits_for else "active"
        with self._database.transaction() as db:
            change_account(db, user.account_id, groups=[GROUPS[user.tier]], is_active=True)
            made = rotate_key(db, user.username, overlap=timedelta(), api_key=api_key)
            change_account(db, user.account_id, groups=[GROUPS[user.tier]], is_active=state == "active")
            fetch(
                db,
                "UPDATE kong_admin_users SET state = %s, consumer_id = %s, verification = %s, updated_at = now()"
                " WHERE id = %s",
                (state, consumer_id, waits_for, user.id),
            )
            after = {**user.recorded, "state": state, "key": made.key_id}
            self._audit.record(db, by, "reactivated", user.id, before=user.recorded, after=after)

    def _write(self, user: User, changes: Mapping[str, Any], by: By) -> None:
        """Names and addresses are in the log as changed, not as they are."""
        columns = {name: changes[name] for name in ("email", "full_name", "notes", "tier") if name in changes}
        sets = ", ".join(f"{name} = %({name})s" for name in columns)
        with self._database.transaction() as db:
            if columns["tier"] != user.tier:
                self._check_not_last(db, user)
            row = fetch_one(
                db,
                f"UPDATE kong_admin_users SET {sets}, updated_at = now() WHERE id = %(id)s RETURNING *",
                {**columns, "id": user.id},
            )
            assert row is not None
            after = User.read(row)
            key_ids = (
                change_account(db, user.account_id, groups=[GROUPS[after.tier]], is_active=user.state == "active")
                if user.account_id is not None and after.tier != user.tier
                else []
            )
            changed = [n for n in ("email", "full_name", "notes") if getattr(user, n) != getattr(after, n)]
            self._audit.record(
                db, by, "updated", user.id, before=user.recorded, after={**after.recorded, "changed": changed}
            )
        self._bus.invalidate(ACCOUNTS, *key_ids)

    def _check_not_last(self, db: DAL, user: User) -> None:
        if user.tier != "super-admin" or user.state != "active":
            return
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (LAST_ONE_LOCK,))
        if not fetch(db, ACTIVE, {"except": user.id})[0]["count"]:
            raise LastSuperAdmin()

    def _known_consumer(self, user: User, progress: Progress) -> str:
        try:
            return self.ensure_consumer(user)
        except WaddleBotError as err:
            progress.stop(err, taken_back=True)

    def _end_in_kong(
        self, user: User, consumer_id: str, key_ids: Sequence[str], *, after_s: int = 0, groups: bool = False
    ) -> bool:
        """Whether Kong has heard that these keys end; what it has not heard is marked."""
        try:
            if consumer_id and groups:
                self._kong.remove_group(consumer_id, self.kong_group(user.tier))
            for key_id in key_ids if consumer_id else ():
                self._kong.end_key(consumer_id, credential_id(key_id), after_s=after_s)
        except WaddleBotError:
            self.mark(user.id, unfinished=True)
            return False
        return True

    def _read(self, user: User) -> User:
        with self._database.transaction() as db:
            return _get(db, user.username)

    @contextmanager
    def _changing(self, username: str, what: str) -> Iterator[User]:
        """Somebody, for one change at a time. Raises: NotFound; BeingChanged."""
        with self._database.transaction() as db:
            known = _get(db, username)
            mark = f"{what} {uuid.uuid4()}"
            row = fetch_one(
                db,
                "UPDATE kong_admin_users SET doing = %s, doing_since = now() WHERE id = %s AND state <> 'making'"
                " AND (doing IS NULL OR doing_since < now() - %s * interval '1 second') RETURNING *",
                (mark, known.id, LAPSES_S),
            )
        if row is None:
            raise BeingChanged()
        try:
            yield User.read(row)
        finally:
            with self._database.transaction() as db:
                fetch(db, "UPDATE kong_admin_users SET doing = NULL WHERE id = %s AND doing = %s", (known.id, mark))


def _key_id(api_key: str) -> str:
    return api_key.split("_")[1]


def _get(db: DAL, username: str) -> User:
    row = fetch_one(db, "SELECT * FROM kong_admin_users WHERE lower(username) = lower(%s)", (username,))
    if row is None:
        raise NotFound(f"There is no account {username[:64]}.")
    return User.read(row)


def _touch(db: DAL, user_id: int) -> None:
    fetch(db, "UPDATE kong_admin_users SET updated_at = now() WHERE id = %s", (user_id,))


def _keys_of(db: DAL, account_ids: Sequence[int | None]) -> dict[int | None, list[dict[str, Any]]]:
    """The live keys of accounts, without their secrets."""
    rows = fetch(db, KEYS, {"accounts": [each for each in account_ids if each is not None]})
    found: dict[int | None, list[dict[str, Any]]] = {}
    for row in rows:
        account_id = row.pop("account_id")
        found.setdefault(account_id, []).append(row)
    return found


LIST = """
SELECT *, count(*) OVER () AS total FROM kong_admin_users
WHERE state <> 'making' AND (%(tier)s::text IS NULL OR tier = %(tier)s)
    AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY lower(username) LIMIT %(limit)s OFFSET %(offset)s
"""
KEYS = """
SELECT account_id, key_id AS id, expires_at, last_used, created_at FROM service_account_keys
WHERE account_id = ANY(%(accounts)s) AND is_active AND (expires_at IS NULL OR expires_at > now()) ORDER BY id
"""
KNOWN = """
SELECT 1 FROM kong_admin_users WHERE lower(username) = lower(%(username)s) AND NOT (state = 'making' AND is_unfinished)
"""
GIVEN_UP = """
SELECT * FROM kong_admin_users WHERE lower(username) = lower(%(username)s) AND state = 'making' AND is_unfinished
"""
SETTLE = """
UPDATE kong_admin_users SET is_unfinished = false,
    doing = CASE WHEN doing_since < now() - %(lapses)s * interval '1 second' THEN NULL ELSE doing END
WHERE id = %(id)s AND updated_at = %(updated_at)s
"""
ACTIVE = """
SELECT count(*) FROM kong_admin_users WHERE state = 'active' AND tier = 'super-admin' AND id <> %(except)s
"""
