"""Where an event comes from, whose it is, and what can be said there: looked up on the replica, kept in process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydal import DAL
from waddlebot.cache import Bus, Cache
from waddlebot.contracts import CONSOLE, CommandSpec, Event, EventUser, Level
from waddlebot.database import Database, fetch, fetch_one
from waddlebot.errors import NotFound

from ..config import RouterSettings

COMMANDS = "commands"
ENTITIES = "entities"
PEOPLE = "people"
ALIAS_MODULE = "alias"
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


@dataclass(frozen=True, slots=True)
class Command:
    """Something that can be called here: a module's command, or an alias."""

    id: int | None
    module_name: str
    is_core: bool
    spec: CommandSpec

    @property
    def name(self) -> str:
        return self.spec.prefix + self.spec.command


@dataclass(frozen=True, slots=True)
class Alias:
    prefix: str
    name: str
    entity_id: str | None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What can be called in one community. A command hides an alias of the same name."""

    commands: dict[tuple[str, str], list[Command]]
    aliases: dict[tuple[str, str], list[Alias]]
    alias_command: Command | None

    def find(self, prefix: str, name: str, entity_id: str) -> list[Command]:
        """Every command of that name in the order in which they run, or the alias."""
        found = self.commands.get((prefix, name))
        if found:
            return found
        if self.alias_command and self._aliases_at(prefix, name, entity_id):
            spec = self.alias_command.spec.model_copy(
                update={"command": name, "prefix": prefix, "subcommands": [], "level": "member", "description": "alias"}
            )
            return [Command(None, self.alias_command.module_name, True, spec)]
        return []

    def names(self, entity_id: str) -> list[str]:
        """Every name that could be typed at this entity, with its prefix."""
        aliases = [prefix + name for prefix, name in self.aliases if self._aliases_at(prefix, name, entity_id)]
        return sorted({prefix + name for prefix, name in self.commands} | set(aliases))

    def _aliases_at(self, prefix: str, name: str, entity_id: str) -> bool:
        return any(alias.entity_id in (None, entity_id) for alias in self.aliases.get((prefix, name), ()))


class CacheManager:
    """The router's lookups. Each is one statement on a miss and none on a hit."""

    def __init__(self, db: Database, bus: Bus, settings: RouterSettings) -> None:
        self._db = db
        self._places: Cache[str, Place] = bus.cache(ENTITIES, ttl_s=settings.entity_cache_ttl_s)
        self._people: Cache[str, Person] = bus.cache(PEOPLE, ttl_s=settings.entity_cache_ttl_s, max_size=MAX_PEOPLE)
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

    def _load_catalogue(self, community_id: int, fresh: bool) -> Catalogue:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            rows = fetch(db, "SELECT * FROM commands WHERE is_active ORDER BY priority, id")
            aliases = fetch(
                db,
                "SELECT prefix, alias AS name, entity_id FROM alias_commands WHERE community_id = %s AND is_active",
                (community_id,),
            )
        commands: dict[tuple[str, str], list[Command]] = {}
        for row in rows:
            command = Command(row["id"], row["module_name"], row["module_type"] == "core", _spec(row))
            commands.setdefault((row["prefix"], row["command"]), []).append(command)
        by_name: dict[tuple[str, str], list[Alias]] = {}
        for row in aliases:
            by_name.setdefault((row["prefix"], row["name"]), []).append(Alias(**row))
        own = [each for each in commands.get(("!", "alias"), []) if each.module_name == ALIAS_MODULE]
        return Catalogue(commands, by_name, own[0] if own else None)


def _spec(row: dict[str, Any]) -> CommandSpec:
    return CommandSpec.model_validate({name: row[name] for name in CommandSpec.model_fields})


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
