"""Why an answer was what it was: the command, the rule that decided, the time of each hop, and what was said."""

from __future__ import annotations

from typing import Any

from waddlebot.auth import Account
from waddlebot.chat import shorten
from waddlebot.database import Database, fetch, fetch_one
from waddlebot.errors import NotFound
from waddlebot.ids import is_uuid

from .session_manager import SessionManager

STATUS_WORDS = {
    "success": "it worked",
    "failed": "it failed",
    "timeout": "it did not answer in time",
    "denied": "it was refused",
    "rate_limited": "it was asked for too often",
    "pending": "it is still at work",
    "unknown": "nobody can know whether it worked",
}
OUTBOX_WORDS = {
    "pending": "waits to be said",
    "sending": "is being said",
    "sent": "was said",
    "dropped": "was not said",
    "unknown": "may or may not have been said",
}


class Explainer:
    def __init__(self, db: Database, sessions: SessionManager) -> None:
        self._db = db
        self._sessions = sessions

    def explain(self, session_id: str, caller: Account) -> dict[str, Any]:
        """Everything on record about a session. Raises: NotFound, also for what the caller may not see."""
        if not is_uuid(session_id):
            raise NotFound(f"There is no session {session_id[:64]}.")
        with self._db.transaction() as db:
            event = fetch_one(
                db,
                "SELECT session_id::text, platform, event_id, entity_id, community_id, user_id, message_type, state,"
                " event->>'message' AS message, received_at, finished_at FROM router_events WHERE session_id = %s",
                (session_id,),
            )
            if event is not None and _may_see(caller, event):
                return {**event, **self._details(db, session_id, caller)}
        trace = self._sessions.find_trace(session_id)
        if trace is None or not caller.is_admin:
            raise NotFound(f"There is no session {session_id}.")
        return {"session_id": session_id, "simulated": True, **trace}

    def why(self, entity_id: str, user_id: int, *, before: str) -> str:
        """The last answer to somebody in one place, in a sentence or two."""
        with self._db.transaction() as db:
            event = fetch_one(
                db,
                "SELECT session_id::text, event->>'message' AS message FROM router_events WHERE entity_id = %s"
                " AND user_id = %s AND session_id <> %s AND message_type = 'chatMessage' ORDER BY id DESC LIMIT 1",
                (entity_id, user_id, before),
            )
            if event is None:
                return "You have not said anything here before that I know of."
            details = self._details(db, event["session_id"], None)
        if event["message"] is None:
            return "You said something here, but so long ago that its text is no longer kept."
        message = shorten(event["message"], 60)
        if not details["executions"]:
            reason = "no command or alias of that name is known here" if message[:1] in "!#" else "that is no command"
            said = "I said so" if details["responses"] else "I said nothing"
            return f"“{message}”: {reason}, so {said}."
        return f"“{message}”: " + "; then ".join(_sentence(each, details) for each in details["executions"]) + "."

    def _details(self, db: Any, session_id: str, caller: Account | None) -> dict[str, Any]:
        executions = fetch(
            db,
            "SELECT execution_id::text, parent_id::text, depth, module_name, command, parameters, status, error_code,"
            " error_message, execution_time_ms, (response_data->>'module_ms')::float AS module_ms, retry_count,"
            " created_at, completed_at FROM command_executions WHERE session_id = %s ORDER BY id",
            (session_id,),
        )
        if caller is not None and caller.module_name:
            executions = [each for each in executions if each["module_name"] == caller.module_name]
        responses = fetch(
            db,
            "SELECT id AS outbox_id, execution_id::text, ordinal, module_name, response_action, state, detail,"
            " created_at, finished_at FROM outbox WHERE session_id = %s ORDER BY id",
            (session_id,),
        )
        return {"executions": executions, "responses": responses}


def _may_see(caller: Account, event: dict[str, Any]) -> bool:
    return caller.serves(event["platform"]) and caller.community_id in (None, event["community_id"])


def _sentence(execution: dict[str, Any], details: dict[str, Any]) -> str:
    outcome = STATUS_WORDS[execution["status"]]
    reason = f" ({execution['error_message']})" if execution["error_message"] else ""
    where = "" if execution["status"] == "denied" else f" ran in {execution['module_name']}"
    time = ""
    if execution["execution_time_ms"] is not None:
        module = f", {execution['module_ms']:.0f} of them in the module" if execution["module_ms"] is not None else ""
        time = f", {execution['execution_time_ms']:.0f} ms{module}"
    retries = f", after {execution['retry_count']} retries" if execution["retry_count"] else ""
    mine = [each for each in details["responses"] if each["execution_id"] == execution["execution_id"]]
    said = "".join(
        f"; its answer {OUTBOX_WORDS[each['state']]}" + (f" ({each['detail']})" if each["detail"] else "")
        for each in mine
        if each["state"] != "sent"
    )
    return f"“{execution['command']}”{where}: {outcome}{reason}{time}{retries}{said}"
