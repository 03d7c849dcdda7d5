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
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from .contracts import CommandSpec, ModuleName, Strict, check_names
from .errors import ConfigError
from .module_settings import CredentialSpec, SettingSpec

CHECKOUT = Path(__file__).resolve().parents[3]

# Whose key an endpoint asks for (contracts §4). `waddlebot.web.auth` says what each of them lets in.
Who = Literal[
    "any",
    "router",
    "collectors",
    "claimers",
    "claim_readers",
    "event_sources",
    "services",
    "announcers",
    "overlays",
    "reporters",
    "members",
    "figures",
    "community",
    "switchers",
    "owner",
    "platform",
    "role_givers",
    "shoutouts",
    "admins",
    "operators",
    "super_admins",
    "portal",
    "marketplace",
    "module_host",
    "call",
]
# What a person in the portal may see or do, by what it is about; the higher right includes the lower ones.
Right = Literal["viewer", "editor", "owner", "operator"]
Area = Literal["people", "bot", "rules", "overlays", "music", "channels", "settings"]
# Why an endpoint asks for no key: the platform signs, a browser opens it, a link or token in the address opens it, a
# browser comes back with a state that works once, or there is nothing to hide.
Open = Literal["webhook", "page", "token", "oauth", "health"]
# `POST /dice/roll`, as the OpenAPI document has it.
EndpointName = Annotated[str, StringConstraints(pattern=r"^(GET|POST|PUT|DELETE|PATCH) /\S+$")]


OPEN_EVERYWHERE = ("health", "ready", "openapi.json")


class Callers(Strict):
    """Endpoints that ask for the same caller: either `who`, or `open` where no key is asked for.

    Account `portal` may call those with an `area` for a person who has the right for it there.
    """

    endpoints: list[EndpointName] = Field(min_length=1)
    who: Who | None = None
    open: Open | None = None
    area: Area | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.who is None) == (self.open is None):
            raise ValueError("say either who or open")
        return self


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


PathName = Annotated[str, StringConstraints(pattern=r"^(/([a-z0-9._-]+|\{[a-z_]+\}))+$")]
SettingName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]


class GatewaySpec(Strict):
    """What the gateway does for this module beside its `[[callers]]`; kong/kong.yml is made of both."""

    per_minute: int = Field(300, ge=1, description="Requests of one key, or of one address where there is none.")
    per_hour: int = Field(3000, ge=1)
    answer_s: int = Field(60, ge=1, le=3600, description="How long an answer, or a pause in it, may take.")
    takes_bearer: bool = Field(False, description="Its endpoints also take a key as Authorization: Bearer.")
    in_call: list[EndpointName] = Field(
        default_factory=list, description="Endpoints that take the token of a call in place of a key, too."
    )
    pages: list[PathName] = Field(
        default_factory=list, description="What browsers open without a key and no OpenAPI document has."
    )
    folders: list[PathName] = Field(default_factory=list, description="The same, with all that is below it.")
    sockets: list[PathName] = Field(default_factory=list, description="The WebSockets of its hub.")


class ContainerSpec(Strict):
    """What its image holds and its container gets."""

    packages: list[str] = Field(
        default_factory=list, description="Dependencies of pyproject.toml that only the modules that name them need."
    )
    unread: list[str] = Field(
        default_factory=list, description="Files of them that it never reads: patterns below site-packages."
    )
    secrets: list[SettingName] = Field(
        default_factory=list, description="Its settings that are secret, beside those that every module has."
    )
    memory_mb: int = Field(256, ge=64, description="The most that one container may hold.")
    cpu_m: int = Field(500, ge=50, description="Thousandths of a core that one container is promised at most.")
    least: int = Field(1, ge=1, description="How many run at least, on Kubernetes.")
    most: int = Field(3, ge=1, description="How many run at most, on Kubernetes.")

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.most < self.least:
            raise ValueError("most is below least")
        return self


# What a community carries to another fleet, and what a person is told and rid of.
CARRIED = (("GET", "export"), ("POST", "import"), ("GET", "people/export"), ("POST", "people/erase"))


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
    people: dict[str, Annotated[str, StringConstraints(pattern=r"^(erased|kept: .+|none: .+)$")]] = Field(
        default_factory=dict,
        description="Each table with a column for a person: erased, kept: <why>, or none: <why there is nobody in it>.",
    )
    stays: dict[str, Annotated[str, StringConstraints(min_length=1)]] = Field(
        default_factory=dict, description="Tables with rows of communities that an export has nothing of, and why."
    )
    commands: list[CommandSpec] = Field(default_factory=list)
    replay_environment: list[str] = Field(
        default_factory=list, description="Settings that `waddlebot replay` needs of the running fleet."
    )
    settings: Annotated[list[OwnSetting], AfterValidator(check_names)] = Field(default_factory=list)
    credentials: list[OwnCredential] = Field(default_factory=list)
    scopes: list[ScopeSpec] = Field(default_factory=list)
    callers: list[Callers] = Field(default_factory=list, description="Who may call what, beside what every module has.")
    quotes: bool = Field(
        False, description="Its responses have texts from elsewhere in them, so they go through the channel's rules."
    )
    gateway: GatewaySpec = Field(default_factory=GatewaySpec)
    container: ContainerSpec = Field(default_factory=ContainerSpec)
    folder: Path

    @cached_property
    def package(self) -> str:
        return self.folder.name

    @property
    def settings_prefix(self) -> str:
        return self.name.upper()

    @property
    def standard_callers(self) -> list[Callers]:
        """Who may call what the library serves for every module of this kind."""
        standard = [
            Callers(open="health", endpoints=[f"GET {self.prefix}/{each}" for each in OPEN_EVERYWHERE]),
            Callers(who="figures", endpoints=[f"GET {self.prefix}/metrics"]),
            Callers(
                who="portal", area="settings", endpoints=[f"{method} {self.prefix}/{path}" for method, path in CARRIED]
            ),
        ]
        if self.kind == "collector":
            standard.append(Callers(who="platform", area="channels", endpoints=[f"GET {self.prefix}/channels"]))
        if self.commands and self.name != "router":
            called = [f"POST {self.prefix}/execute{more}" for more in ("", "/batch")]
            standard.append(Callers(who="router", endpoints=called))
        return standard


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
    return list(_manifests().values())


def find_manifest(name: str) -> Manifest | None:
    """A module by its name or its folder's name."""
    found = _manifests()
    return found.get(name) or next((each for each in found.values() if each.package == name), None)


def _manifests() -> dict[str, Manifest]:
    folder = str(os.environ.get("WADDLEBOT_MODULES_DIR") or CHECKOUT)
    # Looked through anew when a module has come or gone: a page may ask a hundred times whose title is which.
    return _manifests_in(folder, os.stat(folder).st_mtime_ns)


@lru_cache(maxsize=8)
def _manifests_in(folder: str, _changed_ns: int) -> dict[str, Manifest]:
    found = map(load_manifest, {each.parent for each in Path(folder).glob("*/manifest.toml")})
    return {each.name: each for each in sorted(found, key=lambda each: each.port)}


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
