"""Labels: given, taken, read. At most five for a person, a community, a module or a group, whoever comes at once.

Whoever changes labels of a community waits for whoever does so already, by a lock of that community's, and sees what
they did. The tables' own triggers take the same lock and count again, for whoever writes by another way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from psycopg2.errors import CheckViolation
from pydal import DAL
from waddlebot.base.errors import Conflict, Invalid, NotFound, WaddleBotError
from waddlebot.base.ids import new_id
from waddlebot.base.text import at_a_glance
from waddlebot.base.wire import is_number, to_json
from waddlebot.community.people import LABELS
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, Prepared, fetch
from waddlebot.web.lists import Listed, Page, fetch_page

from .names import check_label
from .subjects import SubjectType, array_of, find_people, find_things

MODULE = "labels_core"
MAX_LABELS = 5
MAX_NAMES = 1000
# How far is counted who has a label; the more there are, the longer it would take to list the names.
MAX_BEARERS_COUNTED = 1000
# Labels as they were read here: of somebody by `<community>:<number>`, as in LABELS, of a thing by
# `<community>:<type>:<id>`.
READS = "label_reads"
# Told of with every change in a community, by its number: searches are made anew, and roles follow.
CHANGES = "label_changes"

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('labels of ' || %s, 0))"
NAMES = "SELECT name, looks_like FROM labels WHERE community_id = %(community)s AND looks_like = ANY(%(looks)s)"
ADD_NAMES = """
INSERT INTO labels (community_id, name, looks_like)
SELECT %(community)s, name, looks_like FROM unnest(%(names)s::text[], %(looks)s::text[]) AS new (name, looks_like)
ON CONFLICT DO NOTHING
"""
# Of those accounts that have one of these labels, or so many that there may be no room, or are one person with others.
# Also what has ended, which nobody has any more.
HAD_BY_PEOPLE = """
SELECT own_id, name, expires_at, metadata, expires_at <= now() AS is_over FROM labels_of_people
WHERE community_id = %(community)s AND own_id = ANY(%(linked)s::bigint[] || ARRAY(
    SELECT own_id FROM labels_of_people WHERE community_id = %(community)s AND own_id = ANY(%(numbers)s::bigint[])
    GROUP BY own_id HAVING count(*) > %(room)s OR bool_or(name = ANY(%(names)s))))
"""
HAD_BY_THINGS = """
SELECT subject_type || ' ' || subject_id AS bearer, subject_id, name, expires_at, metadata FROM labels_of_things
WHERE community_id = %(community)s AND (expires_at IS NULL OR expires_at > now())
    AND (subject_type, subject_id) IN (SELECT * FROM unnest(%(types)s::text[], %(ids)s::text[]))
"""
INTO = "INSERT INTO {table} ({key}, name, expires_at, given_by, given_by_id, metadata)"
ANEW = """
ON CONFLICT ({key}, name) DO UPDATE SET expires_at = excluded.expires_at, metadata = excluded.metadata,
    given_by = excluded.given_by, given_by_id = excluded.given_by_id, given_at = now()
"""
GIVE = f"""
{INTO}
SELECT {{asked}}, name, expires_at, %(by)s, %(by_id)s, metadata FROM json_to_recordset(%(wishes)s)
    AS asked (subject_type text, subject_id {{id_type}}, name text, expires_at timestamptz, metadata jsonb)
{ANEW}
"""
# One label to members who stand alone and do not have it. Numbers alone are read several times as fast as the same
# number of objects. Whoever has no room, by the table's trigger, keeps all from it.
GIVE_PLAINLY = """
WITH given AS (
    INSERT INTO labels_of_people (community_id, own_id, name, expires_at, given_by, given_by_id, metadata)
    SELECT m.community_id, m.user_id, %(name)s, %(expires_at)s::timestamptz, %(by)s, %(by_id)s, %(metadata)s::jsonb
    FROM community_memberships m
    WHERE m.community_id = %(community)s AND m.user_id = ANY(%(ids)s::bigint[]) AND m.is_active
        AND NOT EXISTS (SELECT FROM users u WHERE u.id = m.user_id AND u.head_id IS NOT NULL)
        AND NOT EXISTS (SELECT FROM users u WHERE u.head_id = m.user_id)
    ON CONFLICT DO NOTHING RETURNING own_id
)
SELECT count(*) AS count, CASE WHEN count(*) < %(wanted)s THEN array_agg(own_id) END AS ids FROM given
"""
# Fewer than so many are looked at one by one anyway.
MANY = 20
OF_PEOPLE = {
    "table": "labels_of_people",
    "key": "community_id, own_id",
    "asked": "%(community)s, subject_id",
    "id_type": "bigint",
}
OF_THINGS = {
    "table": "labels_of_things",
    "key": "community_id, subject_type, subject_id",
    "asked": "%(community)s, subject_type, subject_id",
    "id_type": "text",
}
# What has ended is in nobody's way: it is gone before it could be given anew.
FORGET_ENDED_OF_PEOPLE = """
DELETE FROM labels_of_people WHERE community_id = %(community)s AND own_id = ANY(%(numbers)s::bigint[])
    AND expires_at <= now()
