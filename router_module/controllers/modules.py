"""Modules announce themselves and stay known by their heartbeat."""

from __future__ import annotations

from typing import Any

from waddlebot.base.contracts import Heartbeat, ModuleRegistration
from waddlebot.web.auth import MEMBERS, Account
from waddlebot.web.endpoint import endpoint

from ..services.modules.registry import Registry


@endpoint("POST", "/api/modules/register", caller=MEMBERS, body=ModuleRegistration)
def register_module(registration: ModuleRegistration, caller: Account, registry: Registry) -> dict[str, Any]:
    """Register a module and its commands; registering again replaces what it said before."""
    return registry.register(registration, caller)


@endpoint("POST", "/api/modules/heartbeat", caller=MEMBERS, body=Heartbeat)
def heartbeat(beat: Heartbeat, caller: Account, registry: Registry) -> dict[str, Any]:
    """Say that a module is alive. 404 asks it to register again."""
    return registry.heartbeat(beat, caller)
