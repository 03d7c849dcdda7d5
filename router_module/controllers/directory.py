"""What the router knows: commands and entities."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import StringConstraints
from waddlebot.base.contracts import ModuleName, PlatformName
from waddlebot.web.auth import ANY_KEY, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.modules.registry import Registry


class CommandsQuery(Page):
    prefix: Literal["!", "#"] | None = None
    module_name: ModuleName | None = None
    platform: PlatformName | None = None
    type: Literal["container", "lambda", "openwhisk", "webhook", "local"] | None = None
    location: Annotated[str, StringConstraints(max_length=64)] | None = None
    trigger_type: Literal["command", "event"] | None = None
    # Each command then tells whether it can be used there.
    entity_id: Annotated[str, StringConstraints(max_length=600)] | None = None


class EntitiesQuery(Page):
    platform: PlatformName | None = None


@endpoint("GET", "/router/commands", caller=ANY_KEY, area="bot", query=CommandsQuery)
def list_commands(query: CommandsQuery, caller: Account, registry: Registry) -> dict[str, Any]:
    """List the commands that can be called. With `entity_id` each says whether it is `enabled` there."""
    return registry.list_commands(caller, **query.filters(), page=query)


@endpoint("GET", "/router/entities", caller=ANY_KEY, area="channels", query=EntitiesQuery)
def list_entities(query: EntitiesQuery, caller: Account, registry: Registry) -> dict[str, Any]:
    """List the places where people talk to the bot."""
    return registry.list_entities(caller, **query.filters(), page=query)
