"""What a fleet's database needs before its first event: the services' accounts, a demo community, an admin."""

from __future__ import annotations

from collections.abc import Sequence

from pydal import DAL

from ..base.api_key import hash_key
from ..base.errors import ConfigError
from ..base.manifest import Manifest
from ..community.communities import ensure_community
from ..data.database import fetch, fetch_one
from .accounts import FleetAccount, fleet_accounts
from .home import Secrets

DEMO = "demo"


def bootstrap(db: DAL, made: Secrets, manifests: Sequence[Manifest]) -> None:
    """Make the database agree with the secrets; run at every start, changes nothing the second time."""
    for account in fleet_accounts(manifests):
        ensure_account(db, account, made)
    ensure_demo(db)


def ensure_demo(db: DAL) -> None:
    community_id = ensure_community(db, DEMO, "Demo")
    fetch(
        db,
        "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
        " VALUES ('console:demo:general', 'console', 'demo', 'general', %s) ON CONFLICT DO NOTHING",
        (community_id,),
    )


def ensure_account(db: DAL, wanted: FleetAccount, made: Secrets) -> None:
    """Make an account, or make the one of that name go by the key that the secrets hold for it."""
    name, key = wanted.name, made.keys[wanted.name]
    key_id, key_hash = key.split("_")[1], hash_key(key)
    account = fetch_one(
        db,
        "INSERT INTO service_accounts (name, groups, module_name, platforms) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (name) DO UPDATE SET groups = excluded.groups, module_name = excluded.module_name,"
        " platforms = excluded.platforms, community_id = NULL, is_active = true RETURNING id",
        (name, wanted.groups, wanted.module_name, wanted.platforms),
    )
    assert account is not None
    known = fetch_one(db, "SELECT account_id, is_active FROM service_account_keys WHERE key_id = %s", (key_id,))
    if known is None:
        fetch(db, "UPDATE service_account_keys SET is_active = false WHERE account_id = %s", (account["id"],))
        fetch(
            db,
            "INSERT INTO service_account_keys (account_id, key_id, key_hash) VALUES (%s, %s, %s)",
            (account["id"], key_id, key_hash),
        )
    elif known != {"account_id": account["id"], "is_active": True}:
        raise ConfigError(
            f"The key of account {name} in secrets.json was revoked. Remove it there; the next start makes another."
        )
