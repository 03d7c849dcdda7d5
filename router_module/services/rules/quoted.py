"""What modules bring into chat and onto overlays from elsewhere, such as titles and names: it keeps to the rules of a
channel as what people say there does (contracts: What text is). Whose responses have such texts says `quotes` in its
manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from waddlebot.base.contracts import OVERLAY_SOURCES, ModuleResponse
from waddlebot.base.manifest import find_manifest

from .filters import Line
from .rule_book import RuleBook

NOT_SAID = "A rule of this channel is against a word in that, so it is not said here."
# What of a response is no text to be read.
UNREAD = frozenset({"media_type", "media_url", "artwork_url", "track_id", "player", "style", "service", "kind"})


def has_quotes(module_name: str) -> bool:
    """Whether a module brings texts from elsewhere."""
    manifest = find_manifest(module_name)
    return manifest is not None and manifest.quotes


def is_against_rules(book: RuleBook, community_id: int, entity_id: str, text: str) -> bool:
    """Whether nobody would be let say this in a channel, or in a community as a whole."""
    hits = book.hits_at(community_id, entity_id, Line(text))
    return any(rule.action in ("warn", "block") for rule in hits.rules)


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
