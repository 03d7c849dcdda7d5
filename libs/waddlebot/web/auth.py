"""Who calls: API keys, the accounts behind them, and what an endpoint asks of an account (contracts §4)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydal import DAL

from ..base.errors import Conflict, Invalid, NotAllowed, NotAuthenticated, NotFound
from ..data.audit import HIDDEN, record
from ..data.cache import Bus, Cache
from ..data.database import Database, fetch, fetch_one

GROUPS = ("collectors", "admins", "services", "api-users", "super-admins")
KEY_LENGTH = 64
KEY_ID_LENGTH = 8
ALPHABET = string.ascii_letters + string.digits
CACHE_TTL_S = 30
LAST_USED_EVERY_S = 60
ACCOUNTS = "accounts"
# What the audit log calls what belongs to no module.
CORE = "core"


@dataclass(frozen=True, slots=True)
class Account:
    """A service or a person's program that may call the fleet."""

    id: int
    name: str
    groups: frozenset[str]
    module_name: str | None = None
    platforms: frozenset[str] = frozenset()
    community_id: int | None = None
    expires_at: datetime | None = None

    @property
    def is_admin(self) -> bool:
        return "admins" in self.groups

    def serves(self, platform: str) -> bool:
        """Whether a collector's account is for that platform; none named means all."""
        return not self.platforms or platform in self.platforms

    def check_platform(self, platform: str) -> None:
        """Raises: NotAllowed when the account is not for that platform."""
        if not self.serves(platform):
            raise NotAllowed(f"Account {self.name} is not for platform {platform}.", platform=platform)

    def check_community(self, community_id: int) -> None:
        """Raises: NotAllowed when the account belongs to another community."""
        if self.community_id is not None and self.community_id != community_id:
            raise NotAllowed(f"Account {self.name} belongs to another community.")


@dataclass(frozen=True, slots=True)
class Caller:
    """What an endpoint asks of its caller, and the words for it in the API document."""

    who: str
    allows: Callable[[Account], bool]
    open: bool = False

    def check(self, account: Account) -> None:
        """Raises: NotAllowed."""
        if not self.allows(account):
            raise NotAllowed(f"This needs {self.who}; account {account.name} is not.", needs=self.who)


def in_groups(*groups: str) -> Caller:
    return Caller(f"a key of {' or '.join(groups)}", lambda account: bool(account.groups & set(groups)))


ANYBODY = Caller("no key", lambda _: True, open=True)
ANY_KEY = Caller("any key", lambda _: True)
PORTAL_ONLY = Caller("the portal's key", lambda a: "services" in a.groups and a.module_name == "portal")
ROUTER_ONLY = Caller("the router's key", lambda a: "services" in a.groups and a.module_name == "router")
COLLECTORS = in_groups("collectors")
COLLECTORS_OR_ADMINS = in_groups("collectors", "admins")
COLLECTORS_OR_SERVICES = in_groups("collectors", "services")
SERVICES = in_groups("services")
ADMINS_OR_API_USERS = in_groups("admins", "api-users")


@dataclass(frozen=True, slots=True)
class NewKey:
    account: Account
    key_id: str
    api_key: str


def make_key() -> tuple[str, str]:
    """A fresh key and its id: `wbot_<id>_<secret>`, 64 characters in all, about 297 random bits."""
    key_id = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(KEY_ID_LENGTH))
    head = f"wbot_{key_id}_"
    return key_id, head + "".join(secrets.choice(ALPHABET) for _ in range(KEY_LENGTH - len(head)))


def hash_key(api_key: str) -> str:
    return hashlib.sha256(api_key.encode()).hexdigest()


def create_account(
    db: DAL,
    *,
    name: str,
    groups: Sequence[str],
    module_name: str | None = None,
    platforms: Sequence[str] = (),
    community_id: int | None = None,
    expires_at: datetime | None = None,
    api_key: str | None = None,
) -> NewKey:
    """Add an account. The key is returned here and nowhere else; give `api_key` to set one that exists.

    Raises: Invalid for an unknown group; Conflict when the name is taken.
    """
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown or not groups:
        raise Invalid(f"Unknown group {', '.join(unknown) or '(none)'}; known are {', '.join(GROUPS)}.", field="group")
    if "api-users" in groups and community_id is None:
        raise Invalid("A key of api-users belongs to a community; name it.", field="community")
    if api_key is None:
        key_id, api_key = make_key()
    else:
        key_id = api_key.split("_")[1]
    row = fetch_one(
        db,
        "INSERT INTO service_accounts"
        " (key_id, name, groups, module_name, platforms, community_id, key_hash, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING *",
        (key_id, name, list(groups), module_name, list(platforms), community_id, hash_key(api_key), expires_at),
    )
    if row is None:
        raise Conflict(f"There is already an account named {name}. Revoke it first, or choose another name.")
    account = _account(row)
    after = _as_recorded(row)
    record(db, CORE, "key_made", f"key/{key_id}", community_id=account.community_id, after=after)
    return NewKey(account, key_id, api_key)


