"""The inventory over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import Field, StringConstraints, ValidationError
from waddlebot.base.contracts import Attributed
from waddlebot.base.errors import Invalid, WaddleBotError
from waddlebot.base.text import fold
from waddlebot.community.communities import community_of
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.bulk_service import BulkService
from ..services.inventory_service import CACHE, Filter, InventoryService, Item

MAX_CHANGES = 500
Text = Annotated[str, StringConstraints(max_length=20_000)]


class InventoryQuery(Page):
    """What to read: `list` (with filter), `search` (with query), `status` (of item_name) or `stats`."""

    action: Literal["list", "search", "status", "stats"] = "list"
    community_id: str | None = None
    filter: Literal["all", "available", "checkedout", "checked_out"] = "all"
    query: Text | None = None
    item_name: Text | None = None


class InventoryChange(Attributed):
    """What to do. `add` takes description and labels, `checkout` takes checked_out_to, `labels` takes label_action
    and label; every action takes item_name."""

    action: Literal["add", "checkout", "checkin", "delete", "labels"]
    item_name: Text
    community_id: int | str | None = None
    description: Text = ""
    labels: list[Text] = Field(default_factory=list, max_length=100)
    checked_out_to: Text | None = None
    label_action: Literal["add", "remove"] | None = None
    label: Text | None = None


@endpoint("GET", "/inventory", caller=ADMINS_OR_API_USERS, area="bot", query=InventoryQuery)
def read_inventory(query: InventoryQuery, caller: Account, db: DAL, inventory: InventoryService) -> dict[str, Any]:
    """List, search, look up or count a community's items."""
    community_id = community_of(db, caller, query.community_id)
    if query.action == "stats":
        stats = inventory.stats(db, community_id)
        labels = [{"label": label, "items": n} for label, n in stats.labels]
        return {
            "success": True,
            "stats": {
                "total": stats.total,
                "available": stats.available,
                "checked_out": stats.checked_out,
                "labels": labels,
                "most_lent": stats.most_lent,
            },
        }
    if query.action == "status":
        item = inventory.get(db, community_id, _needed(query.item_name, "item_name", "status"))
        return {"success": True, "item": as_json(item)}
    if query.action == "search":
        words = _needed(query.query, "query", "search")
        listed = inventory.search(db, community_id, words, query)
    else:
        which: Filter = "checkedout" if query.filter == "checked_out" else query.filter
        listed = inventory.list_items(db, community_id, which, query)
    return list_answer("items", listed.map(as_json), query)


@endpoint("POST", "/inventory", caller=ADMINS_OR_API_USERS, area="bot", body=InventoryChange)
def change_inventory(
    change: InventoryChange, caller: Account, database: Database, inventory: InventoryService, bus: Bus
) -> dict[str, Any]:
    """Add, lend, take back, delete or label an item."""
    with database.transaction() as db:
        community_id = community_of(db, caller, change.community_id)
        item = _apply(db, inventory, community_id, change, by=caller.name)
    bus.invalidate(CACHE, community_id)
    return {"success": True, "action": change.action, "item": as_json(item)}


class BulkChange(Attributed):
    """Changes as `POST /inventory` takes them, and as CSV whose first line names their fields; labels are separated by
    commas. Without an action it is `add`."""

    community_id: int | str | None = None
    changes: list[InventoryChange] = Field(default_factory=list, max_length=MAX_CHANGES)
    csv: Annotated[str, StringConstraints(max_length=1_000_000)] = ""


@endpoint("POST", "/inventory/bulk", caller=ADMINS_OR_API_USERS, area="bot", body=BulkChange)
def change_many(
    wanted: BulkChange,
    caller: Account,
    database: Database,
    inventory: InventoryService,
    bulk: BulkService,
    bus: Bus,
) -> dict[str, Any]:
    """Add, lend, take back, delete or label many items, and tell of each what became of it."""
    changes = [*wanted.changes, *read_csv(wanted.csv)]
    if not 1 <= len(changes) <= MAX_CHANGES:
        raise Invalid(f"changes, csv: between 1 and {MAX_CHANGES} changes together.", field="changes")
    with database.transaction() as db:
        community_id = community_of(db, caller, wanted.community_id)

    def do(change: InventoryChange) -> dict[str, Any]:
        try:
            with database.transaction() as db:
                item = _apply(db, inventory, community_id, change, by=caller.name)
        except WaddleBotError as err:
            error = {"code": err.code, "message": err.message}
            return {"success": False, "action": change.action, "item_name": change.item_name, "error": error}
        return {"success": True, "action": change.action, "item": as_json(item)}

    results = bulk.run(changes, of=lambda change: fold(change.item_name), do=do)
    bus.invalidate(CACHE, community_id)
    done = sum(each["success"] for each in results)
    return {"success": done == len(results), "done": done, "failed": len(results) - done, "results": results}


def read_csv(text: str) -> list[InventoryChange]:
    """Raises: Invalid, naming the line."""
    changes = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))), start=2):
        labels = [each.strip() for each in (row.pop("labels", None) or "").split(",") if each.strip()]
        fields = {name: value for name, value in row.items() if name and value}
        try:
            changes.append(InventoryChange.model_validate({"action": "add", **fields, "labels": labels}))
        except ValidationError as err:
            wrong = err.errors()[0]
            raise Invalid(
                f"csv, line {number}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}", field="csv"
            ) from err
    return changes


def _apply(db: DAL, inventory: InventoryService, community_id: int, change: InventoryChange, *, by: str) -> Item:
    name = change.item_name
    if change.action == "add":
        return inventory.add(db, community_id, name, change.description, change.labels, by=by)
    if change.action == "checkout":
        to = _needed(change.checked_out_to, "checked_out_to", "checkout")
        return inventory.check_out(db, community_id, name, to, by=by)
    if change.action == "checkin":
        return inventory.check_in(db, community_id, name, by=by)[0]
    if change.action == "delete":
        return inventory.delete(db, community_id, name, by=by)
    if change.label_action is None:
        raise Invalid("labels needs label_action: add or remove.", field="label_action")
    label = _needed(change.label, "label", "labels")
    return inventory.change_label(db, community_id, name, change.label_action, label, by=by)


def _needed(value: str | None, field: str, action: str) -> str:
    if value is None:
        raise Invalid(f"{action} needs {field}.", field=field)
    return value


def as_json(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "item_name": item.item_name,
        "description": item.description,
        "labels": item.labels,
        "is_checked_out": item.is_checked_out,
        "checked_out_to": item.checked_out_to,
        "checked_out_at": item.checked_out_at,
        "checked_in_at": item.checked_in_at,
        "created_by": item.created_by,
        "created_at": item.created_at,
    }
