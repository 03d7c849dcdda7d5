"""What somebody asked in a channel and what they were told, for seven days; and the channels in which the AI is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydal import DAL
from waddlebot.data import audit
from waddlebot.data.database import Database, fetch, fetch_one

KEPT = "7 days"


@dataclass(frozen=True, slots=True)
class Exchange:
    question: str
    answer: str


class Conversations:
    def __init__(self, db: Database, *, module_name: str) -> None:
        self._db = db
        self._module_name = module_name

    def recent(self, db: DAL, entity_id: str, ids: Sequence[int], *, limit: int) -> list[Exchange]:
        """Somebody's last questions in a channel and their answers, the oldest first. Nobody else's, nowhere else's."""
        rows = fetch(
            db,
            "SELECT question, answer FROM ai_conversations WHERE entity_id = %s AND own_id = ANY(%s)"
            f" AND created_at > now() - interval '{KEPT}' ORDER BY id DESC LIMIT %s",
            (entity_id, list(ids), limit),
        )
        return [Exchange(**row) for row in reversed(rows)]

    def add(self, db: DAL, community_id: int, entity_id: str, own_id: int, exchange: Exchange) -> None:
        fetch(
            db,
            "INSERT INTO ai_conversations (community_id, entity_id, own_id, question, answer)"
            " VALUES (%s, %s, %s, %s, %s)",
            (community_id, entity_id, own_id, exchange.question, exchange.answer),
        )

    def forget(self, db: DAL, entity_id: str, ids: Sequence[int]) -> int:
        """Forget somebody's conversation in a channel. Returns how many questions that were."""
        gone = fetch(
            db,
            "DELETE FROM ai_conversations WHERE entity_id = %s AND own_id = ANY(%s) RETURNING id",
            (entity_id, list(ids)),
        )
        return len(gone)

    def is_off(self, db: DAL, entity_id: str) -> bool:
        return fetch_one(db, "SELECT 1 AS off FROM ai_silences WHERE entity_id = %s", (entity_id,)) is not None

    def turn_off(self, db: DAL, community_id: int, entity_id: str) -> None:
        made = fetch(
            db,
            "INSERT INTO ai_silences (entity_id, community_id) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1",
            (entity_id, community_id),
        )
        if made:
            self._record(db, community_id, entity_id, is_on=False)

    def turn_on(self, db: DAL, community_id: int, entity_id: str) -> None:
        if fetch(db, "DELETE FROM ai_silences WHERE entity_id = %s RETURNING 1 AS gone", (entity_id,)):
            self._record(db, community_id, entity_id, is_on=True)

    def forget_old(self) -> bool:
        gone = self._db.statement(
            "DELETE FROM ai_conversations WHERE id IN (SELECT id FROM ai_conversations"
            f" WHERE created_at < now() - interval '{KEPT}' LIMIT 1000) RETURNING id",
            (),
        )
        return len(gone) == 1000

    def _record(self, db: DAL, community_id: int, entity_id: str, *, is_on: bool) -> None:
        audit.record(
            db,
            self._module_name,
            "ai_turned_on" if is_on else "ai_turned_off",
            f"channel/{entity_id}",
            community_id=community_id,
            before={"is_on": not is_on},
            after={"is_on": is_on},
        )
