"""Who calls: API keys, the accounts behind them, and what an endpoint asks of an account (contracts §4)."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydal import DAL

from ..base.api_key import hash_key, is_key, make_key
from ..base.errors import Conflict, Invalid, NotAllowed, NotAuthenticated, NotFound
from ..base.manifest import Area, Right, Who
from ..data.audit import HIDDEN, Undo, record
from ..data.cache import Bus, Cache
from ..data.database import Database, fetch, fetch_one
from .actor import HEADER as ACTOR_HEADER
from .actor import Actor
from .callback import CallToken

GROUPS = ("collectors", "admins", "services", "api-users", "super-admins")
CACHE_TTL_S = 30
LAST_USED_EVERY_S = 60
ACCOUNTS = "accounts"
PORTAL = "portal"
# What the audit log calls what belongs to no module.
CORE = "core"


@dataclass(frozen=True, slots=True)
class Account:
    """A service or a person's program that may call the fleet; with an `actor`, a person in the portal."""

    id: int
    name: str
    groups: frozenset[str]
    module_name: str | None = None
    platforms: frozenset[str] = frozenset()
    community_id: int | None = None
    expires_at: datetime | None = None
    actor: Actor | None = None
    # A community module, by the token of a call.
    call: CallToken | None = None

    @property
    def is_admin(self) -> bool:
        return "admins" in self.groups or (self.actor is not None and self.actor.may("operator"))

    @property
    def only_module(self) -> str | None:
        """The module that a service's account is confined to; None for who may see what all modules did."""
        if self.actor is not None or not self.groups <= {"services", "super-admins"}:
            return None
        return self.module_name or self.name

    def is_service(self, name: str) -> bool:
        """Whether it is the account of that module."""
        return "services" in self.groups and (self.module_name or self.name) == name

    def check_acts_for_people(self) -> None:
        """Raises: NotAllowed for any account but the portal's."""
        if not self.is_service(PORTAL):
            raise NotAllowed(f"Only account {PORTAL} acts for people; leave {ACTOR_HEADER} out.")

    @classmethod
    def of_call(cls, token: CallToken) -> Account:
        """A community module while it may still say or note something about one call of it."""
        return cls(
            id=0,
            name=f"call:{token.module_name}",
            groups=frozenset(),
            module_name=token.module_name,
            community_id=token.community_id,
            call=token,
        )

    def acting_for(self, actor: Actor) -> Account:
        """The portal's account while it does what a person asked for: confined to that person's community."""
        return replace(self, name=f"{PORTAL}:{actor.login_id}", community_id=actor.community_id, actor=actor)

    def serves(self, platform: str) -> bool:
        """Whether the account is for that platform; none named means all."""
        return not self.platforms or platform in self.platforms

    def check_platform(self, platform: str) -> None:
        """Raises: NotAllowed when the account is not for that platform."""
        if not self.serves(platform):
            raise NotAllowed(f"Account {self.name} is not for platform {platform}.", platform=platform)

    def check_community(self, community_id: int) -> None:
        """Raises: NotAllowed when the account belongs to another community."""
        if self.community_id is not None and self.community_id != community_id:
            raise NotAllowed(f"Account {self.name} belongs to another community.")

    def may_see(self, *, platform: str, community_id: int | None) -> bool:
        """Whether what happened there is any of its business."""
        return self.serves(platform) and self.community_id in (None, community_id)


@dataclass(frozen=True, slots=True)
class Caller:
    """What an endpoint asks of its caller: the name that manifests have for it, and the words of the API document.

    With `portal` account `portal` is let in too, for a person (contracts §4). `platform`: no key that is for others.
    `for_all`: no key of a community.
    """

    name: Who | Literal["open"]
    who: str
    allows: Callable[[Account], bool]
    open: bool = False
    portal: bool = False
    platform: str | None = None
    for_all: bool = False

    @property
    def of_people(self) -> bool:
        """Whether people ask for it, by a key of theirs or in the portal, and not only the fleet's own processes."""
        return self.portal or self.name in ("admins", "super_admins")

    def check(self, account: Account, *, area: Area | None, right: Right) -> None:
        """Raises: NotAllowed."""
        if account.actor is not None:
            self._check_actor(account.actor, area=area, right=right)
        elif not self.allows(account):
            raise NotAllowed(f"This needs {self.who}; account {account.name} is not.", needs=self.who)
        if self.platform is not None:
            account.check_platform(self.platform)
        if self.for_all and account.community_id is not None:
            raise NotAllowed("This is about the whole fleet; use a key that belongs to no community.")

    def _check_actor(self, actor: Actor, *, area: Area | None, right: Right) -> None:
        if not self.portal or area is None:
            raise NotAllowed(f"This needs {self.who}, and is not done for people in the portal.", needs=self.who)
        if actor.area != area:
            raise NotAllowed(f"This needs a right for {area}; the actor's is for {actor.area}.", needs=area)
        if not actor.may(right):
            raise NotAllowed(f"This needs the right {right}; the actor is {actor.right}.", needs=right)


