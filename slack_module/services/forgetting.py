"""Where the Slack collector has people."""

from __future__ import annotations

from waddlebot.collecting.people import activities, raw_events
from waddlebot.module.people import Personal, ids_on

IDS = ids_on("slack")
IN_TEAMS = "team_id IN (SELECT server_id FROM servers WHERE platform = 'slack' AND community_id = %(community)s)"

PEOPLE = [
    raw_events("slack", person="user_id", place="channel_id"),
    activities("slack"),
    Personal(
        "slack_teams",
        where=f"installed_by = ANY({IDS})",
        become="installed_by = ''",
        within=IN_TEAMS,
        key="team_id",
        shown="team_id, name, installed_at",
    ),
    Personal(
        "slack_commands",
        where=f"user_id = ANY({IDS})",
        within=IN_TEAMS,
        shown="team_id, channel_id, command, created_at",
    ),
]
