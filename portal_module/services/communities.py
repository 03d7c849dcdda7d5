"""Communities as their people manage them from chat. Communities, members and channels are core's; what changes them is
the library's, and this says who may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydal import DAL
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import Level
from waddlebot.base.errors import NotFound, UserError
from waddlebot.community.people import find_by_name
from waddlebot.data.database import fetch, fetch_one

CONTEXT_FOR = timedelta(hours=1)
MAX_NAME_CHARS = 60
MAX_OWNED = 20
LISTED = 15


class Refused(UserError):
    """You may not do that here."""

    code = "refused"


class NoSuchCommunity(NotFound):
    """There is no community of that name."""

    code = "unknown_community"


@dataclass(frozen=True, slots=True)
class About:
    """The community that somebody's command is about, and their level in it."""

    id: int
    slug: str
    name: str
    is_global: bool
    level: Level

    def check(self, level: Level, what: str) -> None:
        """Raises: Refused, naming the level that is needed."""
        if self.level < level:
            raise Refused(f"Only {level.at_least} may {what}.")


def about(db: DAL, ids: Sequence[int], here: int, level_here: Level) -> About:
    """What somebody's `!community` is about: what they chose within the last hour, else where they are."""
    row = fetch_one(
        db,
        "SELECT c.id, c.slug, c.name, c.is_global, c.owner_id = ANY(%(ids)s) AS owns,"
        " ARRAY(SELECT role FROM community_rbac r WHERE r.community_id = c.id AND r.user_id = ANY(%(ids)s)) AS roles"
        " FROM communities c LEFT JOIN portal_contexts x ON x.community_id = c.id AND x.own_id = ANY(%(ids)s)"
        "  AND x.expires_at > now()"
        " WHERE c.is_active AND (c.id = %(here)s OR x.own_id IS NOT NULL)"
        " ORDER BY x.own_id IS NULL, x.expires_at DESC LIMIT 1",
        {"ids": list(ids), "here": here},
    )
    assert row is not None, "a command comes from a community"
    levels = [Level.named(each) for each in row["roles"]]
    if row["owns"]:
        levels.append(Level.OWNER)
    if row["id"] == here:
        levels.append(level_here)  # A badge counts where it is worn.
    return About(row["id"], row["slug"], row["name"], row["is_global"], max(levels, default=Level.MEMBER))


def find_named(db: DAL, name: str, ids: Sequence[int]) -> tuple[int, str]:
    """A community by its name or slug: one of somebody's own first. Raises: NoSuchCommunity."""
    row = fetch_one(
        db,
        "SELECT c.id, c.name FROM communities c"
        " WHERE c.is_active AND (name_key(c.name) = name_key(%(name)s) OR c.slug = %(name)s)"
        " ORDER BY NOT EXISTS (SELECT FROM community_memberships m WHERE m.community_id = c.id AND m.is_active"
        "  AND m.user_id = ANY(%(ids)s)), c.id LIMIT 1",
        {"name": name, "ids": list(ids)},
    )
    if row is None:
        raise NoSuchCommunity(f"There is no community “{shorten(name, 40)}”.")
    return row["id"], row["name"]


def list_of(db: DAL, ids: Sequence[int]) -> list[str]:
    """The names of the communities that somebody is in."""
    rows = fetch(
        db,
        "SELECT DISTINCT c.name, c.is_global FROM communities c JOIN community_memberships m ON m.community_id = c.id"
        " WHERE m.user_id = ANY(%s) AND m.is_active AND c.is_active AND NOT c.is_global ORDER BY c.name LIMIT %s",
        (list(ids), LISTED + 1),
    )
    return [row["name"] for row in rows]


def describe(db: DAL, community_id: int) -> str:
    """A community in a sentence."""
    row = fetch_one(
        db,
        "SELECT c.name, c.slug, u.display_name AS owner,"
        " (SELECT count(*) FROM community_memberships m WHERE m.community_id = c.id AND m.is_active) AS members,"
        " (SELECT count(*) FROM entities e WHERE e.community_id = c.id AND e.is_active) AS channels"
        " FROM communities c LEFT JOIN users u ON u.id = c.owner_id WHERE c.id = %s",
        (community_id,),
    )
    assert row is not None
    owner = f", owned by {row['owner']}" if row["owner"] else ""
    return (
        f"{row['name']} ({row['slug']}): {_count(row['members'], 'member')} in"
        f" {_count(row['channels'], 'channel')}{owner}."
    )


def team(db: DAL, community_id: int) -> str:
    """How many members there are, and who helps to run it."""
    rows = fetch(
        db,
        "SELECT u.display_name, r.role FROM community_rbac r JOIN users u ON u.id = r.user_id"
        " WHERE r.community_id = %s AND r.role IN ('owner', 'admin', 'moderator')"
        " ORDER BY array_position(ARRAY['owner', 'admin', 'moderator'], r.role), u.display_name LIMIT %s",
        (community_id, LISTED + 1),
    )
    counted = fetch_one(
        db,
        "SELECT count(*) AS n FROM community_memberships WHERE community_id = %s AND is_active",
        (community_id,),
    )
    assert counted is not None
    names = [f"{row['display_name'] or 'somebody'} ({row['role']})" for row in rows[:LISTED]]
    more = " and more" if len(rows) > LISTED else ""
    helped = f" Run by {', '.join(names)}{more}." if names else ""
    return f"{_count(counted['n'], 'member')}.{helped}"


def choose(db: DAL, own_id: int, community_id: int) -> None:
    fetch(
        db,
        "INSERT INTO portal_contexts (own_id, community_id, expires_at) VALUES (%s, %s, now() + %s)"
        " ON CONFLICT (own_id) DO UPDATE SET community_id = excluded.community_id, expires_at = excluded.expires_at",
        (own_id, community_id, CONTEXT_FOR),
    )


def forget_choice(db: DAL, ids: Sequence[int]) -> None:
    fetch(db, "DELETE FROM portal_contexts WHERE own_id = ANY(%s)", (list(ids),))


def is_member(db: DAL, ids: Sequence[int], community_id: int) -> bool:
    row = fetch_one(
        db,
        "SELECT 1 AS here FROM community_memberships"
        " WHERE community_id = %s AND user_id = ANY(%s) AND is_active LIMIT 1",
        (community_id, list(ids)),
    )
    return row is not None


def person_named(db: DAL, name: str, *, platform: str, community_id: int | None) -> tuple[int, str]:
    """Somebody by the name that they bear. Raises: NotFound."""
    wanted = name.lstrip("@")
    own_id = find_by_name(db, wanted, platform=platform, community_id=community_id)
    if own_id is None:
        raise NotFound(f"I do not know anybody called “{shorten(wanted, 40)}”.")
    row = fetch_one(db, "SELECT display_name FROM users WHERE id = %s", (own_id,))
    return own_id, (row and row["display_name"]) or wanted


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