def in_groups(name: Who, *groups: str, portal: bool = False, for_all: bool = False) -> Caller:
    who = " or ".join(groups)
    return Caller(name, f"a key of {who}", lambda a: bool(a.groups & set(groups)), portal=portal, for_all=for_all)


def of_service(name: Who, module_name: str) -> Caller:
    """The account of one module."""
    return Caller(name, f"the key of {module_name}", lambda account: account.is_service(module_name))


def of_platform(platform: str, *, also: str | None = None) -> Caller:
    """Whoever looks after a platform: its collectors, admins, people in the portal, and the account of one module."""
    names: dict[str, Who] = {"labels_core": "role_givers", "shoutout": "shoutouts"}
    return Caller(
        names[also] if also else "platform",
        f"a key of {platform}'s collectors or of admins" + (f", or {also}'s" if also else ""),
        lambda a: bool(a.groups & {"collectors", "admins"}) or (also is not None and a.is_service(also)),
        portal=True,
        platform=platform,
    )


def figures_of(platform: str | None) -> Caller:
    """Whoever may read a service's figures, which are of all communities."""
    return replace(in_groups("figures", "collectors", "admins", for_all=True), platform=platform)


# What the broker needs is its own; the key of a super-admin opens nothing else.
KEYS = ("collectors", "admins", "services", "api-users")
ANYBODY = Caller("open", "no key", lambda _: True, open=True)
ANY_KEY = replace(in_groups("any", *KEYS, portal=True), who="any key but super-admins'")
ROUTER_ONLY = of_service("router", "router")
OVERLAYS_ONLY = of_service("overlays", "browser_source_core")
COLLECTORS = in_groups("collectors", "collectors")
CLAIMERS = in_groups("claimers", "collectors", for_all=True)
CLAIM_READERS = in_groups("claim_readers", "collectors", "admins", for_all=True)
# The portal only simulates; that is the processor's to check.
EVENT_SOURCES = in_groups("event_sources", "collectors", portal=True)
COLLECTORS_OR_SERVICES = in_groups("reporters", "collectors", "services")
MEMBERS = in_groups("members", "collectors", "services", for_all=True)
SERVICES = in_groups("services", "services")
ANNOUNCERS = in_groups("announcers", "services")
ADMINS_OR_API_USERS = in_groups("community", "admins", "api-users", portal=True)
SWITCHERS = Caller(
    "switchers",
    "a key of admins or api-users, or marketplace's",
    lambda a: bool(a.groups & {"admins", "api-users"}) or a.is_service("marketplace"),
    portal=True,
)
# What only a community's owner may do; the portal says who that is.
OWNERS = in_groups("owner", "admins", portal=True)
ADMINS = in_groups("admins", "admins", for_all=True)
# What only who runs the fleet may do; the portal says who that is.
OPERATORS = in_groups("operators", "admins", portal=True, for_all=True)
SUPER_ADMINS = in_groups("super_admins", "super-admins", for_all=True)
MARKETPLACE = of_service("marketplace", "marketplace")
MODULE_HOST = of_service("module_host", "module_host")
# A community module, by the token that came with a call of it.
MODULE_IN_CALL = Caller("call", "the token of a call", lambda a: a.call is not None)
PORTAL_ONLY = replace(of_service("portal", "portal"), portal=True)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key, which is shown now and never again. `ended` are the ids of keys that end for it."""

    account: Account
    key_id: str
    api_key: str
    ended: Sequence[str] = ()


class TooManyKeys(Conflict):
    """An account has two live keys at most. End one first: keys revoke ID."""

    code = "too_many_keys"


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
    """Add an account with one key. The key is returned here and nowhere else; give `api_key` to set one that exists.

    Raises: Invalid for an unknown group; Conflict when the name is taken.
    """
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown or not groups:
        raise Invalid(f"Unknown group {', '.join(unknown) or '(none)'}; known are {', '.join(GROUPS)}.", field="group")
    if "api-users" in groups and community_id is None:
        raise Invalid("A key of api-users belongs to a community; name it.", field="community")
    row = fetch_one(
        db,
        "INSERT INTO service_accounts (name, groups, module_name, platforms, community_id)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING *",
        (name, list(groups), module_name, list(platforms), community_id),
    )
    if row is None:
        raise Conflict(f"There is already an account named {name}. Revoke it first, or choose another name.")
    return _add_key(db, row, expires_at, api_key or make_key()[1])


def rotate_key(
    db: DAL, name: str, *, overlap: timedelta, expires_at: datetime | None = None, api_key: str | None = None
) -> NewKey:
    """Give an account another key; the one that it has ends after `overlap`. Give `api_key` to set one that exists.

    Raises: NotFound; TooManyKeys while an earlier rotation is not over. Returns in `ended` what to invalidate in the
    cache ACCOUNTS.
    """
    row = fetch_one(db, "SELECT * FROM service_accounts WHERE is_active AND name = %s FOR UPDATE", (name,))
    if row is None:
        raise NotFound(f"There is no account {name}.")
    live = [each["key_id"] for each in fetch(db, f"SELECT key_id {LIVE} AND account_id = %s", (row["id"],))]
    if len(live) > 1:
        raise TooManyKeys(f"{name} has two live keys, {' and '.join(live)}. End one first: keys revoke ID.")
    fetch(
        db,
        "UPDATE service_account_keys SET expires_at = least(expires_at, now() + %s) WHERE key_id = ANY(%s)",
        (overlap, live),
    )
    return replace(_add_key(db, row, expires_at, api_key or make_key()[1]), ended=live)


def end_keys(db: DAL, account_id: int) -> list[str]:
    """End all keys of an account, whose name stays its own. Returns their ids, to invalidate in the cache ACCOUNTS."""
    rows = fetch(
        db,
        "UPDATE service_account_keys SET is_active = false WHERE is_active AND account_id = %s RETURNING key_id",
        (account_id,),
    )
    for row in rows:
        record(db, CORE, "key_revoked", f"key/{row['key_id']}", community_id=None, before={"key": HIDDEN})
    return [row["key_id"] for row in rows]


def change_account(db: DAL, account_id: int, *, groups: Sequence[str], is_active: bool) -> list[str]:
    """Say which groups an account is in, and whether its keys count. Returns the ids of its keys, to invalidate in the
    cache ACCOUNTS."""
    fetch(
        db,
        "UPDATE service_accounts SET groups = %s, is_active = %s WHERE id = %s",
        (list(groups), is_active, account_id),
    )
    rows = fetch(
        db, "SELECT key_id FROM service_account_keys WHERE is_active AND account_id = %s ORDER BY id", (account_id,)
    )
    return [row["key_id"] for row in rows]


def list_accounts(db: DAL, *, community_id: int | None = None, limit: int = 500) -> list[dict[str, Any]]:
    """All keys that were not revoked, without their secrets; of one community's programs if that is named."""
    return fetch(
        db,
        "SELECT k.key_id AS id, a.name, a.groups, a.module_name, a.platforms, a.community_id, k.expires_at,"
        f" k.last_used, k.created_at {NOT_REVOKED}"
        " AND (%(community)s::bigint IS NULL OR (a.community_id = %(community)s AND a.groups = '{api-users}'))"
        " ORDER BY a.name, k.id LIMIT %(limit)s",
        {"community": community_id, "limit": limit},
    )


