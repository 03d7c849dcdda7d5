"""Why an answer was what it was: the command, the rule that decided, the time of each hop, and what was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waddlebot.base.chat import shorten
from waddlebot.base.errors import NotFound
from waddlebot.base.ids import is_uuid
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import Account

from .session_manager import SessionManager

STATUS_WORDS = {
    "success": "worked",
    "failed": "failed",
    "timeout": "did not answer in time",
    "denied": "was refused",
    "rate_limited": "was asked for too often",
    "pending": "is still at work",
    "unknown": "may or may not have worked",
}
DID = {"warn": "warned you", "block": "blocked it", "timeout": "timed you out", "ban": "banned you"}
NEVER_RAN = ("denied", "rate_limited")
OUTBOX_WORDS = {
    "pending": "waits to be said",
    "sending": "is being said",
    "sent": "was said",
    "dropped": "was not said",
    "unknown": "may or may not have been said",
}


class Explainer:
    def __init__(self, db: Database, sessions: SessionManager, *, portal_url: str | None = None) -> None:
        self._db = db
        self._sessions = sessions
        self._portal_url = portal_url

    def explain(self, session_id: str, caller: Account) -> dict[str, Any]:
        """Everything on record about a session. Raises: NotFound, also for what the caller may not see."""
        if not is_uuid(session_id):
            raise NotFound(f"There is no session {session_id[:64]}.")
        with self._db.transaction() as db:
            event = fetch_one(
                db,
                "SELECT session_id::text, platform, event_id, entity_id, community_id, user_id, message_type,"
                " CASE WHEN EXISTS (SELECT 1 FROM router_work w WHERE w.session_id = e.session_id)"
                "  THEN 'processing' ELSE 'done' END AS state,"
                " event->>'message' AS message, received_at, verdict FROM router_events e WHERE session_id = %s",
                (session_id,),
            )
            found = {**event, **self._details(db, event)} if event is not None else self._find_trace(session_id)
        if found is None or not caller.may_see(platform=found["platform"], community_id=found["community_id"]):
            raise NotFound(f"There is no session {session_id}.")
        return found if caller.only_module is None else _as_seen_by(caller.only_module, found)

    def _find_trace(self, session_id: str) -> dict[str, Any] | None:
        trace = self._sessions.find_trace(session_id)
        if trace is None or "community_id" not in trace:
            return None
        return {"session_id": session_id, "simulated": True, **trace}

    def why(self, entity_id: str, own_ids: Sequence[int], *, before: str, linked_in: int | None = None) -> str:
        """The last answer to somebody in one place, in a sentence or two; with a community also where the message has
        its page in that one's portal."""
        with self._db.transaction() as db:
            event = fetch_one(
                db,
                "SELECT session_id::text, platform, event_id, event->>'message' AS message, verdict FROM router_events"
                " WHERE entity_id = %s AND user_id = ANY(%s) AND session_id <> %s AND message_type = 'chatMessage'"
                " ORDER BY session_id DESC LIMIT 1",
                (entity_id, list(own_ids), before),
            )
            if event is None:
                return "You have not said anything here before that I know of."
            details = self._details(db, event)
            more = self._link(db, event["session_id"], linked_in)
        if event["message"] is None:
            return "You said something here, but so long ago that its text is no longer kept."
        message = shorten(event["message"], 60)
        parts = _rules_in_words(event["verdict"]) + [_sentence(each, details) for each in details["executions"]]
        if not parts:
            known = "no command or alias of that name is known here" if message[:1] in "!#" else "that is no command"
            parts = [f"{known}, so {'I said so' if details['responses'] else 'I said nothing'}"]
        return f"“{message}”: {'; then '.join(parts)}.{more}"

    def _link(self, db: Any, session_id: str, community_id: int | None) -> str:
        if community_id is None or not self._portal_url:
            return ""
        row = fetch_one(db, "SELECT slug FROM communities WHERE id = %s", (community_id,))
        return f" {self._portal_url.rstrip('/')}/portal/c/{row['slug']}/messages/{session_id}" if row else ""

    def _details(self, db: Any, event: dict[str, Any]) -> dict[str, Any]:
        executions = fetch(
            db,
            "SELECT execution_id::text, parent_id::text, depth, module_name, command, parameters, status, error_code,"
            " error_message, execution_time_ms, (response_data->>'module_ms')::float AS module_ms, retry_count,"
            " trigger_type, decision, created_at, completed_at FROM command_executions WHERE session_id = %s"
            " ORDER BY execution_id",
            (event["session_id"],),
        )
        responses = fetch(
            db,
            "SELECT id AS outbox_id, execution_id::text, ordinal, module_name, response_action, state, detail,"
            " created_at, finished_at FROM outbox WHERE platform = %s AND event_id = %s ORDER BY id",
            (event["platform"], event["event_id"]),
        )
        points = fetch_one(
            db,
            "SELECT event_name, event_score, amount FROM reputation_events WHERE source_id = %s",
            (event["session_id"],),
        )
        return {"executions": executions, "responses": responses, "points": points}


