"""What of a community's labels can be carried to another fleet: their names and looks, who has them, and groups with
their rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Colour, Strict
from waddlebot.base.text import at_a_glance
from waddlebot.data.database import fetch
from waddlebot.module.people import ensure_person
from waddlebot.module.portable import Item, Part, Unchanged
from waddlebot.web.lists import Page

from .group_service import MAX_GROUPS, MAX_PLACES, MAX_RULES, GroupService, Rule
from .label_service import LabelService, Wish
from .names import MAX_CHARS

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARS)]
ShortText = Annotated[str, StringConstraints(max_length=255)]


class LabelItem(Item):
    """A label's name and looks."""

    kind: Literal["label"] = "label"
    name: Name
    colour: Colour = ""
    description: Annotated[str, StringConstraints(max_length=500)] = ""


class GivenItem(Item):
    """A label that somebody has. Who gave it stays behind, so here it is given by the import."""

    kind: Literal["given"] = "given"
    label: Name
    person: Annotated[str, StringConstraints(min_length=3, max_length=255)]
    expires_at: datetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class RuleItem(Strict):
    label: Name
    entity_id: ShortText
    role_id: ShortText


class GroupItem(Item):
    kind: Literal["group"] = "group"
    name: Name
    entities: list[ShortText] = Field(default_factory=list, max_length=MAX_PLACES)
    rules: list[RuleItem] = Field(default_factory=list, max_length=MAX_RULES)


def parts(labels: LabelService, groups: GroupService) -> list[Part[Any]]:
    return [label_part(labels), given_part(labels), group_part(groups)]


def label_part(labels: LabelService) -> Part[LabelItem]:
    def export(db: DAL, community_id: int) -> list[LabelItem]:
        rows = fetch(
            db, "SELECT name, colour, description FROM labels WHERE community_id = %s ORDER BY name", (community_id,)
        )
        return [LabelItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: LabelItem, _known: LabelItem | None) -> None:
        labels.define(db, community_id, item.name, colour=item.colour, description=item.description)

    return Part(LabelItem, lambda item: at_a_glance(item.name), export, put, tables=("labels",))


def given_part(labels: LabelService) -> Part[GivenItem]:
    def export(db: DAL, community_id: int) -> list[GivenItem]:
        rows = fetch(
            db,
            "SELECT l.name AS label, i.platform || ':' || i.platform_user_id AS person, l.expires_at, l.metadata"
            " FROM labels_of_people l JOIN LATERAL (SELECT * FROM platform_identities i WHERE i.user_id = l.own_id"
            "  ORDER BY id LIMIT 1) i ON true"
            " WHERE l.community_id = %s AND (l.expires_at IS NULL OR l.expires_at > now()) ORDER BY 1, 2",
            (community_id,),
        )
        return [GivenItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: GivenItem, _known: GivenItem | None) -> None:
        own_id = ensure_person(db, item.person, member_of=community_id)
        wish = Wish(item.label, "user", str(own_id), item.expires_at, item.metadata)
        (outcome,) = labels.apply(db, community_id, [wish])
        if outcome.error is not None:
            raise outcome.error
        if not outcome.changed:
            raise Unchanged()

    return Part(
        GivenItem,
        lambda item: (at_a_glance(item.label), item.person),
        export,
        put,
        tables=("labels_of_people",),
    )


def group_part(groups: GroupService) -> Part[GroupItem]:
    def export(db: DAL, community_id: int) -> list[GroupItem]:
        items = []
        for row in groups.list_groups(db, community_id, Page(limit=MAX_GROUPS)).rows:
            rules = [RuleItem(**{key: each[key] for key in RuleItem.model_fields}) for each in row["rules"]]
            items.append(GroupItem(name=row["name"], entities=row["entities"], rules=rules).of_row(row["id"]))
        return items

    def put(db: DAL, community_id: int, item: GroupItem, known: GroupItem | None) -> None:
        rules = [Rule(each.label, each.entity_id, each.role_id) for each in item.rules]
        if known is None:
            groups.make(db, community_id, item.name, item.entities, rules)
        else:
            groups.change(db, known.row_id, community_id, name=None, entities=item.entities, rules=rules)

    tables = ("label_groups", "label_group_places", "label_group_rules")
    return Part(GroupItem, lambda item: at_a_glance(item.name), export, put, tables=tables)