def revoke_account(db: DAL, key_id_or_name: str, *, community_id: int | None = None) -> list[str]:
    """End a key, or by its name an account with all its keys. Without a live key left its name is free again.

    With a community only what `list_accounts` lists for it. Raises: NotFound. Returns the ids of the ended keys, to
    invalidate in the cache ACCOUNTS.
    """
    rows = fetch(
        db,
        "UPDATE service_account_keys SET is_active = false WHERE key_id IN ("
        f" SELECT k.key_id {NOT_REVOKED} AND (k.key_id = %(it)s OR a.name = %(it)s)"
        " AND (%(community)s::bigint IS NULL OR (a.community_id = %(community)s AND a.groups = '{api-users}'))"
        ") RETURNING account_id, key_id",
        {"it": key_id_or_name, "community": community_id},
    )
    if not rows:
        raise NotFound(f"There is no key or account {key_id_or_name[:64]}.")
    fetch(
        db,
        "UPDATE service_accounts a SET is_active = false, name = name || ' (revoked ' || id || ')'"
        f" WHERE is_active AND id = %s AND NOT EXISTS (SELECT 1 {LIVE} AND account_id = %s)",
        (rows[0]["account_id"], rows[0]["account_id"]),
    )
    account = fetch_one(db, "SELECT * FROM service_accounts WHERE id = %s", (rows[0]["account_id"],))
    assert account is not None
    for row in rows:
        before = _as_recorded(account)
        record(db, CORE, "key_revoked", f"key/{row['key_id']}", community_id=account["community_id"], before=before)
    return [row["key_id"] for row in rows]