"""
FORGET_ENDED_OF_THINGS = """
DELETE FROM labels_of_things WHERE community_id = %(community)s AND expires_at <= now()
"""
TAKE_FROM_PEOPLE = """
DELETE FROM labels_of_people l USING json_to_recordset(%(wishes)s) AS asked (subject_id bigint, name text)
WHERE l.community_id = %(community)s AND l.own_id = asked.subject_id AND l.name = asked.name
"""
TAKE_FROM_THINGS = """
DELETE FROM labels_of_things l
USING json_to_recordset(%(wishes)s) AS asked (subject_type text, subject_id text, name text)
WHERE l.community_id = %(community)s AND l.subject_type = asked.subject_type AND l.subject_id = asked.subject_id
    AND l.name = asked.name
"""
READ = """
SELECT l.name AS label, l.expires_at, l.given_by, l.given_by_id, l.given_at, l.metadata,
    coalesce(d.colour, '') AS colour, coalesce(d.description, '') AS description
FROM {table} l LEFT JOIN labels d ON d.community_id = l.community_id AND d.name = l.name
WHERE l.community_id = %(community)s AND {of} AND (l.expires_at IS NULL OR l.expires_at > now())
ORDER BY l.name, l.expires_at DESC NULLS FIRST
"""
LIST_NAMES = Prepared(
    "labels_names",
    f"""
SELECT d.name AS label, d.colour, d.description, d.created_at,
    (SELECT count(*) FROM (SELECT FROM labels_of_people l WHERE l.community_id = d.community_id AND l.name = d.name
        AND (l.expires_at IS NULL OR l.expires_at > now()) LIMIT {MAX_BEARERS_COUNTED}) AS l) AS people,
    (SELECT count(*) FROM labels_of_things l WHERE l.community_id = d.community_id AND l.name = d.name
        AND (l.expires_at IS NULL OR l.expires_at > now())) AS things,
    (SELECT count(*) FROM labels WHERE community_id = %(community)s) AS total
FROM (SELECT * FROM labels WHERE community_id = %(community)s ORDER BY name LIMIT %(limit)s OFFSET %(offset)s) AS d
ORDER BY d.name
""",
)
READ_PERSON = READ.format(
    table="labels_of_people",
    of="l.own_id IN (SELECT coalesce(me.head_id, me.id) FROM users me WHERE me.id = %(id)s"
    " UNION SELECT o.id FROM users me JOIN users o ON o.head_id = coalesce(me.head_id, me.id) WHERE me.id = %(id)s)",
)
READ_THING = READ.format(table="labels_of_things", of="l.subject_type = %(type)s AND l.subject_id = %(id)s")


class TooManyLabels(Conflict):
    """That would be a sixth label, and five are the most. Remove one first."""

    code = "too_many_labels"


class UnknownSubject(NotFound):
    """There is nobody and nothing like that in this community."""

    code = "unknown_subject"


class LooksLikeAnother(Conflict):
    """That name looks like another label's."""

    code = "looks_like_another"


class NamedTwice(Conflict):
    """The same label of the same subject stands earlier in this call."""

    code = "named_twice"


