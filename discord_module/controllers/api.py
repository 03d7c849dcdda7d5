"""What other services and people with a key ask the collector."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from waddlebot.base.contracts import Attributed
from waddlebot.base.ids import EntityId
from waddlebot.base.wire import shaped
from waddlebot.collecting.roles import RoleSeen
from waddlebot.community.places import check_place, check_server
from waddlebot.data.database import Database
from waddlebot.web.auth import Account, of_platform
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.action_service import ActionService
from ..services.info_service import InfoService

Snowflake = Annotated[str, shaped(r"^[0-9]{1,20}$", "a number of Discord's")]
DISCORD_OR_ADMINS = of_platform("discord")
ROLE_GIVERS = of_platform("discord", also="labels_core")
# What touches one message in one channel; the rest touches somebody in the whole server.
IN_A_CHANNEL = ("delete", "warn")


class EventsQuery(Page):
    guild_id: Snowflake | None = None
    channel_id: Snowflake | None = None


class RoleChange(Attributed):
    """A role to be given to somebody, or taken away."""

    guild_id: Snowflake
    user_id: Snowflake
    role_id: Snowflake
    action: Literal["add", "remove"] = "add"
    # What the change is told of with; whoever asked knows by it that it was them.
    cause_id: Annotated[str, StringConstraints(max_length=64)] | None = None


class ModerationRequest(Attributed):
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


@endpoint("GET", "/discord/info", caller=DISCORD_OR_ADMINS, area="channels", query=Page)
def show_info(query: Page, caller: Account, info: InfoService) -> dict[str, Any]:
    """Say which shards are connected, and which servers the bot is in, with what is served of them."""
    guilds = info.list_guilds(caller.community_id, query)
    return list_answer("guilds", guilds, query, shards=info.list_shards())


@endpoint("GET", "/discord/events", caller=DISCORD_OR_ADMINS, area="channels", query=EventsQuery)
def list_events(query: EventsQuery, caller: Account, info: InfoService) -> dict[str, Any]:
    """List what came from Discord, newest first, and what became of it."""
    listed = info.list_events(caller.community_id, **query.filters(), page=query)
    return list_answer("events", listed, query)


@endpoint("GET", "/discord/activities", caller=DISCORD_OR_ADMINS, area="people", query=Page)
def list_activities(query: Page, caller: Account, info: InfoService) -> dict[str, Any]:
    """List what people did that earned points, newest first."""
    return list_answer("activities", info.list_activities(caller.community_id, query), query)


@endpoint("POST", "/discord/api/roles", caller=ROLE_GIVERS, area="people", body=RoleChange)
def change_role(change: RoleChange, caller: Account, database: Database, actions: ActionService) -> dict[str, Any]:
    """Give somebody a role, or take it away; never one that makes an administrator. Again changes nothing."""
    check_server(database, caller, "discord", change.guild_id)
    has = change.action == "add"
    wanted = RoleSeen("discord", change.guild_id, change.user_id, change.role_id, has, change.cause_id)
    return {"success": True, "changed": actions.change_role(wanted, by=caller.name)}


@endpoint("POST", "/discord/api/moderation", caller=DISCORD_OR_ADMINS, area="people", body=ModerationRequest)
def moderate(wanted: ModerationRequest, caller: Account, database: Database, actions: ActionService) -> dict[str, Any]:
    """Delete a message, or warn, time out, kick, ban or unban somebody."""
    if wanted.action in IN_A_CHANNEL and wanted.channel_id:
        check_place(database, caller, EntityId("discord", wanted.guild_id, wanted.channel_id))
    else:
        check_server(database, caller, "discord", wanted.guild_id)
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
