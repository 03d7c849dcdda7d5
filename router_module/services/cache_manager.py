"""Where an event comes from, whose it is, and what can be said there: looked up on the replica, kept in process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydal import DAL
from waddlebot.cache import Bus, Cache
from waddlebot.contracts import CONSOLE, Event, EventUser, Level
from waddlebot.database import Database, fetch, fetch_one
from waddlebot.errors import NotFound

from ..config import RouterSettings
from .catalogue import Catalogue, Commands, load_catalogue, load_commands

COMMANDS = "commands"
ENTITIES = "entities"
PEOPLE = "people"
MAX_PEOPLE = 50_000


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


@dataclass(frozen=True, slots=True)
class Person:
    user_id: int
    roles: dict[int, Level] = field(default_factory=dict)

    def role_in(self, community_id: int) -> Level:
        return self.roles.get(community_id, Level.MEMBER)


class CacheManager:
    """The router's lookups. Each is one statement on a miss and none on a hit."""

    def __init__(self, db: Database, bus: Bus, settings: RouterSettings) -> None:
        self._db = db
        self._places: Cache[str, Place] = bus.cache(ENTITIES, ttl_s=settings.entity_cache_ttl_s)
        self._people: Cache[str, Person] = bus.cache(PEOPLE, ttl_s=settings.entity_cache_ttl_s, max_size=MAX_PEOPLE)
        self._commands: Cache[str, Commands] = bus.cache(COMMANDS, ttl_s=settings.command_cache_ttl_s)
        self._catalogues: Cache[int, Catalogue] = bus.cache(COMMANDS, ttl_s=settings.command_cache_ttl_s)

    @property
    def hits_and_misses(self) -> tuple[int, int]:
        caches: list[Cache[Any, Any]] = [self._places, self._people, self._catalogues]
        return sum(cache.hits for cache in caches), sum(cache.misses for cache in caches)

    def place(self, event: Event) -> Place:
        """Where an event happened. A new channel of a server that the fleet serves is added on sight.

        Raises: UnknownEntity.
        """
        return self._places.get(event.entity_id, lambda fresh: self._load_place(event, fresh))

    def person(self, platform: str, user: EventUser) -> Person:
        """Who did it, added on first sight."""
        key = f"{platform}:{user.platform_user_id}"
        return self._people.get(key, lambda _fresh: self._load_person(platform, user))

    def catalogue(self, community_id: int) -> Catalogue:
        return self._catalogues.get(community_id, lambda fresh: self._load_catalogue(community_id, fresh))

    def _load_place(self, event: Event, fresh: bool) -> Place:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            row = _select_place(db, event.entity_id)
        if row is None:
            with self._db.transaction() as db:
                row = _add_channel(db, event)
        if row is None:
            raise UnknownEntity(
                f"{event.entity_id} is not a channel of this fleet. Add it with: waddlebot servers add"
                f" --platform {event.platform} --channel {event.channel_id or '…'}",
                entity_id=event.entity_id,
            )
        return Place(**row)

    def _load_person(self, platform: str, user: EventUser) -> Person:
        with self._db.transaction() as db:
            user_id = _ensure_user(db, platform, user)
            rows = fetch(db, "SELECT community_id, role FROM community_rbac WHERE user_id = %s", (user_id,))
        return Person(user_id, {row["community_id"]: Level.named(row["role"]) for row in rows})

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
        "SELECT e.entity_id, e.platform, e.server_id, e.channel_id, e.community_id, c.name AS community_name"
        " FROM entities e JOIN communities c ON c.id = e.community_id"
        " WHERE e.entity_id = %s AND e.is_active AND c.is_active",
        (entity_id,),
    )


def _add_channel(db: DAL, event: Event) -> dict[str, Any] | None:
    """Add a channel under the server it belongs to; console channels belong to the community they are named after."""
    found = _select_place(db, event.entity_id)
    if found:
        return found
    if event.platform == CONSOLE:
        owner = fetch_one(
            db, "SELECT id AS community_id FROM communities WHERE slug = %s AND is_active", (event.server_id,)
        )
    elif event.server_id:
        owner = fetch_one(
            db,
            "SELECT community_id FROM servers WHERE platform = %s AND server_id = %s AND channel = '' AND is_active",
            (event.platform, event.server_id),
        )
    else:
        owner = None
    if owner is None:
        return None
    fetch(
        db,
        "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (event.entity_id, event.platform, event.server_id, event.channel_id, owner["community_id"]),
    )
    return _select_place(db, event.entity_id)


def _ensure_user(db: DAL, platform: str, user: EventUser) -> int:
    identity = (platform, user.platform_user_id)
    select = "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s"
    row = fetch_one(db, select, identity)
    if row is None:
        # Two first messages at once: the lock makes the second wait and find the first one's row.
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (":".join(identity),))
        row = fetch_one(db, select, identity)
    if row is None:
        row = fetch_one(
            db,
            "WITH person AS (INSERT INTO users (display_name) VALUES (%s) RETURNING id)"
            " INSERT INTO platform_identities (user_id, platform, platform_user_id, name, display_name)"
            " SELECT id, %s, %s, %s, %s FROM person RETURNING user_id",
            (user.shown_name, *identity, user.name, user.display_name),
        )
    assert row is not None
    return int(row["user_id"])
