"""Aliases over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.chat import is_prefixed, join_words
from waddlebot.base.contracts import Attributed, LevelName, Strict
from waddlebot.base.errors import Invalid, UnsupportedMediaType
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.terms import NAMES as TERMS
from waddlebot.base.terms import Cooldown, Label
from waddlebot.base.wire import parse_json, validate
from waddlebot.community.communities import community_of
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import RawRequest, endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.alias_service import CACHE, Alias, AliasService, NoSuchAlias

Text = Annotated[str, StringConstraints(max_length=20_000)]
ShortText = Annotated[str, StringConstraints(max_length=255)]
AliasId = Annotated[int, Field(ge=1, lt=2**63)]
MAY_BE_NULL = ("cooldown_exempt", "label")
CommandType = Literal["text", "action", "command"]


class AliasQuery(Page):
    """Whose aliases to list: all of a community, or with entity_id those that count there."""

    community_id: ShortText | None = None
    entity_id: ShortText | None = None


class _Meaning(Attributed):
    """What an alias stands for: `command` alone says it; the other fields say the same in parts."""

    command: Text | None = None
    command_type: CommandType | None = None
    response_text: Text | None = None
    action_command: Text | None = None
    action_parameters: list[Text] = Field(default_factory=list, max_length=100)

    def template(self) -> str | None:
        """Raises: Invalid when the fields say different things."""
        action = None
        if self.action_command is not None:
            action = " ".join(filter(None, [self.action_command.strip(), join_words(self.action_parameters)]))
        given = [each for each in (self.command, self.response_text, action) if each is not None]
        if len(given) > 1:
            raise Invalid("Give one of command, response_text and action_command.", field="command")
        if given and self.command_type and is_prefixed(given[0]) is (self.command_type == "text"):
            raise Invalid("A text does not begin with ! or #; a command or an action does.", field="command_type")
        return given[0] if given else None


class NewAlias(_Meaning):
    alias: Text
    cooldown_s: Cooldown = 0
    cooldown_person_s: Cooldown = 0
    # Whom cooldowns leave alone, that level and above; null: nobody.
    cooldown_exempt: LevelName | None = "moderator"
    level: LevelName = "member"
    label: Label | None = None
    only_live: bool = False
    community_id: int | ShortText | None = None
    entity_id: ShortText | None = None


class AliasChange(_Meaning):
    alias_id: AliasId
    alias: Text | None = None
    is_active: bool | None = None
    cooldown_s: Cooldown | None = None
    cooldown_person_s: Cooldown | None = None
    # Null is nobody here, and of `label` everybody; not the same as leaving it out.
    cooldown_exempt: LevelName | None = None
    level: LevelName | None = None
    label: Label | None = None
    only_live: bool | None = None
    community_id: int | ShortText | None = None
    entity_id: ShortText | None = None

    def terms(self) -> dict[str, Any]:
        """What is said of who may use it and when."""
        given = self.model_dump(include=self.model_fields_set & set(TERMS))
        return {name: value for name, value in given.items() if value is not None or name in MAY_BE_NULL}


class AliasRef(Attributed):
    alias_id: AliasId
    community_id: int | ShortText | None = None
    entity_id: ShortText | None = None


class AliasRefQuery(Strict):
    alias_id: AliasId | None = None
    community_id: ShortText | None = None
    entity_id: ShortText | None = None


@endpoint("POST", "/alias/create", caller=ADMINS_OR_API_USERS, area="bot", body=NewAlias)
def create_alias(new: NewAlias, caller: Account, database: Database, aliases: AliasService, bus: Bus) -> dict[str, Any]:
    """Add an alias to a community, or with entity_id to one channel of it."""
    template = new.template()
    if template is None:
        raise Invalid("command is missing.", field="command")
    with database.transaction() as db:
        community_id, entity_id = _place(db, caller, aliases, new.community_id, new.entity_id)
        terms = new.model_dump(include=set(TERMS))
        alias = aliases.add(db, community_id, new.alias, template, by=caller.name, entity_id=entity_id, terms=terms)
        remarks = aliases.remarks(db, alias)
    bus.invalidate(CACHE, community_id)
    return {"success": True, "alias": as_json(alias), "remarks": remarks}


@endpoint("GET", "/alias/list", caller=ADMINS_OR_API_USERS, area="bot", query=AliasQuery)
def list_aliases(query: AliasQuery, caller: Account, db: DAL, aliases: AliasService) -> dict[str, Any]:
    """List aliases with how often they are used."""
    community_id, entity_id = _place(db, caller, aliases, query.community_id, query.entity_id)
    aliases.uses.save()
    listed = aliases.list_aliases(db, community_id, entity_id, page=query)
    return list_answer("aliases", listed.map(as_json), query)


@endpoint("PUT", "/alias/update", caller=ADMINS_OR_API_USERS, area="bot", body=AliasChange)
def update_alias(
    change: AliasChange, caller: Account, database: Database, aliases: AliasService, bus: Bus
) -> dict[str, Any]:
    """Rename an alias, let it stand for something else, or switch it off and on."""
    template = change.template()
    with database.transaction() as db:
        alias = _access(db, caller, aliases, change)
        alias = aliases.change(
            db, alias, name=change.alias, template=template, is_active=change.is_active, terms=change.terms()
        )
        remarks = aliases.remarks(db, alias)
    bus.invalidate(CACHE, alias.community_id)
    return {"success": True, "alias": as_json(alias), "remarks": remarks}


@endpoint("DELETE", "/alias/delete", caller=ADMINS_OR_API_USERS, area="bot", query=AliasRefQuery)
def delete_alias(
    query: AliasRefQuery, request: RawRequest, caller: Account, database: Database, aliases: AliasService, bus: Bus
) -> dict[str, Any]:
    """Remove an alias, named by alias_id in a JSON body or in the query."""
    ref = _ref(query, request)
    with database.transaction() as db:
        alias = _access(db, caller, aliases, ref)
        aliases.remove(db, alias)
    bus.invalidate(CACHE, alias.community_id)
    return {"success": True, "alias": as_json(alias)}


def _ref(query: AliasRefQuery, request: RawRequest) -> AliasRef:
    value = query.model_dump(exclude_none=True)
    if request.body:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise UnsupportedMediaType()
        value = parse_json(request.body)
    ref: AliasRef = validate(AliasRef.model_validate, value)
    return ref


def _place(
    db: DAL, caller: Account, aliases: AliasService, community: int | str | None, entity: str | None
) -> tuple[int, str | None]:
    """The community, and the entity if there is one, that a request is about.

    Raises: Invalid, NotAllowed, NotFound.
    """
    if not entity:
        return community_of(db, caller, community), None
    named = parse_entity_id(entity)
    caller.check_platform(named.platform)
    entity_id = str(named)
    community_id = aliases.community_of_entity(db, entity_id)
    caller.check_community(community_id)
    if community is not None and community_of(db, caller, community) != community_id:
        raise Invalid(f"{entity_id} belongs to another community.", field="entity_id")
    return community_id, entity_id


def _access(db: DAL, caller: Account, aliases: AliasService, ref: AliasRef | AliasChange) -> Alias:
    """The alias, if the caller may change it; a community or entity that comes with it has to be the alias's.

    Raises: NoSuchAlias, NotAllowed.
    """
    alias = aliases.get(db, ref.alias_id)
    caller.check_community(alias.community_id)
    if alias.entity_id:
        caller.check_platform(parse_entity_id(alias.entity_id).platform)
    if ref.community_id is not None or ref.entity_id:
        community_id, entity_id = _place(db, caller, aliases, ref.community_id, ref.entity_id)
        if community_id != alias.community_id or alias.entity_id not in (None, entity_id or alias.entity_id):
            raise NoSuchAlias(f"There is no alias {alias.id} there.")
    return alias


def as_json(alias: Alias) -> dict[str, Any]:
    average = alias.average_time_ms
    return {
        "id": alias.id,
        "alias": alias.name.name,
        "prefix": alias.name.prefix,
        "command": alias.template.text,
        "command_type": "command" if alias.template.line else "text",
        "community_id": alias.community_id,
        "entity_id": alias.entity_id,
        "created_by": alias.created_by,
        "usage_count": alias.usage_count,
        "last_used": alias.last_used,
        "average_time_ms": round(average, 3) if average is not None else None,
        "is_active": alias.is_active,
        **alias.terms,
        "created_at": alias.created_at,
        "updated_at": alias.updated_at,
    }
