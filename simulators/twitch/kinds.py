"""EventSub's subscription types: versions, conditions and the consent that each needs.

Source: https://dev.twitch.tv/docs/eventsub/eventsub-subscription-types/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BROADCASTER = "broadcaster_user_id"
MODERATOR = "moderator_user_id"
USER = "user_id"


@dataclass(frozen=True, slots=True)
class Kind:
    """`needs` is a field of the condition and the scopes of which its user must have consented to one."""

    version: str
    condition: tuple[str, ...] = (BROADCASTER,)
    needs: tuple[str, tuple[str, ...]] | None = None
    # Exactly one of the condition's fields is given.
    is_choice: bool = False
    # With an app token the bot (user_id) and the channel have to let the bot in.
    is_chat: bool = False
    webhook_only: bool = False

    def matches(self, condition: Mapping[str, str], event: Mapping[str, object]) -> bool:
        """Whether an event is about what a subscription is for. Who watches (a bot, a moderator) plays no part."""
        watchers = (MODERATOR, USER) if BROADCASTER in self.condition else ()
        return all(event.get(name) == wanted for name, wanted in condition.items() if name not in watchers)


def _chat() -> Kind:
    return Kind("1", (BROADCASTER, USER), (USER, ("user:read:chat",)), is_chat=True)


def _broadcasters(*any_of: str, version: str = "1") -> Kind:
    return Kind(version, (BROADCASTER,), (BROADCASTER, any_of))


def _moderators(*any_of: str, version: str = "1") -> Kind:
    return Kind(version, (BROADCASTER, MODERATOR), (MODERATOR, any_of))


_REDEMPTIONS = ("channel:read:redemptions", "channel:manage:redemptions")
_POLLS = ("channel:read:polls", "channel:manage:polls")
_PREDICTIONS = ("channel:read:predictions", "channel:manage:predictions")
_SHOUTOUTS = ("moderator:read:shoutouts", "moderator:manage:shoutouts")

KINDS: Mapping[str, Kind] = {
    "channel.chat.message": _chat(),
    "channel.chat.notification": _chat(),
    "channel.chat.message_delete": _chat(),
    "channel.chat.clear": _chat(),
    "channel.chat.clear_user_messages": _chat(),
    "channel.chat_settings.update": _chat(),
    "channel.update": Kind("2"),
    "channel.follow": _moderators("moderator:read:followers", version="2"),
    "channel.subscribe": _broadcasters("channel:read:subscriptions"),
    "channel.subscription.end": _broadcasters("channel:read:subscriptions"),
    "channel.subscription.gift": _broadcasters("channel:read:subscriptions"),
    "channel.subscription.message": _broadcasters("channel:read:subscriptions"),
    "channel.cheer": _broadcasters("bits:read"),
    "channel.bits.use": _broadcasters("bits:read"),
    "channel.raid": Kind("1", ("from_broadcaster_user_id", "to_broadcaster_user_id"), is_choice=True),
    "channel.ban": _broadcasters("channel:moderate"),
    "channel.unban": _broadcasters("channel:moderate"),
    "channel.moderator.add": _broadcasters("moderation:read", "channel:manage:moderators"),
    "channel.moderator.remove": _broadcasters("moderation:read", "channel:manage:moderators"),
    "channel.vip.add": _broadcasters("channel:read:vips", "channel:manage:vips"),
    "channel.vip.remove": _broadcasters("channel:read:vips", "channel:manage:vips"),
    "channel.shoutout.create": _moderators(*_SHOUTOUTS),
    "channel.shoutout.receive": _moderators(*_SHOUTOUTS),
    "channel.warning.send": _moderators("moderator:read:warnings", "moderator:manage:warnings"),
    "channel.channel_points_custom_reward_redemption.add": _broadcasters(*_REDEMPTIONS),
    "channel.channel_points_custom_reward_redemption.update": _broadcasters(*_REDEMPTIONS),
    "channel.poll.begin": _broadcasters(*_POLLS),
    "channel.poll.end": _broadcasters(*_POLLS),
    "channel.prediction.begin": _broadcasters(*_PREDICTIONS),
    "channel.prediction.end": _broadcasters(*_PREDICTIONS),
    "stream.online": Kind("1"),
    "stream.offline": Kind("1"),
    "user.authorization.grant": Kind("1", ("client_id",), webhook_only=True),
    "user.authorization.revoke": Kind("1", ("client_id",), webhook_only=True),
    "user.update": Kind("1", (USER,)),
}
