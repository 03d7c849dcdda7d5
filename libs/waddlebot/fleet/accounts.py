"""The accounts that every fleet has, and their keys. Without a database: the supervisor keeps all that it imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..base.api_key import make_key
from ..base.contracts import CONSOLE, MODULE_HOST
from ..base.manifest import Manifest
from .home import Secrets

CONSOLE_ACCOUNT = "console"
ADMIN_ACCOUNT = "admin"


@dataclass(frozen=True, slots=True)
class FleetAccount:
    """An account that every fleet has; the same ones are consumers at the gateway."""

    name: str
    groups: list[str]
    module_name: str | None = None
    platforms: list[str] = field(default_factory=list)


def fleet_accounts(manifests: Sequence[Manifest]) -> Iterator[FleetAccount]:
    yield FleetAccount(CONSOLE_ACCOUNT, ["collectors", "admins"], platforms=[CONSOLE])
    yield FleetAccount(ADMIN_ACCOUNT, ["admins"])
    yield FleetAccount(MODULE_HOST, ["services"], MODULE_HOST)
    for manifest in manifests:
        is_collector = manifest.kind == "collector"
        groups = ["collectors" if is_collector else "services"]
        yield FleetAccount(manifest.name, groups, manifest.name, [manifest.name] if is_collector else [])


def make_missing_keys(made: Secrets, manifests: Sequence[Manifest]) -> None:
    """Give every module, the console and the admin a key."""
    for account in fleet_accounts(manifests):
        if account.name not in made.keys:
            made.keys[account.name] = make_key()[1]
