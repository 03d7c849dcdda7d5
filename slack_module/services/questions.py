"""What a reply answers: the message or the slash command, and where to say it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from waddlebot.base.encryption import Keyring
from waddlebot.data.database import Database, Prepared

# Slack takes answers there for half an hour; a little less, so that none is on its way when that ends.
URL_USABLE_FOR = timedelta(minutes=29)

FIND = Prepared(
    "slack_question",
    """
SELECT o.event_id, e.event_data->'event'->>'ts' AS ts, e.event_data->'event'->>'thread_ts' AS thread_ts, e.user_id,
    c.command, coalesce(c.is_private, false) AS is_private
FROM outbox o LEFT JOIN slack_commands c ON c.event_id = o.event_id
    LEFT JOIN LATERAL (SELECT * FROM slack_events WHERE event_id = o.event_id AND state <> 'ignored'
        ORDER BY id LIMIT 1) e ON true
WHERE o.id = %(id)s
""",
)
TAKE_URL = """
UPDATE slack_commands SET uses_left = uses_left - 1
WHERE event_id = %s AND uses_left > 0 AND usable_until > now() AND response_url <> '' RETURNING response_url
"""


@dataclass(frozen=True, slots=True)
class Question:
    event_id: str
    ts: str = ""
    thread_ts: str = ""
    user_id: str = ""
    # The word behind /waddlebot, for a slash command.
    command: str = ""
    is_private: bool = False

    @property
    def is_slash(self) -> bool:
        return bool(self.command)


class Questions:
    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring

    def of_reply(self, outbox_id: int) -> Question:
        """Raises: DatabaseUnavailable."""
        rows = self._db.statement(FIND, {"id": outbox_id})
        given: dict[str, Any] = {name: value for name, value in rows[0].items() if value is not None}
        return Question(**given)

    def remember(
        self, event_id: str, *, team: str, channel: str, user: str, command: str, is_private: bool, response_url: str
    ) -> None:
        """Note a slash command and, sealed, where its answers go. Twice is once."""
        sealed = ""
        if response_url and self._keyring.can_seal:
            sealed = self._keyring.seal(response_url, purpose=_purpose(event_id))
        self._db.statement(
            "INSERT INTO slack_commands (event_id, team_id, channel_id, user_id, command, is_private, response_url,"
            " usable_until) VALUES (%s, %s, %s, %s, %s, %s, %s, now() + %s) ON CONFLICT (event_id) DO NOTHING",
            (event_id, team, channel, user, command, is_private, sealed, URL_USABLE_FOR),
        )

    def take_url(self, event_id: str) -> str | None:
        """One of the five uses of a slash command's response_url; None when there is none left. Raises: CannotOpen."""
        rows = self._db.statement(TAKE_URL, (event_id,))
        return self._keyring.open(rows[0]["response_url"], purpose=_purpose(event_id)) if rows else None


def _purpose(event_id: str) -> str:
    return f"slack_commands:{event_id}:response_url"