def list_accounts(db: DAL, *, limit: int = 500) -> list[dict[str, Any]]:
    """All accounts that still work, without their keys."""
    return fetch(
        db,
        "SELECT key_id AS id, name, groups, module_name, platforms, community_id, expires_at, last_used, created_at"
        " FROM service_accounts WHERE is_active ORDER BY name LIMIT %s",
        (limit,),
    )


def revoke_account(db: DAL, key_id_or_name: str) -> str:
    """End an account and free its name. Raises: NotFound. Returns the key id, to invalidate in the cache ACCOUNTS."""
    row = fetch_one(
        db,
        "UPDATE service_accounts SET is_active = false, name = name || ' (revoked ' || key_id || ')'"
        " WHERE is_active AND (key_id = %(it)s OR name = %(it)s) RETURNING *",
        {"it": key_id_or_name},
    )
    if row is None:
        raise NotFound(f"There is no account {key_id_or_name}.")
    before = _as_recorded(row)
    record(db, CORE, "key_revoked", f"key/{row['key_id']}", community_id=row["community_id"], before=before)
    return str(row["key_id"])


@dataclass(frozen=True, slots=True)
class _Known:
    account: Account
    key_hash: str


class Accounts:
    """Turns a key into its account. Every service checks for itself; a revocation is known within 30 s at most."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._cache: Cache[str, _Known | None] = bus.cache(ACCOUNTS, ttl_s=CACHE_TTL_S)
        self._used: dict[int, float] = {}
        self._unsaved: set[int] = set()
        self._lock = threading.Lock()

    def authenticate(self, api_key: str | None) -> Account:
        """Raises: NotAuthenticated, with the same words whether the key is missing, wrong, expired or revoked."""
        parts = (api_key or "").split("_")
        if api_key is None or len(api_key) != KEY_LENGTH or len(parts) != 3 or parts[0] != "wbot":
            raise NotAuthenticated()
        known = self._cache.get(parts[1], lambda _fresh: self._load(parts[1]))
        if known is None or not hmac.compare_digest(known.key_hash, hash_key(api_key)):
            raise NotAuthenticated()
        if known.account.expires_at is not None and known.account.expires_at <= datetime.now(UTC):
            raise NotAuthenticated()
        self._remember_use(known.account.id)
        return known.account

    def save_last_used(self) -> None:
        """Write down which accounts were used since the last time; at most once a minute each."""
        with self._lock:
            used, self._unsaved = sorted(self._unsaved), set()
        if used:
            with self._db.transaction() as db:
                fetch(db, "UPDATE service_accounts SET last_used = now() WHERE id = ANY(%s)", (used,))

    def _load(self, key_id: str) -> _Known | None:
        # Read from the primary: a key made a moment ago must work, one revoked a moment ago must not.
        with self._db.transaction() as db:
            row = fetch_one(db, "SELECT * FROM service_accounts WHERE key_id = %s AND is_active", (key_id,))
        return _Known(_account(row), row["key_hash"]) if row else None

    def _remember_use(self, account_id: int) -> None:
        now = time.monotonic()
        if now - self._used.get(account_id, -LAST_USED_EVERY_S) >= LAST_USED_EVERY_S:
            with self._lock:
                self._used[account_id] = now
                self._unsaved.add(account_id)


def _as_recorded(row: dict[str, Any]) -> dict[str, Any]:
    """An account for the audit log. Its name may change when it ends, its number does not."""
    return {
        "groups": row["groups"],
        "module_name": row["module_name"],
        "platforms": row["platforms"],
        "expires_at": row["expires_at"],
        "key": HIDDEN,
    }


def _account(row: dict[str, Any]) -> Account:
    return Account(
        id=row["id"],
        name=row["name"],
        groups=frozenset(row["groups"]),
        module_name=row["module_name"],
        platforms=frozenset(row["platforms"]),
        community_id=row["community_id"],
        expires_at=row["expires_at"],
    )
