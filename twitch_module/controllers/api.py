"""What admins and Twitch's own collectors may ask and have done. No token is in any answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed, IdPart, OpaqueId, Strict
from waddlebot.base.errors import Conflict, Invalid, NotFound, Refused
from waddlebot.base.ids import EntityId, parse_entity_id
from waddlebot.collecting.moderation import ModerationAction
from waddlebot.collecting.roles import RoleSeen
from waddlebot.community.places import check_place
from waddlebot.data.database import Database
from waddlebot.web.auth import Account, of_platform
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Listed, Page, list_answer

from ..config import TwitchSettings
from ..services.account_service import AccountService
from ..services.activity_service import ActivityService
from ..services.channel_service import ChannelService
from ..services.moderation_service import ModerationService
from ..services.oauth_service import OAuthService
from ..services.role_service import Role, RoleService
from ..services.shoutout_queue import ShoutoutQueue
from ..services.subscription_kinds import KINDS, bot_scopes
from ..services.subscription_service import SubscriptionService
from ..services.twitch_api import TwitchAPI

TWITCH_OR_ADMINS = of_platform("twitch")
ROLE_GIVERS = of_platform("twitch", also="labels_core")
WHO_SHOUTS = of_platform("twitch", also="shoutout")

Channel = Annotated[IdPart, StringConstraints(min_length=1)]


class EventsQuery(Page):
    channel_id: str | None = Field(None, max_length=255)
    type: str | None = Field(None, max_length=255)


class SubscriptionsQuery(Page):
    status: str | None = Field(None, max_length=64)
    type: str | None = Field(None, max_length=64)
    broadcaster_id: str | None = Field(None, max_length=64)


class Condition(Strict):
    broadcaster_user_id: Channel


class NewSubscription(Attributed):
    """One for a channel; its condition may be given as Twitch writes it instead."""

    type: str = Field(max_length=64)
    broadcaster_id: Channel | None = None
    condition: Condition | None = None

    @property
    def channel_id(self) -> str:
        if self.broadcaster_id is None and self.condition is None:
            raise Invalid("broadcaster_id is missing.", field="broadcaster_id")
        return self.broadcaster_id or (self.condition.broadcaster_user_id if self.condition else "")


class ModerationRequest(Attributed):
    action: Literal["delete", "warn", "timeout", "ban", "unban"]
    entity_id: str | None = Field(None, max_length=255)
    channel_id: Channel | None = None
    platform_user_id: OpaqueId | None = None
    message_id: OpaqueId | None = None
    duration_s: int | None = Field(None, ge=1, le=1_209_600)
    reason: str = Field("", max_length=500)

    def to_action(self) -> ModerationAction:
        """Raises: Invalid when a channel, a person or a message is missing."""
        if self.entity_id:
            entity = parse_entity_id(self.entity_id)
        elif self.channel_id:
            entity = EntityId("twitch", "", self.channel_id)
        else:
            raise Invalid("entity_id is missing.", field="entity_id")
        if entity.platform != "twitch":
            raise Invalid(f"{entity} is not on Twitch.", field="entity_id")
        needed = "message_id" if self.action == "delete" else "platform_user_id"
        if not getattr(self, needed):
            raise Invalid(f"{needed} is missing.", field=needed)
        return ModerationAction(
            str(entity),
            self.action,
            self.platform_user_id or "",
            self.message_id or "",
            self.duration_s,
            self.reason,
        )


class RoleChange(Attributed):
    """Somebody is to be a VIP or a moderator of a channel, or no more."""

    channel_id: Channel
    user_id: Channel
    role: Role
    action: Literal["add", "remove"] = "add"
    # What the change is told of with; whoever asked knows by it that it was them.
    cause_id: str | None = Field(None, max_length=64)


class ShoutoutRequest(Attributed):
    """`max_wait_s` is for how long it may wait for its turn before it is no news any more."""

    max_wait_s: int = Field(7200, ge=1, le=86_400)
    channel_id: Channel
    to_user_id: Annotated[OpaqueId, StringConstraints(min_length=1)]


class NoWebhook(Conflict):
    """Channels hold their subscriptions on sockets of their own here; see GET /twitch/api/channels."""

    code = "no_webhook"


class TwitchDesk:
    """Has Twitch asked, and waits for what it says."""

    def __init__(
        self,
        settings: TwitchSettings,
        api: TwitchAPI,
        subscriptions: SubscriptionService | None,
        moderation: ModerationService,
        accounts: AccountService,
    ) -> None:
        self._settings = settings
        self._api = api
        self._subscriptions = subscriptions
        self._moderation = moderation
        self._accounts = accounts

    @property
    def subscriptions(self) -> SubscriptionService:
        """Raises: NoWebhook where channels are heard by sockets."""
        if self._subscriptions is None:
            raise NoWebhook()
        return self._subscriptions

    def list_subscriptions(self, page: Page, **filters: str) -> Listed[dict[str, Any]]:
        return self._api.run(self.subscriptions.list_existing(page, **filters))

    def make(self, type_: str, channel_id: str) -> str:
        """Raises: Conflict for one that there is; Invalid where Twitch will not have it."""
        try:
            return self._api.run(self.subscriptions.make(type_, channel_id))
        except Refused as err:
            if err.status == 409:
                raise Conflict("That subscription is there already.") from err
            if err.status in (400, 403):
                raise Invalid(f"Twitch refuses it: {err.words}.", field="type") from err
            raise

    def remove(self, subscription_id: str) -> None:
        try:
            self._api.run(self.subscriptions.remove(subscription_id))
        except Refused as err:
            if err.status in (400, 404):
                raise NotFound(f"Twitch has no subscription {subscription_id[:64]}.") from err
            raise

    def moderate(self, action: ModerationAction) -> dict[str, Any]:
        outcome = self._api.run(self._moderation.act(action))
        return {"state": outcome.state.value, "detail": outcome.detail}

    def describe(self, *, for_all: bool) -> dict[str, Any]:
        """How it is set up. What is wrong with which consents is only told to who may see all communities."""
        settings, bot = self._settings, self._accounts.bot
        states = self._api.tokens.states([settings.bot_user_id or ""])
        granted = next((state for state in states.values() if not state.needs_reauth), None)
        return {
            "module": "twitch",
            "transport": settings.eventsub_transport,
            "callback_url": settings.callback_url if settings.eventsub_transport == "webhook" else None,
            "redirect_url": settings.redirect_url,
            "bot": {
                "user_id": settings.bot_user_id,
                "login": bot.login if bot else None,
                "has_consented": granted is not None,
                "missing_scopes": [each for each in bot_scopes() if granted is None or each not in granted.scopes],
            },
            "subscription_types": [{"type": each.type, "version": each.version} for each in KINDS],
            "send_limit": settings.send_limit,
            **({"tokens": self._api.tokens.check().detail} if for_all else {}),
        }


@endpoint("GET", "/twitch/info", caller=TWITCH_OR_ADMINS, area="channels")
def show_info(caller: Account, desk: TwitchDesk) -> dict[str, Any]:
    """Say how this collector is set up, who the bot is, and what it still lacks."""
    return {"success": True, **desk.describe(for_all=caller.community_id is None)}


@endpoint("GET", "/twitch/api/user/<user>", caller=TWITCH_OR_ADMINS, area="people")
def show_user(user: str, accounts: AccountService) -> dict[str, Any]:
    """Show somebody at Twitch, by id or login, and what their channel is about."""
    return {"success": True, "user": accounts.describe(user)}


@endpoint("GET", "/twitch/api/channels", caller=TWITCH_OR_ADMINS, area="channels", query=Page)
def list_channels(query: Page, caller: Account, channels: ChannelService, consents: OAuthService) -> dict[str, Any]:
    """List the channels that are served: consent, subscriptions, live status, what is wrong, and in words what the bot
    cannot do there."""
    listed = channels.list_channels(query, community_id=caller.community_id)
    return list_answer("channels", listed.map(lambda each: {**each, "missing": consents.missing(each)}), query)


@endpoint("GET", "/twitch/api/subscriptions", caller=TWITCH_OR_ADMINS, area="channels", query=SubscriptionsQuery)
def list_subscriptions(
    query: SubscriptionsQuery, caller: Account, database: Database, desk: TwitchDesk
) -> dict[str, Any]:
    """List the application's subscriptions as Twitch has them; one filter at a time, for a community its channel."""
    if query.broadcaster_id:
        check_place(database, caller, _channel(query.broadcaster_id))
    elif caller.community_id is not None:
        raise Invalid("broadcaster_id is missing: one of the community's channels.", field="broadcaster_id")
    filters = {"status": query.status, "sub_type": query.type, "user_id": query.broadcaster_id}
    given = {name: value for name, value in filters.items() if value}
    if len(given) > 1:
        raise Invalid("Twitch takes one of status, type and broadcaster_id.", field="status")
    return list_answer("subscriptions", desk.list_subscriptions(query, **given), query)


