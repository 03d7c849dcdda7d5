"""The servers that the bot is in."""

from __future__ import annotations

import threading
from typing import Any

from waddlebot.data.database import Database
from waddlebot.web.lists import Listed, Page, fetch_page

from ..dataclasses import GuildSeen

NOTE = """
INSERT INTO discord_guilds AS g (guild_id, name, owner_id, member_count, system_channel_id)
VALUES (%(id)s, %(name)s, %(owner)s, %(members)s, %(system)s)
ON CONFLICT (guild_id) DO UPDATE SET name = excluded.name, owner_id = excluded.owner_id,
    system_channel_id = excluded.system_channel_id, member_count = coalesce(excluded.member_count, g.member_count),
    is_available = true, left_at = NULL,
    -- Whoever took the bot out and adds it again finds the commands gone.
    commands_hash = CASE WHEN g.left_at IS NULL THEN g.commands_hash ELSE '' END, updated_at = now()
WHERE (g.name, g.owner_id, g.system_channel_id, g.member_count, g.is_available, g.left_at) IS DISTINCT FROM
    (excluded.name, excluded.owner_id, excluded.system_channel_id, excluded.member_count, true, NULL::timestamptz)
"""
LIST = """
SELECT guild_id, name, owner_id, member_count, is_available, joined_at, left_at, commands_refused,
    (SELECT count(*) FROM jsonb_object_keys(commands)) AS slash_commands,
    (SELECT array_agg(channel ORDER BY channel) FROM servers s
        WHERE s.platform = 'discord' AND s.server_id = g.guild_id AND s.is_active
        AND (%(community)s::bigint IS NULL OR s.community_id = %(community)s)) AS served_channels,
    count(*) OVER () AS total
FROM discord_guilds g WHERE %(community)s::bigint IS NULL OR EXISTS (SELECT FROM servers s
    WHERE s.platform = 'discord' AND s.server_id = g.guild_id AND s.community_id = %(community)s)
ORDER BY left_at IS NOT NULL, guild_id LIMIT %(limit)s OFFSET %(offset)s
"""


class GuildService:
    """Keeps discord_guilds as the gateway says it is."""

    def __init__(self, db: Database) -> None:
        self._db = db
        # Set when a server may have other commands than it ought to, as all may at first.
        self.changed = threading.Event()
        self.changed.set()

    def note(self, guild: GuildSeen) -> None:
        self._db.statement(
            NOTE,
            {
                "id": guild.id,
                "name": guild.name,
                "owner": guild.owner_id,
                "members": guild.member_count,
                "system": guild.system_channel_id,
            },
        )
        self.changed.set()

    def note_lost(self, guild_id: str, *, gone: bool) -> None:
        """A server is away for a while, which is an outage of Discord's, or the bot was taken out of it."""
        self._db.statement(
            "UPDATE discord_guilds SET is_available = false, left_at = CASE WHEN %s THEN now() ELSE left_at END,"
            " updated_at = now() WHERE guild_id = %s",
            (gone, guild_id),
        )

    def note_added(self, guild_id: str, *, name: str, by: str) -> None:
        """Somebody added the bot by OAuth."""
        self._db.statement(
            "INSERT INTO discord_guilds AS g (guild_id, name, added_by) VALUES (%s, %s, %s)"
            " ON CONFLICT (guild_id) DO UPDATE SET name = excluded.name, added_by = excluded.added_by, left_at = NULL,"
            " is_available = true, updated_at = now()",
            (guild_id, name, by),
        )

    def find_system_channel(self, guild_id: str) -> str:
        """Where Discord itself speaks in a server, for what happens in all of it; empty if nowhere."""
        rows = self._db.statement("SELECT system_channel_id FROM discord_guilds WHERE guild_id = %s", (guild_id,))
        return str(rows[0]["system_channel_id"]) if rows else ""

    def list_guilds(self, community_id: int | None, page: Page) -> Listed[dict[str, Any]]:
        return fetch_page(self._db.statement, LIST, {"community": community_id}, page)
