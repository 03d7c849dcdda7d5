"""A community's aliases: making, changing, calling and counting them.

Each method works in the transaction that it is given. What would never end is refused when it is made, and changes of
one community wait for each other, so that no two of them make a loop together. The router's own limit of steps is the
second line: a command that is uninstalled may uncover an alias of its name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydal import DAL
from waddlebot.base.chat import FULLWIDTH, closest, is_prefixed, parse_command, shorten
from waddlebot.base.errors import Conflict, NotFound, UserError
from waddlebot.base.logs import AAALog
from waddlebot.base.terms import NAMES as TERMS
from waddlebot.base.terms import USUAL
from waddlebot.base.text import as_seen, fold
from waddlebot.base.variables import MEANINGS, remark
from waddlebot.community.live import WRITING, Spot, look_up
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.data.tally import Tally
from waddlebot.web.lists import Listed, Page

from .template import Expanded, Template, Values, parse_template

# The router's cache of what can be called in a community.
CACHE = "commands"
KNOWN_FOR_S = 60
MODULE = "alias"
MAX_NAME_CHARS = 50
# The router follows at most this many steps from what was typed (contracts §3).
MAX_STEPS = 3
USED = """
UPDATE alias_commands a SET usage_count = usage_count + uses, last_used = now(), total_time_ms = total_time_ms + took_ms
FROM unnest(%(id)s::bigint[], %(uses)s::bigint[], %(took_ms)s::double precision[]) AS v (id, uses, took_ms)
WHERE a.id = v.id
"""
ALIAS_ADDED = "alias_added"
ALIAS_CHANGED = "alias_changed"
ALIAS_REMOVED = "alias_removed"


class NoSuchAlias(NotFound):
    """There is no such alias here."""

    code = "no_such_alias"


class NoSuchEntity(NotFound):
    """That is not a channel of this fleet."""

    code = "unknown_entity"


class BadName(UserError):
    """An alias needs a name."""

    code = "bad_alias_name"


class AliasExists(Conflict):
    """There is already an alias of that name."""

    code = "alias_exists"


class HidesCommand(Conflict):
    """There is a command of that name, which an alias would hide."""

    code = "hides_command"


class AliasLoop(Conflict):
    """This alias ends up calling itself. Remove one with !alias remove."""

    code = "alias_loop"


class ChainTooLong(Conflict):
    """That would take too many steps."""

    code = "alias_chain_too_long"


class TooManyAliases(Conflict):
    """This community has no room for more aliases."""

    code = "too_many_aliases"


@dataclass(frozen=True, slots=True)
class AliasName:
    """A prefix and a name, compared by full case folding."""

    prefix: str
    name: str

    def __str__(self) -> str:
        return self.prefix + self.name


@dataclass(frozen=True, slots=True)
class Calling:
    """Who calls an alias, where, and with which words."""

    spot: Spot
    user: str
    args: Sequence[str]
    platform: str


@dataclass(frozen=True, slots=True)
class Alias:
    id: int
    community_id: int
    entity_id: str | None
    name: AliasName
    template: Template
    created_by: str
    usage_count: int
    last_used: datetime | None
    total_time_ms: float
    is_active: bool
    created_at: datetime
    updated_at: datetime
    # Who may use it, when, and how long it rests then: the fields of `waddlebot.base.terms`.
    terms: Mapping[str, Any] = field(default_factory=lambda: USUAL)

    @property
    def says_count(self) -> bool:
        """Whether how often it was used is part of what it says, and so must be right to the last one."""
        return "count" in self.template.names

    @property
    def writes(self) -> bool:
        """Whether to call it needs a transaction."""
        return self.says_count or bool(self.template.names & WRITING)

    @property
    def average_time_ms(self) -> float | None:
        return self.total_time_ms / self.usage_count if self.usage_count else None


class AliasService:
    def __init__(self, db: Database, bus: Bus, log: AAALog, *, max_aliases: int) -> None:
        # Of those that do not say it themselves.
        self.uses = Tally(db, USED, "id", "uses", "took_ms")
        # What was called, by channel and name; a change empties all of its community.
        self._called: Cache[int, dict[tuple[str, AliasName], Alias]] = bus.cache(CACHE, ttl_s=KNOWN_FOR_S)
        self._log = log
        self._max_aliases = max_aliases

    def add(
        self,
        db: DAL,
        community_id: int,
        name: str,
        template: str,
        *,
        by: str,
        entity_id: str | None = None,
        terms: Mapping[str, Any] = USUAL,
        used_before: int = 0,
    ) -> Alias:
        """Make a name stand for a command or a text, in all of a community or at one entity of it.

        Raises: BadName, BadTemplate, AliasExists (saying what it stands for), HidesCommand, AliasLoop, ChainTooLong,
        TooManyAliases.
        """
        parsed_name, parsed = parse_name(name), parse_template(template)
        _lock(db, community_id)
        self._check_room(db, community_id)
        _check_no_command(db, parsed_name)
        row = fetch_one(
            db,
            "INSERT INTO alias_commands (community_id, entity_id, prefix, alias, command, created_by, created_by_id,"
            f" usage_count, {', '.join(TERMS)})"
            " VALUES (%(community)s, %(entity)s, %(prefix)s, %(name)s, %(text)s, %(by)s, %(by_id)s, %(used)s,"
            f" {', '.join(f'%({each})s' for each in TERMS)}) ON CONFLICT DO NOTHING RETURNING *",
            {
                "community": community_id,
                "entity": entity_id,
                "prefix": parsed_name.prefix,
                "name": parsed_name.name,
                "text": parsed.text,
                "by": by,
                "by_id": audit.person_acting(),
                "used": used_before,
                **USUAL,
                **terms,
            },
        )
        if row is None:
            raise _exists(db, community_id, entity_id, parsed_name)
        alias = _alias(row)
        _check_chains(db, alias)
        _record(db, ALIAS_ADDED, None, alias)
        self._log.audit(ALIAS_ADDED, community=community_id, alias_id=alias.id, alias=str(alias.name))
        return alias

    def change(
        self,
        db: DAL,
        alias: Alias,
        *,
        name: str | None = None,
        template: str | None = None,
        is_active: bool | None = None,
        terms: Mapping[str, Any] | None = None,
    ) -> Alias:
        """Rename an alias, let it stand for something else, switch it off and on, or say who may use it.

        Raises: as `add`.
        """
        new_name = None if name is None else parse_name(name)
        new_text = None if template is None else parse_template(template).text
        _lock(db, alias.community_id)
        alias = self.get(db, alias.id)  # Somebody else may have changed it while this waited.
        new_name, new_text = new_name or alias.name, new_text or alias.template.text
        active = alias.is_active if is_active is None else is_active
        _check_no_command(db, new_name)
        other = _find(db, alias.community_id, alias.entity_id, new_name)
        if other and other.id != alias.id:
            raise _exists(db, alias.community_id, alias.entity_id, new_name)
        row = fetch_one(
            db,
            "UPDATE alias_commands SET prefix = %(prefix)s, alias = %(name)s, command = %(text)s,"
            f" is_active = %(active)s, {', '.join(f'{each} = %({each})s' for each in TERMS)}, updated_at = now()"
            " WHERE id = %(id)s RETURNING *",
            {
                "prefix": new_name.prefix,
                "name": new_name.name,
                "text": new_text,
                "active": active,
                "id": alias.id,
                **alias.terms,
                **(terms or {}),
            },
        )
        if row is None:
            raise NoSuchAlias()
        changed = _alias(row)
        _check_chains(db, changed)
        _record(db, ALIAS_CHANGED, alias, changed)
        self._log.audit(ALIAS_CHANGED, community=alias.community_id, alias_id=alias.id, alias=str(changed.name))
        return changed

    def remove(self, db: DAL, alias: Alias) -> None:
        """Raises: NoSuchAlias when somebody else was faster."""
        if not db(db.alias_commands.id == alias.id).delete():
            raise NoSuchAlias()
        _record(db, ALIAS_REMOVED, alias, None)
        self._log.audit(ALIAS_REMOVED, community=alias.community_id, alias_id=alias.id, alias=str(alias.name))

    def call(self, db: DAL, alias: Alias, calling: Calling) -> Expanded | str:
        """The command to run or the text to say for somebody who typed an alias. One that says how often it was used is
        counted with it, and writes; others are for `uses`.

        Raises: MissingArgument, TooLong.
        """
        known = look_up(db, alias.template.names, calling.spot)
        if alias.says_count:
            known["count"] = str(_count_use(db, alias))
        return alias.template.expand(str(alias.name), Values(calling.user, calling.args, known, calling.platform))

    def exactly_at(self, db: DAL, community_id: int, entity_id: str | None, name: AliasName) -> Alias:
        """The alias of a community, or of an entity itself. Raises: NoSuchAlias."""
        alias = _find(db, community_id, entity_id, name)
        if alias is None:
            raise NoSuchAlias(f"There is no alias {name} there.")
        return alias

    def called(self, db: DAL, community_id: int, entity_id: str, name: AliasName) -> Alias:
        """The alias that somebody at an entity calls, as of its last change; its use may be counted later.

        Raises: NoSuchAlias.
        """
        known = self._called.get(community_id, lambda _fresh: {})
        alias = known.get((entity_id, name))
        if alias is None:
            alias = known[entity_id, name] = self.at(db, community_id, entity_id, name, only_active=True)
        return alias

    def at(self, db: DAL, community_id: int, entity_id: str, name: AliasName, *, only_active: bool = False) -> Alias:
        """The alias that counts at an entity: its own before the community's. Raises: NoSuchAlias."""
        row = fetch_one(
            db,
            "SELECT * FROM alias_commands WHERE community_id = %s AND prefix = %s AND alias = %s"
            " AND (entity_id IS NULL OR entity_id = %s) AND (is_active OR NOT %s)"
            " ORDER BY entity_id NULLS LAST LIMIT 1",
            (community_id, name.prefix, name.name, entity_id, only_active),
        )
        if row:
            return _alias(row)
        known = [str(each.name) for each in self.list_aliases(db, community_id, entity_id, page=Page(limit=1000)).rows]
        guess = closest(str(name), known)
        raise NoSuchAlias(f"There is no alias {name} here." + (f" Did you mean {guess}?" if guess else ""))

    def get(self, db: DAL, alias_id: int) -> Alias:
        """Raises: NoSuchAlias."""
        row = fetch_one(db, "SELECT * FROM alias_commands WHERE id = %s", (alias_id,))
        if row is None:
            raise NoSuchAlias(f"There is no alias {alias_id}.")
        return _alias(row)

    def list_aliases(self, db: DAL, community_id: int, entity_id: str | None = None, *, page: Page) -> Listed[Alias]:
        """A community's aliases by name; with an entity, those that count there."""
        return self._list(db, community_id, entity_id, page)

    def most_used(self, db: DAL, community_id: int, entity_id: str, *, limit: int) -> Listed[Alias]:
        return self._list(db, community_id, entity_id, Page(limit=limit), most_used_first=True)

    def remarks(self, db: DAL, alias: Alias) -> list[str]:
        """What the author of an alias may have overlooked, a sentence each."""
        remarks: list[str] = []
        remarks += remark(alias.template.unknown(), MEANINGS)
        line = alias.template.line
        if line:
            target = AliasName(line.prefix, line.command)
            if not _command_named(db, target) and not _is_alias(db, alias.community_id, target):
                remarks.append(f"There is no {target} yet.")
        return remarks

    def community_of_entity(self, db: DAL, entity_id: str) -> int:
        """Raises: NoSuchEntity."""
        row = fetch_one(db, "SELECT community_id FROM entities WHERE entity_id = %s AND is_active", (entity_id,))
        if row is None:
            raise NoSuchEntity(f"{entity_id} is not a channel of this fleet.")
        return int(row["community_id"])

    @staticmethod
    def _list(
        db: DAL, community_id: int, entity_id: str | None, page: Page, *, most_used_first: bool = False
    ) -> Listed[Alias]:
        parameters = {
            "community": community_id,
            "entity": entity_id,
            "by_use": most_used_first,
            "limit": page.limit,
            "offset": page.offset,
        }
        total = fetch_one(
            db,
            "SELECT count(*) AS n FROM alias_commands WHERE community_id = %(community)s"
            " AND (%(entity)s::text IS NULL OR entity_id IS NULL OR entity_id = %(entity)s)",
            parameters,
        )
        rows = fetch(
            db,
            "SELECT * FROM alias_commands WHERE community_id = %(community)s"
            " AND (%(entity)s::text IS NULL OR entity_id IS NULL OR entity_id = %(entity)s)"
            " ORDER BY CASE WHEN %(by_use)s THEN usage_count END DESC, alias, prefix, entity_id NULLS FIRST"
            " LIMIT %(limit)s OFFSET %(offset)s",
            parameters,
        )
        return Listed([_alias(row) for row in rows], total["n"] if total else 0)

    def _check_room(self, db: DAL, community_id: int) -> None:
        row = fetch_one(db, "SELECT count(*) AS n FROM alias_commands WHERE community_id = %s", (community_id,))
        if row and row["n"] >= self._max_aliases:
            raise TooManyAliases(f"This community has {row['n']} aliases already; remove one first.")


