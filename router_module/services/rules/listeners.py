"""What modules want to hear of plain chat (contracts §6): compiled with a community's rules, so that a line that nobody
listens for costs no more than its rules do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydal import DAL
from waddlebot.base.contracts import CommandSpec, Listener, MessageType, PatternSetting
from waddlebot.base.errors import Invalid
from waddlebot.base.logs import AAALog
from waddlebot.data.database import fetch

from .string_matcher import BadPattern, Pattern, check_pattern, pattern_cost

# Of one module, in the matcher's instructions: rules see less of a long message the more there is to look for.
MAX_COST_OF_A_MODULE = 5_000
# Patterns that one setting may stand for.
MAX_PATTERNS = 20
MENTION = "mention"


@dataclass(frozen=True, slots=True)
class Listening:
    """One thing that one command listens for. `place` is the entity whose own settings it follows; None: those of the
    community."""

    command_id: int
    priority: int
    ordinal: int
    match: str
    pattern: str
    place: str | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        return self.priority, self.command_id, self.ordinal

    def told(self) -> dict[str, str]:
        """What the module is told of it: `data.listen`."""
        return {"match": self.match, "pattern": self.pattern}


def check_listeners(commands: Sequence[CommandSpec]) -> None:
    """Check what a module registers. Raises: Invalid, also BadPattern."""
    cost = 0
    for spec in commands:
        if spec.trigger_type != "command" and MessageType.CHAT_MESSAGE in spec.event_types and not spec.listen:
            raise Invalid(
                f"{spec.prefix}{spec.command}: whoever waits for chatMessage says in `listen` which lines to be called"
                " for.",
                field="listen",
            )
        for listener in spec.listen:
            texts = _texts(
                listener.pattern.default if isinstance(listener.pattern, PatternSetting) else listener.pattern
            )
            cost += _check_texts(listener, texts, field="listen")
    if cost > MAX_COST_OF_A_MODULE:
        raise Invalid(f"The regexes of `listen` together cost {cost}; at most {MAX_COST_OF_A_MODULE}.", field="listen")


def check_config(db: DAL, module_name: str, config: Mapping[str, Any]) -> None:
    """Check the patterns that a community chooses for a module. Raises: Invalid, naming the setting."""
    for row in fetch(db, "SELECT listen FROM commands WHERE module_name = %s AND listen <> '[]'", (module_name,)):
        for listener in map(Listener.model_validate, row["listen"]):
            setting = listener.pattern
            if not isinstance(setting, PatternSetting) or config.get(setting.setting) is None:
                continue
            value, field = config[setting.setting], f"config.{setting.setting}"
            texts = _texts(value)
            if not isinstance(value, str | list) or len(texts) != (1 if isinstance(value, str) else len(value)):
                raise Invalid(f"{field} is a text or a list of texts.", field=field)
            if _check_texts(listener, texts, field=field) > MAX_COST_OF_A_MODULE:
                raise Invalid(f"The regexes of {field} are too much together.", field=field)


def list_listeners(db: DAL, community_id: int, log: AAALog) -> list[Listening]:
    """What is listened for in a community, in the order in which it counts, by modules that are on anywhere in it."""
    rows = fetch(
        db,
        "SELECT c.id, c.module_name, c.priority, c.listen, s.entity_id,"
        " coalesce(e.config, '{}') || coalesce(s.config, '{}') AS config,"
        " coalesce(s.enabled, e.enabled, c.module_type = 'core' OR EXISTS ("
        "  SELECT 1 FROM module_switches r WHERE r.community_id = %(community)s AND r.replaced_by = c.module_name)"
        " ) AS enabled FROM commands c JOIN ("
        # Always with a row for the whole community, whether anything is said for it or not.
        "  SELECT DISTINCT module_name, NULL AS entity_id FROM commands WHERE is_active AND listen <> '[]'"
        "  UNION SELECT module_name, NULL FROM module_switches"
        "  WHERE community_id = %(community)s AND version IS NOT NULL"
        "  UNION SELECT module_name, entity_id"
        "  FROM module_switches WHERE community_id = %(community)s) p USING (module_name)"
        " LEFT JOIN module_switches s ON s.community_id = %(community)s AND s.module_name = c.module_name"
        "  AND s.entity_id IS NOT DISTINCT FROM p.entity_id"
        " LEFT JOIN module_switches e ON e.community_id = %(community)s AND e.module_name = c.module_name"
        "  AND e.entity_id IS NULL"
        " WHERE (c.is_active OR c.for_version = coalesce(s.version, e.version)) AND c.listen <> '[]'",
        {"community": community_id},
    )
    found = [each for row in rows if row["enabled"] for each in _listenings(row, log)]
    return sorted(found, key=lambda each: each.order)


def _listenings(row: Mapping[str, Any], log: AAALog) -> Iterator[Listening]:
    config = row["config"]
    for ordinal, listener in enumerate(map(Listener.model_validate, row["listen"])):
        for text in _patterns_of(listener, config):
            try:
                _check_texts(listener, [text], field="listen")
            except BadPattern as err:
                # Somebody's setting must not take a community's rules along.
                log.error("listener_left_out", module=row["module_name"], message=err.message)
                continue
            yield Listening(row["id"], row["priority"], ordinal, listener.match, text, row["entity_id"])


def _patterns_of(listener: Listener, config: Mapping[str, Any]) -> list[str]:
    if not isinstance(listener.pattern, PatternSetting):
        return [listener.pattern]
    if listener.pattern.on and config.get(listener.pattern.on) is not True:
        return []
    value = config.get(listener.pattern.setting)
    return _texts(listener.pattern.default if value is None else value)[:MAX_PATTERNS]


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def _check_texts(listener: Listener, texts: Sequence[str], *, field: str) -> int:
    """What these patterns cost together. Raises: BadPattern."""
    if listener.match == MENTION:
        return 0
    if len(texts) > MAX_PATTERNS:
        raise BadPattern(f"At most {MAX_PATTERNS} patterns.", field=field)
    cost = 0
    for text in texts:
        pattern = pattern_of(listener.match, text)
        if pattern.matches_everything:
            raise BadPattern("That would be every line.", field=field)
        try:
            check_pattern(pattern)
        except BadPattern as err:
            details = err.details
            raise BadPattern(details["reason"], position=details["position"], field=field) from err
        cost += pattern_cost(pattern)
    return cost


def pattern_of(match: str, text: str) -> Pattern:
    return Pattern(text, match)  # type: ignore[arg-type] # The listener's, checked where it is registered.
