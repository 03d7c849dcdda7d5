"""!inventory: words in, a line of chat out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from waddlebot.base.chat import count_of, parse_command, shorten, without_brackets
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
        item_name, description, *words = without_brackets([item_name, description, *labels])
        self._check_quotes(call, [item_name, description, *words])
        item = self._inventory.add(
            call.db, call.community_id, item_name, description, _split_labels(words), by=call.user_name
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
        lent = f" {item.checked_out_to} still has it." if item.is_checked_out else ""
        return f"Deleted “{item.item_name}”.{lent}"

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
        where = f"{stats.available} available, {stats.checked_out} checked out"
        return f"{count_of(stats.total, 'item')}: {where}{labels}{lent}."

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

    def _check_quotes(self, call: Call, words: Sequence[str]) -> None:
        """Ask whoever typed three words without quotes: is `Blue Sword shiny` a Blue or a Blue Sword?

        Whoever uses a label that others have means just that.
        """
        line = parse_command(call.payload.trigger.raw)
        # What another command made of it has its words where they belong.
        is_typed = line is not None and line.rest.split() == call.args
        if not is_typed or len(words) != 3 or "," in words[2] or max(map(len, words)) > SHOWN_NAME_CHARS:
            return
        first, second, third = words
        if not self._inventory.is_label(call.db, call.community_id, words[2]):
            raise UsageError(
                f'Is it !inventory add "{first} {second}" {third}'
                f' or !inventory add "{first}" "{second}" {third}, with {third} as its label? Quotes tell me.'
            )


def _split_labels(words: Sequence[str]) -> Sequence[str]:
    """`weapons,rare` and `weapons, rare`. Words without a comma are a description whose quotes were forgotten."""
    if any("," not in (before[-1:], after[:1]) for before, after in pairwise(words)):
        raise UsageError(
            'Usage: !inventory add <item_name> <description> [labels] – for example "Blue Sword" "A gift" a,b'
        )
    return " ".join(words).split(",")


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
    return f"{count_of(page.total, 'item')}: {names}{more}"
