"""A community's page for its viewers: no login, no script, and only where an owner wants it."""

from __future__ import annotations

from typing import Any

from waddlebot.base.errors import NotFound
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import ANYBODY
from waddlebot.web.site import page

from ..services.commands import list_commands
from ..services.figures import FigureService

SONGS = 10
PLAYS = """
SELECT title, artist FROM youtube_now_playing WHERE community_id = %(community)s
UNION ALL SELECT track_name, artists FROM spotify_now_playing WHERE community_id = %(community)s AND is_playing LIMIT 1
"""
WAITS = """
(SELECT title, artist FROM youtube_queue WHERE community_id = %(community)s ORDER BY rank, id LIMIT %(songs)s)
UNION ALL (SELECT track_name, artists FROM spotify_queue
    WHERE community_id = %(community)s AND state IN ('asked', 'queued') ORDER BY id LIMIT %(songs)s) LIMIT %(songs)s
"""


@page("GET", "/portal/public/<community>", "public.html", caller=ANYBODY)
def show_community(community: str, database: Database, figures: FigureService) -> Any:
    """What plays and waits in a community, its commands and its leaderboard, for everybody."""
    with database.lookup() as db:
        row = fetch_one(
            db,
            "SELECT c.id, c.name FROM communities c JOIN module_switches s ON s.community_id = c.id"
            " AND s.module_name = 'router' AND s.entity_id IS NULL"
            " WHERE c.slug = %s AND c.is_active AND s.config->>'public_page' = 'true'",
            (community,),
        )
        if row is None:
            raise NotFound("There is nothing to see here.")
        modules = [each for each in list_commands(db, row["id"]) if each.is_on]
        # Modules may share a command; only what everybody may use is shown.
        commands = {
            each.name: each
            for module in modules
            for each in module.commands
            if each.level == "member" and each.is_enabled is not False
        }
        aliases = fetch(
            db,
            "SELECT prefix || alias AS alias, command FROM alias_commands"
            " WHERE community_id = %s AND is_active AND entity_id IS NULL ORDER BY alias LIMIT 200",
            (row["id"],),
        )
        here = {"community": row["id"], "songs": SONGS}
        plays, waits = fetch(db, PLAYS, here), fetch(db, WAITS, here)
    return {
        "title": row["name"],
        "commands": [commands[name] for name in sorted(commands)],
        "leaders": figures.leaders(row["id"]),
        "aliases": aliases,
        "plays": plays[0] if plays else None,
        "waits": waits,
    }
