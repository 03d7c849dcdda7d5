"""The string rules that hold at an entity, compiled and at hand. Compiling happens beside the messages, not before one.

A process's first message of a community waits for its rules. After that a change is compiled in another thread while
the rules as they were still serve; the process that took the change has it compiled before it says so.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal

from pydal import DAL
from waddlebot.base.errors import WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch

from ..catalogue.cache_manager import Place
from .string_matcher import Matcher, Pattern

RULES = "string_rules"
# The rules without a community, which hold everywhere.
FLEET = 0
RULES_TTL_S = 300.0
# Rules that one process keeps compiled; with more, the communities heard of longest ago are compiled anew when needed.
MAX_COMPILED = 200_000

Action = Literal["warn", "block", "command", "webhook"]


@dataclass(frozen=True, slots=True)
class StringRule:
    """What to look for in a text, and what to do about it."""

    id: int
    pattern: Pattern
    action: Action
    priority: int
    # Empty: everywhere in its community.
    entity_ids: frozenset[str] = frozenset()
    command: str = ""
    parameters: tuple[str, ...] = ()
    webhook_url: str = ""
    message: str = ""

    @property
    def order(self) -> tuple[int, int]:
        return self.priority, self.id

    def holds_at(self, entity_id: str) -> bool:
        return not self.entity_ids or entity_id in self.entity_ids


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in their order, compiled together."""

    rules: list[StringRule] = field(default_factory=list)
    matcher: Matcher = field(default_factory=lambda: Matcher([]))

    @classmethod
    def compiled(cls, rules: list[StringRule]) -> RuleSet:
        ordered = sorted(rules, key=lambda rule: rule.order)
        return cls(ordered, Matcher([rule.pattern for rule in ordered])) if ordered else EMPTY

    def hits(self, text: str, entity_id: str) -> list[StringRule]:
        """The rules that hit, lowest priority number first."""
        if not self.rules:
            return []
        found = (self.rules[at] for at in self.matcher.match(text))
        return [rule for rule in found if rule.holds_at(entity_id)]


EMPTY = RuleSet()


class RuleBook:
    """Every community's rules, as this process knows them."""

    def __init__(self, db: Database, bus: Bus, log: AAALog) -> None:
        self._db = db
        self._log = log
        # Says only whether what is in `_sets` is current; an invalidation from anywhere empties it.
        self._current: Cache[int, bool] = bus.cache(RULES, ttl_s=RULES_TTL_S)
        self._sets: OrderedDict[int, RuleSet] = OrderedDict()
        self._compiled = 0
        self._lock = Lock()
        self._compilers = ThreadPoolExecutor(1, "compile-rules")

    def hits(self, place: Place, text: str) -> list[StringRule]:
        """The rules that a text hits at a place: its community's and the fleet's, lowest priority number first."""
        everywhere = self._rules_of(FLEET).hits(text, place.entity_id)
        own = self._rules_of(place.community_id).hits(text, place.entity_id)
        if not everywhere or not own:
            return own or everywhere
        return list(heapq.merge(everywhere, own, key=lambda rule: rule.order))

    def compile(self, community_id: int) -> RuleSet:
        """Read a community's rules from the primary and have them used from now on in this process."""
        return self._load(community_id, True)

    def counts(self) -> dict[str, int]:
        return {"communities": len(self._sets), "rules": self._compiled}

    def _rules_of(self, community_id: int) -> RuleSet:
        self._current.get(community_id, lambda fresh: self._refresh(community_id, fresh))
        found = self._sets.get(community_id)
        return self._load(community_id, True) if found is None else found

    def _refresh(self, community_id: int, fresh: bool) -> bool:
        if community_id in self._sets:
            self._compilers.submit(self._refresh_later, community_id, fresh)
        else:
            self._load(community_id, fresh)
        return True

    def _refresh_later(self, community_id: int, fresh: bool) -> None:
        try:
            self._load(community_id, fresh)
        except WaddleBotError as err:
            # The rules as they were go on serving; the next message tries again.
            self._current.drop(str(community_id))
            self._log.error("rules_not_read", community=community_id, code=err.code, message=err.message)

    def _load(self, community_id: int, fresh: bool) -> RuleSet:
        with self._db.transaction() if fresh else self._db.lookup() as db:
            rules = list_active_rules(db, community_id)
        made = RuleSet.compiled(rules)
        with self._lock:
            self._compiled += len(made.rules) - len(self._sets.pop(community_id, EMPTY).rules)
            self._sets[community_id] = made
            while self._compiled > MAX_COMPILED and len(self._sets) > 1:
                forgotten, rule_set = self._sets.popitem(last=False)
                self._compiled -= len(rule_set.rules)
                self._current.drop(str(forgotten))
        return made


def list_active_rules(db: DAL, community_id: int) -> list[StringRule]:
    rows = fetch(
        db,
        "SELECT r.*, (SELECT array_agg(entity_id) FROM stringmatch_entities WHERE stringmatch_id = r.id) AS entities"
        " FROM stringmatch r WHERE r.is_active AND r.community_id IS NOT DISTINCT FROM %s",
        (community_id or None,),
    )
    return [rule_from_row(row) for row in rows]


def rule_from_row(row: dict[str, Any]) -> StringRule:
    return StringRule(
        id=row["id"],
        pattern=Pattern(row["string"], row["match_type"], row["case_sensitive"]),
        action=row["action"],
        priority=row["priority"],
        entity_ids=frozenset(row["entities"] or ()),
        command=row["command_to_execute"],
        parameters=tuple(row["command_parameters"]),
        webhook_url=row["webhook_url"],
        message=row["block_message"] if row["action"] == "block" else row["warning_message"],
    )
