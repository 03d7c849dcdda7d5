"""What the router knows: commands and entities."""

from __future__ import annotations

from typing import Any, Literal

from waddlebot.base.contracts import ModuleName, PlatformName
from waddlebot.web.auth import ANY_KEY, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.modules.registry import Registry


class CommandsQuery(Page):
    prefix: Literal["!", "#"] | None = None
    module_name: ModuleName | None = None


class EntitiesQuery(Page):
    platform: PlatformName | None = None


@endpoint("GET", "/router/commands", caller=ANY_KEY, area="bot", query=CommandsQuery)
def list_commands(query: CommandsQuery, caller: Account, registry: Registry) -> dict[str, Any]:
    """List the commands that can be called."""
    return registry.list_commands(caller, **query.filters(), page=query)


@endpoint("GET", "/router/entities", caller=ANY_KEY, area="channels", query=EntitiesQuery)
def list_entities(query: EntitiesQuery, caller: Account, registry: Registry) -> dict[str, Any]:
    """List the places where people talk to the bot."""
    return registry.list_entities(caller, **query.filters(), page=query)