@endpoint("POST", "/twitch/api/subscriptions", caller=TWITCH_OR_ADMINS, area="channels", body=NewSubscription)
def make_subscription(body: NewSubscription, caller: Account, database: Database, desk: TwitchDesk) -> dict[str, Any]:
    """Make one subscription now, without waiting for the loop that looks after them."""
    check_place(database, caller, _channel(body.channel_id))
    return {"success": True, "id": desk.make(body.type, body.channel_id), "type": body.type}


@endpoint("DELETE", "/twitch/api/subscriptions/<subscription_id>", caller=TWITCH_OR_ADMINS, area="channels")
def remove_subscription(
    subscription_id: str, caller: Account, database: Database, desk: TwitchDesk, channels: ChannelService
) -> dict[str, Any]:
    """Delete one subscription. Of a channel that is served it comes back with the next look."""
    if caller.community_id is not None:
        check_place(database, caller, _channel(channels.get_subscribed(subscription_id)))
    desk.remove(subscription_id)
    return {"success": True}


@endpoint("POST", "/twitch/api/moderation", caller=TWITCH_OR_ADMINS, area="people", body=ModerationRequest)
def moderate(body: ModerationRequest, caller: Account, database: Database, desk: TwitchDesk) -> dict[str, Any]:
    """Delete a message, warn, time out, ban or unban, and say what became of it."""
    action = body.to_action()
    check_place(database, caller, parse_entity_id(action.entity_id))
    return {"success": True, **desk.moderate(action)}


