"""What somebody may do where: the rights that a login was given, and those that come with a person's role.

An owner's role makes an owner here, an admin's an editor, a moderator's an editor of people and rules; so moderators
get in uninvited, and out again with their role. What a platform said of somebody when they signed in counts as a role
until it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from waddlebot.base.errors import NotAllowed, NotFound
from waddlebot.base.manifest import Area, Right
from waddlebot.data.database import Database, Prepared
from waddlebot.web.actor import RIGHTS
from waddlebot.web.signin import Login
from waddlebot.web.site import Link, Shell

from .navigation import NAVIGATION, TABS, Entry

AREAS: tuple[Area, ...] = ("people", "bot", "rules", "overlays", "music", "channels", "settings")
EVERY = "*"
BY_ROLE: Mapping[str, Mapping[str, Right]] = {
    "owner": {EVERY: "owner"},
    "admin": {EVERY: "editor"},
    "moderator": {EVERY: "viewer", "people": "editor", "rules": "editor"},
}
NONE_OF_YOURS = (
    "There is no such community, or it is none of yours. Whoever moderates there signs in by the platform again."
)
SHELLS_KEPT = 500
# More than anybody switches between by a list; operators have the list of communities.
MAX_LISTED = 50

# On every page, and planning it takes longer than running it.
SEATS = Prepared(
    "portal_seats",
    """
WITH me AS (
    SELECT u.id FROM users u WHERE u.id = %(person)s::bigint
    UNION SELECT u.head_id FROM users u WHERE u.id = %(person)s::bigint AND u.head_id IS NOT NULL
    UNION SELECT o.id FROM users u JOIN users o ON o.head_id = coalesce(u.head_id, u.id)
    WHERE u.id = %(person)s::bigint
), given AS (
    SELECT community_id, jsonb_object_agg(area, held) AS rights FROM portal_access
    WHERE auth_user_id = %(login)s::bigint GROUP BY 1
), roles AS (
    SELECT community_id, array_agg(role) AS names FROM (
        SELECT r.community_id, r.role FROM community_rbac r JOIN me ON me.id = r.user_id
        WHERE r.role IN ('owner', 'admin', 'moderator')
        UNION SELECT c.id, 'owner' FROM communities c JOIN me ON me.id = c.owner_id
        UNION SELECT p.community_id, p.role FROM portal_platform_roles p
        WHERE p.auth_user_id = %(login)s::bigint AND p.expires_at > now()
    ) AS each GROUP BY 1
), places AS (
    SELECT community_id FROM given UNION SELECT community_id FROM roles
    UNION SELECT id FROM communities WHERE %(operator)s::boolean
)
SELECT c.id, c.slug, c.name, coalesce(given.rights, '{}') AS rights, coalesce(roles.names, '{}') AS roles
-- OFFSET 0: one by one, by the key. Planned for operators, too, it would be all communities for everybody.
FROM places CROSS JOIN LATERAL (
    SELECT id, slug, name, is_global FROM communities WHERE id = places.community_id AND is_active OFFSET 0
) AS c LEFT JOIN given ON given.community_id = c.id LEFT JOIN roles ON roles.community_id = c.id
ORDER BY c.slug <> %(here)s::text, c.is_global, lower(c.name), c.id LIMIT %(limit)s::bigint
""",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A community that somebody may look into, with their right by area."""

    id: int
    slug: str
    name: str
    rights: Mapping[str, Right]

    @property
    def path(self) -> str:
        return f"/portal/c/{self.slug}"

    def right(self, area: str) -> Right | None:
        return self.rights.get(area) or self.rights.get(EVERY)

    def may(self, area: str, right: Right = "viewer") -> bool:
        held = self.right(area)
        return held is not None and RIGHTS.index(held) >= RIGHTS.index(right)

    @property
    def highest(self) -> Right:
        return max(self.rights.values(), key=RIGHTS.index, default="viewer")