class AlreadyOver(Invalid):
    """expires_at is a time that has passed."""

    code = "already_over"


class NotLabelled(NotFound):
    """It does not have that label."""

    code = "not_labelled"


class Wished(Protocol):
    """A label to be given to somebody or something, or taken from it. A `user` is a number, or `platform:their id`."""

    @property
    def label(self) -> str: ...
    @property
    def subject_type(self) -> SubjectType: ...
    @property
    def subject_id(self) -> str: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What the service itself wishes."""

    label: str
    subject_type: SubjectType
    subject_id: str
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What became of a wish; `own_id` is the account whose row it is."""

    wish: Wished
    name: str = ""
    subject_id: str = ""
    bearer: str = ""
    # All numbers of the person who bears it.
    numbers: tuple[int, ...] = ()
    changed: bool = False
    error: WaddleBotError | None = None
    before: dict[str, Any] | None = None

    @property
    def is_of_person(self) -> bool:
        return self.wish.subject_type == "user"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.wish.subject_type, self.bearer, self.name


@dataclass(frozen=True, slots=True)
class Given:
    """A label that somebody or something has now."""

    label: str
    expires_at: datetime | None
    given_by: str
    given_by_id: int | None
    given_at: datetime
    metadata: dict[str, Any]
    colour: str
    description: str
    # As an answer has it; it is read far oftener than it is given.
    row: Mapping[str, Any]

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Self:
        times = {name: row[name] and row[name].isoformat() for name in ("expires_at", "given_at")}
        return cls(**row, row={**row, **times})


Had = dict[tuple[str, str, str], dict[str, Any]]