def parse_name(text: str) -> AliasName:
    """Read an alias's name, with its prefix or, as `!`, without. Raises: BadName."""
    text = text.strip()
    prefixed = text if is_prefixed(text) else "!" + text
    shown = shorten(text, 40)
    if as_seen(prefixed).strip() in ("!", "#", *FULLWIDTH):
        raise BadName()
    line = parse_command(prefixed)
    unprintable = any(unicodedata.category(each) == "Cc" or each == "\ufffd" for each in prefixed)
    # Whatever the router cannot read as a command could never be called.
    if line is None or unprintable or line.rest or any(each.isspace() for each in prefixed):
        if len(text) > MAX_NAME_CHARS:
            raise _too_long(text)
        raise BadName(
            f"“{shown}” cannot be a name: it begins with a letter or digit and has no spaces, quotes, ! or #."
        )
    if len(line.command) > MAX_NAME_CHARS:
        raise _too_long(line.command)
    return AliasName(line.prefix, line.command)


def find_name(text: str) -> AliasName:
    """The name that somebody asks for, whatever they typed: what cannot be a name is one that nothing has."""
    text = as_seen(text).strip()
    prefix = FULLWIDTH.get(text[:1], text[:1]) if is_prefixed(text) else ""
    return AliasName(prefix or "!", shorten(fold(text[len(prefix) :].strip()), MAX_NAME_CHARS + 1))


