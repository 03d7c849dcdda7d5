"""People: who somebody is on a platform, with whom they are one, and what they are in a community.

An identity's own number never changes. Who links two of theirs is one person with several numbers, and one of those,
the head, speaks for all: limits, cooldowns and quotas count by the head. A row about a person stores their own number
and is read by all of theirs, so that unlinking is one UPDATE and nothing is rewritten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pydal import DAL

from ..base.contracts import EventUser, Level
from ..base.errors import Conflict, NotFound
from ..data.cache import Bus, Cache
from ..data.database import Database, fetch, fetch_one

PEOPLE, IDENTITIES, MEMBERS, LABELS = "people", "identities", "members", "labels"
MAX_PEOPLE = 50_000

# A platform and somebody's id there.
Identity = tuple[str, str]
# A community and somebody's own number.
Membership = tuple[int, int]
# Somebody, as they were called, and when.
Sighting = tuple[Identity, EventUser, datetime]
# The same of somebody whose number is known.
Naming = tuple[int, EventUser, datetime]
NOW: Mapping[Identity, datetime] = MappingProxyType({})

# With what all of somebody's accounts bring.
SELECT_PEOPLE = """
SELECT me.id AS own_id, coalesce(me.head_id, me.id) AS head_id, i.name, i.display_name, together.ids,
    (SELECT json_agg(json_build_array(r.community_id, r.role)) FROM community_rbac r
     WHERE r.user_id = ANY(together.ids)) AS roles,
    (SELECT json_agg(json_build_array(l.community_id, l.name, extract(epoch FROM l.expires_at)))
     FROM labels_of_people l WHERE l.own_id = ANY(together.ids)) AS labels
FROM unnest(%s::bigint[]) AS wanted (id) JOIN users me USING (id)
CROSS JOIN LATERAL (SELECT array_agg(id ORDER BY id) AS ids FROM (
    SELECT coalesce(me.head_id, me.id) UNION SELECT o.id FROM users o WHERE o.head_id = coalesce(me.head_id, me.id)
) AS each (id)) AS together
LEFT JOIN LATERAL (
    SELECT name, display_name FROM platform_identities i WHERE i.user_id = me.id ORDER BY i.id LIMIT 1
) AS i ON true
"""
# Rows are locked in one order everywhere, so that two batches with the same people cannot wait for each other for ever.
RENAME = """
WITH named AS (
    SELECT i.id, coalesce(nullif(w.name, ''), i.name) AS name,
        coalesce(nullif(w.display_name, ''), i.display_name) AS display_name, least(w.at, now()) AS at
    FROM unnest(%(owns)s::bigint[], %(names)s::text[], %(display_names)s::text[], %(at)s::timestamptz[])
        AS w (own_id, name, display_name, at)
    JOIN platform_identities i ON i.user_id = w.own_id
    WHERE i.named_at <= w.at ORDER BY i.id FOR UPDATE OF i
), renamed AS (
    UPDATE platform_identities i SET name = named.name, display_name = named.display_name, named_at = named.at
    FROM named WHERE i.id = named.id
    RETURNING i.user_id, coalesce(nullif(i.display_name, ''), nullif(i.name, ''), i.platform_user_id) AS shown_name
)
UPDATE users SET display_name = shown_name FROM renamed WHERE users.id = renamed.user_id
RETURNING users.id
"""
JOIN = """
INSERT INTO community_memberships (community_id, user_id)
SELECT * FROM unnest(%s::bigint[], %s::bigint[]) AS w (community_id, own_id) ORDER BY 1, 2
ON CONFLICT (community_id, user_id) DO UPDATE SET is_active = true WHERE NOT community_memberships.is_active
"""


class SamePerson(Conflict):
    """These two are one person already."""

    code = "same_person"


class NotLinked(NotFound):
    """This account is not linked with another one."""

    code = "not_linked"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as one of their platforms knows them. `ids` are all their numbers, `head_id` is the one that counts."""

    own_id: int
    head_id: int
    ids: tuple[int, ...]
    name: str = ""
    display_name: str = ""
    roles: Mapping[int, Level] = field(default_factory=dict)
    # By community, each with the time at which it ends.
    labels: Mapping[int, Mapping[str, datetime | None]] = field(default_factory=dict)

    def role_in(self, community_id: int) -> Level:
        """The highest role that any of their accounts has there."""
        return self.roles.get(community_id, Level.MEMBER)

    def labels_in(self, community_id: int) -> list[str]:
        """The labels that they have there now."""
        ends = self.labels.get(community_id)
        if not ends:
            return []
        now = datetime.now(UTC)
        return sorted(name for name, at in ends.items() if at is None or at > now)

    def is_called(self, user: EventUser) -> bool:
        """Whether they still go by the names that an event gives them; one that it leaves out says nothing."""
        return user.name in ("", self.name) and user.display_name in ("", self.display_name)


