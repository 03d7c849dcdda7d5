"""Sends Twitch's own shoutouts, each in its turn: as the bot where it is a moderator, else as the broadcaster.

Source: https://dev.twitch.tv/docs/api/reference/#send-a-shoutout
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from waddlebot.base.encryption import CannotOpen
from waddlebot.base.errors import Away, Busy, Conflict, Later, NotFound, Refused, Unclear
from waddlebot.base.logs import AAALog
from waddlebot.community.tokens import NeedsReauth, NoToken
from waddlebot.data.database import Database, fetch, fetch_one

from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient

# What Twitch allows.
EVERY = timedelta(minutes=2)
SAME_TARGET_EVERY = timedelta(hours=1)
KEPT = timedelta(days=1)
# A request lives shorter by far.
LOST_AFTER = timedelta(minutes=1)
AGAIN_AFTER = timedelta(seconds=15)
# Other replicas wait here, so that two never take the same turn. Whatever was begun counts, also if nobody knows.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('twitch-shoutouts:' || %(channel)s, 0))"
TAKE = """
UPDATE twitch_shoutouts SET state = 'sending', sent_at = now() WHERE id = (
    SELECT id FROM twitch_shoutouts w WHERE broadcaster_id = %(channel)s AND state = 'waiting' AND not_before <= now()
        AND NOT EXISTS (SELECT FROM twitch_shoutouts s WHERE s.broadcaster_id = w.broadcaster_id
            AND (s.sent_at > now() - %(every)s
                OR s.to_user_id = w.to_user_id AND s.sent_at > now() - %(same_target_every)s))
    ORDER BY id LIMIT 1)
RETURNING id, to_user_id
"""
# When the turn of one that waits comes at the earliest, behind those before it.
DUE = """
SELECT w.id, w.state, w.reason, greatest(w.not_before,
    (SELECT max(sent_at) FROM twitch_shoutouts s WHERE s.broadcaster_id = w.broadcaster_id)
        + %(every)s * (1 + (SELECT count(*) FROM twitch_shoutouts b WHERE b.broadcaster_id = w.broadcaster_id
            AND b.state = 'waiting' AND b.id < w.id)),
    (SELECT max(sent_at) FROM twitch_shoutouts s WHERE s.broadcaster_id = w.broadcaster_id
        AND s.to_user_id = w.to_user_id) + %(same_target_every)s) AS due_at
