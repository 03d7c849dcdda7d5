"""What a module knows about somebody, and forgetting it: GET <prefix>/people/export and POST <prefix>/people/erase.

A module lists where it has people: which rows of a table are about somebody, and what becomes of them. Everything else
is here, the same for all: who is meant, one transaction, what is kept and why, and the same answer when asked again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from psycopg2.extras import execute_values
from pydal import DAL
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from ..base.contracts import OpaqueId, PlatformName, Strict, Wire
from ..base.errors import ConfigError, Conflict, Invalid
from ..base.ids import PLATFORM
from ..base.manifest import Manifest
from ..community.communities import Reference, UnknownCommunity, find_community, get_community
from ..community.consent import Consenter, ensure_user, find_user
from ..data.database import Database, fetch, fetch_one
from ..web.auth import Account

Asked = TypeVar("Asked", "PeopleQuery", "EraseRequest")

MAX_IDENTITIES = 100
MAX_EXPORTED = 10_000
# Erasing looks through whole tables, which may take longer than any other statement may.
PATIENCE = "10min"
# Shorter names are words of every language; a text that has one says nothing about whom it means.
MIN_MENTION_CHARS = 3
MENTIONS_AT_ONCE = 1000
GONE = "•"
# What stands before a colon where permissions name somebody, and is no platform.
NO_PLATFORMS = ("role", "user", "label")
# Grows when what a person is shown of themselves changes its shape.
EXPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Personal:
    """Rows of a table that are about a person.

    `where` says which, with the parameters of `Person.parameters`; `become` what they are set to, or without it they
    are deleted. `within` says which of them are a community's, as a condition with `%(community)s`; without it they are
    nobody's in particular, and erased only when somebody is forgotten everywhere. `mentions` are columns with texts of
    ours in which the person's names are blotted out, whoever they were said to.
    """

    table: str
    where: str = ""
    become: str = ""
    within: str = ""
    mentions: tuple[str, ...] = ()
    key: str = "id"
    # It is only shown; a Keeps says why.
    is_kept: bool = False
    # What an export shows of such a row, as SELECT has it.
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Keeps:
    """What is kept of somebody, and why. With a `table` and `where` it is said only if there is such a row."""

    what: str
    why: str
    table: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a request is about: their identities, our numbers for them, and their names as far as they are known."""

    identities: tuple[tuple[str, str], ...]
    own_ids: tuple[int, ...]
    names: tuple[str, ...]
    name_hashes: tuple[str, ...]

    def parameters(self, community_id: int | None) -> dict[str, Any]:
        """What conditions may name; identities are `platform:id`."""
        return {
            "own_ids": list(self.own_ids),
            "own_texts": [str(each) for each in self.own_ids],
            "identities": [f"{platform}:{id_}" for platform, id_ in self.identities],
            "platforms": sorted({platform for platform, _ in self.identities}),
            "ids": sorted({id_ for _, id_ in self.identities}),
            # Too short ones would be found in everything.
            "names": sorted({name.lower() for name in self.names if len(name) >= MIN_MENTION_CHARS}),
            "name_hashes": list(self.name_hashes),
            "community": community_id,
        }


def confined(database: Database, asked: Asked, caller: Account) -> Asked:
    """A request as somebody may make it who acts for one community: about that community. Raises: NotAllowed."""
    if caller.community_id is None:
        return asked
    return asked.model_copy(update={"community_id": get_community(database, caller, asked.community_id)})


def ids_on(platform: str) -> str:
    """The person's ids on one platform, as SQL: an array of texts."""
    return (
        f"(SELECT coalesce(array_agg(substr(i, {len(platform) + 2})), '{{}}')"
        f" FROM unnest(%(identities)s::text[]) AS i WHERE starts_with(i, '{platform}:'))::text[]"
    )


def is_named(column: str) -> str:
    """Whether a column holds one of the person's names, as SQL; by hash, which outlives the names themselves."""
    return (
        f"encode(sha256(convert_to(lower(ltrim({column}, '@')), 'UTF8')), 'hex') = ANY(%(name_hashes)s::text[])"
        f" AND {column} <> ''"
    )


