"""The channels that the fleet serves, for the command line and, later, for who adds them by OAuth."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from pydal import DAL

from ..base.api_key import hash_key
from ..base.contracts import PLATFORMS
from ..base.errors import Conflict, Invalid, NotFound
from ..base.ids import ID_PART, PLATFORM, EntityId
from ..data.audit import record
from ..data.database import fetch, fetch_one
from ..web.auth import CORE
from .communities import ensure_community, slug_of

ACTIVATION_KEY_BYTES = 32
# `last_activity` is that exact.
ACTIVITY_WITHIN = timedelta(minutes=1)
# What ids of servers and channels look like, and how somebody is told who gave a name.
SHAPES = {
    "twitch": (
        (re.compile(""), re.compile(r"[1-9]\d{0,18}", re.ASCII)),
        "Twitch knows a channel by its number, not by its name, and has no servers.",
    ),
    "discord": (
        (re.compile(r"[1-9]\d{0,19}", re.ASCII), re.compile(r"([1-9]\d{0,19})?", re.ASCII)),
        "Discord knows servers and channels by numbers: --server, and --channel for one channel alone.",
    ),
    "slack": (
        (re.compile(r"[TE][A-Z0-9]*"), re.compile(r"([CDG][A-Z0-9]*)?")),
        "Slack's teams are called T… and its channels C…: --server, and --channel for one channel alone.",
    ),
}


class UnknownActivationKey(NotFound):
    """No channel waits for that key."""

    code = "unknown_activation_key"


def make_activation_key() -> str:
    return secrets.token_urlsafe(ACTIVATION_KEY_BYTES)


def check_addable(db: DAL, platform: str, channel: str, server_id: str, community: str) -> None:
    """Raises: Invalid for ids that the platform cannot have; NotFound for a community that is not there."""
    shape = SHAPES.get(platform)
    if shape is not None:
        (server, channel_id), how = shape
        if not server.fullmatch(server_id) or not channel_id.fullmatch(channel):
            raise Invalid(f"{how} This is server {server_id!r}, channel {channel!r}.", field="channel")
    if fetch_one(db, "SELECT 1 FROM communities WHERE slug = %s", (slug_of(community),)) is None:
        raise NotFound(f"There is no community {community!r}. Whoever is to own it makes it by !community create.")


def _check_platform(db: DAL, platform: str) -> None:
    """Raises: Invalid for one that no collector of ours hears, nor any of others'."""
    if platform in PLATFORMS:
        return
    heard = "SELECT 1 FROM service_accounts WHERE %s = ANY(platforms) AND is_active LIMIT 1"
    if not PLATFORM.fullmatch(platform) or fetch_one(db, heard, (platform,)) is None:
        raise Invalid(
            f"{platform!r} is not one of the platforms {', '.join(PLATFORMS)}, and no account is for it. Its collector"
            f" needs one: waddlebot keys create --name NAME --group collectors --platform {platform}",
            field="platform",
        )


def add_server(
    db: DAL,
    platform: str,
    channel: str,
    *,
    server_id: str = "",
    name: str = "",
    community: str = "demo",
    activation_key: str | None = None,
) -> EntityId:
    """Serve a channel, or a whole server, in a community that is made if it is new. Twice changes only the name.

    With an activation key it is served once somebody has posted that to /api/gateway/activate; only its hash is kept.
    Raises: Invalid for a platform or an id that cannot be; Conflict for a key to what is served already.
    """
    _check_platform(db, platform)
    if not (channel or server_id) or not ID_PART.fullmatch(channel) or not ID_PART.fullmatch(server_id):
        raise Invalid("Give the channel's id (and the server's where there is one), without spaces, ':' or '+'.")
    entity = EntityId(platform, server_id, channel)
    if activation_key and _is_served(db, entity):
        raise Conflict(f"{entity} is served already and needs no activation.")
    community_id = ensure_community(db, slug_of(community), community)
    is_active, key_hash = activation_key is None, hash_key(activation_key) if activation_key else None
    fetch(
        db,
        "INSERT INTO servers (platform, channel, server_id, name, community_id, is_active, activation_key_hash)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (platform, server_id, channel) DO UPDATE SET name = excluded.name,"
        " community_id = excluded.community_id, is_active = excluded.is_active,"
        " activation_key_hash = excluded.activation_key_hash, updated_at = now()",
        (platform, channel, server_id, name, community_id, is_active, key_hash),
    )
    fetch(
        db,
        "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id, is_active)"
        " VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (entity_id) DO UPDATE SET community_id = excluded.community_id, is_active = excluded.is_active",
        (str(entity), platform, server_id, channel, community_id, is_active),
    )
    if server_id and not channel and is_active:
        # Its channels come along, but for those that were added by themselves.
        fetch(
            db,
            "UPDATE entities e SET is_active = true, community_id = %s WHERE platform = %s AND server_id = %s"
            " AND NOT EXISTS (SELECT FROM servers s WHERE s.platform = e.platform AND s.server_id = e.server_id"
            "  AND s.channel = e.channel_id AND s.channel <> '')",
            (community_id, platform, server_id),
        )
    served = {"entity_id": str(entity), "is_active": is_active}
    record(db, CORE, "server_added", f"server/{entity}", community_id=community_id, after=served)
    return entity