class People:
    """Who people are, kept in process. What is known of them is read on the primary, in one statement for many."""

    def __init__(self, db: Database, bus: Bus, *, ttl_s: float) -> None:
        self._db = db
        self._bus = bus
        self._numbers: Cache[str, int] = bus.cache(IDENTITIES, ttl_s=ttl_s, max_size=MAX_PEOPLE)
        self._people: Cache[int, Person] = bus.cache(PEOPLE, ttl_s=ttl_s, max_size=MAX_PEOPLE)
        self._members: Cache[str, bool] = bus.cache(MEMBERS, ttl_s=ttl_s, max_size=MAX_PEOPLE)
        # Of those with several numbers all, by each, as keys of caches.
        self._together: dict[str, list[str]] = {}
        bus.listen(LABELS, self._forget_labels)

    @property
    def cache(self) -> Cache[int, Person]:
        """For those who count hits and misses."""
        return self._people

    def who(self, users: Mapping[Identity, EventUser], at: Mapping[Identity, datetime] = NOW) -> dict[Identity, Person]:
        """Who these people are. Those whom nobody has seen before are added, and names follow what is newest: `at`
        says when somebody bore the name given here, now unless told."""
        keys = {f"{platform}:{id_}": (platform, id_) for platform, id_ in users}
        now = datetime.now(UTC)

        def load(missing: list[str]) -> dict[str, int]:
            return self._load_numbers([(keys[key], users[keys[key]], at.get(keys[key], now)) for key in missing])

        numbers = {keys[key]: own_id for key, own_id in self._numbers.get_many(keys, load).items()}
        people = self.by_number(numbers.values())
        gone = [each for each, own_id in numbers.items() if own_id not in people]
        if gone:  # They were erased meanwhile, and are somebody new.
            for platform, id_ in gone:
                self._numbers.drop(f"{platform}:{id_}")
            return self.who(users, at)
        renamed = [each for each, own_id in numbers.items() if not people[own_id].is_called(users[each])]
        if renamed:
            self._rename([(numbers[each], users[each], at.get(each, now)) for each in renamed])
            people |= self.by_number(numbers[each] for each in renamed)
        return {identity: people[own_id] for identity, own_id in numbers.items()}

    def by_number(self, own_ids: Iterable[int]) -> dict[int, Person]:
        """The people with these numbers; who does not exist is left out."""
        return self._people.get_many(list(dict.fromkeys(own_ids)), self._load_people)

    def join(self, memberships: Collection[Membership]) -> None:
        """Make people members of communities, where they are none."""

        def add(missing: list[str]) -> dict[str, bool]:
            pairs = [each.split(":") for each in missing]
            self._db.statement(JOIN, ([int(c) for c, _ in pairs], [int(own) for _, own in pairs]))
            return dict.fromkeys(missing, True)

        self._members.get_many([f"{community}:{own}" for community, own in memberships], add)

    def _load_numbers(self, wanted: Sequence[Sighting]) -> dict[str, int]:
        identities = [identity for identity, _, _ in wanted]
        with self._db.transaction() as db:
            found = select_numbers(db, identities)
            if len(found) < len(identities):
                add_people(db, [each for each in wanted if each[0] not in found])
                found = select_numbers(db, identities)
        return {f"{platform}:{id_}": own_id for (platform, id_), own_id in found.items()}

    def _load_people(self, own_ids: Sequence[int]) -> dict[int, Person]:
        people = [_person(row) for row in self._db.statement(SELECT_PEOPLE, (list(own_ids),))]
        if len(self._together) > MAX_PEOPLE:
            self._together.clear()
        for each in people:
            if len(each.ids) > 1:
                keys = list(map(str, each.ids))
                self._together |= dict.fromkeys(keys, keys)
        return {each.own_id: each for each in people}

    def _rename(self, named: Sequence[Naming]) -> None:
        with self._db.transaction() as db:
            renamed = rename(db, named)
        if renamed:
            self._bus.invalidate(PEOPLE, *renamed)

    def _forget_labels(self, *keys: str) -> None:
        """`<community>:<own number>`, or everybody's with `*`. What one account has counts for all of the person."""
        owns = [key.rpartition(":")[2] for key in keys]
        if "*" in owns:
            self._people.drop("*")
            return
        for each in self._together.keys() & owns:
            owns += self._together[each]
        self._people.drop(*owns)


