"""What of the aliases a community can carry away, and where people stand in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import LevelName
from waddlebot.base.terms import NAMES as TERMS
from waddlebot.base.terms import Cooldown, Label
from waddlebot.base.variables import unknown_in
from waddlebot.data.database import fetch
from waddlebot.module.people import IN_COMMUNITY, Personal, is_named
from waddlebot.module.portable import Item, Part

from .alias_service import AliasService, NoSuchEntity, find_name

BY = "portal"


class AliasItem(Item):
    kind: Literal["alias"] = "alias"
    # With its prefix.
    alias: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    command: Annotated[str, StringConstraints(max_length=20_000)]
    entity_id: str | None = None
    is_active: bool = True
    cooldown_s: Cooldown = 0
    cooldown_person_s: Cooldown = 0
    cooldown_exempt: LevelName | None = "moderator"
    level: LevelName = "member"
    label: Label | None = None
    only_live: bool = False
    # What {count} goes on from where it is made. How often it is used makes it no other alias.
    used_before: int = Field(0, ge=0, lt=2**31, exclude=True)


def alias_part(aliases: AliasService) -> Part[AliasItem]:
    def export(db: DAL, community_id: int) -> list[AliasItem]:
        rows = fetch(
            db,
            f"SELECT prefix || alias AS alias, command, entity_id, is_active, {', '.join(TERMS)} FROM alias_commands"
            " WHERE community_id = %s ORDER BY alias, entity_id NULLS FIRST",
            (community_id,),
        )
        return [AliasItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: AliasItem, known: AliasItem | None) -> None:
        if item.entity_id and aliases.community_of_entity(db, item.entity_id) != community_id:
            raise NoSuchEntity(f"{item.entity_id} is a channel of another community.")
        terms = item.model_dump(include=set(TERMS))
        if known is None:
            alias = aliases.add(
                db,
                community_id,
                item.alias,
                item.command,
                by=BY,
                entity_id=item.entity_id,
                terms=terms,
                used_before=item.used_before,
            )
        else:
            alias = aliases.exactly_at(db, community_id, item.entity_id, find_name(item.alias))
        if known is not None or not item.is_active:
            aliases.change(db, alias, template=item.command, is_active=item.is_active, terms=terms)

    return Part(
        AliasItem,
        lambda item: (str(find_name(item.alias)), item.entity_id),
        export,
        put,
        tables=("alias_commands",),
        unfilled=lambda item: unknown_in(item.command),
    )


PEOPLE = [
    Personal(
        "alias_commands",
        where=f"created_by_id = ANY(%(own_ids)s) OR created_by_id IS NULL AND {is_named('created_by')}",
        become="created_by = '', created_by_id = NULL",
        within=IN_COMMUNITY,
        shown="community_id, prefix || alias AS alias, command, created_by, created_at",
    ),
]
