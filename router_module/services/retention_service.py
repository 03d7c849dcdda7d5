"""What the router forgets, and when (contracts §12). Each call does one bounded batch; True when there may be more."""

from __future__ import annotations

from datetime import timedelta

from waddlebot.database import Database
from waddlebot.retention import BATCH, delete_old

CHAT_KEPT = timedelta(days=7)
# Each with the column that says how old a row is.
RECORDS = {
    "router_events": "received_at",
    "command_executions": "created_at",
    "module_responses": "created_at",
    "outbox": "created_at",
}
# Plain chat is what asked for nothing: no execution has its text. The batch ends at the first event that is too young,
# because ids need not be in the order of the times exactly. One router at a time has the mark.
FORGET_PLAIN_CHAT = f"""
WITH mark AS (
    SELECT up_to FROM retention_marks WHERE name = 'plain_chat' FOR UPDATE SKIP LOCKED
), batch AS (
    SELECT id, bool_and(received_at < now() - %(keep)s) OVER (ORDER BY id) AS is_old FROM (
        SELECT id, received_at FROM router_events WHERE id > (SELECT up_to FROM mark) ORDER BY id LIMIT {BATCH}) AS next
), old AS (
    SELECT id FROM batch WHERE is_old
), forgotten AS (
    UPDATE router_events e SET event = (event::jsonb - 'message')::json FROM old
    WHERE e.id = old.id AND message_type = 'chatMessage' AND state = 'done'
        AND NOT EXISTS (SELECT 1 FROM command_executions x WHERE x.session_id = e.session_id)
)
UPDATE retention_marks SET up_to = last.id FROM (SELECT max(id) AS id, count(*) AS events FROM old) AS last
WHERE name = 'plain_chat' AND last.id IS NOT NULL RETURNING events
"""


class RetentionService:
    def __init__(self, db: Database) -> None:
        self._db = db

    def forget_plain_chat(self) -> bool:
        """Drop the text of what people said more than a week ago; that they said something stays."""
        rows = self._db.statement(FORGET_PLAIN_CHAT, {"keep": CHAT_KEPT})
        return bool(rows) and rows[0]["events"] == BATCH

    def delete_old_records(self) -> bool:
        """Delete events, executions and what was said for them, after three months."""
        more = [delete_old(self._db, table, age) for table, age in RECORDS.items()]
        return any(more)
