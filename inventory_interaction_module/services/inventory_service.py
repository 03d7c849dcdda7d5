"""Items that a community owns: adding, lending, finding and counting them.

Each method works in the transaction that it is given and writes what it did to inventory_activity, in the same one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.base.chat import closest
from waddlebot.base.errors import Conflict, NotFound, UserError
from waddlebot.base.logs import AAALog
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, Prepared, fetch, fetch_one
from waddlebot.web.lists import Listed, Page

from .. import logging_config as actions

CACHE = "inventory"
MAX_NAME_CHARS = 255
MAX_DESCRIPTION_CHARS = 2000
MAX_LABEL_CHARS = 50
# One character may be eighteen when compared, and PostgreSQL cannot index more than about 2 700 bytes.
MAX_KEY_BYTES = 2000


def _select(where: str) -> str:
    return (
        "SELECT i.id, i.item_name, i.description, i.is_checked_out, i.checked_out_to, i.checked_out_at,"
        " i.checked_in_at, i.created_by, i.created_at, ARRAY(SELECT label FROM inventory_item_labels l"
        f" WHERE l.item_id = i.id ORDER BY l.id) AS labels FROM inventory_items i WHERE {where}"
    )


# Every command about one item begins with this.
FIND_ITEM = Prepared(
    "inventory_find_item", _select("i.community_id = %(community)s::bigint AND i.item_key = %(key)s::text")
)

Filter = Literal["all", "available", "checkedout"]
FILTERS: dict[Filter, str] = {
    "all": "",
    "available": " AND NOT i.is_checked_out",
    "checkedout": " AND i.is_checked_out",
}


class NoSuchItem(NotFound):
    """There is no such item."""

    code = "no_such_item"


class BadItem(UserError):
    """An item needs a name."""

    code = "bad_item"


@dataclass(frozen=True, slots=True)
class Item:
    id: int
    item_name: str
    description: str
    labels: list[str]
    is_checked_out: bool
    checked_out_to: str | None
    checked_out_at: datetime | None
    checked_in_at: datetime | None
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Stats:
    total: int
    available: int
    checked_out: int
    labels: list[tuple[str, int]]
    most_lent: str | None


class InventoryService:
    def __init__(self, db: Database, bus: Bus, log: AAALog, *, max_labels: int, cache_ttl_s: float) -> None:
        self._db = db
        self._log = log
        self._max_labels = max_labels
        self._stats: Cache[int, Stats] = bus.cache(CACHE, ttl_s=cache_ttl_s)

    def add(self, db: DAL, community_id: int, name: str, description: str, labels: Sequence[str], *, by: str) -> Item:
        """Raises: BadItem for a bad name, description or label; Conflict when there is one of that name."""
        name = check_text(name, "An item's name", MAX_NAME_CHARS)
        description = check_text(description, "A description", MAX_DESCRIPTION_CHARS, required=False)
        labels = self._check_labels(labels)
        row = fetch_one(
            db,
            "INSERT INTO inventory_items (community_id, item_name, item_key, description, created_by)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (community_id, item_key) DO NOTHING RETURNING id",
            (community_id, name, item_key(name), description, by),
        )
        if row is None:
            raise Conflict(f"There is already an item called “{self.get(db, community_id, name).item_name}”.")
        for label in labels:
            db.inventory_item_labels.insert(item_id=row["id"], label=label)
        self._record(db, community_id, row["id"], actions.ITEM_ADDED, by, item_name=name, labels=labels)
        return self.get(db, community_id, name)

    def check_out(self, db: DAL, community_id: int, name: str, to: str, *, by: str) -> Item:
        """Lend an item. Raises: NoSuchItem; Conflict when somebody has it, naming who."""
        to = check_text(to.lstrip("@"), "A username", MAX_NAME_CHARS)
        item = self.get(db, community_id, name)
        changed = fetch_one(
            db,
            "UPDATE inventory_items SET is_checked_out = true, checked_out_to = %s, checked_out_at = now(),"
            " updated_at = now() WHERE id = %s AND NOT is_checked_out RETURNING id",
            (to, item.id),
        )
        if changed is None:
            raise Conflict(f"“{item.item_name}” is already with {self.get(db, community_id, name).checked_out_to}.")
        self._record(db, community_id, item.id, actions.ITEM_CHECKED_OUT, by, item_name=item.item_name, to=to)
        return self.get(db, community_id, name)

    def check_in(self, db: DAL, community_id: int, name: str, *, by: str) -> tuple[Item, str]:
        """Take an item back; returns it and who had it. Raises: NoSuchItem; Conflict when it is here."""
        item = self.get(db, community_id, name)
        row = fetch_one(
            db,
            "UPDATE inventory_items i SET is_checked_out = false, checked_out_to = NULL, checked_in_at = now(),"
            " updated_at = now() FROM (SELECT id, checked_out_to FROM inventory_items WHERE id = %s FOR UPDATE) was"
            " WHERE i.id = was.id AND i.is_checked_out RETURNING was.checked_out_to",
            (item.id,),
        )
        if row is None:
            raise Conflict(f"“{item.item_name}” is not checked out.")
        had_it = str(row["checked_out_to"])
        self._record(db, community_id, item.id, actions.ITEM_CHECKED_IN, by, item_name=item.item_name, had_it=had_it)
        return self.get(db, community_id, name), had_it

    def delete(self, db: DAL, community_id: int, name: str, *, by: str) -> Item:
        """Raises: NoSuchItem."""
        item = self.get(db, community_id, name)
        db(db.inventory_items.id == item.id).delete()
        self._record(db, community_id, item.id, actions.ITEM_DELETED, by, item_name=item.item_name)
        return item

    def change_label(
        self, db: DAL, community_id: int, name: str, change: Literal["add", "remove"], label: str, *, by: str
    ) -> Item:
        """Raises: NoSuchItem; BadItem for a bad label or one too many; NotFound when the item lacks the label."""
        label = item_key(check_text(label, "A label", MAX_LABEL_CHARS))
        item = self.get(db, community_id, name)
        # One label change of an item waits for another, so that two at once cannot exceed the limit.
        fetch(db, "SELECT id FROM inventory_items WHERE id = %s FOR UPDATE", (item.id,))
        labels = self.get(db, community_id, name).labels
        if change == "remove":
            if label not in labels:
                raise NotFound(f"“{item.item_name}” has no label “{label}”.")
            db((db.inventory_item_labels.item_id == item.id) & (db.inventory_item_labels.label == label)).delete()
            self._record(db, community_id, item.id, actions.LABEL_REMOVED, by, item_name=item.item_name, label=label)
        elif label in labels:
            raise Conflict(f"“{item.item_name}” already has the label “{label}”.")
        else:
            self._check_labels([*labels, label])
            db.inventory_item_labels.insert(item_id=item.id, label=label)
            self._record(db, community_id, item.id, actions.LABEL_ADDED, by, item_name=item.item_name, label=label)
        return self.get(db, community_id, name)

    def get(self, db: DAL, community_id: int, name: str) -> Item:
        """Raises: NoSuchItem, with the name that was most likely meant."""
        check_text(name, "An item's name", MAX_NAME_CHARS)
        rows = FIND_ITEM.run(db, {"community": community_id, "key": item_key(name)})
        if rows:
            return _item(rows[0])
        known = {row.item_key: row.item_name for row in self._newest_names(db, community_id)}
        guess = closest(item_key(name), known)
        hint = f" Did you mean “{known[guess]}”?" if guess else ""
        raise NoSuchItem(f"There is no item called “{name.strip()}”.{hint}")

    def list_items(self, db: DAL, community_id: int, which: Filter, page: Page) -> Listed[Item]:
        """Items by name."""
        where = f"i.community_id = %(community)s{FILTERS[which]}"
        return self._page(db, where, {"community": community_id}, page)

    def search(self, db: DAL, community_id: int, query: str, page: Page) -> Listed[Item]:
        """Items whose name, description or labels contain the query, whatever its case."""
        query = check_text(query, "A search", MAX_NAME_CHARS)
        where = (
            "i.community_id = %(community)s AND (strpos(i.item_key, %(key)s) > 0"
            " OR strpos(lower(i.description), lower(%(query)s)) > 0"
            " OR EXISTS (SELECT 1 FROM inventory_item_labels l"
            "  WHERE l.item_id = i.id AND strpos(l.label, %(key)s) > 0))"
        )
        return self._page(db, where, {"community": community_id, "query": query, "key": item_key(query)}, page)

    def stats(self, db: DAL, community_id: int) -> Stats:
        """Counts, the most used labels and what is lent most; cached."""
        return self._stats.get(community_id, lambda _fresh: self._count(db, community_id))

    def _count(self, db: DAL, community_id: int) -> Stats:
        counts = fetch_one(
            db,
            "SELECT count(*) AS total, count(*) FILTER (WHERE is_checked_out) AS out"
            " FROM inventory_items WHERE community_id = %s",
            (community_id,),
        )
        labels = fetch(
            db,
            "SELECT l.label, count(*) AS n FROM inventory_item_labels l JOIN inventory_items i ON i.id = l.item_id"
            " WHERE i.community_id = %s GROUP BY l.label ORDER BY n DESC, l.label LIMIT 5",
            (community_id,),
        )
        lent = fetch_one(
            db,
            "SELECT i.item_name FROM inventory_activity a JOIN inventory_items i ON i.id = a.item_id"
            " WHERE a.community_id = %s AND a.action = %s GROUP BY i.id ORDER BY count(*) DESC, i.id LIMIT 1",
            (community_id, actions.ITEM_CHECKED_OUT),
        )
        assert counts is not None
        return Stats(
            total=counts["total"],
            available=counts["total"] - counts["out"],
            checked_out=counts["out"],
            labels=[(row["label"], row["n"]) for row in labels],
            most_lent=lent["item_name"] if lent else None,
        )

    def _page(self, db: DAL, where: str, parameters: dict[str, Any], page: Page) -> Listed[Item]:
        total = fetch_one(db, f"SELECT count(*) AS n FROM inventory_items i WHERE {where}", parameters)
        rows = fetch(
            db,
            _select(where) + " ORDER BY i.item_key LIMIT %(limit)s OFFSET %(offset)s",
            {**parameters, "limit": page.limit, "offset": page.offset},
        )
        return Listed([_item(row) for row in rows], total["n"] if total else 0)

    @staticmethod
    def _newest_names(db: DAL, community_id: int) -> Any:
        table = db.inventory_items
        return db(table.community_id == community_id).select(
            table.item_key, table.item_name, orderby=~table.id, limitby=(0, 500), cacheable=True
        )

    def _check_labels(self, labels: Sequence[str]) -> list[str]:
        checked = list(
            dict.fromkeys(item_key(check_text(each, "A label", MAX_LABEL_CHARS)) for each in labels if each.strip())
        )
        if len(checked) > self._max_labels:
            raise BadItem(f"An item can have {self._max_labels} labels; these are {len(checked)}.")
        return checked

    def _record(self, db: DAL, community_id: int, item_id: int, action: str, by: str, **details: Any) -> None:
        fetch(
            db,
            "INSERT INTO inventory_activity (community_id, item_id, action, performed_by, details)"
            " VALUES (%s, %s, %s, %s, %s)",
            (community_id, item_id, action, by, Json(details)),
        )
        self._log.audit(action, community=community_id, item_id=item_id)


def item_key(name: str) -> str:
    """A name as it is compared: case, Unicode form and spacing do not matter."""
    return unicodedata.normalize("NFKC", " ".join(name.split())).casefold()


def check_text(text: str, what: str, max_chars: int, *, required: bool = True) -> str:
    """Raises: BadItem."""
    text = " ".join(text.split())
    if required and not any(each.isprintable() and not each.isspace() for each in text):
        raise BadItem(f"{what} cannot be empty.")
    if len(text) > max_chars:
        raise BadItem(f"{what} can have {max_chars} characters; this has {len(text)}.")
    if max_chars <= MAX_NAME_CHARS and len(item_key(text).encode()) > MAX_KEY_BYTES:
        raise BadItem(f"{what} cannot have that many letters that stand for several.")
    return text


def _item(row: dict[str, Any]) -> Item:
    return Item(**row)
