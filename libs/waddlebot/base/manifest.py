"""manifest.toml: the single truth about a module."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationError

from .contracts import CommandSpec, ModuleName, Strict, check_names
from .errors import ConfigError
from .module_settings import CredentialSpec, SettingSpec

CHECKOUT = Path(__file__).resolve().parents[3]


class OwnSetting(SettingSpec):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnCredential(CredentialSpec):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScopeSpec(Strict):
    """What a module needs of a platform beyond what its collector asks for. On Discord a permission, such as
    manage_roles, is one too; everything there is the bot's."""

    platform: Literal["twitch", "discord", "slack"]
    scope: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_:.]{0,99}$")]
    on: Literal["bot", "channel"]
    why: Annotated[str, StringConstraints(min_length=1, max_length=300)]


class Manifest(Strict):
    """Who a module is, what it serves, answers to and owns."""

    name: ModuleName
    title: str
    kind: Literal["core", "collector", "interaction", "admin"]
    version: str
    port: int = Field(ge=1, le=65535)
    host: str = Field(description="Its name in compose and Kubernetes.")
    prefix: Annotated[str, StringConstraints(pattern=r"^/[a-z0-9/-]+$")]
    hub_port: int | None = Field(None, ge=1, le=65535, description="Where its hub.py, a process of its own, listens.")
    tables: list[str] = Field(default_factory=list)
    commands: list[CommandSpec] = Field(default_factory=list)
    replay_environment: list[str] = Field(
        default_factory=list, description="Settings that `waddlebot replay` needs of the running fleet."
    )
    settings: Annotated[list[OwnSetting], AfterValidator(check_names)] = Field(default_factory=list)
    credentials: list[OwnCredential] = Field(default_factory=list)
    scopes: list[ScopeSpec] = Field(default_factory=list)
    folder: Path

    @cached_property
    def package(self) -> str:
        return self.folder.name

    @property
    def settings_prefix(self) -> str:
        return self.name.upper()


def load_part(package: str, name: str) -> ModuleType:
    """A file of a module's folder that runs without the module's app: `hub.py`, `replay.py`."""
    if package not in sys.modules:
        made = ModuleType(package)
        made.__path__ = [str(modules_dir() / package)]
        sys.modules[package] = made
    return importlib.import_module(f"{package}.{name}")


def modules_dir() -> Path:
    """Where the module folders are: WADDLEBOT_MODULES_DIR, or the checkout that this package runs from."""
    return Path(os.environ.get("WADDLEBOT_MODULES_DIR") or CHECKOUT)


@lru_cache
def load_manifest(folder: Path) -> Manifest:
    """Read one module's manifest. Raises: ConfigError, naming the file and the field."""
    path = folder / "manifest.toml"
    try:
        return Manifest.model_validate({**tomllib.loads(path.read_text(encoding="utf-8")), "folder": folder})
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}.") from err
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: {err}.") from err
    except ValidationError as err:
        first = err.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from err


def all_manifests() -> list[Manifest]:
    """Every module of this checkout, by port."""
    return sorted(map(load_manifest, {p.parent for p in modules_dir().glob("*/manifest.toml")}), key=lambda m: m.port)


def find_manifest(name: str) -> Manifest | None:
    """A module by its name or its folder's name."""
    return next((m for m in all_manifests() if name in (m.name, m.package)), None)


@dataclass(frozen=True, slots=True)
class WantedScope:
    """A scope that a module needs, and what for, for people who are asked for it."""

    module: str
    scope: str
    why: str


def scopes_wanted(platform: str, on: Literal["bot", "channel"]) -> tuple[WantedScope, ...]:
    """What the other modules of this checkout need of a platform, beyond what its collector asks for by itself."""
    return tuple(
        WantedScope(manifest.title, spec.scope, spec.why)
        for manifest in all_manifests()
        for spec in manifest.scopes
        if manifest.name != platform and spec.platform == platform and spec.on == on
    )