def without_ids(event_id: str, *, by: str, ids: str) -> str:
    """An event's id, as SQL, or where one of the person's is a part of it, another one made of the column `by`."""
    return (
        f"CASE WHEN EXISTS (SELECT FROM unnest({ids}) AS part (p) WHERE strpos({event_id}, part.p) > 0)"
        f" THEN 'erased:' || {by} ELSE {event_id} END"
    )


IN_COMMUNITY = "community_id = %(community)s"
AT_ENTITY_OF_COMMUNITY = "entity_id IN (SELECT entity_id FROM entities WHERE community_id = %(community)s)"


def _split_identity(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    platform, _, id_ = value.partition(":")
    return {"platform": platform, "platform_user_id": id_}


class Identity(Strict):
    platform: PlatformName
    platform_user_id: OpaqueId


# `twitch:12826`, or its two parts by name.
AnyIdentity = Annotated[Identity, BeforeValidator(_split_identity)]


class PeopleQuery(Strict):
    """`identities` are `platform:platform_user_id`, with commas between."""

    identities: Annotated[
        list[AnyIdentity],
        BeforeValidator(lambda text: text.split(",") if isinstance(text, str) else text),
        Field(min_length=1, max_length=MAX_IDENTITIES),
    ]
    community_id: str | None = None


class EraseRequest(Strict):
    """`community_id` null is everywhere."""

    request_id: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    identities: list[AnyIdentity] = Field(min_length=1, max_length=MAX_IDENTITIES)
    community_id: Reference | None = None


class Kept(BaseModel):
    what: str
    why: str


class Erased(Wire):
    """How many rows of which table were deleted or emptied, and what is kept."""

    success: bool = True
    module: str
    request_id: str
    deleted: dict[str, int]
    kept: list[Kept]


class OtherRequest(Conflict):
    """That request_id was used for other people already."""

    code = "request_id_taken"


@dataclass(slots=True)
class People:
    """A module's places with people in them."""

    manifest: Manifest
    module: str
    database: Database
    personal: Sequence[Personal]
    keeps: Sequence[Keeps]
    # What a module does beside, once it is committed: empty its caches, and what is in Redis.
    forgotten: Callable[[Person], None]

    def __post_init__(self) -> None:
        erased = {each.table for each in self.personal if not each.is_kept}
        wanted = {table for table, how in self.manifest.people.items() if how == "erased"}
        if erased != wanted:
            names = ", ".join(sorted(erased ^ wanted))
            raise ConfigError(
                f"{self.module}: [people] of manifest.toml and what it erases do not agree about {names}."
            )

    def export(self, query: PeopleQuery) -> dict[str, Any]:
        """Every row about somebody."""
        items: list[dict[str, Any]] = []
        with self.database.transaction() as db:
            fetch(db, "SELECT set_config('statement_timeout', %s, true)", (PATIENCE,))
            community_id = _community(db, query.community_id)
            person = find_person(db, query.identities)
            for each in self.personal:
                if each.shown and (each.within or community_id is None):
                    rows = fetch(
                        db,
                        f"SELECT {each.shown} FROM {each.table} WHERE {_condition(each, community_id)}"
                        f" ORDER BY {each.key} LIMIT {MAX_EXPORTED}",
                        person.parameters(community_id),
                    )
                    items += [{"kind": each.table, **row} for row in rows]
        return {"success": True, "module": self.module, "version": EXPORT_VERSION, "items": items}

    def erase(self, request: EraseRequest) -> Erased:
        """Forget somebody, in one transaction. The same request again is answered the same and does nothing.

        Raises: OtherRequest; UnknownCommunity.
        """
        with self.database.transaction() as db:
            fetch(db, "SELECT set_config('statement_timeout', %s, true)", (PATIENCE,))
            lock = f"erase {self.module} {request.request_id}"
            fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (lock,))
            community_id = _community(db, request.community_id)
            before = self._find_answer(db, request, community_id)
            if before is not None:
                return before
            person = find_person(db, request.identities)
            if community_id is None:
                _remember(db, person)
            answer = Erased(
                module=self.module,
                request_id=request.request_id,
                deleted=self._erase(db, person, community_id),
                kept=self._kept(db, person, community_id),
            )
            fetch(
                db,
                "INSERT INTO erase_requests (request_id, module, id_hashes, community_id, answer)"
                " VALUES (%s, %s, %s, %s, %s)",
                (request.request_id, self.module, _hashes(request), community_id, answer.model_dump_json()),
            )
        self.forgotten(person)
        return answer

    def _find_answer(self, db: DAL, request: EraseRequest, community_id: int | None) -> Erased | None:
        row = fetch_one(
            db,
            "SELECT id_hashes, community_id, answer FROM erase_requests WHERE request_id = %s AND module = %s",
            (request.request_id, self.module),
        )
        if row is None:
            return None
        if (row["id_hashes"], row["community_id"]) != (_hashes(request), community_id):
            raise OtherRequest()
        return Erased.model_validate(row["answer"])

    def _erase(self, db: DAL, person: Person, community_id: int | None) -> dict[str, int]:
        parameters = person.parameters(community_id)
        deleted: dict[str, int] = {}
        for each in self.personal:
            if each.is_kept or (not each.within and community_id is not None):
                continue
            count = 0
            if each.where:
                condition = _condition(each, community_id)
                does = f"UPDATE {each.table} SET {each.become}" if each.become else f"DELETE FROM {each.table}"
                done = fetch_one(
                    db,
                    f"WITH done AS ({does} WHERE {condition} RETURNING 1) SELECT count(*) AS n FROM done",
                    parameters,
                )
                count += done["n"] if done else 0
            for column in each.mentions:
                count += _blot_out(db, each, column, person, community_id)
            deleted[each.table] = deleted.get(each.table, 0) + count
        return deleted

    def _kept(self, db: DAL, person: Person, community_id: int | None) -> list[Kept]:
        kept = []
        for each in self.keeps:
            if each.table:
                sql = f"SELECT EXISTS (SELECT FROM {each.table} WHERE {each.where}) AS any"
                row = fetch_one(db, sql, person.parameters(community_id))
                if row is None or not row["any"]:
                    continue
            kept.append(Kept(what=each.what, why=each.why))
        return kept


