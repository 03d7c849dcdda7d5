"""Where an event comes from, whose it is, and what can be said there: looked up on the replica, kept in process."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import CONSOLE, Event
from waddlebot.base.errors import NotFound
from waddlebot.community.live import Spot, look_up
from waddlebot.community.people import People
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch, fetch_one

from ...config import RouterSettings
from .catalogue import Catalogue, Command, Commands, find_command, load_catalogue, load_commands
from .module_specs import ROUTER

COMMANDS = "commands"
ENTITIES = "entities"
LIVE = "live"
LIVE_TTL_S = 5.0


class UnknownEntity(NotFound):
    """This fleet does not serve that channel."""

    code = "unknown_entity"


@dataclass(frozen=True, slots=True)
class Place:
    """An entity and the community it belongs to."""

    entity_id: str
    platform: str
    server_id: str
    channel_id: str
    community_id: int
    community_name: str
    # The channel, if this is a thread of it.
    parent_entity_id: str | None = None


class CacheManager:
    """The router's lookups. Each is one statement on a miss and none on a hit."""

    def __init__(self, db: Database, bus: Bus, settings: RouterSettings) -> None:
        self._db = db
        self._bus = bus
        self._places: Cache[str, Place] = bus.cache(ENTITIES, ttl_s=settings.entity_cache_ttl_s)
        self.people = People(db, bus, ttl_s=settings.entity_cache_ttl_s)
        self._live: Cache[str, bool] = bus.cache(LIVE, ttl_s=LIVE_TTL_S)
        self._commands: Cache[str, Commands] = bus.cache(COMMANDS, ttl_s=settings.command_cache_ttl_s)
        self._catalogues: Cache[int, Catalogue] = bus.cache(COMMANDS, ttl_s=settings.command_cache_ttl_s)

    @property
    def hits_and_misses(self) -> tuple[int, int]:
        caches: list[Cache[Any, Any]] = [self._places, self.people.cache, self._catalogues]
        return sum(cache.hits for cache in caches), sum(cache.misses for cache in caches)

    def place(self, event: Event) -> Place:
        """Where an event happened. A new channel of a server that the fleet serves is added on sight.

        Raises: UnknownEntity.
        """
        return self._places.get(event.entity_id, lambda fresh: self._load_place(event, fresh))

    def catalogue(self, community_id: int) -> Catalogue:
        return self._catalogues.get(community_id, lambda fresh: self._load_catalogue(community_id, fresh))

    def core_settings(self, place: Place) -> Mapping[str, Any]:
        """What is set for the bot itself in one place, by the names in the router's manifest."""
        return self.catalogue(place.community_id).config_of(ROUTER, place.entity_id)

    def is_live(self, entity_id: str) -> bool:
        """Whether a channel that streams is live, and elsewhere whether any of its community's is: as the last event
        said, or some seconds ago its collector."""
        return self._live.get(entity_id, lambda fresh: self._load_live(entity_id, fresh))

    def forget_who_is_live(self) -> None:
        """One stream decides for other channels, too, and streams begin and end too seldom to tell which."""
        self._bus.invalidate(LIVE)

    def _load_live(self, entity_id: str, fresh: bool) -> bool:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            row = fetch_one(
                db,
                "SELECT coalesce((SELECT is_live FROM coordination WHERE entity_id = %(entity)s), EXISTS ("
                "  SELECT FROM coordination c JOIN entities e USING (entity_id) WHERE c.is_live AND e.community_id = ("
                "   SELECT community_id FROM entities WHERE entity_id = %(entity)s))) AS is_live",
                {"entity": entity_id},
            )
        return bool(row and row["is_live"])

    def values(self, names: Collection[str], spot: Spot) -> dict[str, str]:
        """What variables stand for that have to be looked up, for what the router itself says."""
        if not names:
            return {}
        with self._db.transaction() as db:
            return look_up(db, names, spot)

    def find_command(self, command_id: int) -> Command | None:
        """A module's command, also one that it no longer has."""
        with self._db.transaction() as db:
            return find_command(db, command_id)

    def _load_place(self, event: Event, fresh: bool) -> Place:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            row = _select_place(db, event.entity_id)
        if row is None or (row["parent_entity_id"] is None and _parent_of(event)):
            with self._db.transaction() as db:
                row = _add_channel(db, event)
            if row and row["parent_entity_id"]:
                self._bus.invalidate(COMMANDS, row["community_id"])
        if row is None:
            server = f" --server {event.server_id}" if event.server_id else ""
            raise UnknownEntity(
                f"{event.entity_id} is not a channel of this fleet. Add it with: waddlebot servers add"
                f" --platform {event.platform}{server} --channel {event.channel_id or '…'}",
                entity_id=event.entity_id,
            )
        return Place(**row)

    def _load_commands(self, fresh: bool) -> Commands:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            return load_commands(db)

    def _load_catalogue(self, community_id: int, fresh: bool) -> Catalogue:
        commands = self._commands.get("all", self._load_commands)
        with self._db.transaction() if fresh else self._db.lookup() as db:
            return load_catalogue(db, community_id, commands)


def _select_place(db: DAL, entity_id: str) -> dict[str, Any] | None:
    return fetch_one(
        db,
        "SELECT e.entity_id, e.platform, e.server_id, e.channel_id, e.community_id, c.name AS community_name,"
        " e.parent_entity_id"
        " FROM entities e JOIN communities c ON c.id = e.community_id"
        " WHERE e.entity_id = %s AND e.is_active AND c.is_active",
        (entity_id,),
    )


def _add_channel(db: DAL, event: Event) -> dict[str, Any] | None:
    """Add a channel under the server it belongs to; console channels belong to the community they are named after."""
    parent = _parent_of(event)
    found = _select_place(db, event.entity_id)
    if found:
        if parent and not found["parent_entity_id"]:
            fetch(db, "UPDATE entities SET parent_entity_id = %s WHERE entity_id = %s", (parent, event.entity_id))
        return {**found, "parent_entity_id": found["parent_entity_id"] or parent}
    if event.platform == CONSOLE:
        owner = fetch_one(
            db, "SELECT id AS community_id FROM communities WHERE slug = %s AND is_active", (event.server_id,)
        )
    elif event.server_id:
        owner = fetch_one(
            db,
            "SELECT community_id FROM servers WHERE platform = %s AND server_id = %s AND channel IN ('', %s)"
            " AND is_active ORDER BY channel DESC LIMIT 1",
            (event.platform, event.server_id, _parent_channel(event)),
        )
    else:
        owner = None
    if owner is None:
        return None
    fetch(
        db,
        "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id, parent_entity_id)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (event.entity_id, event.platform, event.server_id, event.channel_id, owner["community_id"], parent),
    )
    return _select_place(db, event.entity_id)


def _parent_channel(event: Event) -> str:
    """The channel that a thread belongs to, as its collector tells it; empty for a channel."""
    channel = event.data.get("parent_channel_id")
    return channel if isinstance(channel, str) and channel != event.channel_id else ""


def _parent_of(event: Event) -> str | None:
    channel = _parent_channel(event)
    return f"{event.platform}:{event.server_id}:{channel}" if channel else None