def rename(db: DAL, named: Sequence[Naming]) -> list[int]:
    """Let names follow, unless a newer one is known. Returns whose did."""
    rows = fetch(
        db,
        RENAME,
        {
            "owns": [own_id for own_id, _, _ in named],
            "names": [user.name for _, user, _ in named],
            "display_names": [user.display_name for _, user, _ in named],
            "at": [at for _, _, at in named],
        },
    )
    return [row["id"] for row in rows]


def ids_of(db: DAL, own_id: int) -> list[int]:
    """All the numbers of the person who has this one, in a transaction or a lookup of the caller's."""
    rows = fetch(
        db,
        "WITH head AS (SELECT coalesce(head_id, id) AS id FROM users WHERE id = %s)"
        " SELECT id FROM head UNION SELECT u.id FROM users u JOIN head ON u.head_id = head.id ORDER BY id",
        (own_id,),
    )
    return [row["id"] for row in rows]


def link(db: DAL, own_id: int, with_id: int) -> list[int]:
    """Make two people one: the second one's head speaks for all from now on.

    Returns everybody's numbers, to invalidate in the cache PEOPLE after the commit.
    Raises: SamePerson; NotFound for a number that nobody has.
    """
    heads = _lock_heads(db, own_id, with_id)
    for number in (own_id, with_id):
        if number not in heads:
            raise NotFound(f"There is no user {number}.")
    if heads[own_id] == heads[with_id]:
        raise SamePerson()
    rows = fetch(
        db,
        "UPDATE users SET head_id = %(head)s WHERE id = %(old)s OR head_id = %(old)s RETURNING id",
        {"head": heads[with_id], "old": heads[own_id]},
    )
    return sorted({*(row["id"] for row in rows), *ids_of(db, with_id)})


def unlink(db: DAL, own_id: int) -> list[int]:
    """Make one account a person of its own again; of those that stay together the lowest number speaks for all.

    Returns everybody's numbers, to invalidate in the cache PEOPLE after the commit. Raises: NotLinked.
    """
    return separate(db, own_id, [own_id])


def separate(db: DAL, own_id: int, leaving: Collection[int]) -> list[int]:
    """Part a person into two: those of their accounts that are `leaving`, and those that stay. On either side the head
    goes on, or the lowest number speaks for all.

    Returns everybody's numbers, to invalidate in the cache PEOPLE after the commit. Raises: NotLinked when nobody would
    leave, or stay.
    """
    head = _lock_heads(db, own_id).get(own_id)
    together = ids_of(db, own_id)
    sides = [each for each in together if each in leaving], [each for each in together if each not in leaving]
    if not all(sides):
        raise NotLinked()
    for side in sides:
        speaks = head if head in side else min(side)
        fetch(
            db,
            "UPDATE users SET head_id = nullif(%(head)s, id) WHERE id = ANY(%(ids)s)"
            " AND head_id IS DISTINCT FROM nullif(%(head)s, id)",
            {"head": speaks, "ids": side},
        )
    return together