def find_person(db: DAL, identities: Sequence[Identity]) -> Person:
    """Who these identities are, also after their names were erased: by the hashes that were left then."""
    asked = tuple(dict.fromkeys((each.platform, each.platform_user_id) for each in identities))
    known = fetch(
        db,
        "SELECT i.user_id, i.name, i.display_name, u.display_name AS shown"
        " FROM unnest(%s::text[], %s::text[]) AS a (platform, platform_user_id)"
        " JOIN platform_identities i USING (platform, platform_user_id) JOIN users u ON u.id = i.user_id",
        ([platform for platform, _ in asked], [id_ for _, id_ in asked]),
    )
    erased = fetch(
        db,
        "SELECT user_id, name_hashes FROM erased_people WHERE id_hash = ANY(%s)",
        ([hash_of(f"{platform}:{id_}") for platform, id_ in asked],),
    )
    names = {name for row in known for name in (row["name"], row["display_name"], row["shown"]) if name.strip()}
    hashes = {hash_of(name.lower()) for name in names} | {each for row in erased for each in row["name_hashes"]}
    own_ids = {row["user_id"] for row in (*known, *erased)}
    return Person(asked, tuple(sorted(own_ids)), tuple(sorted(names)), tuple(sorted(hashes)))


def ensure_person(db: DAL, identity: str, *, member_of: int | None = None) -> int:
    """Our number of `platform:platform_user_id`, who is added if nobody has seen them here, and with a community is a
    member of it from now on.

    Raises: Invalid; Conflict for somebody who has asked to be forgotten.
    """
    platform, _, platform_user_id = identity.partition(":")
    if not PLATFORM.fullmatch(platform) or not platform_user_id or platform in NO_PLATFORMS:
        raise Invalid(f"{identity[:80]!r} is not a person such as twitch:12826.", field="person")
    found = find_user(db, platform, platform_user_id)
    if found is None:
        if fetch_one(db, "SELECT 1 FROM erased_people WHERE id_hash = %s LIMIT 1", (hash_of(identity),)):
            raise Conflict("This person has asked to be forgotten here.")
        found = ensure_user(db, Consenter(platform, platform_user_id, "", ""))
    if member_of is not None:
        fetch(
            db,
            "INSERT INTO community_memberships (community_id, user_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (member_of, found),
        )
    return found


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hashes(request: EraseRequest) -> list[str]:
    return sorted({hash_of(f"{each.platform}:{each.platform_user_id}") for each in request.identities})


