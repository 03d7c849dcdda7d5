"""Which subscriptions a channel wants, who must have consented to what for each, and what is missing without them.

Source: https://dev.twitch.tv/docs/eventsub/eventsub-subscription-types/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from waddlebot.base.manifest import scopes_wanted

from .translation import AUTHORIZATION_REVOKED, CHANNEL_UPDATE, CHAT_MESSAGE, STREAM_OFFLINE, STREAM_ONLINE

if TYPE_CHECKING:
    from .helix import FleetEventSub

Transport = Literal["webhook", "websocket", "conduit"]


@dataclass(frozen=True, slots=True)
class Who:
    """A channel, and as whom its chat is read: the bot, or on its own socket the broadcaster."""

    broadcaster_id: str
    reader_id: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of subscription. `scopes` are the broadcaster's, all of which it needs."""

    type: str
    version: str
    condition: Callable[[Who], dict[str, str]]
    listen: Callable[[FleetEventSub, Who], Awaitable[str]]
    scopes: tuple[str, ...] = ()


def _channel(who: Who) -> dict[str, str]:
    return {"broadcaster_user_id": who.broadcaster_id}


def _nobody() -> Callable[..., Awaitable[None]]:
    from .helix import nobody

    return nobody


# Chat first: it is what people miss first.
KINDS = (
    Kind(
        CHAT_MESSAGE,
        "1",
        lambda who: {**_channel(who), "user_id": who.reader_id},
        lambda sub, who: sub.listen_channel_chat_message(who.broadcaster_id, who.reader_id, _nobody()),
    ),
    Kind(
        "channel.follow",
        "2",
        lambda who: {**_channel(who), "moderator_user_id": who.broadcaster_id},
        lambda sub, who: sub.listen_channel_follow_v2(who.broadcaster_id, who.broadcaster_id, _nobody()),
        ("moderator:read:followers",),
    ),
    Kind(
        "channel.subscribe",
        "1",
        _channel,
        lambda sub, who: sub.listen_channel_subscribe(who.broadcaster_id, _nobody()),
        ("channel:read:subscriptions",),
    ),
    Kind(
        "channel.subscription.message",
        "1",
        _channel,
        lambda sub, who: sub.listen_channel_subscription_message(who.broadcaster_id, _nobody()),
        ("channel:read:subscriptions",),
    ),
    Kind(
        "channel.subscription.gift",
        "1",
        _channel,
        lambda sub, who: sub.listen_channel_subscription_gift(who.broadcaster_id, _nobody()),
        ("channel:read:subscriptions",),
    ),
    Kind(
        "channel.cheer",
        "1",
        _channel,
        lambda sub, who: sub.listen_channel_cheer(who.broadcaster_id, _nobody()),
        ("bits:read",),
    ),
    Kind(
        "channel.raid",
        "1",
        lambda who: {"to_broadcaster_user_id": who.broadcaster_id},
        lambda sub, who: sub.listen_channel_raid(_nobody(), to_broadcaster_user_id=who.broadcaster_id),
    ),
    Kind(
        "channel.ban",
        "1",
        _channel,
        lambda sub, who: sub.listen_channel_ban(who.broadcaster_id, _nobody()),
        ("channel:moderate",),
    ),
    Kind(CHANNEL_UPDATE, "2", _channel, lambda sub, who: sub.listen_channel_update_v2(who.broadcaster_id, _nobody())),
    Kind(STREAM_ONLINE, "1", _channel, lambda sub, who: sub.listen_stream_online(who.broadcaster_id, _nobody())),
    Kind(STREAM_OFFLINE, "1", _channel, lambda sub, who: sub.listen_stream_offline(who.broadcaster_id, _nobody())),
)
BY_NAME = {kind.type: kind for kind in KINDS}
# Once for the whole application; sockets cannot have it.
OF_THE_APP = AUTHORIZATION_REVOKED


@dataclass(frozen=True, slots=True)
class Feature:
    """What people get for their consent, in words: why it is asked for, and what is missing without it."""

    name: str
    scopes: tuple[str, ...]
    why: str
    without: str


FEATURES = (
    Feature(
        "Chat",
        ("channel:bot",),
        "The bot reads your chat and answers in it.",
        "The bot cannot be in your chat as a bot. Consent again, or type /mod {bot} there.",
    ),
    Feature(
        "Chat on your own connection",
        ("user:read:chat",),
        "Your chat is read over a connection that is yours, so that no public address is needed.",
        "The bot cannot hear your chat. Consent again.",
    ),
    Feature(
        "Followers",
        ("moderator:read:followers",),
        "New followers are noticed: they earn points, and modules can greet and show them.",
        "The bot does not notice new followers.",
    ),
    Feature(
        "Subscriptions",
        ("channel:read:subscriptions",),
        "Subscriptions, renewals and gifts are noticed, earn points, and can be thanked for and shown.",
        "The bot does not notice subscriptions, renewals and gifts.",
    ),
    Feature(
        "Cheers",
        ("bits:read",),
        "Bits are noticed, earn a point each, and can be thanked for and shown.",
        "The bot does not notice cheers.",
    ),
    Feature(
        "Bans and timeouts",
        ("channel:moderate",),
        "Who is banned loses points.",
        "The bot does not notice bans and timeouts.",
    ),
    Feature(
        "Your stream",
        ("channel:manage:broadcast", "clips:edit"),
        "Your moderators change title and category, make clips and mark moments: !title, !game, !clip and !marker.",
        "!title, !game, !clip and !marker change nothing.",
    ),
    Feature(
        "Who moderates",
        ("moderation:read",),
        "The bot sees whether it is a moderator itself, and tells you if that is missing.",
        "The bot cannot see whether it is a moderator.",
    ),
)
MODERATION = Feature(
    "Moderation",
    ("moderator:manage:banned_users", "moderator:manage:chat_messages", "moderator:manage:warnings"),
    "Your rules may delete, warn, time out and ban, even while the bot is no moderator.",
    "Your rules can moderate only while the bot is a moderator: type /mod {bot} in your chat.",
)
OWN_CONNECTION = "user:read:chat"
BOT_SCOPES = (
    "user:bot",
    "user:read:chat",
    "user:write:chat",
    *MODERATION.scopes,
)


def features_for(transport: Transport) -> tuple[Feature, ...]:
    own = tuple(each for each in FEATURES if transport == "websocket" or OWN_CONNECTION not in each.scopes)
    return own + module_features("channel")


def module_features(on: Literal["bot", "channel"]) -> tuple[Feature, ...]:
    """What other modules of this checkout need of a channel, or of the bot's account."""
    return tuple(
        Feature(each.module, (each.scope,), each.why, f"The bot cannot do this: {each.why}")
        for each in scopes_wanted("twitch", on)
    )


def bot_scopes() -> tuple[str, ...]:
    """What the bot's own account is asked for."""
    return tuple(dict.fromkeys((*BOT_SCOPES, *scopes_of(module_features("bot")))))


def scopes_of(features: Collection[Feature]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scope for feature in features for scope in feature.scopes))


def wanted_kinds(scopes: Collection[str], transport: Transport) -> tuple[Kind, ...]:
    """The subscriptions that this consent allows. Chat is always wanted: a bot that moderates needs no consent."""
    granted = set(scopes)
    return tuple(each for each in KINDS if granted.issuperset(each.scopes) and _may_hear(each, granted, transport))


def _may_hear(kind: Kind, granted: set[str], transport: Transport) -> bool:
    return kind.type != CHAT_MESSAGE or transport != "websocket" or OWN_CONNECTION in granted