def _as_seen_by(module_name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a module has to do with a session: its executions and what it said, not what others did or were told."""
    theirs = {
        name: [each for each in found[name] if each["module_name"] == module_name]
        for name in ("executions", "responses")
    }
    if not theirs["executions"]:
        raise NotFound(f"There is no session {found['session_id']}.")
    return {**found, **theirs, "points": None, "verdict": None, "moderation": None}


def _rules_in_words(verdict: dict[str, Any] | None) -> list[str]:
    """Which string rules had a say."""
    if not verdict or not verdict["rules"]:
        return []
    numbers = ", ".join(str(each) for each in verdict["rules"])
    hit = f"it hit rule{'s' if len(verdict['rules']) > 1 else ''} {numbers}"
    moderation = verdict["moderation"]
    if moderation is None:
        return [hit]
    did = DID[moderation["action"]]
    if moderation.get("times"):
        did += f" the {moderation['times']}. time"
    return [f"{hit}, and rule {moderation['rule_id']} {did} (“{moderation['message']}”)"]


def _sentence(execution: dict[str, Any], details: dict[str, Any]) -> str:
    outcome = STATUS_WORDS[execution["status"]]
    reason = f" ({execution['error_message']})" if execution["error_message"] else ""
    ran = execution["status"] not in NEVER_RAN
    took_ms = execution["execution_time_ms"]
    time = f" in {took_ms:.0f} ms" if took_ms is not None and not reason else ""
    retries = f" at try {execution['retry_count'] + 1}" if execution["retry_count"] else ""
    mine = [each for each in details["responses"] if each["execution_id"] == execution["execution_id"]]
    said = "".join(
        f"; its answer {OUTBOX_WORDS[each['state']]}" + (f" ({each['detail']})" if each["detail"] else "")
        for each in mine
        if each["state"] != "sent"
    )
    untold = "" if ran or mine else "; nothing was said, because you asked for something else or were told a moment ago"
    because = _because_in_words(execution) if ran else ""
    return f"“{execution['command']}” {outcome}{time}{retries}{reason}{because}{said}{untold}"


def _because_in_words(execution: dict[str, Any]) -> str:
    """What let an execution run: the rule that asked, the permission that allowed, the limit that had room."""
    decision = execution["decision"] or {}
    parts = []
    if decision.get("rule_id"):
        parts.append(f"rule {decision['rule_id']} asked for it")
    if listen := decision.get("listen"):
        parts.append("it listens for " + (f"“{listen['pattern']}”" if listen["pattern"] else "the bot's name"))
    elif execution["trigger_type"] == "event":
        parts.append("it waits for such events")
    if decision.get("permission"):
        parts.append(decision["permission"]["reason"].rstrip("."))
    if cooldown := decision.get("cooldown"):
        rests = (("all_s", "everybody here"), ("person_s", "you"))
        parts += [f"it rests {cooldown[name]} s for {whom} after that" for name, whom in rests if cooldown[name]]
    parts += [f"{each['per_minute']} a minute for {each['for']} at most" for each in decision.get("limits", [])]
    return f" – {'; '.join(parts)}" if parts else ""
