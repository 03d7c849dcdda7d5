"""Where the Twitch collector has people."""

from __future__ import annotations

from waddlebot.collecting.people import activities, raw_events
from waddlebot.module.people import Keeps, Personal, ids_on

IDS = ids_on("twitch")
IS_SERVED = "EXISTS (SELECT FROM servers s WHERE s.platform = 'twitch' AND s.is_active AND s.channel = {})"

PEOPLE = [
    # What happens in their own channel has their id in it, as long as the channel is served.
    raw_events("twitch", person="chatter_id", place="broadcaster_id", besides=f"broadcaster_id <> ALL({IDS})"),
    activities("twitch"),
    Personal(
        "twitch_channels",
        where=f"broadcaster_id = ANY({IDS}) AND NOT {IS_SERVED.format('broadcaster_id')}",
        key="broadcaster_id",
        shown="broadcaster_id, login, display_name, title, game_name, updated_at",
    ),
    Personal(
        "twitch_subscriptions",
        where=f"broadcaster_id = ANY({IDS}) AND NOT {IS_SERVED.format('broadcaster_id')}",
        shown="type, status, created_at",
    ),
    Personal(
        "twitch_shoutouts",
        where=f"to_user_id = ANY({IDS}) OR broadcaster_id = ANY({IDS}) AND NOT {IS_SERVED.format('broadcaster_id')}",
        within="broadcaster_id IN (SELECT channel_id FROM entities WHERE platform = 'twitch'"
        " AND community_id = %(community)s)",
        shown="broadcaster_id, to_user_id, state, created_at",
    ),
    Personal(
        "twitch_tokens",
        where=f"owner_id = ANY({IDS}) AND NOT {IS_SERVED.format('owner_id')}",
        key="owner_id",
        shown="owner_id, scopes, state, created_at",
    ),
]
KEEPS = [
    Keeps(
        "their channel (twitch_channels, twitch_subscriptions, twitch_tokens, and twitch_events there)",
        "The bot serves this person's channel, with their consent. Take it back at /twitch/auth/leave first.",
        "servers s",
        f"platform = 'twitch' AND is_active AND channel = ANY({IDS})",
    ),
    Keeps(
        "what came from their channel (twitch_events)",
        "The bot served this person's channel; what was delivered from it is deleted after 90 days at the latest.",
        "twitch_events",
        f"broadcaster_id = ANY({IDS})",
    ),
]
