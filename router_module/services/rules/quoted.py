"""What modules bring into chat and onto overlays from elsewhere, such as titles and names: it keeps to the rules of a
channel as what people say there does (contracts: What text is). Whose responses have such texts says `quotes` in its
manifest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from waddlebot.base.contracts import OVERLAY_SOURCES, ModuleResponse
from waddlebot.base.manifest import Manifest, find_manifest

from .filters import Filter, Line
from .rule_book import RuleBook, StringRule

NOT_SAID = "A rule of this channel is against a word in that, so it is not said here."
# What of a response is no text to be read.
UNREAD = frozenset({"media_type", "media_url", "artwork_url", "track_id", "player", "style", "service", "kind"})

# Of modules that run, and stay what they are for as long.
_manifests: dict[str, Manifest] = {}


def has_quotes(module_name: str) -> bool:
    """Whether a module brings texts from elsewhere."""
    manifest = _manifests.get(module_name) or find_manifest(module_name)
    if manifest is None:
        return False
    _manifests[module_name] = manifest
    return manifest.quotes


def find_objection(
    book: RuleBook, community_id: int, entity_id: str, text: str, *, filters: Collection[str] = ()
) -> StringRule | None:
    """The first rule that lets nobody say this in a channel, or in a community as a whole.

    Filters are about how people write, and what we say ourselves has a link or a title in capitals where it belongs: of
    them only those that are named count.
    """
    hits = book.hits_at(community_id, entity_id, Line(text))
    return next(
        (
            rule
            for rule in hits.rules
            if rule.action in ("warn", "block")
            and (not isinstance(rule.pattern, Filter) or rule.pattern.match_type in filters)
        ),
        None,
    )


def is_against_rules(book: RuleBook, community_id: int, entity_id: str, text: str) -> bool:
    """Whether a channel, or a community as a whole, has a word in it that nobody says there."""
    return find_objection(book, community_id, entity_id, text) is not None


def within_rules(responses: Sequence[ModuleResponse], breaks: Callable[[str], bool]) -> list[ModuleResponse]:
    """Responses without the texts that break a rule: a line says so instead, a player goes on without a title, and
    anything else is not shown."""
    return [kept for each in responses if (kept := _kept(each, breaks)) is not None]


def _kept(response: ModuleResponse, breaks: Callable[[str], bool]) -> ModuleResponse | None:
    data = response.response_data
    if response.response_action == "chat":
        return _with(response, {"message": NOT_SAID}) if breaks(str(data.get("message", ""))) else response
    if response.response_action not in OVERLAY_SOURCES:
        return response
    bad = {name: "" for name, text in data.items() if name not in UNREAD and isinstance(text, str) and breaks(text)}
    if not bad:
        return response
    return _with(response, bad) if response.response_action == "media" else None


def _with(response: ModuleResponse, changes: Mapping[str, Any]) -> ModuleResponse:
    return response.model_copy(update={"response_data": {**response.response_data, **changes}})
