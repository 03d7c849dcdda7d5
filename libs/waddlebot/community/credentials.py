"""What a community gave this fleet for other services: secrets of its own, tokens granted to a module, and modules'
secret settings. Kept as tokens are (tokens.py): sealed, and opened only where WADDLEBOT_ENCRYPTION_KEYS are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydal import DAL

from ..base.encryption import CannotOpen, Keyring
from ..base.errors import NotFound
from ..base.logs import AAALog
from ..data.cache import Bus, Cache
from ..data.database import Database, Prepared, fetch, fetch_one
from .tokens import Grant, NeedsReauth, Refresh, Token, Tokens

TABLE = "community_credentials"
SETTING_NAMES = Prepared(
    "credentials_settings",
    f"SELECT provider, fields FROM {TABLE} WHERE community_id = %(community)s AND kind = 'setting'",
)
# The caches of what was opened, and of the router's commands, which go to modules that have credentials.
CREDENTIALS, COMMANDS = "credentials", "commands"
# While Redis is away a change is seen after this.
TTL_S = 60.0

Kind = Literal["secret", "token", "setting"]


class NoCredentials(NotFound):
    """This community has given nothing for that service yet."""

    code = "no_credentials"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one kind: what may be shown to its owner."""

    provider: str
    kind: Kind
    fields: tuple[str, ...]
    needs_reauth: bool
    reason: str
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Credentials:
    """Every community's credentials. After the commit of what changes them comes `tell`."""

    def __init__(self, db: Database, bus: Bus, keyring: Keyring, *, log: AAALog) -> None:
        self._db = db
        self._bus = bus
        self._tokens = Tokens(db, TABLE, keyring, log=log, spare=bus.client)
        self._known: Cache[str, Mapping[str, str] | None] = bus.cache(CREDENTIALS, ttl_s=TTL_S)

    def find(self, community_id: int, provider: str) -> Mapping[str, str] | None:
        """The secrets that a community gave for a provider, by field. Raises: CannotOpen."""
        return self._find(_owner(community_id, provider, "secret"))

    def get(self, community_id: int, provider: str) -> Mapping[str, str]:
        """Raises: NoCredentials, in words for people; CannotOpen."""
        found = self.find(community_id, provider)
        if found is None:
            raise NoCredentials(f"This community has no credentials for {provider} yet.")
        return found

    def find_settings(self, community_id: int, module_name: str) -> Mapping[str, str]:
        """A module's settings of type secret, as far as they are set. Raises: CannotOpen."""
        return self._find(_owner(community_id, module_name, "setting")) or {}

    def fresh_token(self, community_id: int, provider: str, refresh: Refresh, *, refused: Token | None = None) -> Token:
        """A token that works, as `Tokens.fresh` says."""
        try:
            return self._tokens.fresh(_owner(community_id, provider, "token"), refresh, refused=refused)
        except NeedsReauth:
            self.tell(community_id, provider)
            raise

    def keep(self, db: DAL, community_id: int, provider: str, secrets: Mapping[str, str]) -> None:
        """Keep a provider's secrets instead of those that were there. Raises: NotConfigured without a key to seal."""
        self._keep(db, _owner(community_id, provider, "secret"), secrets)

    def keep_token(self, db: DAL, community_id: int, provider: str, grant: Grant) -> None:
        """Keep what an owner has granted. Raises: NotConfigured without a key to seal."""
        self._tokens.keep(db, _owner(community_id, provider, "token"), grant)

    def forget_token(self, db: DAL, community_id: int, provider: str) -> None:
        """Delete what an owner has granted, and leave the secrets. After the commit comes `tell`."""
        self._tokens.forget(db, _owner(community_id, provider, "token"))

    def refuse_token(self, community_id: int, provider: str, reason: str) -> None:
        """Note that the owner has to grant access again, and why."""
        if self._tokens.refuse(_owner(community_id, provider, "token"), reason):
            self.tell(community_id, provider)

    def keep_settings(self, db: DAL, community_id: int, module_name: str, changes: Mapping[str, str]) -> None:
        """Set some of a module's secret settings; an empty text takes one away. Raises: NotConfigured."""
        owner = _owner(community_id, module_name, "setting")
        # Two changes at once are made one after the other, the first ones of a module too.
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (owner,))
        row = fetch_one(db, f"SELECT access_token FROM {TABLE} WHERE owner_id = %s", (owner,))
        settings = {**(self._open(owner, row["access_token"]) if row else {}), **changes}
        kept = {name: value for name, value in settings.items() if value}
        if kept:
            self._keep(db, owner, kept)
        else:
            self._tokens.forget(db, owner)

    def setting_names(self, db: DAL, community_id: int) -> dict[str, list[str]]:
        """Which secret settings are set, by module."""
        return {row["provider"]: row["fields"] for row in fetch(db, SETTING_NAMES, {"community": community_id})}

    def list_kept(self, db: DAL, community_id: int) -> list[Kept]:
        """What is kept of a community, without a secret."""
        rows = fetch(
            db,
            "SELECT provider, kind, fields, state = 'needs_reauth' AS needs_reauth, reason, expires_at, created_at,"
            f" updated_at FROM {TABLE} WHERE community_id = %s AND kind <> 'setting' ORDER BY provider, kind",
            (community_id,),
        )
        return [Kept(**{**row, "fields": tuple(row["fields"])}) for row in rows]

    def forget(self, db: DAL, community_id: int, provider: str) -> list[str]:
        """Delete a provider's secrets and token. Returns what kinds there were."""
        kinds: Sequence[Kind] = ("secret", "token")
        owners = [_owner(community_id, provider, kind) for kind in kinds]
        rows = fetch(db, f"SELECT kind FROM {TABLE} WHERE owner_id = ANY(%s) ORDER BY kind", (owners,))
        for owner in owners:
            self._tokens.forget(db, owner)
        return [row["kind"] for row in rows]

    def forget_settings(self, db: DAL, community_id: int, module_name: str) -> None:
        self._tokens.forget(db, _owner(community_id, module_name, "setting"))

    def tell(self, community_id: int, provider: str) -> None:
        """Have every process look anew at what is kept for a provider or a module. After the commit."""
        kinds: Sequence[Kind] = ("secret", "setting")
        self._bus.invalidate(CREDENTIALS, *(_owner(community_id, provider, kind) for kind in kinds))
        self._bus.invalidate(COMMANDS, community_id)

    def _keep(self, db: DAL, owner: str, secrets: Mapping[str, str]) -> None:
        self._tokens.keep(db, owner, Grant(json.dumps(dict(secrets))))
        fetch(db, f"UPDATE {TABLE} SET fields = %s WHERE owner_id = %s", (sorted(secrets), owner))

    def _find(self, owner: str) -> Mapping[str, str] | None:
        return self._known.get(owner, lambda _fresh: self._load(owner))

    def _load(self, owner: str) -> Mapping[str, str] | None:
        found = self._tokens.find(owner)
        return json.loads(found.access) if found else None

    def _open(self, owner: str, sealed: str) -> dict[str, str]:
        """What is there already; nothing if its key is gone, because then it is lost anyway."""
        try:
            return dict(json.loads(self._tokens.open(owner, sealed)))
        except CannotOpen:
            return {}


def _owner(community_id: int, provider: str, kind: Kind) -> str:
    return f"{community_id}:{provider}:{kind}"
