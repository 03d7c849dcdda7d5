"""The string rules that hold at an entity, and what modules listen for there, compiled together and at hand. Compiling
happens beside the messages, not before one.

A process's first message of a community waits for its rules. After that a change is compiled in another thread while
the rules as they were still serve; the process that took the change has it compiled before it says so.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Any, Literal
from weakref import WeakValueDictionary

from pydal import DAL
from waddlebot.base.contracts import Level
from waddlebot.base.errors import WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch

from ..catalogue.cache_manager import Place
from .escalation_steps import STEPS, Step
from .filters import USUAL, Filter, Line, make_filter
from .listeners import MENTION, Listening, list_listeners, pattern_of
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
    pattern: Pattern | Filter
    action: Action
    priority: int
    # Empty: everywhere in its community.
    entity_ids: frozenset[str] = frozenset()
    command: str = ""
    parameters: tuple[str, ...] = ()
    webhook_url: str = ""
    message: str = ""
    # Warn and block leave whoever has this level alone; None: nobody.
    exempt_level: Level | None = None
    # Who has one of these is not warned or blocked.
    exempt_labels: frozenset[str] = frozenset()
    # What becomes of who breaks it again and again.
    escalation: tuple[Step, ...] = ()

    def exempts(self, labels: Iterable[str]) -> bool:
        return bool(self.exempt_labels) and not self.exempt_labels.isdisjoint(labels)

    @property
    def order(self) -> tuple[int, int]:
        return self.priority, self.id

    def holds_at(self, entity_id: str, parent: str | None = None) -> bool:
        """In a thread what holds in its channel, too."""
        return not self.entity_ids or entity_id in self.entity_ids or parent in self.entity_ids


@dataclass(frozen=True, slots=True)
class Hits:
    """What a text hits: rules, lowest priority number first, and what modules listen for."""

    rules: list[StringRule] = field(default_factory=list)
    listening: list[Listening] = field(default_factory=list)


NOTHING = Hits()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in their order and then what is listened for, compiled together; filters and mentions have nothing to
    compile."""

    rules: list[StringRule] = field(default_factory=list)
    # Each with what it asks for.
    filters: list[tuple[StringRule, Filter]] = field(default_factory=list)
    listening: list[Listening] = field(default_factory=list)
    mentions: list[Listening] = field(default_factory=list)
    matcher: Matcher = field(default_factory=lambda: Matcher([]))

    @classmethod
    def compiled(cls, rules: Sequence[StringRule], listening: Sequence[Listening] = ()) -> RuleSet:
        if not rules and not listening:
            return EMPTY
        ordered = sorted(rules, key=lambda rule: rule.order)
        filters = [(rule, rule.pattern) for rule in ordered if isinstance(rule.pattern, Filter)]
        searched = [(rule, rule.pattern) for rule in ordered if isinstance(rule.pattern, Pattern)]
        texts = [each for each in listening if each.match != MENTION]
        mentions = [each for each in listening if each.match == MENTION]
        patterns = (*(pattern for _, pattern in searched), *(pattern_of(each.match, each.pattern) for each in texts))
        return cls([rule for rule, _ in searched], filters, texts, mentions, _matcher(patterns))

    @property
    def size(self) -> int:
        return len(self.rules) + len(self.filters) + len(self.listening)

    def hits(self, line: Line, entity_id: str, parent: str | None = None) -> Hits:
        found = self.matcher.match(line.text) if self.rules or self.listening else []
        filtered = [rule for rule, filter_ in self.filters if filter_.hits(line)] if self.filters else []
        if not found and not filtered:
            return NOTHING
        searched = [self.rules[at] for at in found if at < len(self.rules)]
        listening = [self.listening[at - len(self.rules)] for at in found if at >= len(self.rules)]
        rules = heapq.merge(searched, filtered, key=lambda rule: rule.order)
        return Hits([rule for rule in rules if rule.holds_at(entity_id, parent)], listening)


EMPTY = RuleSet()
# Most communities have no rules and the same modules; theirs is one matcher.
_matchers: WeakValueDictionary[tuple[Pattern, ...], Matcher] = WeakValueDictionary()


def _matcher(patterns: tuple[Pattern, ...]) -> Matcher:
    made = _matchers.get(patterns)
    if made is None:
        made = _matchers[patterns] = Matcher(patterns)
    return made


# `match_count` may be ahead where the text did not ask for it before.
READ_COUNT = "SELECT greatest(said_count, match_count) + 1 AS count FROM stringmatch WHERE id = %(rule)s"
COUNT_HIT = """
UPDATE stringmatch SET said_for = %(event)s,
    said_count = CASE WHEN said_for = %(event)s THEN said_count ELSE greatest(said_count, match_count) + 1 END
WHERE id = %(rule)s RETURNING said_count AS count
"""


