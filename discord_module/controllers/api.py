"""What other services and people with a key ask the collector."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from waddlebot.base.contracts import Strict
from waddlebot.web.auth import COLLECTORS_OR_ADMINS, Account, in_groups
from waddlebot.web.endpoint import endpoint

from ..services.action_service import ActionService
from ..services.info_service import InfoService

Snowflake = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")]
SERVICES_OR_ADMINS = in_groups("services", "admins")


class PageQuery(Strict):
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0)


class EventsQuery(PageQuery):
    guild_id: Snowflake | None = None
    channel_id: Snowflake | None = None


class RoleChange(Strict):
    """A role to be given to somebody, or taken away."""

    guild_id: Snowflake
    user_id: Snowflake
    role_id: Snowflake
    action: Literal["add", "remove"] = "add"


class ModerationRequest(Strict):
    """Something to be done about a message or a person. `delete` and `warn` want a message_id."""

    guild_id: Snowflake
    action: Literal["delete", "warn", "timeout", "kick", "ban", "unban"]
    user_id: Snowflake | None = None
    channel_id: Snowflake | None = None
    message_id: Snowflake | None = None
    duration_s: int | None = Field(None, ge=1, le=28 * 86400)
    reason: Annotated[str, StringConstraints(max_length=400)] = ""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.action == "delete" and not (self.channel_id and self.message_id):
            raise ValueError("delete needs a channel_id and a message_id")
        if self.action != "delete" and not self.user_id:
            raise ValueError(f"{self.action} needs a user_id")
        return self


@endpoint("GET", "/discord/info", caller=COLLECTORS_OR_ADMINS, query=PageQuery)
def show_info(query: PageQuery, info: InfoService) -> dict[str, Any]:
    """Say which shards are connected, and which servers the bot is in, with what is served of them."""
    return {"success": True, "shards": info.list_shards(), **info.list_guilds(**query.model_dump())}


@endpoint("GET", "/discord/events", caller=COLLECTORS_OR_ADMINS, query=EventsQuery)
def list_events(query: EventsQuery, info: InfoService) -> dict[str, Any]:
    """List what came from Discord, newest first, and what became of it."""
    return {"success": True, **info.list_events(**query.model_dump())}


@endpoint("GET", "/discord/activities", caller=COLLECTORS_OR_ADMINS, query=PageQuery)
def list_activities(query: PageQuery, info: InfoService) -> dict[str, Any]:
    """List what people did that earned points, newest first."""
    return {"success": True, **info.list_activities(**query.model_dump())}


@endpoint("POST", "/discord/api/roles", caller=SERVICES_OR_ADMINS, body=RoleChange)
def change_role(change: RoleChange, caller: Account, actions: ActionService) -> dict[str, Any]:
    """Give somebody a role, or take it away. Doing it again changes nothing."""
    actions.change_role(change.guild_id, change.user_id, change.role_id, add=change.action == "add", by=caller.name)
    return {"success": True}


@endpoint("POST", "/discord/api/moderation", caller=SERVICES_OR_ADMINS, body=ModerationRequest)
def moderate(wanted: ModerationRequest, caller: Account, actions: ActionService) -> dict[str, Any]:
    """Delete a message, or warn, time out, kick, ban or unban somebody."""
    actions.moderate(
        wanted.action,
        guild_id=wanted.guild_id,
        user_id=wanted.user_id or "",
        channel_id=wanted.channel_id or "",
        message_id=wanted.message_id or "",
        duration_s=wanted.duration_s,
        reason=wanted.reason,
        by=caller.name,
    )
    return {"success": True}
