"""Items that a community owns: adding, lending, finding and counting them.

Each method works in the transaction that it is given and writes what it did to inventory_activity, in the same one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.base.chat import closest, count_of
from waddlebot.base.errors import Conflict, NotFound, UserError
from waddlebot.base.logs import AAALog
from waddlebot.base.text import as_seen, fold
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, Prepared, fetch, fetch_one
from waddlebot.web.lists import Listed, Page

from .. import logging_config as actions

CACHE = "inventory"
MODULE = "inventory"
MAX_NAME_CHARS = 255
MAX_DESCRIPTION_CHARS = 2000
MAX_LABEL_CHARS = 50
# One character may be eighteen when compared, and PostgreSQL cannot index more than about 2 700 bytes.
MAX_KEY_BYTES = 2000


def _select(where: str) -> str:
    return (
        "SELECT i.id, i.item_name, i.description, i.is_checked_out, i.checked_out_to, i.checked_out_to_id,"
        " i.checked_out_at,"
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
    # Our number of them, where the name is known to be theirs.
    checked_out_to_id: int | None
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
            "INSERT INTO inventory_items (community_id, item_name, item_key, description, created_by, created_by_id)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (community_id, item_key) DO NOTHING RETURNING id",
            (community_id, name, item_key(name), description, by, audit.person_acting()),
        )
        if row is None:
            raise Conflict(f"There is already an item called “{self.get(db, community_id, name).item_name}”.")
        for label in labels:
            db.inventory_item_labels.insert(item_id=row["id"], label=label)
        item = self.get(db, community_id, name)
        self._record(db, community_id, actions.ITEM_ADDED, by, before=None, after=item, labels=labels)
        return item

    def change(
        self, db: DAL, community_id: int, name: str, description: str, labels: Sequence[str], *, by: str
    ) -> Item:
        """Describe and label an item anew. Raises: NoSuchItem; BadItem."""
        description = check_text(description, "A description", MAX_DESCRIPTION_CHARS, required=False)
        labels = self._check_labels(labels)
        item = self.get(db, community_id, name)
        fetch(
            db,
            "UPDATE inventory_items SET item_name = %s, description = %s, updated_at = now() WHERE id = %s",
            (check_text(name, "An item's name", MAX_NAME_CHARS), description, item.id),
        )
        fetch(db, "DELETE FROM inventory_item_labels WHERE item_id = %s", (item.id,))
        fetch(
            db,
            "INSERT INTO inventory_item_labels (item_id, label) SELECT %s, label"
            " FROM unnest(%s::text[]) WITH ORDINALITY AS l (label, n) ORDER BY n",
            (item.id, labels),
        )
        changed = self.get(db, community_id, name)
        self._record(db, community_id, actions.ITEM_CHANGED, by, before=item, after=changed)
        return changed

    def check_out(self, db: DAL, community_id: int, name: str, to: str, *, by: str) -> Item:
        """Lend an item to somebody, by a name or as `user:<number>`.

        Raises: NoSuchItem; NotFound for a number that nobody has; Conflict when somebody has it, naming who.
        """
        to, holder_id = _find_holder(db, check_text(to.lstrip("@"), "A username", MAX_NAME_CHARS))
        item = self.get(db, community_id, name)
        changed = fetch_one(
            db,
            "UPDATE inventory_items SET is_checked_out = true, checked_out_to = %s, checked_out_to_id = %s,"
            " checked_out_at = now(), updated_at = now() WHERE id = %s AND NOT is_checked_out RETURNING id",
            (to, holder_id, item.id),
        )
        if changed is None:
            raise Conflict(f"“{item.item_name}” is already with {self.get(db, community_id, name).checked_out_to}.")
        lent = self.get(db, community_id, name)
        self._record(db, community_id, actions.ITEM_CHECKED_OUT, by, before=item, after=lent, to=to)
        return lent

    def check_in(self, db: DAL, community_id: int, name: str, *, by: str) -> tuple[Item, str]:
        """Take an item back; returns it and who had it. Raises: NoSuchItem; Conflict when it is here."""
        item = self.get(db, community_id, name)
        row = fetch_one(
            db,
            "UPDATE inventory_items i SET is_checked_out = false, checked_out_to = NULL, checked_out_to_id = NULL,"
            " checked_in_at = now(), updated_at = now()"
            " FROM (SELECT id, checked_out_to, checked_out_to_id FROM inventory_items WHERE id = %s FOR UPDATE) was"
            " WHERE i.id = was.id AND i.is_checked_out RETURNING was.checked_out_to, was.checked_out_to_id",
            (item.id,),
        )
        if row is None:
            raise Conflict(f"“{item.item_name}” is not checked out.")
        had_it = str(row["checked_out_to"])
        before, after = replace(item, is_checked_out=True, **row), self.get(db, community_id, name)
        self._record(db, community_id, actions.ITEM_CHECKED_IN, by, before=before, after=after, had_it=had_it)
        return after, had_it

    def delete(self, db: DAL, community_id: int, name: str, *, by: str) -> Item:
        """Raises: NoSuchItem."""
        item = self.get(db, community_id, name)
        db(db.inventory_items.id == item.id).delete()
        self._record(db, community_id, actions.ITEM_DELETED, by, before=item, after=None)
        return item

    def change_label(
        self, db: DAL, community_id: int, name: str, change: Literal["add", "remove"], label: str, *, by: str
    ) -> Item:
        """Raises: NoSuchItem; BadItem for a bad label or one too many; NotFound when the item lacks the label."""
        label = item_key(check_text(label, "A label", MAX_LABEL_CHARS))
        item = self.get(db, community_id, name)
        # One label change of an item waits for another, so that two at once cannot exceed the limit.
        fetch(db, "SELECT id FROM inventory_items WHERE id = %s FOR UPDATE", (item.id,))
        item = self.get(db, community_id, name)
        labels = item.labels
        if change == "remove":
            if label not in labels:
                raise NotFound(f"“{item.item_name}” has no label “{label}”.")
            db((db.inventory_item_labels.item_id == item.id) & (db.inventory_item_labels.label == label)).delete()
            action = actions.LABEL_REMOVED
        elif label in labels:
            raise Conflict(f"“{item.item_name}” already has the label “{label}”.")
        else:
            self._check_labels([*labels, label])
            db.inventory_item_labels.insert(item_id=item.id, label=label)
            action = actions.LABEL_ADDED
        changed = self.get(db, community_id, name)
        self._record(db, community_id, action, by, before=item, after=changed, label=label)
        return changed

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

    def is_label(self, db: DAL, community_id: int, label: str) -> bool:
        """Whether something here has this label already."""
        sql = (
            "SELECT 1 FROM inventory_item_labels l JOIN inventory_items i ON i.id = l.item_id"
            " WHERE i.community_id = %s AND l.label = %s LIMIT 1"
        )
        return fetch_one(db, sql, (community_id, item_key(label))) is not None

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
            raise BadItem(f"An item can have {count_of(self._max_labels, 'label')}; these are {len(checked)}.")
        return checked

    def _record(
        self,
        db: DAL,
        community_id: int,
        action: str,
        by: str,
        *,
        before: Item | None,
        after: Item | None,
        **details: Any,
    ) -> None:
        """Write a change into the item's history and the audit log."""
        item = after or before
        assert item is not None
        holder_id = item.checked_out_to_id or (before.checked_out_to_id if before else None)
        details = {"item_name": item.item_name, **details}
        fetch(
            db,
            "INSERT INTO inventory_activity"
            " (community_id, item_id, action, performed_by, performed_by_id, holder_id, details)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (community_id, item.id, action, by, audit.person_acting(), holder_id, Json(details)),
        )
        audit.record(
            db,
            MODULE,
            action,
            f"item/{item.id}",
            community_id=community_id,
            before=_as_recorded(before),
            after=_as_recorded(after),
            undo=_undo(community_id, action, before, after, label=details.get("label")),
        )
        self._log.audit(action, community=community_id, item_id=item.id)


