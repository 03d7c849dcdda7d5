"""Sets of filters that a community can switch on at once, after it has seen what they would have done to last week's
chat (contracts §7)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from waddlebot.base.chat import parse_command, shorten
from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import NotFound, UsageError
from waddlebot.base.text import fold
from waddlebot.data.audit import Acting, acting_as
from waddlebot.data.database import fetch

from .filters import LINKS, USUAL, Filter, Line, make_filter
from .rule_service import MAX_DRY_RUN_S, RuleService

WEEK_H = 168
MAX_EXAMPLES = 3
MAX_EXAMPLE_CHARS = 200
USAGE = "Usage: !filters preview calm|strict | use calm|strict | list"
# How a filter is set: its action, its number and its share.
Set = Mapping[str, tuple[str, int, int]]
PRESETS: Final[Mapping[str, Set]] = {
    "calm": {
        "caps": ("warn", 15, 80),
        "links": ("warn", 1, 0),
        "symbols": ("warn", 15, 60),
        "emotes": ("warn", 15, 0),
        "repeats": ("warn", 12, 0),
        "mentions": ("warn", 6, 0),
        "zalgo": ("block", 8, 0),
    },
    "strict": {
        "caps": ("block", 8, 60),
        "links": ("block", 1, 0),
        "symbols": ("block", 8, 50),
        "emotes": ("block", 6, 0),
        "length": ("block", 300, 0),
        "repeats": ("block", 6, 0),
        "mentions": ("block", 3, 0),
        "zalgo": ("block", 3, 0),
    },
}
# Who does not mind what a strict filter takes away.
STRICT_STEPS: Final = (
    {"after": 3, "within_s": 600, "action": "timeout", "duration_s": 60},
    {"after": 5, "within_s": 3600, "action": "timeout", "duration_s": 600},
)


class UnknownPreset(NotFound):
    """Presets are calm and strict."""

    code = "unknown_preset"


class Presets:
    def __init__(self, rules: RuleService) -> None:
        self._rules = rules

    def list(self) -> list[dict[str, Any]]:
        return [{"name": name, "filters": [_values(name, kind) for kind in kinds]} for name, kinds in PRESETS.items()]

    def preview(self, community_id: int, name: str, *, hours: float = WEEK_H) -> dict[str, Any]:
        """What each filter of a preset would have hit in the newest messages that are still stored, those of commands
        left to filters that block. Nothing is switched on. Raises: UnknownPreset."""
        filters = {kind: (action, _filter(kind, number, share)) for kind, (action, number, share) in _get(name).items()}
        hits: dict[str, list[dict[str, Any]]] = {kind: [] for kind in filters}
        scanned, matched, oldest = 0, 0, None
        for row in self._messages(community_id, hours):
            scanned, oldest = scanned + 1, row["received_at"]
            line = Line.of(row["message"], {"emotes": row["emotes"]})
            is_command = parse_command(row["message"]) is not None
            hit = [kind for kind, (action, each) in filters.items() if each.hits(line)]
            hit = [kind for kind in hit if filters[kind][0] == "block" or not is_command]
            matched += bool(hit)
            for kind in hit:
                hits[kind].append(row)
        return {
            "name": name,
            "scanned": scanned,
            "matched": matched,
            "oldest": oldest,
            "filters": [_tried(name, kind, rows) for kind, rows in hits.items()],
        }

    def _messages(self, community_id: int, hours: float) -> Iterator[dict[str, Any]]:
        until = time.monotonic() + MAX_DRY_RUN_S
        for row in self._rules.stored_messages(community_id, (), hours=hours):
            if time.monotonic() > until:
                return
            yield row

    def use(self, community_id: int, name: str, *, by: str) -> dict[str, Any]:
        """Switch a preset on, but for kinds of filters that the community has already. Raises: UnknownPreset."""
        kinds = _get(name)
        there = self._kinds_there(community_id)
        made = [self._rules.create(community_id, _values(name, kind), (), by=by) for kind in kinds if kind not in there]
        return {"name": name, "rules": made, "kept": sorted(there & set(kinds))}

    def _kinds_there(self, community_id: int) -> set[str]:
        with self._rules.reading() as db:
            rows = fetch(
                db,
                "SELECT DISTINCT match_type FROM stringmatch WHERE community_id = %s AND is_active"
                " AND match_type = ANY(%s)",
                (community_id, list(USUAL)),
            )
        return {row["match_type"] for row in rows}

    def say(self, call: ModuleCall) -> str:
        """What !filters does."""
        word, name = map(fold, (*call.trigger.args, "", "")[:2])
        if word == "list" and not name:
            there = sorted(self._kinds_there(call.community.id))
            return f"Filters here: {', '.join(there)}." if there else f"There are no filters here. {USAGE}"
        if word not in ("preview", "use") or name not in PRESETS:
            raise UsageError(USAGE)
        if word == "preview" or call.mode == "simulate":
            return _in_words(self.preview(call.community.id, name))
        with acting_as(Acting("router", own_id=call.user.own_id)):
            done = self.use(call.community.id, name, by=call.user.display_name or call.user.name)
        kept = f" Kept as they were: {', '.join(done['kept'])}." if done["kept"] else ""
        on = ", ".join(rule["match_type"] for rule in done["rules"]) or "nothing new"
        return f"Switched on, {name}: {on}.{kept}"


def _get(name: str) -> Set:
    try:
        return PRESETS[name]
    except KeyError:
        raise UnknownPreset() from None


def _filter(kind: str, number: int, share: int) -> Filter:
    return make_filter(kind, "", number=number, share=share)


def _values(preset: str, kind: str) -> dict[str, Any]:
    action, number, share = PRESETS[preset][kind]
    return {
        # Of a links filter this is what it lets pass.
        "string": "" if kind == LINKS else preset,
        "match_type": kind,
        "number": number,
        "share": share,
        "case_sensitive": False,
        "look_alikes": False,
        "exempt_level": "moderator",
        "action": action,
        "command_to_execute": "",
        "command_parameters": [],
        "webhook_url": "",
        "warning_message": "",
        "block_message": "",
        "priority": 100,
        "is_active": True,
        "exempt_labels": [],
        "escalation": list(STRICT_STEPS) if preset == "strict" else [],
    }


def _tried(preset: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    action, number, share = PRESETS[preset][kind]
    examples = [
        {**{name: row[name] for name in ("user_name", "received_at", "entity_id")}, "message": _short(row["message"])}
        for row in rows[:MAX_EXAMPLES]
    ]
    tried = {"match_type": kind, "action": action, "number": number, "share": share}
    return {**tried, "matched": len(rows), "examples": examples}


def _short(message: str) -> str:
    return shorten(message, MAX_EXAMPLE_CHARS)


def _in_words(seen: Mapping[str, Any]) -> str:
    if not seen["scanned"]:
        return f"Nothing of the last week's chat is stored, so nobody knows what {seen['name']} would have done."
    hit = ", ".join(f"{each['match_type']} {each['matched']}" for each in seen["filters"] if each["matched"])
    what = f"hit {seen['matched']}: {hit}" if hit else "hit nothing"
    return f"Of the last {seen['scanned']} lines of a week {seen['name']} would have {what}."
