"""The outbox for collectors that have no database session of their own: the console and outside ones."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from waddlebot.base.contracts import OutboxState, Strict
from waddlebot.base.errors import NotFound
from waddlebot.data import outbox
from waddlebot.data.database import Database, fetch
from waddlebot.web.auth import Account
from waddlebot.web.lists import Page, fetch_page, list_answer


class Confirmation(Strict):
    state: Literal["sending", "sent", "dropped", "unknown"]


class OutboxService:
    def __init__(self, db: Database) -> None:
        self._db = db

    def confirm(self, outbox_id: int, state: str, caller: Account) -> dict[str, Any]:
        """Raises: NotFound, also for other platforms' replies; Conflict."""
        with self._db.transaction() as db:
            row = outbox.get(db, outbox_id)
            if not caller.may_see(platform=row["platform"], community_id=row["community_id"]):
                raise NotFound(f"There is no reply {outbox_id}.")
            row = outbox.confirm(db, outbox_id, OutboxState(state), sender=caller.name)
        return {"success": True, "outbox_id": outbox_id, "state": row["state"]}

    def list_for(
        self, caller: Account, *, entity_id: str | None, platform: str | None, state: str, private: bool, page: Page
    ) -> dict[str, Any]:
        """What waits to be said, or with `private` what only the person in its data's `to` may read."""
        with self._db.transaction() as db:
            listed = fetch_page(
                partial(fetch, db),
                "SELECT id AS outbox_id, execution_id::text, ordinal, session_id::text, entity_id, module_name,"
                " response_action, response_data, reply_to, state, created_at, expires_at,"
                " count(*) OVER () AS total FROM outbox"
                " WHERE state = %(state)s AND available_at <= now() AND response_action = %(action)s"
                " AND (%(entity)s::text IS NULL OR entity_id = %(entity)s)"
                " AND (%(platform)s::text IS NULL OR platform = %(platform)s)"
                " AND (%(platforms)s::text[] = '{}' OR platform = ANY(%(platforms)s))"
                " AND (%(community)s::bigint IS NULL OR community_id = %(community)s)"
                " ORDER BY id LIMIT %(limit)s OFFSET %(offset)s",
                {
                    "state": state,
                    "action": outbox.PRIVATE if private else "chat",
                    "entity": entity_id,
                    "platform": platform,
                    "platforms": sorted(caller.platforms),
                    "community": caller.community_id,
                },
                page,
            )
        return list_answer("replies", listed, page)

    def sweep(self) -> None:
        """Drop what is too old, own up to what is unknown."""
        with self._db.transaction() as db:
            outbox.sweep(db)
