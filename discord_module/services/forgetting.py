"""Where the Discord collector has people."""

from __future__ import annotations

from waddlebot.collecting.people import activities, raw_events
from waddlebot.module.people import Personal, ids_on

IDS = ids_on("discord")
IN_GUILDS = "guild_id IN (SELECT server_id FROM servers WHERE platform = 'discord' AND community_id = %(community)s)"

PEOPLE = [
    raw_events("discord", person="user_id", place="channel_id"),
    activities("discord"),
    Personal(
        "discord_guilds",
        where=f"owner_id = ANY({IDS}) OR added_by = ANY({IDS})",
        become=f"owner_id = CASE WHEN owner_id = ANY({IDS}) THEN '' ELSE owner_id END,"
        f" added_by = CASE WHEN added_by = ANY({IDS}) THEN '' ELSE added_by END",
        within=IN_GUILDS,
        key="guild_id",
        shown="guild_id, name, joined_at",
    ),
    Personal(
        "discord_interactions",
        where=f"user_id = ANY({IDS})",
        within=IN_GUILDS,
        key="interaction_id",
        shown="guild_id, channel_id, command, created_at",
    ),
    Personal(
        "discord_voice_sessions",
        where=f"user_id = ANY({IDS})",
        within=IN_GUILDS,
        shown="guild_id, channel_id, name, display_name, minutes, joined_at",
    ),
]
