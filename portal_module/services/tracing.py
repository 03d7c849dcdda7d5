"""A message from its arrival to what was said and shown, as steps for people: what happened, why, how long it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from .commands import title_of
from .naming import in_words

How = Literal["yes", "no", "info"]
ENDED: Mapping[str, tuple[How, str]] = {
    "success": ("yes", "answered"),
    "failed": ("no", "failed"),
    "timeout": ("no", "did not answer in time"),
    "denied": ("no", "was refused"),
    "rate_limited": ("no", "was asked for too often"),
    "pending": ("info", "is still at work"),
    "unknown": ("info", "may or may not have done it"),
}
SAID: Mapping[str, tuple[How, str]] = {
    "sent": ("yes", "was said"),
    "pending": ("info", "waits to be said"),
    "sending": ("info", "is being said"),
    "dropped": ("no", "was not said"),
    "unknown": ("info", "may or may not have been said"),
}
SHOWN: Mapping[str, tuple[How, str]] = {
    "queued": ("info", "waits for the overlay"),
    "shown": ("yes", "is on the screen"),
    "done": ("yes", "was on the screen"),
    "skipped": ("no", "was skipped"),
    "expired": ("no", "came too late for the overlay"),
    "dropped": ("no", "had no room on the overlay"),
}
ICONS: Mapping[How, str] = {"yes": "circle-check", "no": "circle-x", "info": "info"}


@dataclass(frozen=True, slots=True)
class Step:
    how: How
    what: str
    why: str = ""
    # Milliseconds it took, in words, or the time of day.
    took: str = ""

    @property
    def icon(self) -> str:
        return ICONS[self.how]

    @property
    def css(self) -> str:
        return {"yes": "", "no": "no", "info": "skip-step"}[self.how]


def steps_of(found: Mapping[str, Any], overlays: Sequence[Mapping[str, Any]] = ()) -> list[Step]:
    """What the router explains of a session, and what the overlays did with it."""
    return [
        *_arrival(found),
        *_rules(found),
        *(step for each in found.get("executions", []) for step in _execution(each)),
        *_points(found),
        *_said(found),
        *(_shown(each) for each in overlays),
    ]


def _arrival(found: Mapping[str, Any]) -> Iterator[Step]:
    message = found.get("message")
    kind = "Read as a command" if str(message or "")[:1] in ("!", "#") else "Read as plain chat"
    if message is None:
        kind = "An event" if found.get("message_type", "chatMessage") != "chatMessage" else "Its text is no longer kept"
    at = found.get("received_at")
    yield Step("yes", kind, in_words(found.get("message_type") or ""), _clock(at) if at else "")


def _rules(found: Mapping[str, Any]) -> Iterator[Step]:
    verdict = found.get("verdict") or {}
    hits, moderation = verdict.get("rules") or [], verdict.get("moderation")
    took = _ms((verdict.get("took_ms") or {}).get("rules"))
    if moderation:
        did = "deleted it" if moderation["action"] == "block" else "warned them"
        yield Step("no", f"Rule {moderation['rule_id']} {did}", moderation.get("message", ""), took)
    elif hits:
        yield Step("yes", "Rules looked at it", f"hit rule {', '.join(map(str, hits))}", took)
    else:
        yield Step("yes", "Rules looked at it", "none matched", took)


def _execution(each: Mapping[str, Any]) -> Iterator[Step]:
    decision, name = each.get("decision") or {}, each["command"]
    if decision.get("rule_id"):
        yield Step("yes", f"Rule {decision['rule_id']} asked for {name}")
    permission = decision.get("permission")
    if permission:
        is_allowed = each["status"] != "denied"
        yield Step("yes" if is_allowed else "no", "Allowed" if is_allowed else "Refused", permission["reason"])
    for limit in decision.get("limits", []):
        yield Step("info", f"At most {limit['per_minute']} a minute", f"for {limit['for']}")
    if each["status"] == "denied" and permission:
        return
    how, words = ENDED[each["status"]]
    error = each.get("error_message") or (each.get("error") or {}).get("message") or ""
    module_ms = each.get("module_ms")
    inside = f"{module_ms:.0f} ms in the module itself" if module_ms is not None else ""
    yield Step(how, f"{title_of(each['module_name'])} {words}", error or inside, _ms(each.get("execution_time_ms")))


def _points(found: Mapping[str, Any]) -> Iterator[Step]:
    points = found.get("points")
    if points:
        yield Step("yes", f"{points['event_score']:+} points", f"for {in_words(points['event_name']).lower()}")


def _said(found: Mapping[str, Any]) -> Iterator[Step]:
    for each in found.get("responses", []):
        if each.get("state") and each["response_action"] == "chat":
            how, words = SAID[each["state"]]
            at = each.get("finished_at") or each.get("created_at")
            yield Step(how, f"The answer {words}", each.get("detail") or "", _clock(at) if at else "")


def _shown(item: Mapping[str, Any]) -> Step:
    how, words = SHOWN[item["state"]]
    at = item["done_at"] or item["shown_at"] or item["created_at"]
    return Step(how, f"The {item['source_type']} {words}", "", _clock(at))


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f} ms" if value >= 1 else f"{value:.1f} ms"


def _clock(at: Any) -> str:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
