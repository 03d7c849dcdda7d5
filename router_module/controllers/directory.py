"""What the router knows: commands and entities."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from waddlebot.base.contracts import ModuleName, PlatformName, Strict
from waddlebot.web.auth import ANY_KEY, Account
from waddlebot.web.endpoint import endpoint

from ..services.modules.registry import Registry


class CommandsQuery(Strict):
    prefix: Literal["!", "#"] | None = None
    module_name: ModuleName | None = None
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0)


class EntitiesQuery(Strict):
    platform: PlatformName | None = None
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0)


@endpoint("GET", "/router/commands", caller=ANY_KEY, area="bot", query=CommandsQuery)
def list_commands(query: CommandsQuery, caller: Account, registry: Registry) -> dict[str, Any]:
    """List the commands that can be called."""
    return registry.list_commands(caller, **query.model_dump())


@endpoint("GET", "/router/entities", caller=ANY_KEY, area="channels", query=EntitiesQuery)
def list_entities(query: EntitiesQuery, caller: Account, registry: Registry) -> dict[str, Any]:
    """List the places where people talk to the bot."""
    return registry.list_entities(caller, **query.model_dump())