def _is_served(db: DAL, entity: EntityId) -> bool:
    where = (entity.platform, entity.server_id, entity.channel_id)
    sql = "SELECT 1 FROM servers WHERE platform = %s AND server_id = %s AND channel = %s AND is_active"
    return fetch_one(db, sql, where) is not None


def activate_server(
    db: DAL, activation_key: str, *, platforms: Collection[str] = (), community_id: int | None = None
) -> EntityId:
    """Serve the channel that waits for this key, if it is of these platforms and this community. Twice is once.

    Raises: UnknownActivationKey. What is asked for is the key's hash, so the time it takes says nothing about keys.
    """
    row = fetch_one(
        db,
        "WITH found AS (UPDATE servers SET is_active = true, updated_at = now()"
        "  WHERE activation_key_hash = %(hash)s AND (%(platforms)s::text[] = '{}' OR platform = ANY(%(platforms)s))"
        "  AND (%(community)s::bigint IS NULL OR community_id = %(community)s)"
        "  RETURNING platform, server_id, channel, community_id),"
        " opened AS (UPDATE entities e SET is_active = true FROM found"
        "  WHERE (e.platform, e.server_id, e.channel_id) = (found.platform, found.server_id, found.channel))"
        " SELECT platform, server_id, channel AS channel_id, community_id FROM found",
        {"hash": hash_key(activation_key), "platforms": sorted(platforms), "community": community_id},
    )
    if row is None:
        raise UnknownActivationKey()
    home = row.pop("community_id")
    entity = EntityId(**row)
    after = {"entity_id": str(entity), "is_active": True}
    record(db, CORE, "server_activated", f"server/{entity}", community_id=home, before=None, after=after)
    return entity


def note_activity(db: DAL, entity_ids: Collection[str]) -> None:
    """Write down that something happened there just now, if nothing has been for a minute."""
    fetch(
        db,
        "UPDATE servers s SET last_activity = now() FROM entities e WHERE e.entity_id = ANY(%s)"
        " AND s.platform = e.platform AND s.server_id = e.server_id AND s.channel IN (e.channel_id, '')"
        " AND coalesce(s.last_activity, '-infinity') < now() - %s",
        (sorted(entity_ids), ACTIVITY_WITHIN),
    )


def list_servers(db: DAL, *, limit: int = 10_000) -> list[dict[str, Any]]:
    """What is served, and what waits to be activated."""
    return fetch(
        db,
        "SELECT s.platform, s.server_id, s.channel, s.name, c.slug AS community, s.is_active, s.created_at"
        " FROM servers s JOIN communities c ON c.id = s.community_id"
        " WHERE s.is_active OR s.activation_key_hash IS NOT NULL ORDER BY 1, 2, 3 LIMIT %s",
        (limit,),
    )


def remove_server(db: DAL, platform: str, channel: str, *, server_id: str = "") -> None:
    """Stop serving it; its activation key ends with it. Raises: NotFound."""
    row = fetch_one(
        db,
        "UPDATE servers SET is_active = false, activation_key_hash = NULL, updated_at = now()"
        " WHERE platform = %s AND channel = %s AND server_id = %s"
        " AND (is_active OR activation_key_hash IS NOT NULL) RETURNING community_id",
        (platform, channel, server_id),
    )
    if row is None:
        raise NotFound(f"{EntityId(platform, server_id, channel)} is not served.")
    entity = EntityId(platform, server_id, channel)
    fetch(db, "UPDATE entities SET is_active = false WHERE entity_id = %s", (str(entity),))
    if server_id and not channel:
        # What it was served through goes with it; channels that were added by themselves stay.
        fetch(
            db,
            "UPDATE entities e SET is_active = false WHERE platform = %s AND server_id = %s AND NOT EXISTS"
            " (SELECT FROM servers s WHERE s.platform = e.platform AND s.server_id = e.server_id"
            "  AND s.channel = e.channel_id AND s.is_active)",
            (platform, server_id),
        )
    before, after = ({"entity_id": str(entity), "is_active": is_active} for is_active in (True, False))
    record(db, CORE, "server_removed", f"server/{entity}", community_id=row["community_id"], before=before, after=after)
