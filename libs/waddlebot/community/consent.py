"""Who consented becomes a user, and the channel that they opened gets a community of theirs (contracts §1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pydal import DAL

from ..base.contracts import EventUser
from ..base.errors import NotAllowed
from ..base.ids import EntityId
from ..data.audit import Acting, Change, record_all
from ..data.cache import Bus
from ..data.database import fetch, fetch_one
from .communities import find_community, record_new_community, slug_of
from .people import PEOPLE, add_people, rename, select_numbers

# The caches of collectors and router that know places and people.
SERVERS, ENTITIES = "servers", "entities"


class NotYourCommunity(NotAllowed):
    """You do not own that community."""

    code = "not_your_community"


@dataclass(frozen=True, slots=True)
class Consenter:
    """Who granted access, as their platform knows them."""

    platform: str
    platform_user_id: str
    name: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a channel belongs now."""

    entity: EntityId
    user_id: int
    community_id: int
    slug: str
    community_name: str
    is_new: bool


def ensure_user(db: DAL, person: Consenter) -> int:
    """The own number of somebody, who is made if nobody has seen them before."""
    identity = (person.platform, person.platform_user_id)
    user = EventUser(platform_user_id=person.platform_user_id, name=person.name, display_name=person.display_name)
    found = select_numbers(db, [identity])
    if not found:
        add_people(db, [(identity, user, datetime.now(UTC))])
        found = select_numbers(db, [identity])
    # Also after adding: somebody else may have been faster, and have known no name.
    rename(db, [(found[identity], user, datetime.now(UTC))])
    return found[identity]


def find_user(db: DAL, platform: str, platform_user_id: str) -> int | None:
    """Our number of somebody, by what their platform calls them."""
    row = fetch_one(
        db,
        "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s",
        (platform, platform_user_id),
    )
    return int(row["user_id"]) if row else None


def list_owned(db: DAL, user_id: int) -> list[dict[str, Any]]:
    """The communities that are somebody's own, by name."""
    return fetch(
        db,
        "SELECT id, slug, name FROM communities WHERE owner_id = %s AND is_active AND NOT is_global"
        " ORDER BY name LIMIT 100",
        (user_id,),
    )


def settle(
    db: DAL, person: Consenter, *, channel: str, server_id: str = "", name: str, community: str | None = None
) -> Settled:
    """Serve a channel, or a whole server, in the community that `person` chose, else in the one that it is in or was
    last in, else in a new one named after it; whoever opened a new one owns it.

    An operator's community stays the operator's: consenting to a channel in it makes nobody its owner.
    Raises: NotYourCommunity. Call `tell` after the commit.
    """
    entity = EntityId(person.platform, server_id, channel)
    user_id = ensure_user(db, person)
    home = _chosen(db, user_id, community) if community else _last_home(db, entity, user_id)
    is_new = home is None
    community_id = new_community(db, name, person, user_id) if home is None else home
    _serve(db, entity, name, community_id, owner=person.platform_user_id)
    fetch(
        db,
        "INSERT INTO community_memberships (community_id, user_id) VALUES (%(community)s, %(user)s)"
        " ON CONFLICT (community_id, user_id) DO UPDATE SET is_active = true",
        {"community": community_id, "user": user_id},
    )
    row = fetch_one(db, "SELECT slug, name FROM communities WHERE id = %s", (community_id,))
    assert row is not None
    _record(db, "channel_added", entity, community_id, user_id=user_id)
    return Settled(entity, user_id, community_id, row["slug"], row["name"], is_new)


def leave(db: DAL, entity: EntityId, *, user_id: int | None = None) -> bool:
    """Stop serving a channel or server. Its community stays, with what is in it. False if it was not served.

    `user_id` is whoever wants it so, where that is known. Call `tell` after the commit.
    """
    where = {"platform": entity.platform, "server_id": entity.server_id, "channel": entity.channel_id}
    fetch(
        db,
        "UPDATE entities SET is_active = false WHERE platform = %(platform)s AND server_id = %(server_id)s"
        " AND (channel_id = %(channel)s OR %(channel)s = '')",
        where,
    )
    row = fetch_one(
        db,
        "UPDATE servers SET is_active = false, activation_key_hash = NULL, updated_at = now()"
        " WHERE platform = %(platform)s AND server_id = %(server_id)s AND channel = %(channel)s AND is_active"
        " RETURNING community_id",
        where,
    )
    if row is not None:
        _record(db, "channel_removed", entity, row["community_id"], user_id=user_id)
    return row is not None


def move_channel(db: DAL, entity: EntityId, community_id: int, *, user_id: int) -> None:
    """Serve a channel in another community from now on; who may ask for that, the caller has looked at."""
    where = {"entity": str(entity), "community": community_id, **asdict(entity)}
    before = fetch_one(db, "SELECT community_id FROM entities WHERE entity_id = %(entity)s FOR UPDATE", where)
    fetch(db, "UPDATE entities SET community_id = %(community)s WHERE entity_id = %(entity)s", where)
    fetch(
        db,
        "UPDATE servers SET community_id = %(community)s, updated_at = now() WHERE platform = %(platform)s"
        " AND server_id = %(server_id)s AND channel = %(channel_id)s",
        where,
    )
    if before is not None:
        _record(db, "channel_removed", entity, before["community_id"], user_id=user_id)
    _record(db, "channel_added", entity, community_id, user_id=user_id)


