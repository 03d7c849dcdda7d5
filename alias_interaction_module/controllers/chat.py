"""!alias, and every alias that it made: words in, a line of chat or another command out."""

from __future__ import annotations

import time

from waddlebot.base.chat import (
    UnbalancedQuotes,
    is_prefixed,
    join_words,
    parse_command,
    rest_after,
    shorten,
)
from waddlebot.base.contracts import ModuleResponse
from waddlebot.base.errors import UsageError
from waddlebot.base.terms import USAGE, read_terms, terms_in_words
from waddlebot.base.text import fold
from waddlebot.base.wire import is_number
from waddlebot.community.live import Spot
from waddlebot.module.interaction import Call, run_command, say
from waddlebot.web.lists import Page

from ..services.alias_service import CACHE, Alias, AliasName, AliasService, Calling, find_name

# More than this is no longer one chat message; the rest is on the next page.
LISTED = 10
MOST_USED = 5
SHOWN_CHARS = 60
SET_USAGE = f"Usage: !alias set <alias_name> {USAGE}"


class AliasChat:
    def __init__(self, aliases: AliasService) -> None:
        self._aliases = aliases

    def add(self, call: Call, alias_name: str, command: str, *more: str) -> str:
        template = _template(call, [command, *more])
        alias = self._aliases.add(call.db, call.community_id, alias_name, template, by=call.user_name)
        call.invalidate(CACHE, call.community_id)
        added = f"Added {alias.name}; it stands for “{alias.template.text}”."
        return " ".join([added, *self._aliases.remarks(call.db, alias)])

    def edit(self, call: Call, alias_name: str, command: str, *more: str) -> str:
        alias = self._named(call, alias_name)
        changed = self._aliases.change(call.db, alias, template=_template(call, [command, *more]))
        call.invalidate(CACHE, call.community_id)
        said = f"Now {changed.name} stands for “{changed.template.text}”; it was “{alias.template.text}”."
        return " ".join([said, *self._aliases.remarks(call.db, changed)])

    def remove(self, call: Call, alias_name: str) -> str:
        alias = self._named(call, alias_name)
        self._aliases.remove(call.db, alias)
        call.invalidate(CACHE, call.community_id)
        return f"Removed {alias.name}; it stood for “{alias.template.text}”."

    def set(self, call: Call, alias_name: str, *terms: str) -> str:
        """Who may use an alias, when, and how long it rests then."""
        alias = self._named(call, alias_name)
        changed = self._aliases.change(call.db, alias, terms=read_terms(terms, SET_USAGE))
        call.invalidate(CACHE, call.community_id)
        return f"Set for {changed.name}: {', '.join(terms_in_words(changed.terms)) or 'for everybody, at any time'}."

    def list(self, call: Call, page: str = "1") -> str:
        if not (is_number(page, digits=5) and int(page)):
            raise UsageError("Usage: !alias list [page]")
        self._aliases.uses.save()
        offset = (int(page) - 1) * LISTED
        found = self._aliases.list_aliases(
            call.db, call.community_id, call.entity_id, page=Page(limit=LISTED, offset=offset)
        )
        if not found.total:
            return "There are no aliases here. A moderator makes one with: !alias add <alias_name> <command>"
        if not found.rows:
            raise UsageError(f"The last page is !alias list {-(-found.total // LISTED)}.")
        more = found.total - offset - len(found.rows)
        rest = f" … and {more} more: !alias list {int(page) + 1}" if more else ""
        return f"{_aliases(found.total)}: {'; '.join(map(_short, found.rows))}{rest}"

    def stats(self, call: Call, alias_name: str | None = None) -> str:
        self._aliases.uses.save()
        if alias_name is not None:
            return _in_full(self._named(call, alias_name))
        found = self._aliases.most_used(call.db, call.community_id, call.entity_id, limit=MOST_USED)
        used = [f"{each.name} ({_times(each.usage_count)})" for each in found.rows if each.usage_count]
        return f"{_aliases(found.total)}; most used: {', '.join(used) or 'none yet'}."

    def run(self, call: Call, *words: str) -> ModuleResponse:
        """Answer to an alias: say its text, or have its command run for the same caller."""
        started = time.perf_counter()
        trigger, user = call.payload.trigger, call.payload.user
        name = AliasName(trigger.prefix, fold(trigger.command))
        alias = self._aliases.called(call.db, call.community_id, call.entity_id, name)
        if alias.writes:
            call.must_write()
        spot = Spot(call.community_id, call.entity_id, user.id, user.ids)
        expanded = self._aliases.call(call.db, alias, Calling(spot, call.user_name, words, call.platform))
        took_ms = (time.perf_counter() - started) * 1e3
        call.count(lambda: self._aliases.uses.add((alias.id,), int(not alias.says_count), took_ms))
        if isinstance(expanded, str):
            return say(expanded, markup=True)
        return run_command(expanded.prefix, expanded.command, expanded.args)

    def _named(self, call: Call, alias_name: str) -> Alias:
        return self._aliases.at(call.db, call.community_id, call.entity_id, find_name(alias_name))


def _template(call: Call, words: list[str]) -> str:
    """What `!alias add name …` says after the name: one quoted word, or everything else as it was written."""
    if len(words) == 1:
        return words[0]
    if is_prefixed(words[0]):
        if len(words[0].split()) > 1:
            raise UsageError("Put quotes around the whole command, or only around its words that have spaces.")
        return join_words(words)
    return _as_written(call) or " ".join(words)


def _as_written(call: Call) -> str | None:
    """The text after the alias's name with its own spaces and quotes, unless another alias made this call."""
    line = parse_command(call.payload.trigger.raw)
    try:
        if line and line.words() == call.args:
            return rest_after(line.rest, 2)
    except UnbalancedQuotes:
        pass  # Then what was typed is another alias, whose words came out differently.
    return None


def _aliases(count: int) -> str:
    return "1 alias" if count == 1 else f"{count} aliases"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _short(alias: Alias) -> str:
    here = ", only in this channel" if alias.entity_id else ""
    off = ", switched off" if not alias.is_active else ""
    return f"{alias.name} → {shorten(alias.template.text, SHOWN_CHARS)} (used {_times(alias.usage_count)}{here}{off})"


def _in_full(alias: Alias) -> str:
    by = f" Made by {alias.created_by}." if alias.created_by else ""
    used = "It was never used."
    if alias.last_used and alias.average_time_ms is not None:
        used = (
            f"Used {_times(alias.usage_count)}, last on {alias.last_used:%d %b %Y at %H:%M} UTC;"
            f" {alias.average_time_ms:.1f} ms on average."
        )
    terms = terms_in_words(alias.terms)
    off = (" It is switched off." if not alias.is_active else "") + (f" Terms: {', '.join(terms)}." if terms else "")
    return f"Alias {alias.name} stands for “{alias.template.text}”. {used}{off}{by}"