class LabelService:
    """Writes go through a transaction of the caller's, which is followed by `tell`."""

    def __init__(self, db: Database, bus: Bus, *, cache_ttl_s: float, most_at_once: int) -> None:
        self._db = db
        self._bus = bus
        self.most_at_once = most_at_once
        self.reads: Cache[str, list[Given]] = bus.cache(READS, ttl_s=cache_ttl_s, max_size=50_000)
        bus.listen(LABELS, self.reads.drop)

    # Reading

    def read(self, community_id: int, subject_type: SubjectType, subject_id: str) -> list[Given]:
        """The labels that a member, by number, or a thing has now; those of all of a person's accounts, once each.

        Raises: UnknownSubject.
        """
        key = f"{community_id}:{subject_id if subject_type == 'user' else f'{subject_type}:{subject_id}'}"
        found = self.reads.get(key, lambda _fresh: self._load(community_id, subject_type, subject_id))
        if not any(each.expires_at for each in found):
            return found
        now = datetime.now(UTC)
        return [each for each in found if each.expires_at is None or each.expires_at > now]

    def _load(self, community_id: int, subject_type: SubjectType, subject_id: str) -> list[Given]:
        sql = READ_PERSON if subject_type == "user" else READ_THING
        rows = self._db.statement(sql, {"community": community_id, "type": subject_type, "id": subject_id})
        if not rows:
            self._check_subject(community_id, subject_type, subject_id)
        # The same label of two accounts lasts as long as the longer one, which comes first.
        return list({row["label"]: Given.read(row) for row in reversed(rows)}.values())[::-1]

    def _check_subject(self, community_id: int, subject_type: SubjectType, subject_id: str) -> None:
        with self._db.transaction() as db:
            if subject_type == "user":
                found = bool(find_people(db, community_id, [subject_id]))
            else:
                found = bool(find_things(db, community_id, {subject_type: [subject_id]}))
        if not found:
            raise UnknownSubject()

    def number_of(self, community_id: int, name: str) -> str:
        """The number of a member who is called `platform:their id`. Raises: UnknownSubject."""
        with self._db.transaction() as db:
            found = find_people(db, community_id, [name])
        if not found:
            raise UnknownSubject()
        return str(found[name].own_id)

    def list_names(self, community_id: int, page: Page) -> Listed[dict[str, Any]]:
        """The labels that a community has names for, and how many have each now."""
        return fetch_page(self._db.statement, LIST_NAMES, {"community": community_id}, page)

    # Changing

    def apply(self, db: DAL, community_id: int, wishes: Sequence[Wished], *, is_recorded: bool = True) -> list[Outcome]:
        """Give labels, each as far as it may be given; one that is there already ends as it is said now. What is a part
        of another change is recorded with that."""
        fetch(db, LOCK, (str(community_id),))
        outcomes = [Outcome(each) for each in wishes]
        if not self._give_plainly(db, community_id, outcomes):
            self._give_each(db, community_id, [each for each in outcomes if not each.changed])
        if is_recorded:
            self._record(db, community_id, "label_given", outcomes)
        return outcomes

    def remove(self, db: DAL, community_id: int, wishes: Sequence[Wished]) -> list[Outcome]:
        """Take labels; from a person, from whichever of their accounts has it."""
        fetch(db, LOCK, (str(community_id),))
        outcomes = [Outcome(each) for each in wishes]
        self._prepare(db, community_id, outcomes)
        wanted = [each for each in outcomes if each.error is None]
        had = self._find_had(db, community_id, wanted)
        for each in wanted:
            before = had.get(each.key)
            if before is None:
                each.error = NotLabelled()
                continue
            each.before, each.changed = before, True
            each.subject_id = _account_of(before)
        self._take(db, community_id, [each for each in wanted if each.changed])
        self._record(db, community_id, "label_taken", outcomes)
        return outcomes

    def define(self, db: DAL, community_id: int, label: str, *, colour: str | None, description: str | None) -> None:
        """Say what colour a label has in a community, and what it is for. Raises: BadLabel; LooksLikeAnother."""
        fetch(db, LOCK, (str(community_id),))
        outcome = Outcome(Wish(label, "community", str(community_id)), name=check_label(label))
        self._name(db, community_id, [outcome])
        if outcome.error is not None:
            raise outcome.error
        where = {"community": community_id, "name": outcome.name, "colour": colour, "description": description}
        sql = "SELECT colour, description FROM labels WHERE community_id = %(community)s AND name = %(name)s"
        (before,) = fetch(db, sql, where)
        fetch(
            db,
            "UPDATE labels SET colour = coalesce(%(colour)s, colour),"
            " description = coalesce(%(description)s, description)"
            " WHERE community_id = %(community)s AND name = %(name)s",
            where,
        )
        (after,) = fetch(db, sql, where)
        body = {"community_id": community_id, "label": outcome.name, **before}
        undo = Undo("PUT", "/labels", body)
        subject = f"label/{outcome.name}"
        audit.record(
            db, MODULE, "label_defined", subject, community_id=community_id, before=before, after=after, undo=undo
        )

    def tell(self, community_id: int, outcomes: Iterable[Outcome]) -> None:
        """Have every process read anew what was changed; after the commit."""
        self._bus.invalidate_all(stale(community_id, outcomes))

    def forget_ended(self) -> bool:
        """Delete some labels that have ended. Returns whether there may be more."""
        with self._db.transaction() as db:
            people = fetch(
                db,
                "DELETE FROM labels_of_people WHERE (own_id, community_id, name) IN (SELECT own_id, community_id, name"
                " FROM labels_of_people WHERE expires_at <= now() LIMIT 1000) RETURNING community_id, own_id",
            )
            things = fetch(
                db,
                "DELETE FROM labels_of_things WHERE expires_at <= now() RETURNING community_id",
            )
        for community_id in {row["community_id"] for row in (*people, *things)}:
            self._bus.invalidate(CHANGES, community_id)
        return len(people) == 1000

    def _give_plainly(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> bool:
        """Give many people the same label, in so far as nothing has to be looked at for it. Returns whether all have it
        now."""
        people = _alike(outcomes) if len(outcomes) >= MANY else None
        if not people:
            return False
        wish = outcomes[0].wish
        plain = Outcome(wish, name=check_label(wish.label))
        fetch(db, "SAVEPOINT plainly")
        self._name(db, community_id, [plain])
        if plain.error:
            return False
        asked = {
            **_by(community_id),
            "name": plain.name,
            "expires_at": wish.expires_at,
            "metadata": to_json(wish.metadata),
            "ids": array_of(people),
            "wanted": len(people),
        }
        try:
            (row,) = fetch(db, GIVE_PLAINLY, asked)
        except CheckViolation:
            row = {"count": 0}
        if not row["count"]:
            fetch(db, "ROLLBACK TO SAVEPOINT plainly")
            return False
        for number in row["ids"] or people:
            each = people[number]
            each.name, each.changed, each.numbers = plain.name, True, (number,)
            each.subject_id = each.bearer = str(number)
        return bool(row["count"] == len(people))

    def _give_each(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> None:
        self._prepare(db, community_id, outcomes)
        now = datetime.now(UTC)
        for each in outcomes:
            if each.wish.expires_at is not None and each.wish.expires_at <= now:
                each.error = each.error or AlreadyOver()
        self._name(db, community_id, [each for each in outcomes if each.error is None])
        wanted = [each for each in outcomes if each.error is None]
        had = self._find_had(db, community_id, wanted)
        counts: dict[tuple[str, str], int] = {}
        for subject_type, bearer, _ in had:
            counts[subject_type, bearer] = counts.get((subject_type, bearer), 0) + 1
        for each in wanted:
            _decide(each, had, counts)
        self._give(db, community_id, [each for each in wanted if each.changed])

    def _prepare(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> None:
        """Find what is meant."""
        self._find_subjects(db, community_id, outcomes)
        checked = {label: _checked(label) for label in {each.wish.label for each in outcomes}}
        seen: set[tuple[str, str, str]] = set()
        for each in outcomes:
            found = checked[each.wish.label]
            if isinstance(found, str):
                each.name = found
            else:
                each.error = found
            if each.error is not None:
                continue
            key = each.key
            if key in seen:
                each.error = NamedTwice()
            seen.add(key)

    def _find_subjects(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> None:
        wanted: dict[SubjectType, set[str]] = {}
        for each in outcomes:
            wanted.setdefault(each.wish.subject_type, set()).add(each.wish.subject_id)
        people = find_people(db, community_id, wanted["user"]) if "user" in wanted else {}
        things = find_things(db, community_id, wanted)
        for each in outcomes:
            subject_type, subject_id = each.wish.subject_type, each.wish.subject_id
            if subject_type == "user" and (found := people.get(subject_id)):
                each.subject_id, each.bearer, each.numbers = str(found.own_id), str(found.ids[0]), found.ids
            elif (subject_type, subject_id) in things:
                each.subject_id, each.bearer = subject_id, f"{subject_type} {subject_id}"
            else:
                each.error = UnknownSubject()

    def _name(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> None:
        """Make names that are new, and refuse those that look like others."""
        looks = {name: at_a_glance(name) for name in dict.fromkeys(each.name for each in outcomes)}
        if not looks:
            return
        asked = {"community": community_id, "names": list(looks), "looks": list(looks.values())}
        known = {row["looks_like"]: row["name"] for row in fetch(db, NAMES, asked)}
        new = {name: look for name, look in looks.items() if look not in known}
        if new:
            self._check_room_for_names(db, community_id, len(new))
            fetch(db, ADD_NAMES, {**asked, "names": list(new), "looks": list(new.values())})
            known = {row["looks_like"]: row["name"] for row in fetch(db, NAMES, asked)}
        for each in outcomes:
            if known[looks[each.name]] != each.name:
                each.error = LooksLikeAnother(f"“{each.name}” looks like the label “{known[looks[each.name]]}”.")

    def _check_room_for_names(self, db: DAL, community_id: int, count: int) -> None:
        (row,) = fetch(db, "SELECT count(*) AS n FROM labels WHERE community_id = %s", (community_id,))
        if row["n"] + count <= MAX_NAMES:
            return
        # Names that nobody bears any more make room.
        fetch(
            db,
            "DELETE FROM labels d WHERE community_id = %(community)s AND colour = '' AND description = ''"
            " AND NOT EXISTS (SELECT FROM labels_of_people l WHERE (l.community_id, l.name) = (d.community_id, d.name))"
            " AND NOT EXISTS (SELECT FROM labels_of_things t"
            "  WHERE (t.community_id, t.name) = (d.community_id, d.name))",
            {"community": community_id},
        )
        (row,) = fetch(db, "SELECT count(*) AS n FROM labels WHERE community_id = %s", (community_id,))
        if row["n"] + count > MAX_NAMES:
            raise Conflict(f"A community can have {MAX_NAMES} different labels.")

    def _find_had(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> Had:
        """What the bearers have now, by type, bearer and name."""
        had: Had = {}
        people = [each for each in outcomes if each.is_of_person]
        things = {(each.wish.subject_type, each.subject_id) for each in outcomes if not each.is_of_person}
        if people:
            heads = {number: each.bearer for each in people for number in each.numbers}
            asked = {
                "community": community_id,
                "numbers": array_of(heads),
                "linked": array_of(number for each in people if len(each.numbers) > 1 for number in each.numbers),
                "names": list({each.name for each in people}),
                "room": MAX_LABELS - max(Counter(each.bearer for each in people).values()),
            }
            rows = fetch(db, HAD_BY_PEOPLE, asked)
            if any(row["is_over"] for row in rows):
                fetch(db, FORGET_ENDED_OF_PEOPLE, asked)
            for row in rows:
                if not row["is_over"]:
                    had["user", heads[row["own_id"]], row["name"]] = row
        if things:
            types, ids = zip(*things, strict=True)
            fetch(db, FORGET_ENDED_OF_THINGS, {"community": community_id})
            rows = fetch(db, HAD_BY_THINGS, {"community": community_id, "types": list(types), "ids": list(ids)})
            had |= {(row["bearer"].split()[0], row["bearer"], row["name"]): row for row in rows}
        return had

    def _give(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> None:
        for is_of_person in (True, False):
            some = [each for each in outcomes if each.is_of_person is is_of_person]
            if some:
                table = OF_PEOPLE if is_of_person else OF_THINGS
                fetch(db, GIVE.format(**table), {**_by(community_id), "wishes": _as_rows(some)})

    def _take(self, db: DAL, community_id: int, outcomes: Sequence[Outcome]) -> None:
        for is_of_person in (True, False):
            some = [each for each in outcomes if each.is_of_person is is_of_person]
            if some:
                asked = {"community": community_id, "wishes": _as_rows(some)}
                fetch(db, TAKE_FROM_PEOPLE if is_of_person else TAKE_FROM_THINGS, asked)

    def _record(self, db: DAL, community_id: int, action: str, outcomes: Sequence[Outcome]) -> None:
        """Write a change into the audit log: one label as what it was and is, many as one change of many."""
        changed = [each for each in outcomes if each.changed]
        if len(changed) == 1:
            _record_one(db, community_id, action, changed[0])
        elif changed:
            _record_many(db, community_id, action, changed)


def stale(community_id: int, outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """What is to be forgotten, by cache, once these outcomes are committed."""
    changed = [each for each in outcomes if each.changed]
    if not changed:
        return {}
    people = [f"{community_id}:{number}" for each in changed if each.is_of_person for number in each.numbers]
    things = [f"{community_id}:{each.wish.subject_type}:{each.subject_id}" for each in changed if not each.is_of_person]
    told = {LABELS: people, READS: things, CHANGES: [str(community_id)]}
    return {cache: keys for cache, keys in told.items() if keys}


def _decide(each: Outcome, had: Had, counts: dict[tuple[str, str], int]) -> None:
    """Whether a label may be given, and is not there just so."""
    each.before = had.get(each.key)
    if each.before is not None:
        now = (each.before["expires_at"], each.before["metadata"])
        each.changed = now != (each.wish.expires_at, each.wish.metadata)
        # On the account that has it, so that a person never has it twice.
        each.subject_id = _account_of(each.before)
        return
    bearer = each.wish.subject_type, each.bearer
    if counts.get(bearer, 0) >= MAX_LABELS:
        each.error = TooManyLabels()
        return
    counts[bearer] = counts.get(bearer, 0) + 1
    each.changed = True


def _account_of(had: Mapping[str, Any]) -> str:
    """Which account, or thing, a label that was found is on."""
    return str(had["own_id"]) if "own_id" in had else str(had["subject_id"])


def _as_rows(outcomes: Iterable[Outcome]) -> str:
    """Wishes as one parameter; a thousand of them as arrays in a statement take PostgreSQL long to read."""
    return to_json(
        [
            {
                "subject_type": each.wish.subject_type,
                "subject_id": each.subject_id,
                "name": each.name,
                "expires_at": each.wish.expires_at,
                "metadata": each.wish.metadata,
            }
            for each in outcomes
        ]
    )


def _alike(outcomes: Sequence[Outcome]) -> dict[int, Outcome] | None:
    """Who is to get a label, by number, if each of them is named by it, once, and nothing else is asked for."""
    first = outcomes[0].wish
    label, expires_at, metadata = first.label, first.expires_at, first.metadata
    if isinstance(_checked(label), WaddleBotError) or (expires_at and expires_at <= datetime.now(UTC)):
        return None
    people: dict[int, Outcome] = {}
    for each in outcomes:
        wish = each.wish
        if wish.label != label or wish.expires_at != expires_at or wish.metadata != metadata:
            return None
        if wish.subject_type != "user" or not is_number(wish.subject_id):
            return None
        people[int(wish.subject_id)] = each
    return people if len(people) == len(outcomes) else None


def _by(community_id: int) -> dict[str, Any]:
    """Where labels are given, and by whom."""
    who = audit.who_acts()
    return {"community": community_id, "by": who.account if who else MODULE, "by_id": who.own_id if who else None}


def _checked(label: str) -> str | WaddleBotError:
    try:
        return check_label(label)
    except Invalid as err:
        return err


def _as_item(each: Outcome) -> dict[str, Any]:
    return {"label": each.name, "subject_type": each.wish.subject_type, "subject_id": each.subject_id}


def _as_items(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The same of many, named once where they all have one label: a thousand names more would take long to write."""
    kinds = {(each.name, each.wish.subject_type) for each in outcomes}
    if len(kinds) > 1:
        return {"items": [_as_item(each) for each in outcomes]}
    ((name, subject_type),) = kinds
    return {"label": name, "subject_type": subject_type, "subject_ids": [each.subject_id for each in outcomes]}


def _as_it_was(each: Outcome) -> dict[str, Any]:
    assert each.before is not None
    return {**_as_item(each), **_state(each.before["expires_at"], each.before["metadata"])}


def _state(expires_at: datetime | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"expires_at": expires_at, "metadata": dict(metadata or {})}


def _record_one(db: DAL, community_id: int, action: str, each: Outcome) -> None:
    before = _state(each.before["expires_at"], each.before["metadata"]) if each.before else None
    given = action == "label_given"
    after = _state(each.wish.expires_at, each.wish.metadata) if given else None
    item = {**_as_item(each), "community_id": community_id}
    undo = Undo("POST", "/labels/apply", {**item, **before}) if before else Undo("POST", "/labels/remove", item)
    subject = f"label/{each.wish.subject_type}/{each.subject_id}/{each.name}"
    audit.record(db, MODULE, action, subject, community_id=community_id, before=before, after=after, undo=undo)


def _record_many(db: DAL, community_id: int, action: str, changed: Sequence[Outcome]) -> None:
    """One entry for all. What was there before with another end is not taken back by one call, so neither is this."""
    undo = None
    if action == "label_taken":
        undo = Undo("POST", "/labels/apply", {"community_id": community_id, "items": [_as_it_was(e) for e in changed]})
    elif not any(each.before for each in changed):
        undo = Undo("POST", "/labels/remove", {"community_id": community_id, **_as_items(changed)})
    after = {"labels": len(changed)}
    audit.record(
        db, MODULE, f"{action}_to_many", f"labels/{new_id()}", community_id=community_id, after=after, undo=undo
    )


def count_labels(rows: Collection[Outcome]) -> dict[str, int]:
    """How many wishes ended how, by `changed`, `unchanged` and the codes of errors."""
    counts: dict[str, int] = {}
    for each in rows:
        end = each.error.code if each.error else "changed" if each.changed else "unchanged"
        counts[end] = counts.get(end, 0) + 1
    return counts