def tell(bus: Bus, entity: EntityId, user_id: int | None = None) -> None:
    """Have every process look anew at a place, and at who consented. After the commit."""
    bus.invalidate(SERVERS)
    bus.invalidate(ENTITIES, *([str(entity)] if entity.channel_id else []))
    if user_id is not None:
        bus.invalidate(PEOPLE, user_id)


def _record(db: DAL, action: str, entity: EntityId, community_id: int, *, user_id: int | None) -> None:
    """Write into the audit log that a channel came or went. Only the platform's consent page can take that back."""
    is_served = {"entity_id": str(entity), "is_active": action == "channel_added"}
    change = Change(f"server/{entity}", after=is_served)
    by = Acting(entity.platform, own_id=user_id)
    record_all(db, entity.platform, action, [change], community_id=community_id, by=by)


def _chosen(db: DAL, user_id: int, community: str) -> int:
    community_id = find_community(db, community)
    row = fetch_one(
        db,
        "SELECT id FROM communities c WHERE id = %(id)s AND is_active AND NOT is_global AND (owner_id = %(user)s"
        " OR EXISTS (SELECT FROM community_rbac r WHERE r.community_id = c.id AND r.user_id = %(user)s"
        "  AND r.role = 'owner'))",
        {"id": community_id, "user": user_id},
    )
    if row is None:
        raise NotYourCommunity(f"{community[:64]} is not a community of yours.")
    return int(row["id"])


def _last_home(db: DAL, entity: EntityId, user_id: int) -> int | None:
    """Where a channel is served; or, if it is not any more, where it was, unless that is somebody else's."""
    row = fetch_one(
        db,
        "SELECT s.community_id FROM servers s JOIN communities c ON c.id = s.community_id"
        " WHERE s.platform = %s AND s.server_id = %s AND s.channel = %s AND c.is_active"
        " AND (s.is_active OR c.owner_id = %s)",
        (entity.platform, entity.server_id, entity.channel_id, user_id),
    )
    return int(row["community_id"]) if row else None


def new_community(db: DAL, name: str, person: Consenter, user_id: int) -> int:
    """Make a community of somebody's own, under the first free slug of name, name-2, …"""
    slug = slug_of(name) if slug_of(name) != "community" else slug_of(person.name)
    # Two channels of one name at the same moment take their slugs one after the other.
    fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"community:{slug}",))
    row = fetch_one(
        db,
        "WITH made AS (INSERT INTO communities (slug, name, owner_id)"
        "  SELECT slug, %(name)s, %(user)s FROM ("
        "   SELECT %(slug)s || CASE n WHEN 1 THEN '' ELSE '-' || n END AS slug"
        "   FROM generate_series(1, 1000) AS n) AS wish"
        "  WHERE NOT EXISTS (SELECT FROM communities c WHERE c.slug = wish.slug) ORDER BY length(slug), slug LIMIT 1"
        "  RETURNING id),"
        " owner AS (INSERT INTO community_rbac (community_id, user_id, role, assigned_by)"
        "  SELECT id, %(user)s, 'owner', 'oauth' FROM made)"
        " SELECT id FROM made",
        {"slug": slug, "name": name or slug, "user": user_id},
    )
    assert row is not None, "a thousand communities of one name"
    record_new_community(db, row["id"], by=Acting(person.platform, own_id=user_id))
    return int(row["id"])


def _serve(db: DAL, entity: EntityId, name: str, community_id: int, *, owner: str) -> None:
    values = {
        "platform": entity.platform,
        "server_id": entity.server_id,
        "channel": entity.channel_id,
        "entity": str(entity),
        "name": name,
        "community": community_id,
        "owner": owner,
    }
    fetch(
        db,
        "INSERT INTO servers (platform, server_id, channel, name, community_id, owner)"
        " VALUES (%(platform)s, %(server_id)s, %(channel)s, %(name)s, %(community)s, %(owner)s)"
        " ON CONFLICT (platform, server_id, channel) DO UPDATE SET name = excluded.name, owner = excluded.owner,"
        " community_id = excluded.community_id, is_active = true, activation_key_hash = NULL, updated_at = now()",
        values,
    )
    fetch(
        db,
        "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id, owner)"
        " VALUES (%(entity)s, %(platform)s, %(server_id)s, %(channel)s, %(community)s, %(owner)s)"
        " ON CONFLICT (entity_id) DO UPDATE SET community_id = excluded.community_id, owner = excluded.owner,"
        " is_active = true",
        values,
    )
    if not entity.channel_id:  # A whole server: the channels that were seen of it follow.
        fetch(
            db,
            "UPDATE entities SET community_id = %(community)s, is_active = true"
            " WHERE platform = %(platform)s AND server_id = %(server_id)s",
            values,
        )