def _community(db: DAL, reference: int | str | None) -> int | None:
    """Raises: UnknownCommunity."""
    if reference is None:
        return None
    community_id = find_community(db, reference)
    if community_id is None:
        raise UnknownCommunity(f"There is no community {str(reference)[:64]}.")
    return community_id


def _condition(each: Personal, community_id: int | None) -> str:
    return f"({each.where}) AND ({each.within})" if community_id is not None else f"({each.where})"


def _remember(db: DAL, person: Person) -> None:
    """Leave what later requests, of other modules or after a restore, find the person's rows by: hashes and numbers."""
    if person.own_ids:
        fetch(
            db,
            "INSERT INTO erased_people (id_hash, user_id, name_hashes)"
            " SELECT encode(sha256(convert_to(i.platform || ':' || i.platform_user_id, 'UTF8')), 'hex'), i.user_id, %s"
            " FROM unnest(%s::text[]) AS a (identity)"
            " JOIN platform_identities i ON i.platform || ':' || i.platform_user_id = a.identity"
            " ON CONFLICT (id_hash, user_id) DO UPDATE SET name_hashes = excluded.name_hashes",
            (list(person.name_hashes), [f"{platform}:{id_}" for platform, id_ in person.identities]),
        )


def _blot_out(db: DAL, each: Personal, column: str, person: Person, community_id: int | None) -> int:
    """Put • where a text of ours has one of the person's names or ids as a word; of JSON in strings and names only."""
    words = [*person.names, *(id_ for _, id_ in person.identities)]
    words = sorted({word for word in words if len(word) >= MIN_MENTION_CHARS}, key=len, reverse=True)
    if not words:
        return 0
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)
    within = f" AND ({each.within})" if community_id is not None else ""
    rows = fetch(
        db,
        f"SELECT {each.key} AS key, {column} AS value, pg_typeof({column})::text AS type FROM {each.table}"
        f" WHERE EXISTS (SELECT FROM unnest(%(words)s::text[]) AS w (word)"
        f"  WHERE strpos(lower({column}::text), w.word) > 0){within}",
        {"words": sorted({spelling for word in words for spelling in _as_stored(word)}), "community": community_id},
    )
    changed = [
        (row["key"], json.dumps(blotted) if row["type"] != "text" else blotted, row["type"])
        for row in rows
        if (blotted := _blotted(row["value"], pattern)) != row["value"]
    ]
    if changed:
        kind = changed[0][2]
        execute_values(
            db._adapter.cursor,
            f"UPDATE {each.table} t SET {column} = v.value::{kind} FROM (VALUES %s) AS v (key, value)"
            f" WHERE t.{each.key}::text = v.key",
            [(str(key), value) for key, value, _ in changed],
            page_size=MENTIONS_AT_ONCE,
        )
    return len(changed)


def _as_stored(word: str) -> set[str]:
    """A word as a text has it, and as JSON does, which may have escaped what is not ASCII."""
    return {word.lower(), json.dumps(word)[1:-1].lower(), json.dumps(word, ensure_ascii=False)[1:-1].lower()}


def _blotted(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(GONE, value)
    if isinstance(value, list):
        return [_blotted(each, pattern) for each in value]
    if isinstance(value, dict):
        return {pattern.sub(GONE, key): _blotted(each, pattern) for key, each in value.items()}
    return value