def _find_holder(db: DAL, to: str) -> tuple[str, int | None]:
    """What to call who gets an item, and our number of them: of `user:<number>`, or of a name that only one has."""
    kind, _, number = to.partition(":")
    if kind == "user" and number.isascii() and number.isdigit() and len(number) < 19:
        row = fetch_one(
            db,
            "SELECT user_id, coalesce(nullif(name, ''), nullif(display_name, ''), platform_user_id) AS name"
            " FROM platform_identities WHERE user_id = %s ORDER BY id LIMIT 1",
            (int(number),),
        )
        if row is None:
            raise NotFound(f"There is nobody known as {to}.")
        return row["name"], row["user_id"]
    rows = fetch(
        db,
        "SELECT DISTINCT user_id FROM platform_identities"
        " WHERE name_key(name) = name_key(%(to)s) OR name_key(display_name) = name_key(%(to)s) LIMIT 2",
        {"to": to},
    )
    return to, rows[0]["user_id"] if len(rows) == 1 else None


def _as_recorded(item: Item | None) -> dict[str, Any] | None:
    """An item for the audit log, in which people stand by number only."""
    if item is None:
        return None
    holder = f"user:{item.checked_out_to_id}" if item.checked_out_to_id else audit.HIDDEN
    return {
        "item_name": item.item_name,
        "description": item.description,
        "labels": item.labels,
        "checked_out_to": holder if item.is_checked_out else None,
    }


def _undo(community_id: int, action: str, before: Item | None, after: Item | None, *, label: str | None) -> Undo | None:
    """The call that takes a change back, unless it needs a name that only a number may stand for, and none is known."""
    item = after or before
    assert item is not None
    body: dict[str, Any] = {"community_id": community_id, "item_name": item.item_name}
    if action == actions.ITEM_ADDED:
        body["action"] = "delete"
    elif action == actions.ITEM_CHECKED_OUT:
        body["action"] = "checkin"
    elif action == actions.ITEM_CHECKED_IN and before and before.checked_out_to_id:
        body |= {"action": "checkout", "checked_out_to": f"user:{before.checked_out_to_id}"}
    elif action == actions.ITEM_DELETED and not item.is_checked_out:
        body |= {"action": "add", "description": item.description, "labels": item.labels}
    elif label is not None:
        body |= {
            "action": "labels",
            "label_action": "remove" if action == actions.LABEL_ADDED else "add",
            "label": label,
        }
    else:
        return None
    return Undo("POST", "/inventory", body)


def item_key(name: str) -> str:
    """A name as it is compared: case, Unicode form, spacing and what nobody sees do not matter."""
    return fold(unicodedata.normalize("NFKC", " ".join(as_seen(name).split())))


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
