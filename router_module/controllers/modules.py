"""Modules announce themselves and stay known by their heartbeat."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from waddlebot.base.contracts import Heartbeat, ModuleName, ModuleRegistration, VersionRegistration
from waddlebot.base.errors import Invalid
from waddlebot.base.wire import validate
from waddlebot.web.auth import MARKETPLACE, MEMBERS, Account
from waddlebot.web.endpoint import endpoint

from ..services.modules.registry import Registry
from ..services.modules.version_service import VersionService, version_of

NAME = TypeAdapter(ModuleName)


@endpoint("POST", "/api/modules/register", caller=MEMBERS, body=ModuleRegistration)
def register_module(registration: ModuleRegistration, caller: Account, registry: Registry) -> dict[str, Any]:
    """Register a module and its commands; registering again replaces what it said before."""
    return registry.register(registration, caller)


@endpoint("POST", "/api/modules/heartbeat", caller=MEMBERS, body=Heartbeat)
def heartbeat(beat: Heartbeat, caller: Account, registry: Registry) -> dict[str, Any]:
    """Say that a module is alive. 404 asks it to register again."""
    return registry.heartbeat(beat, caller)


@endpoint("PUT", "/router/modules/<name>/versions/<version>", caller=MARKETPLACE, body=VersionRegistration)
def register_version(name: str, version: str, wanted: VersionRegistration, versions: VersionService) -> dict[str, Any]:
    """Keep the commands of one version of a community module, for good; nobody has it until they choose it."""
    module_name = validate(NAME.validate_python, name)
    try:
        return versions.register(module_name, version_of(version), wanted)
    except ValueError as err:
        raise Invalid(f"version {err}.", field="version") from err
