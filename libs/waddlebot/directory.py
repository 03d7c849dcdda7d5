"""The channels that the fleet serves, for the command line and, later, for who adds them by OAuth."""

from __future__ import annotations

from typing import Any

from pydal import DAL

from .communities import ensure_community, slug_of
from .contracts import PLATFORMS
from .database import fetch, fetch_one
from .errors import Invalid, NotFound
from .ids import ID_PART, EntityId


def add_server(
    db: DAL, platform: str, channel: str, *, server_id: str = "", name: str = "", community: str = "demo"
) -> EntityId:
    """Serve a channel, or a whole server, in a community that is made if it is new. Twice changes only the name.

    Raises: Invalid for a platform or an id that cannot be.
    """
    if platform not in PLATFORMS:
        raise Invalid(f"{platform!r} is not one of the platforms {', '.join(PLATFORMS)}.", field="platform")
    if not (channel or server_id) or not ID_PART.fullmatch(channel) or not ID_PART.fullmatch(server_id):
        raise Invalid("Give the channel's id (and the server's where there is one), without spaces, ':' or '+'.")
    community_id = ensure_community(db, slug_of(community), community)
    entity = EntityId(platform, server_id, channel)
    fetch(
        db,
        "INSERT INTO servers (platform, channel, server_id, name, community_id) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (platform, server_id, channel) DO UPDATE SET name = excluded.name,"
        " community_id = excluded.community_id, is_active = true, updated_at = now()",
        (platform, channel, server_id, name, community_id),
    )
    fetch(
        db,
        "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (entity_id) DO UPDATE SET community_id = excluded.community_id, is_active = true",
        (str(entity), platform, server_id, channel, community_id),
    )
    return entity


def list_servers(db: DAL, *, limit: int = 10_000) -> list[dict[str, Any]]:
    return fetch(
        db,
        "SELECT s.platform, s.server_id, s.channel, s.name, c.slug AS community, s.created_at FROM servers s"
        " JOIN communities c ON c.id = s.community_id WHERE s.is_active ORDER BY 1, 2, 3 LIMIT %s",
        (limit,),
    )


def remove_server(db: DAL, platform: str, channel: str, *, server_id: str = "") -> None:
    """Raises: NotFound."""
    row = fetch_one(
        db,
        "UPDATE servers SET is_active = false, updated_at = now()"
        " WHERE platform = %s AND channel = %s AND server_id = %s AND is_active RETURNING id",
        (platform, channel, server_id),
    )
    if row is None:
        raise NotFound(f"{EntityId(platform, server_id, channel)} is not served.")
    fetch(
        db, "UPDATE entities SET is_active = false WHERE entity_id = %s", (str(EntityId(platform, server_id, channel)),)
    )
