"""Who is in voice and for how long: joining and every minute count once, whatever ends and starts again meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from waddlebot.data.database import Database

from ..dataclasses import Person, Sighting, VoiceState

# Nobody knows whether somebody stayed while the collector was away for longer; then it begins anew.
UNSEEN_FOR = timedelta(minutes=15)
AT_ONCE = 500

JOIN = """
INSERT INTO discord_voice_sessions AS v (guild_id, user_id, channel_id, name, display_name)
VALUES (%(guild)s, %(user)s, %(channel)s, %(name)s, %(display_name)s)
ON CONFLICT (guild_id, user_id) DO UPDATE SET channel_id = excluded.channel_id, seen_at = now(),
    name = excluded.name, display_name = excluded.display_name,
    id = CASE WHEN v.seen_at < now() - %(unseen)s THEN excluded.id ELSE v.id END,
    minutes = CASE WHEN v.seen_at < now() - %(unseen)s THEN -1 ELSE v.minutes END,
    joined_at = CASE WHEN v.seen_at < now() - %(unseen)s THEN now() ELSE v.joined_at END
"""
# The joining is minute 0, so that it too is told for certain.
DUE = """
SELECT id, guild_id, user_id, channel_id, name, display_name, n, joined_at + n * interval '1 minute' AS at
FROM discord_voice_sessions,
    LATERAL generate_series(minutes + 1, floor(extract(epoch FROM now() - joined_at) / 60)::integer) AS n
WHERE (guild_id::bigint >> 22) %% %(shard_count)s = %(shard)s AND seen_at > now() - %(unseen)s
    AND joined_at + (minutes + 1) * interval '1 minute' <= now()
ORDER BY id, n LIMIT %(limit)s
"""


LEAVE = """
DELETE FROM discord_voice_sessions WHERE (guild_id, user_id) = (%(guild)s, %(user)s)
RETURNING *, floor(extract(epoch FROM now() - joined_at) / 60)::integer AS passed
"""


class VoiceService:
    """Voice sessions in the database. The same moment has the same event id however often it is told."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def note(self, state: VoiceState) -> list[Sighting]:
        """Somebody joined voice, moved, muted or left. Returns what ends with that; the rest is `due`."""
        if state.channel_id:
            self._join(state)
            return []
        rows = self._db.statement(LEAVE, {"guild": state.guild_id, "user": state.person.id})
        return [each for row in rows for each in [*_moments_until_now(row), _leave(row)]]

    def become(self, guild_id: str, states: Sequence[VoiceState]) -> list[Sighting]:
        """A server says who is in voice. Returns the leaving of everybody else; nobody knows when that was."""
        gone = self._db.statement(
            "DELETE FROM discord_voice_sessions WHERE guild_id = %s AND user_id <> ALL(%s) RETURNING *",
            (guild_id, [state.person.id for state in states]),
        )
        for state in states:
            self._join(state)
        return [_leave(row) for row in gone]

    def due(self, shard: int, shard_count: int) -> list[Sighting]:
        """The joinings and minutes that have passed in a shard's servers and are not counted yet."""
        asked = {"shard": shard, "shard_count": shard_count, "unseen": UNSEEN_FOR, "limit": AT_ONCE}
        return [_moment(row) for row in self._db.statement(DUE, asked)]

    def count(self, moment: Sighting) -> None:
        """It is delivered. Should this be lost, it is delivered again and known by its id."""
        _, session, _, number = moment.event_id.split(":")
        self._db.statement(
            "UPDATE discord_voice_sessions SET minutes = greatest(minutes, %s), seen_at = now() WHERE id = %s",
            (int(number), int(session)),
        )

    def _join(self, state: VoiceState) -> None:
        self._db.statement(
            JOIN,
            {
                "guild": state.guild_id,
                "user": state.person.id,
                "channel": state.channel_id,
                "name": state.person.name,
                "display_name": state.person.display_name,
                "unseen": UNSEEN_FOR,
            },
        )


def _moment(row: dict[str, Any]) -> Sighting:
    event_id = f"voice:{row['id']}:minute:{row['n']}"
    if row["n"] == 0:
        return _sighting("voice_join", row, event_id, occurred_at=row["at"])
    return _sighting("voice_time", row, event_id, occurred_at=row["at"], minutes=1)


def _moments_until_now(row: dict[str, Any]) -> list[Sighting]:
    """What a session that ends now has not been counted for."""
    return [
        _moment({**row, "n": n, "at": row["joined_at"] + timedelta(minutes=n)})
        for n in range(row["minutes"] + 1, row["passed"] + 1)
    ]


def _leave(row: dict[str, Any]) -> Sighting:
    return _sighting("voice_leave", row, f"voice:{row['id']}:leave", minutes=row.get("passed", max(row["minutes"], 0)))


def _sighting(
    message_type: str, row: dict[str, Any], event_id: str, *, occurred_at: datetime | None = None, **details: Any
) -> Sighting:
    person = Person(row["user_id"], row["name"], row["display_name"])
    details["voice_channel"] = row["channel_id"]
    return Sighting(
        message_type,
        "VOICE_STATE_UPDATE",
        row["guild_id"],
        "",
        person,
        event_id,
        details=details,
        occurred_at=occurred_at,
    )
