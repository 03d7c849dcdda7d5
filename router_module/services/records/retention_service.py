"""What the router forgets, and when (contracts §12). Each call does one bounded batch; True when there may be more."""

from __future__ import annotations

from datetime import timedelta

from waddlebot.data.database import Database
from waddlebot.data.retention import BATCH, delete_old

CHAT_KEPT = timedelta(days=7)
# Each with the column that says how old a row is, and its key.
RECORDS = {
    "router_events": ("received_at", "session_id"),
    "command_executions": ("created_at", "execution_id"),
    "module_responses": ("created_at", "id"),
    "outbox": ("created_at", "id"),
    # With their notices.
    "announcements": ("created_at", "id"),
    "playbacks": ("created_at", "id"),
}
# Plain chat is what asked for nothing: no execution has its text. The batch ends at the first event that is too young,
# because sessions need not be in the order of the times exactly. One router does it for all.
FORGET_PLAIN_CHAT = f"""
WITH mark AS (
    SELECT up_to FROM retention_marks WHERE name = 'plain_chat'
), batch AS (
    SELECT session_id, bool_and(received_at < now() - %(keep)s) OVER (ORDER BY session_id) AS is_old FROM (
        SELECT session_id, received_at FROM router_events WHERE session_id > (SELECT up_to FROM mark)
        ORDER BY session_id LIMIT {BATCH}) AS next
), old AS (
    SELECT session_id FROM batch WHERE is_old
), forgotten AS (
    UPDATE router_events e SET event = (event::jsonb - 'message')::json FROM old
    WHERE e.session_id = old.session_id AND message_type = 'chatMessage'
        AND NOT EXISTS (SELECT 1 FROM command_executions x WHERE x.session_id = e.session_id)
        AND NOT EXISTS (SELECT 1 FROM router_work w WHERE w.session_id = e.session_id)
)
UPDATE retention_marks SET up_to = last.session_id FROM (
    SELECT session_id, count(*) OVER () AS events FROM old ORDER BY session_id DESC LIMIT 1) AS last
WHERE name = 'plain_chat' RETURNING events
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
        more = [delete_old(self._db, table, age, key=key) for table, (age, key) in RECORDS.items()]
        return any(more)