def _too_long(name: str) -> BadName:
    return BadName(f"An alias's name can have {MAX_NAME_CHARS} characters; this has {len(name)}.")


def _count_use(db: DAL, alias: Alias) -> int:
    row = fetch_one(
        db,
        "UPDATE alias_commands SET usage_count = usage_count + 1, last_used = now() WHERE id = %s"
        " RETURNING usage_count",
        (alias.id,),
    )
    return int(row["usage_count"]) if row else alias.usage_count + 1


def _lock(db: DAL, community_id: int) -> None:
    fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"aliases of {community_id}",))


def _exists(db: DAL, community_id: int, entity_id: str | None, name: AliasName) -> AliasExists:
    other = _find(db, community_id, entity_id, name)
    assert other is not None, "an alias that was in the way is gone, in spite of the lock"
    off = "" if other.is_active else " but is switched off"
    stands = f"{name} already stands for “{other.template.text}”{off}."
    return AliasExists(f"{stands} Change it with: !alias edit {name} <command>")


def _find(db: DAL, community_id: int, entity_id: str | None, name: AliasName) -> Alias | None:
    row = fetch_one(
        db,
        "SELECT * FROM alias_commands WHERE community_id = %s AND entity_id IS NOT DISTINCT FROM %s"
        " AND prefix = %s AND alias = %s",
        (community_id, entity_id, name.prefix, name.name),
    )
    return _alias(row) if row else None