@dataclass(frozen=True, slots=True)
class Seat:
    """Somebody at a page of one community, whose right for it has been looked at."""

    login: Login
    place: Place
    others: Sequence[Place]

    @property
    def community_id(self) -> int:
        return self.place.id

    @property
    def path(self) -> str:
        return self.place.path

    def right(self, area: Area) -> Right | None:
        return self.place.right(area)

    def may(self, area: Area, right: Right = "viewer") -> bool:
        return self.place.may(area, right)

    def check(self, area: Area, right: Right = "viewer") -> None:
        """Raises: NotAllowed, naming what is needed."""
        if not self.may(area, right):
            raise NotAllowed(f"This needs the right of {_a(right)} for {area} in {self.place.name}.", needs=right)

    def shown(self, title: str, **values: Any) -> dict[str, Any]:
        """What a template of one of the community's pages is given."""
        return {"title": title, "seat": self, "shell": self._shell(), **values}

    def _shell(self) -> Shell:
        place = self.place
        others = tuple(Link(each.name, "", each.path) for each in self.others if each.id != place.id)
        rights = frozenset(place.rights.items())
        return _shell_of(place.slug, place.name, rights, others, bool(self.login.more["is_operator"]))


# The same on every page that somebody looks at.
@lru_cache(maxsize=SHELLS_KEPT)
def _shell_of(
    slug: str, name: str, rights: frozenset[tuple[str, Right]], others: tuple[Link, ...], is_operator: bool
) -> Shell:
    place = Place(0, slug, name, dict(rights))
    groups = [
        (group, tuple(_link(place, each) for each in entries if each.area is None or place.may(each.area, each.right)))
        for group, entries in NAVIGATION
    ]
    by_href = {link.href: link for _, links in groups for link in links}
    tabs = tuple(
        Link(label, link.icon, link.href)
        for label, path in TABS
        if (link := by_href.get(place.path + path)) is not None
    )
    if is_operator:
        groups.append(("The fleet", OPERATOR_LINKS))
    shown = tuple((group, links) for group, links in groups if links)
    return Shell(name, NOTES[place.highest], shown, tabs, "/portal/profile", others)


def _link(place: Place, entry: Entry) -> Link:
    also = tuple(place.path + each for each in entry.also)
    return Link(entry.label, entry.icon, place.path + entry.path, also=also)


NOTES: Mapping[Right, str] = {
    "viewer": "You may look",
    "editor": "You help to run it",
    "owner": "You own it",
    "operator": "You run this fleet",
}
# Where an operator looks after the whole fleet.
OPERATOR_LINKS = (Link("The fleet", "settings", "/portal/operator"),)


def own_shell(login: Login) -> Shell:
    """What stands around pages that are of no community."""
    own = (Link("Communities", "house", "/portal/communities"), Link("Profile", "circle-user", "/portal/profile"))
    fleet = (("The fleet", OPERATOR_LINKS),) if login.more["is_operator"] else ()
    groups = (("", own), *fleet)
    return Shell("WaddleBot", login.email or login.name, groups, own, "/portal/profile")


class Seats:
    def __init__(self, database: Database) -> None:
        self._db = database

    def places(self, login: Login, *, here: str = "") -> list[Place]:
        """The communities that somebody may look into; `here` first."""
        parameters = {
            "login": login.id,
            "person": login.more["waddlebot_user_id"],
            "operator": bool(login.more["is_operator"]),
            "here": here,
            "limit": MAX_LISTED,
        }
        rows = self._db.statement(SEATS, parameters)
        return [_place(row, is_operator=parameters["operator"]) for row in rows]

    def take(self, login: Login, community: str, area: Area | None = None, right: Right = "viewer") -> Seat:
        """Somebody's seat at a page. Raises: NotFound where they have nothing to look at; NotAllowed."""
        places = self.places(login, here=community)
        if not places or places[0].slug != community:
            raise NotFound(NONE_OF_YOURS)
        seat = Seat(login, places[0], places)
        if area is not None:
            seat.check(area, right)
        return seat

    def find_right(self, login: Login, community_id: int, area: Area) -> Right | None:
        return next((each.right(area) for each in self.places(login) if each.id == community_id), None)


def _place(row: Mapping[str, Any], *, is_operator: bool) -> Place:
    rights: dict[str, Right] = {EVERY: "operator"} if is_operator else {}
    for held in [row["rights"], *(BY_ROLE[role] for role in row["roles"])]:
        _add(rights, held)
    return Place(row["id"], row["slug"], row["name"], rights)


def _add(rights: dict[str, Right], more: Mapping[str, Right]) -> None:
    """The higher right counts, for an area as for all of them."""
    for area, right in more.items():
        rights[area] = max(rights.get(area, right), right, key=RIGHTS.index)
    if EVERY in rights:
        floor = rights[EVERY]
        for area in rights:
            rights[area] = max(rights[area], floor, key=RIGHTS.index)


def _a(right: str) -> str:
    return f"an {right}" if right[0] in "aeiou" else f"a {right}"
