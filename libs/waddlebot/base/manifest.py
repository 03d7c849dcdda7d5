"""manifest.toml: the single truth about a module."""

from __future__ import annotations

import os
import tomllib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from .contracts import CommandSpec, ModuleName, Strict
from .errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[3]


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
    commands: list[CommandSpec] = Field(default_factory=list)
    folder: Path

    @cached_property
    def package(self) -> str:
        return self.folder.name

    @property
    def settings_prefix(self) -> str:
        return self.name.upper()


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