def _is_alias(db: DAL, community_id: int, name: AliasName) -> bool:
    sql = "SELECT id FROM alias_commands WHERE community_id = %s AND prefix = %s AND alias = %s AND is_active LIMIT 1"
    return fetch_one(db, sql, (community_id, name.prefix, name.name)) is not None


def _command_named(db: DAL, name: AliasName) -> str | None:
    """The module that answers to a name."""
    row = fetch_one(
        db,
        "SELECT module_name FROM commands WHERE is_active AND prefix = %s AND command = %s"
        " ORDER BY priority, id LIMIT 1",
        (name.prefix, name.name),
    )
    return row["module_name"] if row else None


def _check_no_command(db: DAL, name: AliasName) -> None:
    # A module knows its own commands by their names alone, so #alias would be read as !alias.
    module = MODULE if name.name == MODULE else _command_named(db, name)
    if module:
        raise HidesCommand(f"{name} is a command already; choose another name.")


def _check_chains(db: DAL, changed: Alias) -> None:
    """Refuse a loop, or more steps than the router takes, wherever the changed alias counts.

    Raises: AliasLoop, ChainTooLong.
    """
    if not changed.is_active or not changed.template.line:
        return
    rows = fetch(db, "SELECT * FROM alias_commands WHERE community_id = %s AND is_active", (changed.community_id,))
    commands = {row["name"] for row in fetch(db, "SELECT prefix || command AS name FROM commands WHERE is_active")}
    aliases = [each for each in map(_alias, rows) if str(each.name) not in commands]
    name = str(changed.name)
    for targets in _targets_by_place(aliases, changed.entity_id):
        for start in (name, *targets):
            chain = _follow(start, targets)
            if name not in chain:
                continue
            if chain[-1] in chain[:-1]:
                loop = chain[chain.index(chain[-1]) :]
                raise AliasLoop(f"{' → '.join(loop)} would never end.")
            if len(chain) > MAX_STEPS + 1:
                raise ChainTooLong(f"{' → '.join(chain)} would be more than {MAX_STEPS} steps.")


