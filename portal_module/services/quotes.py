"""Quotes on their way into the module #quote of the marketplace, whose notes are ten quotes a page (its handler.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from waddlebot.module.foreign import Remark

MODULE = "quote"
PER_PAGE = 10
MAX_QUOTES = 900


def add_quotes(notes: Sequence[Mapping[str, Any]], quotes: Sequence[str], left: list[Remark]) -> list[dict[str, Any]]:
    """The notes that are to change so that these quotes are among those there are. What has no room goes to `left`."""
    kept = {each["key"]: each["value"] for each in notes if each["kind"] == "note" and each["module_id"] == MODULE}
    if not any(each["kind"] == "installation" and each["module_id"] == MODULE for each in notes):
        left.append(Remark(f"{len(quotes)} quotes", "Install the module quote from the marketplace first."))
        return []
    count = int(kept.get("count", 0))
    pages = {key: list(value) for key, value in kept.items() if key.startswith("quotes-")}
    there = {text for page in pages.values() for text in page}
    changed = set()
    for text in dict.fromkeys(quotes):
        if text in there:
            continue
        if count >= MAX_QUOTES:
            left.append(Remark(text[:60], f"{MAX_QUOTES} quotes are the most."))
            continue
        key = f"quotes-{count // PER_PAGE}"
        pages[key] = [*pages.get(key, []), text]
        count += 1
        changed.add(key)
    made = [{"kind": "note", "module_id": MODULE, "key": key, "value": pages[key]} for key in sorted(changed)]
    return [*made, {"kind": "note", "module_id": MODULE, "key": "count", "value": count}] if made else []
