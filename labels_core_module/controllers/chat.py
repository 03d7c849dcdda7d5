"""!label: words in, a line of chat out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from waddlebot.base.chat import quote_word, shorten
from waddlebot.base.errors import NotFound, UsageError
from waddlebot.base.text import as_seen
from waddlebot.community.people import find_by_name
from waddlebot.module.interaction import Call
from waddlebot.web.lists import Page

from ..services.label_service import Given, LabelService, NotLabelled, Outcome, Wish, stale
from ..services.names import check_label
from ..services.search_service import MAX_COUNTED, SearchService
from ..services.times import find_lasting, say_until

SHOWN = 15


class LabelChat:
    def __init__(self, labels: LabelService, searches: SearchService) -> None:
        self._labels = labels
        self._searches = searches

    def add(self, call: Call, who: str, label: str, lasting: str = "") -> str:
        lasts = find_lasting(lasting) if lasting else None
        if lasting and lasts is None:
            meant = quote_word(shorten(f"{label} {lasting}", 60))
            raise UsageError(f"“{shorten(lasting, 20)}” is no time, such as 30m, 12h, 7d or 2w. Is the label {meant}?")
        ends = datetime.now(UTC).replace(microsecond=0) + lasts if lasts else None
        own_id = find_member(call, who)
        wish = Wish(as_seen(label), "user", str(own_id), ends)
        (outcome,) = self._labels.apply(call.db, call.community_id, [wish])
        return f"{name_of(who)} {self._done(call, outcome, 'has', 'already has')} {quoted(outcome)}{say_until(ends)}."

    def remove(self, call: Call, who: str, label: str) -> str:
        own_id = find_member(call, who)
        (outcome,) = self._labels.remove(call.db, call.community_id, [Wish(as_seen(label), "user", str(own_id))])
        if isinstance(outcome.error, NotLabelled):
            raise NotLabelled(f"{name_of(who)} does not have {quoted(outcome)}.")
        self._done(call, outcome, "", "")
        return f"{name_of(who)} no longer has {quoted(outcome)}."

    def list(self, call: Call, who: str = "") -> str:
        own_id = find_member(call, who) if who else call.payload.user.own_id
        name = name_of(who) if who else call.user_name
        labels = self._labels.read(call.community_id, "user", str(own_id))
        return f"{name} has no labels." if not labels else f"{name} has {listed(labels)}."

    def find(self, call: Call, *labels: str) -> str:
        names = [check_label(each) for word in labels for each in as_seen(word).split(",") if each.strip()]
        if not names:
            raise UsageError("Usage: !label find <label> [label]…")
        return self._found(call, names, f"all of {', '.join(names)}" if len(names) > 1 else names[0])

    def who(self, call: Call, label: str) -> str:
        name = check_label(as_seen(label))
        return self._found(call, [name], name)

    def _found(self, call: Call, names: Sequence[str], what: str) -> str:
        found = self._searches.search(call.db, call.community_id, names, "all", "user", Page(limit=SHOWN))
        if not found.rows:
            return f"Nobody has {what}."
        people = ", ".join(shorten(row["display_name"] or row["name"] or "somebody", 40) for row in found.rows)
        more = found.total - len(found.rows)
        rest = f" … and {'at least ' if found.total >= MAX_COUNTED else ''}{more} more" if more else ""
        return f"{what}: {people}{rest}"

    def _done(self, call: Call, outcome: Outcome, changed: str, unchanged: str) -> str:
        if outcome.error is not None:
            raise outcome.error
        for cache, keys in stale(call.community_id, [outcome]).items():
            for key in keys:
                call.invalidate(cache, key)
        return changed if outcome.changed else unchanged


def find_member(call: Call, who: str) -> int:
    """Raises: NotFound."""
    name = name_of(who)
    own_id = find_by_name(call.db, name, platform=call.payload.entity.platform, community_id=call.community_id)
    if own_id is None:
        raise NotFound(f"Nobody called {shorten(name, 40)} has been heard here.")
    return own_id


def name_of(who: str) -> str:
    return who.removeprefix("@")


def quoted(outcome: Outcome) -> str:
    return f"“{outcome.name}”"


def listed(labels: Sequence[Given]) -> str:
    return ", ".join(f"{each.label}{say_until(each.expires_at)}" for each in labels)