def _targets_by_place(aliases: Sequence[Alias], entity_id: str | None) -> Iterator[dict[str, str | None]]:
    """What each alias runs, for each place where that may differ: an entity's own aliases go before the community's."""
    everywhere = {str(each.name): each.template.target for each in aliases if each.entity_id is None}
    places = {entity_id} if entity_id else {None, *(each.entity_id for each in aliases)}
    for place in places:
        own = {str(each.name): each.template.target for each in aliases if place and each.entity_id == place}
        yield {**everywhere, **own}


def _follow(start: str, targets: dict[str, str | None]) -> list[str]:
    """The names from a start to the end, or to the first that comes again."""
    chain = [start]
    while target := targets.get(chain[-1]):
        chain.append(target)
        if target in chain[:-1]:
            break
    return chain


def _record(db: DAL, action: str, before: Alias | None, after: Alias | None) -> None:
    """Write a change into the audit log, with how it is taken back."""
    alias = before or after
    assert alias is not None
    was = _as_recorded(before) if before else None
    now = _as_recorded(after) if after else None
    if was == now:
        return
    audit.record(
        db,
        MODULE,
        action,
        f"alias/{alias.id}",
        community_id=alias.community_id,
        before=was,
        after=now,
        undo=_undo(before, after),
    )


def _undo(before: Alias | None, after: Alias | None) -> Undo | None:
    if before is None and after is not None:
        return Undo("DELETE", f"/alias/delete?alias_id={after.id}")
    assert before is not None
    was = {"alias": str(before.name), "command": before.template.text, **before.terms}
    if after is not None:
        return Undo("PUT", "/alias/update", {"alias_id": before.id, **was, "is_active": before.is_active})
    # What is made anew is on.
    place = {"community_id": before.community_id, "entity_id": before.entity_id}
    return Undo("POST", "/alias/create", {**was, **place}) if before.is_active else None


def _as_recorded(alias: Alias) -> dict[str, Any]:
    return {
        "alias": str(alias.name),
        "command": alias.template.text,
        "entity_id": alias.entity_id,
        "is_active": alias.is_active,
        **alias.terms,
    }


def _alias(row: dict[str, Any]) -> Alias:
    return Alias(
        id=row["id"],
        community_id=row["community_id"],
        entity_id=row["entity_id"],
        name=AliasName(row["prefix"], row["alias"]),
        template=parse_template(row["command"]),
        created_by=row["created_by"],
        usage_count=row["usage_count"],
        last_used=row["last_used"],
        total_time_ms=row["total_time_ms"],
        is_active=row["is_active"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        terms={each: row[each] for each in TERMS},
    )