def _lock_heads(db: DAL, *numbers: int) -> dict[int, int]:
    """The heads of these numbers. All of both groups are locked, so that two links at once cannot make a circle."""
    fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('waddlebot:links', 0))")
    rows = fetch(db, "SELECT id, coalesce(head_id, id) AS head_id FROM users WHERE id = ANY(%s)", (list(numbers),))
    return {row["id"]: row["head_id"] for row in rows}


def select_numbers(db: DAL, identities: Sequence[Identity]) -> dict[Identity, int]:
    rows = fetch(
        db,
        "SELECT i.platform, i.platform_user_id, i.user_id"
        " FROM unnest(%s::text[], %s::text[]) AS w (platform, platform_user_id)"
        " JOIN platform_identities i USING (platform, platform_user_id)",
        ([platform for platform, _ in identities], [id_ for _, id_ in identities]),
    )
    return {(row["platform"], row["platform_user_id"]): row["user_id"] for row in rows}


def find_by_name(db: DAL, name: str, *, platform: str, community_id: int | None = None) -> int | None:
    """The own number of who bears a name now: first on this platform, first by the name that is theirs alone. With a
    community only its members are looked at."""
    here = (
        " AND EXISTS (SELECT FROM community_memberships m WHERE m.user_id = i.user_id AND m.is_active"
        "  AND m.community_id = %(community)s)"
    )
    row = fetch_one(
        db,
        "SELECT i.user_id FROM platform_identities i"
        " WHERE (name_key(i.name) = name_key(%(name)s) OR name_key(i.display_name) = name_key(%(name)s))"
        + (here if community_id is not None else "")
        + " ORDER BY i.platform <> %(platform)s, name_key(i.name) <> name_key(%(name)s), i.named_at DESC, i.id DESC"
        " LIMIT 1",
        {"name": name, "platform": platform, "community": community_id},
    )
    return row["user_id"] if row else None


def add_people(db: DAL, new: Sequence[Sighting]) -> None:
    """Add people who were not there a moment ago. Two first messages at once: the locks, taken in one order, make the
    second wait and find the first one's rows."""
    ordered = sorted(new, key=lambda each: each[0])
    fetch(
        db,
        "SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM unnest(%s::text[]) AS key",
        ([f"{platform}:{id_}" for (platform, id_), _, _ in ordered],),
    )
    fetch(
        db,
        "WITH new AS MATERIALIZED (SELECT w.*, nextval('users_id_seq') AS user_id"
        "  FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])"
        "  AS w (platform, platform_user_id, name, display_name, shown_name, at)"
        "  WHERE NOT EXISTS (SELECT 1 FROM platform_identities i"
        "   WHERE i.platform = w.platform AND i.platform_user_id = w.platform_user_id)"
        "), person AS (INSERT INTO users (id, display_name) SELECT user_id, shown_name FROM new RETURNING id)"
        " INSERT INTO platform_identities (user_id, platform, platform_user_id, name, display_name, named_at)"
        " SELECT user_id, platform, platform_user_id, name, display_name, least(at, now()) FROM new"
        " JOIN person ON id = user_id",
        (
            [identity[0] for identity, _, _ in ordered],
            [identity[1] for identity, _, _ in ordered],
            [user.name for _, user, _ in ordered],
            [user.display_name for _, user, _ in ordered],
            [user.shown_name for _, user, _ in ordered],
            [at for _, _, at in ordered],
        ),
    )


def _person(row: Mapping[str, Any]) -> Person:
    roles: dict[int, Level] = {}
    for community, role in row["roles"] or ():
        roles[community] = max(roles.get(community, Level.MEMBER), Level.named(role))
    labels: dict[int, dict[str, datetime | None]] = {}
    for community, name, ends in row["labels"] or ():
        at = datetime.fromtimestamp(ends, UTC) if ends is not None else None
        of_community = labels.setdefault(community, {})
        # The same label of two accounts lasts as long as the longer one.
        before = of_community.get(name, at)
        of_community[name] = None if at is None or before is None else max(at, before)
    return Person(
        own_id=row["own_id"],
        head_id=row["head_id"],
        ids=tuple(row["ids"]),
        name=row["name"] or "",
        display_name=row["display_name"] or "",
        roles=roles,
        labels=labels,
    )
