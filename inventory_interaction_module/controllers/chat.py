"""!inventory: words in, a line of chat out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from waddlebot.base.chat import shorten
from waddlebot.base.errors import UsageError
from waddlebot.base.text import fold
from waddlebot.module.interaction import Call
from waddlebot.web.lists import Listed, Page

from ..services.inventory_service import CACHE, FILTERS, InventoryService, Item

SHOWN_NAME_CHARS = 40


class InventoryChat:
    def __init__(self, inventory: InventoryService) -> None:
        self._inventory = inventory

    def add(self, call: Call, item_name: str, description: str, *labels: str) -> str:
        item = self._inventory.add(
            call.db, call.community_id, item_name, description, _split_labels(labels), by=call.user_name
        )
        call.invalidate(CACHE, call.community_id)
        return f"Added “{item.item_name}”{_labels(item)}."

    def checkout(self, call: Call, item_name: str, username: str) -> str:
        item = self._inventory.check_out(call.db, call.community_id, item_name, username, by=call.user_name)
        call.invalidate(CACHE, call.community_id)
        return f"“{item.item_name}” is now with {item.checked_out_to}."

    def checkin(self, call: Call, item_name: str) -> str:
        item, had_it = self._inventory.check_in(call.db, call.community_id, item_name, by=call.user_name)
        call.invalidate(CACHE, call.community_id)
        return f"“{item.item_name}” is back from {had_it}."

    def delete(self, call: Call, item_name: str) -> str:
        item = self._inventory.delete(call.db, call.community_id, item_name, by=call.user_name)
        call.invalidate(CACHE, call.community_id)
        return f"Deleted “{item.item_name}”."

    def list(self, call: Call, which: str = "all") -> str:
        chosen = fold(which).replace("_", "").replace("-", "")
        if chosen not in FILTERS:
            raise UsageError(f"“{shorten(which, 40)}” is not a list. Usage: !inventory list [all|available|checkedout]")
        page = self._inventory.list_items(call.db, call.community_id, chosen, Page(limit=call.settings["listed"]))
        empty = {"all": "The inventory is empty.", "available": "Nothing is available."}
        return _listed(page, empty.get(chosen, "Nothing is checked out."))

    def search(self, call: Call, *query: str) -> str:
        if not query:
            raise UsageError("Usage: !inventory search <query>")
        words = " ".join(query)
        page = self._inventory.search(call.db, call.community_id, words, Page(limit=call.settings["listed"]))
        return _listed(page, f"Nothing matches “{shorten(words, SHOWN_NAME_CHARS)}”.")

    def status(self, call: Call, item_name: str) -> str:
        item = self._inventory.get(call.db, call.community_id, item_name)
        where = (
            f"with {item.checked_out_to} since {item.checked_out_at:%d %b %Y}" if item.is_checked_out else "available"
        )
        about = f" – {item.description}" if item.description else ""
        return f"“{item.item_name}” is {where}{about}{_labels(item)}."

    def stats(self, call: Call) -> str:
        stats = self._inventory.stats(call.db, call.community_id)
        labels = "; labels: " + ", ".join(f"{label} ({n})" for label, n in stats.labels) if stats.labels else ""
        lent = f"; most lent: “{stats.most_lent}”" if stats.most_lent else ""
        return f"{_items(stats.total)}: {stats.available} available, {stats.checked_out} checked out{labels}{lent}."

    def labels(self, call: Call, item_name: str, change: str, label: str) -> str:
        chosen = fold(change)
        if chosen not in ("add", "remove"):
            raise UsageError("Usage: !inventory labels <item_name> <add|remove> <label>")
        item = self._inventory.change_label(
            call.db,
            call.community_id,
            item_name,
            chosen,  # type: ignore[arg-type]
            label,
            by=call.user_name,
        )
        call.invalidate(CACHE, call.community_id)
        return f"“{item.item_name}” now has {', '.join(item.labels) if item.labels else 'no labels'}."


def _split_labels(words: Sequence[str]) -> Sequence[str]:
    """`weapons,rare` and `weapons, rare`. Words without a comma are a description whose quotes were forgotten."""
    if any("," not in (before[-1:], after[:1]) for before, after in pairwise(words)):
        raise UsageError(
            'Usage: !inventory add <item_name> <description> [labels] – for example "Blue Sword" "A gift" a,b'
        )
    return " ".join(words).split(",")


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _labels(item: Item) -> str:
    return f" ({', '.join(item.labels)})" if item.labels else ""


def _listed(page: Listed[Item], empty: str) -> str:
    if not page.rows:
        return empty
    names = ", ".join(
        shorten(item.item_name, SHOWN_NAME_CHARS) + (f" (with {item.checked_out_to})" if item.is_checked_out else "")
        for item in page.rows
    )
    more = (
        f" … and {page.total - len(page.rows)} more; !inventory search finds them"
        if page.total > len(page.rows)
        else ""
    )
    return f"{_items(page.total)}: {names}{more}"