NOT_REVOKED = (
    "FROM service_account_keys k JOIN service_accounts a ON a.id = k.account_id WHERE k.is_active AND a.is_active"
)
LIVE = f"{NOT_REVOKED} AND (k.expires_at IS NULL OR k.expires_at > now())"


@dataclass(frozen=True, slots=True)
class _Known:
    account: Account
    key_hash: str


class Accounts:
    """Turns a key into its account. Every service checks for itself; a revocation is known within 30 s at most."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._cache: Cache[str, _Known | None] = bus.cache(ACCOUNTS, ttl_s=CACHE_TTL_S)
        self._used: dict[str, float] = {}
        self._unsaved: set[str] = set()
        self._lock = threading.Lock()

    def authenticate(self, api_key: str | None) -> Account:
        """Raises: NotAuthenticated, with the same words whether the key is missing, wrong, expired or revoked."""
        if api_key is None or not is_key(api_key):
            raise NotAuthenticated()
        key_id = api_key.split("_")[1]
        known = self._cache.get(key_id, lambda _fresh: self._load(key_id))
        if known is None or not hmac.compare_digest(known.key_hash, hash_key(api_key)):
            raise NotAuthenticated()
        if known.account.expires_at is not None and known.account.expires_at <= datetime.now(UTC):
            raise NotAuthenticated()
        self._remember_use(key_id)
        return known.account

    def save_last_used(self) -> None:
        """Write down which keys were used since the last time; at most once a minute each."""
        with self._lock:
            used, self._unsaved = sorted(self._unsaved), set()
        if used:
            with self._db.transaction() as db:
                fetch(db, "UPDATE service_account_keys SET last_used = now() WHERE key_id = ANY(%s)", (used,))

    def _load(self, key_id: str) -> _Known | None:
        # Read from the primary: a key made a moment ago must work, one revoked a moment ago must not.
        with self._db.transaction() as db:
            row = fetch_one(db, f"SELECT a.*, k.key_hash, k.expires_at AS ends_at {LIVE} AND k.key_id = %s", (key_id,))
        return _Known(_account(row, row["ends_at"]), row["key_hash"]) if row else None

    def _remember_use(self, key_id: str) -> None:
        now = time.monotonic()
        if now - self._used.get(key_id, -LAST_USED_EVERY_S) >= LAST_USED_EVERY_S:
            with self._lock:
                self._used[key_id] = now
                self._unsaved.add(key_id)


def _add_key(db: DAL, account: dict[str, Any], expires_at: datetime | None, api_key: str) -> NewKey:
    key_id = api_key.split("_")[1]
    fetch(
        db,
        "INSERT INTO service_account_keys (account_id, key_id, key_hash, expires_at) VALUES (%s, %s, %s, %s)",
        (account["id"], key_id, hash_key(api_key), expires_at),
    )
    community_id = account["community_id"]
    path = f"/router/communities/{community_id}/keys/{key_id}"
    record(
        db,
        CORE,
        "key_made",
        f"key/{key_id}",
        community_id=community_id,
        after=_as_recorded(account, expires_at),
        undo=Undo("DELETE", path) if account["groups"] == ["api-users"] else None,
    )
    return NewKey(_account(account, expires_at), key_id, api_key)


def _as_recorded(row: dict[str, Any], expires_at: datetime | None = None) -> dict[str, Any]:
    """An account for the audit log. Its name may change when it ends, its number does not."""
    return {
        "groups": row["groups"],
        "module_name": row["module_name"],
        "platforms": row["platforms"],
        "expires_at": expires_at,
        "key": HIDDEN,
    }


def _account(row: dict[str, Any], expires_at: datetime | None) -> Account:
    return Account(
        id=row["id"],
        name=row["name"],
        groups=frozenset(row["groups"]),
        module_name=row["module_name"],
        platforms=frozenset(row["platforms"]),
        community_id=row["community_id"],
        expires_at=expires_at,
    )