FROM twitch_shoutouts w WHERE w.id = %(id)s
"""


class MissingScope(Conflict):
    """The bot may not send shoutouts there: let it consent at /twitch/auth/bot, and type /mod for it in the channel."""

    code = "missing_scope"


class NotLive(Conflict):
    """Twitch sends shoutouts only from channels that are live."""

    code = "not_live"


class NotThere(NotFound):
    """Twitch knows nobody by that id who could be given a shoutout there."""

    code = "not_there"


class ShoutoutUnclear(Conflict):
    """Nobody can say whether Twitch has sent that shoutout, so it is not sent again."""

    code = "unknown"


WHY_NOT: dict[str, type[Conflict] | type[NotFound]] = {
    each.code: each for each in (MissingScope, NotLive, NotThere, ShoutoutUnclear)
}


@dataclass(frozen=True, slots=True)
class Queued:
    """What became of a shoutout: sent, or waiting for its turn."""

    state: str
    due_at: datetime | None = None


class ShoutoutQueue:
    def __init__(self, api: TwitchAPI, db: Database, *, bot_user_id: str, log: AAALog) -> None:
        self._api = api
        self._db = db
        self._bot_user_id = bot_user_id
        self._log = log

    def send(self, broadcaster_id: str, to_user_id: str, *, max_wait: timedelta) -> Queued:
        """Send it, now if its turn has come, else later by `step`. One that waits already is not added again.

        Raises: one of WHY_NOT.
        """
        self._db.statement(
            "INSERT INTO twitch_shoutouts (broadcaster_id, to_user_id, expires_at) VALUES (%s, %s, now() + %s)"
            " ON CONFLICT DO NOTHING",
            (broadcaster_id, to_user_id, max_wait),
        )
        rows = self._db.statement(
            "SELECT max(id) AS id FROM twitch_shoutouts WHERE broadcaster_id = %s AND to_user_id = %s",
            (broadcaster_id, to_user_id),
        )
        self._send_next(broadcaster_id)
        return self._outcome(rows[0]["id"])

    def step(self) -> None:
        """Send what has come to its turn, one for each channel, and forget what is over."""
        self._db.statement(
            "UPDATE twitch_shoutouts SET state = 'unknown' WHERE state = 'sending' AND sent_at < now() - %s",
            (LOST_AFTER,),
        )
        self._db.statement(
            "UPDATE twitch_shoutouts SET state = 'dropped', reason = 'too_late'"
            " WHERE state = 'waiting' AND expires_at <= now()"
        )
        self._db.statement(
            "DELETE FROM twitch_shoutouts WHERE state NOT IN ('waiting', 'sending') AND created_at < now() - %s",
            (KEPT,),
        )
        waiting = self._db.statement(
            "SELECT DISTINCT broadcaster_id FROM twitch_shoutouts WHERE state = 'waiting' AND not_before <= now()"
        )
        for row in waiting:
            self._send_next(row["broadcaster_id"])

    def _outcome(self, id_: int) -> Queued:
        """Raises: one of WHY_NOT."""
        parameters = {"id": id_, "every": EVERY, "same_target_every": SAME_TARGET_EVERY}
        row = self._db.statement(DUE, parameters)[0]
        if row["state"] in ("dropped", "unknown"):
            raise WHY_NOT.get(row["reason"], ShoutoutUnclear)()
        return Queued("sent") if row["state"] == "sent" else Queued("waiting", row["due_at"])

    def _send_next(self, broadcaster_id: str) -> None:
        """Send the first one whose turn has come, if there is one."""
        parameters = {"channel": broadcaster_id, "every": EVERY, "same_target_every": SAME_TARGET_EVERY}
        with self._db.transaction() as db:
            fetch(db, LOCK, parameters)
            taken = fetch_one(db, TAKE, parameters)
        if taken is None:
            return
        state, reason, again_after = self._api.run(self._try(broadcaster_id, taken["to_user_id"]))
        self._note(taken["id"], state, reason, again_after)
        result = "SUCCESS" if state == "sent" else state.upper()
        to = taken["to_user_id"]
        self._log.audit("shoutout_tried", result=result, channel=broadcaster_id, twitch_id=to, why=reason)

    def _note(self, id_: int, state: str, reason: str, again_after: timedelta) -> None:
        """What was certainly not sent takes nobody's turn."""
        self._db.statement(
            "UPDATE twitch_shoutouts SET state = %(state)s, reason = %(reason)s, not_before = now() + %(again_after)s,"
            " sent_at = CASE WHEN %(state)s IN ('sent', 'unknown') THEN sent_at END WHERE id = %(id)s",
            {"id": id_, "state": state, "reason": reason, "again_after": again_after},
        )

    async def _try(self, broadcaster_id: str, to_user_id: str) -> tuple[str, str, timedelta]:
        """The state that it is in then, why, and when to try again."""
        for moderator in dict.fromkeys((self._bot_user_id, broadcaster_id)):

            async def ask(client: HelixClient, moderator: str = moderator) -> None:
                await client.send_a_shoutout(broadcaster_id, to_user_id, moderator)

            try:
                await self._api.as_user(moderator, ask)
            except (NoToken, NeedsReauth, CannotOpen):
                continue
            except Later as err:  # Somebody has sent one by hand.
                return "waiting", "", max(timedelta(seconds=err.retry_after_s), AGAIN_AFTER)
            except (Away, Busy):
                return "waiting", "", AGAIN_AFTER
            except Unclear:
                return "unknown", ShoutoutUnclear.code, timedelta()
            except Refused as err:
                if err.status in (401, 403):
                    continue
                return "dropped", (NotLive if "live" in err.words else NotThere).code, timedelta()
            return "sent", "", timedelta()
        return "dropped", MissingScope.code, timedelta()
