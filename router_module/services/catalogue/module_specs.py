"""What modules say of themselves beside their commands: what may be set for them, and what they want of a community."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pydal import DAL
from pydantic import TypeAdapter
from waddlebot.base.manifest import Manifest, find_manifest
from waddlebot.base.module_settings import CredentialSpec, SettingSpec
from waddlebot.data.database import fetch

ROUTER = "router"
# Of the router's own commands those that write nothing, and do not count what their own message earns.
OWN_READS = frozenset({"help", "why"})
SETTINGS = TypeAdapter(tuple[SettingSpec, ...])
CREDENTIALS = TypeAdapter(tuple[CredentialSpec, ...])


@dataclass(frozen=True, slots=True)
class ModuleSpecs:
    # None: any config.
    settings: tuple[SettingSpec, ...] | None
    credentials: tuple[CredentialSpec, ...] = ()
    is_configured: bool = True
    # Its commands that write nothing, each with its subcommand.
    reads: frozenset[str] = frozenset()


def load_module_specs(db: DAL) -> dict[str, ModuleSpecs]:
    """Every registered module's, and the router's own."""
    rows = fetch(
        db,
        "SELECT module_name, settings::text AS settings, credentials::text AS credentials, status, reads"
        " FROM collector_modules",
    )
    found = {
        row["module_name"]: ModuleSpecs(
            read_settings(row["module_name"], row["settings"]),
            _credentials(row["credentials"]),
            row["status"] != "unconfigured",
            frozenset(row["reads"]),
        )
        for row in rows
    }
    own = _own()
    return {**found, ROUTER: ModuleSpecs(tuple(own.settings), tuple(own.credentials), reads=OWN_READS)}


def load_chosen_specs(db: DAL, community_id: int) -> dict[str, ModuleSpecs]:
    """Those of the community modules that a community has, of the version that it chose for all of itself first."""
    rows = fetch(
        db,
        "SELECT DISTINCT ON (module_name) module_name, v.settings::text AS settings FROM module_switches s"
        " JOIN registered_versions v USING (module_name, version) WHERE s.community_id = %s"
        " ORDER BY module_name, s.entity_id NULLS FIRST",
        (community_id,),
    )
    return {row["module_name"]: ModuleSpecs(_settings(row["settings"])) for row in rows}


def load_version_specs(db: DAL, module_name: str, version: str) -> ModuleSpecs:
    rows = fetch(
        db,
        "SELECT settings::text AS settings FROM registered_versions WHERE module_name = %s AND version = %s",
        (module_name, version),
    )
    return ModuleSpecs(_settings(rows[0]["settings"]) if rows else ())


def read_settings(module_name: str, text: str | None) -> tuple[SettingSpec, ...] | None:
    """What a module has registered, as the database has it; the router's own are in its manifest."""
    if module_name == ROUTER:
        return tuple(_own().settings)
    return None if text is None else _settings(text)


def _own() -> Manifest:
    own = find_manifest(ROUTER)
    assert own is not None, "the router runs from its own checkout"
    return own


# Read once, as pages ask again and again and modules seldom say anything new.
@lru_cache(maxsize=1000)
def _settings(text: str) -> tuple[SettingSpec, ...]:
    return SETTINGS.validate_json(text)


@lru_cache(maxsize=1000)
def _credentials(text: str) -> tuple[CredentialSpec, ...]:
    return CREDENTIALS.validate_json(text)
