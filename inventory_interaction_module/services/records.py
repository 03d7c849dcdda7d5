"""What of the inventory a community can carry away, and where people stand in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.data.database import fetch
from waddlebot.module.people import IN_COMMUNITY, Personal, is_named
from waddlebot.module.portable import Item, Part

from .inventory_service import MAX_DESCRIPTION_CHARS, MAX_LABEL_CHARS, MAX_NAME_CHARS, InventoryService, item_key

BY = "portal"
LENT_TO, BACK_FROM = "(details->>'to')", "(details->>'had_it')"
Label = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LABEL_CHARS)]


class InventoryItem(Item):
    """An item. Who has it at the moment stays behind: the name means nobody elsewhere."""

    kind: Literal["item"] = "item"
    item_name: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS)]
    description: Annotated[str, StringConstraints(max_length=MAX_DESCRIPTION_CHARS)] = ""
    labels: list[Label] = Field(default_factory=list, max_length=100)


def item_part(inventory: InventoryService) -> Part[InventoryItem]:
    def export(db: DAL, community_id: int) -> list[InventoryItem]:
        rows = fetch(
            db,
            "SELECT item_name, description, ARRAY(SELECT label FROM inventory_item_labels l WHERE l.item_id = i.id"
            " ORDER BY l.id) AS labels FROM inventory_items i WHERE community_id = %s ORDER BY item_key",
            (community_id,),
        )
        return [InventoryItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: InventoryItem, known: InventoryItem | None) -> None:
        if known is None:
            inventory.add(db, community_id, item.item_name, item.description, item.labels, by=BY)
        else:
            inventory.change(db, community_id, item.item_name, item.description, item.labels, by=BY)

    return Part(
        InventoryItem,
        lambda item: item_key(item.item_name),
        export,
        put,
        tables=("inventory_items", "inventory_item_labels"),
    )


PEOPLE = [
    Personal(
        "inventory_items",
        where=f"checked_out_to_id = ANY(%(own_ids)s) OR checked_out_to_id IS NULL AND {is_named('checked_out_to')}",
        # It is still out; only that it is with them is forgotten.
        become="checked_out_to = '•', checked_out_to_id = NULL",
        within=IN_COMMUNITY,
        shown="community_id, item_name, checked_out_to, checked_out_at",
    ),
    Personal(
        "inventory_items",
        where=f"created_by_id = ANY(%(own_ids)s) OR created_by_id IS NULL AND {is_named('created_by')}",
        become="created_by = '', created_by_id = NULL",
        within=IN_COMMUNITY,
        shown="community_id, item_name, created_by, created_at",
    ),
    Personal(
        "inventory_activity",
        where=f"performed_by_id = ANY(%(own_ids)s) OR performed_by_id IS NULL AND {is_named('performed_by')}",
        become="performed_by = '', performed_by_id = NULL",
        within=IN_COMMUNITY,
        mentions=("details",),
        shown="community_id, action, performed_by, details, created_at",
    ),
    Personal(
        "inventory_activity",
        where=f"holder_id = ANY(%(own_ids)s) OR holder_id IS NULL AND ({is_named(LENT_TO)} OR {is_named(BACK_FROM)})",
        become="holder_id = NULL, details = details - '{to,had_it}'::text[]",
        within=IN_COMMUNITY,
        shown="community_id, action, details, created_at",
    ),
]
