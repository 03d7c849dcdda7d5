"""What modules say of themselves beside their commands: what may be set for them, and what they want of a community."""

from __future__ import annotations

from dataclasses import dataclass

from pydal import DAL
from waddlebot.base.manifest import find_manifest
from waddlebot.base.module_settings import CredentialSpec, SettingSpec
from waddlebot.data.database import fetch

ROUTER = "router"


@dataclass(frozen=True, slots=True)
class ModuleSpecs:
    # None: any config.
    settings: tuple[SettingSpec, ...] | None
    credentials: tuple[CredentialSpec, ...] = ()
    is_configured: bool = True


def load_module_specs(db: DAL) -> dict[str, ModuleSpecs]:
    """Every registered module's, and the router's own."""
    rows = fetch(db, "SELECT module_name, settings, credentials, status FROM collector_modules")
    found = {
        row["module_name"]: ModuleSpecs(
            None if row["settings"] is None else tuple(map(SettingSpec.model_validate, row["settings"])),
            tuple(map(CredentialSpec.model_validate, row["credentials"])),
            row["status"] != "unconfigured",
        )
        for row in rows
    }
    own = find_manifest(ROUTER)
    assert own is not None, "the router runs from its own checkout"
    return {**found, ROUTER: ModuleSpecs(tuple(own.settings), tuple(own.credentials))}
