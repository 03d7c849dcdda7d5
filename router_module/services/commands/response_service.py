"""Replies that modules post themselves, and who may read what modules replied."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

from waddlebot.base.contracts import ModuleReply
from waddlebot.base.errors import Conflict, NotAllowed, NotFound
from waddlebot.base.ids import is_uuid
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import Account
from waddlebot.web.callback import CallToken
from waddlebot.web.lists import Listed, Page, fetch_page, list_answer

from ..engines.execution_engine import check_private, result_of
from .command_processor import CommandProcessor


class UnknownExecution(NotFound):
    """There is no such execution."""

    code = "unknown_execution"


class ResponseService:
    def __init__(self, db: Database, processor: CommandProcessor) -> None:
        self._db = db
        self._processor = processor

    def accept(self, reply: ModuleReply, caller: Account) -> dict[str, Any]:
        """Record a late reply and hand it to chat or overlay; the same reply again changes nothing.

        Raises: UnknownExecution; NotAllowed for another module's execution or a session that is not the execution's;
        Conflict when the execution was answered otherwise; NotPrivateHere, and then it is not answered yet;
        pydantic.ValidationError for bad response data.
        """
        row = self._execution(reply.execution_id)
        if caller.call is not None:
            _check_call(caller.call, reply)
        own = caller.only_module if caller.call is None else caller.call.module_name
        if own != row["module_name"] or reply.module_name != row["module_name"]:
            raise NotAllowed("That execution belongs to another module.")
        caller.check_platform(row["platform"])
        caller.check_community(row["community_id"])
        if reply.session_id != row["session_id"]:
            raise NotAllowed("That execution belongs to another session.")
        check_private(reply.all_responses(), row["platform"])
        digest = hashlib.sha256(reply.model_dump_json(exclude={"processing_time_ms"}).encode()).hexdigest()
        recorded = self._processor.settle_late(row, result_of(reply, digest=digest))
        if not recorded and not self._is_repeat(reply.execution_id, digest):
            raise Conflict("That execution is answered already.")
        with self._db.transaction() as db:
            stored = fetch_one(
                db, "SELECT max(id) AS id FROM module_responses WHERE execution_id = %s", (reply.execution_id,)
            )
        return {
            "success": True,
            "response_id": stored["id"] if stored else None,
            "execution_id": reply.execution_id,
            "duplicate": not recorded,
            "message": "Recorded." if recorded else "That is on record already.",
        }

    def list_for(self, execution_id: str, caller: Account) -> dict[str, Any]:
        """The responses to one execution. Raises: UnknownExecution, also for what the caller may not see."""
        row = self._execution(execution_id)
        if not may_see(caller, row):
            raise UnknownExecution()
        with self._db.transaction() as db:
            responses = fetch(
                db,
                "SELECT id, module_name, success, response_action, response_data, processing_time_ms, error_message,"
                " created_at FROM module_responses WHERE execution_id = %s ORDER BY id",
                (execution_id,),
            )
            said = fetch(
                db,
                "SELECT id AS outbox_id, ordinal, response_action, response_data, state FROM outbox"
                " WHERE execution_id = %s ORDER BY ordinal",
                (execution_id,),
            )
        return {
            "success": True,
            "execution_id": execution_id,
            "status": row["status"],
            "responses": _without_private_texts(responses),
            "outbox": _without_private_texts(said),
            "total": len(responses),
        }

    def list_recent(
        self, caller: Account, *, module_name: str | None, action: str | None, success_only: bool, page: Page
    ) -> dict[str, Any]:
        """The newest responses that the caller may see."""
        with self._db.lookup() as db:
            listed = fetch_page(
                partial(fetch, db),
                "SELECT r.id, r.execution_id::text, r.module_name, r.success, r.response_action, r.response_data,"
                " r.error_message, r.processing_time_ms, r.created_at, e.platform, e.community_id,"
                " count(*) OVER () AS total"
                " FROM module_responses r JOIN command_executions e USING (execution_id)"
                " WHERE (%(module)s::text IS NULL OR r.module_name = %(module)s)"
                " AND (%(action)s::text IS NULL OR r.response_action = %(action)s)"
                " AND (NOT %(fine)s OR r.success)"
                " AND (%(own)s::text IS NULL OR r.module_name = %(own)s)"
                " AND (%(platforms)s::text[] = '{}' OR e.platform = ANY(%(platforms)s))"
                " AND (%(community)s::bigint IS NULL OR e.community_id = %(community)s)"
                " ORDER BY r.id DESC LIMIT %(limit)s OFFSET %(offset)s",
                {
                    "module": module_name,
                    "action": action,
                    "fine": success_only,
                    "own": caller.only_module,
                    "platforms": sorted(caller.platforms),
                    "community": caller.community_id,
                },
                page,
            )
        filters = {"module_name": module_name, "response_action": action, "success_only": success_only}
        shown = Listed(_without_private_texts(list(listed.rows)), listed.total)
        return list_answer("responses", shown, page, filters=filters)

    def _execution(self, execution_id: str) -> dict[str, Any]:
        if not is_uuid(execution_id):
            raise UnknownExecution()
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "SELECT x.*, x.execution_id::text AS execution_id, x.session_id::text AS session_id,"
                " x.parent_id::text AS parent_id, v.event FROM command_executions x"
                " JOIN router_events v USING (session_id) WHERE x.execution_id = %s",
                (execution_id,),
            )
        if row is None:
            raise UnknownExecution()
        return row

    def _is_repeat(self, execution_id: str, digest: str) -> bool:
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "SELECT 1 FROM command_executions WHERE execution_id = %s AND response_data->>'digest' = %s",
                (execution_id, digest),
            )
        return row is not None


def _check_call(call: CallToken, reply: ModuleReply) -> None:
    """Raises: NotAllowed for any other execution than the one that the token came with."""
    call.check_may("reply_later")
    if (call.execution_id, call.session_id) != (reply.execution_id, reply.session_id):
        raise NotAllowed("That token is of another execution.")


def _without_private_texts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is for one person alone is for nobody who reads lists either."""
    private = {"private": True}
    return [{**row, "response_data": private} if (row["response_data"] or {}).get("private") else row for row in rows]


def may_see(caller: Account, row: dict[str, Any]) -> bool:
    is_theirs = caller.only_module in (None, row["module_name"])
    return is_theirs and caller.may_see(platform=row["platform"], community_id=row["community_id"])