@endpoint("POST", "/twitch/api/roles", caller=ROLE_GIVERS, area="people", body=RoleChange)
def change_role(change: RoleChange, caller: Account, database: Database, roles: RoleService) -> dict[str, Any]:
    """Make somebody a VIP or a moderator, or take that back. Again changes nothing."""
    check_place(database, caller, _channel(change.channel_id))
    has = change.action == "add"
    wanted = RoleSeen("twitch", change.channel_id, change.user_id, change.role, has, change.cause_id)
    return {"success": True, "changed": roles.change(wanted, by=caller.name)}


@endpoint("POST", "/twitch/api/shoutout", caller=WHO_SHOUTS, area="people", body=ShoutoutRequest)
def shout_out(body: ShoutoutRequest, caller: Account, database: Database, queue: ShoutoutQueue) -> dict[str, Any]:
    """Send Twitch's own shoutout from a channel: now, or when its turn comes, as Twitch allows one in two minutes and
    one an hour for the same target."""
    check_place(database, caller, _channel(body.channel_id))
    queued = queue.send(body.channel_id, body.to_user_id, max_wait=timedelta(seconds=body.max_wait_s))
    return {"success": True, "changed": queued.state == "sent", "state": queued.state, "due_at": queued.due_at}


@endpoint("GET", "/twitch/events", caller=TWITCH_OR_ADMINS, area="channels", query=EventsQuery)
def list_events(query: EventsQuery, caller: Account, activity: ActivityService) -> dict[str, Any]:
    """List what Twitch has told, newest first, and what became of it."""
    listed = activity.list_events(caller.community_id, query, channel_id=query.channel_id, type_=query.type)
    return list_answer("events", listed, query)


@endpoint("GET", "/twitch/activities", caller=TWITCH_OR_ADMINS, area="people", query=EventsQuery)
def list_activities(query: EventsQuery, caller: Account, activity: ActivityService) -> dict[str, Any]:
    """List what people did that earned points, newest first."""
    listed = activity.list_activities(caller.community_id, query, channel_id=query.channel_id, type_=query.type)
    return list_answer("activities", listed, query)


def _channel(channel_id: str) -> EntityId:
    return EntityId("twitch", "", channel_id)
