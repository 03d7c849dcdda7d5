"""What collectors and modules ask about places and people: which servers are served, and who somebody is where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base.errors import Invalid, NotFound
from waddlebot.base.ids import PLATFORM, parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.collecting.collector import SERVERS
from waddlebot.community.communities import community_of
from waddlebot.community.directory import activate_server
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import Account
from waddlebot.web.lists import Page, fetch_page, list_answer

from ..catalogue.cache_manager import ENTITIES, UnknownEntity

GLOBAL = "global"


class UnknownIdentity(NotFound):
    """Nobody of that name is known."""

    code = "unknown_identity"


@dataclass(frozen=True, slots=True)
class Context:
    """Who somebody is, by our number, and in which community: its slug and its number."""

    identity_id: int
    namespace_name: str
    namespace_id: int


class DirectoryService:
    def __init__(self, db: Database, bus: Bus, log: AAALog) -> None:
        self._db = db
        self._bus = bus
        self._log = log

    def list_servers(self, caller: Account, *, platform: str | None, active: bool | None, page: Page) -> dict[str, Any]:
        """The servers of the caller's platforms and community. Webhook URLs are for collectors, who post to them."""
        with self._db.lookup() as db:
            listed = fetch_page(
                partial(fetch, db),
                "SELECT s.id, s.owner, s.platform, s.channel, s.server_id, s.name, s.community_id, c.slug AS community,"
                " s.platform || ':' || s.server_id || ':' || s.channel AS entity_id, s.is_active,"
                " CASE WHEN %(is_collector)s THEN s.webhook_url ELSE '' END AS webhook_url, s.config,"
                " s.last_activity, s.created_at, s.updated_at, count(*) OVER () AS total"
                " FROM servers s JOIN communities c ON c.id = s.community_id"
                " WHERE (%(platform)s::text IS NULL OR s.platform = %(platform)s)"
                " AND (%(active)s::boolean IS NULL OR s.is_active = %(active)s)"
                " AND (%(platforms)s::text[] = '{}' OR s.platform = ANY(%(platforms)s))"
                " AND (%(community)s::bigint IS NULL OR s.community_id = %(community)s)"
                " ORDER BY s.platform, s.server_id, s.channel LIMIT %(limit)s OFFSET %(offset)s",
                {
                    "is_collector": "collectors" in caller.groups,
                    "platform": platform,
                    "active": active,
                    "platforms": sorted(caller.platforms),
                    "community": caller.community_id,
                },
                page,
            )
        return list_answer("servers", listed, page)

    def context(self, caller: Account, *, identity_name: str, platform: str | None, entity_id: str | None) -> Context:
        """Who somebody is, and the community of an entity; without one the caller's own, or the global one.

        `identity_name` is `platform:platform_user_id`, or with `platform` a name there; of several people with that
        name it is the one who came last.
        Raises: UnknownIdentity; UnknownEntity; NotAllowed for another platform or community.
        """
        named, colon, platform_user_id = identity_name.partition(":")
        is_id = bool(colon) and PLATFORM.fullmatch(named) is not None and platform in (None, named)
        of_platform = named if is_id else platform
        if of_platform is None:
            raise Invalid("platform is missing; only platform:id goes without.", field="platform")
        caller.check_platform(of_platform)
        with self._db.transaction() as db:
            found = _find_by_id(db, named, platform_user_id) if is_id else _find_by_name(db, of_platform, identity_name)
            if found is None:
                raise UnknownIdentity(f"Nobody is known as {identity_name[:80]} on {of_platform}.")
            return Context(found, **_namespace(db, caller, entity_id))

    def activate(self, caller: Account, activation_key: str) -> dict[str, Any]:
        """Serve the channel that waits for this key. Raises: UnknownActivationKey, also for other platforms' keys."""
        with self._db.transaction() as db:
            entity = activate_server(db, activation_key, platforms=caller.platforms, community_id=caller.community_id)
        self._bus.invalidate(SERVERS, entity.channel_id)
        self._bus.invalidate(ENTITIES, entity)
        self._log.audit("server_activated", entity_id=entity, by=caller.name)
        return {"success": True, "entity_id": str(entity), "platform": entity.platform, "is_active": True}


def _find_by_id(db: DAL, platform: str, platform_user_id: str) -> int | None:
    row = fetch_one(
        db,
        "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s",
        (platform, platform_user_id),
    )
    return row["user_id"] if row else None


def _find_by_name(db: DAL, platform: str, name: str) -> int | None:
    row = fetch_one(
        db,
        "SELECT user_id FROM platform_identities WHERE name_key(name) = name_key(%s) AND platform = %s"
        " ORDER BY named_at DESC, id DESC LIMIT 1",
        (name, platform),
    )
    return row["user_id"] if row else None


def _namespace(db: DAL, caller: Account, entity_id: str | None) -> dict[str, Any]:
    reference: int | str | None = caller.community_id if caller.community_id is not None else GLOBAL
    if entity_id is not None:
        entity = parse_entity_id(entity_id)
        caller.check_platform(entity.platform)
        row = fetch_one(db, "SELECT community_id FROM entities WHERE entity_id = %s AND is_active", (str(entity),))
        if row is None:
            raise UnknownEntity(f"{entity} is not a channel of this fleet.")
        reference = row["community_id"]
    community_id = community_of(db, caller, reference)
    row = fetch_one(
        db, "SELECT slug AS namespace_name, id AS namespace_id FROM communities WHERE id = %s", (community_id,)
    )
    assert row is not None
    return row