class RuleBook:
    """Every community's rules, as this process knows them."""

    def __init__(self, db: Database, bus: Bus, log: AAALog) -> None:
        self._db = db
        self._bus = bus
        self._log = log
        # Says only whether what is in `_sets` is current; an invalidation from anywhere empties it.
        self._current: Cache[int, bool] = bus.cache(RULES, ttl_s=RULES_TTL_S)
        self._sets: OrderedDict[int, RuleSet] = OrderedDict()
        # When the reading of each set began: one that began earlier and ends later must not take its place.
        self._began: dict[int, int] = {}
        self._forgot = 0
        self._readings = count(1)
        self._compiled = 0
        # Rules that lines have hit in this process.
        self.matches = 0
        self._lock = Lock()
        self._compilers = ThreadPoolExecutor(1, "compile-rules")

    def hits(self, place: Place, line: Line, *, mentions_bot: bool = False) -> Hits:
        """What a line hits at a place: its community's rules and the fleet's, and what modules listen for in it."""
        found = self.hits_at(place.community_id, place.entity_id, line, parent=place.parent_entity_id)
        self.matches += len(found.rules)
        mentions = self._rules_of(place.community_id).mentions if mentions_bot else []
        if not mentions:
            return found
        return Hits(found.rules, sorted([*found.listening, *mentions], key=lambda each: each.order))

    def hits_at(self, community_id: int, entity_id: str, line: Line, *, parent: str | None = None) -> Hits:
        """The same of a line that mentions nobody."""
        everywhere = self._rules_of(FLEET).hits(line, entity_id, parent).rules
        own = self._rules_of(community_id).hits(line, entity_id, parent)
        if not everywhere:
            return own
        return Hits(list(heapq.merge(everywhere, own.rules, key=lambda rule: rule.order)), own.listening)

    def count_hit(self, rule_id: int, event: str, *, is_simulated: bool) -> int:
        """How often a rule was hit, this time included, for its text; the same event counts once, a simulated one not
        at all."""
        count = READ_COUNT if is_simulated else COUNT_HIT
        (row,) = self._db.statement(count, {"rule": rule_id, "event": event})
        return int(row["count"])

    def compile(self, community_id: int) -> RuleSet:
        """Read a community's rules from the primary and have them used from now on in this process."""
        return self._load(community_id, True)

    def changed(self, community_id: int) -> None:
        """Have what was changed in a community, rules or switches, hold with the next line of chat."""
        self._bus.invalidate(RULES, community_id)
        self.compile(community_id)

    def forget_all(self) -> None:
        """Have every community's rules read again before its next line of chat: what modules listen for has changed."""
        self._bus.invalidate(RULES)
        with self._lock:
            self._sets.clear()
            self._began.clear()
            self._forgot = next(self._readings)
            self._compiled = 0
        # Rules that lines have hit in this process.
        self.matches = 0

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
        began = next(self._readings)
        with self._db.transaction() if fresh else self._db.lookup() as db:
            rules = list_active_rules(db, community_id)
            listening = list_listeners(db, community_id, self._log) if community_id != FLEET else []
        made = RuleSet.compiled(rules, listening)
        with self._lock:
            known = self._sets.get(community_id)
            if began < self._began.get(community_id, self._forgot):
                return made if known is None else known
            self._compiled += made.size - self._sets.pop(community_id, EMPTY).size
            self._sets[community_id] = made
            self._began[community_id] = began
            while self._compiled > MAX_COMPILED and len(self._sets) > 1:
                forgotten, rule_set = self._sets.popitem(last=False)
                del self._began[forgotten]
                self._compiled -= rule_set.size
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
        pattern=pattern_from(row),
        action=row["action"],
        priority=row["priority"],
        entity_ids=frozenset(row["entities"] or ()),
        command=row["command_to_execute"],
        parameters=tuple(row["command_parameters"]),
        webhook_url=row["webhook_url"],
        exempt_level=Level.named(row["exempt_level"]) if row["exempt_level"] else None,
        message=row["block_message"] if row["action"] == "block" else row["warning_message"],
        exempt_labels=frozenset(row["exempt_labels"] if row["action"] in ("warn", "block") else ()),
        escalation=tuple(STEPS.validate_python(row["escalation"])) if row["escalation"] else (),
    )


def pattern_from(values: Mapping[str, Any]) -> Pattern | Filter:
    """What a rule looks for. Raises: Invalid for an allow list that is none."""
    match_type = values["match_type"]
    if match_type in USUAL:
        return make_filter(match_type, values["string"], number=values["number"], share=values["share"])
    return Pattern(values["string"], match_type, values["case_sensitive"], values["look_alikes"])
